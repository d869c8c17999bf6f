defmodule Cybernetic.WASM.Instance.ProgramTest do
  # Programs that export functions beside their `_start`.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{CallError, Executor, Host, Instance, Run, Runtime, TrapError}

  # Sets itself up in `_start`, as Go's runtime does, and exits with what stands at 0, or returns.
  defp program do
    load!(~S"""
    (module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "env" "code" (func $code (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 64) "started\0a")
      (data (i32.const 32) "\40\00\00\00\08\00\00\00")
      (global $ready (mut i32) (i32.const 0))
      (func (export "_start") (local i32)
        (global.set $ready (i32.add (global.get $ready) (i32.const 1)))
        (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))
        (local.set 0 (call $code))
        (if (i32.ge_s (local.get 0) (i32.const 0)) (then (call $exit (local.get 0)))))
      (func (export "add") (param i32 i32) (result i32)
        (if (i32.eqz (global.get $ready)) (then unreachable))
        (i32.add (local.get 0) (local.get 1)))
      (func (export "runs") (result i32) (global.get $ready))
      (func (export "quit") (param i32) (call $exit (local.get 0)))
      (func (export "arguments") (result i32)
        (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.load (i32.const 0))))
    """)
  end

  defp opts(code, more \\ []),
    do: [sandbox: :command, imports: %{"env" => %{"code" => fn _ctx -> code end}}] ++ more

  test "run by :start, and leave a usable instance when they return or exit with 0" do
    for code <- [-1, 0] do
      instance = Instance.new!(program(), opts(code))
      assert Instance.call(instance, :start) == {:ok, 0}
      refute Instance.poisoned?(instance)
      assert Instance.call(instance, "add", [40, 2]) == {:ok, 42}
      assert Instance.call(instance, "runs") == {:ok, 1}
    end
  end

  test "give a run, with options of the call in the place of arguments" do
    instance = Instance.new!(program(), opts(0, args: ["a", "b"]))
    assert {:ok, %Run{exit_code: 0, stdout: "started\n"}} = Instance.run(instance, :start)
    assert %Run{exit_code: 0, stdout: "started\n"} = Instance.run!(instance, :start, stdin: "x")
    assert Instance.call!(instance, :start, [], fuel: 1_000_000) == 0
    assert Instance.call(instance, "runs") == {:ok, 3}
    assert Instance.call(instance, "arguments") == {:ok, 3}

    assert_raise ArgumentError, ~r/a command takes its arguments as an option/, fn ->
      Instance.call(instance, :start, ["a"])
    end
  end

  test "are poisoned when they exit with another code, which is a result" do
    instance = Instance.new!(program(), opts(3))
    assert Instance.call(instance, :start) == {:ok, 3}
    assert Instance.poisoned?(instance)
    assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, "add", [1, 2])
    assert Instance.reset(instance) == :ok
    assert {:ok, %Run{exit_code: 3, stdout: "started\n"}} = Instance.run(instance, :start)
  end

  test "run by the name of their entry are a call in which an exit is an error, and no other end" do
    instance = Instance.new!(program(), opts(0))
    assert {:error, %TrapError{code: :exit, exit_code: 0}} = Instance.call(instance, "_start")
    refute Instance.poisoned?(instance)
    assert Instance.call(instance, "add", [1, 2]) == {:ok, 3}
  end

  test "are poisoned by an exit in any other function" do
    for code <- [0, 1] do
      instance = Instance.new!(program(), opts(-1))
      assert Instance.call(instance, :start) == {:ok, 0}

      assert {:error, %TrapError{code: :exit, exit_code: ^code}} =
               Instance.call(instance, "quit", [code])

      assert Instance.poisoned?(instance)
    end
  end

  test "are poisoned by an exit below a host function, too" do
    quit = fn ctx ->
      Host.call(ctx, "quit", [0])
      -1
    end

    imports = %{"env" => %{"code" => quit}}
    instance = Instance.new!(program(), sandbox: :command, imports: imports)
    assert Instance.call(instance, :start) == {:ok, 0}
    assert Instance.poisoned?(instance)
  end

  test "run by a server's name, in a process of their own, and as a stream" do
    server = start_supervised!({Instance, [module: program()] ++ opts(0)})
    assert Instance.call(server, :start) == {:ok, 0}
    assert {:ok, %Run{stdout: "started\n"}} = Instance.run(server, :start, wait: 5_000)
    assert Instance.call(server, "runs") == {:ok, 2}

    instance = Instance.new!(program(), opts(0))
    assert instance |> Executor.async(:start) |> Executor.await() == {:ok, 0}
    assert instance |> Executor.stream(:start) |> Enum.to_list() == ["started\n"]
    assert Instance.call(instance, "runs") == {:ok, 2}
  end

  test "that are none say so" do
    instance = Instance.new!(compute())

    assert {:error, %CallError{reason: :no_such_export, export: "_start"}} =
             Instance.call(instance, :start)

    wrong = Instance.new!(load!(~S|(module (func (export "_start") (param i32)))|))
    assert {:error, %CallError{reason: :no_command}} = Instance.run(wrong, :start)
  end

  test "whose entry was not called say so when they trap, and only then" do
    assert {:error, %TrapError{unstarted: true} = error} =
             Executor.call(program(), "add", [1, 2], opts(0))

    assert Exception.message(error) =~ "whose _start has not run in this instance"

    instance = Instance.new!(program(), opts(0, on_trap: :keep))
    assert {:error, %TrapError{unstarted: true}} = Instance.call(instance, "add", [1, 2])
    assert Instance.call(instance, :start) == {:ok, 0}
    assert {:error, %TrapError{unstarted: false}} = Instance.call(instance, "quit", [1])

    # An exit is no trap of that kind, and what is no program has no entry.
    assert {:error, %TrapError{code: :exit, unstarted: false}} =
             Executor.call(program(), "quit", [0], opts(0))

    assert {:error, %TrapError{unstarted: false} = error} = Executor.call(compute(), "fail")
    refute Exception.message(error) =~ "_start"
  end

  test "may be captured after it: a module that begins where the program ended" do
    for code <- [-1, 0] do
      assert {:ok, ready} = Runtime.preinit(program(), :start, [], opts(code))
      assert Executor.call(ready, "add", [40, 2], opts(code)) == {:ok, 42}
      assert Executor.call(ready, "runs", [], opts(code)) == {:ok, 1}
    end

    assert {:error, %TrapError{code: :exit, exit_code: 9}} =
             Runtime.preinit(program(), :start, [], opts(9))

    instance = Instance.new!(program(), opts(0, snapshottable: true))
    assert Instance.call(instance, :start) == {:ok, 0}
    assert {:ok, fork} = Instance.fork(instance)
    assert Instance.call(fork, "add", [40, 2]) == {:ok, 42}
  end
end
