defmodule Cybernetic.WASM.Store.Intake do
  @moduledoc false
  # Putting into a store. For somebody who writes alone: between looking whether a version is taken and taking it nobody else
  # does.

  alias Cybernetic.WASM.{Digest, Reference, StoreError}
  alias Cybernetic.WASM.Store.{Cleaning, Entry, Place}

  @longest_by 200
  @longest_note 1_000

  @doc "What is put there, by the options of the door, or what is wrong with them."
  @spec entry(binary, map) :: {:ok, Entry.t()} | {:error, StoreError.t()}
  def entry(bytes, opts) do
    with {:ok, name, version} <- claim(opts[:name], opts[:version]) do
      {:ok,
       %Entry{
         name: name,
         version: version,
         digest: Digest.text_of(bytes, :blake3),
         sha256: Digest.text_of(bytes, :sha256),
         size: byte_size(bytes),
         at: DateTime.truncate(DateTime.utc_now(), :second),
         by: text(opts[:by] || user(), @longest_by),
         note: text(opts[:note], @longest_note)
       }}
    end
  end

  defp claim(nil, nil), do: {:ok, nil, nil}

  defp claim(nil, _version),
    do: raise(ArgumentError, "a version is a name's: give the name, too, as option :name")

  defp claim(name, version) do
    cond do
      not Reference.name?(name) -> StoreError.refuse(:invalid_name, name: name)
      version == nil or match?({:ok, _}, Reference.version(version)) -> {:ok, name, version}
      true -> StoreError.refuse(:invalid_version, version: version)
    end
  end

  defp user, do: System.get_env("USER") || System.get_env("LOGNAME")

  defp text(nil, _longest), do: nil

  defp text(text, longest),
    do: if(String.valid?(text), do: String.slice(text, 0, longest), else: nil)

  @doc "Puts bytes there, and the version that points at them."
  @spec put(Place.t(), binary, Entry.t(), non_neg_integer | :infinity) ::
          {:ok, Entry.t()} | {:error, StoreError.t()}
  def put({module, config} = store, bytes, entry, budget) do
    with {:ok, known, entry} <- settle(store, entry),
         :ok <- Cleaning.make_room(store, entry.digest, entry.size, budget),
         :ok <- module.put_blob(config, %{blake3: entry.digest, sha256: entry.sha256}, bytes),
         # One that is known, too: who put it there may have ended before the disk had it.
         :ok <- if(known == :unnamed, do: :ok, else: module.put_entry(config, entry)),
         do: {:ok, entry}
  end

  # Which version it is, and whether that is there already.
  defp settle(_store, %Entry{name: nil} = entry), do: {:ok, :unnamed, entry}

  defp settle({module, config} = store, entry) do
    with {:ok, versions} <- module.versions(config, entry.name) do
      cond do
        entry.version == nil -> behind(store, entry, versions)
        entry.version in versions -> same(module.entry(config, entry.name, entry.version), entry)
        true -> {:ok, :new, entry}
      end
    end
  end

  # Without a version: that of the highest where it has the same bytes, else the next one.
  defp behind({module, config}, entry, versions) do
    highest = versions |> Reference.sort() |> List.first()

    with true <- highest != nil,
         {:ok, %{digest: digest} = known} when digest == entry.digest <-
           module.entry(config, entry.name, highest) do
      {:ok, :known, known}
    else
      {:error, error} -> {:error, error}
      _others -> {:ok, :new, %{entry | version: Reference.next(versions)}}
    end
  end

  defp same({:ok, %{digest: digest} = known}, %{digest: digest}), do: {:ok, :known, known}

  defp same({:ok, known}, entry),
    do: StoreError.refuse(:taken, name: entry.name, version: entry.version, digest: known.digest)

  defp same(:none, entry), do: {:ok, :new, entry}
  defp same({:error, error}, _entry), do: {:error, error}
end
