defmodule Examples.Sources.ETS do
  @moduledoc """
  Modules in an ETS table of this node, as rows `{name, version, bytes}`.

      table = :ets.new(:modules, [:set, :protected, read_concurrency: true])
      :ets.insert(table, {"thumb", "1.0.0", File.read!("thumb.wasm")})
      Cybernetic.WASM.Runtime.load_module({Examples.Sources.ETS, {table, "thumb"}})

  Only the owner writes to a protected table, and the owner is part of the application: what it names is not for others to change,
  so it needs no pin.
  """

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.LoadError
  alias Cybernetic.WASM.Loader.Source

  @impl true
  def fetch({table, name}, opts) do
    case :ets.lookup(table, name) do
      [{^name, version, bytes}] when byte_size(bytes) <= opts.max_size ->
        {:ok, bytes, %{name: name, version: version}}

      [{^name, _version, bytes}] ->
        {:error, Source.too_large(byte_size(bytes), opts)}

      [] ->
        {:error, %LoadError{reason: :not_found, detail: "there is no such row"}}
    end
  end

  @impl true
  def describe({_table, name}), do: "ets/#{name}"
end
