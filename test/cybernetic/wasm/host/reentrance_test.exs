defmodule Cybernetic.WASM.Host.ReentranceTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, LimitError, TrapError}

  # `down n` calls the host with n; what the host returns comes back one larger.
  defp descending do
    asking(~S"""
    (global $depth (mut i32) (i32.const 0))
    (func (export "down") (param i32) (result i32)
      (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
      (i32.add (i32.const 1) (call $f (local.get 0))))
    (func (export "depth") (result i32) (global.get $depth))
    (func (export "spin") (loop (br 0)))
    (func (export "burn") (param i32)
      (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "fail") unreachable)
    """)
  end

  defp down(n, function, opts \\ []) do
    Executor.call(descending(), "down", [n], [imports: f(function)] ++ opts)
  end

  test "a host function calls the guest that called it, and sees its state" do
    result =
      down(5, fn ctx, 5 ->
        assert Host.call(ctx, "depth") == {:ok, 1}
        assert Host.call(ctx, "depth", []) == {:ok, 1}
        10
      end)

    assert result == {:ok, 11}
  end

  test "guest and host call each other to some depth" do
    function = fn
      _ctx, 0 -> 0
      ctx, n -> Host.call(ctx, "down", [n - 1]) |> elem(1)
    end

    assert down(100, function) == {:ok, 101}
  end

  test "the depth has an end, which is a limit and not a crash" do
    function = fn ctx, n ->
      case Host.call(ctx, "down", [n + 1]) do
        {:ok, deeper} -> deeper
        {:error, %HostError{reason: reason}} -> raise reason
        {:error, error} -> raise error
      end
    end

    assert {:error, %HostError{kind: :error, reason: %LimitError{limit: :reentrance}}} =
             down(0, function)
  end

  test "a failure at any depth is one sentence" do
    function = fn ctx, n ->
      with {:error, error} <- Host.call(ctx, "down", [n + 1]), do: raise(error)
    end

    assert {:error, %HostError{} = error} = down(0, function)
    assert Exception.message(error) =~ "inside it, the host function"
    assert Exception.message(error) =~ "200 host calls inside each other allowed, 201 asked for"
    assert byte_size(Exception.message(error)) < 300
  end

  test "a re-entrant call that is long is driven on" do
    assert down(1, fn ctx, _ -> Host.call(ctx, "burn", [20_000_000]) && 5 end) == {:ok, 6}
  end

  test "mistakes of a re-entrant call are told to the host function, and the guest goes on" do
    result =
      down(1, fn ctx, n ->
        assert {:error, %CallError{reason: :no_such_export}} = Host.call(ctx, "nothing")
        assert {:error, %CallError{reason: :arity}} = Host.call(ctx, "down", [])
        assert {:error, %CallError{reason: :type}} = Host.call(ctx, "down", [:one])
        assert {:error, %CallError{reason: :no_such_export}} = Host.call(ctx, <<255>>)
        assert Host.call(ctx, "depth") == {:ok, 1}
        n
      end)

    assert result == {:ok, 2}
  end

  test "a trap of a re-entrant call is told to the host function" do
    result =
      down(1, fn ctx, n ->
        assert {:error, %TrapError{code: :unreachable}} = Host.call(ctx, "fail")
        n
      end)

    assert result == {:ok, 2}
  end

  describe "a failure in a nested host call" do
    test "is told to the host function above, with its own stack" do
      test = self()

      function = fn
        _ctx, 0 ->
          raise ArgumentError, "the innermost"

        ctx, n ->
          {:error, error} = Host.call(ctx, "down", [n - 1])
          send(test, {:error, n, error})
          n
      end

      assert down(1, function) == {:ok, 2}

      assert_received {:error, 1,
                       %HostError{reason: %ArgumentError{message: "the innermost"}} = e}

      assert [_ | _] = e.stacktrace
    end

    test "goes up through all levels if nobody stops it" do
      function = fn
        _ctx, 0 ->
          raise "the innermost"

        ctx, n ->
          {:error, error} = Host.call(ctx, "down", [n - 1])
          :erlang.raise(error.kind, error.reason, error.stacktrace)
      end

      assert {:error, %HostError{reason: %RuntimeError{message: "the innermost"}}} =
               down(10, function)
    end
  end

  describe "limits belong to the whole call, however often it re-enters:" do
    test "fuel" do
      function = fn ctx, n ->
        assert {:error, %LimitError{limit: :fuel, allowed: 100_000}} = Host.call(ctx, "spin")
        assert Host.fuel_left(ctx) == 0
        assert {:error, %LimitError{limit: :fuel}} = Host.call(ctx, "burn", [1])
        raise "enough of #{n}"
      end

      assert {:error, %HostError{usage: %{fuel: 100_000}}} = down(1, function, fuel: 100_000)
    end

    test "time" do
      test = self()

      function = fn ctx, n ->
        Host.call(ctx, "spin")
        send(test, :went_on)
        n
      end

      assert {:error, %LimitError{limit: :timeout, allowed: 50}} = down(1, function, timeout: 50)
      refute_received :went_on
      assert mailbox() == []
    end

    test "time, three levels deep" do
      function = fn
        ctx, 0 -> Host.call(ctx, "spin")
        ctx, n -> Host.call(ctx, "down", [n - 1])
      end

      assert {:error, %LimitError{limit: :timeout}} = down(3, function, timeout: 50)
    end

    test "host calls" do
      function = fn
        ctx, n ->
          case Host.call(ctx, "down", [n + 1]) do
            {:ok, deeper} -> deeper
            {:error, %LimitError{limit: :host_calls, allowed: 5}} -> n
            {:error, %HostError{reason: reason}} -> raise reason
          end
      end

      assert {:ok, _} = down(0, function, max_host_calls: 5)
    end
  end

  describe "a context" do
    test "is over when its host function is" do
      test = self()

      assert {:ok, 2} = down(1, fn ctx, n -> send(test, {:ctx, ctx}) && n end)
      assert_received {:ctx, ctx}

      for use <- [
            fn -> Host.read(ctx, 0, 1) end,
            fn -> Host.write(ctx, 0, "x") end,
            fn -> Host.memory_size(ctx) end,
            fn -> Host.call(ctx, "depth") end
          ] do
        assert {:error, %CallError{reason: :stale_context} = error} = use.()
        assert Exception.message(error) =~ "good only inside its host function"
      end

      assert_raise CallError, fn -> Host.fuel_left(ctx) end
      assert_raise CallError, fn -> Host.emit(ctx, "late") end
    end

    test "of an earlier host call is of no use in a later one" do
      test = self()

      module =
        asking(~S"""
        (memory (export "memory") 1)
        (func (export "run") (result i32)
          (i32.add (call $f (i32.const 1)) (call $f (i32.const 2))))
        """)

      imports =
        f(fn
          ctx, 1 ->
            send(test, {:ctx, ctx})
            1

          ctx, 2 ->
            assert_received {:ctx, old}
            assert {:error, %CallError{reason: :stale_context}} = Host.read(old, 0, 1)
            assert {:error, %CallError{reason: :stale_context}} = Host.call(old, "run")
            assert_raise CallError, fn -> Host.emit(old, "late") end
            assert {:ok, <<0>>} = Host.read(ctx, 0, 1)
            2
        end)

      assert Executor.call(module, "run", [], imports: imports) == {:ok, 3}
    end

    test "of an outer host call is of no use in an inner one" do
      function = fn
        ctx, 0 ->
          outer = Process.get(:outer)
          assert {:error, %CallError{reason: :stale_context}} = Host.call(outer, "depth")
          assert {:ok, 2} = Host.call(ctx, "depth")
          0

        ctx, n ->
          Process.put(:outer, ctx)
          {:ok, inner} = Host.call(ctx, "down", [n - 1])
          assert {:ok, 2} = Host.call(ctx, "depth")
          inner
      end

      assert down(1, function) == {:ok, 2}
    end

    test "may be used by a process that its host function waits for" do
      function = fn ctx, n ->
        assert elsewhere(fn -> Host.call(ctx, "depth") end) == {:ok, 1}
        n
      end

      assert down(1, function) == {:ok, 2}
    end

    test "that another process is busy with says so, or waits for nobody" do
      function = fn ctx, n ->
        task = Task.async(fn -> Host.call(ctx, "burn", [300_000_000]) end)
        Process.sleep(20)
        # The other process drives the guest now, so this host call is not the one to be asked.
        result = Host.call(ctx, "depth")

        assert match?(
                 {:error, %CallError{reason: reason}} when reason in [:busy, :stale_context],
                 result
               ) or match?({:ok, 1}, result)

        Task.shutdown(task, :brutal_kill)
        n
      end

      # Whatever became of the guest, the call ends and says how.
      assert {outcome, _} = down(1, function, timeout: 2_000)
      assert outcome in [:ok, :error]
    end

    test "lent to a process that dies in the middle of the guest does not confuse the caller" do
      function = fn ctx, n ->
        {pid, monitor} = spawn_monitor(fn -> Host.call(ctx, "burn", [300_000_000]) end)
        Process.sleep(20)
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _}
        n
      end

      assert {outcome, _} = down(1, function, timeout: 2_000)
      assert outcome in [:ok, :error]
      assert mailbox() == []
    end
  end
end
