defmodule Cybernetic.WASM.Sandbox.Capabilities.RandomTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.Random

  test "there are no random bytes until they are granted" do
    assert Sandbox.new().random == :none
    assert Sandbox.new(random: false).random == :none
  end

  test "a seed has 64 bits" do
    for seed <- [0, 0xFFFF_FFFF_FFFF_FFFF],
        do: assert(Sandbox.new(random: {:seeded, seed}).random == {:seeded, seed})

    for random <- [
          {:seeded, -1},
          {:seeded, 0x1_0000_0000_0000_0000},
          {:seeded, "a"},
          true,
          7,
          nil
        ] do
      assert_raise ArgumentError, ~r/option :random must be/, fn ->
        Sandbox.new(random: random)
      end
    end
  end

  test "narrowing gives the lesser source, and none of two seeds" do
    assert Random.narrow(:system, {:seeded, 1}) == {:seeded, 1}
    assert Random.narrow({:seeded, 1}, :system) == {:seeded, 1}
    assert Random.narrow({:seeded, 1}, {:seeded, 2}) == :none
    assert Random.narrow(:none, :system) == :none
  end
end
