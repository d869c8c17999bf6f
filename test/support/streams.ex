defmodule Cybernetic.WASM.Streams do
  @moduledoc false
  # Enumerables that tell what is done with them, and streams that are read one element at a time.

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

  defp element({:suspended, element, continue}), do: {element, continue}
  defp element({ended, _}) when ended in [:done, :halted], do: :ended
end
