defmodule Cybernetic.WASM.Executor.Output do
  @moduledoc false
  # What a guest puts out while it runs: as a lazy stream in the process that reads it, or sent to another process as fast as
  # that one asks for it. Either way the guest is suspended in the host call that made the output until more is wanted.

  alias Cybernetic.WASM.{Error, Execution, Run}
  alias Cybernetic.WASM.Execution.{Call, Plan}
  alias Cybernetic.WASM.Executor.Warden

  @doc "The lazy stream. Nothing runs before its first element is asked for."
  @spec stream(Call.t(), boolean) :: Enumerable.t()
  def stream(%Call{} = call, tagged),
    do: Stream.resource(fn -> {:begin, call} end, &next(&1, tagged), &halt/1)

  defp next(:ended, _tagged), do: {:halt, :ended}
  defp next({:failed, error}, _tagged), do: Error.unwrap!({:error, error})

  defp next(state, tagged) do
    case advance(state) do
      {:output, pieces, state} ->
        {if(tagged, do: Enum.map(pieces, &{:output, &1}), else: pieces), state}

      {:done, run} ->
        {if(tagged, do: [{:done, run}], else: []), :ended}

      # What was put out before the error came first.
      {:failed, _error} = failed ->
        {[], failed}
    end
  end

  # To the next output, or to the end.
  defp advance({:begin, call}) do
    with {:ok, target, plan} <- Call.open(call) do
      plan = Plan.streaming(plan)

      target
      |> Execution.start(call.name, call.args, plan)
      |> Execution.drive_to_output(plan)
      |> advanced(call, target)
    else
      {:error, error} -> {:failed, error}
    end
  end

  defp advance({:suspended, suspended, call, target}),
    do: suspended |> Execution.go_on() |> advanced(call, target)

  defp advanced({:output, pieces, suspended}, call, target),
    do: {:output, pieces, {:suspended, suspended, call, target}}

  defp advanced({:ok, result, usage}, call, target) do
    :ok = Call.close(call, target)
    {:done, Run.new(result, usage)}
  end

  defp advanced({:error, error}, call, target) do
    :ok = Call.close(call, target)
    {:failed, error}
  end

  defp halt({:suspended, suspended, call, target}) do
    :ok = Execution.abandon(suspended)
    Call.close(call, target)
  end

  defp halt(_not_suspended), do: :ok

  @doc """
  Sends the output to `consumer` as `{ref, {:output, bytes}}`, never more than it has credit for, then `{ref, {:done, run}}`.
  Further credit comes from the warden.
  """
  @spec deliver(Call.t(), {pid, reference}, pid, pos_integer) :: :ok | {:error, Error.t()}
  def deliver(%Call{} = call, to, warden, credit),
    do: send_all({:begin, call}, {to, fn -> Warden.await_credit(warden, call) end}, credit)

  defp send_all(state, {{consumer, ref}, _await_credit} = to, credit) do
    case advance(state) do
      {:output, pieces, state} ->
        send_all(state, to, send_pieces(pieces, to, credit))

      {:done, run} ->
        send(consumer, {ref, {:done, run}})
        :ok

      {:failed, error} ->
        {:error, error}
    end
  end

  defp send_pieces([], _to, credit), do: credit

  defp send_pieces(pieces, {_consumer, await_credit} = to, 0) do
    case await_credit.() do
      {:credit, more} -> send_pieces(pieces, to, more)
      # The guest is told by its next step.
      :cancelled -> 0
    end
  end

  defp send_pieces([piece | pieces], {{consumer, ref}, _await_credit} = to, credit) do
    send(consumer, {ref, {:output, piece}})
    send_pieces(pieces, to, credit - 1)
  end
end
