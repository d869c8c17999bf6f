defmodule Cybernetic.WASM.Sandbox.Presets do
  @moduledoc false
  # The presets: sandboxes that have a name, as the options of each.

  alias Cybernetic.WASM.Shown

  @presets %{
    none: [],
    pure: [deterministic: true],
    command: [clocks: :real, random: :system, stdio: :captured, env: :any]
  }

  @doc "Their names."
  @spec names() :: [atom]
  def names, do: Map.keys(@presets)

  @doc "The options of `Cybernetic.WASM.Sandbox.new/1` that a preset stands for."
  @spec options!(term) :: keyword
  def options!(name) when is_atom(name) do
    case @presets do
      %{^name => opts} ->
        opts

      _ ->
        known = Enum.map_join(names(), ", ", &inspect/1)
        nearest = Shown.nearest(name, names())
        hint = if nearest, do: " (did you mean #{inspect(nearest)}?)", else: ""
        raise ArgumentError, "unknown sandbox preset #{inspect(name)}#{hint}; known are: #{known}"
    end
  end

  # What was given is not shown: it may hold a secret.
  def options!(_other) do
    raise ArgumentError,
          "a %Cybernetic.WASM.Sandbox{} or a preset's name is needed: make one with " <>
            "Cybernetic.WASM.Sandbox.new/1"
  end
end
