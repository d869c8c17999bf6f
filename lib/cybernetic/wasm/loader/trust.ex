defmodule Cybernetic.WASM.Loader.Trust do
  @moduledoc false
  # Whose signatures a module needs. The operator's word and that of whoever loads both hold.

  alias Cybernetic.WASM.{LoadError, Options, Shown}
  alias Cybernetic.WASM.Loader.{Fetched, Keys, Signature}

  @options [
    keys:
      {~S|a list of keys such as "ed25519:…", and of files such as {:file, "keys.pub"}|,
       &__MODULE__.keys?/1},
    threshold: :positive,
    require: :boolean,
    manifest: {:one_of, [:signed, :any]}
  ]

  @most_named 10

  @enforce_keys [:keys]
  defstruct [:keys, threshold: 1, require: true, manifest: :signed]

  @typedoc "How many of these keys have to sign, whether unsigned modules are taken, and whether manifests need a signature."
  @type t :: %__MODULE__{
          keys: [Keys.public(), ...],
          threshold: pos_integer,
          require: boolean,
          manifest: :signed | :any
        }

  @doc false
  @spec keys?(term) :: boolean
  def keys?(keys),
    do: is_list(keys) and not List.improper?(keys) and Enum.all?(keys, &key?/1)

  defp key?({:file, path}), do: is_binary(path)
  defp key?(text), do: is_binary(text)

  @doc "From options. It raises for what is none, and for a file of keys that cannot be read."
  @spec new!(keyword) :: t
  def new!(opts) do
    opts = Options.check!(opts, @options, "trust option")
    keys = opts |> Map.get(:keys, []) |> Enum.flat_map(&read!/1) |> Enum.uniq()
    trust = struct!(__MODULE__, Map.put(opts, :keys, keys))

    cond do
      keys == [] -> raise ArgumentError, "trust: needs keys:, such as [keys: [\"ed25519:…\"]]"
      trust.threshold > length(keys) -> too_many!(trust)
      true -> trust
    end
  end

  @spec too_many!(t) :: no_return
  defp too_many!(trust) do
    raise ArgumentError,
          "trust: can never hold: threshold: #{trust.threshold}, and there are #{length(trust.keys)} different keys"
  end

  defp read!({:file, path}) do
    case Keys.read(path) do
      {:ok, keys} -> keys
      {:error, why} -> raise ArgumentError, "the file of keys #{Shown.path(path)}: #{why}"
    end
  end

  defp read!(text) do
    case Keys.parse(text) do
      {:ok, key} ->
        [key]

      :error ->
        raise ArgumentError,
              "a trusted key must be #{Keys.expected()}, or a file of such as {:file, path}, got: #{Shown.term(text)}"
    end
  end

  @doc "Holds what was fetched to all of them."
  @spec check(Fetched.t(), [t]) :: {:ok, Fetched.t()} | {:error, LoadError.t()}
  def check(fetched, []), do: {:ok, fetched}

  def check(%Fetched{signature: nil} = fetched, trusts) do
    if Enum.any?(trusts, & &1.require),
      do: {:error, %LoadError{reason: :unsigned}},
      else: {:ok, fetched}
  end

  def check(fetched, trusts) do
    with {:ok, signature} <- signature(fetched.signature),
         {:ok, fetched} <- same_module(signature, fetched),
         {:ok, signers} <- signers(trusts, signature, fetched, []),
         do: {:ok, %{fetched | signers: Enum.map(signers, &Keys.to_text/1)}}
  end

  defp signature(text) do
    with {:error, why} <- Signature.parse(text),
         do: {:error, %LoadError{reason: :bad_signature, detail: why}}
  end

  defp same_module(signature, fetched) do
    case Fetched.digest(fetched, :blake3) do
      {digest, fetched} when digest == signature.module -> {:ok, fetched}
      {digest, _fetched} -> untrusted("it signs another module", signature.module, digest)
    end
  end

  defp signers([], _signature, _fetched, signers), do: {:ok, Enum.uniq(signers)}

  defp signers([trust | trusts], signature, fetched, signers) do
    with :ok <- same_manifest(trust, signature, fetched.manifest) do
      more = Signature.signers(signature, trust.keys)

      if length(more) >= trust.threshold,
        do: signers(trusts, signature, fetched, signers ++ more),
        else: too_few(trust, signature, length(more))
    end
  end

  # Without a manifest the author's word on the module is enough, whatever manifest it came with.
  defp same_manifest(_trust, _signature, nil), do: :ok
  defp same_manifest(%{manifest: :any}, _signature, _manifest), do: :ok

  defp same_manifest(_trust, %{manifest: signed}, %{text_digest: digest})
       when signed == digest and signed != nil,
       do: :ok

  defp same_manifest(_trust, %{manifest: nil}, manifest),
    do: untrusted("it signs the module without this manifest", nil, manifest.text_digest)

  defp same_manifest(_trust, signature, manifest),
    do: untrusted("it signs another manifest", signature.manifest, manifest.text_digest)

  defp untrusted(detail, expected, found) do
    {:error, %LoadError{reason: :untrusted, detail: detail, expected: expected, found: found}}
  end

  defp too_few(trust, signature, count) do
    signed = for {key, _signed} <- signature.signatures, uniq: true, do: key
    trusted = Enum.filter(signed, &(&1 in trust.keys))
    strangers = signed -- trusted

    {:error,
     %LoadError{
       reason: :untrusted,
       threshold: trust.threshold,
       signed: count,
       detail: "of trusted keys: #{named(trusted)}; of others: #{named(strangers)}"
     }}
  end

  defp named([]), do: "none"

  defp named(keys) do
    {named, others} = Enum.split(keys, @most_named)
    Enum.map_join(named, ", ", &Keys.to_text/1) <> if(others == [], do: "", else: ", …")
  end
end
