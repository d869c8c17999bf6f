defmodule Cybernetic.WASM.Bench.Comparison do
  # A run beside an earlier one, which is in a file.

  alias Cybernetic.WASM.Bench.Report
  alias Cybernetic.WASM.JSON

  # By how much a figure has to differ to count as changed.
  @least 0.1

  # Of each line the first that both runs have.
  @figures [
    [:min_ns, :median_ns],
    [:p50_ns],
    [:p99_ns, :max_ns],
    [:per_second],
    [:bytes],
    [:count]
  ]

  # A run of all groups has some hundred kilobytes.
  @most_bytes 100_000_000

  @doc "The run that is in a file of `mix wasm.bench`."
  def read!(path) do
    with {:ok, text} <- File.read(path),
         {:ok, %{"rows" => rows} = run} when is_list(rows) <- JSON.decode(text, @most_bytes),
         true <- Enum.all?(rows, &match?(%{"group" => _, "name" => _}, &1)) do
      run
    else
      {:error, reason} when is_atom(reason) -> refuse(path, :file.format_error(reason))
      _other -> refuse(path, "it has no figures of mix wasm.bench")
    end
  end

  defp refuse(path, why), do: Mix.raise("Cannot compare with #{path}: #{why}")

  @doc "Prints what has changed since an earlier run, and which rows only one of the two has."
  def print(earlier, rows, effort) do
    old = for row <- earlier["rows"], into: %{}, do: {{row["group"], row["name"]}, row}
    {both, new} = Enum.split_with(rows, fn {group, name, _} -> is_map_key(old, {group, name}) end)
    lines = for {group, name, _} = row <- both, line <- lines(row, old[{group, name}]), do: line
    changed = for {line, ratio} <- lines, ratio == nil or abs(ratio - 1) >= @least, do: line

    Report.table([["CHANGES SINCE #{earlier["time"]}", "old", "new", "new / old"] | changed])
    IO.puts("#{length(lines) - length(changed)} other figures differ by less than a tenth")

    list(
      "Only in this run",
      for({group, name, _} <- new, group in groups(old), do: "#{group}: #{name}")
    )

    list("Only in the earlier run", gone(old, rows))

    if earlier["effort"] != to_string(effort),
      do: IO.puts("The earlier run was of another effort: #{earlier["effort"] || "unknown"}")
  end

  defp groups(old), do: for({group, _name} <- Map.keys(old), uniq: true, do: group)

  # Of the groups that this run has measured.
  defp gone(old, rows) do
    groups = for {group, _, _} <- rows, uniq: true, do: group
    there = for {group, name, _} <- rows, do: {group, name}

    for {group, name} <- Enum.sort(Map.keys(old) -- there),
        group in groups,
        do: "#{group}: #{name}"
  end

  defp list(_title, []), do: :ok
  defp list(title, rows), do: IO.puts(["#{title}:" | for(row <- rows, do: ["\n  ", row])])

  defp lines({group, name, figures}, earlier) do
    for keys <- @figures, key = Enum.find(keys, &(figures[&1] && earlier[to_string(&1)])) do
      {old, new} = {earlier[to_string(key)], figures[key]}
      ratio = ratio(old, new)
      name = "#{group}: #{name}, #{Report.heading(key)}"
      {[name, Report.show(key, old), Report.show(key, new), Report.decimals(ratio, 2)], ratio}
    end
  end

  defp ratio(same, same), do: 1.0
  defp ratio(old, _new) when old == 0, do: nil
  defp ratio(old, new), do: new / old
end
