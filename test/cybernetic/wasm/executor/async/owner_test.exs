defmodule Cybernetic.WASM.Executor.Async.OwnerTest do
  # Whose end is a call's own end, and whose is not. Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Asyncs, Eventually, Guests, Plenty}
  import Cybernetic.WASM.Turns, only: [live: 1]
  import ExUnit.CaptureLog

  alias Cybernetic.WASM.{Executor, HostError, Instance}

  setup :quiet_node

  # Runs `function` in another process, which then waits until it is told how to end.
  defp owner(function) do
    test = self()

    pid =
      spawn(fn ->
        send(test, {:started, function.()})
        receive do: ({:end, how} -> how.())
      end)

    assert_receive {:started, async}
    {pid, async}
  end

  describe "a linked call goes with its owner:" do
    for {name, how} <- [
          killed: quote(do: Process.exit(self(), :kill)),
          crashed: quote(do: exit(:boom)),
          shut_down: quote(do: exit(:shutdown)),
          returned: :ok
        ] do
      test "#{name}" do
        how = fn -> unquote(how) end

        log =
          capture_log(fn ->
            {pid, async} = owner(&spin/0)
            until_live(1)
            send(pid, {:end, how})
            dead(async.pid)
            quiet()
          end)

        # The owner's end is its own affair: no task complains about it.
        refute log =~ "Task"
      end
    end

    test "also one whose host function blocks, or traps exits" do
      for also <- [fn -> :ok end, fn -> Process.flag(:trap_exit, true) end] do
        function = stuck(also)
        {pid, async} = owner(fn -> with_f(function, forever()) end)
        assert_receive {:inside, runner}
        Process.exit(pid, :kill)
        dead(async.pid)
        dead(runner)
        quiet()
      end
    end

    test "the `after` clauses of its host functions run" do
      function = spinning()
      {pid, _async} = owner(fn -> with_f(function, forever()) end)
      assert_receive :inside
      Process.exit(pid, :kill)
      assert_receive :cleaned_up
      quiet()
    end

    test "its process killed takes the owner along, unless it traps exits" do
      {pid, async} = owner(&spin/0)
      monitor = Process.monitor(pid)
      Process.exit(async.pid, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}

      Process.flag(:trap_exit, true)
      async = spin()
      Process.exit(async.pid, :kill)
      assert {:error, %HostError{kind: :exit, reason: :killed}} = Executor.await(async)
      assert mailbox() == [{:EXIT, async.pid, :killed}]
    end
  end

  describe "a call that is not linked" do
    test "goes on when its owner dies" do
      test = self()

      function = fn _ctx, n ->
        send(test, {:runner, self()})
        receive do: (:go -> send(test, {:went_on, n}))
        n
      end

      {pid, async} =
        owner(fn -> Executor.async_nolink(calling(), "run", [1], imports: f(function)) end)

      assert_receive {:runner, runner}
      Process.exit(pid, :kill)
      dead(pid)
      assert Process.alive?(async.pid)
      send(runner, :go)
      assert_receive {:went_on, 1}
      dead(async.pid)
    end

    test "whose owner is gone can be cancelled by anyone" do
      {pid, async} = owner(fn -> Executor.async_nolink(compute(), "spin", [], forever()) end)
      Process.exit(pid, :kill)
      dead(pid)
      assert Executor.cancel(async, :orphan) == :ok
      quiet()
    end
  end

  describe "a call whose process is killed from outside" do
    test "is gone, and awaiting it tells so" do
      for wait <- [&Executor.await/1, &Executor.yield(&1, :infinity), &Executor.cancel/1] do
        async = Executor.async_nolink(compute(), "spin", [], forever())
        until_live(1)
        Process.exit(async.pid, :kill)
        assert {:error, %HostError{kind: :exit, reason: :killed, import: nil}} = wait.(async)
        quiet()
      end

      assert mailbox() == []
    end

    test "is gone also when its host function blocks or traps exits" do
      # The process that drives the guest was only linked to the one that was killed, and a host function that had set
      # `trap_exit` lived on with its guest, without any deadline.
      for also <- [fn -> :ok end, fn -> Process.flag(:trap_exit, true) end] do
        async = Executor.async_nolink(calling(), "run", [1], forever(imports: f(stuck(also))))

        assert_receive {:inside, runner}
        Process.exit(async.pid, :kill)
        dead(runner)
        quiet()
        assert {:error, %HostError{reason: :killed}} = Executor.await(async)
      end
    end

    test "leaves its live instance poisoned, not busy" do
      instance = live(imports: f(stuck()))
      async = Executor.async_nolink(instance, "run", [0])
      assert_receive {:inside, _runner}
      Process.exit(async.pid, :kill)
      eventually(fn -> Instance.poisoned?(instance) end)
      assert :ok = Instance.reset(instance, wait: never())
      assert Instance.call(instance, "next") == {:ok, 1}
      assert {:error, %HostError{}} = Executor.await(async)
    end
  end
end
