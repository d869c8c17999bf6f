defmodule Cybernetic.WASM.Loader.ExpectTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Loader, LoadError, Runtime}

  @wat ~S"""
  (module
    (memory (export "memory") 1)
    (table (export "table") 1 funcref)
    (global (export "global") i32 (i32.const 0))
    (tag (export "tag"))
    (func (export "none"))
    (func (export "execute") (param i32 i32) (result i32) (i32.const 0))
    (func (export "pair") (param f32) (result i64 f64) (i64.const 0) (f64.const 0))
    (func (export "run it") (param externref)))
  """

  defp validate(exports), do: @wat |> load!() |> Loader.validate(expect: [exports: exports])

  test "what is there is taken, however it is written" do
    for exports <- [
          [],
          [memory: :memory, table: :table, global: :global, tag: :tag, execute: :function],
          [execute: "(i32 i32) -> i32"],
          [execute: "(i32, i32) -> (i32)"],
          [execute: " ( i32  i32 )->i32 "],
          [none: "()"],
          [none: "() -> ()"],
          [pair: "(f32) -> (i64 f64)"],
          [pair: "(f32) -> i64 f64"],
          [{"run it", "(externref)"}],
          %{"pair" => {:function, ["f32"], ["i64", "f64"]}, memory: :memory}
        ] do
      assert {:ok, _} = validate(exports), inspect(exports)
    end
  end

  test "each that is missing, or something else, is named" do
    exports = [
      execute: "(i32) -> i32",
      pair: "(f32) -> i64",
      none: :memory,
      memory: "()",
      absent: "(i64) -> ()",
      missing: :table,
      tag: :tag
    ]

    assert {:error, %LoadError{reason: :unexpected, exports: problems} = error} =
             validate(exports)

    assert problems == [
             %{name: "execute", expected: "(i32) -> i32", found: "(i32 i32) -> i32"},
             %{name: "pair", expected: "(f32) -> i64", found: "(f32) -> (i64 f64)"},
             %{name: "none", expected: "a memory", found: "()"},
             %{name: "memory", expected: "()", found: "a memory"},
             %{name: "absent", expected: "(i64)", found: nil},
             %{name: "missing", expected: "a table", found: nil}
           ]

    assert Exception.message(error) =~
             "not what is expected: execute must be (i32) -> i32, and is (i32 i32) -> i32; pair must be"

    assert Exception.message(error) =~ "absent must be (i64), and is not exported"
  end

  test "holds at a load" do
    assert {:error, %LoadError{reason: :unexpected, source: :bytes}} =
             Runtime.load_module({:bytes, @wat}, expect: [exports: [execute: "()"]])

    assert {:ok, _} = Runtime.load_module({:bytes, @wat}, expect: [exports: [execute: :function]])
    assert {:ok, _} = Runtime.load_module({:bytes, @wat}, expect: [])
  end

  test "a manifest is held to as well" do
    module = load!(@wat)
    {:ok, manifest} = Cybernetic.WASM.Sandbox.Manifest.parse("[capabilities]\nmemory = false")

    assert {:error, %Cybernetic.WASM.ManifestError{}} =
             Loader.validate(module, manifest: manifest)

    assert_raise ArgumentError, fn -> Loader.validate(module, digest: "sha256:") end
  end

  test "many are bounded" do
    many = for n <- 1..10_000, do: {"export number #{n}", :memory}
    assert {:error, error} = validate(many)
    assert length(error.exports) == 10_000
    assert byte_size(Exception.message(error)) < 5_000
    assert Exception.message(error) =~ "and 9980 more"
    assert byte_size(inspect(error)) < 2_000

    assert {:error, error} = validate([{String.duplicate("x", 100_000), :memory}])
    assert byte_size(hd(error.exports).name) < 300
  end

  test "types of a stranger's module are bounded, too" do
    params = String.duplicate(" i64", 900)
    module = load!(~s|(module (func (export "f") (param#{params})))|)
    assert {:error, error} = Loader.validate(module, expect: [exports: [f: "()"]])
    assert byte_size(Exception.message(error)) < 1_000
    assert Exception.message(error) =~ "and 880 more"
  end

  test "what is none raises" do
    for exports <- [
          [execute: "i32 -> i32"],
          [execute: "(i32"],
          [execute: "(i32) -> "],
          [execute: "(i32) => i32"],
          [execute: "(int) -> i32"],
          [execute: "(i32) -> int"],
          [execute: "(i32) (i32)"],
          [execute: ""],
          [execute: :component],
          [execute: nil],
          [execute: {:memory, %{}}],
          [{1, :memory}],
          [:execute],
          :execute,
          "execute"
        ] do
      assert_raise ArgumentError, fn -> validate(exports) end
    end

    for expect <- [[export: []], [imports: []], :none, %{exports: []}] do
      assert_raise ArgumentError, fn -> Loader.validate({:bytes, @wat}, expect: expect) end
    end
  end
end
