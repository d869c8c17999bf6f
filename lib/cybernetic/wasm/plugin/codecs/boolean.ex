defmodule Cybernetic.WASM.Plugin.Codecs.Boolean do
  @moduledoc false
  # `true` or `false`, as these words.

  alias Cybernetic.WASM.{Options, Shown}

  @behaviour Cybernetic.WASM.Plugin.Codec

  @doc false
  def options!(opts),
    do: opts |> Options.check!([], "option of the codec :boolean") |> Map.to_list()

  @impl true
  def encode(boolean, _opts) when is_boolean(boolean), do: {:ok, Atom.to_string(boolean)}
  def encode(other, _opts), do: {:error, "true or false is needed, got: #{Shown.kind(other)}"}

  @impl true
  def decode("true", _opts), do: {:ok, true}
  def decode("false", _opts), do: {:ok, false}
  def decode(_other, _opts), do: {:error, "it is neither true nor false"}
end
