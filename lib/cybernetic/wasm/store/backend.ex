defmodule Cybernetic.WASM.Store.Backend do
  @moduledoc """
  How a store keeps things. What versions mean, which bytes may leave and whether they are the right ones is decided in
  `Cybernetic.WASM.Store`: a backend puts bytes and records somewhere, and finds them again.

  It is named as `{Module, config}`, and is given `config` with each call. Digests are texts, such as `"blake3:…"`. All that
  writes is called within `c:alone/3`; what reads may be called at any time.

  `Cybernetic.WASM.Store.Mnesia` is one, the folder is another.
  """

  alias Cybernetic.WASM.StoreError
  alias Cybernetic.WASM.Store.Entry

  @typedoc "What the backend is given."
  @type config :: term

  @typedoc "The digest of bytes, such as `\"blake3:…\"`."
  @type digest :: String.t()

  @doc """
  Runs `function` while nobody else writes to this store: what it puts there is on the disk, or as safe as this store keeps
  things, when `alone` returns. Where it gives `{:error, _}`, what it has put there may stay or not.
  """
  @callback alone(config, timeout, function :: (() -> result)) ::
              result | {:error, StoreError.t()}
            when result: term

  @doc "Puts bytes there, by both of their digests, whether they are there already, damaged or not."
  @callback put_blob(config, %{blake3: digest, sha256: digest}, bytes :: binary) ::
              :ok | {:error, StoreError.t()}

  @doc "Bytes by their BLAKE3, if they are at most `most`."
  @callback blob(config, digest, most :: pos_integer) ::
              {:ok, binary} | :none | {:error, {:too_large, pos_integer} | StoreError.t()}

  @doc "All bytes that are there: their BLAKE3, how many they are, and when they were used last, in seconds since 1970."
  @callback blobs(config) ::
              {:ok, [%{digest: digest, size: non_neg_integer, used: integer}]}
              | {:error, StoreError.t()}

  @doc "The BLAKE3 of the bytes with this SHA-256."
  @callback find(config, digest) :: {:ok, digest} | :none | {:error, StoreError.t()}

  @doc "That bytes were used now. A store that cannot write it down leaves it."
  @callback used(config, digest) :: :ok

  @doc "Drops bytes of this size."
  @callback drop_blob(config, digest, size :: non_neg_integer) :: :ok | {:error, StoreError.t()}

  @doc "The names that have or had versions."
  @callback names(config) :: {:ok, [String.t()]} | {:error, StoreError.t()}

  @doc "The versions of a name, in any order; none where there is no such name."
  @callback versions(config, name :: String.t()) :: {:ok, [String.t()]} | {:error, StoreError.t()}

  @doc "What was put there for a version. Another than that is an error with the reason `:damaged`."
  @callback entry(config, name :: String.t(), version :: String.t()) ::
              {:ok, Entry.t()} | :none | {:error, StoreError.t()}

  @doc "Puts a version there. Where it is there already, with the same record, that is to be as safe as what is put there now."
  @callback put_entry(config, Entry.t()) :: :ok | {:error, StoreError.t()}

  @doc "Drops a version."
  @callback drop_entry(config, name :: String.t(), version :: String.t()) ::
              :ok | {:error, StoreError.t()}

  @doc "Takes something damaged away, so that it is not found any more. Whether it is kept for somebody to look at is the store's affair."
  @callback set_aside(
              config,
              {:blob, digest} | {:entry, name :: String.t(), version :: String.t()}
            ) :: :ok | {:error, StoreError.t()}

  @doc "Removes what a crash may have left behind."
  @callback sweep(config) :: :ok | {:error, StoreError.t()}

  @doc false
  # Does it with one after another, until it fails with one.
  @spec each(Enumerable.t(), (term -> :ok | error)) :: :ok | error when error: term
  def each(items, function) do
    Enum.reduce_while(items, :ok, fn item, :ok ->
      with :ok <- function.(item), do: {:cont, :ok}, else: (error -> {:halt, error})
    end)
  end
end
