defmodule Cybernetic.WASM.Imports.GlobalsTest do
  # Globals of the host's.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Instance, LinkError, Module}

  defp global(type, value), do: %{"env" => %{"g" => {:global, type, value}}}

  # Gives an imported global of that type back.
  defp getter(type) do
    load!("""
    (module (import "env" "g" (global $g #{type}))
      (func (export "get") (result #{String.replace(type, ~r/\(mut (.*)\)/, "\\1")}) (global.get $g)))
    """)
  end

  test "of every type come as they are given" do
    for {type, name, value} <- [
          {"i32", :i32, -7},
          {"i64", :i64, 1_234_567_890_123},
          {"f32", :f32, 1.5},
          {"f64", :f64, :nan},
          {"v128", :v128, <<1::128>>},
          {"externref", :externref, %{any: ["term"]}},
          {"externref", :externref, nil},
          {"(ref extern)", :externref, "never null"},
          {"anyref", :anyref, {:a, 1}},
          {"funcref", :funcref, nil}
        ] do
      imports = global(name, value)
      module = getter(type)
      assert Executor.call(module, "get", [], imports: imports) == {:ok, value}
      instance = Instance.new!(module, imports: imports)
      assert Instance.call(instance, "get") == {:ok, value}
      assert Instance.reset(instance) == :ok
      assert Instance.call(instance, "get") == {:ok, value}
    end
  end

  test "are how modules for JavaScript have their texts" do
    module =
      load!(~S"""
      (module
        (import "strings" "hello, " (global $hello (ref extern)))
        (import "strings" "world" (global $world (ref extern)))
        (import "env" "concat" (func $concat (param externref externref) (result externref)))
        (func (export "run") (result externref) (call $concat (global.get $hello) (global.get $world))))
      """)

    texts =
      for %{module: "strings", name: text} <- Module.imports(module),
          into: %{},
          do: {text, {:global, :externref, text}}

    imports = %{"strings" => texts, "env" => %{"concat" => fn _ctx, a, b -> a <> b end}}
    assert Executor.call(module, "run", [], imports: imports) == {:ok, "hello, world"}
  end

  test "that can be changed are each instance's own, and new after a reset" do
    module =
      load!(~S"""
      (module (import "env" "g" (global $g (mut i32)))
        (export "g" (global $g))
        (func (export "next") (result i32)
          (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g)))
      """)

    imports = global({:mut, :i32}, 40)
    one = Instance.new!(module, imports: imports)
    other = Instance.new!(module, imports: imports)
    assert Instance.call(one, "next") == {:ok, 41}
    assert Instance.call(one, "next") == {:ok, 42}
    assert Instance.call(other, "next") == {:ok, 41}
    assert Instance.get_global(one, "g") == {:ok, 42}
    assert Instance.set_global(one, "g", 7) == :ok
    assert Instance.call(one, "next") == {:ok, 8}
    assert Instance.reset(one) == :ok
    assert Instance.call(one, "next") == {:ok, 41}
    assert Executor.call(module, "next", [], imports: imports) == {:ok, 41}
  end

  test "stand beside what other guests export" do
    lib = load!(~S|(module (global (export "g") i32 (i32.const 5)) (memory (export "memory") 1))|)

    module =
      load!(~S"""
      (module (import "env" "g" (global $g i32)) (import "lib" "g" (global $h i32))
        (import "lib" "memory" (memory 1))
        (func (export "sum") (result i32) (i32.add (global.get $g) (global.get $h))))
      """)

    imports = Map.put(global(:i32, 10), "lib", lib)
    assert Executor.call(module, "sum", [], imports: imports) == {:ok, 15}
    lib = Instance.new!(lib)
    instance = Instance.new!(module, imports: Map.put(imports, "lib", lib))
    assert Instance.call(instance, "sum") == {:ok, 15}
    assert Instance.reset(instance) == :ok
    assert Instance.call(instance, "sum") == {:ok, 15}
  end

  test "are initial values of the module's own" do
    module =
      load!(~S"""
      (module (import "env" "g" (global $g i32)) (global $own i32 (global.get $g))
        (memory (export "memory") 1) (data (global.get $g) "x")
        (func (export "own") (result i32) (global.get $own)))
      """)

    instance = Instance.new!(module, imports: global(:i32, 16))
    assert Instance.call(instance, "own") == {:ok, 16}
    assert Cybernetic.WASM.Memory.read(instance, 16, 1) == {:ok, "x"}
  end

  test "of another type, or that are none, are named with the reason" do
    for {type, given, words} <- [
          {"i32", {:global, :i64, 1}, "a constant global of i64 was given"},
          {"(mut i32)", {:global, :i32, 1}, "a constant global of i32 was given"},
          {"i32", {:global, {:mut, :i32}, 1}, "a mutable global of i32 was given"},
          {"i32", {:global, :i32, "text"}, "the value given is not of its type"},
          {"i32", {:global, :i32, nil}, "the value given is not of its type"},
          {"(ref extern)", {:global, :externref, nil}, "the value given is not of its type"},
          {"funcref", {:global, :funcref, :f}, "the value given is not of its type"},
          {"i32", {:global, :int, 1}, "a global is {:global, type, value}"},
          {"i32", {:global, "i32", 1}, "a global is {:global, type, value}"},
          {"i32", 1, "got: 1; a global can also be {:global, type, value}"}
        ] do
      imports = %{"env" => %{"g" => given}}

      for result <- [
            Executor.call(getter(type), "get", [], imports: imports),
            Instance.new(getter(type), imports: imports)
          ] do
        assert {:error, %LinkError{problems: [problem]}} = result
        assert problem.reason =~ words
        assert {problem.module, problem.name} == {"env", "g"}
      end
    end

    # For a function it is none.
    assert {:error, %LinkError{problems: [%{reason: reason}]}} =
             Executor.call(calling(), "run", [1],
               imports: %{"env" => %{"f" => {:global, :i32, 1}}}
             )

    assert reason =~ "a function is needed"
  end

  test "do not come with one call" do
    instance = Instance.new!(getter("i32"), imports: global(:i32, 1))
    assert Instance.call(instance, "get", [], imports: global(:i32, 2)) == {:ok, 1}
  end
end
