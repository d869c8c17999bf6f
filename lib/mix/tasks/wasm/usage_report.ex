defmodule Mix.Tasks.Wasm.UsageReport do
  @moduledoc false
  # What a call used, as `--usage` shows it.

  alias Cybernetic.WASM.Usage
  alias Mix.Tasks.Wasm.CommandLine

  @fields [
    fuel: "units",
    peak_memory: "bytes",
    wall_time: "microseconds",
    slice_time: "microseconds",
    slices: "",
    host_calls: ""
  ]

  @doc "The numbers, in the order in which they are shown."
  @spec fields(Usage.t()) :: keyword
  def fields(usage), do: for({key, _unit} <- @fields, do: {key, Map.fetch!(usage, key)})

  @doc "Prints them to standard error."
  @spec print(Usage.t()) :: :ok
  def print(usage) do
    for {key, value} <- fields(usage) do
      name = key |> to_string() |> String.replace("_", " ") |> String.pad_trailing(11)
      CommandLine.warn("#{name} #{measured(value, @fields[key])}")
    end

    :ok
  end

  # Where the configuration meters by epochs there is no fuel.
  defp measured(nil, _unit), do: "not metered"
  defp measured(value, unit), do: String.trim_trailing("#{value} #{unit}")
end
