defmodule Cybernetic.WASM.Plugin.Contracts.Process do
  @moduledoc false
  # C strings: `process` takes one and gives one, `allocate` and `deallocate` make room and let go of it. Functions that take
  # nothing, such as `get_module_info`, give one as well.

  alias Cybernetic.WASM.{ABI, CallError, Options, Plugin, PluginError}
  alias Cybernetic.WASM.Plugin.Surface

  @behaviour Plugin.Contract

  @wanted [
    {"process", ["i32"], ["i32"]},
    {"allocate", ["i32"], ["i32"]},
    {"deallocate", ["i32", "i32"], []},
    :memory
  ]

  @impl true
  def prepare(surface, opts) do
    Options.check!(opts, [], "option of the contract :process")

    case Surface.lacks(surface, @wanted) do
      [] -> {:ok, "it exports process, allocate, deallocate and a memory", state(surface)}
      missing -> {:missing, missing}
    end
  end

  defp state(surface) do
    free = {"deallocate", [:pointer, :size]}
    abi = ABI.new(alloc: "allocate", free_arguments: free, result: :cstring)
    %{abi: abi, surface: surface}
  end

  @impl true
  def entry(_state), do: "process"

  @impl true
  def options(state), do: [abi: state.abi]

  @impl true
  def request(function, input, encode, state) do
    if Surface.calls_for_nothing?(state.surface, function, input),
      do: {:ok, []},
      else: with({:ok, bytes} <- encode.(input), do: cstring(bytes))
  end

  defp cstring(bytes) do
    case :binary.match(bytes, <<0>>) do
      :nomatch ->
        {:ok, [{:cstring, bytes}]}

      {offset, 1} ->
        {:error, %CallError{reason: :zero_byte, index: 0, offset: offset}}
    end
  end

  @impl true
  def response(function, %{result: nil} = run, _decode, _state),
    do: {:error, PluginError.no_result(function, run)}

  def response(_function, run, decode, _state), do: decode.(run.result)
end
