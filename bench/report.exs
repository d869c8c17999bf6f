defmodule Cybernetic.WASM.Bench.Report do
  # Rows as tables, ratios with their budgets, and all of it as JSON. A row is {group, name, figures}.

  alias Cybernetic.WASM.JSON

  @headings [
    median_ns: "median",
    min_ns: "least",
    p50_ns: "p50",
    p90_ns: "p90",
    p99_ns: "p99",
    max_ns: "most",
    per_second: "per second",
    bytes: "bytes",
    count: "count"
  ]

  @kernels ["fib", "sha256", "mandelbrot"]

  # Of modules whose code is on disk.
  @sizes ["17 KB", "0.6 MB", "4 MB"]

  # Group, row, what it is measured against (the sum of these rows), budget.
  @ratios [
    {"calls", "warm call, adaptive", ["raw: warm call, fuel", "no-op NIF"], 3},
    {"calls", "warm call, inline", ["raw: warm call, fuel", "no-op NIF"], nil},
    {"calls", "warm call, dirty", ["raw: warm call, fuel", "no-op dirty NIF"], nil},
    {"calls", "warm call, adaptive, epoch", ["raw: warm call, epoch", "no-op NIF"], nil},
    {"calls", "fresh call, small guest, adaptive", ["raw: fresh call, small guest, fuel"], 2},
    {"calls", "fresh call, Rust guest, adaptive", ["raw: fresh call, Rust guest, fuel"], 2},
    {"calls", "fresh call, small guest, adaptive, epoch", ["raw: fresh call, small guest, epoch"],
     nil},
    {"calls", "warm call, 100 bytes in", ["warm call, adaptive"], nil},
    {"calls", "warm call, 100 bytes in and out", ["warm call, adaptive"], nil},
    {"calls", "warm call, 100 bytes in and out, both freed", ["warm call, adaptive"], nil},
    {"calls", "warm call, 100 bytes in and out, both freed", ["the same step by step"], nil},
    {"calls", "raw: warm call, 100 bytes in and out, both freed", ["raw: warm call, typed, fuel"],
     nil},
    {"calls", "fresh call, 100 bytes in and out", ["fresh call of the same guest, numbers"], 1.3},
    {"calls", "host call", ["raw: host call, suspended, fuel"], nil},
    {"calls", "host call", ["GenServer call with a no-op dirty NIF"], 0.1},
    {"calls", "after a rest: host call", ["after a rest: GenServer call with a no-op dirty NIF"],
     0.1},
    {"calls", "raw: warm call, the library without the BEAM", ["raw: warm call, fuel"], nil},
    {"calls", "raw: fresh call, small guest, the library without the BEAM",
     ["raw: fresh call, small guest, fuel"], nil},
    {"instances", "new instance and close", ["raw: new instance"], nil},
    {"instances", "fork and close, nothing changed since the last", ["new instance and close"],
     nil},
    {"instances", "write 1 MiB", ["raw: write 1 MiB"], nil},
    {"instances", "read 1 MiB", ["raw: read 1 MiB"], nil},
    {"instances", "fresh instance, its start-up, a call",
     ["raw: fresh instance, its start-up, a call"], nil},
    {"instances", "fresh instance, its start-up, a call",
     ["fresh instance of the pre-initialised module, a call"], nil},
    for(
      what <- ["rules", "a heap with holes"],
      do:
        {"instances", "fresh instance of a 1 MB snapshot, a call: #{what}",
         ["raw: fresh instance of a 1 MB snapshot, a call: #{what}"], 1.5}
    ),
    {"wasi", "hello world", ["raw: hello world"], 2.5},
    {"wasi", "hello world, sandbox: :command", ["raw: hello world"], 2.5},
    {"wasi", "raw: hello world, the library without the BEAM", ["raw: hello world"], nil},
    # Four fifths of the throughput.
    {"wasi", "read 64 MiB, 65536 bytes at a time", ["raw: read 64 MiB, 65536 bytes at a time"],
     1.25},
    {"wasi", "read 64 MiB, 4096 bytes at a time", ["raw: read 64 MiB, 4096 bytes at a time"],
     nil},
    {"components", "warm call", ["raw: warm call", "no-op NIF"], 2.2},
    {"components", "fresh call", ["raw: fresh call"], 1.4},
    {"components", "record of five fields", ["raw: record of five fields"], 1.8},
    {"components", "record of five fields, with atoms as keys", ["raw: record of five fields"],
     nil},
    {"components", "record with a list in it", ["raw: record with a list in it"], 1.8},
    {"components", "record with a list in it, max_transfer: 256 KiB",
     ["raw: record with a list in it"], nil},
    {"components", "64 KiB of bytes in and out", ["raw: 64 KiB of bytes in and out"], nil},
    # Half of their throughput.
    {"components", "1 MiB of text in and out", ["raw: two copies of 1 MiB"], 2},
    {"components", "1 MiB of text in and out", ["raw: 1 MiB of text in and out"], nil},
    {"components", "host call", ["raw: host call"], nil},
    {"loads", "cold load", ["raw: cold load"], nil},
    for(
      size <- @sizes,
      do: [
        {"loads", "load from disk, #{size}",
         ["raw: deserialize a file, #{size}", "raw: read the file and digest it, #{size}"], 2},
        {"loads", "load from disk, #{size}", ["compile, #{size}"], 0.01}
      ]
    ),
    {"loads", "fresh call by its name", ["fresh call of a module that has a name"], nil},
    {"loads", "fresh call by its name", ["fresh call of a module"], nil},
    {"loads", "warm call, module that has a name", ["warm call, module"], nil},
    for(kernel <- @kernels, do: {"kernels", "#{kernel}, fuel", ["raw: #{kernel}, fuel"], 1.05}),
    for(kernel <- @kernels, do: {"kernels", "#{kernel}, epoch", ["raw: #{kernel}, epoch"], nil}),
    for(
      kernel <- @kernels,
      do:
        {"kernels", "raw: #{kernel}, fuel, the library without the BEAM",
         ["raw: #{kernel}, fuel"], nil}
    ),
    for(
      metering <- ["epoch", "fuel", "fuel for calls and loops", "fuel for function entries"],
      kernel <- @kernels,
      do: {"kernels", "raw: #{kernel}, #{metering}", ["raw: #{kernel}, none"], nil}
    ),
    for(kernel <- @kernels, do: {"kernels", "#{kernel}, fuel", ["raw: #{kernel}, native"], nil})
  ]

  # Group, row, and the nanoseconds that its median may take. Of a mebibyte these are 5 GB/s.
  @times [
    {"calls", "host call", 1_000},
    {"instances", "write 1 MiB", 209_715},
    {"instances", "read 1 MiB", 209_715},
    {"wasi", "sleep of 1 ms in a command", 1_400_000},
    {"components", "64 KiB of bytes in and out", 25_000},
    {"components", "host call", 1_500},
    {"loads", "look up a name", 300},
    {"loads", "look up a version", 300},
    {"loads", "look up a requirement", 300}
  ]

  # How long the longest step may take, on a normal and on a dirty scheduler.
  @steps [{"longest step, inline", 2_000_000}, {"longest step, dirty", 15_000_000}]

  # What 99 of 100 may take beside endless guests.
  @fairness [
    {"1 ms timer, late by", 4_000_000},
    {"short call, dirty", 6_000_000},
    {"first call of a function", 6_000_000}
  ]

  @doc "Prints rows of one group."
  def print_rows([{group, _, _} | _] = rows) do
    used = for {_, _, figures} <- rows, {key, _} <- figures, uniq: true, do: key
    columns = for {key, heading} <- @headings, key in used, do: {key, heading}

    table([
      [String.upcase(group) | Enum.map(columns, &elem(&1, 1))]
      | for({_, name, figures} <- rows, do: [name | cells(columns, figures)])
    ])
  end

  defp cells(columns, figures), do: for({key, _} <- columns, do: show(key, figures[key]))

  @doc "Prints the ratios."
  def print_ratios(rows) do
    lines =
      for ratio <- ratios(rows) do
        [
          "#{ratio.name} / #{ratio.against}",
          show(ratio.unit, ratio.ours),
          show(ratio.unit, ratio.theirs),
          decimals(ratio.ratio, 2),
          decimals(ratio.budget, 2),
          verdict(ratio)
        ]
      end

    table([["RATIOS", "ours", "against", "ratio", "budget", ""] | lines])
  end

  @doc "Writes rows and ratios as JSON."
  def write(rows, opts) do
    now = DateTime.utc_now() |> DateTime.truncate(:second) |> DateTime.to_iso8601(:basic)
    path = opts.json || "bench/results/#{now}.json"
    File.mkdir_p!(Path.dirname(path))

    File.write!(path, [
      JSON.encode(
        time: now,
        effort: opts.effort,
        versions: versions(),
        rows: for({group, name, figures} <- rows, do: [group: group, name: name] ++ figures),
        ratios: for(ratio <- ratios(rows), do: Map.delete(ratio, :unit))
      ),
      ?\n
    ])

    IO.puts("\nWritten to #{path}")
  end

  defp versions do
    [
      library: :cybernetic_wasm |> Application.spec(:vsn) |> to_string(),
      elixir: System.version(),
      otp: System.otp_release(),
      schedulers: System.schedulers_online()
    ]
  end

  # Ratios

  defp ratios(rows) do
    index = Map.new(rows, fn {group, name, figures} -> {{group, name}, figures} end)

    of_times =
      for note <- ["", ", one processor"],
          {group, ours, against, budget} <- List.flatten(@ratios),
          figures = index[{group <> note, ours}],
          do: ratio(index, {group <> note, note, ours, figures}, against, budget)

    of_times ++ memory(index) ++ medians(index) ++ fairness(index) ++ idle(rows)
  end

  # What a hundred loads of one module take, against one.
  defp memory(index) do
    for {{"loads", "resident memory after 100 loads" <> _ = name}, [bytes: all]} <- index,
        {{"loads", "resident memory after one load" <> _ = against}, [bytes: one]} <- index do
      %{
        name: name,
        against: against,
        unit: :bytes,
        ours: all,
        theirs: one,
        ratio: all / one,
        budget: 1.5,
        within: all / one <= 1.5
      }
    end
  end

  defp medians(index) do
    steps =
      for {{"steps", name}, _figures} <- Enum.sort(index),
          {kind, most} <- @steps,
          String.starts_with?(name, kind),
          do: {"steps", name, most}

    for {group, name, most} <- @times ++ steps, figures = index[{group, name}] do
      bounded("#{name}, median", {:median_ns, figures[:median_ns]}, most)
    end
  end

  defp fairness(index) do
    for {what, most} <- @fairness,
        name = what <> ", beside endless guests",
        figures = index[{"fairness", name}] do
      bounded("#{name}, p99", {:p99_ns, figures[:p99_ns]}, most)
    end
  end

  defp bounded(name, {unit, time}, most) do
    %{
      name: name,
      against: "its budget",
      unit: unit,
      ours: time,
      theirs: most,
      ratio: time / most,
      budget: 1,
      within: time <= most
    }
  end

  # The least times: what else the computer does disturbs them least.
  defp ratio(index, {group, note, name, figures}, against, budget) do
    theirs = against |> Enum.map(&Map.fetch!(index, {group, &1})[:min_ns]) |> Enum.sum()
    ours = figures[:min_ns]

    %{
      name: name <> note,
      against: Enum.join(against, " + "),
      unit: :min_ns,
      ours: ours,
      theirs: theirs,
      ratio: ours / theirs,
      budget: budget,
      within: if(budget, do: ours / theirs <= budget)
    }
  end

  defp idle(rows) do
    for {"idle", "epoch ticks" <> _ = name, [count: ticks]} <- rows do
      %{
        name: name,
        against: "none",
        unit: :count,
        ours: ticks,
        theirs: 0,
        ratio: nil,
        budget: 0,
        within: ticks == 0
      }
    end
  end

  defp verdict(%{within: nil}), do: ""
  defp verdict(%{within: true}), do: "ok"
  defp verdict(%{within: false}), do: "MISSED"

  # Tables

  @doc "What a figure is called."
  def heading(key), do: Keyword.fetch!(@headings, key)

  @doc "Prints a table. The first cell of each line is a name."
  def table(lines) do
    first = lines |> Enum.map(&String.length(hd(&1))) |> Enum.max()
    IO.puts("")

    for [name | cells] <- lines do
      cells = for cell <- cells, do: String.pad_leading(cell, 12)

      IO.puts(
        String.trim_trailing(IO.iodata_to_binary([String.pad_trailing(name, first) | cells]))
      )
    end
  end

  @doc "A figure in the unit that it is read in."
  def show(_key, nil), do: ""
  def show(:count, count), do: Integer.to_string(count)
  def show(:bytes, bytes), do: grouped(bytes)
  def show(:per_second, number), do: number |> round() |> grouped()
  def show(_time, ns) when abs(ns) < 1_000_000, do: decimals(ns / 1_000, 2) <> " µs"
  def show(_time, ns), do: decimals(ns / 1_000_000, 2) <> " ms"

  @doc "A number with so many decimals."
  def decimals(nil, _digits), do: ""
  def decimals(number, digits), do: :erlang.float_to_binary(number / 1, decimals: digits)

  defp grouped(number) do
    number |> Integer.to_string() |> String.replace(~r/\B(?=(\d{3})+$)/, ",")
  end
end
