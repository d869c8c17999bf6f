defmodule Cybernetic.WASM.Security.IdleCostTest do
  # An engine with its own ticker for each guest elsewhere: 200 guests took 854 GB of address space and 5 % of a core
  # while they did nothing.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, Instance, Runtime}

  setup :quiet_node

  test "200 guests of 200 modules share one engine" do
    compute()
    before = Runtime.stats().engines
    instances = for _ <- 1..200, do: unique() |> load!() |> Instance.new() |> elem(1)
    assert Runtime.stats().engines == before
    assert Enum.all?(instances, &match?({:ok, _}, Instance.call(&1, "number")))
  end

  test "nothing ticks where all is metered by fuel" do
    before = Runtime.stats().epoch_ticks
    settled = settled(&ticks/0)
    assert settled >= before

    for _ <- 1..100, do: Executor.call(compute(), "fib", [15])
    assert settled(&ticks/0) == settled
  end

  test "ticks stop when no guest that needs them runs" do
    module = compute(metering: :epoch)
    before = Runtime.stats().epoch_ticks
    Executor.call(module, "spin", [], timeout: 100)
    assert ticks() > before
    assert settled(&ticks/0) > before
  end

  test "waiting guests tick nothing" do
    module = calling()
    imports = f(fn _ctx, n -> receive(do: (:go -> n)) end)

    callers =
      for _ <- 1..50,
          do:
            Task.async(fn ->
              Executor.call(module, "run", [1], imports: imports, metering: :epoch)
            end)

    until_live(50)
    stopped = settled(&ticks/0)
    for _ <- 1..100, do: Process.sleep(1)
    assert ticks() == stopped
    Enum.each(callers, &send(&1.pid, :go))
    assert callers |> await() |> Enum.all?(&(&1 == {:ok, 1}))
  end

  defp ticks, do: Runtime.stats().epoch_ticks
end
