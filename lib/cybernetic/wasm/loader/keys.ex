defmodule Cybernetic.WASM.Loader.Keys do
  @moduledoc false
  # Ed25519 keys (RFC 8032): their texts, and the files that they are kept in. No message shows a private key.

  alias Cybernetic.WASM.RegularFile

  @public "ed25519:"
  @private "ed25519-private:"
  @key_bytes 32

  # A file of public keys: some hundred of them.
  @most_bytes 65_536

  # Points of small order: for these anybody can make signatures that hold, and the first of them is what a key looks like that
  # somebody has yet to fill in. The highest bit is a sign.
  @weak for hex <- [
              "0000000000000000000000000000000000000000000000000000000000000000",
              "0100000000000000000000000000000000000000000000000000000000000000",
              "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
              "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
              "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
              "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
              "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
            ],
            do: Base.decode16!(hex, case: :lower)

  @typedoc "A public key."
  @type public :: <<_::256>>

  @typedoc "A private key: the seed of RFC 8032."
  @type private :: <<_::256>>

  # Texts

  @doc "The public key that a text stands for."
  @spec parse(term) :: {:ok, public} | :error
  def parse(@public <> text) do
    with {:ok, <<others::binary-size(31), _sign::1, most::7>> = key} <- key(text),
         false <- <<others::binary, most>> in @weak,
         do: {:ok, key},
         else: (_ -> :error)
  end

  def parse(_other), do: :error

  defp key(text) do
    case Base.decode64(text) do
      {:ok, <<key::binary-size(@key_bytes)>>} -> {:ok, key}
      _other -> :error
    end
  end

  @doc "What a public key's text is, for a message."
  @spec expected() :: String.t()
  def expected, do: ~S|"ed25519:" and a public key, 32 bytes in Base64|

  @doc "The text of a public key."
  @spec to_text(public) :: String.t()
  def to_text(key), do: @public <> Base.encode64(key)

  # Files of public keys

  @doc "The public keys of a file: one a line, beside empty lines and those that begin with `#`."
  @spec read(Path.t()) :: {:ok, [public]} | {:error, String.t()}
  def read(path) do
    case RegularFile.read(path, @most_bytes) do
      {:ok, text} -> text |> lines() |> keys([])
      {:error, refusal} -> {:error, RegularFile.words(refusal)}
    end
  end

  defp lines(text) do
    for line <- String.split(text, ["\r\n", "\n"]),
        line != "",
        not match?("#" <> _, line),
        do: line
  end

  defp keys([], []), do: {:error, "there is no key in it"}
  defp keys([], keys), do: {:ok, Enum.reverse(keys)}

  defp keys([line | lines], keys) do
    case parse(line) do
      {:ok, key} -> keys(lines, [key | keys])
      :error -> {:error, wrong(line)}
    end
  end

  defp wrong(@private <> _secret),
    do: "it is a private key, which nobody else is to see: give the public one, in .pub"

  defp wrong(_line), do: "a line of it is not #{expected()}"

  # Private keys

  @doc "A new pair."
  @spec generate() :: {public, private}
  def generate, do: :crypto.generate_key(:eddsa, :ed25519)

  @doc "The public key of a private one."
  @spec public(private) :: public
  def public(private) do
    {public, ^private} = :crypto.generate_key(:eddsa, :ed25519, private)
    public
  end

  @doc "The private key in a file, which nobody but its owner may read."
  @spec read_private(Path.t()) :: {:ok, private} | {:error, String.t()}
  def read_private(path) do
    with :ok <- not_public(path),
         {:ok, @private <> text} <- RegularFile.read(path, @most_bytes, &only_owners/1),
         {:ok, private} <- text |> String.trim_trailing("\n") |> key() do
      {:ok, private}
    else
      {:error, :open_to_others} ->
        {:error,
         "others may read or write it: chmod 600 is needed, and a new key if others are about"}

      {:error, :public} ->
        {:error, "it is a public key, which cannot sign: give the private one, without .pub"}

      {:error, :enoent} ->
        {:error, "#{RegularFile.words(:enoent)}; mix wasm.keygen makes a key"}

      {:error, refusal} ->
        {:error, RegularFile.words(refusal)}

      _no_key ->
        {:error, "it has no private key of mix wasm.keygen"}
    end
  end

  # Before its rights are looked at: everybody may read one.
  defp not_public(path) do
    case read(path) do
      {:ok, _public} -> {:error, :public}
      {:error, _words} -> :ok
    end
  end

  defp only_owners(%File.Stat{mode: mode}),
    do: if(Bitwise.band(mode, 0o077) == 0, do: :ok, else: {:error, :open_to_others})

  @doc """
  Writes a pair to `path` and `path.pub`, where neither may be there yet.

  A file's rights are set once it is there, and whoever has opened it by then may read what comes. So the private key is written in
  a folder that only its owner may enter, and the finished file gets its name by a link, which no file is overwritten by.
  """
  @spec write_new(Path.t(), {public, private}) :: :ok | {:error, Path.t(), String.t()}
  def write_new(path, {public, private}) do
    folder = path <> "." <> (9 |> :crypto.strong_rand_bytes() |> Base.url_encode64())
    hidden = Path.join(folder, "key")

    with :ok <- done(folder, File.mkdir(folder)),
         :ok <- done(folder, File.chmod(folder, 0o700)),
         :ok <- done(hidden, File.write(hidden, "", [:exclusive])),
         :ok <- done(hidden, File.chmod(hidden, 0o600)),
         :ok <- done(hidden, File.write(hidden, [@private, Base.encode64(private), "\n"])),
         :ok <- done(path, File.ln(hidden, path)),
         :ok <- beside(path, to_text(public) <> "\n") do
      File.rm_rf(folder)
      :ok
    else
      error ->
        File.rm_rf(folder)
        error
    end
  end

  # A private key without its public one is taken back.
  defp beside(path, text) do
    with {:error, _path, _why} = error <-
           done(path <> ".pub", File.write(path <> ".pub", text, [:exclusive])) do
      File.rm(path)
      error
    end
  end

  defp done(_path, :ok), do: :ok
  defp done(path, {:error, reason}), do: {:error, path, to_string(:file.format_error(reason))}
end
