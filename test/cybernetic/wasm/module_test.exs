defmodule Cybernetic.WASM.ModuleTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.Module

  doctest Cybernetic.WASM.Module

  test "references to types of the module's own are named without a number of the process's" do
    module =
      load!(~S"""
      (module
        (type $f (func (param i32))) (type $s (struct (field i32))) (type $a (array i8))
        (import "env" "f" (func (param (ref null $f) (ref $s)) (result (ref null $a) eqref (ref any)))))
      """)

    assert [%{type: {:function, params, results}}] = Module.imports(module)
    assert params == ["(ref null (func …))", "(ref (struct …))"]
    assert results == ["(ref null (array …))", "eqref", "(ref any)"]
  end

  test "imports of every kind, in order, with their types" do
    module =
      load!(~S"""
      (module
        (import "env" "log" (func (param i32 i64 f32 f64 v128) (result externref funcref)))
        (import "env" "memory" (memory 1 2))
        (import "env" "big" (memory i64 3))
        (import "tables" "table" (table 4 5 funcref))
        (import "tables" "extern" (table 0 externref))
        (import "globals" "constant" (global i32))
        (import "globals" "variable" (global (mut f64)))
        (import "tags" "tag" (tag (param i32 i32)))
        (import "" "" (func)))
      """)

    assert Module.imports(module) == [
             %{
               module: "env",
               name: "log",
               type: {:function, ~w(i32 i64 f32 f64 v128), ["externref", "funcref"]}
             },
             %{
               module: "env",
               name: "memory",
               type: {:memory, %{minimum: 1, maximum: 2, page_size: 65_536, index: "i32"}}
             },
             %{
               module: "env",
               name: "big",
               type: {:memory, %{minimum: 3, maximum: nil, page_size: 65_536, index: "i64"}}
             },
             %{
               module: "tables",
               name: "table",
               type: {:table, %{element: "funcref", minimum: 4, maximum: 5}}
             },
             %{
               module: "tables",
               name: "extern",
               type: {:table, %{element: "externref", minimum: 0, maximum: nil}}
             },
             %{
               module: "globals",
               name: "constant",
               type: {:global, %{type: "i32", mutable: false}}
             },
             %{
               module: "globals",
               name: "variable",
               type: {:global, %{type: "f64", mutable: true}}
             },
             %{module: "tags", name: "tag", type: {:tag, ~w(i32 i32)}},
             %{module: "", name: "", type: {:function, [], []}}
           ]
  end

  test "exports of every kind, in order, with their types" do
    module =
      load!(~S"""
      (module
        (func (export "f") (param i32) (result i64 i64) (i64.const 1) (i64.const 2))
        (memory (export "m") 1)
        (table (export "t") 2 10 externref)
        (global (export "g") (mut i64) (i64.const 0))
        (tag (export "e") (param f32)))
      """)

    assert Module.exports(module) == [
             %{name: "f", type: {:function, ["i32"], ["i64", "i64"]}},
             %{
               name: "m",
               type: {:memory, %{minimum: 1, maximum: nil, page_size: 65_536, index: "i32"}}
             },
             %{
               name: "t",
               type: {:table, %{element: "externref", minimum: 2, maximum: 10}}
             },
             %{name: "g", type: {:global, %{type: "i64", mutable: true}}},
             %{name: "e", type: {:tag, ["f32"]}}
           ]

    assert Module.memories(module) == %{
             "m" => %{minimum: 1, maximum: nil, page_size: 65_536, index: "i32"}
           }

    assert Module.imports(module) == []
    assert Module.code_size(module) > 0
  end

  test "names may be any Unicode" do
    module = load!(~S|(module (func (export "größe 📏\00") (result i32) i32.const 1))|)
    assert [%{name: "größe 📏\0"}] = Module.exports(module)
    assert Cybernetic.WASM.Executor.call(module, "größe 📏\0") == {:ok, 1}
  end

  test "custom sections have their names and sizes" do
    section = fn name, bytes ->
      content = <<byte_size(name)>> <> name <> bytes
      <<0, byte_size(content)>> <> content
    end

    wasm =
      <<0, "asm", 1, 0, 0, 0>> <>
        section.("first", "12345") <> section.("", "") <> section.("first", "1")

    assert Module.custom_sections(load!(wasm)) == [
             %{name: "first", size: 5},
             %{name: "", size: 0},
             %{name: "first", size: 1}
           ]
  end

  test "the digest is BLAKE3 of the bytes that were loaded" do
    # The hash of these eight bytes, from the reference implementation (b3sum).
    empty = load!(<<0, "asm", 1, 0, 0, 0>>)

    assert empty.digest ==
             "blake3:0d66d411a21e80d93afa1487b002a1867432c04ba1d08dc790d259639f6a69c4"

    # The text format is digested as it was given.
    refute load!("(module)").digest == empty.digest
    refute load!("(module )").digest == load!("(module)").digest
  end

  test "the digest is SHA-256 as well, of the same bytes in either format" do
    sha256 = fn bytes ->
      "sha256:" <> Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)
    end

    for bytes <- [<<0, "asm", 1, 0, 0, 0>>, "(module )", File.read!("priv/wasm/digest.wasm")] do
      assert Module.digest(load!(bytes), :sha256) == sha256.(bytes)
      assert Module.digest(load!(bytes), :blake3) == load!(bytes).digest
    end
  end

  test "a handle shows no reference" do
    module = compute()

    assert inspect(module) =~
             ~r/\A#Cybernetic\.WASM\.Module<compute\.wasm, \d+ bytes, blake3:[0-9a-f]{8}>\z/

    assert inspect(load!("(module)")) =~
             ~r/\A#Cybernetic\.WASM\.Module<bytes, 8 bytes, blake3:[0-9a-f]{8}>\z/

    refute inspect([module: module], structs: true) =~ "#Reference"
  end
end
