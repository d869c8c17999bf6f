defmodule Cybernetic.WASM.Bench.Throughput do
  # Calls per second of many processes at once.

  alias Cybernetic.WASM.{Executor, Instance, Runtime}
  import Cybernetic.WASM.Bench.Measure, only: [by: 2]

  def rows(effort) do
    # In microseconds.
    duration = by(effort, full: 1_000_000, quick: 200_000, tiny: 10)
    module = Runtime.load_module!("priv/wasm/compute.wasm")

    fresh = fn -> fn -> {:ok, 5} = Executor.call(module, "add", [2, 3]) end end

    warm = fn ->
      {:ok, instance} = Instance.new(module)
      fn -> {:ok, 5} = Instance.call(instance, "add", [2, 3]) end
    end

    for {name, make} <- [{"fresh calls", fresh}, {"warm calls", warm}],
        processes <- [1, 2, 8, 64, 1_000] do
      # A short run first: a function begins on dirty schedulers.
      _ = per_second(make, processes, div(duration, 10))
      {"#{name}, #{processes} processes", [per_second: per_second(make, processes, duration)]}
    end
  end

  defp per_second(make, processes, duration) do
    parent = self()

    pids =
      for _ <- 1..processes do
        spawn_link(fn ->
          call = make.()
          send(parent, :ready)
          receive do: ({:until, until} -> send(parent, {:calls, calls(call, until, 0)}))
        end)
      end

    for _ <- pids, do: receive(do: (:ready -> :ok))
    began = now()
    for pid <- pids, do: send(pid, {:until, began + duration})
    calls = for _ <- pids, do: receive(do: ({:calls, calls} -> calls))
    Enum.sum(calls) * 1_000_000 / (now() - began)
  end

  defp calls(call, until, count) do
    call.()

    if now() < until,
      do: calls(call, until, count + 1),
      else: count + 1
  end

  defp now, do: System.monotonic_time(:microsecond)
end
