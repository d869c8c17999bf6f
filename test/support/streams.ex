defmodule Cybernetic.WASM.Streams do
  @moduledoc false
  # Enumerables that tell what is done with them, and streams that are read one element at a time.

  alias Cybernetic.WASM.Executor.Async

  @doc "An enumerable that tells the process that made it when it is opened, pulled and closed."
  def source(pieces) do
    test = self()

    Stream.resource(
      fn -> send(test, :opened) && pieces end,
      fn
        [] -> {:halt, []}
        [piece | rest] -> send(test, {:pulled, piece}) && {[piece], rest}
      end,
      fn _rest -> send(test, :closed) end
    )
  end

  @doc "The same without an end: it gives `piece` ever again, and tells how often it did before."
  def endless(piece) do
    test = self()

    Stream.resource(
      fn -> send(test, :opened) && 0 end,
      fn n -> send(test, {:pulled, n}) && {[piece], n + 1} end,
      fn _n -> send(test, :closed) end
    )
  end

  @doc "The stream's next element, and how to go on; `:ended` at the end."
  def next(continue) when is_function(continue, 1), do: continue.({:cont, nil}) |> element()

  def next(stream),
    do: Enumerable.reduce(stream, {:cont, nil}, fn e, _ -> {:suspend, e} end) |> element()

  @doc """
  Whether the guest of an asynchronous call or stream stands still: whoever the call's own process watches, which is the one
  that drives the guest, waits and has no message.
  """
  def standing_still?(%Async{pid: pid}) do
    with {:monitors, monitors} <- Process.info(pid, :monitors) do
      drivers = for {:process, driver} <- monitors, driver != self(), do: driver
      drivers != [] and Enum.all?(drivers, &waiting?/1)
    end
  end

  defp waiting?(pid),
    do:
      Process.info(pid, [:status, :message_queue_len]) == [status: :waiting, message_queue_len: 0]

  defp element({:suspended, element, continue}), do: {element, continue}
  defp element({ended, _}) when ended in [:done, :halted], do: :ended
end
