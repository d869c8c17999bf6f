defmodule Cybernetic.WASM.Security.WASI.StackTest do
  # Recursion without end exhausts the guest's stack, never the host's: also when the last call is one of the host's.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Plenty, Programs}

  alias Cybernetic.WASM.{Executor, Guests, LimitError, RawCalls, TrapError}

  test "the engine's stack" do
    for _ <- 1..10 do
      assert {:error, %LimitError{limit: :stack, allowed: 1_000_000}} = run("tool", ["recurse"])
    end
  end

  test "the program's own stack, in its memory" do
    assert {:error, %TrapError{code: :memory_out_of_bounds}} = run("tool", ["recurse-in-memory"])
  end

  test "many at once, and others are left alone" do
    tasks = for _ <- 1..20, do: Task.async(fn -> run("tool", ["recurse"], wait: never()) end)
    assert run!("hello", []).stdout == "hello, world\n"

    for result <- await(tasks),
        do: assert({:error, %LimitError{limit: :stack}} = result)
  end

  # Each leads deep into the host: paths with links, listings, files. A host that ran on what the guest left would fall over
  # at some depth just before the guest's own end.
  test "a call of WASI's at the bottom of the guest's stack has a stack of the host's" do
    dir = directory()
    File.mkdir_p!(Path.join(dir, "a/b/c/d/e/f"))
    File.ln_s!(".", Path.join(dir, "l"))
    module = deep()

    for max_stack <- [16_384, 1_000_000] do
      opts = [sandbox: sandbox_of(dir, :rw, max_stack: max_stack)]
      call = fn depth, which -> Executor.call(module, "down", [depth, which], opts) end
      end_of_stack = last(fn depth -> match?({:ok, _}, call.(depth, 0)) end, 0, max_stack)

      for which <- 0..7, depth <- (end_of_stack - 150)..(end_of_stack + 10) do
        case call.(depth, which) do
          {:ok, errno} -> assert errno in [0, 20, 54]
          {:error, error} -> assert %LimitError{limit: :stack} = error
        end
      end
    end
  end

  # The largest number for which it is so.
  defp last(_so?, yes, no) when no - yes <= 1, do: yes

  defp last(so?, yes, no) do
    middle = div(yes + no, 2)
    if so?.(middle), do: last(so?, middle, no), else: last(so?, yes, middle)
  end

  defp deep do
    Guests.load!("""
    (module
      #{RawCalls.imports(~w(path_open path_create_directory path_filestat_get path_rename fd_readdir fd_write random_get
        poll_oneoff))}
      (memory (export "memory") 1)
      (data (i32.const 0) "a/b/c/d/e/f/../../../../../../l/l/l/l/l/l/l")
      (data (i32.const 128) "\\00\\01\\00\\00\\10\\00\\00\\00")
      (type $f (func (result i32)))
      (table funcref (elem $f0 $f1 $f2 $f3 $f4 $f5 $f6 $f7))
      (func $f0 (result i32) (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 43) (i32.const 0)
                               (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 512)))
      (func $f1 (result i32) (call $path_create_directory (i32.const 3) (i32.const 0) (i32.const 43)))
      (func $f2 (result i32) (call $path_filestat_get (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 43) (i32.const 512)))
      (func $f3 (result i32) (call $path_rename (i32.const 3) (i32.const 0) (i32.const 11) (i32.const 3) (i32.const 0) (i32.const 43)))
      (func $f4 (result i32) (call $fd_readdir (i32.const 3) (i32.const 512) (i32.const 512) (i64.const 0) (i32.const 64)))
      (func $f5 (result i32) (call $fd_write (i32.const 1) (i32.const 128) (i32.const 1) (i32.const 512)))
      (func $f6 (result i32) (call $random_get (i32.const 512) (i32.const 512)))
      (func $f7 (result i32)
        (i64.store (i32.const 1048) (i64.const 1000))
        (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 512)))
      (func $down (export "down") (param $depth i32) (param $which i32) (result i32)
        (if (result i32) (local.get $depth)
          (then (i32.or (i32.const 0) (call $down (i32.sub (local.get $depth) (i32.const 1)) (local.get $which))))
          (else (call_indirect (type $f) (local.get $which))))))
    """)
  end

  # As deep as a path may go, down through directories and round through links.
  test "no path is too deep for the host" do
    dir = directory()
    File.ln_s!(".", Path.join(dir, "l"))
    guest = RawCalls.guest(sandbox_of(dir, :rw))

    for part <- ["a/", "./", "l/", "../", "a/../", "//"],
        count <- [10, 39, 41, 500, 1_000, 2_047] do
      path = String.duplicate(part, count) <> "x"
      answer = RawCalls.open(guest, path)

      assert answer in [:noent, :loop, :perm, :nametoolong],
             "#{part} #{count} times: #{inspect(answer)}"
    end

    for _ <- 1..200 do
      assert RawCalls.at(guest, "path_create_directory", "d") == :ok
      assert RawCalls.move(guest, "path_rename", {3, "d"}, {3, "e"}) in [:ok, :notempty]
    end
  end

  test "a program that aborts has trapped, and one that exits has not" do
    assert {:error, %TrapError{code: :unreachable}} = run("tool", ["abort"])
    assert run!("tool", ["exit", "3"]).exit_code == 3
    assert run!("tool", ["exit", "0"]).exit_code == 0
    assert run!("tool", ["exit", "255"]).exit_code == 255
  end
end
