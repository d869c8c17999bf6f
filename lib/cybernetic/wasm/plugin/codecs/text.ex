defmodule Cybernetic.WASM.Plugin.Codecs.Text do
  @moduledoc false
  # Text in UTF-8, both ways.

  alias Cybernetic.WASM.Options
  alias Cybernetic.WASM.Plugin.Codecs.Raw

  @behaviour Cybernetic.WASM.Plugin.Codec

  @doc false
  def options!(opts), do: opts |> Options.check!([], "option of the codec :text") |> Map.to_list()

  @impl true
  def encode(iodata, opts), do: with({:ok, bytes} <- Raw.encode(iodata, opts), do: text(bytes))

  @impl true
  def decode(bytes, _opts), do: text(bytes)

  defp text(bytes) do
    case :unicode.characters_to_binary(bytes) do
      text when is_binary(text) -> {:ok, text}
      {_how, good, _rest} -> {:error, "it is no UTF-8 at byte #{byte_size(good)}"}
    end
  end
end
