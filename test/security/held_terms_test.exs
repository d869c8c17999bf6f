defmodule Cybernetic.WASM.Security.HeldTermsTest do
  # A guest with a limit of a megabyte held nearly a gigabyte of the host's terms: what was behind its references counted for
  # nobody, and each time that it was given a term it got another copy.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, Instance, LimitError, Runtime}

  setup :quiet_node

  # Keeps all that the host gives it, n times.
  defp hoarder do
    load!(~S"""
    (module
      (import "env" "f" (func $f (param i32) (result externref)))
      (table $t (export "t") 100000 externref)
      (func (export "put") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
      (func (export "hoard") (param i32)
        (loop $l
          (table.set $t (local.get 0) (call $f (local.get 0)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
      (func (export "waste") (param i32)
        (loop $l
          (table.set $t (i32.const 1) (call $f (local.get 0)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
    """)
  end

  defp list(n), do: Enum.to_list(n..(n + 1_000))

  test "what a guest hoards is bounded by its memory" do
    imports = f(fn _ctx, n -> list(n) end)
    opts = [imports: imports, max_memory: 3_000_000]
    called = Executor.call(hoarder(), "hoard", [90_000], opts)
    assert {:error, %LimitError{limit: :memory, allowed: 3_000_000, usage: usage}} = called
    assert usage.peak_memory in 2_000_000..3_000_000
    quiet()
  end

  test "so are atoms and numbers, which are small but are not nothing" do
    opts = [imports: f(fn _ctx, n -> n end), max_memory: 3_000_000]
    called = Executor.call(hoarder(), "hoard", [90_000], opts)
    assert {:error, %LimitError{limit: :memory}} = called
  end

  test "one term is held once, however often it is given" do
    term = list(0)
    opts = [imports: f(fn _ctx, _n -> term end), max_memory: 10_000_000]
    assert {:ok, nil} = Executor.call(hoarder(), "hoard", [20_000], opts)
  end

  test "what it throws away is not held against it" do
    opts = [imports: f(fn _ctx, n -> list(n) end), max_memory: 3_000_000]
    assert {:ok, nil} = Executor.call(hoarder(), "waste", [2_000], opts)
  end

  test "the node counts it while the guest lives" do
    instance = Instance.new!(hoarder(), imports: f(fn _ctx, n -> n end))
    before = Runtime.stats().total_memory
    big = :binary.copy("x", 5_000_000)
    assert {:ok, nil} = Instance.call(instance, "put", [0, {:big, big}])
    assert (Runtime.stats().total_memory - before) in 5_000_000..5_100_000
    assert {:ok, nil} = Instance.call(instance, "put", [1, {:big, big}])
    assert (Runtime.stats().total_memory - before) in 5_000_000..5_100_000
    Instance.close(instance)
    quiet()
  end

  test "a term that is too large is refused, and the instance is as good as before" do
    instance = Instance.new!(hoarder(), imports: f(fn _ctx, n -> n end), max_memory: 3_000_000)
    assert {:ok, nil} = Instance.call(instance, "put", [0, Enum.to_list(1..100_000)])
    # Too large by itself, and too large beside what is there.
    for term <- [Enum.to_list(1..1_000_000), Enum.to_list(2..100_000)] do
      refused = Instance.call(instance, "put", [1, term])
      assert {:error, %LimitError{limit: :memory, allowed: 3_000_000}} = refused
      refute Instance.poisoned?(instance)
    end

    assert {:ok, nil} = Instance.call(instance, "put", [0, nil])
    assert {:ok, nil} = Instance.call(instance, "put", [1, Enum.to_list(2..100_000)])
  end
end
