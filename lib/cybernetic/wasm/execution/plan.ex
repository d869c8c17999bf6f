defmodule Cybernetic.WASM.Execution.Plan do
  @moduledoc false
  # What a call's options come to. A module keeps the plan of its calls without options; a live instance keeps the one that it
  # was made with, which its calls narrow. Rust is given it in the form of `to_native/1`.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{
    ABI,
    Component,
    Config,
    DeniedError,
    Imports,
    Limits,
    LinkError,
    Module,
    Native,
    Options,
    Sandbox,
    Sealed,
    Shown
  }

  alias Cybernetic.WASM.Execution.{Cancel, Parts, Streams, Tally}
  alias Cybernetic.WASM.Imports.Bindings
  alias Cybernetic.WASM.Resource.Destructors

  # A plan holds an environment's values.
  @derive {Inspect, only: [:limits, :engine, :scheduling, :command]}

  # `kept` are the limits as Rust keeps them, once they are decoded there. `engine` is one that the module has to be compiled for
  # once more. `bindings` are what the imports are bound to, and `sandbox` says what of imports that come with a later call.
  # `streams` is what the guest has of the system, if anything.
  defstruct kept: nil,
            limits: nil,
            wait: 0,
            engine: nil,
            metering: :fuel,
            scheduling: :adaptive,
            sandbox: nil,
            data: nil,
            bindings: %Bindings{},
            streams: nil,
            # How a call passes bytes, if it does.
            abi: nil,
            # Whether it is for a component, which is given values of WIT's types.
            component: false,
            # Whether that may be called again while it waits for a host function.
            reentrant: false,
            # The process that ends resources of the host's, and the functions that end them, for a guest that is to be made.
            owner: nil,
            # The request that a component is to answer, if it is called for one.
            asked: nil,
            # What is under way for a component's HTTP is kept under this.
            errands: nil,
            # The limits of the whole life of a guest that is made by this plan, beside `limits`.
            budget: nil,
            # How one run goes, which no option says. `command`: the module is run as one, and its result is its exit code.
            # `report`: a result comes with what was used, as an error always does. `stream`: output is handed over piece by
            # piece, between host calls. `cancel`: what ends the run from outside, and the reference by which a host function
            # that awaits something is told.
            command: false,
            report: false,
            stream: false,
            cancel: nil,
            # Whether it is for what a host function asks of its guest.
            inside: false,
            # Which of a guest's members it is for, and references that keep the members' host functions alive: the guest itself
            # does not.
            member: 0,
            hosts: []

  @type t :: %__MODULE__{}

  @options [
             imports: Imports.kind(),
             unknown_imports: {:one_of, [:refuse, :trap]},
             sandbox: Sandbox.kind(),
             reentrant: :boolean
           ] ++
             Config.options([:scheduling, :metering, :deterministic, :allocation]) ++
             [wait: {:milliseconds, 0}, data: :any, key: :any] ++
             [abi: {"a %Cybernetic.WASM.ABI{}, its options, or nil", &ABI.given?/1}] ++
             Streams.options() ++ Limits.options()

  # What an engine or a guest was made with cannot be changed for one call on a live instance.
  @fixed [
    :metering,
    :deterministic,
    :allocation,
    :unknown_imports,
    :reentrant,
    :max_stack,
    :sandbox,
    :args,
    :program,
    :env,
    :key
  ]
  @narrowing Keyword.drop(@options, @fixed)

  # What changes nothing but numbers in the plan of a module's calls without options, the limits beside these.
  @adjusting_beside [:abi, :scheduling, :wait, :data, :key, :set_by]
  @adjusting @adjusting_beside ++ (Limits.keys() -- [:max_stack])

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
  def check!(abi: %ABI{} = abi), do: %{abi: abi}
  def check!(opts), do: Options.check!(opts, @options, "call option", &misplaced/1)

  defp misplaced(key) when key in @grants do
    "#{misplaced_grant(key)}; options of a call are: #{@options |> Keyword.keys() |> Options.list()}"
  end

  defp misplaced(_key), do: nil

  @doc "Where an option belongs that is a sandbox's; `nil` of any other."
  @spec misplaced_grant(atom) :: String.t() | nil
  def misplaced_grant(key) when key in @grants,
    do: "a grant belongs into the sandbox, sandbox: Sandbox.new(#{key}: …)"

  def misplaced_grant(_key), do: nil

  defp fixed(key) when key in @fixed,
    do: "it is an option of Instance.new/2, and holds for all calls"

  defp fixed(_key), do: nil

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

  @doc "A function's arguments and a call's options. A command has options only: its arguments are the program's."
  @spec arguments(String.t() | :start, list, keyword) :: {list, keyword}
  def arguments(:start, args, opts) do
    unless Keyword.keyword?(args) and Keyword.keyword?(opts) do
      raise ArgumentError,
            "a command takes its arguments as an option: run(module, :start, args: [...]), got: #{Shown.kind(args)}"
    end

    {[], args ++ opts}
  end

  def arguments(_function, args, opts), do: {args, opts}

  @doc "The plan of a call on `module` with these options, which have been checked."
  @spec checked(Module.t(), map) :: {:ok, t} | {:error, LinkError.t() | DeniedError.t()}
  def checked(module, opts) do
    plan = Module.plan(module)

    if plan && only_adjusts?(opts, module),
      do: {:ok, adjust(plan, opts)},
      else: make(module, opts)
  end

  @doc """
  The plan of a call on `module` whose options, which have not been checked, are limits and nothing else; `nil` where that is not
  so, or where the module has no plan to begin with.
  """
  @spec of_limits(Module.t(), keyword) :: t | nil
  def of_limits(module, opts) do
    with %__MODULE__{} = plan <- Module.plan(module),
         nil <- Module.sandbox(module),
         %Limits{max_stack: stack} = limits when stack == plan.limits.max_stack <-
           Limits.put_options(plan.limits, opts, :call) do
      if plan.metering == :epoch, do: refuse_fuel_without_metering!(:epoch, Map.new(opts))
      within_limits(plan, limits)
    else
      _other -> nil
    end
  end

  defp within_limits(plan, limits),
    do: %{plan | kept: nil, limits: limits, sandbox: %{plan.sandbox | limits: limits}}

  # What a manifest sets is only narrowed, which is more than an adjustment.
  defp only_adjusts?(opts, module) do
    keys = if Module.sandbox(module), do: @adjusting_beside, else: @adjusting
    Enum.all?(opts, fn {key, _value} -> key in keys end)
  end

  # Nothing is bound, granted or compiled otherwise than by the plan that the module has: many calls bring their own limits, and
  # most bring nothing, or an ABI.
  defp adjust(plan, opts) when opts == %{}, do: plan

  defp adjust(plan, %{abi: abi} = opts) when map_size(opts) == 1,
    do: %{plan | abi: ABI.of(abi)}

  defp adjust(plan, opts) do
    refuse_fuel_without_metering!(plan.metering, opts)
    given = Map.drop(opts, @adjusting_beside)
    limits = Limits.put(plan.limits, given, Map.get(opts, :set_by, :call))

    %{
      within_limits(plan, limits)
      | kept: if(given == %{} and not is_map_key(opts, :wait), do: plan.kept),
        abi: ABI.of(opts[:abi]),
        scheduling: Map.get(opts, :scheduling, plan.scheduling),
        wait: Map.get(opts, :wait, plan.wait),
        data: Map.get(opts, :data)
    }
  end

  defp make(module, opts) do
    sandbox = Sandbox.resolve(opts, Module.sandbox(module))
    engine = engine(module.engine, opts, sandbox)
    refuse_fuel_without_metering!(elem(engine, 0), opts)
    given = Imports.given(Map.get(opts, :imports, %{}))

    unknown = Map.get(opts, :unknown_imports, :refuse)

    with {:ok, bindings} <- Bindings.bind(module, given, sandbox, unknown),
         {:ok, streams} <- Streams.new(sandbox, module, bindings, opts) do
      {:ok,
       %__MODULE__{
         limits: sandbox.limits,
         wait: Map.get(opts, :wait, 0),
         engine: unless(engine == module.engine, do: engine),
         metering: elem(engine, 0),
         scheduling: Map.get_lazy(opts, :scheduling, fn -> Config.get().scheduling end),
         sandbox: sandbox,
         data: Map.get(opts, :data),
         bindings: bindings,
         streams: streams,
         component: is_struct(module, Component),
         reentrant: Map.get(opts, :reentrant, false),
         owner: owner(bindings),
         abi: ABI.of(opts[:abi])
       }}
    end
  end

  defp owner(%Bindings{ends: []}), do: nil
  defp owner(%Bindings{ends: ends}), do: {Process.whereis(Destructors), ends}

  defp engine({metering, deterministic, off, _stack, allocation}, opts, sandbox) do
    {Map.get(opts, :metering, metering), deterministic or sandbox.deterministic, off,
     sandbox.limits.max_stack, Map.get(opts, :allocation, allocation)}
  end

  defp refuse_fuel_without_metering!(:epoch, %{fuel: _}) do
    raise ArgumentError,
          "option :fuel needs metering: :fuel; this module is metered by epochs, which bound time alone"
  end

  defp refuse_fuel_without_metering!(_metering, _opts), do: :ok

  @doc """
  The plan of the module's calls without options, which most are: it is made once, and the configuration does not change. `nil`
  for a module with imports, since each call brings them.
  """
  @spec default(Module.loaded()) :: t | nil
  def default(module) when is_loaded(module) do
    if Module.functions(module) == [] and Module.unlinkable(module) == [] do
      {:ok, plan} = make(module, %{})
      keep(plan)
    end
  end

  # A kept plan has the module's engine.
  defp keep(%__MODULE__{engine: nil, kept: nil} = plan),
    do: %{plan | kept: Native.runtime_keep_limits(limits(plan))}

  defp keep(plan), do: plan

  @doc "The plan of one call on an instance that was made with `plan`: its limits only narrow."
  @spec narrow(t, Module.t(), keyword) :: {:ok, t} | {:error, LinkError.t() | DeniedError.t()}
  def narrow(plan, _module, []), do: {:ok, plan}
  def narrow(plan, _module, abi: %ABI{} = abi), do: {:ok, %{plan | abi: abi}}

  def narrow(plan, module, opts) do
    opts = Options.check!(opts, @narrowing, "option of a call on an instance", &fixed/1)
    refuse_fuel_without_metering!(plan.metering, opts)
    limits = Map.take(opts, Limits.keys())

    with {:ok, bindings} <- rebind(plan, module, opts),
         {:ok, streams} <- Streams.for_call(plan.streams, plan.sandbox, opts) do
      plan = %{
        plan
        | scheduling: Map.get(opts, :scheduling, plan.scheduling),
          data: Map.get(opts, :data, plan.data),
          bindings: bindings,
          streams: streams,
          abi: opts |> Map.get(:abi, plan.abi) |> ABI.of()
      }

      limits = Limits.narrow(plan.limits, limits, :call)
      {:ok, plan |> limited(limits) |> waiting(Map.get(opts, :wait, plan.wait))}
    end
  end

  defp waiting(%__MODULE__{wait: wait} = plan, wait), do: plan
  defp waiting(plan, wait), do: %{plan | wait: wait, kept: nil}

  # Functions for this call alone, in the place of those that the instance was made with.
  defp rebind(plan, module, %{imports: imports}),
    do: Bindings.rebind(plan.bindings, module, imports, plan.sandbox)

  defp rebind(plan, _module, _opts), do: {:ok, plan.bindings}

  @doc "The plan of a guest of `module` that lives outside of the pool."
  @spec on_demand(t, Module.t()) :: t
  def on_demand(plan, module) do
    {metering, deterministic, off, stack, _allocation} = plan.engine || module.engine
    %{plan | engine: {metering, deterministic, off, stack, :on_demand}}
  end

  @doc "The plan of an instance that was made with `plan`, whose engine is what it is."
  @spec settle(t) :: t
  def settle(plan),
    do: plan |> at_rest() |> keep()

  defp at_rest(plan) do
    streams = Streams.settle(plan.streams)

    %{
      plan
      | engine: nil,
        owner: nil,
        streams: streams,
        command: false,
        report: false,
        stream: false,
        cancel: nil
    }
  end

  defp again(plan, nil), do: plan
  defp again(plan, streams), do: %{plan | streams: streams}

  @doc "The plan of a guest whose limits are for its whole life: for all of its calls together."
  @spec for_life(t, boolean) :: t
  def for_life(plan, false), do: plan
  def for_life(plan, true), do: %{plan | budget: plan.limits}

  @doc "The plan of one run: two may go on at once in one process."
  @spec begin(t) :: t
  def begin(%__MODULE__{streams: nil} = plan), do: plan

  def begin(%__MODULE__{component: true} = plan),
    do: %{plan | streams: Streams.begin(plan.streams), errands: make_ref()}

  def begin(plan), do: %{plan | streams: Streams.begin(plan.streams)}

  @doc "The plan within these limits as well."
  @spec within(t, Limits.t()) :: t
  def within(plan, limits), do: limited(plan, Limits.narrow(plan.limits, limits))

  @doc "The plan with what is left of its limits after parts of the call that used this much."
  @spec spend(t, [Tally.t()]) :: t
  def spend(plan, used), do: limited(plan, Parts.left(plan.limits, used))

  defp limited(%__MODULE__{limits: limits} = plan, limits), do: plan
  defp limited(plan, limits), do: %{plan | limits: limits, kept: nil}

  # An instance keeps its plan, and what its forks are given of the system, to itself.

  @doc "What an instance keeps."
  @spec seal(t, Streams.t() | nil) :: Sealed.t({t, Streams.t() | nil})
  def seal(plan, streams \\ nil), do: Sealed.seal({plan, streams})

  @doc "The plan of an instance."
  @spec of(struct) :: t
  def of(%{private: private}), do: elem(Sealed.open(private), 0)

  @doc "The plan of an instance's forks."
  @spec of_fork(struct) :: t
  def of_fork(%{private: private}) do
    {plan, streams} = Sealed.open(private)
    again(plan, streams)
  end

  # How a run goes

  @doc "The plan of a call that gives a tally when it ends well. A failure always has one."
  @spec reporting(t) :: t
  def reporting(plan), do: %{plan | report: true}

  @doc "The plan of a call that hands its output over while it runs, and gives a tally."
  @spec streaming(t) :: t
  def streaming(plan),
    do: %{plan | streams: Streams.streaming(plan.streams), stream: true, report: true}

  @doc "The plan of a module that is run as a command, or of a part of such a run, which is none."
  @spec command(t, boolean) :: t
  def command(plan, true), do: %{plan | command: true, abi: nil}
  def command(plan, false), do: %{plan | command: false}

  @doc "The plan, cancellable by `cancel`. A host function that awaits something is told by `reference`."
  @spec cancelled_by(t, Cancel.t(), reference) :: t
  def cancelled_by(plan, cancel, reference), do: %{plan | cancel: {cancel, reference}}

  @doc "The plan of a part of the call of `whole`, which is cancelled with it and reads on in its input."
  @spec part_of(t, t) :: t
  def part_of(plan, whole),
    do: %{
      plan
      | cancel: whole.cancel,
        budget: whole.budget,
        streams: Streams.share(plan.streams, whole.streams)
    }

  # Host functions

  @doc "What answers the host calls of a member, as the guest finds it for callers who only know another."
  @spec host(t) :: {Bindings.t(), data :: term}
  def host(%__MODULE__{bindings: %{functions: functions, names: names}, data: data}),
    do: {%Bindings{functions: functions, names: names}, data}

  # For Rust

  @doc "The plan as Rust takes it: its limits, which Rust may keep, by themselves where there is nothing else to tell."
  @spec to_native(t) :: reference | tuple
  def to_native(
        %__MODULE__{streams: nil, report: false, cancel: nil, engine: nil, owner: nil} = plan
      ),
      do: plan.kept || limits(plan)

  def to_native(%__MODULE__{cancel: cancel} = plan) do
    {grants, console} = Streams.to_native(plan.streams)
    cancel = if cancel, do: elem(cancel, 0)

    {:call, plan.kept || limits(plan), plan.engine, {plan.report, cancel},
     {grants, console, plan.owner}}
  end

  @doc "The limits of a guest's whole life as Rust takes them; `nil` where only its calls have limits."
  @spec budget_to_native(t) :: tuple | nil
  def budget_to_native(%__MODULE__{budget: nil}), do: nil

  def budget_to_native(%__MODULE__{budget: budget, limits: limits}),
    do: limits(%__MODULE__{limits: Limits.narrow(limits, budget)})

  defp limits(%__MODULE__{limits: limits, wait: wait}) do
    {:limits, {limits.fuel, limits.max_memory, limits.max_table_elements, limits.max_instances},
     {limits.timeout, limits.max_output, limits.max_host_calls, wait},
     {limits.max_transfer, limits.max_resources}}
  end
end
