defmodule Cybernetic.WASM.Plugin.Contracts.AssemblyScriptTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plugins

  alias Cybernetic.WASM.{ABIError, Plugin, PluginError, TrapError}

  setup_all do
    {:ok, plugin: plugin!(assembly_script())}
  end

  test "strings go in and come out", %{plugin: plugin} do
    for text <- ["", "hello", "é€𝄞"], do: assert(Plugin.call(plugin, "same", text) == {:ok, text})
    assert Plugin.call(plugin, "same", %{a: "é"}, codec: :json) == {:ok, %{"a" => "é"}}
    assert Plugin.call(plugin, "hello", nil) == {:ok, "no!"}
  end

  test "bytes go in as a buffer where that is asked for" do
    plugin = plugin!(assembly_script(), contract: {:assemblyscript, pass: :bytes})
    assert Plugin.call(plugin, "same", <<0, 255, 1>>) == {:ok, <<0, 255, 1>>}
  end

  describe "a module that AssemblyScript's compiler made" do
    setup do
      {:ok, compiled: Plugin.load!("test/fixtures/assembly_script.wasm")}
    end

    test "is told from its runtime, and takes and gives strings", %{compiled: compiled} do
      assert Plugin.contract(compiled) == {:assemblyscript, "it exports __new and a memory"}
      assert Plugin.call(compiled, "shout", "hé€𝄞") == {:ok, "HÉ€𝄞"}
      assert Plugin.call(compiled, "hello", nil) == {:ok, "hello"}
      long = String.duplicate("é", 300_000)
      assert Plugin.call(compiled, "shout", long) == {:ok, String.duplicate("É", 300_000)}
      assert Plugin.call(compiled, "wasteful", "n") == {:ok, "n1999"}
    end

    test "gives bytes in each of the classes that hold them", %{compiled: compiled} do
      assert Plugin.call(compiled, "view", "bytes") == {:ok, "bytes"}
      assert Plugin.call(compiled, "array", "bytes") == {:ok, "bytes"}
      passing = [contract: {:assemblyscript, pass: :bytes}]
      bytes = Plugin.load!("test/fixtures/assembly_script.wasm", passing)
      assert Plugin.call(bytes, "reversed", <<1, 2, 255>>) == {:ok, <<255, 2, 1>>}
      assert Plugin.call(bytes, "reversed", "") == {:ok, ""}
    end

    test "fails an assertion with its text and its place", %{compiled: compiled} do
      assert {:error, %PluginError{reason: :refused} = error} =
               Plugin.call(compiled, "checked", "ab")

      assert {error.detail, error.file} == {"too short", "plugin.ts"}
      assert error.line > 0 and error.column > 0
      assert Plugin.call(compiled, "checked", "abc") == {:ok, "abc"}
    end
  end

  test "what is no text cannot be a string", %{plugin: plugin} do
    assert {:error,
            %PluginError{reason: :input, blame: :caller, contract: :assemblyscript} = error} =
             Plugin.call(plugin, "same", <<"ab", 255>>)

    assert error.detail =~ "byte 2"
  end

  test "a failed assertion says what and where", %{plugin: plugin} do
    assert {:error, %PluginError{reason: :refused, blame: :guest} = error} =
             Plugin.call(plugin, "check", "")

    assert {error.detail, error.file, error.line, error.column} == {"no!", "a.ts", 7, 3}
    assert Exception.message(error) == ~s|the plugin reports an error at a.ts:7:3: "no!"|

    assert {:error, %PluginError{detail: nil, file: "(unreadable)"}} =
             Plugin.call(plugin, "check_silently", "")
  end

  test "what is no string and no array is the guest's mistake", %{plugin: plugin} do
    assert {:error, %PluginError{reason: :no_result}} = Plugin.call(plugin, "null", "")

    assert {:error, %ABIError{reason: :not_managed, class: 0, blame: :guest} = error} =
             Plugin.call(plugin, "number", "")

    assert Exception.message(error) =~ "that is no string and no array of bytes"
    refute match?(%TrapError{}, error)
  end
end
