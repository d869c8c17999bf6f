defmodule Cybernetic.WASM.Executor.AsyncTest do
  # Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Asyncs, Eventually, Guests, Plenty}
  import Cybernetic.WASM.Streams, only: [standing_still?: 1]
  import Cybernetic.WASM.Turns, only: [live: 0, live: 1]
  import ExUnit.CaptureLog

  alias Cybernetic.WASM.{Executor, FreshNode, Host, Instance, Run, Usage}
  alias Cybernetic.WASM.{CallError, CancelledError, HostError, LimitError, LinkError, TrapError}

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

  describe "a call in a process of its own" do
    test "gives what call/4 gives" do
      for {name, args} <- [{"process", [21]}, {"add", [1, 2]}, {"div_mod", [17, 5]}] do
        expected = Executor.call(compute(), name, args)

        for start <- [&Executor.async/3, &Executor.async_nolink/3],
            wait <- [&Executor.await/1, &Executor.yield(&1, :infinity)] do
          assert wait.(start.(compute(), name, args)) == expected
        end
      end

      nothing = load!(~s|(module (func (export "f")))|)
      assert nothing |> Executor.async("f") |> Executor.await() == {:ok, nil}
    end

    test "runs on a live instance and keeps its state there" do
      instance = live()
      assert instance |> Executor.async("next") |> Executor.await() == {:ok, 1}
      assert instance |> Executor.async_nolink("next") |> Executor.await() == {:ok, 2}
      assert Instance.call(instance, "next") == {:ok, 3}
    end

    test "gives a run with output and usage if asked" do
      imports = f(fn ctx, n -> Host.emit(ctx, "seen") && n + 1 end)

      for target <- [calling(), Instance.new!(calling(), imports: imports)] do
        async = Executor.async(target, "run", [1], imports: imports, run: true)

        assert {:ok, %Run{result: 2, output: "seen", usage: %Usage{host_calls: 1}}} =
                 Executor.await(async)
      end

      async = Executor.async(compute(), "process", [1], run: false)
      assert Executor.await(async) == {:ok, 2}
    end

    test "runs its host functions there, with the caller among the callers" do
      test = self()
      async = with_f(fn _ctx, n -> send(test, {self(), Process.get(:"$callers")}) && n end)
      assert Executor.await(async) == {:ok, 1}
      assert_received {runner, [^test]}
      refute runner in [test, async.pid]

      # Callers of callers too: what an Ecto sandbox looks for may be further up.
      elsewhere(fn ->
        async = with_f(fn _ctx, n -> send(test, Process.get(:"$callers")) && n end)
        Executor.await(async)
      end)

      assert_received [_task, ^test]
    end

    test "takes data: and the other options of a call along" do
      async = with_f(fn ctx, n -> n + Host.data(ctx) end, data: 41, scheduling: :dirty, wait: 10)
      assert Executor.await(async) == {:ok, 42}
    end

    test "is one of many, awaited in any order" do
      asyncs = for n <- 1..100, do: {n, Executor.async(compute(), "process", [n])}

      for {n, async} <- Enum.shuffle(asyncs),
          do: assert(Executor.await(async) == {:ok, 2 * n})

      assert mailbox() == []
    end

    test "shows no reference when it is inspected" do
      async = Executor.async(compute(), "process", [1])
      assert inspect(async) =~ ~r/\A#Cybernetic\.WASM\.Executor\.Async<#PID<[\d.]+>>\z/
      Executor.await(async)
    end
  end

  describe "yield" do
    test "gives nil until there is a result" do
      async = with_f(held())
      assert_receive {:inside, runner}
      assert Executor.yield(async, 10) == nil
      assert Executor.yield(async, 0) == nil
      send(runner, :go)
      dead(async.pid)
      assert Executor.yield(async) == {:ok, 1}
      assert mailbox() == []
    end
  end

  describe "await" do
    test "that times out exits, as Task.await/2 does, and its call can still be cancelled" do
      async = Executor.async_nolink(compute(), "spin", [], forever())
      exited = catch_exit(Executor.await(async, 10))
      assert exited == {:timeout, {Executor, :await, [async, 10]}}
      assert Executor.cancel(async) == :ok
      quiet()
      assert mailbox() == []
    end

    test "that times out lets the result go: it does not turn up later" do
      async = with_f(held())
      assert_receive {:inside, runner}
      catch_exit(Executor.await(async, 1))
      send(runner, :go)
      dead(async.pid)
      assert mailbox() == []
    end

    test "is for the process that started the call" do
      async = spin()
      test = self()

      spawn_link(fn ->
        for wait <- [&Executor.await/1, &Executor.yield/1] do
          send(test, {:raised, assert_raise(ArgumentError, fn -> wait.(async) end)})
        end
      end)

      for _ <- 1..2 do
        assert_receive {:raised, error}
        assert error.message =~ "must be queried from the owner"
      end

      Executor.cancel(async)
    end

    test "and yield are not for a stream that is sent to a process, and demand is for nothing else" do
      {:ok, stream} = Executor.stream(compute(), "spin", [], forever(into: self()))

      for wait <- [&Executor.await/1, &Executor.yield/1] do
        assert_raise ArgumentError, ~r/started with into: sends its result/, fn ->
          wait.(stream)
        end
      end

      assert Executor.cancel(stream) == :ok
      assert_receive {_ref, {:failed, %CancelledError{}}}

      async = spin()
      assert_raise ArgumentError, ~r/with into:/, fn -> Executor.demand(async) end
      Executor.cancel(async)
    end
  end

  describe "what fails is a result and no crash:" do
    for start <- [:async, :async_nolink] do
      test "the caller's mistakes, with #{start}" do
        start = &apply(Executor, unquote(start), [&1, &2, &3, &4])
        await = &Executor.await/1

        assert {:error, %CallError{reason: :no_such_export}} =
                 await.(start.(compute(), "nothing", [], []))

        assert {:error, %CallError{reason: :arity}} = await.(start.(compute(), "add", [1], []))
        assert {:error, %CallError{reason: :type}} = await.(start.(compute(), "add", [1, :a], []))

        assert {:error, %LinkError{problems: [%{name: "f"}]}} =
                 await.(start.(calling(), "run", [1], []))

        assert mailbox() == []
      end

      test "traps and limits, with #{start}" do
        result = fn name, args, opts ->
          Executor |> apply(unquote(start), [compute(), name, args, opts]) |> Executor.await()
        end

        assert {:error, %TrapError{code: :unreachable}} = result.("fail", [], [])
        assert {:error, %LimitError{limit: :stack}} = result.("recurse", [], [])

        assert {:error, %LimitError{limit: :memory}} = result.("process", [1], max_memory: 1_000)

        assert {:error, %LimitError{limit: :fuel, usage: %Usage{}}} =
                 result.("spin", [], fuel: 1_000)

        assert {:error, %LimitError{limit: :timeout, allowed: 20, usage: %Usage{}}} =
                 result.("spin", [], forever(timeout: 20))

        assert mailbox() == []
      end

      test "what a host function does, with #{start}" do
        start = fn function ->
          apply(Executor, unquote(start), [calling(), "run", [1], [imports: f(function)]])
        end

        for {function, kind, reason} <- [
              {fn _, _ -> raise "no" end, :error, %RuntimeError{message: "no"}},
              {fn _, _ -> exit(:over) end, :exit, :over},
              {fn _, _ -> exit(:normal) end, :exit, :normal},
              {fn _, _ -> exit(:shutdown) end, :exit, :shutdown},
              {fn _, _ -> exit({:shutdown, :x}) end, :exit, {:shutdown, :x}},
              {fn _, _ -> exit(:kill) end, :exit, :kill},
              {fn _, _ -> throw(:ball) end, :throw, :ball},
              {fn ctx, _ -> Host.trap(ctx, :refused) end, :trap, :refused}
            ] do
          assert {:error, %HostError{kind: ^kind, reason: ^reason, import: {"env", "f"}} = error} =
                   function |> start.() |> Executor.await()

          assert error.usage.host_calls == 1
          if kind == :error, do: assert([_ | _] = error.stacktrace)
        end

        assert mailbox() == []
      end

      test "a host function that ends its own process, with #{start}" do
        start = fn function ->
          apply(Executor, unquote(start), [calling(), "run", [1], [imports: f(function)]])
        end

        for {function, reason} <- [
              {fn _, _ -> Process.exit(self(), :kill) end, :killed},
              {fn _, _ -> Process.exit(self(), :boom) && Process.sleep(:infinity) end, :boom},
              {fn _, _ -> Process.exit(self(), :normal) && Process.sleep(:infinity) end, :normal},
              {fn _, _ -> spawn_link(fn -> exit(:linked) end) && Process.sleep(:infinity) end,
               :linked},
              {fn _, _ ->
                 Process.flag(:trap_exit, true)
                 Process.exit(self(), :kill)
               end, :killed}
            ] do
          assert {:error, %HostError{kind: :exit, reason: ^reason, import: nil} = error} =
                   function |> start.() |> Executor.await()

          assert Exception.message(error) =~ "the process that ran the call ended"
        end

        assert mailbox() == []
        quiet()
      end
    end

    test "an instance that is busy, poisoned or closed" do
      instance = live(imports: f(held()))
      holding = Executor.async(instance, "run", [0])
      assert_receive {:inside, runner}
      next = fn -> instance |> Executor.async("next") |> Executor.await() end

      assert {:error, %CallError{reason: :busy}} = next.()
      waiting = Executor.async(instance, "next", [], wait: never())
      send(runner, :go)
      assert Executor.await(holding) == {:ok, 0}
      assert Executor.await(waiting) == {:ok, 1}

      assert {:error, %TrapError{}} = instance |> Executor.async("fail") |> Executor.await()
      assert {:error, %CallError{reason: :poisoned}} = next.()
      :ok = Instance.close(instance)
      assert {:error, %CallError{reason: :closed}} = next.()
    end
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
      instance = live(imports: f(held()))
      holding = Executor.async(instance, "run", [0])
      assert_receive {:inside, runner}

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

  describe "cancel ends" do
    for scheduling <- [:adaptive, :dirty, :inline], metering <- [:fuel, :epoch] do
      test "an endless guest, on #{scheduling}, metered by #{metering}" do
        fuel = if unquote(metering) == :fuel, do: [fuel: plenty()], else: []
        opts = [scheduling: unquote(scheduling), metering: unquote(metering), timeout: never()]
        async = Executor.async(compute(), "spin", [], opts ++ fuel)
        until_live(1)

        assert {:error, %CancelledError{reason: :enough} = error} =
                 Executor.cancel(async, :enough, grace: never())

        assert %Usage{slices: slices, wall_time: wall_time} = error.usage
        assert slices > 0 and wall_time > 0
        assert error.blame == :caller
        assert Exception.message(error) == "the call was cancelled: :enough"
        refute Process.alive?(async.pid)
        quiet()
        assert mailbox() == []
      end
    end

    test "a guest in a re-entrant call: the host function's `after` clause runs" do
      async = with_f(spinning(), forever())
      assert_receive :inside

      assert {:error, %CancelledError{reason: :cancelled, usage: %Usage{host_calls: 1}}} =
               Executor.cancel(async, :cancelled, grace: never())

      assert_received :cleaned_up
      refute_received :went_on
      quiet()
    end

    test "guest and host many levels deep, the innermost first" do
      test = self()

      function = fn
        ctx, 0 ->
          send(test, :inside)
          Host.call(ctx, "spin")

        ctx, n ->
          try do
            Host.call(ctx, "run", [n - 1])
          after
            send(test, {:cleaned_up, n})
          end
      end

      async = Executor.async(calling(), "run", [20], forever(imports: f(function)))
      assert_receive :inside
      assert {:error, %CancelledError{}} = Executor.cancel(async, :x, grace: never())
      assert mailbox() == for(n <- 1..20, do: {:cleaned_up, n})
      quiet()
    end

    test "a host function that blocks, when its grace time is over" do
      for grace <- [0, 50] do
        async = with_f(stuck(), forever())
        assert_receive {:inside, runner}

        assert {:error, %CancelledError{reason: :late, usage: nil}} =
                 Executor.cancel(async, :late, grace: grace)

        refute Process.alive?(runner)
        quiet()
      end

      assert mailbox() == []
    end

    test "a host function that catches what should end it, when its grace time is over" do
      async = with_f(&catching/2, forever())
      until_live(1)
      assert {:error, %CancelledError{reason: :x}} = Executor.cancel(async, :x, grace: 50)
      quiet()
    end

    test "a host function that blocks but returns in its grace time, with the usage" do
      async = with_f(held(), forever())
      assert_receive {:inside, runner}
      canceller = Task.async(fn -> Executor.cancel(async, :x, grace: never()) end)
      # It is told by the time that it has a message of it.
      eventually(fn -> Process.info(runner, :message_queue_len) == {:message_queue_len, 1} end)
      send(runner, :go)
      assert await(canceller) == :ok
      assert {:error, %CancelledError{usage: %Usage{host_calls: 1}}} = Executor.await(async)
      quiet()
    end

    test "an asynchronous host function at once, with its task" do
      async = with_f({stuck_task(), async: true}, forever())

      assert_receive {:task, task}

      assert {:error, %CancelledError{usage: %Usage{}}} =
               Executor.cancel(async, :x, grace: never())

      refute Process.alive?(task)
      quiet()
    end

    test "one that awaits a message at once" do
      test = self()
      function = fn _ctx, _n -> send(test, :inside) && {:await, make_ref()} end

      async = with_f({function, async: true}, forever())

      assert_receive :inside
      assert {:error, %CancelledError{reason: :x}} = Executor.cancel(async, :x, grace: never())
      quiet()
    end

    test "an asynchronous host function that waits inside a re-entrant call" do
      test = self()

      function = fn
        _ctx, 0 ->
          send(test, :inside)
          {:await, make_ref()}

        ctx, n ->
          try do
            Host.call(ctx, "run", [n - 1])
          after
            send(test, {:cleaned_up, n})
          end
      end

      async = Executor.async(calling(), "run", [2], forever(imports: f({function, async: true})))

      assert_receive :inside
      assert {:error, %CancelledError{reason: :x}} = Executor.cancel(async, :x, grace: never())
      assert_received {:cleaned_up, 1}
      assert_received {:cleaned_up, 2}
      quiet()
    end

    test "a start function that loops" do
      module = load!(~S|(module (func $s (loop (br 0))) (start $s) (func (export "run")))|)
      async = Executor.async(module, "run", [], forever())
      until_live(1)
      assert {:error, %CancelledError{}} = Executor.cancel(async, :x, grace: never())
      quiet()
    end

    test "a start function that loops in a module that the called one imports from" do
      # What cancels the call did not know of the modules that are linked before it.
      library =
        load!(~S"""
        (module (func $s (loop (br 0))) (start $s) (func (export "g") (result i32) (i32.const 1)))
        """)

      module =
        load!(~S"""
        (module (import "library" "g" (func $g (result i32)))
          (func (export "run") (result i32) (call $g)))
        """)

      opts = forever(imports: %{"library" => library})
      async = Executor.async(module, "run", [], opts)
      until_live(1)

      assert {:error, %CancelledError{usage: %Usage{}}} =
               Executor.cancel(async, :x, grace: never())

      quiet()
    end

    test "a call that waits in line for a live instance, and leaves that as it was" do
      instance = live(imports: f(held()))
      holding = Executor.async(instance, "run", [0])
      assert_receive {:inside, runner}

      waiting = Executor.async(instance, "next", [], wait: never())
      eventually(fn -> standing_still?(waiting) end)
      assert Executor.yield(waiting, 0) == nil
      assert {:error, %CancelledError{}} = Executor.cancel(waiting, :x, grace: never())

      send(runner, :go)
      assert Executor.await(holding) == {:ok, 0}
      # Its place in the line is given up a little later, by another thread.
      assert Instance.call(instance, "next", [], wait: never()) == {:ok, 1}
    end

    test "a call that waits for a place among the node's guests" do
      code = ~S"""
      {:ok, module} = Runtime.load_module({:bytes, ~s|(module (func (export "spin") (loop (br 0))))|})
      opts = [fuel: 100_000_000_000_000, timeout: 600_000, wait: 600_000]
      running = Executor.async(module, "spin", [], opts)
      until_live(1)
      waiting = Executor.async(module, "spin", [], opts)
      eventually(fn -> Cybernetic.WASM.Streams.standing_still?(waiting) end)
      nil = Executor.yield(waiting, 0)
      {:error, first} = Executor.cancel(waiting, :first, grace: 600_000)
      {:error, second} = Executor.cancel(running, :second, grace: 600_000)
      {first.reason, second.reason}
      """

      assert FreshNode.eval([max_live_instances: 1], code) == {:first, :second}
    end

    test "a guest before it has begun, at any moment of its beginning" do
      for _ <- 1..300 do
        assert {:error, %CancelledError{reason: :x}} = Executor.cancel(spin(), :x, grace: never())
      end

      quiet()
      assert mailbox() == []
    end

    test "what a live instance was doing: it is poisoned, and can be reset" do
      instance = live()
      assert Instance.call(instance, "next") == {:ok, 1}
      async = Executor.async(instance, "spin")
      eventually(fn -> match?({:error, %{reason: :busy}}, Instance.get_global(instance, "n")) end)
      assert {:error, %CancelledError{}} = Executor.cancel(async, :x, grace: never())
      eventually(fn -> Instance.poisoned?(instance) end)
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, "next")
      assert :ok = Instance.reset(instance)
      assert Instance.call(instance, "next") == {:ok, 1}
    end
  end

  describe "cancel gives" do
    test "the result where there is one already" do
      async = Executor.async(compute(), "process", [1])
      dead(async.pid)
      assert Executor.cancel(async) == {:ok, 2}

      async = Executor.async(compute(), "fail")
      dead(async.pid)
      assert {:error, %TrapError{}} = Executor.cancel(async)

      async = Executor.async(calling(), "run", [1])
      assert {:error, %LinkError{}} = Executor.cancel(async)
      assert mailbox() == []
    end

    test ":ok a second time, and after the result was taken" do
      # It waited for a result that had been taken, for ever.
      async = spin()
      assert {:error, %CancelledError{}} = Executor.cancel(async)
      assert Executor.cancel(async) == :ok
      assert Executor.cancel(async, :again, grace: 0) == :ok

      async = Executor.async(compute(), "process", [1])
      assert Executor.await(async) == {:ok, 2}
      assert Executor.cancel(async) == :ok
      assert mailbox() == []
    end

    test ":ok in another process, once the call has ended; the owner's await has the reason" do
      async = spin()
      until_live(1)

      other =
        Task.async(fn ->
          {Executor.cancel(async, {:by, 2}, grace: never()), Process.alive?(async.pid)}
        end)

      assert {:error, %CancelledError{reason: {:by, 2}, usage: %Usage{}}} = Executor.await(async)
      assert await(other) == {:ok, false}
      assert mailbox() == []
    end

    test "each of many that cancel at once its answer: the first one's reason counts" do
      async = spin()

      others = for n <- 1..20, do: Task.async(fn -> Executor.cancel(async, n) end)

      assert Enum.all?(await(others), &(&1 == :ok))
      assert {:error, %CancelledError{reason: reason}} = Executor.await(async)
      assert reason in 1..20
    end

    test "any reason back as it was" do
      for reason <- [
            nil,
            false,
            "text",
            make_ref(),
            self(),
            [1 | 2],
            %{a: {1, 2.5}},
            &is_atom/1,
            fn -> reasonable() end,
            :rand.bytes(1_000_000),
            Enum.to_list(1..10_000)
          ] do
        assert {:error, %CancelledError{reason: ^reason} = error} =
                 Executor.cancel(spin(), reason)

        assert String.length(Exception.message(error)) < 400
      end
    end

    test "nothing good to a host function that cancels its own call: it is killed after the grace time" do
      test = self()

      function = fn _ctx, _n ->
        send(test, {:runner, self()})
        receive do: ({:async, async} -> Executor.cancel(async, :myself, grace: 50))
        send(test, :went_on)
      end

      async = with_f(function, forever())
      assert_receive {:runner, runner}
      send(runner, {:async, async})
      assert {:error, %CancelledError{reason: :myself, usage: nil}} = Executor.await(async)
      refute_received :went_on
    end

    test "mistakes in its options to its caller, and the call goes on" do
      async = with_f(held(), forever())
      assert_receive {:inside, _runner}

      for {opts, words} <- [
            {[gracetime: 1],
             "unknown option of cancel/3 :gracetime (did you mean :grace?); known are: :grace"},
            {[grace: -1], "milliseconds"},
            {[grace: :infinity], "milliseconds"},
            {[grace: 4_294_967_296], "milliseconds"},
            {:now, "keyword list"}
          ] do
        error = assert_raise ArgumentError, fn -> Executor.cancel(async, :x, opts) end
        assert error.message =~ words
      end

      assert Executor.yield(async, 0) == nil
      assert {:error, %CancelledError{}} = Executor.cancel(async, :x, grace: 0)
    end
  end

  defp reasonable, do: :reason

  test "cancelling one call leaves others of the same module alone" do
    module = compute()
    working = Executor.async(module, "fib", [27], forever())
    for _ <- 1..20, do: Executor.cancel(Executor.async(module, "spin", [], forever()))
    assert Executor.await(working) == {:ok, 196_418}
  end

  test "what is wrong with the options is raised in the caller at once" do
    for start <- [&Executor.async/4, &Executor.async_nolink/4] do
      for {opts, words} <- [
            {[time_out: 1],
             "unknown call option :time_out (did you mean :timeout?); known are: :imports"},
            {[run: 1], "option :run must be true or false, got: 1"},
            {[timeout: 0], "option :timeout must be"},
            {[grace: 1], "unknown call option :grace"},
            {[tagged: true], "unknown call option :tagged"},
            {[imports: [1]], "option :imports must be"},
            {:none, "must be a keyword list"}
          ] do
        error = assert_raise ArgumentError, fn -> start.(compute(), "process", [1], opts) end
        assert error.message =~ words
      end

      assert_raise ArgumentError, ~r/name must be a string/, fn ->
        start.(compute(), :process, [1], [])
      end

      assert_raise ArgumentError, ~r/arguments must be a proper list/, fn ->
        start.(compute(), "process", 1, [])
      end

      assert_raise ArgumentError, ~r/load it first/, fn ->
        start.("compute.wasm", "process", [1], [])
      end

      # On an instance limits only narrow, and its engine is what it is.
      assert_raise ArgumentError, ~r/unknown option of a call on an instance :metering/, fn ->
        start.(live(), "next", [], metering: :epoch)
      end
    end

    assert mailbox() == []
  end

  test "a hundred calls that are cancelled, killed and awaited at random leave nothing" do
    :rand.seed(:exsss, 11)
    function = fn ctx, n -> Host.call(ctx, "double", [n]) |> elem(1) end
    opts = forever(imports: f(function))

    for _ <- 1..100 do
      name = Enum.random(["spin", "run"])
      args = if name == "run", do: [1], else: []
      async = Executor.async_nolink(calling(), name, args, opts)
      if :rand.uniform(2) == 1, do: Process.sleep(:rand.uniform(3) - 1)

      case :rand.uniform(3) do
        1 -> Executor.cancel(async, :x, grace: Enum.random([0, 1, 1_000]))
        2 -> Process.exit(async.pid, :kill) && Executor.await(async)
        3 -> Executor.yield(async, 1) || Executor.cancel(async)
      end
    end

    quiet()
    assert mailbox() == []
    eventually(fn -> Task.Supervisor.children(Cybernetic.WASM.TaskSupervisor) == [] end)
  end
end
