defmodule Cybernetic.WASM.Bench.Instances do
  # Live instances: what one costs, its memory, and what a snapshot saves.

  alias Cybernetic.WASM.{Bench.Measure, Executor, Instance, Memory, Runtime}
  import Measure, only: [by: 2]

  @mebibyte 1_048_576
  @rules 200
  @asked 2

  def rows(effort) do
    {round, rounds} = by(effort, full: {60, 15}, quick: {20, 7}, tiny: {0, 1})

    snapshots = snapshots()
    pieces = by(effort, full: 2_000, quick: 1_000, tiny: 10)

    Measure.compare(making() ++ memory() ++ start_up() ++ snapshots, round, rounds) ++
      for({name, work} <- snapshots, do: {name <> ", one by one", Measure.singly(work, pieces)}) ++
      [crowd(by(effort, full: 10_000, quick: 2_000, tiny: 10))]
  end

  defp making do
    module = Runtime.load_module!("priv/wasm/compute.wasm")
    kept = Instance.new!(module)
    parent = Instance.new!(module, snapshottable: true)
    changing = Instance.new!(module, snapshottable: true)

    [
      {"new instance and close", fn -> :ok = module |> Instance.new!() |> Instance.close() end},
      {"reset", fn -> :ok = Instance.reset(kept) end},
      {"fork and close, nothing changed since the last",
       fn ->
         {:ok, fork} = Instance.fork(parent)
         Instance.close(fork)
       end},
      {"fork and close, after a change",
       fn ->
         :ok = Memory.write(changing, 0, <<System.unique_integer()::64>>)
         {:ok, fork} = Instance.fork(changing)
         Instance.close(fork)
       end}
    ]
  end

  defp memory do
    wat = ~S|(module (memory (export "memory") 32))|
    instance = {:bytes, wat} |> Runtime.load_module!() |> Instance.new!()
    bytes = :binary.copy(<<42>>, @mebibyte)

    [
      {"read 16 bytes", fn -> {:ok, _} = Memory.read(instance, 64, 16) end},
      {"write 16 bytes", fn -> :ok = Memory.write(instance, 64, "0123456789abcdef") end},
      {"write 1 MiB", fn -> :ok = Memory.write(instance, 0, bytes) end},
      {"read 1 MiB", fn -> {:ok, _} = Memory.read(instance, 0, @mebibyte) end}
    ]
  end

  # The rules guest compiles its regular expressions first: in each instance, or once and for all.
  defp start_up do
    module = Runtime.load_module!("bench/guests/rules.wasm")
    {:ok, ready} = Runtime.preinit(module, "init", [@rules])

    [
      {"fresh instance, its start-up, a call",
       fn ->
         instance = Instance.new!(module)
         {:ok, @rules} = Instance.call(instance, "init", [@rules])
         {:ok, 1} = Instance.call(instance, "matches", [@asked])
         Instance.close(instance)
       end},
      {"fresh instance of the pre-initialised module, a call",
       fn -> {:ok, 1} = Executor.call(ready, "matches", [@asked]) end},
      {"preinit", fn -> {:ok, _} = Runtime.preinit(module, "init", [@rules]) end}
    ]
  end

  # What each is of, and what it was set up with. The raw side has the same.
  defp snapshots do
    for {what, path, count} <- [
          {"rules", "bench/guests/rules.wasm", 150},
          {"a heap with holes", "bench/guests/scattered.wat", 4_000}
        ] do
      {:ok, ready} = path |> Runtime.load_module!() |> Runtime.preinit("init", [count])

      {"fresh instance of a 1 MB snapshot, a call: #{what}",
       fn -> {:ok, _} = Executor.call(ready, "matches", [@asked]) end}
    end
  end

  # Many at once, each with its page of memory touched.
  defp crowd(count) do
    wat = ~S|(module (memory (export "memory") 1) (data (i32.const 0) "touched"))|
    module = Runtime.load_module!({:bytes, wat})
    for _ <- 1..5, do: module |> Instance.new!() |> Instance.close()
    before = resident()
    began = System.monotonic_time()

    instances =
      for _ <- 1..count do
        instance = Instance.new!(module)
        :ok = Memory.write(instance, 1_000, "and written to")
        instance
      end

    elapsed = System.convert_time_unit(System.monotonic_time() - began, :native, :nanosecond)
    bytes = resident() - before
    Enum.each(instances, &Instance.close/1)

    {"one of #{count} live instances at once, with a page each",
     [median_ns: elapsed / count, min_ns: elapsed / count, bytes: div(bytes, count)]}
  end

  # Bytes that this process of the operating system has in memory.
  defp resident do
    [_, pages | _] = "/proc/self/statm" |> File.read!() |> String.split()
    String.to_integer(pages) * 4_096
  end
end
