defmodule Cybernetic.WASM.Slowest do
  @moduledoc false
  # A formatter that names the slowest tests when all are over. `mix test --slowest` does, too, but then runs one test at a
  # time, and none has a time-out.

  use GenServer

  @most 20

  @impl true
  def init(_opts), do: {:ok, []}

  @impl true
  def handle_cast({:test_finished, test}, lines),
    do: {:noreply, [{test.time, line(test)} | lines]}

  def handle_cast({:suite_finished, _times}, lines) do
    slowest = lines |> Enum.sort(:desc) |> Enum.take(@most)
    IO.puts(["\nThe slowest:\n" | Enum.map(slowest, &elem(&1, 1))])
    {:noreply, lines}
  end

  def handle_cast(_event, lines), do: {:noreply, lines}

  # Nothing else of a test is kept: what its setup gave, a guest above all, would live as long as the suite.
  defp line(test) do
    "  #{div(test.time, 1_000)} ms  #{test.name} (#{Path.relative_to_cwd(test.tags.file)}:#{test.tags.line})\n"
  end
end
