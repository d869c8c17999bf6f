defmodule Cybernetic.WASM.Plugin.Contracts.ProcessTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plugins

  alias Cybernetic.WASM.{ABIError, CallError, LimitError, Plugin, PluginError}

  setup_all do
    {:ok, plugin: plugin!(process())}
  end

  test "a string goes in and one comes out", %{plugin: plugin} do
    assert Plugin.call(plugin, "hello") == {:ok, "ello"}
    assert Plugin.call(plugin, "process", "é", codec: [in: :text]) == {:ok, <<0xA9>>}
  end

  test "functions that take nothing give a string, too", %{plugin: plugin} do
    assert Plugin.call(plugin, "get_module_info", nil, codec: :json) == {:ok, %{"name" => "skip"}}
  end

  test "a zero byte in the input is the caller's mistake", %{plugin: plugin} do
    assert {:error, %CallError{reason: :zero_byte, offset: 1, blame: :caller} = error} =
             Plugin.call(plugin, "a\0b")

    assert Exception.message(error) =~ "has a zero byte at 1"
  end

  test "no result is an error of the guest's", %{plugin: plugin} do
    assert {:error, %PluginError{reason: :no_result, blame: :guest, function: "process"} = error} =
             Plugin.run(plugin, "")

    assert error.usage.fuel > 0

    assert Exception.message(error) ==
             ~s|the plugin's "process" has given no result, but a null pointer|
  end

  test "a result that does not end is bounded", %{plugin: plugin} do
    assert {:error, %ABIError{reason: :unterminated}} = Plugin.call(plugin, "endless", "a")

    assert {:error, %LimitError{limit: :output, allowed: 100}} =
             Plugin.call(plugin, "endless", "a", max_output: 100)
  end
end
