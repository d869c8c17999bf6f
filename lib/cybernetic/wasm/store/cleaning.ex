defmodule Cybernetic.WASM.Store.Cleaning do
  @moduledoc false
  # Taking out of a store. Bytes leave it only when no version points at them, and whether one does is known only if every
  # record can be read: where one is damaged, bytes stay.
  #
  # All of it is for somebody who writes alone.

  alias Cybernetic.WASM.{Reference, StoreError}
  alias Cybernetic.WASM.Store.{Lookup, Place}

  @type counts :: %{blobs: non_neg_integer, bytes: non_neg_integer}

  @doc "Drops a version of a name, or bytes that no version points at."
  @spec delete(Place.t(), String.t()) :: :ok | {:error, StoreError.t()}
  def delete(store, reference) do
    case Reference.parse(reference) do
      {:ok, {:digest, digest}} -> delete_blob(store, digest)
      {:ok, {:name, name, _selector}} -> delete_version(store, name, version(reference))
      :error -> StoreError.refuse(:invalid_reference, name: reference)
    end
  end

  defp version(reference), do: reference |> String.split("@", parts: 2) |> Enum.at(1)

  defp delete_version({module, config}, name, version) do
    with {:ok, versions} <- module.versions(config, name) do
      facts = [name: name, version: version, versions: Reference.sort(versions)]

      cond do
        versions == [] -> Lookup.no_such_name({module, config}, name)
        version in versions -> module.drop_entry(config, name, version)
        exact?(version) -> StoreError.refuse(:no_such_version, facts)
        # What a requirement finds today is not what somebody meant to drop.
        true -> StoreError.refuse(:inexact, facts)
      end
    end
  end

  defp exact?(version), do: version != nil and Reference.version(version) != :error

  defp delete_blob({module, config} = store, asked) do
    with {:ok, digest} <- Lookup.blake3(store, asked),
         {:ok, blobs} <- module.blobs(config),
         %{size: size} <- Enum.find(blobs, :none, &(&1.digest == digest)),
         {:ok, entries} <- Lookup.entries(store) do
      case for(entry <- entries, entry.digest == digest, do: "#{entry.name}@#{entry.version}") do
        [] -> module.drop_blob(config, digest, size)
        versions -> StoreError.refuse(:in_use, digest: asked, versions: versions)
      end
    else
      :none -> StoreError.refuse(:no_such_digest, digest: asked)
      error -> error
    end
  end

  @doc "Drops all versions of a name, or of each, but the highest ones, of which there may be `keep`, and the current one."
  @spec prune(Place.t(), String.t() | nil, pos_integer) ::
          {:ok, [String.t()]} | {:error, StoreError.t()}
  def prune({module, config} = store, name, keep) do
    with {:ok, names} <- if(name, do: {:ok, [name]}, else: module.names(config)),
         do: Lookup.collect(names, &prune_name(store, &1, keep))
  end

  defp prune_name({module, config}, name, keep) do
    with {:ok, versions} <- module.versions(config, name) do
      kept = [Reference.pick(versions, :current) | Enum.take(Reference.sort(versions), keep)]

      Lookup.collect(Reference.sort(versions) -- kept, fn version ->
        with :ok <- module.drop_entry(config, name, version), do: {:ok, ["#{name}@#{version}"]}
      end)
    end
  end

  @doc "Drops all bytes that no version points at, and what was left behind."
  @spec gc(Place.t()) :: {:ok, counts} | {:error, StoreError.t()}
  def gc({module, config} = store) do
    with {:ok, blobs} <- loose(store),
         {:ok, dropped} <- drop(store, blobs),
         :ok <- module.sweep(config),
         do: {:ok, %{blobs: length(dropped), bytes: total(dropped)}}
  end

  @doc """
  Makes room for `size` bytes with the digest, in a store that may have `budget`: bytes that no version points at leave it, those
  first that nobody has used for longest.
  """
  @spec make_room(Place.t(), String.t(), non_neg_integer, non_neg_integer | :infinity) ::
          :ok | {:error, StoreError.t()}
  def make_room(_store, _digest, _size, :infinity), do: :ok

  def make_room({module, config} = store, digest, size, budget) do
    with {:ok, blobs} <- module.blobs(config) do
      others = Enum.reject(blobs, &(&1.digest == digest))
      excess = total(others) + size - budget
      if excess > 0, do: evict(store, digest, excess, budget), else: :ok
    end
  end

  defp evict(store, digest, excess, budget) do
    with {:ok, loose} <- loose(store) do
      loose = loose |> Enum.reject(&(&1.digest == digest)) |> Enum.sort_by(& &1.used)
      # Nothing leaves where that is not enough.
      case excess - total(loose) do
        left when left > 0 -> StoreError.refuse(:full, size: budget + left, allowed: budget)
        _fits -> with {:ok, _dropped} <- drop(store, enough(loose, excess)), do: :ok
      end
    end
  end

  defp enough([blob | others], excess) when excess > 0,
    do: [blob | enough(others, excess - blob.size)]

  defp enough(_others, _excess), do: []

  # Bytes that no version points at.
  defp loose({module, config} = store) do
    with {:ok, entries} <- Lookup.entries(store),
         {:ok, blobs} <- module.blobs(config) do
      named = MapSet.new(entries, & &1.digest)
      {:ok, Enum.reject(blobs, &MapSet.member?(named, &1.digest))}
    end
  end

  defp drop({module, config}, blobs) do
    Lookup.collect(blobs, fn blob ->
      with :ok <- module.drop_blob(config, blob.digest, blob.size), do: {:ok, [blob]}
    end)
  end

  defp total(blobs), do: blobs |> Enum.map(& &1.size) |> Enum.sum()
end
