defmodule Cybernetic.WASM.ExecutionTest do
  # Not async: it counts the node's live guests, and keeps its schedulers busy.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{CancelledError, Executor, LimitError, Runtime}

  setup :quiet_node

  defp spin(opts \\ []), do: Executor.call(compute(), "spin", [], forever(opts))

  describe "an endless guest is gone with its caller:" do
    for scheduling <- [:adaptive, :dirty, :inline], metering <- [:fuel, :epoch] do
      test "killed, on #{scheduling}, metered by #{metering}" do
        opts = [scheduling: unquote(scheduling), metering: unquote(metering)]

        opts = if unquote(metering) == :epoch, do: [timeout: never()] ++ opts, else: forever(opts)

        module = compute()
        {pid, monitor} = spawn_monitor(fn -> Executor.call(module, "spin", [], opts) end)
        until_live(1)
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
        quiet()
      end
    end

    test "by an exit signal of another reason" do
      {pid, monitor} = spawn_monitor(fn -> spin() end)
      until_live(1)
      Process.exit(pid, :over)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :over}
      quiet()
    end

    test "through a link" do
      {parent, monitor} =
        spawn_monitor(fn ->
          spawn_link(fn -> spin() end)
          receive do: (:end -> exit(:parent_is_gone))
        end)

      until_live(1)
      send(parent, :end)
      assert_receive {:DOWN, ^monitor, :process, ^parent, :parent_is_gone}
      quiet()
    end

    test "as a task that is shut down" do
      for how <- [:brutal_kill, 100] do
        task = Task.async(fn -> spin() end)
        until_live(1)
        assert Task.shutdown(task, how) == nil
        quiet()
      end

      assert mailbox() == []
    end

    test "as a task that its caller yields for in vain" do
      task = Task.async(fn -> spin() end)
      until_live(1)
      assert Task.yield(task, 0) == nil
      Task.shutdown(task, :brutal_kill)
      quiet()
    end

    test "in the middle of a host call" do
      test = self()
      imports = f(fn _ctx, _n -> send(test, :inside) && Process.sleep(:infinity) end)

      {pid, monitor} =
        spawn_monitor(fn ->
          Executor.call(calling(), "run", [1], forever(imports: imports))
        end)

      assert_receive :inside
      assert Runtime.stats().live_instances == 1
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, _, _, _}
      quiet()
    end

    test "by the score, and no CPU is burned after" do
      callers = for _ <- 1..16, do: spawn(fn -> spin() end)
      until_live(16)
      Enum.each(callers, &Process.exit(&1, :kill))
      quiet()
      until_idle()
      assert Runtime.stats().total_memory == 0
    end
  end

  test "a caller that traps exits gets the signal as a message, and its guest goes on" do
    test = self()
    imports = f(fn _ctx, n -> send(test, :inside) && n end)

    signalled = fn timeout ->
      caller =
        Task.async(fn ->
          Process.flag(:trap_exit, true)
          opts = forever(imports: imports, timeout: timeout)
          {Executor.call(calling(), "run_then_spin", [1], opts), mailbox()}
        end)

      receive do: (:inside -> Process.exit(caller.pid, :please)), after: (timeout -> :late)
      assert {{:error, %LimitError{limit: :timeout}}, messages} = await(caller)
      flush()
      messages
    end

    # Where the guest had the time to get so far, and was still there when the signal came.
    assert [{:EXIT, ^test, :please}] = given_time(&with([] <- signalled.(&1), do: nil))
  end

  describe "the caller's mailbox" do
    test "is as it was after anything that a call can end in" do
      send(self(), :mine)

      spin(timeout: 20)
      spin(fuel: 1_000)
      Executor.call(compute(), "fail")
      Executor.call(compute(), "process", [1], wait: 100)
      Executor.call(calling(), "run", [1], imports: f(fn _, _ -> raise "no" end))
      Executor.call(calling(), "run", [1], imports: f(fn _, n -> Process.sleep(5) && n end))
      Executor.call(compute(max_module_size: 1_000_000), "process", [1], max_stack: 70_000)
      Runtime.load_module({:bytes, unique()})
      Runtime.load_module({:bytes, "no"})

      # What would come late would come before the end of another one's deadline.
      quiet()
      spin(timeout: 20)
      assert mailbox() == [:mine]
    end

    test "may hold 100,000 other messages" do
      for n <- 1..100_000, do: send(self(), {:other, n})

      # A load waits for its compilation: its wake-up is behind all the others.
      for _ <- 1..50, do: assert({:ok, _} = Runtime.load_module({:bytes, unique()}))
      for n <- 1..200, do: assert(Executor.call(compute(), "process", [n]) == {:ok, 2 * n})

      assert Process.info(self(), :message_queue_len) == {:message_queue_len, 100_000}
      assert_received {:other, 1}
    end

    test "may hold messages that look like wake-ups" do
      send(self(), {make_ref(), :wake})
      assert {:ok, _} = Runtime.load_module({:bytes, unique()})
      assert [{_, :wake}] = mailbox()
    end
  end

  describe "while 8 endless guests run for each scheduler," do
    setup do
      count = 8 * System.schedulers_online()
      callers = for _ <- 1..count, do: spawn(fn -> spin() end)
      until_live(count)

      on_exit(fn ->
        Enum.each(callers, &Process.exit(&1, :kill))
        quiet()
      end)
    end

    test "short calls are served" do
      module = compute()
      for n <- 1..50, do: assert(Executor.call(module, "process", [n]) == {:ok, 2 * n})
    end

    test "short calls of each scheduling are served, and host calls" do
      for scheduling <- [:inline, :dirty, :adaptive] do
        opts = [scheduling: scheduling]
        assert Executor.call(compute(), "process", [1], opts) == {:ok, 2}
        opts = [imports: f(fn _, n -> n + 1 end)] ++ opts
        assert Executor.call(calling(), "run", [1], opts) == {:ok, 2}
      end
    end

    test "modules are loaded and deadlines strike" do
      assert {:ok, _} = Runtime.load_module({:bytes, unique()})

      # Late by waiting for a turn, never each time by seconds.
      eventually(fn ->
        assert {:error, %LimitError{limit: :timeout, used: used}} = spin(timeout: 50)
        used in 50..5_000
      end)
    end

    test "ordinary processes run" do
      assert Enum.reduce(1..2_000_000, 0, &+/2) == 2_000_001_000_000
      parent = self()

      echo =
        spawn_link(fn -> Enum.each(1..1_000, fn n -> receive do: (^n -> send(parent, n)) end) end)

      for n <- 1..1_000, do: send(echo, n) && assert_receive(^n)
    end

    test "timers fire" do
      for _ <- 1..20, do: Process.sleep(1)
      Process.send_after(self(), :fired, 10)
      assert_receive :fired
    end
  end

  test "endless guests on the normal schedulers leave room for others too" do
    # A call into the library counts as one reduction, however long it is: without telling the scheduler what a slice
    # took, each of these had 4,000 slices before another process had its turn, which froze the whole VM for minutes.
    count = 8 * System.schedulers_online()
    opts = forever(scheduling: :inline)
    guests = for _ <- 1..count, do: Executor.async(compute(), "spin", [], opts)
    until_live(count)

    turns = 50
    for _ <- 1..turns, do: :erlang.yield()
    for _ <- 1..20, do: Process.sleep(1)
    assert Executor.call(compute(), "process", [1]) == {:ok, 2}

    for guest <- guests do
      assert {:error, %CancelledError{usage: usage}} =
               Executor.cancel(guest, :enough, grace: never())

      assert usage.slices < 100 * turns
    end

    quiet()
  end

  test "many processes call at once" do
    module = compute()

    results =
      1..200
      |> Enum.map(fn n ->
        Task.async(fn -> for k <- 1..20, do: Executor.call!(module, "add", [n, k]) end)
      end)
      |> await()

    assert results == for(n <- 1..200, do: for(k <- 1..20, do: n + k))
  end

  test "more guests sleep in host calls than a pool has slots for" do
    test = self()
    imports = f(fn _ctx, n -> send(test, :inside) && receive(do: (:go -> n)) end)
    module = calling()

    callers =
      for n <- 1..1_500 do
        spawn(fn ->
          send(
            test,
            {:result, n, Executor.call(module, "run", [n], forever(imports: imports))}
          )
        end)
      end

    for _ <- callers, do: assert_receive(:inside)
    assert Runtime.stats().live_instances == 1_500
    Enum.each(callers, &send(&1, :go))
    for n <- 1..1_500, do: assert_receive({:result, ^n, {:ok, ^n}})
    quiet()
  end

  test "a deadline strikes in time, also for guests that come up for air rarely" do
    # Bulk memory, calls, arithmetic: whatever the guest does, a poll is short.
    module =
      load!(~S"""
      (module
        (memory 16)
        (func (export "fill")
          (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (br 0)))
        (func (export "divide") (local i64)
          (loop (local.set 0 (i64.div_u (i64.const -1) (i64.or (local.get 0) (i64.const 3)))) (br 0)))
        (func $r (param i32) (result i32)
          (if (result i32) (local.get 0)
            (then (call $r (i32.sub (local.get 0) (i32.const 1))))
            (else (i32.const 0))))
        (func (export "recurse") (loop (drop (call $r (i32.const 1000))) (br 0))))
      """)

    for name <- ["fill", "divide", "recurse"], scheduling <- [:adaptive, :inline] do
      opts = forever(timeout: 40, scheduling: scheduling)

      # On a busy machine it may be late all the same, but not each time.
      eventually(fn ->
        assert {:error, %LimitError{limit: :timeout, used: used}} =
                 Executor.call(module, name, [], opts)

        used in 40..1_000
      end)
    end
  end

  test "a wait for a place among the live guests that is not needed costs nothing" do
    assert Executor.call(compute(), "process", [1], wait: 60_000) == {:ok, 2}
    assert mailbox() == []
  end
end
