defmodule Cybernetic.WASM.Instance.Live do
  @moduledoc false
  # What is done with a live instance, by the process that does it. `Cybernetic.WASM.Instance` documents it, and takes the name
  # of a server as well.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{
    CallError,
    Component,
    Error,
    Execution,
    Instance,
    Module,
    Native,
    Options,
    Run,
    Shown,
    Usage,
    Value
  }

  alias Cybernetic.WASM.Execution.{Lane, Plan, Tally, Terms}
  alias Cybernetic.WASM.Instance.Link
  alias Cybernetic.WASM.Runtime.Names

  @options [
    on_trap: {:one_of, [:poison, :keep]},
    snapshottable: :boolean,
    budget: :boolean,
    store: {:struct, Instance}
  ]
  # By itself: with a function in it, the list above would have this file wait for that of `Instance`.
  # Names that an error brings, as Rust does: twenty are listed, and one more says that there are more.
  @most_known 21
  @hook [on_fork: {"the name of an exported function", &is_binary/1}]

  @doc "The options of `new/2`."
  @spec options() :: Options.keys()
  def options, do: @options ++ @hook ++ Plan.options()

  @doc "See `Cybernetic.WASM.Instance.new/2`."
  @spec new(Module.given(), keyword) :: {:ok, Instance.t()} | {:error, Error.t()}
  # Without options nothing has to be checked.
  def new(module, []) when is_loaded(module) do
    with {:ok, plan} <- Plan.checked(module, %{}), do: make(module, plan, %{}, %{})
  end

  def new(module, opts) when is_loaded(module) do
    opts = Options.check!(opts, options(), "instance option", &Plan.misplaced_grant/1)
    {own, call} = Map.split(opts, Keyword.keys(@options ++ @hook))
    refuse_of_component!(module, own)
    # Without any the module's own plan will do.
    call = if call == %{}, do: call, else: Map.put(call, :set_by, :instance)

    with :ok <- hook(module, own),
         {:ok, plan} <- Plan.checked(module, call),
         plan = Plan.for_life(plan, Map.get(own, :budget, false)),
         {:ok, instance} <- make(module, plan, own, call) do
      instance = %{instance | on_fork: own[:on_fork]}
      {:ok, on_trap(instance, Map.get(own, :on_trap, :poison))}
    end
  end

  def new(given, opts) do
    with {:ok, module} <- Names.fetch(given, opts), do: new(module, opts)
  end

  # A component is alone in its store, which a failure closes.
  defp refuse_of_component!(%Component{}, own) do
    for {key, value} <- own,
        {key, value} in [on_trap: :keep, snapshottable: true] or key == :store do
      raise ArgumentError, "option #{inspect(key)} is for modules, and this is a component"
    end
  end

  defp refuse_of_component!(_module, _own), do: :ok

  # Nobody gives it arguments, and nobody takes what it returns.
  defp hook(module, %{on_fork: name, snapshottable: true}) do
    functions =
      for %{name: name, type: {:function, _, _} = type} <- Module.exports(module),
          do: {name, type}

    case List.keyfind(functions, name, 0) do
      {_name, {:function, [], []}} ->
        :ok

      {_name, {:function, params, results}} ->
        {:error, unfit(name, params, results)}

      nil ->
        {:error,
         %CallError{
           reason: :no_such_export,
           export: name,
           known: for({name, _type} <- Enum.take(functions, @most_known), do: Shown.cut(name))
         }}
    end
  end

  defp hook(_module, %{on_fork: _name}) do
    raise ArgumentError,
          "option :on_fork needs snapshottable: true: other instances have no forks"
  end

  defp hook(_module, _own), do: :ok

  defp unfit(name, params, results) do
    [params, results] = for types <- [params, results], do: "(#{Enum.join(types, ", ")})"
    type = "#{params} -> #{results}"
    %CallError{reason: :no_hook, export: name, given: type, expected: "() -> ()"}
  end

  defp make(module, plan, own, call) do
    linked? = own[:store] != nil or plan.bindings.sources != nil

    case Map.get(own, :snapshottable, false) do
      true when linked? -> cannot_be_captured(module)
      snapshottable when not linked? -> module |> Link.first(plan, snapshottable) |> made(plan)
      false -> module |> Link.link(plan, own[:store], call) |> made(plan)
    end
  end

  defp made(outcome, plan) do
    with {:ok, instance, _used} <- Execution.close_input(outcome, plan), do: {:ok, instance}
  end

  defp cannot_be_captured(module) do
    case Enum.find(Module.imports(module), &(not match?({:function, _, _}, &1.type))) do
      nil ->
        raise ArgumentError, "an instance that is linked to others cannot be snapshottable"

      import ->
        {from, name} = {Shown.cut(import.module), Shown.cut(import.name)}
        what = "#{elem(import.type, 0)} #{inspect(from)} #{inspect(name)}"
        detail = "the module imports the #{what}, where only functions can be captured"
        {:error, %CallError{reason: :no_snapshot, detail: detail}}
    end
  end

  @doc "Lets the guest survive traps, or not."
  @spec on_trap(Instance.t(), :poison | :keep) :: Instance.t()
  def on_trap(instance, :poison), do: instance

  def on_trap(instance, :keep) do
    Native.instance_survive_traps(instance.ref)
    %{instance | on_trap: :keep}
  end

  @doc "What Rust calls."
  @spec target(Instance.t()) :: Execution.target()
  def target(%Instance{ref: ref, member: member}), do: {:live, ref, member}

  @doc "See `Cybernetic.WASM.Instance.call/4`."
  @spec call(Instance.t(), String.t() | :start, [Value.t()] | keyword, keyword) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call(instance, :start, args, opts) do
    with {:ok, code, _tally} <- command(instance, args, opts, & &1), do: {:ok, code}
  end

  def call(instance, {interface, name}, args, opts)
      when is_binary(interface) and is_binary(name),
      do: call(instance, interface <> "#" <> name, args, opts)

  def call(instance, function, args, opts)
      when is_binary(function) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)

    with {:ok, plan} <- Plan.narrow(Plan.of(instance), instance.module, opts),
         :ok <- Module.used(instance.module),
         {:ok, result, _tally} <- Execution.call(target(instance), function, args, plan),
         do: {:ok, result}
  end

  def call(_instance, function, args, _opts), do: refuse(function, args)

  @doc "See `Cybernetic.WASM.Instance.run/4`."
  @spec run(Instance.t(), String.t() | :start, [Value.t()] | keyword, keyword) ::
          {:ok, Run.t()} | {:error, Error.t()}
  def run(instance, :start, args, opts) do
    with {:ok, code, tally} <- command(instance, args, opts, &Plan.reporting/1),
         do: {:ok, Run.exited(code, tally)}
  end

  def run(instance, {interface, name}, args, opts)
      when is_binary(interface) and is_binary(name),
      do: run(instance, interface <> "#" <> name, args, opts)

  def run(instance, function, args, opts) when is_binary(function) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)

    with {:ok, plan} <- Plan.narrow(Plan.of(instance), instance.module, opts),
         plan = Plan.reporting(plan),
         :ok <- Module.used(instance.module),
         {:ok, result, tally} <- Execution.call(target(instance), function, args, plan),
         do: {:ok, Run.new(result, tally)}
  end

  def run(_instance, function, args, _opts), do: refuse(function, args)

  # The program's end is its exit code.
  defp command(%Instance{module: module} = instance, args, opts, as) do
    {args, opts} = Plan.arguments(:start, args, opts)

    with {:ok, entry} <- Module.entry(module),
         {:ok, plan} <- Plan.narrow(Plan.of(instance), module, opts),
         :ok <- Module.used(module),
         do: Execution.call(target(instance), entry, args, plan |> Plan.command(true) |> as.())
  end

  @doc "See `Cybernetic.WASM.Instance.call_ref/4`."
  @spec call_ref(Instance.t(), Value.t(), [Value.t()], keyword) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call_ref(instance, ref, args, opts) when is_reference(ref) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)
    refuse_abi!(opts)

    with {:ok, plan} <- Plan.narrow(Plan.of(instance), instance.module, opts),
         :ok <- Module.used(instance.module),
         {:ok, result, _tally} <- Execution.call_ref(target(instance), ref, args, plan),
         do: {:ok, result}
  end

  def call_ref(_instance, ref, args, _opts) do
    raise ArgumentError,
          "a function reference and a proper list of arguments are needed, got: #{Shown.kind(ref)} and #{Shown.kind(args)}"
  end

  defp refuse_abi!(opts) do
    if Keyword.keyword?(opts) and Keyword.has_key?(opts, :abi),
      do: raise(ArgumentError, "option :abi is for functions that are called by their names")
  end

  @doc "See `Cybernetic.WASM.Instance.call_table/5`."
  @spec call_table(Instance.t(), {String.t(), non_neg_integer}, [Value.t()], keyword) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call_table(instance, {table, index} = element, args, opts) do
    with {:ok, found} <- access(instance, {:table_get, table, index}),
         {:ok, ref} <- Value.function(found, element),
         do: call_ref(instance, ref, args, opts)
  end

  @spec refuse(term, term) :: no_return
  defp refuse(function, args) do
    raise ArgumentError,
          "a function's name and a proper list of arguments are needed, or :start for a program, " <>
            "got: #{Shown.kind(function)} and #{Shown.kind(args)}"
  end

  @doc "See `Cybernetic.WASM.Instance.reset/2`."
  @spec reset(Instance.t(), keyword) :: :ok | {:error, Error.t()}
  def reset(%Instance{ref: ref} = instance, opts) do
    with {:ok, plan} <- Plan.narrow(Plan.of(instance), instance.module, opts),
         step = reset_step(ref, Plan.to_native(plan)),
         {:ok, :ok, _tally} <- Execution.drive(step, plan),
         do: :ok
  end

  defp reset_step(ref, options) do
    with :dirty <- Native.instance_reset(ref, options),
         do: Native.instance_reset_dirty(ref, options)
  end

  @doc "What the guest is just now."
  @spec state(Instance.t()) :: :idle | :busy | :poisoned | :closed
  def state(%Instance{ref: ref}), do: Native.instance_state(ref)

  @doc "See `Cybernetic.WASM.Instance.close/1`."
  @spec close(Instance.t()) :: :ok | {:error, Error.t()}
  def close(%Instance{ref: ref}) do
    with {:refused, error} <- Native.instance_close(ref), do: {:error, Error.from_native(error)}
  end

  @doc "Ends the guest for good, also while it is on a call, which ends at its next step."
  @spec finish(Instance.t()) :: :ok
  def finish(%Instance{ref: ref}), do: Native.instance_finish(ref)

  @doc "Does so when the calling process ends, however that does."
  @spec finish_with_caller(Instance.t()) :: :ok
  def finish_with_caller(%Instance{ref: ref}), do: Native.instance_finish_with_caller(ref)

  @doc "See `Cybernetic.WASM.Instance.usage/1`."
  @spec usage(Instance.t()) :: Usage.t()
  def usage(%Instance{ref: ref}),
    do: ref |> Native.instance_usage() |> Tally.from_native() |> Tally.usage()

  @doc """
  Carries out an access, as a command of a host call also is: to its memories, globals and tables. The idle guest answers at
  once; one that is on a call refuses, or lets it stand in line.
  """
  @spec access(Instance.t(), tuple) :: {:ok, term} | {:error, Error.t()}
  def access(%Instance{ref: ref, member: member}, {:read, memory, offset, length} = read) do
    if Lane.large?(read),
      do: answer(Native.instance_read_dirty(ref, member, memory, offset, length)),
      else: answer(Native.instance_read(ref, member, memory, offset, length))
  end

  def access(%Instance{ref: ref, member: member}, {:write, memory, offset, bytes} = write) do
    if Lane.large?(write),
      do: answer(Native.instance_write_dirty(ref, member, memory, offset, bytes)),
      else: answer(Native.instance_write(ref, member, memory, offset, bytes))
  end

  def access(%Instance{ref: ref} = instance, access) do
    plan = Plan.of(instance)

    with {:ok, access} <- Terms.weigh_in(access, ref, plan.limits.max_memory) do
      case access_step(instance, access, plan) do
        {:answer, answer} ->
          {:ok, answer}

        step ->
          with {:ok, answer, _tally} <- Execution.drive(step, plan), do: {:ok, answer}
      end
    else
      {:refused, error} -> {:error, Error.from_native(error)}
    end
  end

  defp access_step(%Instance{ref: ref, member: member}, access, plan) do
    if Lane.large?(access),
      do: Native.instance_access_dirty(ref, member, access, Plan.to_native(plan)),
      else: Native.instance_access(ref, member, access, Plan.to_native(plan))
  end

  defp answer({:refused, error}), do: {:error, Error.from_native(error)}
  defp answer(answer), do: {:ok, answer}
end
