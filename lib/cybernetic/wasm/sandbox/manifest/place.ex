defmodule Cybernetic.WASM.Sandbox.Manifest.Place do
  @moduledoc false
  # Where a manifest says something, for errors that are found once it is read.

  alias Cybernetic.WASM.ManifestError
  alias Cybernetic.WASM.Sandbox.{Capabilities, Manifest}

  @doc "An error that names the key of `field`, and adds to it these facts."
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

  @doc "File, line and key of a grant, which may stand under another key than the capability's own name."
  @spec of(Manifest.t(), atom) :: String.t()
  def of(manifest, capability) do
    keys = for {key, {^capability, _module}} <- Capabilities.keys(), do: key
    {key, line} = Enum.find_value(keys ++ [capability], &manifest.places[&1])
    "#{manifest.file || "manifest"}:#{line}: #{key}"
  end
end
