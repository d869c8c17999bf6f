defmodule Cybernetic.WASM.Linker.Guest do
  @moduledoc false
  # One guest of several modules: makes those first that others import from, and joins them in one store, which is that of an
  # instance that any of them imports from.

  alias Cybernetic.WASM.{Error, Execution, Imports, Instance, LinkError, Module, Native}
  alias Cybernetic.WASM.Execution.{Parts, Plan, Tally}
  alias Cybernetic.WASM.Imports.{Bindings, Words}

  @doc """
  Makes an instance of `module` beside the instances that it imports from, and of the modules that it imports from,
  which come first and have the same options, `opts`, that `plan` was made of. `store` is the instance whose store all of
  them are to share. All of it has the limits of `plan` together; what it used is told.
  """
  @spec link(Module.t(), Plan.t(), Instance.t() | nil, map) ::
          {:ok, Instance.t(), [Tally.t()]} | {:error, Error.t()}
  def link(%Module{} = module, %Plan{} = plan, store, opts) do
    # A start function that exits is no command's end.
    plan = %{plan | command: false}

    # A module that is only linked need not import all that host modules declare. What cancels the call cancels making it,
    # whose start function may run for ever.
    opts = Map.put(opts, :imports, Imports.lenient(plan.bindings.given))

    make =
      &with {:ok, made} <- Plan.checked(&1, opts),
            do: {:ok, made |> Plan.cancelled_with(plan) |> Plan.sharing_input(plan)}

    {store, plans} = if store, do: {store, %{}}, else: store_of(plan, make, %{})
    {guest, within} = {store && store.ref, &within(&1, store)}
    plan = within.(plan)

    make = fn module ->
      with {:ok, plan} <- Map.get_lazy(plans, module.ref, fn -> make.(module) end),
           do: {:ok, within.(plan)}
    end

    state = %{
      guest: guest,
      own: nil,
      made: %{},
      open: [module.ref],
      make: make,
      used: [],
      hosts: if(store, do: store.plan.hosts, else: [])
    }

    case place(module, plan, state) do
      {:ok, instance, state} ->
        {:ok, instance, state.used}

      {:error, error, %{own: own, used: used}} ->
        # Nobody has a handle of what was made so far, so nobody could close it.
        if own, do: Native.instance_close(own)
        Parts.whole({:error, error}, used, plan.limits)
    end
  end

  # A store has one set of limits: whoever joins it later does not widen them.
  defp within(plan, nil), do: plan
  defp within(plan, %Instance{plan: %{limits: limits}}), do: Plan.within(plan, limits)

  # An instance that any of the modules imports from: all of them have to join it, also those that come before.
  # With it the plans of the modules that were looked at.
  defp store_of(%Plan{bindings: %{sources: nil}}, _make, plans), do: {nil, plans}

  defp store_of(plan, make, plans) do
    Enum.reduce_while(plan.bindings.sources, {nil, plans}, fn
      {:export, %Instance{} = instance, _name}, {nil, plans} ->
        {:halt, {instance, plans}}

      {:export, %Module{} = module, _name}, {nil, plans} when not is_map_key(plans, module.ref) ->
        made = make.(module)
        plans = Map.put(plans, module.ref, made)
        found = with {:ok, plan} <- made, do: store_of(plan, make, plans)
        if match?({:error, _}, found), do: {:cont, {nil, plans}}, else: halt_if_found(found)

      _other, none ->
        {:cont, none}
    end)
  end

  defp halt_if_found({nil, _plans} = none), do: {:cont, none}
  defp halt_if_found(found), do: {:halt, found}

  defp place(module, plan, state) do
    with {:ok, plan, state} <- place_sources(plan, state),
         {{:ok, instance, tally}, _state} <- {instantiate(module, plan, state), state} do
      made = Map.put(state.made, module.ref, instance)
      own = if state.guest, do: state.own, else: instance.ref
      state = %{state | guest: instance.ref, own: own, made: made, used: [tally | state.used]}
      {:ok, instance, %{state | hosts: instance.plan.hosts}}
    else
      {{:error, error}, state} -> {:error, error, state}
      {:error, _error, _state} = error -> error
    end
  end

  defp place_sources(%Plan{bindings: %{sources: nil}} = plan, state), do: {:ok, plan, state}

  defp place_sources(plan, state) do
    {sources, state} =
      Enum.map_reduce(plan.bindings.sources, state, fn source, state ->
        place_source(source, state)
      end)

    case Enum.find(sources, &match?({:error, _}, &1)) do
      nil -> {:ok, put_in(plan.bindings.sources, sources), state}
      {:error, error} -> {:error, error, state}
    end
  end

  defp place_source({:export, %Instance{} = instance, name}, state) do
    case state.guest do
      guest when guest in [nil, instance.ref] ->
        hosts = Enum.uniq(instance.plan.hosts ++ state.hosts)
        {{:export, instance.member, name}, %{state | guest: instance.ref, hosts: hosts}}

      _other ->
        {{:nothing,
          "it lives in another store; instances share one when each is made with `store:` or imports from the others"},
         state}
    end
  end

  defp place_source({:export, %Module{ref: ref} = module, name}, state) do
    cond do
      made = state.made[ref] ->
        {{:export, made.member, name}, state}

      ref in state.open ->
        {{:nothing, "the modules import from each other in a circle"}, state}

      true ->
        place_module(module, name, state)
    end
  end

  defp place_source(source, state), do: {source, state}

  defp place_module(module, name, state) do
    with {:ok, plan} <- state.make.(module),
         {:ok, instance, state} <- place(module, plan, %{state | open: [module.ref | state.open]}) do
      {{:export, instance.member, name}, state}
    else
      {:error, error} -> {{:error, error}, state}
      {:error, error, state} -> {{:error, error}, state}
    end
  end

  defp instantiate(module, plan, state) do
    instantiate(module, plan, plan |> Plan.spend(state.used) |> Plan.reporting(), state)
  end

  # The first of a guest: it can only import functions of the host.
  defp instantiate(module, plan, step_plan, %{guest: nil}) do
    if Enum.any?(plan.bindings.sources || [], &match?({:nothing, _}, &1)) do
      {:error, %LinkError{problems: Bindings.problems(plan.bindings, module)}}
    else
      with {:ok, instance, tally} <- Instance.make(module, step_plan, false),
           do: {:ok, %{instance | plan: Plan.settle(%{plan | hosts: instance.plan.hosts})}, tally}
    end
  end

  defp instantiate(module, plan, step_plan, %{guest: guest, hosts: hosts}) do
    member = Native.instance_reserve(guest)
    plan = Plan.hosted(%{plan | member: member}, guest, hosts)
    sources = Bindings.sources(plan.bindings)
    step = Native.instance_link(guest, member, module.ref, sources, step_plan.native)

    case Execution.drive_part(step, %{step_plan | member: member}) do
      {:ok, ^member, tally} ->
        {:ok, %Instance{ref: guest, module: module, member: member, plan: Plan.settle(plan)},
         tally}

      {:error, %LinkError{} = error} ->
        {:error,
         %{error | problems: Enum.map(error.problems, &Words.beside(&1, plan.bindings.given))}}

      error ->
        error
    end
  end
end
