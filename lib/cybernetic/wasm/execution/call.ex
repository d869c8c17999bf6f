defmodule Cybernetic.WASM.Execution.Call do
  @moduledoc false
  # A call that has not begun: what is called, with which arguments, by which plan. It can be sent to the process that is to
  # drive it.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{
    Component,
    Error,
    Execution,
    Instance,
    Module,
    Run,
    Shown
  }

  alias Cybernetic.WASM.Execution.{Cancel, Opened, Plan, Tally}
  alias Cybernetic.WASM.Instance.Live
  alias Cybernetic.WASM.Runtime.Names

  import Cybernetic.WASM.Runtime.Names, only: [is_name: 1]

  # Its options hold an environment's values.
  @derive {Inspect, only: [:target, :name, :args]}
  @enforce_keys [:target, :name, :args, :plan]
  defstruct [:target, :name, :args, :plan, opts: %{}]

  @type t :: %__MODULE__{}

  @doc "A call on a module, which a name may stand for, in a fresh instance, or on a live one."
  @spec new(
          Module.given() | Instance.t(),
          String.t() | {String.t(), String.t()} | :start,
          list,
          keyword
        ) ::
          {:ok, t} | {:error, Error.t()}
  def new(module, :start, args, opts) when is_loaded(module),
    do: command(module, module, args, opts)

  def new(%Instance{module: module} = instance, :start, args, opts),
    do: command(instance, module, args, opts)

  def new(target, {interface, name}, args, opts) when is_binary(interface) and is_binary(name),
    do: new(target, interface <> "#" <> name, args, opts)

  def new(module, name, args, opts)
      when is_loaded(module) and is_binary(name) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)

    if plan = opts != [] && Plan.of_limits(module, opts),
      do: {:ok, of(module, name, args, plan, Map.new(opts))},
      else: checked(module, name, args, Plan.check!(opts))
  end

  def new(%Instance{} = instance, name, args, opts) when is_binary(name) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)

    with {:ok, plan} <- Plan.narrow(Plan.of(instance), instance.module, opts),
         do: {:ok, %__MODULE__{target: instance, name: name, args: args, plan: plan}}
  end

  def new(%kind{}, name, _args, _opts)
      when kind in [Module, Component, Instance] and not is_binary(name) do
    raise ArgumentError,
          "the function's name must be a string, or :start for a command, got: #{Shown.kind(name)}"
  end

  def new(%kind{}, _name, args, _opts) when kind in [Module, Component, Instance] do
    raise ArgumentError, "arguments must be a proper list, got: #{Shown.kind(args)}"
  end

  def new(given, name, args, opts) when is_binary(given) or is_name(given) do
    # A command's options may stand in the place of arguments.
    by = if name == :start and opts == [], do: args, else: opts
    with {:ok, module} <- Names.fetch(given, by), do: new(module, name, args, opts)
  end

  def new(other, _name, _args, _opts) do
    if server?(other), do: not_of_a_server!(other), else: Module.needed!(other)
  end

  defp checked(module, name, args, opts) do
    with {:ok, plan} <- Plan.checked(module, opts), do: {:ok, of(module, name, args, plan, opts)}
  end

  defp of(module, name, args, plan, opts),
    do: %__MODULE__{target: module, name: name, args: args, plan: plan, opts: opts}

  defp server?(given) when is_pid(given), do: true
  defp server?(name) when is_atom(name), do: name not in [nil, true, false]
  defp server?({:global, _name}), do: true
  defp server?({:via, registry, _name}), do: is_atom(registry)
  defp server?({name, node}), do: is_atom(name) and is_atom(node)
  defp server?(_other), do: false

  # It lends its instance to whoever asks for it.
  @spec not_of_a_server!(term) :: no_return
  defp not_of_a_server!(server) do
    raise ArgumentError,
          "a %Cybernetic.WASM.Module{} or a live instance is needed, got: #{Shown.term(server)}; the instance of a server " <>
            "is called with Cybernetic.WASM.Instance.call/4, in a Task if that is to go on by itself, or taken with " <>
            "Cybernetic.WASM.Instance.borrow/3"
  end

  @doc "The call, if all that it needs is of this VM: a process that is to drive it could only crash."
  @spec here!({:ok, t} | {:error, Error.t()}) :: {:ok, t} | {:error, Error.t()}
  def here!({:ok, %__MODULE__{target: target, plan: plan}} = call) do
    handle_here!(target)
    for {:export, from, _name} <- plan.bindings.sources || [], do: handle_here!(from)
    call
  end

  def here!(error), do: error

  defp handle_here!(module) when is_loaded(module), do: Module.here!(module)
  defp handle_here!(%Instance{} = instance), do: Live.state(instance)
  defp handle_here!(_member), do: :ok

  defp command(target, module, args, opts) do
    {args, opts} = Plan.arguments(:start, args, opts)

    with {:ok, entry} <- Module.entry(module),
         {:ok, call} <- new(target, entry, args, opts),
         do: {:ok, %{call | plan: Plan.command(call.plan, true)}}
  end

  @doc "The call with other arguments."
  @spec with_args(t, list) :: {:ok, t} | {:error, Error.t()}
  def with_args(
        %__MODULE__{plan: %Plan{command: true}, target: module, opts: opts},
        args
      ),
      do: new(module, :start, [args: args], Map.to_list(opts) |> Keyword.delete(:args))

  def with_args(call, args), do: {:ok, %{call | args: args}}

  @doc "The call, with a tally when it ends well. A failure always has one."
  @spec reporting(t) :: t
  def reporting(%__MODULE__{plan: plan} = call), do: %{call | plan: Plan.reporting(plan)}

  @doc "The call, cancellable by `cancel`. A host function that awaits something is told by `reference`."
  @spec cancelled_by(t, Cancel.t(), reference) :: t
  def cancelled_by(%__MODULE__{plan: plan} = call, cancel, reference),
    do: %{call | plan: Plan.cancelled_by(plan, cancel, reference)}

  @doc "Drives the call to its end."
  @spec run(t) :: Execution.outcome()
  def run(%__MODULE__{} = call), do: Opened.run(call)

  @doc "What a call that has ended well comes to."
  @spec finished(t, term, Tally.t()) :: Run.t()
  def finished(%__MODULE__{plan: %Plan{command: true}}, code, tally),
    do: Run.exited(code, tally)

  def finished(_call, result, tally), do: Run.new(result, tally)
end
