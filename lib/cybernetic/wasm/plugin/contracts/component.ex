defmodule Cybernetic.WASM.Plugin.Contracts.Component do
  @moduledoc false
  # A component's functions. One of the type that `run` has in the world `cybernetic:plugin/plugin` passes bytes, by the codec; any
  # other takes the list of its arguments, or its one argument, and gives what it gives.

  alias Cybernetic.WASM.{Options, Plugin}
  alias Cybernetic.WASM.Plugin.{Complaint, Surface}

  @behaviour Plugin.Contract

  @entry "run"

  @impl true
  def prepare(surface, opts) do
    Options.check!(opts, [], "option of the contract :component")

    cond do
      surface.kind == :module -> {:missing, ["a component: it is a module"]}
      surface.functions == %{} -> {:missing, ["a function that it exports"]}
      passes_bytes?(surface, @entry) -> {:ok, "it is a component that exports run", surface}
      true -> {:ok, "it is a component", surface}
    end
  end

  @impl true
  def entry(surface) do
    case Map.keys(surface.functions) do
      [only] -> only
      _several -> if Surface.function(surface, @entry), do: @entry
    end
  end

  @impl true
  def options(_surface), do: []

  @impl true
  def request(function, input, encode, surface) do
    cond do
      passes_bytes?(surface, function) -> with {:ok, bytes} <- encode.(input), do: {:ok, [bytes]}
      is_list(input) -> {:ok, input}
      true -> {:ok, [input]}
    end
  end

  @impl true
  def response(function, run, decode, surface) do
    case {passes_bytes?(surface, function), run.result} do
      {true, {:ok, bytes}} -> decode.(bytes)
      {true, {:error, text}} -> {:error, Complaint.new(run, %{detail: text})}
      {false, result} -> {:ok, result}
    end
  end

  defp passes_bytes?(surface, function) do
    match?(
      {:func, [{_name, {:list, :u8}}], {:result, {:list, :u8}, :string}},
      Surface.function(surface, function)
    )
  end
end
