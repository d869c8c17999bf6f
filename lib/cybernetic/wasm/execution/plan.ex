defmodule Cybernetic.WASM.Execution.Plan do
  @moduledoc false
  # What a call's options come to: the limits and the engine as Rust takes them, how to schedule, and the host functions by
  # the index of their import. A live instance keeps the plan that it was made with, and its calls narrow that.

  alias Cybernetic.WASM.{
    Config,
    DeniedError,
    Imports,
    Limits,
    LinkError,
    Module,
    Native,
    Options,
    Sandbox
  }

  alias Cybernetic.WASM.Imports.Bindings
  alias Cybernetic.WASM.Execution.{Parts, Tally, Wasi}

  # A plan holds an environment's values.
  @derive {Inspect, only: [:limits, :engine, :scheduling, :command]}

  # `native` is what Rust takes: `{{limits, engine}, report, cancel, grants, console}` (whether to tell the usage, what can end
  # the call, and what it has of WASI), or a reference to limits that Rust keeps, in the place of the first or of it all.
  defstruct native: nil,
            limits: nil,
            wait: 0,
            engine: nil,
            metering: :fuel,
            scheduling: :adaptive,
            data: nil,
            # What the imports are bound to.
            bindings: %Bindings{},
            # Which of a guest's members the functions are for.
            member: 0,
            # The plan of the call, where this one is another member's for the time of a host call.
            root: nil,
            # Output is handed over piece by piece, between host calls.
            stream: false,
            # References that keep the host functions of the members alive: the guest itself does not.
            hosts: [],
            # What ends the call from outside: `{cancel, reference}`.
            cancel: nil,
            # What the guest has of WASI, if anything.
            wasi: nil,
            # What the sandbox says of imports, for functions that come with a later call.
            sandbox: nil,
            # The module is run as a command: its result is its exit code.
            command: false

  @type t :: %__MODULE__{}

  @options [imports: Imports.kind(), sandbox: Sandbox.kind()] ++
             Config.options([:scheduling, :metering, :deterministic]) ++
             [wait: {:milliseconds, 0}, data: :any] ++ Wasi.options() ++ Limits.options()

  # What an engine or a guest was made with cannot be changed for one call on a live instance.
  @narrowing Keyword.drop(@options, [
               :metering,
               :deterministic,
               :max_stack,
               :sandbox,
               :args,
               :env
             ])

  @in_line for key <- [:wait, :timeout, :max_execution_time], do: {key, @options[key]}

  # They are a sandbox's, and no call's.
  @grants [:wasi | Sandbox.Capabilities.names()]

  @doc "The options of a call."
  @spec options() :: Options.keys()
  def options, do: @options

  @doc "Those that say how long a call may stand in line."
  @spec in_line() :: Options.keys()
  def in_line, do: @in_line

  @doc "The options of a call on a module, checked."
  @spec check!(keyword) :: map
  def check!([]), do: %{}
  def check!(opts), do: Options.check!(opts, @options, "call option", &misplaced/1)

  defp misplaced(key) when key in @grants do
    "a grant belongs into the sandbox, sandbox: Sandbox.new(#{key}: …); " <>
      "options of a call are: #{@options |> Keyword.keys() |> Options.list()}"
  end

  defp misplaced(_key), do: nil

  @doc "Refuses options that stand where a function's arguments belong."
  @spec refuse_as_arguments!(list, keyword) :: :ok
  def refuse_as_arguments!([_ | _] = args, []) do
    if Keyword.keyword?(args) and
         Enum.all?(args, fn {key, _} -> Keyword.has_key?(@options, key) end) do
      keys = Keyword.keys(args)

      raise ArgumentError,
            "options come after the list of arguments, as in call(module, \"function\", [], " <>
              "#{hd(keys)}: …); in the place of arguments stand: #{Options.list(keys)}"
    end

    :ok
  end

  def refuse_as_arguments!(_args, _opts), do: :ok

  @doc "The plan of a call on `module` with these options, which have been checked."
  @spec checked(Module.t(), map) :: {:ok, t} | {:error, LinkError.t() | DeniedError.t()}
  def checked(%{plan: %__MODULE__{} = plan}, opts) when opts == %{}, do: {:ok, plan}

  def checked(module, opts) do
    sandbox = Sandbox.resolve(opts, module.sandbox)
    engine = engine(module.engine, opts, sandbox)
    refuse_fuel_without_metering!(elem(engine, 0), opts)
    given = Imports.given(Map.get(opts, :imports, %{}))

    with {:ok, bindings} <- Bindings.bind(module, given, sandbox),
         {:ok, wasi} <- Wasi.new(sandbox, module, bindings, opts) do
      {:ok,
       pack(%__MODULE__{
         limits: sandbox.limits,
         wait: Map.get(opts, :wait, 0),
         engine: unless(engine == module.engine, do: engine),
         metering: elem(engine, 0),
         scheduling: Map.get_lazy(opts, :scheduling, fn -> Config.get().scheduling end),
         bindings: bindings,
         data: Map.get(opts, :data),
         wasi: wasi,
         sandbox: sandbox
       })}
    end
  end

  @doc "The plan of one call on an instance that was made with `plan`: its limits only narrow."
  @spec narrow(t, Module.t(), keyword) :: {:ok, t} | {:error, LinkError.t()}
  def narrow(plan, _module, []), do: {:ok, plan}

  def narrow(plan, module, opts) do
    opts = Options.check!(opts, @narrowing, "option of a call on an instance")
    refuse_fuel_without_metering!(plan.metering, opts)
    limits = Limits.narrow(plan.limits, Map.take(opts, Limits.keys()))

    with {:ok, plan} <- rebind(plan, module, opts),
         {:ok, wasi} <- Wasi.for_call(plan.wasi, plan.sandbox, opts) do
      {:ok,
       pack(%{
         plan
         | limits: limits,
           wait: Map.get(opts, :wait, plan.wait),
           scheduling: Map.get(opts, :scheduling, plan.scheduling),
           data: Map.get(opts, :data, plan.data),
           wasi: wasi
       })}
    end
  end

  # Functions for this call alone, in the place of those that the instance was made with.
  defp rebind(plan, module, %{imports: imports}) do
    with {:ok, bindings} <- Bindings.rebind(plan.bindings, module, imports, plan.sandbox),
         do: {:ok, %{plan | bindings: bindings}}
  end

  defp rebind(plan, _module, _opts), do: {:ok, plan}

  @doc "The same, kept by a module for its calls without options: what Rust takes is decoded once."
  @spec keep(t) :: t
  def keep(%__MODULE__{engine: nil, native: {{limits, nil}, false, nil, nil, nil}} = plan),
    do: %{plan | native: Native.runtime_keep_limits(limits)}

  def keep(plan), do: plan

  @doc "The same, kept by an instance, whose engine is what it is."
  @spec settle(t) :: t
  def settle(%__MODULE__{native: kept} = plan) when is_reference(kept), do: plan

  def settle(plan),
    do: %{plan | native: nil, engine: nil, wasi: Wasi.settle(plan.wasi)} |> pack() |> keep()

  @doc "The same, for a run of its own."
  @spec begin(t) :: t
  def begin(%__MODULE__{wasi: nil} = plan), do: plan
  def begin(plan), do: %{plan | wasi: Wasi.begin(plan.wasi)}

  @doc "The same, for another guest that is made with what `wasi` gives."
  @spec again(t, Wasi.t() | nil) :: t
  def again(plan, nil), do: plan
  def again(plan, wasi), do: pack(%{plan | native: nil, wasi: wasi})

  @doc "The same, for a call that tells what it used when it ends well. A failure always tells."
  @spec reporting(t) :: t
  def reporting(plan), do: put_native(plan, 1, true)

  @doc "The same, for a call that hands its output over while it runs."
  @spec streaming(t) :: t
  def streaming(%__MODULE__{wasi: nil} = plan), do: %{reporting(plan) | stream: true}

  def streaming(plan),
    do: %{plan | stream: true, wasi: Wasi.streaming(plan.wasi)} |> pack() |> reporting()

  @doc "The same, for a module that is run as a command."
  @spec command(t) :: t
  def command(plan), do: %{plan | command: true}

  @doc "The same, for a call that `cancel` can end. A host function that awaits something is told by `reference`."
  @spec cancelled_by(t, reference, reference) :: t
  def cancelled_by(plan, cancel, reference),
    do: put_native(%{plan | cancel: {cancel, reference}}, 2, cancel)

  @doc "The same, for a part of the call of `other`."
  @spec cancelled_with(t, t) :: t
  def cancelled_with(plan, %__MODULE__{cancel: nil}), do: plan

  def cancelled_with(plan, %__MODULE__{cancel: {cancel, reference}}),
    do: cancelled_by(plan, cancel, reference)

  @doc "The same, for a part of the call of `other`, whose input it reads."
  @spec sharing_input(t, t) :: t
  def sharing_input(plan, other), do: %{plan | wasi: Wasi.share(plan.wasi, other.wasi)}

  defp put_native(%__MODULE__{native: kept} = plan, index, value) when is_reference(kept),
    do: put_native(%{plan | native: {kept, false, nil, nil, nil}}, index, value)

  defp put_native(plan, index, value),
    do: %{plan | native: put_elem(plan.native, index, value)}

  @doc "The same within these limits as well."
  @spec within(t, Limits.t()) :: t
  def within(plan, limits), do: pack(%{plan | limits: Limits.narrow(plan.limits, limits)})

  @doc "What is left of the limits after parts of the call that used this much."
  @spec spend(t, [Tally.t()]) :: t
  def spend(plan, []), do: plan
  def spend(plan, used), do: pack(%{plan | limits: Parts.left(plan.limits, used)})

  @doc "What answers the host calls of a member, as the guest finds it for callers who only know another."
  @spec host(t) :: term
  def host(%__MODULE__{bindings: bindings} = plan),
    do: {bindings.functions, bindings.names, plan.data}

  @doc "The plan while `member`, whose host calls `host` answers, is the one that calls."
  @spec for_member(t, non_neg_integer, term) :: t
  def for_member(plan, member, {functions, names, data}) do
    root = plan.root || plan
    bindings = %{plan.bindings | functions: functions, names: names}
    %{plan | bindings: bindings, data: data, member: member, root: root}
  end

  defp engine({metering, deterministic, off, _stack}, opts, sandbox) do
    {Map.get(opts, :metering, metering), deterministic or sandbox.deterministic, off,
     sandbox.limits.max_stack}
  end

  defp refuse_fuel_without_metering!(:epoch, %{fuel: _}) do
    raise ArgumentError,
          "option :fuel needs metering: :fuel; this module is metered by epochs, which bound time alone"
  end

  defp refuse_fuel_without_metering!(_metering, _opts), do: :ok

  defp pack(%__MODULE__{limits: limits} = plan) do
    limits =
      {limits.fuel, limits.max_memory, limits.max_table_elements, limits.max_instances,
       limits.timeout, limits.max_output, limits.max_host_calls, plan.wait}

    {report, cancel} =
      case plan.native do
        {_limits, report, cancel, _grants, _console} -> {report, cancel}
        _none_or_kept -> {false, nil}
      end

    {grants, console} = Wasi.pack(plan.wasi)
    %{plan | native: {{limits, plan.engine}, report, cancel, grants, console}}
  end
end
