defmodule Cybernetic.WASM.Security.EndlessGuestsTest do
  # As many endless guests as cores, and elsewhere no deadline ever struck again and every unrelated instance hung: the
  # ticker ran on the threads that the guests held. One guest's time-out also interrupted all that shared its engine.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Executor, LimitError}

  for metering <- [:fuel, :epoch] do
    test "every deadline strikes, metered by #{metering}" do
      module = compute(metering: unquote(metering))
      fuel = if unquote(metering) == :fuel, do: [fuel: plenty()], else: []
      count = 4 * System.schedulers_online()

      spin = &Task.async(fn -> Executor.call(module, "spin", [], [timeout: 100 + &1] ++ fuel) end)

      # Late by waiting for a turn on the cores, never each time by seconds.
      eventually(fn ->
        late =
          for result <- 1..count |> Enum.map(spin) |> await() do
            assert {:error, %LimitError{limit: :timeout, allowed: allowed, used: used}} = result
            assert used >= allowed
            used - allowed
          end

        Enum.max(late) < 5_000
      end)
    end

    test "one guest's time-out leaves others alone, metered by #{metering}" do
      module = compute(metering: unquote(metering))
      assert_left_alone(module, 10, :timeout, timeout: 5)
    end
  end

  test "a guest out of fuel leaves others alone",
    do: assert_left_alone(compute(), 100, :fuel, fuel: 100_000)

  # A guest of the same module works while so many others meet the limit.
  defp assert_left_alone(module, count, limit, opts) do
    working = Task.async(fn -> Executor.call(module, "fib", [31], timeout: never()) end)

    for _ <- 1..count do
      assert {:error, %LimitError{limit: ^limit}} = Executor.call(module, "spin", [], opts)
    end

    assert await(working) == {:ok, 1_346_269}
  end

  test "no limit named at all, and an endless guest still ends: there is a default fuel" do
    assert {:error, %LimitError{limit: limit}} = Executor.call(compute(), "spin")
    assert limit in [:fuel, :timeout]
  end

  test "a long guest does not stall the VM: a timer of another process is served meanwhile" do
    test = self()
    quiet_node()

    guests =
      for scheduling <- [:inline, :adaptive, :dirty] do
        spawn(fn ->
          Executor.call(compute(), "spin", [], forever(scheduling: scheduling))
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
