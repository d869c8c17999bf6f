defmodule Cybernetic.WASM.Security.BulkMemoryTest do
  # One instruction that fills 64 MB costs what it fills: charged as one, a loop of them ran for hours on little fuel.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Executor, LimitError}

  setup_all do
    module =
      load!(~S"""
      (module
        (memory 160)
        (table $t 50000 funcref)
        (elem $e func $f $f $f $f)
        (data $d "0123456789")
        (func $f)
        (func (export "fill") (param i32)
          (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
        (func (export "copy") (param i32)
          (memory.copy (i32.const 1) (i32.const 0) (local.get 0)))
        (func (export "table_fill") (param i32)
          (table.fill $t (i32.const 0) (ref.null func) (local.get 0)))
        (func (export "table_copy") (param i32)
          (table.copy $t $t (i32.const 1) (i32.const 0) (local.get 0)))
        (func (export "loop") (param i32)
          (loop (memory.fill (i32.const 0) (i32.const 1) (local.get 0)) (br 0))))
      """)

    {:ok, module: module}
  end

  test "fuel is charged by size", %{module: module} do
    for {name, large} <- [
          fill: 10_000_000,
          copy: 10_000_000,
          table_fill: 40_000,
          table_copy: 40_000
        ] do
      small = Executor.run!(module, to_string(name), [1]).usage.fuel
      much = Executor.run!(module, to_string(name), [large]).usage.fuel
      assert much - small >= div(large, 8), "#{name} of #{large} used #{much}"
    end
  end

  test "fuel that does not reach for the size stops it", %{module: module} do
    assert {:error, %LimitError{limit: :fuel}} =
             Executor.call(module, "fill", [10_000_000], fuel: 100_000)
  end

  test "a loop of them ends by fuel and by its deadline", %{module: module} do
    assert {:error, %LimitError{limit: :fuel}} =
             Executor.call(module, "loop", [10_000_000], fuel: 100_000_000)

    for scheduling <- [:inline, :dirty] do
      opts = forever(timeout: 50, scheduling: scheduling)

      # On a busy machine it may be late all the same, but not each time.
      eventually(fn ->
        assert {:error, %LimitError{limit: :timeout, used: used}} =
                 Executor.call(module, "loop", [10_000_000], opts)

        used < 2_000
      end)
    end
  end
end
