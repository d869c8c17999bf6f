defmodule Cybernetic.WASM.Plugin.Contracts.ComponentTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{CallError, Plugin, PluginError, Run}

  # Of the type of `run`: it gives its bytes, and the error `empty` for none.
  @bytes "acme:values/identity@1.2.0#result-of-bytes"

  setup_all do
    {:ok, values: Plugin.load!("test/fixtures/components/values.wasm", unknown_imports: :trap)}
  end

  test "a function that passes bytes takes and gives them by the codec", %{values: values} do
    assert Plugin.call(values, @bytes, "abc") == {:ok, "abc"}
    assert Plugin.call(values, @bytes, %{a: 1}, codec: :json) == {:ok, %{"a" => 1}}

    assert {:ok, %Run{result: "abc", metadata: %{input_length: 3, output_length: 3}}} =
             Plugin.run(values, @bytes, "abc")
  end

  test "its error is the plugin's", %{values: values} do
    assert {:error, %PluginError{reason: :refused, detail: "empty", contract: :component} = error} =
             Plugin.run(values, @bytes, "")

    assert error.usage.fuel > 0
  end

  test "any other takes the list of its arguments, or its only one, and gives what it gives" do
    greeter = Plugin.load!("priv/wasm/greeter.wasm")
    assert Plugin.call(greeter, "greet", ["Ada"]) == {:ok, "Hello, Ada!"}
    assert Plugin.call(greeter, "greet", "Ada") == {:ok, "Hello, Ada!"}
    assert Plugin.call(greeter, {"acme:shop/orders", "place"}, [[]]) == {:ok, {:error, "empty"}}
    assert {:error, %CallError{reason: :type}} = Plugin.call(greeter, "greet", [1])
    assert {:error, %CallError{reason: :no_such_export}} = Plugin.call(greeter, "great", ["Ada"])
  end

  test "what is passed at once may be as much as may come out", %{values: values} do
    long = String.duplicate("a", 20_000_000)
    assert Plugin.call(values, @bytes, long, max_memory: 200_000_000) == {:ok, long}

    assert {:error, %CallError{reason: :type, expected: "at most 1000000 bytes" <> _}} =
             Plugin.call(values, @bytes, long, max_output: 1_000_000)
  end
end
