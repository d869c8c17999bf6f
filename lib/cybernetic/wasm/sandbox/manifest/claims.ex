defmodule Cybernetic.WASM.Sandbox.Manifest.Claims do
  @moduledoc false
  # The claims of a manifest about its module: the digest, the entry, and that there is no memory.

  alias Cybernetic.WASM.{Component, Digest, ManifestError, Module}
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Cybernetic.WASM.Sandbox.Manifest.Place

  @doc "Whether they are true of `module`."
  @spec check(Manifest.t(), Module.t()) :: :ok | {:error, ManifestError.t()}
  def check(manifest, module) do
    with :ok <- digest(manifest, module),
         :ok <- memory(manifest, module),
         do: entry(manifest, module)
  end

  defp digest(%{digest: nil}, _module), do: :ok

  defp digest(%{digest: pinned} = manifest, module) do
    {:ok, {algorithm, _bytes}} = Digest.parse(pinned)

    case Module.digest(module, algorithm) do
      ^pinned -> :ok
      found -> untrue(manifest, :digest, "a module with this digest", found)
    end
  end

  defp memory(%{memory: false} = manifest, module) do
    if Module.memory?(module),
      do: untrue(manifest, :memory, "a module without a memory", "one with it"),
      else: :ok
  end

  defp memory(_manifest, _module), do: :ok

  defp entry(%{entry: nil}, _module), do: :ok

  defp entry(%{entry: entry} = manifest, module) do
    if function?(module, entry),
      do: :ok,
      else: untrue(manifest, :entry, "a function that the module exports", shown(entry))
  end

  defp function?(%Component{} = component, entry),
    do: match?({:ok, {:func, _, _}}, Component.type(component, entry))

  defp function?(module, entry),
    do: Enum.any?(Module.exports(module), &match?(%{name: ^entry, type: {:function, _, _}}, &1))

  defp shown(entry), do: inspect(entry, printable_limit: 80)

  defp untrue(manifest, field, expected, got),
    do: Place.mistake(manifest, field, reason: :module, expected: expected, got: got)
end
