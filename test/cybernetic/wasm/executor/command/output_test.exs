defmodule Cybernetic.WASM.Executor.Command.OutputTest do
  # What a run tells of a command, and how much it may put out.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Commands, Eventually, Guests, Plenty, Programs}

  alias Cybernetic.WASM.{Denial, Executor, Host, Run, Sandbox}
  alias Cybernetic.WASM.{CancelledError, HostError, LimitError, TrapError}

  describe "a run" do
    test "has each kind of output for itself, as a whole" do
      assert {:ok, run} = Executor.run(guest(), "mix", [], options(imports: f(&emit/2)))
      assert {run.stdout, run.stderr, run.output} == {"ade", "bg", "cf"}
      assert run.denials == []
      # Seven calls of imported functions, whoever answers them.
      assert run.usage.host_calls == 7
    end

    test "tells what was refused, with how often" do
      sandbox = sandbox(stdio: [stderr: :captured], random: :none)

      assert {:ok, run} =
               run("tool", ["closed", "3"], sandbox: sandbox(stdio: [stderr: :captured]))

      assert run.stderr == "errors 3 badf\n"

      assert {:ok, %Run{exit_code: 1, denials: [denial | _]}} =
               run("tool", ["random", "8"], sandbox: sandbox)

      assert %Denial{
               capability: :random,
               operation: "random_get",
               errno: :notcapable,
               count: 1,
               detail: nil
             } = denial
    end

    test "is in the error of a call that ended otherwise, with what there was by then" do
      put = f(&emit/2)

      for {name, opts, error} <- [
            {"mix_then_trap", [], TrapError},
            {"mix_then_spin", [fuel: 1_000_000], LimitError},
            {"flood", [max_output: 10, imports: f(fn _, n -> n end)], LimitError}
          ] do
        assert {:error, %^error{run: %Run{} = run, usage: usage}} =
                 Executor.run(
                   guest(),
                   name,
                   [],
                   options([imports: put] ++ opts) |> Keyword.merge(opts)
                 )

        expected = if name == "flood", do: {"xxxxxxxxxx", "", ""}, else: {"o", "e", "*"}
        assert {run.stdout, run.stderr, run.output} == expected
        assert {run.result, run.exit_code} == {nil, nil}
        assert run.usage == usage
      end

      for name <- ["mix_then_spin", "mix_then_sleep"] do
        given_time(fn timeout ->
          opts = [imports: put, timeout: timeout, sandbox: sandbox(fuel: plenty())]

          assert {:error,
                  %LimitError{limit: :timeout, run: %Run{usage: usage} = run, usage: usage}} =
                   Executor.run(guest(), name, [], options(opts))

          {run.stdout, run.stderr, run.output} == {"o", "e", "*"}
        end)
      end
    end

    test "is in the error of a host function that failed" do
      function = fn
        ctx, 42 -> emit(ctx, 42) && raise "no"
        _ctx, n -> n
      end

      assert {:error, %HostError{run: run}} =
               Executor.run(guest(), "mix_then_trap", [], options(imports: f(function)))

      assert {run.stdout, run.stderr, run.output} == {"o", "e", "*"}
    end

    test "is in the error of an input that failed" do
      stdin =
        Stream.map(["a", "b"], fn piece -> if piece == "b", do: raise("no"), else: piece end)

      assert {:error, %HostError{run: %Run{} = run, usage: usage}} = cat(stdin)
      assert run.stdout == "a"
      assert run.usage == usage
      assert usage.host_calls > 0
    end

    test "is in the error of a cancelled one" do
      test = self()
      function = fn ctx, n -> send(test, :inside) && emit(ctx, n) end

      call =
        Executor.async(
          guest(),
          "mix_then_sleep",
          [],
          options(run: true, imports: f(function), timeout: never())
        )

      assert_receive :inside

      assert {:error, %CancelledError{reason: :enough, run: run}} =
               Executor.cancel(call, :enough, grace: never())

      assert {run.stdout, run.stderr, run.output} == {"o", "e", "*"}
    end

    test "of linked modules has what all of them put out, also in an error" do
      wasi = ~S"""
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\08\00\00\00\01\00\00\00")
      (func $put (param $byte i32)
        (i32.store8 (i32.const 8) (local.get $byte))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
      """

      lib =
        load!(
          ~s|(module #{wasi}
        (func $go (call $put (i32.const 97))) (start $go) (func (export "put") (param i32) (call $put (local.get 0))))|
        )

      main = load!(~S|(module
        (import "lib" "put" (func $put (param i32)))
        (func (export "_start") (call $put (i32.const 98)))
        (func (export "trap") (call $put (i32.const 98)) unreachable))|)

      options = [imports: %{"lib" => lib}, sandbox: sandbox()]
      assert {:ok, %Run{stdout: "ab", exit_code: 0}} = Executor.run(main, :start, options)

      assert {:error, %TrapError{run: run, usage: usage}} =
               Executor.run(main, "trap", [], options)

      assert run.stdout == "ab"
      assert run.usage == usage

      # A module that has no output of its own hands over that of the one it calls.
      assert Executor.stream(main, :start, options) |> Enum.to_list() == ["a", "b"]
    end
  end

  describe "a host function" do
    test "sees the sandbox that the call really has" do
      test = self()
      network = &Sandbox.new(stdio: :captured, network: &1)
      look = fn ctx, n -> send(test, {:sandbox, Host.sandbox(ctx)}) && n end
      opts = [imports: f(look), sandbox: network.(["a.example:1", "b.example:2"])]
      assert {:ok, 1} = call("ask", [1], opts)
      assert_receive {:sandbox, sandbox}
      assert Sandbox.Capabilities.Network.allowed?(sandbox, {"a.example", 1})
      refute Sandbox.Capabilities.Network.allowed?(sandbox, {"c.example", 1})

      ask = fn ctx, _n ->
        if Sandbox.Capabilities.Network.allowed?(ctx, {"b.example", 2}), do: 1, else: 0
      end

      assert {:ok, 1} = call("ask", [1], Keyword.put(opts, :imports, f(ask)))
      narrow = Sandbox.narrow(opts[:sandbox], network.(["a.example:1"]))
      assert {:ok, 0} = call("ask", [1], imports: f(ask), sandbox: narrow)
    end
  end

  describe "the output limit" do
    test "is one for standard output, standard error and what host functions emit" do
      assert {:ok, run} =
               Executor.run(guest(), "mix", [], options(imports: f(&emit/2), max_output: 7))

      assert {run.stdout, run.stderr, run.output} == {"ade", "bg", "cf"}

      assert {:error, %LimitError{limit: :output, allowed: 6, used: 7, run: run}} =
               Executor.run(guest(), "mix", [], options(imports: f(&emit/2), max_output: 6))

      assert {run.stdout, run.stderr, run.output} == {"ade", "b", "cf"}

      # It may strike in a host function as well.
      assert {:error, %LimitError{limit: :output, allowed: 2, run: run}} =
               Executor.run(guest(), "mix", [], options(imports: f(&emit/2), max_output: 2))

      assert {run.stdout, run.stderr, run.output} == {"a", "b", ""}
    end

    test "counts what has been taken already" do
      stream = Executor.stream(guest(), "mix", [], options(imports: f(&emit/2), max_output: 6))
      {:ok, seen} = Agent.start_link(fn -> [] end)

      assert_raise LimitError, fn ->
        Enum.each(stream, fn piece -> Agent.update(seen, &[piece | &1]) end)
      end

      assert Agent.get(seen, &Enum.reverse/1) == ~w(a b c d e f)
    end

    test "of nothing lets a guest run that writes nothing" do
      assert {:ok, 0} = call("take", [1, 1], max_output: 0)
      assert {:error, %LimitError{limit: :output, allowed: 0}} = run("hello", [], max_output: 0)
    end
  end
end
