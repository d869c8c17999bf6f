defmodule Cybernetic.WASM.Security.HostFunctionsTest do
  # A callback's exception was replaced by an opaque text elsewhere, and a slow callback blocked its instance and the
  # server that ran it past every deadline.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, Instance, LimitError, Runtime}

  defmodule Refused do
    defexception [:account, message: "refused"]
  end

  defp refuse(account), do: raise(Refused, account: account)

  test "an exception keeps its struct, its fields and its stack" do
    imports = f(fn _ctx, n -> refuse(n) end)

    assert {:error, %HostError{kind: :error, reason: %Refused{account: 17}} = error} =
             Executor.call(calling(), "run", [17], imports: imports)

    assert [{__MODULE__, :refuse, 1, _} | _] = error.stacktrace

    stack =
      try do
        Executor.call!(calling(), "run", [17], imports: imports)
      rescue
        Refused -> __STACKTRACE__
      end

    assert [{__MODULE__, :refuse, 1, _} | _] = stack
  end

  test "a callback that never returns holds up its own caller and nobody else" do
    quiet()
    module = calling()
    test = self()
    stuck = fn _ctx, _n -> send(test, :stuck) && Process.sleep(:infinity) end

    callers =
      for _ <- 1..(4 * System.schedulers_online()) do
        spawn(fn -> Executor.call(module, "run", [1], imports: f(stuck)) end)
      end

    for _ <- callers, do: assert_receive(:stuck)
    assert Executor.call(module, "run", [1], imports: f(fn _, n -> n end)) == {:ok, 1}

    assert {:error, %LimitError{limit: :timeout}} =
             Executor.call(module, "spin", [], timeout: 20, imports: f(fn _, n -> n end))

    assert Runtime.stats().live_instances >= length(callers)
    Enum.each(callers, &Process.exit(&1, :kill))
    quiet()
  end

  test "a slow callback's call fails once the deadline is past" do
    slow = fn ctx, n -> oversleep(ctx) && n end

    assert {:error, %LimitError{limit: :timeout, allowed: 10}} =
             Executor.call(calling(), "run", [1], imports: f(slow), timeout: 10)
  end

  # The same attacks on a fresh guest and on a live one.
  for target <- [:fresh, :live] do
    describe "a host function of a #{target} guest" do
      setup do
        quiet_node()
        {:ok, call: &call(unquote(target), &1, &2)}
      end

      test "that raises, exits or throws ends the call with what it did", %{call: call} do
        for {function, kind, reason} <- [
              {fn _, _ -> raise Refused, account: 1 end, :error, %Refused{account: 1}},
              {fn _, _ -> exit(:normal) end, :exit, :normal},
              {fn _, _ -> exit({:shutdown, :over}) end, :exit, {:shutdown, :over}},
              {fn _, _ -> throw({:ok, 1}) end, :throw, {:ok, 1}},
              {fn _, _ -> :erlang.error(:badarg) end, :error, :badarg}
            ] do
          assert {:error, %HostError{kind: ^kind, reason: ^reason}} = call.(function, [])
        end

        assert mailbox() == []
      end

      test "cannot pass for a throw of the library's own", %{call: call} do
        # The library leaves a host function by throws: a host function that has caught one and throws it again in another
        # call must not end that as if it were its own.
        caught = fn ctx, _n ->
          oversleep(ctx)

          try do
            Host.read(ctx, 0, 1)
          catch
            :throw, thrown -> Process.put(:thrown, thrown)
          end

          1
        end

        given_time(fn timeout ->
          assert {:error, %LimitError{limit: :timeout}} = call.(caught, timeout: timeout)
          Process.get(:thrown)
        end)

        again = fn _ctx, _n -> throw(Process.get(:thrown)) end

        assert {:error, %HostError{kind: :error, reason: %LimitError{limit: :timeout}}} =
                 call.(again, [])

        assert call.(fn _ctx, n -> n end, []) == {:ok, 1}
      end

      test "that returns values of a wrong type or number ends the call", %{call: call} do
        for wrong <- [nil, true, 1.0, "1", [1], {:ok, 1}, 0x1_0000_0000, self(), fn -> 1 end] do
          assert {:error, %HostError{kind: :error, reason: %CallError{reason: :type}}} =
                   call.(fn _ctx, _n -> wrong end, [])
        end
      end

      test "that kills its own process takes its guest along", %{call: call} do
        test = self()

        for reason <- [:kill, :boom] do
          function = fn _ctx, _n ->
            send(test, :inside)
            Process.exit(self(), reason)
            Process.sleep(:infinity)
          end

          {pid, monitor} = spawn_monitor(fn -> call.(function, []) end)
          assert_receive :inside
          assert_receive {:DOWN, ^monitor, :process, ^pid, reason}
          assert reason in [:killed, :boom]
          quiet()
        end
      end

      test "that sleeps past the deadline ends the call when it returns", %{call: call} do
        test = self()
        slow = fn ctx, n -> oversleep(ctx) && send(test, :returning) && n end

        given_time(fn timeout ->
          assert {:error, %LimitError{limit: :timeout, allowed: ^timeout, used: used}} =
                   call.(slow, timeout: timeout)

          assert used >= timeout
          mailbox() == [:returning]
        end)
      end

      test "that calls its guest again without end meets a limit", %{call: call} do
        endless = fn ctx, n ->
          case Host.call(ctx, "run", [n + 1]) do
            {:ok, result} -> result
            {:error, %HostError{reason: reason}} -> raise reason
            {:error, error} -> raise error
          end
        end

        assert {:error, %HostError{reason: %LimitError{limit: :reentrance, allowed: 200}}} =
                 call.(endless, [])

        # And without end one after the other, by another limit.
        often = fn
          _ctx, 2 -> 2
          ctx, 1 -> forever(ctx)
        end

        assert {:error, %HostError{reason: %LimitError{limit: :host_calls, allowed: 50}}} =
                 call.(often, max_host_calls: 50)

        assert {:error, %LimitError{limit: :timeout}} = call.(&spin/2, timeout: 30)
      end

      test "that floods its mailbox with what looks like wake-ups disturbs nothing", %{call: call} do
        flood = fn ctx, n ->
          for _ <- 1..5_000, do: send(self(), {make_ref(), :wake})
          # The guest yields and is stepped among all these.
          {:ok, ^n} = Host.call(ctx, "burn", [n])
          n
        end

        assert call.(flood, fuel: 10_000_000_000) == {:ok, 1}
        messages = mailbox()
        assert length(messages) == 5_000
        assert Enum.all?(messages, &match?({_reference, :wake}, &1))
      end

      test "that empties its mailbox disturbs nothing", %{call: call} do
        empty = fn ctx, n ->
          {:ok, ^n} = Host.call(ctx, "burn", [n])
          flush()
          n
        end

        for n <- 1..10, do: send(self(), n)
        assert call.(empty, fuel: 10_000_000_000) == {:ok, 1}
        assert mailbox() == []
      end

      test "that links, monitors and starts timers leaves the call alone", %{call: call} do
        function = fn _ctx, n ->
          pid = spawn_link(fn -> Process.sleep(:infinity) end)
          monitor = Process.monitor(pid)
          timer = Process.send_after(self(), :late, 600_000)
          Process.cancel_timer(timer)
          Process.demonitor(monitor, [:flush])
          Process.unlink(pid)
          Process.exit(pid, :kill)
          n
        end

        assert call.(function, []) == {:ok, 1}
        assert mailbox() == []
      end
    end
  end

  describe "a host function of a live guest that comes by the instance instead of its context" do
    test "is told that it is busy, whatever it asks for" do
      function = fn _ctx, n ->
        instance = Process.get(:instance)

        for ask <- [
              &Instance.call(&1, "run", [1]),
              &Instance.run(&1, "run", [1]),
              &Instance.reset/1,
              &Instance.close/1,
              &Instance.get_global(&1, "n"),
              &Cybernetic.WASM.Memory.read(&1, 0, 1),
              &Cybernetic.WASM.Memory.write(&1, 0, "x"),
              &Cybernetic.WASM.Memory.grow(&1, 1)
            ] do
          assert {:error, %CallError{reason: :busy}} = ask.(instance)
        end

        refute Instance.poisoned?(instance)
        n
      end

      instance = Instance.new!(guest(), imports: f(function))
      Process.put(:instance, instance)
      assert Instance.call(instance, "run", [5]) == {:ok, 5}
      assert Instance.call(instance, "burn", [1]) == {:ok, 1}
    end

    test "and waits for itself is let go by the deadline" do
      function = fn _ctx, n ->
        instance = Process.get(:instance)

        # It could wait for ever: what it waits for is its own return.
        assert {:error, %CallError{reason: :busy}} =
                 Instance.call(instance, "burn", [1], wait: 20)

        assert {:error, %LimitError{limit: :timeout}} =
                 Instance.call(instance, "burn", [1], wait: 600_000, timeout: 20)

        n
      end

      instance = Instance.new!(guest(), imports: f(function))
      Process.put(:instance, instance)
      assert Instance.call(instance, "run", [5]) == {:ok, 5}

      stuck = fn _ctx, _n ->
        Instance.call(Process.get(:instance), "burn", [1], wait: 600_000, timeout: 100)
      end

      assert {:error, %error{}} =
               Instance.call(instance, "run", [5], imports: f(stuck), timeout: 50)

      assert error in [HostError, LimitError]
      assert mailbox() == []
    end

    test "by its server is told that it is busy, and the server goes on" do
      test = self()

      function = fn _ctx, n ->
        server = Process.get(:server) || raise "not in the caller's process"
        send(test, {:told, Instance.call(server, "burn", [1], wait: 20)})
        n
      end

      server = start_supervised!({Instance, module: guest(), imports: f(function)})
      Process.put(:server, server)
      assert Instance.call(server, "run", [5]) == {:ok, 5}
      assert_received {:told, {:error, %CallError{reason: :busy}}}
      assert Instance.call(server, "burn", [1]) == {:ok, 1}
    end
  end

  # Calls `run` of a guest whose `env.f` is `function`.
  defp call(:fresh, function, opts),
    do: Executor.call(guest(), "run", [1], [imports: f(function)] ++ opts)

  defp call(:live, function, opts) do
    instance = Instance.new!(guest(), [imports: f(function)] ++ opts)
    result = Instance.call(instance, "run", [1])

    # It does not go on as if nothing had happened.
    if match?({:error, _}, result) do
      eventually(fn -> Instance.poisoned?(instance) end)
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, "burn", [1])
      assert :ok = Instance.reset(instance, imports: f(fn _ctx, n -> n end))
      assert Instance.call(instance, "run", [9], imports: f(fn _ctx, n -> n end)) == {:ok, 9}
    end

    result
  end

  defp guest do
    asking(~S"""
    (memory (export "memory") 1)
    (global (export "n") (mut i32) (i32.const 0))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "spin") (loop (br 0)))
    (func (export "burn") (param i32) (result i32) (local $rounds i32)
      (local.set $rounds (i32.const 20000000))
      (loop $again
        (br_if $again
          (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
      (local.get 0))
    """)
  end

  defp forever(ctx) do
    with {:error, %LimitError{} = error} <- Host.call(ctx, "run", [2]), do: raise(error)
    forever(ctx)
  end

  defp spin(ctx, n), do: Host.call(ctx, "spin") && n
end
