for file <-
      ~w(measure plain raw report comparison groups/calls groups/instances groups/names groups/loads groups/compiling groups/kernels groups/wasi groups/components groups/throughput groups/fairness groups/steps groups/idle) do
  Code.require_file("#{file}.exs", __DIR__)
end

defmodule Cybernetic.WASM.Bench do
  # The story of a run: build the raw side, then group by group the raw figures and ours, the same on one processor, and
  # the report. Everything that is compared is measured within the same minute.

  alias Cybernetic.WASM.Bench.{
    Calls,
    Comparison,
    Compiling,
    Components,
    Fairness,
    Idle,
    Instances,
    Kernels,
    Loads,
    Raw,
    Report,
    Steps,
    Throughput,
    Wasi
  }

  @groups [
    {"calls", Calls},
    {"instances", Instances},
    {"loads", Loads},
    {"compiling", Compiling},
    {"kernels", Kernels},
    {"wasi", Wasi},
    {"components", Components},
    {"throughput", Throughput},
    {"fairness", Fairness},
    {"steps", Steps},
    {"idle", Idle}
  ]
  @raw ["calls", "instances", "loads", "kernels", "wasi", "components", "steps"]
  @pinned ["calls", "throughput", "fairness"]

  @doc "Starts the library. What an earlier run has compiled is not to be found by this one."
  def start do
    Application.put_env(:cybernetic_wasm, :artifacts, false)
    {:ok, _started} = Application.ensure_all_started(:cybernetic_wasm)
    :ok
  end

  def main(opts) do
    start()
    groups = groups!(opts.only)
    earlier = opts.compare && Comparison.read!(opts.compare)
    raw = Raw.build!()
    rows = measure(groups, raw, opts.effort) ++ pinned(groups, opts)
    Report.print_ratios(rows)
    Report.write(rows, opts)
    if earlier, do: Comparison.print(earlier, rows, opts.effort)

    if opts.effort == :tiny,
      do: IO.puts("Everything ran. The figures of a tiny run mean nothing.")
  end

  @doc "Measures groups, raw side first, and prints each as soon as it is done."
  def measure(groups, raw, effort, note \\ "") do
    Enum.flat_map(groups, fn group ->
      there = if group in @raw, do: Raw.rows(raw, group, effort), else: []
      {_, module} = List.keyfind(@groups, group, 0)
      here = for {name, figures} <- module.rows(effort), do: {group, name, figures}
      rows = for {group, name, figures} <- there ++ here, do: {group <> note, name, figures}
      Report.print_rows(rows)
      rows
    end)
  end

  # The whole bench on one processor, in a VM of its own that was started there and so has one scheduler of each kind.
  defp pinned(groups, %{pinned: true, effort: effort}) do
    case {Enum.filter(groups, &(&1 in @pinned)), System.find_executable("taskset")} do
      {[], _} ->
        []

      {_, nil} ->
        Mix.shell().info("\nNo taskset here: the rows on one processor are left out")
        []

      {groups, taskset} ->
        file = Path.join(System.tmp_dir!(), "cybernetic_wasm_bench.#{System.pid()}")
        args = [file, to_string(effort) | groups]

        command = [
          "-c",
          "0",
          "mix",
          "run",
          "--no-compile",
          "--no-start",
          "bench/pinned.exs" | args
        ]

        {_, 0} = System.cmd(taskset, command, into: IO.stream(:stdio, :line))
        rows = file |> File.read!() |> :erlang.binary_to_term()
        File.rm!(file)
        rows
    end
  end

  defp pinned(_groups, _opts), do: []

  defp groups!([]), do: Enum.map(@groups, &elem(&1, 0))

  defp groups!(only) do
    known = Enum.map(@groups, &elem(&1, 0))

    case only -- known do
      [] ->
        Enum.filter(known, &(&1 in only))

      unknown ->
        Mix.raise("No group #{Enum.join(unknown, ", ")}; known are: #{Enum.join(known, ", ")}")
    end
  end
end
