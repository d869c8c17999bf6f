defmodule Cybernetic.WASM.Conformance.Summary do
  @moduledoc false
  # All reports against the list of what is skipped, which has a place, `folder/file.wast` or `folder/file.wast:line`, and
  # the reason for each. A place where nothing fails is wrong, too: the list must not outlive its reasons.

  defstruct passed: %{}, skipped: %{}, scripts: 0, host_calls: 0, signs: 0, wrong: []

  @doc "Counts what came of each command."
  def new(reports, list) do
    places = Map.new(list)
    counted = Enum.flat_map(reports, &count(&1, places))

    %__MODULE__{
      passed: frequencies(counted, :passed),
      skipped: frequencies(counted, :skipped),
      scripts: length(reports),
      host_calls: reports |> Enum.map(& &1.host_calls) |> Enum.sum(),
      signs: reports |> Enum.map(& &1.signs) |> Enum.sum(),
      wrong: wrong(counted) ++ stale(counted, list)
    }
  end

  # For each command its outcome, its kind, and where it failed: a failure's place is the one on the list, if it is on it.
  defp count(%{script: script, commands: commands}, places) do
    for %{line: line, kind: kind, failure: failure} <- commands do
      place = "#{script}:#{line}"

      cond do
        is_map_key(places, script) -> {:skipped, kind, failure && script}
        failure == nil -> {:passed, kind, nil}
        is_map_key(places, place) -> {:skipped, kind, place}
        true -> {:wrong, kind, "#{place} #{kind}: #{failure}"}
      end
    end
  end

  defp frequencies(counted, outcome),
    do: Enum.frequencies(for {^outcome, kind, _place} <- counted, do: kind)

  defp wrong(counted), do: Enum.sort(for {:wrong, _kind, text} <- counted, do: text)

  defp stale(counted, list) do
    failed = for {:skipped, _kind, place} <- counted, into: MapSet.new(), do: place

    for {place, _reason} <- list,
        place not in failed,
        do: "#{place} is skipped, but passes or does not exist"
  end

  @doc "The counts as a table."
  def table(%__MODULE__{passed: passed, skipped: skipped} = summary, title) do
    kinds = Enum.sort(Map.keys(Map.merge(passed, skipped)))
    all = {"all", sum(passed), sum(skipped)}
    rows = Enum.map(kinds, &{&1, Map.get(passed, &1, 0), Map.get(skipped, &1, 0)}) ++ [all]

    Enum.join(
      ["", title, row({"command", "passed", "skipped"})] ++
        Enum.map(rows, &row/1) ++ [facts(summary)],
      "\n"
    )
  end

  defp sum(counts), do: counts |> Map.values() |> Enum.sum()

  defp row({name, passed, skipped}) do
    String.pad_trailing(name, 24) <>
      String.pad_leading("#{passed}", 8) <> String.pad_leading("#{skipped}", 9)
  end

  defp facts(summary) do
    "#{summary.scripts} scripts, #{summary.host_calls} host calls, #{summary.signs} signs of NaNs asked of a guest"
  end

  @doc "What is skipped and why, a line for each reason."
  def reasons(list) do
    groups = Enum.chunk_by(list, &elem(&1, 1))

    Enum.map_join(groups, "\n", fn [{_place, reason} | _] = group ->
      "skipped, #{reason}: #{Enum.map_join(group, " ", &elem(&1, 0))}"
    end)
  end
end
