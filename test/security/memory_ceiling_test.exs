defmodule Cybernetic.WASM.Security.MemoryCeilingTest do
  # A memory limit for each linear memory, and not for the guest, is none: guests have as many memories as they like, and
  # tables and GC heaps besides.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Host, LimitError}

  @page 65_536

  test "the limit is over all memories of a guest" do
    memories = for n <- 0..9, do: ~s|(memory $m#{n} 1)|

    grow =
      for n <- 0..9,
          do: ~s|(func (export "grow#{n}") (result i32) (memory.grow $m#{n} (i32.const 1)))|

    module = load!("(module #{memories} #{grow})")

    assert {:error, %LimitError{limit: :memory, allowed: allowed}} =
             Executor.call(module, "grow0", [], max_memory: 10 * @page - 1)

    assert allowed == 10 * @page - 1

    for n <- 0..9 do
      assert Executor.call(module, "grow#{n}", [], max_memory: 10 * @page) == {:ok, -1}
      assert Executor.call(module, "grow#{n}", [], max_memory: 11 * @page) == {:ok, 1}
    end
  end

  test "tables count as memory" do
    module =
      load!(~S"""
      (module (table $t 1 externref)
        (func (export "grow") (param i32) (result i32)
          (table.grow $t (ref.null extern) (local.get 0))))
      """)

    assert {:ok, 1} = Executor.call(module, "grow", [10_000])
    assert {:ok, -1} = Executor.call(module, "grow", [10_000], max_memory: 50_000)
    assert {:ok, run} = Executor.run(module, "grow", [10_000])
    assert run.usage.peak_memory >= 80_000
  end

  test "the limit on elements is over all tables of a guest" do
    tables = for n <- 0..9, do: ~s|(table $t#{n} 100 funcref)|

    module =
      load!("""
      (module #{tables} (func (export "grow") (param i32) (result i32)
        (table.grow $t7 (ref.null func) (local.get 0))))
      """)

    assert {:error, %LimitError{limit: :table_elements, allowed: 999, used: 1_000}} =
             Executor.call(module, "grow", [1], max_table_elements: 999)

    assert {:ok, 100} = Executor.call(module, "grow", [5], max_table_elements: 1_005)
    assert {:ok, -1} = Executor.call(module, "grow", [6], max_table_elements: 1_005)
  end

  test "a GC heap counts as memory" do
    module =
      load!(~S"""
      (module
        (type $cell (struct (field (ref null $cell)) (field i64 i64 i64 i64)))
        (func (export "list") (param i32) (local $head (ref null $cell))
          (loop $l
            (local.set $head (struct.new $cell (local.get $head)
              (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))
            (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
      """)

    assert {:ok, nil} = Executor.call(module, "list", [1_000])

    assert {:error, %LimitError{limit: :memory, allowed: 2_000_000}} =
             Executor.call(module, "list", [1_000_000], max_memory: 2_000_000)
  end

  test "a refused growth leaves what there was, and growing goes on within the limit" do
    module =
      load!(~S"""
      (module (memory 1)
        (func (export "run") (result i32 i32 i32 i32)
          (memory.grow (i32.const 100))
          (memory.grow (i32.const 1))
          (memory.grow (i32.const 1))
          (memory.size)))
      """)

    assert Executor.call(module, "run", [], max_memory: 2 * @page) == {:ok, [-1, 1, -1, 2]}
  end

  test "memory that a re-entrant call grows is the same guest's" do
    module =
      asking(~S"""
      (memory (export "memory") 1)
      (func (export "grow") (result i32) (memory.grow (i32.const 1)))
      (func (export "run") (result i32) (call $f (i32.const 0)))
      """)

    imports =
      f(fn ctx, _ ->
        assert Host.call(ctx, "grow") == {:ok, 1}
        assert Host.call(ctx, "grow") == {:ok, -1}
        assert Host.memory_size(ctx) == {:ok, 2 * @page}
        0
      end)

    assert Executor.call(module, "run", [], imports: imports, max_memory: 2 * @page) == {:ok, 0}
  end

  test "a memory that asks for 4 GB, or for all that 64 bits address, is refused" do
    assert {:error, %LimitError{limit: :memory, used: 4_294_967_296}} =
             Executor.call(load!(~S|(module (memory 65536) (func (export "run")))|), "run")

    wide = load!(~S|(module (memory i64 0x1000000000) (func (export "run")))|)
    assert {:error, %LimitError{limit: :memory}} = Executor.call(wide, "run")

    growing =
      load!(~S"""
      (module (memory i64 0)
        (func (export "run") (param i64) (result i64) (memory.grow (local.get 0))))
      """)

    for pages <- [1 <<< 47, -1, 0x1_0000_0000] do
      assert Executor.call(growing, "run", [pages]) == {:ok, -1}
    end
  end

  test "a table of ten million elements is refused" do
    module = load!(~S|(module (table 10000000 funcref) (func (export "run")))|)

    assert {:error, %LimitError{limit: :table_elements, used: 10_000_000}} =
             Executor.call(module, "run")

    # Where elements are allowed, the memory that they take is the limit.
    assert {:error, %LimitError{limit: :memory}} =
             Executor.call(module, "run", [],
               max_table_elements: 10_000_000,
               max_memory: 50_000_000
             )
  end

  defp a <<< b, do: Bitwise.bsl(a, b)
end
