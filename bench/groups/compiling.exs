defmodule Cybernetic.WASM.Bench.Compiling do
  # What compiling costs: alone, by size; and everybody else, while large modules are compiled.

  alias Cybernetic.WASM.{Bench.Measure, Executor, Instance, Runtime}
  import Cybernetic.WASM.Bench.Plain, only: [plain: 1]
  import Measure, only: [by: 2]

  # Functions in modules of about 1 KB, 17 KB and 0.6 MB, and in one of 4 MB, which are few enough for a slot of the pool.
  @sizes [{"1 KB", 20}, {"17 KB", 350}, {"0.6 MB", 12_000}]
  @large {20_000, 20}
  @at_once 4

  # More guests at once than a pool has slots for.
  @pool 800

  def rows(effort) do
    large = by(effort, full: @large, quick: @large, tiny: {20, 4})
    pool = by(effort, full: @pool, quick: @pool, tiny: 8)
    alone(effort) ++ lateness(effort, large) ++ [memory(large), beyond_the_pool(large, pool)]
  end

  defp alone(effort) do
    rounds = by(effort, full: 9, quick: 3, tiny: 1)

    for {name, functions} <- by(effort, full: @sizes, quick: @sizes, tiny: [hd(@sizes)]) do
      load = fn -> {:ok, _} = Runtime.load_module({:bytes, plain({functions, 4})}) end
      [row] = Measure.compare([{"cold load, #{name}", load}], 1, rounds)
      row
    end
  end

  # How late a timer of a millisecond is.
  defp lateness(effort, large) do
    idle = late(fn -> Process.sleep(by(effort, full: 3_000, quick: 500, tiny: 10)) end)
    busy = late(fn -> large |> at_once() |> Task.await_many(:infinity) end)

    [
      {"timer of 1 ms, idle: late by", Measure.percentiles(idle)},
      {"timer of 1 ms, while #{@at_once} modules of 4 MB are compiled: late by",
       Measure.percentiles(busy)}
    ]
  end

  defp at_once(large) do
    sources = for _ <- 1..@at_once, do: plain(large)

    for source <- sources,
        do:
          Task.async(fn ->
            {:ok, _} = Runtime.load_module({:bytes, source})
          end)
  end

  defp late(work) do
    timer = Task.async(fn -> ticks([]) end)
    work.()
    send(timer.pid, :stop)
    Task.await(timer, :infinity)
  end

  defp ticks(late) do
    began = System.monotonic_time(:nanosecond)

    receive do
      :stop -> late
    after
      1 -> ticks([max(System.monotonic_time(:nanosecond) - began - 1_000_000, 0) | late])
    end
  end

  defp memory(large) do
    # What earlier work has left to be given back is not to be counted.
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    before = resident()
    modules = for task <- at_once(large), do: Task.await(task, :infinity)
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    grown = resident() - before
    _ = length(modules)
    {"resident memory of the VM after #{@at_once} modules of 4 MB", [bytes: grown]}
  end

  defp resident do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    1024 * String.to_integer(kilobytes)
  end

  # The first guest that finds no slot in the pool, of a module that takes seconds to compile.
  defp beyond_the_pool(large, pool) do
    module = Runtime.load_module!({:bytes, plain(large)})
    guests = for _ <- 1..pool, do: module |> Instance.new() |> elem(1)
    began = System.monotonic_time(:nanosecond)
    {:ok, guest} = Instance.new(module)
    took = System.monotonic_time(:nanosecond) - began
    Enum.each([guest | guests], &Instance.close/1)
    {:ok, 1} = Executor.call(module, "f")
    {"guest #{pool + 1} of a module of 4 MB", [median_ns: took]}
  end
end
