defmodule Cybernetic.WASM.Bench.Throughput do
  # Calls per second of many processes at once.

  alias Cybernetic.WASM.{Executor, Instance, Runtime}

  def rows(quick) do
    duration = if quick, do: 200, else: 1_000
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
    began = System.monotonic_time(:millisecond)
    for pid <- pids, do: send(pid, {:until, began + duration})
    calls = for _ <- pids, do: receive(do: ({:calls, calls} -> calls))
    Enum.sum(calls) * 1000 / (System.monotonic_time(:millisecond) - began)
  end

  defp calls(call, until, count) do
    call.()

    if System.monotonic_time(:millisecond) < until,
      do: calls(call, until, count + 1),
      else: count + 1
  end
end
