defmodule Cybernetic.WASM.Host.FailureTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, LimitError}

  defmodule OwnError do
    defexception [:fact]

    @impl true
    def message(error), do: "it went wrong: #{inspect(error.fact)}"
  end

  defp fails(function, opts \\ []) do
    imports = f(function)

    assert {:error, %HostError{blame: :host, import: {"env", "f"}} = error} =
             Executor.call(calling(), "run", [1], [imports: imports] ++ opts)

    error
  end

  def here(_ctx, _n), do: raise(OwnError, fact: 42)

  describe "what a host function does reaches the caller as itself:" do
    test "an exception, with its own stack" do
      error = fails(&__MODULE__.here/2)
      assert error.kind == :error
      assert error.reason == %OwnError{fact: 42}
      assert {__MODULE__, :here, 2, _} = hd(error.stacktrace)
      assert Exception.message(error) =~ ~s|the host function "env" "f" failed: |
      assert Exception.message(error) =~ "it went wrong: 42"
      assert error.usage.host_calls == 1
    end

    test "an error of the VM's" do
      for {function, exception} <- [
            {fn _, n -> div(n, 0) end, ArithmeticError},
            {fn _, n -> hd(n) end, ArgumentError},
            {fn _, n -> %{} = n end, MatchError},
            {fn _, n -> apply(Missing, :function, [n]) end, UndefinedFunctionError}
          ] do
        error = fails(function)
        assert error.kind == :error
        assert Exception.normalize(:error, error.reason, error.stacktrace).__struct__ == exception
      end
    end

    test "an exit" do
      error = fails(fn _, _ -> exit({:shutdown, :now}) end)
      assert {error.kind, error.reason} == {:exit, {:shutdown, :now}}
      assert Exception.message(error) =~ "exit"
    end

    test "a throw" do
      error = fails(fn _, _ -> throw({:ball, 1}) end)
      assert {error.kind, error.reason} == {:throw, {:ball, 1}}
    end

    test "an exit of a call to a dead process" do
      error = fails(fn _, _ -> GenServer.call(:nobody_here, :hello) end)
      assert {:exit, {:noproc, _}} = {error.kind, error.reason}
    end
  end

  describe "call! raises the original again:" do
    test "an exception with the stack of the host function" do
      imports = f(&__MODULE__.here/2)

      try do
        Executor.call!(calling(), "run", [1], imports: imports)
        flunk("nothing was raised")
      rescue
        error in OwnError ->
          assert error.fact == 42
          assert {__MODULE__, :here, 2, _} = hd(__STACKTRACE__)
          # And below it the way here.
          assert Enum.any?(__STACKTRACE__, &match?({Executor, :call, 4, _}, &1))
      end
    end

    test "an exit and a throw" do
      exits = f(fn _, _ -> exit(:over) end)
      throws = f(fn _, _ -> throw(:ball) end)

      assert catch_exit(Executor.call!(calling(), "run", [1], imports: exits)) == :over
      assert catch_throw(Executor.run!(calling(), "run", [1], imports: throws)) == :ball
    end

    test "an error that is no exception" do
      imports = f(fn _, _ -> :erlang.error(:custom_reason) end)

      assert_raise ErlangError, ~r/custom_reason/, fn ->
        Executor.call!(calling(), "run", [1], imports: imports)
      end
    end
  end

  describe "a wrong result" do
    test "is told by its type" do
      for wrong <- [nil, :ok, "1", 1.5, [1], {:ok, 1}, 0x1_0000_0000] do
        error = fails(fn _, _ -> wrong end)
        assert error.kind == :error
        assert %CallError{reason: :type, expected: "an i32" <> _} = error.reason
        assert Exception.message(error) =~ "the value at index 0 must be an i32"
      end
    end

    test "is told by its number" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i32) (result i32 i32)))
          (func (export "run") (result i32 i32) (call $f (i32.const 1))))
        """)

      for wrong <- [[], [1], [1, 2, 3]] do
        assert {:error, %HostError{kind: :error, reason: reason}} =
                 Executor.call(module, "run", [], imports: f(fn _, _ -> wrong end))

        assert %CallError{reason: :arity, expected: 2, given: given} = reason
        assert given == length(wrong)
      end

      for wrong <- [nil, 1, {1, 2}, %{}] do
        assert {:error, %HostError{kind: :error, reason: %ArgumentError{message: message}}} =
                 Executor.call(module, "run", [], imports: f(fn _, _ -> wrong end))

        assert message =~ "a list of 2 results expected"
      end

      assert {:error, %HostError{reason: %CallError{reason: :type, index: 1}}} =
               Executor.call(module, "run", [], imports: f(fn _, _ -> [1, :two] end))
    end

    test "that is an improper list is told like any other" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i32) (result i32 i32)))
          (func (export "run") (result i32 i32) (call $f (i32.const 1))))
        """)

      assert {:error, %HostError{kind: :error}} =
               Executor.call(module, "run", [], imports: f(fn _, _ -> [1 | 2] end))
    end
  end

  test "the guest is unwound: nothing of it runs after the failure" do
    module =
      asking(~S"""
      (func (export "run")
        (drop (call $f (i32.const 1)))
        (drop (call $f (i32.const 2))))
      """)

    test = self()

    imports =
      f(fn _ctx, n ->
        send(test, {:called, n})
        raise "stop"
      end)

    assert {:error, %HostError{}} = Executor.call(module, "run", [], imports: imports)
    assert_received {:called, 1}
    refute_received {:called, 2}
    assert mailbox() == []
  end

  test "a guest cannot catch what a host function raised" do
    module =
      asking(~S"""
      (func (export "run") (result i32)
        (block $caught
          (try_table (catch_all $caught)
            (return (call $f (i32.const 1)))))
        (i32.const 99))
      """)

    assert {:error, %HostError{reason: %RuntimeError{message: "mine"}}} =
             Executor.call(module, "run", [], imports: f(fn _, _ -> raise "mine" end))
  end

  describe "a deadline" do
    test "that passes while a host function sleeps strikes when it returns" do
      test = self()
      imports = f(fn ctx, n -> oversleep(ctx) && send(test, :returning) && n end)

      given_time(fn timeout ->
        assert {:error, %LimitError{limit: :timeout, allowed: ^timeout, used: used}} =
                 Executor.call(calling(), "run", [1], imports: imports, timeout: timeout)

        assert used >= timeout
        mailbox() == [:returning]
      end)
    end

    test "that has passed strikes at the next thing that is asked of the guest" do
      test = self()

      imports =
        f(fn ctx, n ->
          oversleep(ctx)
          assert Host.time_left(ctx) == 0
          Host.read(ctx, 0, 1)
          send(test, :went_on)
          n
        end)

      assert {:error, %LimitError{limit: :timeout}} =
               Executor.call(calling(), "run", [1], imports: imports, timeout: 10)

      refute_received :went_on
    end

    test "strikes even where the host function catches everything" do
      imports =
        f(fn ctx, n ->
          oversleep(ctx)

          for _ <- 1..3 do
            try do
              Host.read(ctx, 0, 1)
            catch
              _, _ -> :ignored
            end
          end

          n
        end)

      assert {:error, %LimitError{limit: :timeout}} =
               Executor.call(calling(), "run", [1], imports: imports, timeout: 10)
    end

    test "is not in the way of what a host function raises" do
      imports = f(fn ctx, _n -> oversleep(ctx) && raise("late") end)
      result = Executor.call(calling(), "run", [1], imports: imports, timeout: 10)
      # Both are true; which of them is told first matters less than that the call ends.
      assert {:error, %error{}} = result
      assert error in [HostError, LimitError]
    end
  end
end
