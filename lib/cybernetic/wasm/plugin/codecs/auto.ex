defmodule Cybernetic.WASM.Plugin.Codecs.Auto do
  @moduledoc false
  # Told from the term on the way in and from the bytes on the way out, by the tables of `Plugin.Codec`.

  alias Cybernetic.WASM.{JSON, Options}

  @behaviour Cybernetic.WASM.Plugin.Codec

  @options [max_size: :positive]
  @defaults %{max_size: 16_777_216}
  @deepest 64

  @doc false
  def options!(opts) do
    @defaults
    |> Map.merge(Options.check!(opts, @options, "option of the codec :auto"))
    |> Map.to_list()
  end

  @impl true
  def encode(bytes, _opts) when is_binary(bytes), do: {:ok, bytes}

  def encode(list, opts) when is_list(list) do
    {:ok, IO.iodata_to_binary(list)}
  rescue
    ArgumentError -> json(list, opts)
  end

  def encode(atom, _opts) when is_atom(atom) and atom not in [true, false, nil],
    do: {:ok, Atom.to_string(atom)}

  def encode(other, opts), do: json(other, opts)

  defp json(term, opts), do: JSON.write(term, opts[:max_size], @deepest)

  # A string in quotes stays as it is: text that happens to begin with a quote would lose it.
  @impl true
  def decode("\"" <> _ = bytes, _opts), do: {:ok, bytes}

  def decode(bytes, opts) do
    case JSON.decode(bytes, opts[:max_size], @deepest) do
      {:ok, text} when is_binary(text) -> {:ok, bytes}
      {:ok, term} -> {:ok, term}
      {:error, _no_json} -> {:ok, bytes}
    end
  end
end
