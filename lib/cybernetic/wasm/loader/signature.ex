defmodule Cybernetic.WASM.Loader.Signature do
  @moduledoc false
  # Detached signatures, as they lie beside a module in `x.wasm.sig`: which module and which manifest they are for, and who has
  # signed. The file says so itself, and that is only believed once a signature over it holds.

  alias Cybernetic.WASM.{Digest, JSON}
  alias Cybernetic.WASM.Loader.Keys

  # What is signed begins with this, so that a signature of these keys for something else is none here, and the other way round.
  @domain "Cybernetic.WASM signature of a module\0"
  @version 1
  @format "cybernetic-wasm-signature"

  @most_bytes 65_536
  @most_signatures 64

  @enforce_keys [:module, :manifest, :signatures]
  defstruct @enforce_keys

  @typedoc "The digests (BLAKE3) that are signed, of the module and of its manifest's text, and the signatures by their keys."
  @type t :: %__MODULE__{
          module: String.t(),
          manifest: String.t() | nil,
          signatures: [{Keys.public(), binary}]
        }

  @doc "The bytes of a file of signatures, at most."
  @spec most_bytes() :: pos_integer
  def most_bytes, do: @most_bytes

  @doc "Signatures of this module and manifest, and none yet."
  @spec new(String.t(), String.t() | nil) :: t
  def new(module, manifest), do: %__MODULE__{module: module, manifest: manifest, signatures: []}

  @doc "With the signature of a key, in the place of its former one."
  @spec sign(t, Keys.private()) :: t
  def sign(%__MODULE__{} = signature, private) do
    public = Keys.public(private)
    signed = :crypto.sign(:eddsa, :none, message(signature), [private, :ed25519])
    others = List.keydelete(signature.signatures, public, 0)
    %{signature | signatures: others ++ [{public, signed}]}
  end

  @doc "Those of `keys` whose signatures hold, each once."
  @spec signers(t, [Keys.public()]) :: [Keys.public()]
  def signers(%__MODULE__{} = signature, keys) do
    message = message(signature)

    for {key, signed} <- signature.signatures,
        key in keys,
        :crypto.verify(:eddsa, :none, message, signed, [key, :ed25519]),
        uniq: true,
        do: key
  end

  # Of one length for each of the two forms, and the form is told: no module can be taken for another with a manifest.
  defp message(%{module: module, manifest: manifest}),
    do: [@domain, @version, bytes(module) | if(manifest, do: [1, bytes(manifest)], else: [0])]

  defp bytes(digest) do
    {:ok, {:blake3, bytes}} = Digest.parse(digest)
    bytes
  end

  # The file

  @doc "The text of the file."
  @spec encode(t) :: String.t()
  def encode(%__MODULE__{} = signature) do
    signatures =
      for {key, signed} <- signature.signatures,
          do: [key: Keys.to_text(key), signature: Base.encode64(signed)]

    fields = [
      format: @format,
      version: @version,
      module: signature.module,
      manifest: signature.manifest
    ]

    JSON.encode(fields ++ [signatures: signatures]) <> "\n"
  end

  @doc "What such a text says, or why it is none."
  @spec parse(binary) :: {:ok, t} | {:error, String.t()}
  def parse(text) do
    with {:ok, fields} <- JSON.decode(text, @most_bytes),
         {:ok, fields} <- known(fields),
         {:ok, signatures} <- signatures(fields["signatures"], []) do
      {:ok, %{new(fields["module"], fields["manifest"]) | signatures: signatures}}
    end
  end

  @fields ~w(format manifest module signatures version)

  defp known(%{"format" => @format, "version" => @version} = fields) do
    cond do
      Map.keys(fields) != @fields -> {:error, "its fields are not #{Enum.join(@fields, ", ")}"}
      not blake3?(fields["module"]) -> {:error, "module is not a BLAKE3 digest"}
      fields["manifest"] == nil or blake3?(fields["manifest"]) -> {:ok, fields}
      true -> {:error, "manifest is neither null nor a BLAKE3 digest"}
    end
  end

  defp known(%{"format" => @format}), do: {:error, "it is of another version"}
  defp known(_other), do: {:error, "it is no file of signatures"}

  defp blake3?(digest), do: match?({:ok, {:blake3, _bytes}}, Digest.parse(digest))

  defp signatures(list, _read) when not is_list(list), do: {:error, "signatures is not a list"}

  defp signatures(list, _read) when length(list) > @most_signatures,
    do: {:error, "#{length(list)} signatures, at most #{@most_signatures} are read"}

  defp signatures([], read), do: {:ok, Enum.reverse(read)}

  defp signatures([item | items], read) do
    with %{"key" => key, "signature" => signed} when map_size(item) == 2 and is_binary(signed) <-
           item,
         {:ok, key} <- Keys.parse(key),
         {:ok, <<_::binary-size(64)>> = signed} <- Base.decode64(signed) do
      signatures(items, [{key, signed} | read])
    else
      _ -> {:error, "signature #{length(read) + 1} is not a key and 64 bytes in Base64"}
    end
  end
end
