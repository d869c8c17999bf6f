defmodule Cybernetic.WASM.Bench.Fairness do
  # What an ordinary process and a short call feel of endless guests, two for each scheduler.

  alias Cybernetic.WASM.{Bench.Measure, Executor, Runtime}
  import Measure, only: [by: 2]

  def rows(effort) do
    samples = by(effort, full: 2_000, quick: 300, tiny: 10)
    alone = for {name, figures} <- feel(samples), do: {name <> ", nothing else", figures}
    guests = spin(2 * System.schedulers_online())

    beside =
      for {name, figures} <- feel(samples), do: {name <> ", beside endless guests", figures}

    began = System.monotonic_time()
    Enum.each(guests, &kill/1)
    killed = nanoseconds(System.monotonic_time() - began)
    alone ++ beside ++ [{"ending them all by Process.exit/2", [max_ns: killed]}]
  end

  defp feel(samples) do
    module = Runtime.load_module!("priv/wasm/compute.wasm")
    call = fn opts -> {:ok, 5} = Executor.call(module, "add", [2, 3], opts) end

    [
      {"1 ms timer, late by", times(samples, fn -> receive(after: (1 -> :ok)) end, 1_000_000)},
      {"short call, adaptive", times(samples, fn -> call.([]) end, 0)},
      {"short call, dirty", times(div(samples, 10), fn -> call.(scheduling: :dirty) end, 0)},
      {"first call of a function", first_calls(div(samples, 10))}
    ]
  end

  # Each export is a function of its own to the library, though all are the same one. The number makes the module a new one.
  defp first_calls(samples) do
    exports = for n <- 1..(samples + 10), do: ~s|(export "#{n}" (func $add))|

    module =
      Runtime.load_module!(
        {:bytes,
         """
         (module
           (func $add (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
           (func (drop (i32.const #{System.unique_integer([:positive])})))
           #{exports})
         """}
      )

    count = :counters.new(1, [])

    next = fn ->
      :counters.add(count, 1, 1)
      {:ok, 5} = Executor.call(module, "#{:counters.get(count, 1)}", [2, 3])
    end

    times(samples, next, 0)
  end

  defp times(samples, work, expected) do
    for _ <- 1..10, do: work.()

    Measure.percentiles(
      for _ <- 1..samples do
        began = System.monotonic_time()
        work.()
        nanoseconds(System.monotonic_time() - began) - expected
      end
    )
  end

  defp spin(count) do
    module = Runtime.load_module!("bench/guests/kernels.wasm")
    opts = [fuel: 1_000_000_000_000_000 |> div(10), timeout: 600_000]
    guests = for _ <- 1..count, do: spawn(fn -> Executor.call(module, "spin", [], opts) end)
    Process.sleep(100)
    guests
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  defp nanoseconds(native), do: System.convert_time_unit(native, :native, :nanosecond)
end
