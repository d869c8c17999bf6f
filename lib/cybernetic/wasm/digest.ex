defmodule Cybernetic.WASM.Digest do
  @moduledoc false
  # Digests of modules: their text, as it stands in pins, manifests and errors, and how they are worked out.

  alias Cybernetic.WASM.Native

  # More takes longer than a normal scheduler gives.
  @inline_bytes 65_536

  @typedoc "How it is worked out."
  @type algorithm :: :blake3 | :sha256

  @typedoc "A digest, 32 bytes."
  @type t :: {algorithm, <<_::256>>}

  @doc "The digest that a text stands for. There is one text for each, so that texts can be compared."
  @spec parse(term) :: {:ok, t} | :error
  def parse("blake3:" <> hex), do: parse(:blake3, hex)
  def parse("sha256:" <> hex), do: parse(:sha256, hex)
  def parse(_other), do: :error

  defp parse(algorithm, hex) when byte_size(hex) == 64 do
    with {:ok, bytes} <- Base.decode16(hex, case: :lower), do: {:ok, {algorithm, bytes}}
  end

  defp parse(_algorithm, _hex), do: :error

  @doc "Whether it is the text of a digest."
  @spec valid?(term) :: boolean
  def valid?(text), do: parse(text) != :error

  @doc "What such a text is, for a message."
  @spec expected() :: String.t()
  def expected do
    ~S|"sha256:" or "blake3:" and 64 lowercase hexadecimal digits, as mix wasm.inspect prints them|
  end

  @doc "The text of a digest."
  @spec to_text(t) :: String.t()
  def to_text({algorithm, bytes}), do: "#{algorithm}:#{Base.encode16(bytes, case: :lower)}"

  @doc "The text of the digest of these bytes."
  @spec text_of(binary, algorithm) :: String.t()
  def text_of(bytes, algorithm), do: bytes |> of(algorithm) |> to_text()

  @doc "The digest of these bytes."
  @spec of(binary, algorithm) :: t
  def of(bytes, :sha256), do: {:sha256, :crypto.hash(:sha256, bytes)}

  def of(bytes, :blake3) when byte_size(bytes) <= @inline_bytes,
    do: {:blake3, Native.digest(bytes)}

  def of(bytes, :blake3), do: {:blake3, Native.digest_dirty(bytes)}
end
