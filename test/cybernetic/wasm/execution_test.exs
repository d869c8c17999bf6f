defmodule Cybernetic.WASM.ExecutionTest do
  # Not async: it counts the node's live guests, and keeps its schedulers busy.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Executor, LimitError, Runtime}

  setup :quiet_node

  defp spin(opts \\ []), do: Executor.call(compute(), "spin", [], forever(opts))

  # CPU time of the whole VM, in milliseconds.
  defp cpu, do: :erlang.statistics(:runtime) |> elem(0)

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
      assert Task.yield(task, 50) == nil
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

      eventually(fn ->
        before = cpu()
        Process.sleep(100)
        cpu() - before < 50
      end)

      assert eventually(fn -> Runtime.stats().total_memory == 0 end)
    end
  end

  test "a caller that traps exits gets the signal as a message, and its guest goes on" do
    test = self()

    pid =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        send(test, :ready)
        result = spin(timeout: 300)
        send(test, {:result, result, mailbox()})
      end)

    assert_receive :ready
    Process.sleep(20)
    Process.exit(pid, :please)
    assert_receive {:result, {:error, %LimitError{limit: :timeout}}, messages}
    assert [{:EXIT, ^test, :please}] = messages
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

      Process.sleep(20)
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

      assert {:error, %LimitError{limit: :timeout, used: used}} = spin(timeout: 50)
      assert used < 5_000
    end

    test "ordinary processes run" do
      {microseconds, sum} = :timer.tc(fn -> Enum.reduce(1..2_000_000, 0, &+/2) end)
      assert sum == 2_000_001_000_000
      assert microseconds < 20_000_000

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
    # took, eight of these froze the whole VM for minutes.
    callers =
      for _ <- 1..(8 * System.schedulers_online()), do: spawn(fn -> spin(scheduling: :inline) end)

    until_live(length(callers))

    {microseconds, :ok} = :timer.tc(fn -> for(_ <- 1..20, do: Process.sleep(1)) && :ok end)
    assert microseconds < 20_000_000
    assert Executor.call(compute(), "process", [1]) == {:ok, 2}

    Enum.each(callers, &Process.exit(&1, :kill))
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
      opts = [timeout: 40, fuel: 100_000_000_000_000, scheduling: scheduling]

      assert {:error, %LimitError{limit: :timeout, used: used}} =
               Executor.call(module, name, [], opts)

      assert used in 40..1_000
    end
  end

  test "a wait for a place among the live guests that is not needed costs nothing" do
    assert Executor.call(compute(), "process", [1], wait: 60_000) == {:ok, 2}
    assert mailbox() == []
  end
end
