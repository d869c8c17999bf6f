defmodule Cybernetic.WASM.Security.WASI.StackTest do
  # Recursion without end exhausts the guest's stack, never the host's: also when the last call is one of the host's.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{LimitError, TrapError}

  test "the engine's stack" do
    for _ <- 1..10 do
      assert {:error, %LimitError{limit: :stack, allowed: 1_000_000}} = run("tool", ["recurse"])
    end
  end

  test "the program's own stack, in its memory" do
    assert {:error, %TrapError{code: :memory_out_of_bounds}} = run("tool", ["recurse-in-memory"])
  end

  test "many at once, and others are left alone" do
    tasks = for _ <- 1..20, do: Task.async(fn -> run("tool", ["recurse"], wait: 60_000) end)
    assert run!("hello", []).stdout == "hello, world\n"

    for result <- Task.await_many(tasks, 60_000),
        do: assert({:error, %LimitError{limit: :stack}} = result)
  end

  test "a program that aborts has trapped, and one that exits has not" do
    assert {:error, %TrapError{code: :unreachable}} = run("tool", ["abort"])
    assert run!("tool", ["exit", "3"]).exit_code == 3
    assert run!("tool", ["exit", "0"]).exit_code == 0
    assert run!("tool", ["exit", "255"]).exit_code == 255
  end
end
