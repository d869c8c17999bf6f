defmodule Cybernetic.WASM.Plugin.Contracts.ExecuteTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plugins

  alias Cybernetic.WASM.{ABIError, JSON, LimitError, Plugin, PluginError}
  alias Cybernetic.WASM.Plugin.Contracts.Execute.Inputs

  test "inputs and parameters are written as bincode writes them" do
    {:ok, vectors} = "test/fixtures/bincode.json" |> File.read!() |> JSON.decode(100_000)
    assert length(vectors) >= 5
    plugin = plugin!(execute())

    for %{"inputs" => inputs, "params" => params, "hex" => hex} <- vectors do
      inputs = Enum.map(inputs, &:erlang.list_to_binary/1)

      assert Inputs.write(:bincode, inputs, Enum.sort(params)) ==
               Base.decode16!(hex, case: :lower)

      assert Plugin.call(plugin, {inputs, params}) == {:ok, Base.decode16!(hex, case: :lower)}
    end
  end

  test "one input needs no list" do
    plugin = plugin!(execute())
    assert Plugin.call(plugin, "abc") == Plugin.call(plugin, {["abc"], %{}})

    assert Plugin.call(plugin, "execute", %{a: 1}, codec: [in: :json]) ==
             Plugin.call(plugin, ~S({"a":1}))
  end

  test "they are written as JSON, or one as it is, where that is asked for" do
    json = plugin!(execute(), contract: {:execute, format: :json}, codec: [in: :raw, out: :json])

    assert Plugin.call(json, {["ab", ""], %{"b" => "é", "a" => "1"}}) ==
             {:ok, %{"inputs" => [[97, 98], []], "params" => %{"a" => "1", "b" => "é"}}}

    raw = plugin!(execute(), contract: {:execute, format: :raw})
    assert Plugin.call(raw, "as it is") == {:ok, "as it is"}
    assert {:error, %PluginError{reason: :input}} = Plugin.call(raw, {["a"], %{}})
  end

  test "a parameter that is no text is refused with its key" do
    plugin = plugin!(execute())

    for {params, path} <- [
          {%{"a" => "1", "size" => 2}, "/params/size"},
          {%{"bad" => <<255>>}, "/params/bad"},
          {%{size: "1"}, "/params"},
          {[{"a", "1"}], "/params"}
        ] do
      assert {:error, %PluginError{reason: :input, path: ^path, contract: :execute}} =
               Plugin.call(plugin, {["a"], params})
    end
  end

  test "the result has as much room as was asked for, or as the input has" do
    grown = fn capacity ->
      plugin!(execute(60_000), contract: {:execute, format: :raw, result_capacity: capacity})
    end

    assert {:ok, result} = Plugin.call(grown.(65_536), "abc")
    assert byte_size(result) == 60_003

    assert {:error, %ABIError{reason: :no_room}} = Plugin.call(grown.(0x7FFF_FFFF), "abc")
  end

  test "a length that cannot be is an error" do
    plugin = plugin!(execute(-4), contract: {:execute, format: :raw})
    assert Plugin.call(plugin, "abcd") == {:ok, ""}

    assert {:error, %ABIError{reason: :out_of_bounds, length: 0xFFFF_FFFF, blame: :guest}} =
             Plugin.call(plugin, "abc")

    far = plugin!(execute(1_000_000), contract: {:execute, format: :raw})
    assert {:error, %ABIError{reason: :out_of_bounds}} = Plugin.call(far, "abc")

    assert {:error, %LimitError{limit: :output}} =
             Plugin.call(plugin, "execute", "0123456789", max_output: 5)
  end
end
