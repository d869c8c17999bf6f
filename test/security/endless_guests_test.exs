defmodule Cybernetic.WASM.Security.EndlessGuestsTest do
  # As many endless guests as cores, and elsewhere no deadline ever struck again and every unrelated instance hung: the
  # ticker ran on the threads that the guests held. One guest's time-out also interrupted all that shared its engine.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, LimitError}

  for metering <- [:fuel, :epoch] do
    test "every deadline strikes, metered by #{metering}" do
      module = compute(metering: unquote(metering))
      fuel = if unquote(metering) == :fuel, do: [fuel: 100_000_000_000_000], else: []
      count = 4 * System.schedulers_online()

      results =
        1..count
        |> Enum.map(fn n ->
          Task.async(fn -> Executor.call(module, "spin", [], [timeout: 100 + n] ++ fuel) end)
        end)
        |> await()

      for result <- results do
        assert {:error, %LimitError{limit: :timeout, allowed: allowed, used: used}} = result
        # Late by waiting for a turn on the cores, never by seconds.
        assert used >= allowed and used < allowed + 5_000
      end
    end

    test "one guest's time-out leaves others alone, metered by #{metering}" do
      module = compute(metering: unquote(metering))
      working = Task.async(fn -> Executor.call(module, "fib", [31], timeout: 60_000) end)

      for _ <- 1..10 do
        assert {:error, %LimitError{limit: :timeout}} =
                 Executor.call(module, "spin", [], timeout: 5)
      end

      assert await(working) == {:ok, 1_346_269}
    end
  end

  test "a guest out of fuel leaves others alone" do
    module = compute()
    working = Task.async(fn -> Executor.call(module, "fib", [31], timeout: 60_000) end)

    for _ <- 1..100 do
      assert {:error, %LimitError{limit: :fuel}} =
               Executor.call(module, "spin", [], fuel: 100_000)
    end

    assert await(working) == {:ok, 1_346_269}
  end

  test "no limit named at all, and an endless guest still ends: there is a default fuel" do
    assert {:error, %LimitError{limit: limit}} = Executor.call(compute(), "spin")
    assert limit in [:fuel, :timeout]
  end

  test "a long guest does not stall the VM: a timer of another process is served meanwhile" do
    test = self()
    quiet()

    guests =
      for scheduling <- [:inline, :adaptive, :dirty] do
        spawn(fn ->
          Executor.call(compute(), "spin", [],
            scheduling: scheduling,
            timeout: 600_000,
            fuel: 100_000_000_000_000
          )
        end)
      end

    until_live(3)

    spawn_link(fn ->
      for n <- 1..100 do
        Process.sleep(1)
        send(test, {:tick, n})
      end
    end)

    for n <- 1..100, do: assert_receive({:tick, ^n})
    Enum.each(guests, &Process.exit(&1, :kill))
    quiet()
  end
end
