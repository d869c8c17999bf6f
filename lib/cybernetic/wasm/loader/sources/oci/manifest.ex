defmodule Cybernetic.WASM.Loader.Sources.OCI.Manifest do
  @moduledoc false
  # The manifest of an artifact as wasm-pkg-tools, Spin and wasmCloud push one: a config of WebAssembly's own kind, and one layer, which
  # is the module. Anything else is refused with what was found.

  alias Cybernetic.WASM.{JSON, LoadError, Shown}

  @kind "application/vnd.oci.image.manifest.v1+json"
  @config "application/vnd.wasm.config.v0+json"
  @layer "application/wasm"

  # One layer and its annotations are a few hundred bytes. What registries take, 4 MB, would be many times as much as terms.
  @longest 262_144

  @typedoc "The layer that is the module."
  @type layer :: %{digest: String.t(), size: non_neg_integer}

  @doc "What a registry is asked for."
  @spec kind() :: String.t()
  def kind, do: @kind

  @doc "The bytes that a manifest may have."
  @spec longest() :: pos_integer
  def longest, do: @longest

  @doc "The layer that a manifest names."
  @spec layer(binary) :: {:ok, layer} | {:error, LoadError.t()}
  def layer(text) do
    with {:ok, manifest} <- JSON.decode(text, @longest),
         :ok <- kind(manifest),
         :ok <- config(manifest),
         {:ok, layer} <- only(manifest) do
      {:ok, layer}
    else
      {:error, why} -> {:error, %LoadError{reason: :not_wasm, detail: "its OCI manifest: #{why}"}}
    end
  end

  defp kind(%{"mediaType" => kind}) when kind != @kind,
    do: {:error, "a manifest of the kind #{shown(kind)}, and not #{@kind}"}

  defp kind(%{"schemaVersion" => 2}), do: :ok
  defp kind(_other), do: {:error, "not of schema version 2"}

  defp config(%{"config" => %{"mediaType" => @config}}), do: :ok

  defp config(%{"config" => %{"mediaType" => kind}}),
    do: {:error, "a config of the kind #{shown(kind)}, and not #{@config}"}

  defp config(_other), do: {:error, "no config"}

  defp only(%{"layers" => [%{"mediaType" => @layer, "digest" => digest, "size" => size}]})
       when is_binary(digest) and is_integer(size) and size >= 0 do
    if digest =~ ~r/\Asha256:[0-9a-f]{64}\z/,
      do: {:ok, %{digest: digest, size: size}},
      else: {:error, "a layer whose digest is no sha256"}
  end

  defp only(%{"layers" => [%{"mediaType" => kind}]}) when kind != @layer,
    do: {:error, "a layer of the kind #{shown(kind)}, and not #{@layer}"}

  defp only(%{"layers" => layers}) when is_list(layers) and length(layers) != 1,
    do: {:error, "#{length(layers)} layers, and not one"}

  defp only(_other), do: {:error, "no layer with digest and size"}

  defp shown(kind) when is_binary(kind), do: Shown.name(kind)
  defp shown(other), do: Shown.kind(other)
end
