defmodule Cybernetic.WASM.Loader.Sources.Bytes do
  @moduledoc false
  # Bytes that are at hand.

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.Loader.Source
  alias Cybernetic.WASM.Shown

  @impl true
  def fetch(bytes, opts) when is_binary(bytes) do
    size = byte_size(bytes)
    if size <= opts.max_size, do: {:ok, bytes, %{}}, else: {:error, Source.too_large(size, opts)}
  end

  def fetch(other, _opts),
    do: raise(ArgumentError, "{:bytes, binary} expected, got: #{Shown.kind(other)}")

  @impl true
  def describe(_bytes), do: :bytes
end
