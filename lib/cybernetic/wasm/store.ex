defmodule Cybernetic.WASM.Store do
  @moduledoc """
  Keeps modules: by their digests, and by names with versions that never change.

      iex> alias Cybernetic.WASM.{Runtime, Store}
      iex> store = Path.join(System.tmp_dir!(), "store_of_a_doctest_\#{System.pid()}")
      iex> wat = ~S|(module (func (export "answer") (result i32) (i32.const 42)))|
      iex> {:ok, entry} = Store.put(wat, name: "acme/answer", version: "1.2.0", note: "first", store: store)
      iex> {entry.name, entry.version, entry.size}
      {"acme/answer", "1.2.0", 61}
      iex> {:ok, ^wat, _entry} = Store.get("acme/answer@~> 1.0", store: store)
      iex> {:ok, ^wat, _entry} = Store.get(entry.digest, store: store)
      iex> {:error, error} = Store.put("other bytes", name: "acme/answer", version: "1.2.0", store: store)
      iex> {error.reason, error.digest == entry.digest}
      {:taken, true}
      iex> {:ok, module} = Runtime.load_module({:store, "acme/answer"}, store: store)
      iex> Cybernetic.WASM.Executor.call(module, "answer")
      {:ok, 42}
      iex> File.rm_rf!(store) && :gone
      :gone

  ## References

  | reference | what it names |
  |---|---|
  | `"acme/thumb"` | the current version: the highest release, or the highest of all where there is only pre-releases |
  | `"acme/thumb@1.2.3"` | that version |
  | `"acme/thumb@1.2"`, `"acme/thumb@1"` | the highest of 1.2, of 1 |
  | `"acme/thumb@~> 1.2"`, `"acme/thumb@>= 1.2.0 and < 1.5.0"` | the highest that fits; see `Version` |
  | `"blake3:…"`, `"sha256:…"` | the bytes with this digest |

  Pre-releases fit only where the requirement names one. A name has parts of `a-z`, `0-9`, `.`, `_` and `-`, with `/` between
  them; no part begins or ends with a dot. It has at most 200 bytes. Versions are those of `Version`, without build metadata.

  What is given is always what was put there: all bytes are hashed as they are read. Where they are others, or where the record
  of the version that is asked for is not what was written, the error is `:damaged`, and no older version is given instead; where
  they are gone, because they were set aside, it is `:missing`.

  ## The folder

  The store of the user is the folder `cybernetic_wasm/store` in the user's cache folder. The configuration names another one by
  `:store_dir`, or another kind of store by `:store`; the option `:store` does for one call. A folder that is missing is made
  when something is put there.

  The folder belongs to the user, nobody else may write to it, and nobody but root and the user can put another in its place:
  no folder on the way is a link, and each is root's or the user's and closed to others, but for sticky ones such as `/tmp`.
  Otherwise it is not used at all.

  Any number of processes may use it, of one VM or of several. One at a time writes, under a lock that ends with whoever has it.
  Each file is written under another name, synced, renamed, and its folder synced, before a function returns `{:ok, …}`: what was
  acknowledged outlives a crash, and what was not is not seen. `guides/store.md` has the layout.

  ## Stores of other kinds

  A store is a folder, or `{Module, config}` with a module of the behaviour `Cybernetic.WASM.Store.Backend`.
  `Cybernetic.WASM.Store.Mnesia` is one.

  ## Options

  All functions take:

    * `:store` - a folder, or `{module, config}`. Default: the configured one.

  Those that write also take:

    * `:timeout` - milliseconds that they wait while others write, or `:infinity`. Default: 60,000.

  Errors are `Cybernetic.WASM.StoreError`.
  """

  alias Cybernetic.WASM.{Config, Options, StoreError}
  alias Cybernetic.WASM.Store.{Audit, Cleaning, Entry, Intake, Lookup, Place}

  @typedoc "A folder, or what implements a store and what that takes."
  @type t :: Path.t() | {module, term}

  @typedoc "Which store is meant."
  @type option :: {:store, t}

  @typedoc "An option of what writes."
  @type write_option :: option | {:timeout, timeout}

  @timeout 60_000
  @everything 0xFFFF_FFFF_FFFF

  @reading [store: Place.kind()]
  @text {"a text", &is_binary/1}
  @writing [timeout: Place.limit("milliseconds")] ++ @reading
  @putting [name: @text, version: @text, note: @text, by: @text, budget: Place.limit("bytes")]

  @doc """
  Puts bytes into the store.

  With a name they are a version of it; without one they are found by their digests, until `gc/1` drops them or the space is
  needed. The same bytes under the same version again change nothing. Other bytes under a version that is there are refused:
  `:taken`. Without a version it is the one behind the highest, or the highest itself where that has the same bytes; the first is
  `"0.1.0"`.

  Options, beside those of all functions that write:

    * `:name`, `:version`
    * `:note` - a text, of which at most 1,000 characters are kept
    * `:by` - who puts it there. Default: the user's name.
    * `:budget` - bytes that the store may have. Default: what is configured as `:store_size`. Where it would have more, bytes
      leave that no version points at, those first that were used longest ago. Where that is not enough nothing leaves, and the
      error is `:full`.
  """
  @spec put(binary, [
          write_option
          | {:name, String.t()}
          | {:version, String.t()}
          | {:note, String.t()}
          | {:by, String.t()}
          | {:budget, non_neg_integer | :infinity}
        ]) :: {:ok, Entry.t()} | {:error, StoreError.t()}
  def put(bytes, opts \\ [])

  def put(bytes, opts) when is_binary(bytes) do
    opts = Options.check!(opts, @putting ++ @writing, "store option")
    store = Place.of(opts[:store])
    budget = Map.get_lazy(opts, :budget, fn -> Config.get().store_size end)

    with {:ok, entry} <- Intake.entry(bytes, opts),
         do: alone(store, opts, fn -> Intake.put(store, bytes, entry, budget) end)
  end

  def put(other, _opts) do
    Options.refuse!(
      "put/2 takes the bytes of a module themselves, as File.read!/1 gives them, or the bytes of what Loader.fetch/2 gives",
      other
    )
  end

  @doc """
  The bytes that a reference names, and what is known of them.

  Options: `:store`, and

    * `:max_size` - bytes; where there are more, they are not read: `:too_large`
  """
  @spec get(String.t(), [option | {:max_size, pos_integer}]) ::
          {:ok, binary, Entry.t()} | {:error, StoreError.t()}
  def get(reference, opts \\ []) do
    opts = Options.check!(opts, [max_size: :positive] ++ @reading, "store option")
    reference = text!(reference, ~S|a reference such as "acme/thumb@1.2"|)
    Lookup.get(Place.of(opts[:store]), reference, Map.get(opts, :max_size, @everything))
  end

  defp text!(text, _wanted) when is_binary(text), do: text
  defp text!(other, wanted), do: Options.refuse!("#{wanted} is needed, which is a text", other)

  @doc "The current version of each name."
  @spec list([option]) :: {:ok, [Entry.t()]} | {:error, StoreError.t()}
  def list(opts \\ []), do: opts |> place() |> Lookup.list()

  @doc "All versions of a name, the highest first."
  @spec versions(String.t(), [option]) :: {:ok, [Entry.t()]} | {:error, StoreError.t()}
  def versions(name, opts \\ []),
    do: opts |> place() |> Lookup.versions(text!(name, ~S|a name such as "acme/thumb"|))

  defp place(opts) do
    opts = Options.check!(opts, @reading, "store option")
    Place.of(opts[:store])
  end

  @doc """
  Drops one version of a name (`"acme/thumb@1.2.3"`), or bytes by their digest, which is refused while a version points at them:
  `:in_use`. The bytes of a version that is dropped stay until `gc/1`.
  """
  @spec delete(String.t(), [write_option]) :: :ok | {:error, StoreError.t()}
  def delete(reference, opts \\ []) do
    reference = text!(reference, ~S|a version such as "acme/thumb@1.2.3", or a digest,|)
    write(opts, [], fn store, _opts -> Cleaning.delete(store, reference) end)
  end

  @doc """
  Drops old versions of all names, or of the one given as `:name`: those that are neither among the `:keep` highest nor the
  current one. Gives what it has dropped, as `"name@version"`. Their bytes stay until `gc/1`.
  """
  @spec prune([write_option | {:keep, pos_integer} | {:name, String.t()}]) ::
          {:ok, [String.t()]} | {:error, StoreError.t()}
  def prune(opts) do
    unless Keyword.keyword?(opts) and Keyword.has_key?(opts, :keep),
      do: raise(ArgumentError, "say how many versions stay, as option :keep: prune(keep: 5)")

    write(opts, [keep: :positive, name: @text], fn store, opts ->
      Cleaning.prune(store, opts[:name], opts.keep)
    end)
  end

  @doc """
  Drops all bytes that no version points at, and what a crash has left behind. Gives how many of the former there were, and their
  size. Where the record of a version is damaged it drops nothing: see `verify/1`.
  """
  @spec gc([write_option]) ::
          {:ok, %{blobs: non_neg_integer, bytes: non_neg_integer}} | {:error, StoreError.t()}
  def gc(opts \\ []), do: write(opts, [], fn store, _opts -> Cleaning.gc(store) end)

  @doc """
  Reads all that is in the store, and sets aside what is not what was put there.

    * `:blobs`, `:bytes` - how many are sound, and their size
    * `:versions` - how many records are
    * `:damaged` - what was set aside: digests, and versions as `"name@version"`. What is put there again is sound.
    * `:missing` - versions whose bytes are not there, or were just set aside
    * `:restored` - how many bytes are found by their SHA-256 again
  """
  @spec verify([write_option]) :: {:ok, Audit.report()} | {:error, StoreError.t()}
  def verify(opts \\ []) do
    opts = Options.check!(opts, @writing, "store option")
    store = Place.of(opts[:store])
    Audit.verify(store, &alone(store, opts, &1))
  end

  defp write(opts, own, function) do
    opts = Options.check!(opts, own ++ @writing, "store option")
    store = Place.of(opts[:store])
    alone(store, opts, fn -> function.(store, opts) end)
  end

  defp alone({module, config}, opts, function),
    do: module.alone(config, Map.get(opts, :timeout, @timeout), function)
end
