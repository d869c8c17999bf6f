defmodule Cybernetic.WASM.Plugin.Contracts.WASITest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{LimitError, Plugin, PluginError, Run, Sandbox}

  setup_all do
    {:ok, wc: Plugin.load!("priv/wasm/wc.wasm")}
  end

  test "what a program is given on standard input it answers on standard output", %{wc: wc} do
    assert Plugin.call(wc, "to be or\nnot to be\n") == {:ok, "2 6 19\n"}
    assert Plugin.call(wc, :start, ["a", "b"]) == {:ok, "0 1 2\n"}
  end

  test "a run tells how much went in and came out", %{wc: wc} do
    assert {:ok, %Run{result: "0 1 3\n", exit_code: 0, metadata: metadata}} =
             Plugin.run(wc, "abc")

    assert {metadata.input_length, metadata.output_length, metadata.module} == {3, 6, "wc.wasm"}
  end

  test "another exit code than 0 is an error, with what was said to standard error" do
    tool = Plugin.load!("test/fixtures/wasi/tool.wasm")

    assert {:error, %PluginError{reason: :refused, blame: :guest} = error} =
             Plugin.call(tool, :start, "", args: ["fail"])

    assert error.exit_code > 0
    assert is_binary(error.detail)
    assert Exception.message(error) =~ "reports an error and exited with #{error.exit_code}"
  end

  test "limits are those of the plugin and of the call", %{wc: wc} do
    text = String.duplicate("a", 1_000)
    assert {:error, %LimitError{limit: :fuel}} = Plugin.call(wc, :start, text, fuel: 100)
    short = Plugin.load!("priv/wasm/wc.wasm", fuel: 2_000_000_000)
    assert short.prepared.call.plan.limits.fuel == 2_000_000_000
    assert short.prepared.call.plan.limits.max_output == 100_000_000
    assert {:ok, _} = Plugin.call(short, text)
    # Input is read piece by piece: it may be larger than the memory.
    long = String.duplicate("a b ", 100_000)
    assert {:ok, "0 200000 400000\n"} = Plugin.call(wc, :start, long, max_memory: 200_000)
  end

  test "a sandbox says what the program may use" do
    text = "abc"
    strict = Plugin.load!("priv/wasm/wc.wasm", sandbox: Sandbox.new(stdio: :captured))
    assert Plugin.call(strict, text) == {:ok, "0 1 3\n"}
    assert {:error, error} = Plugin.load("priv/wasm/wc.wasm", sandbox: :none)
    assert error.capability == :wasi
  end

  test "a program has no other function", %{wc: wc} do
    assert_raise ArgumentError, ~r/no function but :start/, fn -> Plugin.call(wc, "run", "") end
  end
end
