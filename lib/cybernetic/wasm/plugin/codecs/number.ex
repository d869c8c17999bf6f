defmodule Cybernetic.WASM.Plugin.Codecs.Number do
  @moduledoc false
  # A number, written as JSON has it.

  alias Cybernetic.WASM.{JSON, Options, Shown}

  @behaviour Cybernetic.WASM.Plugin.Codec

  # More than any number has that JSON reads, with some space around it.
  @longest 1_000

  @doc false
  def options!(opts),
    do: opts |> Options.check!([], "option of the codec :number") |> Map.to_list()

  @impl true
  def encode(number, _opts) when is_number(number), do: JSON.write(number, @longest)
  def encode(other, _opts), do: {:error, "a number is needed, got: #{Shown.kind(other)}"}

  @impl true
  def decode(bytes, _opts) do
    case JSON.decode(bytes, @longest) do
      {:ok, number} when is_number(number) -> {:ok, number}
      _other -> {:error, "it is no number"}
    end
  end
end
