defmodule Cybernetic.WASM.Bench.Loads do
  # Loading a small program of a real language: compiled anew, and out of the cache. And loading modules of three sizes whose
  # compiled code is on disk.

  alias Cybernetic.WASM.Bench.{Measure, Names}
  alias Cybernetic.WASM.{Config, Runtime, Startup}
  import Cybernetic.WASM.Bench.Plain, only: [plain: 1]
  import Measure, only: [by: 2]

  @path "bench/guests/kernels.wasm"

  # Functions, and steps in each: the raw side has the same.
  @sizes [{"17 KB", {350, 4}}, {"0.6 MB", {12_000, 4}}, {"4 MB", {20_000, 20}}]
  @tiny [{"17 KB", {20, 4}}, {"0.6 MB", {20, 4}}, {"4 MB", {20, 4}}]

  @many 100

  def rows(effort) do
    wasm = File.read!(@path)
    round = by(effort, full: 200, quick: 50, tiny: 0)
    rounds = by(effort, full: 9, quick: 5, tiny: 1)

    # By itself: it empties the cache that the others are about.
    Measure.compare([{"cold load", fn -> cold(wasm) end}], round, rounds) ++
      Measure.compare(cached(wasm), round, rounds) ++
      Names.rows(effort) ++ artifacts(effort, round, rounds)
  end

  defp cold(wasm) do
    Runtime.clear_cache()
    Runtime.load_module!({:bytes, fresh(wasm)})
  end

  # The warm-up fills the cache.
  defp cached(wasm) do
    [
      {"cached load, bytes", fn -> Runtime.load_module!({:bytes, wasm}) end},
      {"cached load, path", fn -> Runtime.load_module!(@path) end}
    ]
  end

  # A custom section with a number that no other load has: modules in use outlive a cleared cache.
  defp fresh(wasm), do: wasm <> <<0, 9, 0, System.unique_integer([:positive])::64>>

  # On disk

  defp artifacts(effort, round, rounds) do
    sizes = by(effort, full: @sizes, quick: @sizes, tiny: @tiny)
    times = by(effort, full: 3, quick: 1, tiny: 1)

    with_folder(fn ->
      compiled = for {size, shape} <- sizes, do: {size, compile(shape, times)}
      loads = for {size, {wasm, _took}} <- compiled, do: {"load from disk, #{size}", load(wasm)}
      {_size, {largest, _took}} = List.last(compiled)

      for({size, {_wasm, took}} <- compiled, do: {"compile, #{size}", took}) ++
        Measure.compare(loads, round, rounds) ++ memory(largest)
    end)
  end

  # Without a cache each load goes to the disk.
  defp with_folder(work) do
    before = Config.get()
    {folder, 0} = System.cmd("mktemp", ["-d"])
    folder = String.trim(folder)
    on = %{before | artifacts: true, artifact_dir: folder}

    try do
      Startup.start!(%{on | cache_compiled_modules: false})
      %{reason: nil} = Runtime.artifacts()
      work.()
    after
      Startup.start!(before)
      File.rm_rf!(folder)
    end
  end

  # Another module each time; the last is then on disk.
  defp compile(shape, times) do
    samples =
      for _ <- 1..times do
        wasm = plain(shape)
        {took, module} = :timer.tc(fn -> Runtime.load_module!({:bytes, wasm}) end)
        {wasm, module, 1_000 * took}
      end

    {wasm, module, _took} = List.last(samples)
    :ok = Runtime.keep(module)
    sorted = samples |> Enum.map(&elem(&1, 2)) |> Enum.sort()
    {wasm, [median_ns: Enum.at(sorted, div(times, 2)), min_ns: hd(sorted)]}
  end

  defp load(wasm), do: fn -> Runtime.load_module!({:bytes, wasm}) end

  # With the cache, as a node has it.
  defp memory(wasm) do
    Startup.start!(%{Config.get() | cache_compiled_modules: true})
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    before = resident()
    one = load(wasm).()
    after_one = resident() - before
    all = for _ <- 2..@many, do: load(wasm).()
    after_all = resident() - before
    _ = length([one | all])

    [
      {"resident memory after one load from disk, 4 MB", [bytes: after_one]},
      {"resident memory after #{@many} loads from disk, 4 MB", [bytes: after_all]}
    ]
  end

  # What is mapped of code is shared memory, and what of it nobody has touched yet is counted as well.
  defp resident do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    1024 * String.to_integer(kilobytes) + Runtime.stats().code_memory
  end
end
