defmodule Cybernetic.WASM.Execution.Opened do
  @moduledoc false
  # A call that has begun: what Rust calls, and by which plan. A module that imports from others has been linked with them; what
  # these parts used is kept, and is no longer in the plan.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{Error, Execution, Imports, Instance, Module}
  alias Cybernetic.WASM.Execution.{Call, Parts, Plan, Tally}
  alias Cybernetic.WASM.Instance.{Link, Live}

  @enforce_keys [:call, :target, :plan]
  # `own` is an instance that is there for this call alone.
  defstruct [:call, :target, :plan, :own, used: []]

  @type t :: %__MODULE__{
          call: Call.t(),
          target: Execution.target(),
          plan: Plan.t(),
          own: Instance.t() | nil,
          used: [Tally.t()]
        }

  @doc "Drives a call from its beginning to its end."
  @spec run(Call.t()) :: Execution.outcome()
  def run(%Call{plan: plan} = call) do
    if target = there(call) do
      count(call.target)
      Execution.call(target, call.name, call.args, Plan.begin(plan))
    else
      run_linked(call)
    end
  end

  defp count(%Instance{module: module}), do: Module.used(module)
  defp count(module), do: Module.used(module)

  defp run_linked(call) do
    with {:ok, opened} <- open(call) do
      opened
      |> start()
      |> Execution.drive(opened.plan)
      |> finish(opened)
    end
  end

  # What is there already: nothing is made for the call, and nothing to be ended after it.
  defp there(%Call{target: %Instance{} = instance}), do: Live.target(instance)

  defp there(%Call{target: module, plan: %{bindings: %{sources: nil}}}) when is_loaded(module),
    do: {:fresh, module.ref}

  defp there(_links), do: nil

  @doc "Begins a call, up to its first step."
  @spec open(Call.t()) :: {:ok, t} | {:error, Error.t()}
  def open(%Call{plan: plan} = call) do
    count(call.target)
    plan = Plan.begin(plan)

    if target = there(call),
      do: {:ok, %__MODULE__{call: call, target: target, plan: plan}},
      else: link(call, plan)
  end

  defp link(call, plan) do
    case Link.link(call.target, plan, nil, call.opts) do
      {:ok, instance, used} -> {:ok, linked(call, plan, instance, used)}
      error -> Execution.close_input(error, plan)
    end
  end

  defp linked(call, plan, instance, used) do
    %{hosts: hosts, limits: limits} = Plan.of(instance)
    plan = Plan.within(%{plan | member: instance.member, hosts: hosts, engine: nil}, limits)

    %__MODULE__{
      call: call,
      target: Live.target(instance),
      plan: Plan.spend(plan, used),
      # A guest that was there before goes on.
      own: unless(Imports.from?(plan.bindings.given, instance.ref), do: instance),
      used: used
    }
  end

  @doc "The first step."
  @spec start(t) :: term
  def start(%__MODULE__{target: target, call: call, plan: plan}),
    do: Execution.start(target, call.name, call.args, plan)

  @doc "Ends what `open/1` made, and gives the outcome of the whole call."
  @spec finish(Execution.outcome(), t) :: Execution.outcome()
  def finish(outcome, %__MODULE__{own: nil, used: []}), do: outcome

  def finish(outcome, %__MODULE__{call: call, used: used} = opened) do
    :ok = release(opened)
    Parts.whole(outcome, used, call.plan.limits)
  end

  @doc "Ends what `open/1` made. Where the call was cut off there is nothing left to end."
  @spec release(t) :: :ok
  def release(%__MODULE__{own: nil}), do: :ok

  def release(%__MODULE__{own: instance}) do
    _ended_or_busy = Live.close(instance)
    :ok
  end
end
