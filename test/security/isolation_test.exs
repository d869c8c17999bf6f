defmodule Cybernetic.WASM.Security.IsolationTest do
  # A guest sees only its own memory, and a fresh one only its module's initial state. Slots of the pool are used again:
  # what one guest wrote must not be there for the next.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Instance, Runtime}

  setup_all do
    {:ok, tricks: Runtime.load_module!("test/fixtures/memory_tricks.wasm")}
  end

  test "what one call writes is not there for the next", %{tricks: tricks} do
    module =
      load!(~S"""
      (module
        (memory 4)
        (global $g (mut i64) (i64.const 1))
        (table $t 10 externref)
        (data (i32.const 100) "initial")
        (func (export "soil")
          (memory.fill (i32.const 0) (i32.const 255) (i32.const 262144))
          (global.set $g (i64.const -1))
          (table.fill $t (i32.const 0) (ref.null extern) (i32.const 10))
          (drop (memory.grow (i32.const 4)))
          (memory.fill (i32.const 262144) (i32.const 255) (i32.const 262144)))
        (func (export "dirty") (result i32) (local $at i32) (local $sum i32)
          (drop (memory.grow (i32.const 4)))
          (loop $l
            (local.set $sum (i32.add (local.get $sum) (i32.ne (i32.const 0) (i32.load8_u (local.get $at)))))
            (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 524288))))
          (local.get $sum))
        (func (export "global") (result i64) (global.get $g)))
      """)

    for _ <- 1..20 do
      assert Executor.call(module, "soil") == {:ok, nil}
      # Only the seven letters of the data segment.
      assert Executor.call(module, "dirty") == {:ok, 7}
      assert Executor.call(module, "global") == {:ok, 1}
    end

    # Nor for another module's guests in the same slots.
    assert {:ok, start} = Executor.call(tricks, "fill", [255, 1_000_000])
    assert start > 0

    assert {:ok, 1_000} =
             Executor.call(
               load!(~S"""
               (module (memory 1) (func (export "zeros") (result i32) (local $at i32) (local $sum i32)
                 (loop $l
                   (local.set $sum (i32.add (local.get $sum) (i32.eqz (i32.load8_u (local.get $at)))))
                   (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 1000))))
                 (local.get $sum)))
               """),
               "zeros"
             )
  end

  test "a guest that was cut off leaves nothing to the next either" do
    module =
      load!(~S"""
      (module (memory 1)
        (func (export "soil") (i32.store (i32.const 0) (i32.const 12345)) (loop (br 0)))
        (func (export "look") (result i32) (i32.load (i32.const 0))))
      """)

    for _ <- 1..20 do
      assert {:error, _} = Executor.call(module, "soil", [], fuel: 10_000)
      assert {:error, _} = Executor.call(module, "soil", [], timeout: 1)
      assert Executor.call(module, "look") == {:ok, 0}
    end
  end

  test "live guests side by side never see each other's memory" do
    module =
      load!(~S"""
      (module (memory 1)
        (func (export "put") (param i32) (i32.store (i32.const 1000) (local.get 0)))
        (func (export "get") (result i32) (i32.load (i32.const 1000))))
      """)

    instances = for n <- 1..100, do: {n, module |> Instance.new() |> elem(1)}
    for {n, instance} <- instances, do: {:ok, nil} = Instance.call(instance, "put", [n])
    for {n, instance} <- instances, do: assert(Instance.call(instance, "get") == {:ok, n})
  end

  test "addresses outside the memory trap, however far", %{tricks: tricks} do
    assert {:ok, _} = Executor.call(tricks, "read_at", [0])

    for address <- [-1, -4, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, 0xFFFF_0000] do
      assert {:error, %{code: :memory_out_of_bounds}} =
               Executor.call(tricks, "read_at", [address])

      assert {:error, %{code: :memory_out_of_bounds}} =
               Executor.call(tricks, "write_at", [address, 1])
    end
  end

  test "a term that a guest holds goes with it" do
    module =
      load!(~S"""
      (module (table $t 1 externref)
        (func (export "put") (param externref) (table.set $t (i32.const 0) (local.get 0)))
        (func (export "get") (result externref) (table.get $t (i32.const 0))))
      """)

    assert Executor.call(module, "put", ["a secret"]) == {:ok, nil}
    assert Executor.call(module, "get") == {:ok, nil}
  end
end
