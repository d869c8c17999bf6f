defmodule Cybernetic.WASM.Loader.Fetched do
  @moduledoc """
  What a source gave: see `Cybernetic.WASM.Loader.fetch/2`. It can be given in the place of a source.

    * `bytes` - the module, in the binary or the text format
    * `source` - what errors call it
    * `name`, `version` - of the load, of the source or of the manifest, in this order; `nil` where none of them has one
    * `manifest` - the `Cybernetic.WASM.Sandbox.Manifest` that the load asked for, or `nil`
    * `signature` - the text of the detached signature, where the load asked for it and there is one
    * `signers` - whose signatures `Cybernetic.WASM.Loader.verify/2` has found to hold the last time, of the keys that are
      trusted: `"ed25519:…"`
    * `pins` - the digests that `Cybernetic.WASM.Loader.verify/2` has held it to, with whose word each is: `:config`, the operator's;
      `:option`, of the load; `:manifest`, the author's
    * `digests` - those that were worked out, by `:sha256` and `:blake3`, as `"sha256:…"`
  """

  alias Cybernetic.WASM.Digest
  alias Cybernetic.WASM.Sandbox.Manifest

  # `own_name` and `own_version` are without the manifest's word. `pins` are those that it was fetched by, until it is verified.
  @enforce_keys [:bytes, :origin]
  defstruct [
    :bytes,
    :origin,
    :source,
    :name,
    :version,
    :called,
    :own_name,
    :own_version,
    :manifest,
    :signature,
    keep: false,
    names: [],
    pins: [],
    signers: [],
    digests: %{}
  ]

  @typedoc "The bytes of a module that is not compiled yet. Its other fields are private."
  @type t :: %__MODULE__{
          bytes: binary,
          source: String.t() | :bytes,
          name: String.t() | nil,
          version: String.t() | nil,
          manifest: Manifest.t() | nil,
          signature: binary | nil,
          signers: [String.t()],
          pins: [{:config | :option | :manifest, String.t()}],
          digests: %{Digest.algorithm() => String.t()}
        }

  @doc false
  # With this digest of its bytes, worked out now unless it is known.
  @spec digest(t, Digest.algorithm()) :: {String.t(), t}
  def digest(%__MODULE__{digests: digests} = fetched, algorithm) do
    text = Map.get_lazy(digests, algorithm, fn -> Digest.text_of(fetched.bytes, algorithm) end)
    {text, %{fetched | digests: Map.put(digests, algorithm, text)}}
  end

  # Neither what it holds nor where it is from: that may have a secret in it.
  defimpl Inspect do
    alias Cybernetic.WASM.Shown

    def inspect(fetched, _opts) do
      name = if fetched.name, do: Shown.name(fetched.name), else: "bytes"
      "#Cybernetic.WASM.Loader.Fetched<#{name}, #{byte_size(fetched.bytes)} bytes>"
    end
  end
end
