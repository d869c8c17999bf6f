defmodule Cybernetic.WASM.Executor.Async.AwaitTest do
  # What an asynchronous call gives, and to whom. Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Asyncs, Eventually, Guests, Plenty}
  import Cybernetic.WASM.Turns, only: [live: 0]

  alias Cybernetic.WASM.{Executor, Host, Instance, Run, Usage}
  alias Cybernetic.WASM.{CallError, CancelledError, HostError, LimitError, LinkError, TrapError}

  setup :quiet_node

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

    test "is for no server's pid or name: it is said how to call its instance" do
      name = :"#{__MODULE__}.server"
      pid = start_supervised!({Instance, module: compute(), name: name})

      for server <- [pid, name, {:global, name}, {:via, Registry, {name, 1}}],
          start <- [&Executor.async/3, &Executor.async_nolink/3, &Executor.stream/3] do
        error = assert_raise ArgumentError, fn -> start.(server, "process", [1]) end
        assert error.message =~ "with Cybernetic.WASM.Instance.call/4, in a Task"
        assert error.message =~ "Cybernetic.WASM.Instance.borrow/3"
      end

      for none <- [nil, true, %{}, 1] do
        assert_raise ArgumentError, ~r/load it first/, fn ->
          Executor.async(none, "process", [1])
        end
      end

      # As it says.
      assert Instance.borrow(pid, &(&1 |> Executor.async("process", [21]) |> Executor.await())) ==
               {:ok, 42}

      task = Task.async(fn -> Instance.call(name, "process", [21]) end)
      assert Task.await(task, :infinity) == {:ok, 42}
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

  # What becomes of a call of a host function, begun by `start`.
  defp outcome(start, function) do
    args = [calling(), "run", [1], [imports: f(function)]]
    Executor |> apply(start, args) |> Executor.await()
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
                   outcome(unquote(start), function)

          assert error.usage.host_calls == 1
          if kind == :error, do: assert([_ | _] = error.stacktrace)
        end

        assert mailbox() == []
      end

      test "a host function that ends its own process, with #{start}" do
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
                   outcome(unquote(start), function)

          assert Exception.message(error) =~ "the process that ran the call ended"
        end

        assert mailbox() == []
        quiet()
      end
    end

    test "an instance that is busy, poisoned or closed" do
      {instance, holding, runner} = held_instance()
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
        start.(%{}, "process", [1], [])
      end

      # On an instance limits only narrow, and its engine is what it is.
      assert_raise ArgumentError, ~r/unknown option of a call on an instance :metering/, fn ->
        start.(live(), "next", [], metering: :epoch)
      end
    end

    assert mailbox() == []
  end
end
