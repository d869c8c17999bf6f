defmodule Cybernetic.WASM.Sandbox.FunctionsTest do
  # Which function of WASI needs which capability is said twice: by the core, which refuses the call, and by the capabilities,
  # which tell before any run what will be refused. The two have to agree.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Native, RawCalls}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Check}

  test "the capabilities cover the functions that the core asks them for" do
    assert Check.functions() == Map.new(Native.wasi_functions())
  end

  test "the tests call every function" do
    assert RawCalls.functions() |> Map.keys() |> Enum.sort() ==
             Native.wasi_functions() |> Enum.map(&elem(&1, 0)) |> Enum.sort()
  end

  test "a capability with functions says what to grant for them" do
    for {name, capability} <- Capabilities.all(), capability.functions() != [] do
      assert capability.hint() =~ ~r/^(add|nothing grants it)/, inspect(name)
      assert capability.functions() == Enum.uniq(capability.functions())
    end
  end
end
