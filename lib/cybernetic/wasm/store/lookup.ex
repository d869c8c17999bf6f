defmodule Cybernetic.WASM.Store.Lookup do
  @moduledoc false
  # Reading a store. Others may write to it meanwhile: what was found in one step may be gone in the next.

  alias Cybernetic.WASM.{Digest, Reference, Shown, StoreError}
  alias Cybernetic.WASM.Store.{Entry, Place}

  # Names that are not there may come in any number.
  @most_compared 200

  # So often it is looked again.
  @tries 3

  @doc "The bytes that a reference names, which are those that were put there, and what is known of them."
  @spec get(Place.t(), String.t(), pos_integer) ::
          {:ok, binary, Entry.t()} | {:error, StoreError.t()}
  def get(store, reference, most) do
    case Reference.parse(reference) do
      {:ok, {:name, name, selector}} -> named(store, {name, selector, reference}, most, @tries)
      {:ok, {:digest, digest}} -> digested(store, digest, most)
      :error -> StoreError.refuse(:invalid_reference, name: reference)
    end
  end

  defp named({module, config} = store, {name, _selector, _reference} = wanted, most, tries) do
    with {:ok, version} <- pick(store, wanted),
         {:ok, entry} <- module.entry(config, name, version),
         {:ok, bytes} <- bytes(store, entry.digest, most) do
      module.used(config, entry.digest)
      {:ok, bytes, entry}
    else
      :none when tries > 1 -> named(store, wanted, most, tries - 1)
      :none -> StoreError.refuse(:missing, name: name, version: version_of(store, wanted))
      error -> error
    end
  end

  defp version_of(store, wanted) do
    with {:ok, version} <- pick(store, wanted), do: version, else: (_error -> nil)
  end

  defp pick({module, config}, {name, selector, reference}) do
    with {:ok, versions} <- module.versions(config, name) do
      case {versions, Reference.pick(versions, selector)} do
        {[], nil} -> no_such_name({module, config}, name)
        {_some, nil} -> none_fits(name, reference, versions)
        {_some, version} -> {:ok, version}
      end
    end
  end

  @doc "The error of a name that is not there, with one that is, where the two are much alike."
  @spec no_such_name(Place.t(), String.t()) :: {:error, StoreError.t()}
  def no_such_name({module, config}, name) do
    alike =
      with {:ok, [_ | _] = names} <- module.names(config),
           do: Shown.nearest(name, Enum.take(names, @most_compared)),
           else: (_none -> nil)

    path = if is_binary(config), do: config
    StoreError.refuse(:no_such_name, name: name, path: path, nearest: alike)
  end

  defp none_fits(name, reference, versions) do
    [_name, wanted] = String.split(reference, "@", parts: 2)
    versions = Reference.sort(versions)
    StoreError.refuse(:no_such_version, name: name, version: wanted, versions: versions)
  end

  defp digested({module, config} = store, asked, most) do
    with {:ok, digest} <- blake3(store, asked),
         {:ok, bytes} <- bytes(store, digest, most),
         {:ok, sha256} <- same(bytes, asked) do
      module.used(config, digest)
      {:ok, bytes, %Entry{digest: digest, sha256: sha256, size: byte_size(bytes)}}
    else
      :none -> StoreError.refuse(:no_such_digest, digest: asked)
      error -> error
    end
  end

  @doc "The BLAKE3 of what has this digest."
  @spec blake3(Place.t(), String.t()) :: {:ok, String.t()} | :none | {:error, StoreError.t()}
  def blake3(_store, "blake3:" <> _ = digest), do: {:ok, digest}
  def blake3({module, config}, sha256), do: module.find(config, sha256)

  defp same(_bytes, "blake3:" <> _), do: {:ok, nil}

  defp same(bytes, sha256) do
    if Digest.text_of(bytes, :sha256) == sha256, do: {:ok, sha256}, else: :none
  end

  @doc "Bytes by their BLAKE3, if that is what they have."
  @spec bytes(Place.t(), String.t(), pos_integer) ::
          {:ok, binary} | :none | {:error, StoreError.t()}
  def bytes({module, config}, digest, most) do
    case module.blob(config, digest, most) do
      {:ok, bytes} -> checked(bytes, digest)
      {:error, {:too_large, size}} -> StoreError.refuse(:too_large, size: size, allowed: most)
      other -> other
    end
  end

  defp checked(bytes, digest) do
    if Digest.text_of(bytes, :blake3) == digest,
      do: {:ok, bytes},
      else: StoreError.refuse(:damaged, digest: digest)
  end

  @doc "The current version of each name."
  @spec list(Place.t()) :: {:ok, [Entry.t()]} | {:error, StoreError.t()}
  def list({module, config} = store) do
    with {:ok, names} <- module.names(config) do
      collect(names, fn name ->
        with {:ok, versions} <- module.versions(config, name),
             do: entries(store, name, List.wrap(Reference.pick(versions, :current)))
      end)
    end
  end

  @doc "All versions of a name, the highest first."
  @spec versions(Place.t(), String.t()) :: {:ok, [Entry.t()]} | {:error, StoreError.t()}
  def versions({module, config} = store, name) do
    if Reference.name?(name) do
      case module.versions(config, name) do
        {:ok, []} -> no_such_name({module, config}, name)
        {:ok, versions} -> entries(store, name, Reference.sort(versions))
        error -> error
      end
    else
      StoreError.refuse(:invalid_name, name: name)
    end
  end

  @doc "All versions of all names."
  @spec entries(Place.t()) :: {:ok, [Entry.t()]} | {:error, StoreError.t()}
  def entries({module, config} = store) do
    with {:ok, names} <- module.names(config) do
      collect(names, fn name ->
        with {:ok, versions} <- module.versions(config, name),
             do: entries(store, name, versions)
      end)
    end
  end

  # What is gone by now is left out.
  defp entries({module, config}, name, versions) do
    collect(versions, fn version ->
      case module.entry(config, name, version) do
        {:ok, entry} -> {:ok, [entry]}
        :none -> {:ok, []}
        error -> error
      end
    end)
  end

  @doc "All that `function` finds for the items, or its first error."
  @spec collect([item], (item -> {:ok, [found]} | error)) :: {:ok, [found]} | error
        when item: term, found: term, error: {:error, StoreError.t()}
  def collect(items, function) do
    items
    |> Enum.reduce_while([], fn item, found ->
      case function.(item) do
        {:ok, more} -> {:cont, [more | found]}
        error -> {:halt, error}
      end
    end)
    |> case do
      {:error, error} -> {:error, error}
      found -> {:ok, found |> Enum.reverse() |> Enum.concat()}
    end
  end
end
