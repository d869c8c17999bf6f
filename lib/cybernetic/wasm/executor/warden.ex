defmodule Cybernetic.WASM.Executor.Warden do
  @moduledoc false
  # Drives a call in a process of its own and watches it from outside, so that the call ends when it must: at its deadline
  # even if a host function has not returned, and when it is cancelled or whoever started it goes.
  #
  # The process that the caller's `Task` knows is the warden's. It starts the runner, which drives the guest, and gives the
  # task its result. A third process, the runner's shadow, kills the runner when the warden is killed.

  alias Cybernetic.WASM.{CancelledError, Error, HostError, LimitError, Limits, Shadow}
  alias Cybernetic.WASM.Execution.{Call, Cancel, Plan}

  # A guest notices by itself that its time is over, and a host function's `after` clauses may want to run.
  @late 100

  # A `receive` waits no longer.
  @longest_wait 0xFFFF_FFFF

  @doc """
  Lets a process drive the call by `drive`, and gives what that gives, or why it ended before. `cancel` ends it from outside,
  and so does the end of `consumer`.
  """
  @spec run(Call.t(), reference, (Call.t() -> result), pid | nil) :: result | {:error, Error.t()}
        when result: term
  def run(%Call{} = call, cancel, drive, consumer \\ nil) do
    Process.flag(:trap_exit, true)
    consumer = if consumer, do: Process.monitor(consumer)
    answer = make_ref()
    call = Call.cancelled_by(call, cancel, answer)
    {warden, callers} = {self(), Process.get(:"$callers", [])}

    {runner, monitor} =
      spawn_monitor(fn ->
        Shadow.follow(warden)
        Process.put(:"$callers", callers)
        send(warden, {answer, drive.(call)})
      end)

    began = System.monotonic_time(:millisecond)

    watch(%{
      runner: runner,
      monitor: monitor,
      consumer: consumer,
      answer: answer,
      cancel: cancel,
      limits: call.plan.limits,
      began: began,
      until: began + call.plan.limits.timeout + @late,
      ending: nil,
      credit: 0,
      broke: false
    })
  end

  defp watch(%{answer: answer, monitor: monitor} = state) do
    receive do
      {^answer, result} ->
        Process.demonitor(monitor, [:flush])
        settle(result, state)

      {:DOWN, ^monitor, :process, _, reason} ->
        settle({:error, %HostError{kind: :exit, reason: reason}}, state)

      {:DOWN, consumer, :process, _, reason} when consumer == state.consumer ->
        state |> end_by(reason, @late, {:exit, :normal}) |> watch()

      {:EXIT, _starter, reason} ->
        state |> end_by(reason, @late, {:exit, reason}) |> watch()

      {:cancel, cancel, reason, grace} when cancel == state.cancel ->
        state |> end_by(reason, grace, {:error, %CancelledError{reason: reason}}) |> watch()

      {:credit, cancel, more} when cancel == state.cancel ->
        %{state | credit: state.credit + more} |> pay() |> watch()

      {:broke, ^answer} ->
        %{state | broke: true} |> pay() |> watch()
    after
      time_left(state) -> if time_left(state) == 0, do: kill(state), else: watch(state)
    end
  end

  defp time_left(%{until: until}),
    do: (until - System.monotonic_time(:millisecond)) |> max(0) |> min(@longest_wait)

  # The first who ends it decides how.
  defp end_by(%{ending: nil} = state, reason, grace, ending) do
    Cancel.now(state.cancel, reason)
    send(state.runner, {state.answer, :cancelled})
    until = min(state.until, System.monotonic_time(:millisecond) + grace)
    %{state | until: until, ending: ending}
  end

  defp end_by(state, _reason, _grace, _ending), do: state

  # Credit is kept here until the runner waits for it and does nothing else: a host function may receive whatever comes.
  defp pay(%{broke: true, ending: nil, credit: 0} = state), do: state

  defp pay(%{broke: true} = state) do
    news = if state.ending, do: :cancelled, else: {:credit, state.credit}
    send(state.runner, {state.answer, news})
    %{state | credit: 0, broke: false}
  end

  defp pay(state), do: state

  defp kill(%{runner: runner, monitor: monitor, answer: answer} = state) do
    Process.exit(runner, :kill)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    end

    # It may have ended in the last moment.
    receive do
      {^answer, result} -> settle(result, state)
    after
      0 -> settle(state.ending || {:error, overdue(state)}, state)
    end
  end

  # By a signal, as the task would have died without a warden: the end of its owner is no crash for it to log.
  defp settle(_result, %{ending: {:exit, reason}}) do
    Process.flag(:trap_exit, false)
    Process.exit(self(), reason)
  end

  defp settle(result, _state), do: result

  defp overdue(%{limits: limits, began: began}) do
    used = System.monotonic_time(:millisecond) - began
    Limits.attribute(%LimitError{limit: :timeout, allowed: limits.timeout, used: used}, limits)
  end

  @doc "Cancels the call that the warden `pid` runs with `cancel`."
  @spec cancel(pid, reference, term, timeout) :: :ok
  def cancel(pid, cancel, reason, grace) do
    send(pid, {:cancel, cancel, reason, grace})
    :ok
  end

  @doc "Gives more credit to the call that the warden `pid` runs with `cancel`."
  @spec credit(pid, reference, pos_integer) :: :ok
  def credit(pid, cancel, more) do
    send(pid, {:credit, cancel, more})
    :ok
  end

  @doc "In the process that drives the call: waits for credit from the warden, or for its word that the call is cancelled."
  @spec await_credit(pid, Call.t()) :: {:credit, pos_integer} | :cancelled
  def await_credit(pid, %Call{plan: %Plan{cancel: {_cancel, answer}}}) do
    send(pid, {:broke, answer})
    receive do: ({^answer, news} -> news)
  end
end
