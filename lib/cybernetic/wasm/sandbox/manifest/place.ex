defmodule Cybernetic.WASM.Sandbox.Manifest.Place do
  @moduledoc false
  # The places of a manifest's keys, for errors that are found after it was read.

  alias Cybernetic.WASM.ManifestError
  alias Cybernetic.WASM.Sandbox.{Capabilities, Manifest}
  alias Cybernetic.WASM.Sandbox.Manifest.Tree

  @doc "The error with these facts, at the key of `field`."
  @spec mistake(Manifest.t(), atom, keyword) :: {:error, ManifestError.t()}
  def mistake(manifest, field, facts) do
    {key, line} = Map.fetch!(manifest.places, field)
    {:error, struct!(ManifestError, [file: manifest.file, line: line, key: key] ++ facts)}
  end

  @doc "The line of `field`; `nil` where it is not stated."
  @spec line(Manifest.t(), atom) :: pos_integer | nil
  def line(manifest, field) do
    with {_key, line} <- manifest.places[field], do: line
  end

  @doc "File, line and key of a capability's grant: the first of its keys that is stated."
  @spec of(Manifest.t(), atom) :: String.t()
  def of(manifest, capability) do
    keys = for {key, {^capability, _module}} <- Capabilities.keys(), do: key
    {key, line} = Enum.find_value(keys ++ [capability], &manifest.places[&1])
    Tree.place(manifest.file, line, key)
  end
end
