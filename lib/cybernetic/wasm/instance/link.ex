defmodule Cybernetic.WASM.Instance.Link do
  @moduledoc false
  # Makes instances: the first of a guest, and those that join it in one store. A module that imports from others has an
  # instance of each of them made first, all in the store of an instance that any of them imports from.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{Error, Execution, Imports, Instance, LinkError, Module, Native}
  alias Cybernetic.WASM.Execution.{Parts, Plan, Tally, Terms}
  alias Cybernetic.WASM.Imports.{Bindings, Words}

  # What is known on the way. `guest` is whose store all are to be in, once there is one, and `own` that guest if it was made
  # here; `limits` are the store's, if it was there before. `pooled` is whether a slot of the pooling allocator can hold each
  # module that is to live in it. `made` are the instances by their module, and `open` the modules
  # whose imports are being made. `plan_of` makes a module's plan, and `plans` are those that were needed early. `used` is what
  # each part used, the latest first. `hosts` keep the host functions of the members alive.
  defstruct [
    :guest,
    :own,
    :plan_of,
    :limits,
    pooled: true,
    made: %{},
    open: [],
    plans: %{},
    used: [],
    hosts: []
  ]

  @doc "The first instance of a guest. It imports nothing from others: functions of the host and of WASI, and globals that are given."
  @spec first(Module.t(), Plan.t(), boolean) ::
          {:ok, Instance.t(), Tally.t() | nil} | {:error, Error.t()}
  def first(module, %Plan{} = plan, snapshottable) when is_loaded(module) do
    with {:ok, ref, tally} <- module |> step(plan, snapshottable) |> Execution.drive_part(plan) do
      instance = %Instance{
        ref: ref,
        module: module,
        private: plan |> Plan.settle() |> hosted(ref, []) |> Plan.seal(plan.streams),
        engine: plan.engine || module.engine,
        snapshottable: snapshottable
      }

      {:ok, instance, tally}
    end
  end

  defp step(%{ref: ref}, plan, snapshottable) do
    options = Plan.to_native(plan)

    budget = Plan.budget_to_native(plan)

    with {:ok, sources} <-
           Terms.weigh_sources(plan.bindings.sources, nil, plan.limits.max_memory),
         :dirty <-
           Native.instance_new(ref, snapshottable, sources, budget, options, plan.scheduling) do
      Native.instance_new_dirty(ref, snapshottable, sources, budget, options, plan.scheduling)
    end
  end

  # With its own host functions to be found by the guest, beside those of the members that it was linked with.
  defp hosted(%Plan{bindings: %{functions: {}}} = plan, _ref, others), do: %{plan | hosts: others}

  defp hosted(plan, ref, others),
    do: %{plan | hosts: [Native.instance_set_host(ref, plan.member, Plan.host(plan)) | others]}

  @doc """
  Makes an instance of `module` beside the instances that it imports from, and of the modules that it imports from, which come
  first and have the same options, `opts`, that `plan` was made of. `store` is the instance whose store all of them are to
  share, if any. All of it together has the limits of `plan`. With the instance comes what each part used, the latest first.
  """
  @spec link(Module.t(), Plan.t(), Instance.t() | nil, map) ::
          {:ok, Instance.t(), [Tally.t()]} | {:error, Error.t()}
  def link(%Module{} = module, %Plan{} = plan, store, opts) do
    # A start function that exits is no command's end.
    plan = Plan.command(plan, false)
    state = module |> begin(plan, opts) |> in_store(store, plan)
    refuse_budget_in_store!(state, plan)

    case place(module, within(plan, state), state) do
      {:ok, instance, state} ->
        {:ok, instance, state.used}

      {:error, error, %{own: own, used: used}} ->
        # Nobody has a handle of what was made so far, so nobody could close it.
        if own, do: Native.instance_close(own)
        Parts.whole({:error, error}, used, within(plan, state).limits)
    end
  end

  # Whose store it is has been made, and what that may use.
  defp refuse_budget_in_store!(%__MODULE__{guest: guest}, %Plan{budget: budget})
       when guest == nil or budget == nil,
       do: :ok

  defp refuse_budget_in_store!(_state, _plan) do
    raise ArgumentError,
          "option :budget is for an instance with a store of its own; this one joins another's, and draws on that one's budget"
  end

  # A module that is only linked need not import all that host modules declare. What cancels the call cancels making it, whose
  # start function may run for ever.
  defp begin(module, plan, opts) do
    opts = Map.put(opts, :imports, Imports.lenient(plan.bindings.given))

    plan_of = fn module ->
      with {:ok, own} <- Plan.checked(module, opts),
           do: {:ok, Plan.part_of(own, plan)}
    end

    %__MODULE__{open: [module.ref], plan_of: plan_of, pooled: module.pooled}
  end

  defp in_store(state, nil, plan) do
    case find_store(plan, state) do
      {nil, state} -> state
      {store, state} -> in_store(state, store, plan)
    end
  end

  defp in_store(state, %Instance{ref: ref} = instance, _plan) do
    %{limits: limits, hosts: hosts} = Plan.of(instance)
    %{state | guest: ref, limits: limits, hosts: hosts}
  end

  # An instance that any of the modules imports from: all of them have to join it, also those that come before.
  defp find_store(%Plan{bindings: %{sources: nil}}, state), do: {nil, state}

  defp find_store(plan, state) do
    Enum.reduce_while(plan.bindings.sources, {nil, state}, fn source, {nil, state} ->
      case find_store_of(source, state) do
        {nil, state} -> {:cont, {nil, state}}
        found -> {:halt, found}
      end
    end)
  end

  defp find_store_of({:export, %Instance{} = instance, _name}, state), do: {instance, state}

  defp find_store_of({:export, %Module{ref: ref} = module, _name}, state)
       when not is_map_key(state.plans, ref) do
    planned = state.plan_of.(module)
    pooled = state.pooled and module.pooled
    state = %{state | plans: Map.put(state.plans, ref, planned), pooled: pooled}
    with {:ok, plan} <- planned, do: find_store(plan, state), else: (_error -> {nil, state})
  end

  defp find_store_of(_source, state), do: {nil, state}

  defp plan(%Module{ref: ref} = module, state) do
    with {:ok, plan} <- Map.get_lazy(state.plans, ref, fn -> state.plan_of.(module) end),
         do: {:ok, within(plan, state)}
  end

  # A store has one set of limits: whoever joins it later does not widen them.
  defp within(plan, %__MODULE__{limits: nil}), do: plan
  defp within(plan, %__MODULE__{limits: limits}), do: Plan.within(plan, limits)

  # The module, after all that it imports from.
  defp place(module, plan, state) do
    with {:ok, plan, state} <- place_sources(plan, state),
         {{:ok, instance, tally}, _state} <- {instantiate(module, plan, state), state} do
      {:ok, instance, made(state, module, instance, tally)}
    else
      {{:error, error}, state} -> {:error, error, state}
      {:error, _error, _state} = error -> error
    end
  end

  defp made(state, module, instance, tally) do
    %{
      state
      | guest: instance.ref,
        own: if(state.guest, do: state.own, else: instance.ref),
        made: Map.put(state.made, module.ref, instance),
        used: [tally | state.used],
        hosts: Plan.of(instance).hosts
    }
  end

  defp place_sources(%Plan{bindings: %{sources: nil}} = plan, state), do: {:ok, plan, state}

  defp place_sources(plan, state) do
    {sources, state} = Enum.map_reduce(plan.bindings.sources, state, &place_source/2)

    case Enum.find(sources, &match?({:error, _}, &1)) do
      nil -> {:ok, put_in(plan.bindings.sources, sources), state}
      {:error, error} -> {:error, error, state}
    end
  end

  defp place_source({:export, %Instance{ref: ref} = instance, name}, %{guest: guest} = state)
       when guest in [nil, ref] do
    hosts = Enum.uniq(Plan.of(instance).hosts ++ state.hosts)
    {{:export, instance.member, name}, %{state | guest: ref, hosts: hosts}}
  end

  defp place_source({:export, %Instance{}, _name}, state),
    do: {{:nothing, Words.other_store()}, state}

  defp place_source({:export, %Module{ref: ref} = module, name}, state) do
    cond do
      made = state.made[ref] -> {{:export, made.member, name}, state}
      ref in state.open -> {{:nothing, Words.circle()}, state}
      true -> place_module(module, name, state)
    end
  end

  defp place_source(source, state), do: {source, state}

  defp place_module(module, name, state) do
    with {:ok, plan} <- plan(module, state),
         {:ok, instance, state} <- place(module, plan, %{state | open: [module.ref | state.open]}) do
      {{:export, instance.member, name}, state}
    else
      {:error, error} -> {{:error, error}, state}
      {:error, error, state} -> {{:error, error}, state}
    end
  end

  defp instantiate(module, plan, state) do
    step_plan = plan |> Plan.spend(state.used) |> Plan.reporting()

    if state.guest,
      do: join(module, plan, step_plan, state),
      else: begin_guest(module, plan, step_plan, state)
  end

  # Those that join come into this one's store, whatever they need.
  defp begin_guest(module, plan, step_plan, %{pooled: false} = state) do
    begin_guest(module, plan, Plan.on_demand(step_plan, module), %{state | pooled: true})
  end

  defp begin_guest(module, plan, step_plan, _state) do
    if Enum.any?(plan.bindings.sources || [], &match?({:nothing, _}, &1)) do
      {:error, LinkError.new(Bindings.problems(plan.bindings, module))}
    else
      with {:ok, instance, tally} <- first(module, step_plan, false) do
        plan = Plan.settle(%{plan | hosts: Plan.of(instance).hosts})
        {:ok, %{instance | private: Plan.seal(plan)}, tally}
      end
    end
  end

  defp join(module, plan, step_plan, %{guest: guest, hosts: hosts}) do
    member = Native.instance_reserve(guest)
    plan = hosted(%{plan | member: member}, guest, hosts)
    sources = Bindings.sources(plan.bindings)

    step =
      with {:ok, sources} <- Terms.weigh_sources(sources, guest, plan.limits.max_memory),
           do: Native.instance_link(guest, member, module.ref, sources, Plan.to_native(step_plan))

    case Execution.drive_part(step, %{step_plan | member: member}) do
      {:ok, ^member, tally} ->
        private = plan |> Plan.settle() |> Plan.seal()
        {:ok, %Instance{ref: guest, module: module, member: member, private: private}, tally}

      {:error, %LinkError{} = error} ->
        {:error, %{error | problems: Enum.map(error.problems, &beside(&1, plan))}}

      error ->
        error
    end
  end

  defp beside(problem, plan), do: Words.beside(problem, plan.bindings.given)
end
