defmodule Cybernetic.WASM.Loader.Sources.Store do
  @moduledoc false
  # What a store has: `{:store, "acme/thumb@1.2"}`. Name and version come along.

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.Loader.Source
  alias Cybernetic.WASM.{Shown, Store, StoreError}

  @impl true
  def fetch(reference, opts) when is_binary(reference) do
    case Store.get(reference, [max_size: opts.max_size] ++ store(opts)) do
      {:ok, bytes, entry} ->
        {:ok, bytes, facts(entry)}

      {:error, %StoreError{reason: :too_large} = error} ->
        {:error, Source.too_large(error.size, opts)}

      error ->
        error
    end
  end

  def fetch(other, _opts) do
    raise ArgumentError,
          ~s({:store, "name@version"} or a digest in its place expected, got: #{Shown.kind(other)})
  end

  defp store(%{store: nil}), do: []
  defp store(%{store: store}), do: [store: store]

  # The store has hashed the bytes as it read them.
  defp facts(entry) do
    digests = %{blake3: entry.digest}
    named = for {key, text} <- [name: entry.name, version: entry.version], text, do: {key, text}
    Map.new([digests: digests] ++ named)
  end

  @impl true
  def describe(reference) when is_binary(reference), do: "store " <> reference
  def describe(_other), do: "store"

  @impl true
  def name(_reference), do: nil
end
