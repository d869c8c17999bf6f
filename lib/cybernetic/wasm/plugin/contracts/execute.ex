defmodule Cybernetic.WASM.Plugin.Contracts.Execute do
  @moduledoc false
  # Byte strings and named parameters in one buffer, over which the guest writes its result: `alloc` and `execute`.

  alias Cybernetic.WASM.{ABI, Options, Plugin, PluginError}
  alias Cybernetic.WASM.Plugin.Surface
  alias Cybernetic.WASM.Plugin.Contracts.Execute.Inputs

  @behaviour Plugin.Contract

  @wanted [{"alloc", ["i32"], ["i32"]}, {"execute", ["i32", "i32"], ["i32"]}, :memory]
  @options [
    format: {:one_of, [:bincode, :json, :raw]},
    result_capacity: {:bytes, 0..0x7FFF_FFFF}
  ]
  @defaults %{format: :bincode, result_capacity: 65_536}

  @impl true
  def prepare(surface, opts) do
    opts = Map.merge(@defaults, Options.check!(opts, @options, "option of the contract :execute"))

    case Surface.lacks(surface, @wanted) do
      [] ->
        abi = ABI.new(alloc: "alloc", result: :in_place)
        {:ok, "it exports alloc, execute and a memory", Map.put(opts, :abi, abi)}

      missing ->
        {:missing, missing}
    end
  end

  @impl true
  def entry(_state), do: "execute"

  @impl true
  def options(state), do: [abi: state.abi]

  @impl true
  def request(_function, input, encode, state) do
    with {:ok, packed} <- pack(state.format, input, encode),
         do: {:ok, [{:buffer, packed, state.result_capacity}]}
  end

  defp pack(:raw, {inputs, _params}, _encode) when is_list(inputs),
    do: refused(nil, "format: :raw passes one input, and no parameters")

  defp pack(:raw, input, encode), do: encode.(input)

  defp pack(format, {inputs, params}, encode) when is_list(inputs) do
    with {:ok, params} <- params(params),
         {:ok, inputs} <- each(inputs, encode, []),
         do: {:ok, Inputs.write(format, inputs, params)}
  end

  defp pack(format, input, encode), do: pack(format, {[input], %{}}, encode)

  defp each([], _encode, done), do: {:ok, Enum.reverse(done)}

  defp each([input | inputs], encode, done),
    do: with({:ok, bytes} <- encode.(input), do: each(inputs, encode, [bytes | done]))

  # Sorted, as the map is that the other side reads.
  defp params(params) when is_map(params) and not is_struct(params) do
    case Enum.find(params, &(not param?(&1))) do
      nil ->
        {:ok, Enum.sort(params)}

      {key, _value} when is_binary(key) ->
        refused("/params/#{key}", "a parameter is a text in UTF-8")

      {key, _value} ->
        refused("/params", "the name of a parameter is a text, got: #{inspect(key, limit: 5)}")
    end
  end

  defp params(_other), do: refused("/params", "parameters are a map of texts")

  defp param?({key, value}), do: text?(key) and text?(value)
  defp text?(text), do: is_binary(text) and String.valid?(text)

  defp refused(path, words),
    do: {:error, %PluginError{reason: :input, contract: :execute, path: path, detail: words}}

  @impl true
  def response(_function, run, decode, _state), do: decode.(run.result)
end
