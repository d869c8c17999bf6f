defmodule Cybernetic.WASM.Executor.Stream do
  @moduledoc false
  # A guest's output while it runs: as a lazy stream in the process that reads it, or sent to another process as fast as
  # that one asks for it. Either way the guest is suspended in the host call that made the output until more is wanted.

  alias Cybernetic.WASM.{Error, Execution}
  alias Cybernetic.WASM.Execution.{Call, Opened, Plan, Tally}
  alias Cybernetic.WASM.Executor.Warden

  @doc "The lazy stream. Nothing runs before its first element is asked for."
  @spec new(Call.t(), boolean) :: Enumerable.t()
  def new(%Call{} = call, tagged),
    do: Stream.resource(fn -> {:begin, call} end, &next(&1, tagged), &halt/1)

  @doc "The stream of a call that cannot begin."
  @spec failed(Error.t()) :: Enumerable.t()
  def failed(error), do: Stream.resource(fn -> {:failed, error} end, &next(&1, false), &halt/1)

  defp next(:ended, _tagged), do: {:halt, :ended}
  defp next({:failed, error}, _tagged), do: Error.raise!(error)

  defp next(state, tagged) do
    case advance(state) do
      {:output, pieces, state} ->
        {Enum.map(pieces, if(tagged, do: &tag/1, else: &bare/1)), state}

      {:done, run} ->
        {if(tagged, do: [{:done, run}], else: []), :ended}

      # The output before the error comes first.
      {:failed, _error} = failed ->
        {[], failed}
    end
  end

  defp tag({_stream, _bytes} = piece), do: piece
  defp tag(bytes), do: {:output, bytes}

  defp bare({_stream, bytes}), do: bytes
  defp bare(bytes), do: bytes

  # To the next output, or to the end.
  defp advance({:begin, call}) do
    with {:ok, opened} <- Opened.open(call),
         do: begun(%{opened | plan: Plan.streaming(opened.plan)}),
         else: ({:error, error} -> {:failed, error})
  end

  defp advance({:begun, opened}), do: start(opened)

  defp advance({:suspended, suspended, opened}),
    do: suspended |> Execution.go_on() |> advanced(opened)

  # Start functions of the modules that it was linked with may have put something out already.
  defp begun(opened) do
    case opened.used |> Enum.reverse() |> Enum.flat_map(&Tally.pieces/1) do
      [] ->
        start(opened)

      pieces ->
        {:output, pieces,
         {:begun, %{opened | used: Enum.map(opened.used, &Tally.without_output/1)}}}
    end
  end

  defp start(opened),
    do: opened |> Opened.start() |> Execution.drive_to_output(opened.plan) |> advanced(opened)

  defp advanced({:output, pieces, suspended}, opened),
    do: {:output, pieces, {:suspended, suspended, opened}}

  defp advanced(ended, opened) do
    case Opened.finish(ended, opened) do
      {:ok, result, tally} -> {:done, Call.finished(opened.call, result, tally)}
      {:error, error} -> {:failed, error}
    end
  end

  defp halt({:begun, opened}), do: Opened.release(opened)

  defp halt({:suspended, suspended, opened}) do
    :ok = Execution.abandon(suspended)
    Opened.release(opened)
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
    send(consumer, {ref, tag(piece)})
    send_pieces(pieces, to, credit - 1)
  end
end
