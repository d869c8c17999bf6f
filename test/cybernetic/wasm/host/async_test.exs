defmodule Cybernetic.WASM.Host.AsyncTest do
  # Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Turns}

  alias Cybernetic.WASM.{Executor, Host, Instance, Run, Runtime}
  alias Cybernetic.WASM.{CallError, HostError, LimitError, LinkError}

  # Crashes of tasks that are meant to crash.
  @moduletag :capture_log

  setup do
    start_supervised!({Task.Supervisor, name: __MODULE__.Tasks})
    quiet_node()
    :ok
  end

  defp async(function), do: f({function, async: true})

  defp run(function, opts \\ []),
    do: Executor.call(calling(), "run", [1], [imports: async(function)] ++ opts)

  defp nolink(function), do: Task.Supervisor.async_nolink(__MODULE__.Tasks, function)

  describe "an asynchronous host function" do
    test "returns a task, whose result is the function's" do
      assert run(fn _ctx, n -> Task.async(fn -> n + 1 end) end) == {:ok, 2}
      assert run(fn _ctx, n -> nolink(fn -> n + 2 end) end) == {:ok, 3}

      slow = fn _ctx, n -> Task.async(fn -> Process.sleep(20) && n + 3 end) end

      for scheduling <- [:adaptive, :dirty, :inline],
          do: assert(run(slow, scheduling: scheduling) == {:ok, 4})

      finished = fn _ctx, n ->
        task = Task.async(fn -> n + 4 end)
        dead(task.pid)
        task
      end

      assert run(finished) == {:ok, 5}
      assert mailbox() == []
    end

    test "returns a reference, for whose message the guest waits" do
      test = self()

      echo =
        spawn_link(fn ->
          receive do:
                    ({from, reference, value} ->
                       Process.sleep(10) && send(from, {reference, value}))
        end)

      assert test == self()

      function = fn _ctx, n ->
        reference = make_ref()
        send(echo, {self(), reference, n * 10})
        {:await, reference}
      end

      assert run(function) == {:ok, 10}

      # The message may be there before anyone waits for it.
      early = fn _ctx, n ->
        reference = make_ref()
        send(self(), {reference, n * 20})
        {:await, reference}
      end

      assert run(early) == {:ok, 20}
      assert mailbox() == []
    end

    test "has a reference of its own that replies may be sent to" do
      echo = fn ctx, n ->
        reference = Host.await_ref(ctx)
        assert Host.await_ref(ctx) == reference
        spawn(fn -> send(reference, {reference, n * 10}) end)
        {:await, reference}
      end

      assert run(echo) == {:ok, 10}

      # The message may be there before anyone waits for it.
      early = fn ctx, n ->
        reference = Host.await_ref(ctx)
        send(reference, {reference, n * 20})
        {:await, reference}
      end

      assert run(early) == {:ok, 20}
      assert mailbox() == []
    end

    test "has none if it is not asynchronous" do
      assert {:error, %HostError{reason: %ArgumentError{message: message}}} =
               Executor.call(calling(), "run", [1],
                 imports: f(fn ctx, _n -> Host.await_ref(ctx) end)
               )

      assert message =~ "{function, async: true}"
    end

    # It once stayed in the caller's mailbox for good.
    test "gets no reply that comes too late" do
      test = self()

      late = fn ctx, _n ->
        reference = Host.await_ref(ctx)
        send(test, {:reply_to, reference})
        {:await, reference}
      end

      for opts <- [[timeout: 20], [timeout: 20, scheduling: :inline]] do
        assert {:error, %LimitError{limit: :timeout}} = run(late, opts)
        assert_received {:reply_to, reference}
        send(reference, {reference, 1})
        assert mailbox() == []
      end

      # Nor where something else was its result, or it failed.
      for other <- [fn -> Task.async(fn -> 5 end) end, fn -> raise "no" end] do
        _result =
          run(fn ctx, _n ->
            reference = Host.await_ref(ctx)
            send(reference, {reference, 1})
            send(test, {:reply_to, reference})
            other.()
          end)

        assert_received {:reply_to, reference}
        send(reference, {reference, 2})
        assert mailbox() == []
      end
    end

    test "leaves nothing of a task that was too late" do
      test = self()

      late = fn _ctx, _n ->
        Task.async(fn ->
          send(test, {:task, self()})
          receive(do: (:go_on -> 1))
        end)
      end

      assert {:error, %LimitError{limit: :timeout}} = run(late, timeout: 20)

      receive do
        {:task, pid} -> dead(pid)
      after
        0 -> :not_begun
      end

      assert mailbox() == []
    end

    test "gives several results as a list, and none whatever comes" do
      module =
        load!(~S"""
        (module
          (import "env" "two" (func $two (result i32 i64)))
          (import "env" "none" (func $none))
          (func (export "two") (result i32 i64) (call $two))
          (func (export "none") (call $none)))
        """)

      imports = %{
        "env" => %{
          "two" => {fn _ctx -> Task.async(fn -> [1, 2] end) end, async: true},
          "none" => {fn _ctx -> Task.async(fn -> {:error, :ignored} end) end, async: true}
        }
      }

      assert Executor.call(module, "two", [], imports: imports) == {:ok, [1, 2]}
      assert Executor.call(module, "none", [], imports: imports) == {:ok, nil}
    end

    test "and one that is not are told apart by `async:`" do
      assert {:error, %HostError{reason: %CallError{reason: :type}}} =
               Executor.call(calling(), "run", [1],
                 imports: f({fn _ctx, n -> Task.completed(n) end, async: false})
               )

      assert Executor.call(calling(), "run", [1], imports: f({fn _ctx, n -> n end, async: false})) ==
               {:ok, 1}
    end

    test "is given as {function, async: boolean} and no other way" do
      for {given, words} <- [
            {{fn _ctx, n -> n end, async: 1}, "async: true or false"},
            {{fn _ctx -> 1 end, async: true}, "one of 1 was given"},
            {{fn _ctx, n -> n end, asnyc: true}, "async: true or false"},
            {{fn _ctx, n -> n end, :async}, "a function is needed"},
            {{:f, async: true}, "a function is needed"},
            {[fn _ctx, n -> n end, async: true], "a function is needed"}
          ] do
        assert {:error, %LinkError{problems: [%{reason: reason}]}} =
                 Executor.call(calling(), "run", [1], imports: f(given))

        assert reason =~ words, "#{inspect(given)}: #{reason}"
      end
    end

    test "costs the guest time, and no fuel" do
      slow = fn _ctx, n -> Task.async(fn -> Process.sleep(30) && n end) end
      fast = fn _ctx, n -> Task.async(fn -> n end) end

      [slow, fast] =
        for function <- [slow, fast],
            do: Executor.run!(calling(), "run", [1], imports: async(function))

      assert %Run{result: 1, usage: %{host_calls: 1}} = slow
      assert slow.usage.wall_time >= 30_000
      assert slow.usage.fuel == fast.usage.fuel
      # It is on no scheduler while it sleeps.
      assert slow.usage.slice_time < slow.usage.wall_time
    end

    test "puts out what it likes before it is waited for, and its task too" do
      function = fn ctx, n ->
        Host.emit(ctx, "a")

        Task.async(fn ->
          Host.emit(ctx, "b")
          n
        end)
      end

      assert {:ok, %Run{output: "ab"}} =
               Executor.run(calling(), "run", [1], imports: async(function))

      assert calling()
             |> Executor.stream("run", [1], imports: async(function))
             |> Enum.to_list() == ["a", "b"]
    end

    test "may be nested: its task calls the guest, which calls another" do
      function = fn
        _ctx, 0 ->
          Task.async(fn -> 0 end)

        ctx, n ->
          {:ok, deeper} = Host.call(ctx, "run", [n - 1])
          Task.async(fn -> deeper + n end)
      end

      assert Executor.call(calling(), "run", [10], imports: async(function)) == {:ok, 55}
    end

    test "may let its task use the context while the guest sleeps" do
      function = fn ctx, n ->
        Task.async(fn ->
          :ok = Host.write(ctx, 0, <<n>>)
          {:ok, <<^n>>} = Host.read(ctx, 0, 1)
          {:ok, double} = Host.call(ctx, "double", [n])
          double
        end)
      end

      for n <- 1..20 do
        assert Executor.call(calling(), "run", [n], imports: async(function)) == {:ok, 2 * n}
      end
    end

    test "waits also where its task keeps the guest busy just then" do
      # Asking for the time that is left failed while another process drove the guest, and the call with it.
      module =
        asking(~S"""
        (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
        (func (export "burn") (param i32) (result i32)
          (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
          (i32.const 7))
        """)

      function = fn ctx, _n ->
        caller = self()

        task =
          Task.async(fn ->
            send(caller, {:burning, self()})
            {:ok, 7} = Host.call(ctx, "burn", [100_000_000])
            7
          end)

        receive do: ({:burning, _pid} -> :ok)
        busy = &match?({:error, %CallError{reason: :busy}}, Host.call(&1, "nothing"))
        eventually(fn -> busy.(ctx) or not Process.alive?(task.pid) end)
        task
      end

      for _ <- 1..3,
          do: assert(Executor.call(module, "run", [1], imports: async(function)) == {:ok, 7})
    end
  end

  describe "what goes wrong is told as the host function's failure:" do
    test "a task that crashes, exits or is killed" do
      for {function, expected} <- [
            {fn -> raise "in the task" end, {%RuntimeError{message: "in the task"}, []}},
            {fn -> exit(:over) end, :over},
            {fn -> exit(:normal) end, :normal},
            {fn -> throw(:ball) end, {{:nocatch, :ball}, []}},
            {fn -> Process.exit(self(), :kill) end, :killed}
          ] do
        assert {:error, %HostError{kind: :exit, reason: reason, import: {"env", "f"}} = error} =
                 run(fn _ctx, _n -> nolink(function) end)

        reason = with {what, [_ | _]} <- reason, do: {what, []}
        assert reason == expected
        assert error.usage.host_calls == 1
      end

      assert mailbox() == []
    end

    test "a linked task that crashes under an asynchronous call, which its owner survives" do
      async =
        Executor.async(calling(), "run", [1],
          imports: async(fn _ctx, _n -> Task.async(fn -> raise "in the task" end) end)
        )

      assert {:error, %HostError{kind: :exit, reason: {%RuntimeError{}, [_ | _]}}} =
               Executor.await(async)

      assert mailbox() == []
    end

    test "a linked task that crashes where the caller traps exits" do
      Process.flag(:trap_exit, true)

      assert {:error, %HostError{kind: :exit, reason: {%RuntimeError{}, _}}} =
               run(fn _ctx, _n -> Task.async(fn -> raise "in the task" end) end)

      # The signal of the link, as with any task.
      assert [{:EXIT, _task, {%RuntimeError{}, _}}] = mailbox()
    end

    test "a process that is monitored and goes down" do
      function = fn _ctx, _n ->
        {:await, Process.monitor(spawn(fn -> exit(:gone) end))}
      end

      assert {:error, %HostError{kind: :exit, reason: reason}} = run(function)
      assert reason in [:gone, :noproc]
      assert mailbox() == []
    end

    test "a return that is neither a task nor a reference" do
      for wrong <- [1, nil, :ok, self(), make_ref(), {:await, 1}, {:ok, make_ref()}, [make_ref()]] do
        assert {:error, %HostError{kind: :error, reason: %ArgumentError{message: message}}} =
                 run(fn _ctx, _n -> wrong end)

        assert message =~
                 "an async host function returns a Task of its own or {:await, reference}"
      end
    end

    test "a task of another process, for which nobody could wait" do
      # Its result goes to its owner: the call waited until its deadline.
      theirs = elsewhere(fn -> Task.async(fn -> 1 end) end)

      assert {:error, %HostError{kind: :error, reason: %ArgumentError{}}} =
               run(fn _ctx, _n -> theirs end, timeout: 600_000)
    end

    test "a value of the wrong type or number" do
      for wrong <- [nil, "1", 1.5, [1], {:ok, 1}, 0x1_0000_0000_0000] do
        assert {:error, %HostError{kind: :error, reason: %CallError{reason: :type}}} =
                 run(fn _ctx, _n -> Task.async(fn -> wrong end) end)
      end

      two =
        load!(~S"""
        (module (import "env" "f" (func $f (param i32) (result i32 i32)))
          (func (export "run") (result i32 i32) (call $f (i32.const 1))))
        """)

      for {wrong, error} <- [{[1], CallError}, {[1, 2, 3], CallError}, {1, ArgumentError}] do
        assert {:error, %HostError{reason: %^error{}}} =
                 Executor.call(two, "run", [],
                   imports: async(fn _ctx, _n -> Task.async(fn -> wrong end) end)
                 )
      end

      assert mailbox() == []
    end

    test "what it raises itself, before there is anything to wait for" do
      assert {:error, %HostError{kind: :error, reason: %RuntimeError{message: "no"}}} =
               run(fn _ctx, _n -> raise "no" end)

      assert {:error, %HostError{kind: :trap, reason: :refused}} =
               run(fn ctx, _n -> Host.trap(ctx, :refused) end)
    end
  end

  describe "the deadline" do
    test "passes while a task is awaited: the task is killed, the guest is gone" do
      test = self()

      function = fn _ctx, _n ->
        task = Task.async(fn -> Process.sleep(:infinity) end)
        send(test, {:task, task.pid})
        task
      end

      given_time(fn timeout ->
        assert {:error, %LimitError{limit: :timeout, allowed: ^timeout, usage: usage}} =
                 run(function, timeout: timeout)

        usage.host_calls == 1
      end)

      assert_received {:task, task}
      refute Process.alive?(task)
      assert mailbox() == []
      quiet()
    end

    test "passes while a message is awaited: a monitor leaves nothing behind" do
      sleeper = spawn(fn -> Process.sleep(:infinity) end)
      function = fn _ctx, _n -> {:await, Process.monitor(sleeper)} end
      assert {:error, %LimitError{limit: :timeout, allowed: 30}} = run(function, timeout: 30)
      Process.exit(sleeper, :kill)
      dead(sleeper)
      assert mailbox() == []
      quiet()
    end

    test "passes while the task itself drives the guest" do
      function = fn ctx, n -> Task.async(fn -> Host.call(ctx, "spin") && n end) end

      for _ <- 1..10 do
        assert {:error, %LimitError{limit: :timeout, allowed: 30}} =
                 run(function, forever(timeout: 30))
      end

      quiet()
      assert mailbox() == []
    end

    test "is the whole call's, over many waits" do
      module =
        load!(~S"""
        (module (import "env" "f" (func $f (param i32) (result i32)))
          (func (export "run") (loop (drop (call $f (i32.const 1))) (br 0))))
        """)

      function = fn _ctx, n -> Task.async(fn -> Process.sleep(10) && n end) end

      given_time(fn timeout ->
        assert {:error, %LimitError{limit: :timeout, allowed: ^timeout, usage: usage}} =
                 Executor.call(module, "run", [], imports: async(function), timeout: timeout)

        assert usage.host_calls <= timeout / 10
        usage.host_calls > 1
      end)
    end
  end

  describe "the caller's mailbox" do
    test "may hold messages that look like a reply: none of them wakes the guest" do
      test = self()

      function = fn _ctx, n ->
        reference = make_ref()
        look_alikes(reference)
        send(test, {:reference, reference})
        Process.send_after(self(), {reference, n + 1}, 20)
        {:await, reference}
      end

      assert run(function) == {:ok, 2}
      assert_received {:reference, reference}
      assert mailbox() == look_alikes(reference, self())
    end

    test "may hold messages that look like a task's" do
      function = fn _ctx, n ->
        task = Task.async(fn -> Process.sleep(20) && n + 1 end)
        for message <- look_alikes(task.ref), do: send(self(), message)
        task
      end

      assert run(function) == {:ok, 2}
      assert length(mailbox()) == length(look_alikes(make_ref())) * 2
    end

    test "is as it was after success, failure and time out" do
      send(self(), :mine)
      run(fn _ctx, n -> Task.async(fn -> n end) end)
      run(fn _ctx, n -> Task.async(fn -> {:wrong, n} end) end)
      run(fn _ctx, _n -> nolink(fn -> exit(:over) end) end)
      run(fn _ctx, _n -> Task.async(fn -> Process.sleep(:infinity) end) end, timeout: 10)
      run(fn _ctx, _n -> {:await, make_ref()} end, timeout: 10)
      # What would come late would come before the end of another one's deadline.
      quiet()
      run(fn _ctx, _n -> {:await, make_ref()} end, timeout: 10)
      assert mailbox() == [:mine]
    end

    test "may hold 100,000 other messages" do
      for n <- 1..100_000, do: send(self(), {:other, n})
      function = fn _ctx, n -> Task.async(fn -> n + 1 end) end
      for _ <- 1..20, do: assert(run(function) == {:ok, 2})
      assert Process.info(self(), :message_queue_len) == {:message_queue_len, 100_000}
    end
  end

  # Sends the caller what is nearly a reply to `reference`; see `look_alikes/2`.
  defp look_alikes(reference) do
    messages = look_alikes(reference, self())
    for message <- messages, do: send(self(), message)
    messages
  end

  defp look_alikes(reference, pid) do
    [
      {reference},
      {reference, 98, 99},
      [reference, 99],
      {:await, reference},
      {:reply, reference, 99},
      {:DOWN, reference, :process, pid},
      {inspect(reference), 99}
    ]
  end

  test "a live instance is busy while its guest sleeps, and goes on after" do
    test = self()

    function = fn _ctx, n ->
      task = Task.async(fn -> receive(do: (:go -> n)) end)
      send(test, {:task, task.pid})
      task
    end

    instance = live(imports: async(function))
    assert next(instance) == {:ok, 1}
    sleeping = Task.async(fn -> Instance.call(instance, "run", [7]) end)
    assert_receive {:task, task}
    assert reason(next(instance)) == :busy
    waiting = next_in_line(instance)
    send(task, :go)
    assert await([sleeping, waiting]) == [ok: 7, ok: 2]

    # A wait that ends by the deadline leaves it poisoned.
    never = async(fn _ctx, _n -> {:await, make_ref()} end)

    assert {:error, %LimitError{limit: :timeout}} =
             Instance.call(instance, "run", [7], imports: never, timeout: 20)

    eventually(fn -> Instance.poisoned?(instance) end)
  end

  test "1,000 guests sleep at once, and other work goes on meanwhile" do
    module = calling()
    test = self()

    function = fn _ctx, n ->
      reference = make_ref()
      # All of them sleep until every one does.
      send(test, {:sleeper, self(), reference, n})
      {:await, reference}
    end

    callers = all_calling(module, function)

    sleepers =
      for _ <- callers do
        assert_receive {:sleeper, pid, reference, n}
        {pid, reference, n}
      end

    assert Runtime.stats().live_instances == 1_000
    # Other calls run while they sleep.
    assert Executor.call(compute(), "process", [1]) == {:ok, 2}
    assert Executor.call(module, "run", [1], imports: f(fn _ctx, n -> n end)) == {:ok, 1}

    for {pid, reference, n} <- sleepers, do: send(pid, {reference, n + 1})
    assert await(callers) == for(n <- 1..1_000, do: {:ok, n + 1})
    quiet()
  end

  defp all_calling(module, function) do
    opts = [imports: async(function), timeout: never()]
    for n <- 1..1_000, do: Task.async(fn -> Executor.call(module, "run", [n], opts) end)
  end

  test "1,000 guests whose tasks sleep do not sleep one after the other" do
    test = self()

    function = fn _ctx, n ->
      Task.async(fn -> send(test, {:asleep, self()}) && receive(do: (:go -> n)) end)
    end

    callers = all_calling(calling(), function)
    # Each of the tasks is asleep before one wakes up.
    asleep = for _ <- callers, do: assert_receive({:asleep, _pid})
    for {:asleep, pid} <- asleep, do: send(pid, :go)
    assert await(callers) == for(n <- 1..1_000, do: {:ok, n})
  end
end
