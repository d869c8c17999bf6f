defmodule Cybernetic.WASM.Plugin.Codecs.JSON do
  @moduledoc false
  # JSON. The keys of objects are texts: no atom is made.

  alias Cybernetic.WASM.{JSON, Options}

  @behaviour Cybernetic.WASM.Plugin.Codec

  @options [max_size: :positive, max_depth: {"an integer from 1 to 100", &__MODULE__.depth?/1}]
  @defaults %{max_size: 16_777_216, max_depth: 64}

  @doc false
  def options!(opts) do
    @defaults
    |> Map.merge(Options.check!(opts, @options, "option of the codec :json"))
    |> Map.to_list()
  end

  @doc false
  def depth?(depth), do: depth in 1..100

  @impl true
  def encode(term, opts), do: JSON.write(term, opts[:max_size], opts[:max_depth])

  @impl true
  def decode(bytes, opts), do: JSON.decode(bytes, opts[:max_size], opts[:max_depth])
end
