defmodule Cybernetic.WASM.Executor.Async.CancelTest do
  # What cancelling ends, and what it gives. Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Asyncs, Eventually, Guests, Plenty}
  import Cybernetic.WASM.Streams, only: [standing_still?: 1]
  import Cybernetic.WASM.Turns, only: [live: 0, until_running: 1]

  alias Cybernetic.WASM.{Executor, FreshNode, Host, Instance, Usage}
  alias Cybernetic.WASM.{CallError, CancelledError, LinkError, TrapError}

  setup :quiet_node

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
      function = descending(&Host.call(&1, "spin"))
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
      function = descending(fn _ctx -> {:await, make_ref()} end)
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
      {instance, holding, runner} = held_instance()

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
      until_running(instance)
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
