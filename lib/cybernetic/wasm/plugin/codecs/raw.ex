defmodule Cybernetic.WASM.Plugin.Codecs.Raw do
  @moduledoc false
  # Bytes as they are.

  alias Cybernetic.WASM.{Options, Shown}

  @behaviour Cybernetic.WASM.Plugin.Codec

  @doc false
  def options!(opts), do: opts |> Options.check!([], "option of the codec :raw") |> Map.to_list()

  @impl true
  def encode(bytes, _opts) when is_binary(bytes), do: {:ok, bytes}

  def encode(iodata, _opts) do
    {:ok, IO.iodata_to_binary(iodata)}
  rescue
    ArgumentError -> {:error, "iodata is needed, got: #{Shown.kind(iodata)}"}
  end

  @impl true
  def decode(bytes, _opts), do: {:ok, bytes}
end
