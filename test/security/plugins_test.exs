defmodule Cybernetic.WASM.Security.PluginsTest do
  # What a stranger's plugin may say and do: each ends in an error that is its own, and the next call is well.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Plugins, Shapes}

  alias Cybernetic.WASM.{ABIError, Executor, LimitError, Plugin, PluginError, TrapError}

  setup_all do
    {:ok, plugin: plugin!(bytes())}
  end

  defp well(plugin), do: assert(Plugin.call(plugin, "echo", "well") == {:ok, "well"})

  test "a pointer out of memory, a negative one and a length that wraps are errors", %{
    plugin: plugin
  } do
    for name <- ["far", "negative", "wrapping"] do
      assert {:error, %ABIError{reason: :out_of_bounds, blame: :guest}} =
               Plugin.call(plugin, name, "abc")
    end

    # Inside its memory it may give whatever it likes.
    assert {:ok, <<_, "abc", _>>} = Plugin.call(plugin, "overlapping", "abc")
    assert Plugin.call(plugin, "nothing", "abc") == {:ok, ""}
    well(plugin)
  end

  test "an allocator that traps, gives nothing or lies", %{plugin: plugin} do
    for {body, error} <- [
          {"unreachable", TrapError},
          {"(i32.const 0)", ABIError},
          {"(i32.const -8)", ABIError},
          {"(i32.const 65534)", ABIError},
          {"(loop (br 0)) (i32.const 0)", LimitError}
        ] do
      assert {:error, %{__struct__: ^error, blame: :guest}} =
               Plugin.call(plugin!(allocating(body)), "echo", "abc", fuel: 1_000_000)
    end

    well(plugin)
  end

  test "whatever numbers it gives, there is an answer" do
    check_all(100, fn ->
      [at, given] = [bits(32), bits(64)]

      signed = fn number, size ->
        <<n::signed-size(size)>> = <<number::size(size)>>
        n
      end

      plugin =
        plugin!("""
        (module (memory (export "memory") 1)
          (func (export "cw_alloc") (param i32) (result i32) (i32.const #{signed.(at, 32)}))
          (func (export "run") (param i32 i32) (result i64) (i64.const #{signed.(given, 64)})))
        """)

      case Plugin.call(plugin, "text") do
        {:ok, bytes} -> assert byte_size(bytes) == rem(given, 0x1_0000_0000)
        {:error, error} -> assert {error.__struct__, error.blame} == {ABIError, :guest}
      end
    end)
  end

  test "an error whose text is elsewhere, or as long as all memory", %{plugin: plugin} do
    assert {:error, %PluginError{reason: :refused, detail: "(a text outside" <> _}} =
             Plugin.call(plugin, "complain_far", "")

    assert {:error, %PluginError{reason: :refused, detail: detail}} =
             Plugin.call(plugin, "complain_long", "")

    assert byte_size(detail) == 65_536
    assert byte_size(Exception.message(%PluginError{reason: :refused, detail: detail})) < 10_000
    well(plugin)
  end

  test "text that was promised and is none", %{plugin: plugin} do
    assert {:error, %PluginError{reason: :output, codec: :text, blame: :guest}} =
             Plugin.call(plugin, "echo", <<"a", 255>>, codec: [out: :text])
  end

  test "JSON of ten thousand arrays in each other", %{plugin: plugin} do
    deep = String.duplicate("[", 10_000) <> String.duplicate("]", 10_000)

    assert {:error, %PluginError{reason: :output, detail: "more than 64" <> _}} =
             Plugin.call(plugin, "echo", deep, codec: [out: :json])

    assert {:error, %PluginError{reason: :output, detail: "more than 64" <> _}} =
             Plugin.call(plugin, "echo", String.duplicate(~S({"a":), 10_000), codec: [out: :json])

    # In both lanes, and on their way in.
    assert {:error, %PluginError{reason: :input}} =
             Plugin.call(plugin, "echo", Enum.reduce(1..10_000, 1, fn _, in_it -> [in_it] end),
               codec: :json
             )
  end

  test "a contract that is hard to tell", %{plugin: plugin} do
    exports = for n <- 1..5_000, do: ~s|(func (export "#{String.duplicate("a", 40)}#{n}"))|
    many = "(module #{exports} (memory (export \"cw_alloc\") 1))"
    assert {:error, %PluginError{reason: :no_contract} = error} = Plugin.load({:bytes, many})
    assert byte_size(Exception.message(error)) < 5_000

    assert {:error, %PluginError{reason: :no_contract}} =
             Plugin.load({:bytes, many}, contract: :bytes)

    params = "(param #{String.duplicate("i64 ", 900)})"
    long = "(module (memory (export \"memory\") 1) (func (export \"cw_alloc\") #{params}))"
    assert {:error, %PluginError{} = error} = Plugin.load({:bytes, long})
    assert byte_size(Exception.message(error)) < 5_000
    well(plugin)
  end

  test "a hundred megabytes in and out", %{plugin: plugin} do
    bytes = String.duplicate("0123456789", 10_000_000)
    limits = [max_memory: 300_000_000, timeout: 300_000]

    echo =
      plugin!("""
      (module (memory (export "memory") 1)
        (func (export "cw_alloc") (param i32) (result i32)
          (drop (memory.grow (i32.add (i32.shr_u (local.get 0) (i32.const 16)) (i32.const 1)))) (i32.const 65536))
        (func (export "echo") (param i32 i32) (result i64)
          (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))
      """)

    assert {:ok, given} = Plugin.call(echo, :entry, bytes, limits)
    assert given == bytes
    assert {:error, %LimitError{limit: :input}} = Plugin.call(echo, :entry, bytes <> "1", limits)

    assert {:error, %LimitError{limit: :memory}} =
             Plugin.call(echo, :entry, bytes, max_memory: 99_999_999)

    well(plugin)
  end

  test "what it never returns from is cut off, and what it traps with is told", %{plugin: plugin} do
    assert {:error, %LimitError{limit: :fuel}} = Plugin.call(plugin, "spin", "", fuel: 1_000_000)
    assert {:error, %TrapError{code: :unreachable}} = Plugin.call(plugin, "fail", "")
    well(plugin)
  end

  test "what one says in an error is shown on one line, without control characters" do
    error = %PluginError{reason: :refused, detail: "\e[31m\nred", blame: :guest}
    refute Exception.message(error) =~ ~r/[\x00-\x1f]/
    refute inspect(error) =~ "\n"
  end

  test "a plugin keeps to what Executor would let its module do" do
    source = ~S|(module (import "env" "f" (func)) (memory (export "memory") 1)
      (func (export "cw_alloc") (param i32) (result i32) (i32.const 0)))|
    module = Cybernetic.WASM.Runtime.load_module!({:bytes, source})
    assert {:error, error} = Plugin.load(module)
    assert {:error, ^error} = Executor.call(module, "cw_alloc", [1])
  end
end
