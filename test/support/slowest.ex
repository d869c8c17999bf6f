defmodule Cybernetic.WASM.Slowest do
  @moduledoc false
  # A formatter that names the slowest tests when all are over. `mix test --slowest` does, too, but then runs one test at a
  # time, and none has a time-out.

  use GenServer

  @most 20

  @impl true
  def init(_opts), do: {:ok, []}

  @impl true
  def handle_cast({:test_finished, test}, tests), do: {:noreply, [test | tests]}

  def handle_cast({:suite_finished, _times}, tests) do
    slowest = tests |> Enum.sort_by(& &1.time, :desc) |> Enum.take(@most)
    IO.puts(["\nThe slowest:\n" | Enum.map(slowest, &line/1)])
    {:noreply, tests}
  end

  def handle_cast(_event, tests), do: {:noreply, tests}

  defp line(test) do
    "  #{div(test.time, 1_000)} ms  #{test.name} (#{Path.relative_to_cwd(test.tags.file)}:#{test.tags.line})\n"
  end
end
