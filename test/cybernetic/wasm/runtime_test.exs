defmodule Cybernetic.WASM.RuntimeTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Component, Executor, LoadError, Module, Runtime}

  doctest Cybernetic.WASM.Runtime

  @answer ~S|(module (func (export "answer") (result i32) i32.const 42))|

  test "a module is loaded from a path" do
    assert {:ok, %Module{} = module} = Runtime.load_module("priv/wasm/compute.wasm")
    assert module.name == "compute.wasm"
    assert module.size == File.stat!("priv/wasm/compute.wasm").size
    assert Executor.call(module, "process", [21]) == {:ok, 42}
  end

  test "what a door does not take it says, with what it takes" do
    {:ok, greeter} = Runtime.load_module("priv/wasm/greeter.wasm")

    for {take, words} <- [
          {fn -> Runtime.warm("priv/wasm/compute.wasm") end,
           ~s|warm/1 takes a list of sources, such as ["priv/wasm/resize.wasm"|},
          {fn -> Runtime.warm([:compute]) end, "a module is loaded from a path"},
          {fn -> Runtime.warm([{"x.wasm", meter: :fuel}]) end, "unknown load option :meter"},
          {fn -> Runtime.unload(:compute) end,
           "a name is needed, without a version, got: :compute"},
          {fn -> Runtime.keep("compute") end, "load it first with"},
          {fn -> Runtime.module(1) end, "load it first with"},
          {fn -> Runtime.info(nil) end, "load it first with"},
          {fn -> Module.exports("priv/wasm/compute.wasm") end, "load it first with"},
          {fn -> Module.imports(nil) end, "load it first with"},
          {fn -> Module.memories(%{ref: 1}) end, "load it first with"},
          {fn -> Module.digest("x", :sha256) end, "load it first with"},
          {fn -> Module.digest(greeter, :md5) end,
           "a digest is of :blake3 or :sha256, got: :md5"},
          {fn -> Component.type("greeter", "greet") end,
           "type/2 takes a component that is loaded"},
          {fn -> Component.type(Runtime.load_module!({:bytes, @answer}), "answer") end,
           "of a module, Cybernetic.WASM.Module.exports/1 has the types"},
          {fn -> Component.type(greeter, :greet) end, "the name of an export is a text"}
        ] do
      error = assert_raise ArgumentError, take
      assert error.message =~ words
    end
  end

  test "a path may name the text format" do
    assert {:ok, module} = Runtime.load_module("priv/wasm/compute.wat")
    assert Executor.call(module, "add", [1, 2]) == {:ok, 3}
  end

  test "a module is loaded from bytes, in either format" do
    assert {:ok, text} = Runtime.load_module({:bytes, @answer})
    assert {:ok, binary} = Runtime.load_module({:bytes, File.read!("priv/wasm/compute.wasm")})
    assert Executor.call(text, "answer") == {:ok, 42}
    assert Executor.call(binary, "process", [1]) == {:ok, 2}
    assert text.name == nil
    assert text.size == byte_size(@answer)
  end

  test "text may open with white space and comments" do
    source = "\n  ;; the answer\n" <> @answer
    assert {:ok, module} = Runtime.load_module({:bytes, source})
    assert Executor.call(module, "answer") == {:ok, 42}

    source = "(; a block ;) " <> @answer
    assert {:ok, module} = Runtime.load_module({:bytes, source})
    assert Executor.call(module, "answer") == {:ok, 42}
  end

  test "load_module! gives the module or raises the error" do
    assert %Module{} = Runtime.load_module!({:bytes, @answer})
    assert_raise LoadError, ~r/no such file/, fn -> Runtime.load_module!("no/such/file") end
  end

  test "stats names all that the node uses" do
    stats = Runtime.stats()

    for key <- [
          :cache_hits,
          :cache_misses,
          :cache_joined,
          :cache_evictions,
          :cache_expired,
          :artifact_hits,
          :artifact_misses,
          :artifact_refused,
          :artifact_writes,
          :artifact_unwritten,
          :artifact_evictions,
          :artifact_entries,
          :artifact_bytes,
          :cache_entries,
          :cache_bytes,
          :live_instances,
          :total_memory,
          :code_memory,
          :engines,
          :epoch_ticks
        ] do
      assert is_integer(stats[key]) and stats[key] >= 0, "no #{key} in #{inspect(stats)}"
    end
  end

  test "a module may be used by any process" do
    module = Runtime.load_module!({:bytes, @answer})
    parent = self()
    spawn_link(fn -> send(parent, {:result, Executor.call(module, "answer")}) end)
    assert_receive {:result, {:ok, 42}}
  end
end
