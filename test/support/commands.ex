defmodule Cybernetic.WASM.Commands do
  @moduledoc false
  # What tests of commands and their streams run.

  import Cybernetic.WASM.{Guests, Programs}

  alias Cybernetic.WASM.{Executor, Host, Run}

  @wat ~S"""
  (module
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "env" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 4)

    (func $read (param $size i32) (result i32)
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (local.get $size))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return (i32.const -1))))
      (i32.load (i32.const 8)))

    (func $write (param $fd i32) (param $at i32) (param $len i32) (result i32)
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $len))
      (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))

    (func $put (export "put") (param $fd i32) (param $byte i32) (result i32)
      (i32.store8 (i32.const 16) (local.get $byte))
      (call $write (local.get $fd) (i32.const 16) (i32.const 1)))

    (func (export "take") (param $size i32) (param $times i32) (result i32) (local $sum i32)
      (block $done
        (loop $again
          (br_if $done (i32.eqz (local.get $times)))
          (local.set $sum (i32.add (local.get $sum) (call $read (local.get $size))))
          (local.set $times (i32.sub (local.get $times) (i32.const 1)))
          (br $again)))
      (local.get $sum))

    (func (export "take_then_spin") (drop (call $read (i32.const 1))) (loop (br 0)))
    (func (export "take_then_trap") (drop (call $read (i32.const 1))) unreachable)
    (func (export "take_then_call") (param i32) (result i32) (drop (call $read (i32.const 1))) (call $f (local.get 0)))

    ;; Writes what it reads, `f` before each read and between.
    (func (export "echo") (result i32) (local $len i32)
      (loop $again
        (drop (call $f (i32.const 0)))
        (local.set $len (call $read (i32.const 1024)))
        (if (local.get $len)
          (then
            (drop (call $write (i32.const 1) (i32.const 1024) (local.get $len)))
            (br $again))))
      (local.get $len))

    ;; Output of all three kinds, in turn: `f` emits.
    (func (export "mix")
      (drop (call $put (i32.const 1) (i32.const 97)))
      (drop (call $put (i32.const 2) (i32.const 98)))
      (drop (call $f (i32.const 99)))
      (drop (call $put (i32.const 1) (i32.const 100)))
      (drop (call $put (i32.const 1) (i32.const 101)))
      (drop (call $f (i32.const 102)))
      (drop (call $put (i32.const 2) (i32.const 103))))

    (func (export "mix_then_trap")
      (drop (call $put (i32.const 1) (i32.const 111)))
      (drop (call $put (i32.const 2) (i32.const 101)))
      (drop (call $f (i32.const 42)))
      unreachable)

    (func (export "mix_then_spin")
      (drop (call $put (i32.const 1) (i32.const 111)))
      (drop (call $put (i32.const 2) (i32.const 101)))
      (drop (call $f (i32.const 42)))
      (loop (br 0)))

    (func (export "mix_then_sleep")
      (drop (call $put (i32.const 1) (i32.const 111)))
      (drop (call $put (i32.const 2) (i32.const 101)))
      (drop (call $f (i32.const 42)))
      ;; a relative monotonic clock, due in a hundred days
      (i32.store8 (i32.const 40) (i32.const 0))
      (i32.store (i32.const 48) (i32.const 1))
      (i64.store (i32.const 56) (i64.const 8640000000000000))
      (drop (call $poll (i32.const 32) (i32.const 128) (i32.const 1) (i32.const 8))))

    (func (export "flood") (loop $again (drop (call $f (i32.const 0))) (drop (call $put (i32.const 1) (i32.const 120))) (br $again)))
    (func (export "quit") (param i32) (drop (call $put (i32.const 1) (i32.const 113))) (call $exit (local.get 0)))
    (func (export "ask") (param i32) (result i32) (call $f (local.get 0)))

    ;; Writes its arguments, each ended by a zero byte, then asks `f` for its exit code.
    (func (export "_start")
      (drop (call $args_sizes (i32.const 64) (i32.const 68)))
      (drop (call $args (i32.const 1024) (i32.const 4096)))
      (drop (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 68))))
      (call $exit (call $f (i32.const 0)))))
  """

  @doc """
  A guest of which each export does one thing at a time with the standard streams, so that what it has done can be told from
  outside. `take SIZE TIMES` reads so often into a buffer of that size and gives the sum of what it read. `put FD BYTE` writes
  one byte. `env.f` is called as the names say.
  """
  def guest, do: load!(@wat)

  @doc "Its text."
  def wat, do: @wat

  @doc "Options of a call on it, with `opts` over them: `env.f` gives back what it is given."
  def options(opts),
    do: Keyword.merge([imports: f(fn _ctx, n -> n end), sandbox: sandbox()], opts)

  def call(name, args, opts), do: Executor.call(guest(), name, args, options(opts))
  def take(size, times, stdin), do: call("take", [size, times], stdin: stdin)

  @doc "A command that puts out what it reads; and what that is, where it must come to an end."
  def cat(stdin, opts \\ []), do: run("tool", ["cat"], [stdin: stdin] ++ opts)

  def cat!(stdin, opts \\ []) do
    {:ok, %Run{exit_code: 0, stderr: ""} = run} = cat(stdin, opts)
    run.stdout
  end

  @doc "A host function that puts out its argument as a byte."
  def emit(ctx, byte), do: Host.emit(ctx, <<byte>>) && 0

  @doc "Imports that tell the caller of each call of the host function."
  def told do
    test = self()
    f(fn _ctx, n -> send(test, :called) && n end)
  end

  @doc "What `function` gives while `device` is the group leader."
  def led_by(device, function) do
    before = Process.group_leader()
    Process.group_leader(self(), device)

    try do
      function.()
    after
      Process.group_leader(self(), before)
    end
  end
end
