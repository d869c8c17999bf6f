defmodule Cybernetic.WASM.Sandbox.Capabilities.ClocksTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.Clocks

  test "there is no clock until one is granted" do
    assert Sandbox.new().clocks == :none
    assert Sandbox.new(clocks: false).clocks == :none
  end

  test "real, fixed and stepped clocks are granted as they are given" do
    for clocks <- [
          :none,
          :real,
          {:fixed, 0},
          {:fixed, 1_700_000_000_000_000_000},
          {:stepped, 0, 1}
        ],
        do: assert(Sandbox.new(clocks: clocks).clocks == clocks)
  end

  test "a time before 1970, past 2262, or a clock that never moves on is refused" do
    for clocks <- [
          {:fixed, -1},
          {:fixed, 1.0},
          {:fixed, 0x8000_0000_0000_0000},
          {:stepped, 0, 0},
          {:stepped, 0, -1},
          {:stepped, 0},
          true,
          nil,
          :system,
          []
        ] do
      assert_raise ArgumentError, ~r/option :clocks must be/, fn ->
        Sandbox.new(clocks: clocks)
      end
    end
  end

  test "narrowing gives the lesser clock, and none of two that differ" do
    for {one, other, both} <- [
          {:real, {:fixed, 1}, {:fixed, 1}},
          {:real, :none, :none},
          {{:fixed, 1}, {:fixed, 1}, {:fixed, 1}},
          {{:fixed, 1}, {:fixed, 2}, :none},
          {{:fixed, 1}, {:stepped, 1, 1}, :none}
        ] do
      assert Clocks.narrow(one, other) == both
      assert Clocks.narrow(other, one) == both
    end
  end
end
