defmodule Cybernetic.WASM.Shapes do
  @moduledoc false
  # Random terms for property tests. Each test seeds its own process and names the seed when it fails.

  import ExUnit.Assertions
  import Bitwise

  @doc "Runs `property` `times` times on a seeded generator; a failure names the seed."
  def check_all(times, property) do
    seed = :erlang.unique_integer([:positive]) + System.system_time(:second)
    :rand.seed(:exsss, seed)

    Enum.each(1..times, fn turn ->
      try do
        property.()
      rescue
        error in ExUnit.AssertionError ->
          flunk("turn #{turn} of seed #{seed}: #{Exception.message(error)}")
      end
    end)
  end

  @doc "An integer of `bits` bits that may be anything, with the edges likelier than they would be."
  def bits(bits) do
    case :rand.uniform(4) do
      1 -> Enum.random([0, 1, (1 <<< bits) - 1, 1 <<< (bits - 1), (1 <<< (bits - 1)) - 1])
      2 -> 1 <<< (:rand.uniform(bits) - 1)
      _ -> :rand.uniform(1 <<< bits) - 1
    end
  end

  @doc "The same bits as a signed integer."
  def signed(value, bits) do
    if value >= 1 <<< (bits - 1), do: value - (1 <<< bits), else: value
  end
end
