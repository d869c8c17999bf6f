defmodule Cybernetic.WASM.Store.Audit do
  @moduledoc false
  # Whether a store has what was put into it. Bytes are read and hashed while others may write; only what is not as it should be
  # is looked at again alone, and set aside.

  alias Cybernetic.WASM.{Digest, StoreError}
  alias Cybernetic.WASM.Store.{Lookup, Place}

  @type report :: %{
          blobs: non_neg_integer,
          bytes: non_neg_integer,
          versions: non_neg_integer,
          damaged: [String.t()],
          missing: [String.t()],
          restored: non_neg_integer
        }

  @doc "Reads all there is. `alone` runs a function while nobody else writes."
  @spec verify(Place.t(), ((() -> result) -> result)) :: {:ok, report} | {:error, StoreError.t()}
        when result: term
  def verify({module, config} = store, alone) do
    with {:ok, records} <- records(store, alone),
         {:ok, blobs} <- module.blobs(config),
         {:ok, found} <- Lookup.collect(blobs, &blob(store, &1, alone)),
         {:ok, entries} <- Lookup.entries(store),
         {:ok, missing} <- missing(store, alone) do
      damaged = for({:damaged, what} <- records ++ found, do: what)
      sound = for({:sound, size, _restored} <- found, do: size)
      restored = for({:sound, _size, true} <- found, do: true)

      {:ok,
       %{
         blobs: length(sound),
         bytes: Enum.sum(sound),
         versions: length(entries),
         damaged: damaged,
         missing: missing,
         restored: length(restored)
       }}
    end
  end

  # Records that cannot be read are set aside.
  defp records({module, config}, alone) do
    with {:ok, names} <- module.names(config) do
      Lookup.collect(names, fn name ->
        with {:ok, versions} <- module.versions(config, name),
             do: Lookup.collect(versions, &record({module, config}, name, &1, alone))
      end)
    end
  end

  defp record({module, config} = store, name, version, alone) do
    look = fn -> module.entry(config, name, version) end

    case judged(look.()) do
      :damaged -> aside(store, {:entry, name, version}, look, alone, "#{name}@#{version}")
      {:error, error} -> {:error, error}
      _entry_or_none -> {:ok, []}
    end
  end

  defp blob(store, %{digest: digest, size: size}, alone) do
    look = fn -> Lookup.bytes(store, digest, max(size, 1)) end

    case judged(look.()) do
      {:ok, bytes} -> restore(store, digest, bytes, alone)
      :none -> {:ok, []}
      :damaged -> aside(store, {:blob, digest}, look, alone, digest)
      {:error, error} -> {:error, error}
    end
  end

  # What could not be read may be as sound as ever, and is not taken away for that.
  defp judged({:error, %StoreError{reason: reason}}) when reason in [:damaged, :too_large],
    do: :damaged

  defp judged(found), do: found

  # Others may have put it right meanwhile, or have dropped it.
  defp aside({module, config}, what, look, alone, words) do
    set_aside = fn ->
      case judged(look.()) do
        :damaged -> module.set_aside(config, what)
        {:error, error} -> {:unread, error}
        _sound_or_gone -> :sound
      end
    end

    case alone.(set_aside) do
      :sound -> {:ok, []}
      {:unread, error} -> {:error, error}
      # Where it cannot be set aside, it is told of, and still not given to anybody.
      _set_aside_or_not -> {:ok, [{:damaged, words}]}
    end
  end

  # That the other digest leads to these bytes, too. Where that cannot be put right they are sound all the same.
  defp restore({module, config}, digest, bytes, alone) do
    sha256 = Digest.text_of(bytes, :sha256)
    digests = %{blake3: digest, sha256: sha256}

    restored? =
      module.find(config, sha256) != {:ok, digest} and
        alone.(fn -> module.put_blob(config, digests, bytes) end) == :ok

    {:ok, [{:sound, byte_size(bytes), restored?}]}
  end

  # Versions without their bytes. While others write, one may just have been dropped.
  defp missing(store, alone) do
    with {:ok, [_ | _]} <- missing(store), do: alone.(fn -> missing(store) end)
  end

  defp missing({module, config} = store) do
    with {:ok, entries} <- Lookup.entries(store),
         {:ok, blobs} <- module.blobs(config) do
      there = MapSet.new(blobs, & &1.digest)
      lost = Enum.reject(entries, &MapSet.member?(there, &1.digest))
      {:ok, Enum.map(lost, &"#{&1.name}@#{&1.version}")}
    end
  end
end
