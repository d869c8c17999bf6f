defmodule Cybernetic.WASM.Sandbox.Capabilities.Random do
  @moduledoc """
  Random bytes: option `random:` of `Cybernetic.WASM.Sandbox.new/1`.

    * `:none`, or `false` - none. The guest gets the errno `notcapable`; a component, whose functions have no error to give,
      traps. The default.
    * `:system` - those of the operating system
    * `{:seeded, seed}` - the same bytes for the same seed, an integer from 0 to 2^64 - 1. Whoever
      knows the seed knows the bytes, so do not make keys of them.

  Narrowing two grants gives the lesser one. Two different seeds have nothing in common: they narrow
  to `:none`.
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  @typedoc "The source of a guest's random bytes."
  @type t :: :none | :system | {:seeded, non_neg_integer}

  @most 0xFFFF_FFFF_FFFF_FFFF

  @impl true
  def default, do: :none

  @impl true
  def grant(none) when none in [:none, false], do: {:ok, :none}
  def grant(:system), do: {:ok, :system}
  def grant({:seeded, seed} = seeded) when seed in 0..@most, do: {:ok, seeded}

  # A seed is not shown: the same one may be in use elsewhere.
  def grant(_other),
    do:
      refused("option :random must be :none, :system or {:seeded, an integer from 0 to #{@most}}")

  @impl true
  def keys, do: [:random]

  @impl true
  def manifest([{:random, {:table, _line, _entries} = node, at}]) do
    expected = "an integer from 0 to 9223372036854775807"

    case table(node, at, [{"seed", :seed}]) do
      [] ->
        refuse(node, at, "{ seed = … }")

      [{:seed, node, at}] ->
        option({:seeded, integer(node, at, expected)}, &grant/1, {node, at}, expected)
    end
  end

  def manifest([{:random, node, at}]) do
    expected = ~S|"none", "system" or { seed = 42 }|
    choice(node, at, [{"none", :none}, {"system", :system}], expected)
  end

  @impl true
  def suggestion do
    """
    # The operating system's random bytes. { seed = 42 } would be the same ones every time.
    random = "system"
    """
  end

  @impl true
  def narrow(same, same), do: same
  def narrow(:system, lesser), do: lesser
  def narrow(lesser, :system), do: lesser
  def narrow(_one, _other), do: :none

  @impl true
  def granted?(random), do: random != :none

  @impl true
  def explain(:system), do: "the system's"
  def explain({:seeded, _seed}), do: "seeded"

  @impl true
  def deterministic(:system),
    do: {:none, "random: :system is not deterministic: give {:seeded, n}"}

  def deterministic(_random), do: :ok

  @impl true
  def native(random, _data), do: {:ok, %{random: random}}

  @impl true
  def functions, do: ~w(random_get)

  @impl true
  def interfaces, do: [{"wasi:random/random", :trap}]

  @impl true
  def hint, do: "add random: :system, or {:seeded, n}"
end
