defmodule Cybernetic.WASM.Executor.Async.DeadlineTest do
  # The deadline of an asynchronous call, whatever its host functions do. Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Asyncs, Eventually, Guests, Plenty}
  import Cybernetic.WASM.Turns, only: [live: 1]

  alias Cybernetic.WASM.{CancelledError, Executor, Instance, LimitError}

  setup :quiet_node

  describe "the deadline holds from outside" do
    test "where a host function sleeps for ever" do
      runner =
        given_time(fn timeout ->
          assert {:error, %LimitError{limit: :timeout, allowed: ^timeout, used: used}} =
                   Executor.await(with_f(stuck(), timeout: timeout))

          assert used >= timeout
          entered()
        end)

      refute Process.alive?(runner)
      quiet()
      assert mailbox() == []
    end

    test "where it traps exits, catches everything or computes for ever" do
      for function <- [
            fn _, _ -> {Process.flag(:trap_exit, true), Process.sleep(:infinity)} end,
            fn ctx, n -> catching(ctx, n) end,
            fn _, n -> endless(n) end
          ] do
        async = with_f(function, timeout: 30)
        assert {:error, %LimitError{limit: :timeout, allowed: 30}} = Executor.await(async)
        quiet()
      end

      assert mailbox() == []
    end

    test "on a live instance, which is then poisoned" do
      instance = live(imports: f(stuck()))

      given_time(fn timeout ->
        async = Executor.async(instance, "run", [0], timeout: timeout)
        assert {:error, %LimitError{limit: :timeout, allowed: ^timeout}} = Executor.await(async)
        entered()
      end)

      eventually(fn -> Instance.poisoned?(instance) end)
    end

    # The process of the host function, where the deadline left time to get there.
    defp entered do
      receive do: ({:inside, pid} -> pid), after: (0 -> nil)
    end

    test "and ends what the host function had linked to itself" do
      task = stuck_task()

      linked =
        given_time(fn timeout ->
          async = with_f(fn ctx, n -> ctx |> task.(n) |> await() end, timeout: timeout)
          assert {:error, %LimitError{limit: :timeout}} = Executor.await(async)
          receive do: ({:task, pid} -> pid), after: (0 -> nil)
        end)

      dead(linked)
    end

    test "while the call waits in line for a live instance" do
      {instance, holding, runner} = held_instance()

      waiting = Executor.async(instance, "next", [], wait: never(), timeout: 50)
      assert {:error, %LimitError{limit: :timeout, allowed: 50}} = Executor.await(waiting)

      send(runner, :go)
      assert Executor.await(holding) == {:ok, 0}
      # The one that waited had not touched it.
      refute Instance.poisoned?(instance)
    end

    test "also the longest that an option takes" do
      # The longest timeout and what is added to it is more than a `receive` can wait.
      longest = 4_294_967_295

      assert compute() |> Executor.async("process", [1], timeout: longest) |> Executor.await() ==
               {:ok, 2}

      sleeping = with_f(fn _ctx, n -> Process.sleep(20) && n end, timeout: longest)
      assert Executor.await(sleeping) == {:ok, 1}

      spinning = spin() |> then(fn async -> Executor.cancel(async, :x, grace: longest) end)
      assert {:error, %CancelledError{}} = spinning
    end
  end

  defp endless(n), do: endless(n + 1)
end
