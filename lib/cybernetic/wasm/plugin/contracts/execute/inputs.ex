defmodule Cybernetic.WASM.Plugin.Contracts.Execute.Inputs do
  @moduledoc false
  # Inputs and parameters in one buffer, as serde writes a record of `inputs: Vec<Vec<u8>>` and `params: BTreeMap<String, String>`:
  # in the format of bincode 1.3 by its default, where lengths are 64 bits, little-endian; or as JSON, where bytes are numbers.

  @doc "The buffer. Parameters are sorted."
  @spec write(:bincode | :json, [binary], [{String.t(), String.t()}]) :: binary
  def write(:bincode, inputs, params) do
    IO.iodata_to_binary([
      length_of(length(inputs)),
      Enum.map(inputs, &bytes/1),
      length_of(length(params)),
      Enum.map(params, fn {name, value} -> [bytes(name), bytes(value)] end)
    ])
  end

  def write(:json, inputs, params) do
    inputs = Enum.map_intersperse(inputs, ?,, &numbers/1)
    params = params |> Map.new() |> Cybernetic.WASM.JSON.encode()
    IO.iodata_to_binary([~S({"inputs":[), inputs, ~S(],"params":), params, "}"])
  end

  defp bytes(bytes), do: [length_of(byte_size(bytes)), bytes]
  defp length_of(length), do: <<length::little-64>>

  defp numbers(bytes),
    do: [?[, Enum.map_intersperse(:binary.bin_to_list(bytes), ?,, &Integer.to_string/1), ?]]
end
