defmodule Cybernetic.WASM.Security.WASI.CallersTest do
  # A function of WASI works on the memory of the module that calls it, and on no other: not where the embedder calls it
  # because a module exports it again, not in a start function, and not where several modules share a guest.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests, only: [load!: 1]
  import Cybernetic.WASM.Programs, only: [sandbox: 0, sandbox: 1]

  alias Cybernetic.WASM.{Executor, Host, Instance, Memory, RawCalls, Run, TrapError}

  # `say` writes the module's own text; `raw` is WASI's function itself, to be called with the same numbers.
  @say [1, 0, 1, 8]
  defp saying(text, more \\ "", imports \\ "") do
    load!("""
    (module
      #{RawCalls.imports(["fd_write"])}
      #{imports}
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00") (data (i32.const 16) "#{text}")
      (func $say (export "say") (result i32) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (func $start (drop (call $say)))
      (export "raw" (func $fd_write))
      (func (export "nothing"))
      #{more})
    """)
  end

  defp said({:ok, %Run{stdout: stdout}}), do: stdout

  describe "a function that is exported again" do
    test "is called in a fresh guest" do
      assert saying("A") |> Executor.run("raw", @say, sandbox: sandbox()) |> said() == "A"
    end

    test "is called in a live one" do
      guest = Instance.new!(saying("A"), sandbox: sandbox())
      assert guest |> Instance.run("raw", @say) |> said() == "A"
      :ok = Memory.write(guest, 16, "B")
      assert guest |> Instance.run("raw", @say) |> said() == "B"
      refute Instance.poisoned?(guest)
    end

    test "ends its caller's call where it ends the program" do
      assert {:error, %TrapError{code: :exit}} =
               Executor.call(RawCalls.module(), "proc_exit", [7], sandbox: sandbox())
    end

    test "is called from a host function, which is called by the guest" do
      module =
        saying(
          "A",
          ~S|(func (export "ask") (result i32) (call $ask))|,
          ~S|(import "env" "ask" (func $ask (result i32)))|
        )

      ask = fn ctx ->
        {:ok, 0} = Host.call(ctx, "raw", @say)
        {:ok, 0} = Host.call(ctx, "say", [])
        :ok = Host.write(ctx, 16, "B")
        {:ok, errno} = Host.call(ctx, "raw", @say)
        errno
      end

      opts = [sandbox: sandbox(), imports: %{"env" => %{"ask" => ask}}]
      assert module |> Executor.run("ask", [], opts) |> said() == "AAB"
    end

    test "ends the program from within a host function's own call, whatever that makes of it" do
      module =
        load!("""
        (module #{RawCalls.imports(["proc_exit"])}
          (import "env" "ask" (func $ask))
          (memory (export "memory") 1)
          (export "quit" (func $proc_exit))
          (func (export "_start") (call $ask)))
        """)

      asks = [&Host.call(&1, "quit", [3]), fn ctx -> {:ok, _} = Host.call(ctx, "quit", [3]) end]

      for ask <- asks do
        imports = %{"env" => %{"ask" => ask}}
        opts = [sandbox: sandbox(), imports: imports]
        assert {:ok, %Run{exit_code: 3}} = Executor.run(module, :start, opts)
      end
    end

    test "hands its output over in order, also from a host function's own calls" do
      module =
        saying(
          "A",
          ~S|(func (export "ask") (drop (call $say)) (call $ask) (drop (call $say)))|,
          ~S|(import "env" "ask" (func $ask))|
        )

      ask = fn ctx ->
        :ok = Host.write(ctx, 16, "B")
        {:ok, 0} = Host.call(ctx, "raw", @say)
        :ok = Host.write(ctx, 16, "C")
        {:ok, 0} = Host.call(ctx, "say", [])
        :ok = Host.write(ctx, 16, "D")
      end

      stream =
        Executor.stream(module, "ask", [],
          sandbox: sandbox(),
          imports: %{"env" => %{"ask" => ask}}
        )

      assert Enum.join(stream) == "ABCD"
    end

    test "sleeps, and the deadline ends that" do
      guest = RawCalls.guest(sandbox())
      RawCalls.put(guest, 24, <<3_600_000_000_000::little-64>>)

      assert {:error, %{limit: :timeout}} =
               Instance.call(guest, "poll_oneoff", [0, 1_000, 1, 2_000], timeout: 100)
    end
  end

  describe "a start function" do
    test "has its own module's memory" do
      module = saying("A", "(start $start)")
      assert module |> Executor.run("nothing", [], sandbox: sandbox()) |> said() == "A"
    end

    test "may end the program before it has begun, which is no crash" do
      module =
        load!("""
        (module #{RawCalls.imports(["proc_exit"])}
          (memory (export "memory") 1)
          (func $start (call $proc_exit (i32.const 7)))
          (start $start)
          (func (export "_start")))
        """)

      assert {:ok, %Run{exit_code: 7}} = Executor.run(module, :start, sandbox: sandbox())
      assert {:error, %TrapError{code: :exit}} = Instance.new(module, sandbox: sandbox())
    end

    test "is refused what nobody granted" do
      module = saying("A", "(start $start)")
      run = Executor.run!(module, "nothing", [], sandbox: sandbox(stdio: :none))
      assert [%{capability: :stdio, operation: "fd_write", errno: :badf}] = run.denials
      assert run.stdout == ""
    end

    test "of a module that joins another has its own memory, not the other's" do
      other = saying("A")
      module = saying("B", "(start $start)", ~S|(import "other" "nothing" (func))|)
      opts = [sandbox: sandbox(), imports: %{"other" => other}]
      assert module |> Executor.run("nothing", [], opts) |> said() == "B"
    end

    test "that traps leaves functions behind which still have their own memory" do
      other =
        saying("A", """
        (type $say (func (result i32)))
        (table (export "table") 1 funcref)
        (func (export "call") (result i32) (call_indirect (type $say) (i32.const 0)))
        """)

      joining =
        saying(
          "B",
          "(elem (table 0) (i32.const 0) func $say) (func $trap unreachable) (start $trap)",
          ~S|(import "other" "table" (table 1 funcref))|
        )

      guest = Instance.new!(other, sandbox: sandbox(), on_trap: :keep)

      assert {:error, %TrapError{code: :unreachable}} =
               Instance.new(joining, sandbox: sandbox(), imports: %{"other" => guest})

      assert guest |> Instance.run("call") |> said() == "B"
    end
  end

  describe "modules that share a guest" do
    setup do
      other = saying("A")

      module =
        saying(
          "B",
          ~S|(func (export "both") (drop (call $other)) (drop (call $say)) (drop (call $other_raw (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))|,
          ~S|(import "other" "say" (func $other (result i32)))
             (import "other" "raw" (func $other_raw (param i32 i32 i32 i32) (result i32)))|
        )

      {:ok, opts: [sandbox: sandbox(), imports: %{"other" => other}], module: module}
    end

    # The third is WASI's own function by way of the other module: its caller is who calls.
    test "have each their own memory", %{module: module, opts: opts} do
      assert module |> Executor.run("both", [], opts) |> said() == "ABB"
    end

    test "export its functions again, and each is called with its own memory", context do
      assert context.module |> Executor.run("say", [], context.opts) |> said() == "B"
      assert context.module |> Executor.run("raw", @say, context.opts) |> said() == "B"
    end

    test "have one sandbox, one quota and one standard output", context do
      sandbox = sandbox(max_output: 2)

      assert {:error, %{limit: :output}} =
               Executor.run(
                 context.module,
                 "both",
                 [],
                 Keyword.put(context.opts, :sandbox, sandbox)
               )
    end

    test "are denied together", context do
      opts = Keyword.put(context.opts, :sandbox, sandbox(stdio: :none))
      run = Executor.run!(context.module, "both", [], opts)
      assert [%{capability: :stdio, count: 3}] = run.denials
      assert run.stdout == ""
    end
  end

  test "a module that joins a guest brings no grants of its own" do
    guest = Instance.new!(saying("A"), sandbox: sandbox(stdio: :none))
    joining = saying("B", "", ~S|(import "other" "nothing" (func))|)

    assert {:error, error} =
             Instance.new(joining, sandbox: sandbox(), imports: %{"other" => guest})

    assert error.blame == :caller
    # The guest is as it was.
    assert {:ok, %Run{stdout: ""}} = Instance.run(guest, "say")
  end
end
