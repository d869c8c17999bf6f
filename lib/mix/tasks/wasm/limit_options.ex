defmodule Mix.Tasks.Wasm.LimitOptions do
  @moduledoc false
  # The limits of a call, as options of a command line.

  alias Mix.Tasks.Wasm.{CommandLine, TextFormat, UsageError}

  @names [:fuel, :timeout, :max_memory]

  @doc "Their switches."
  @spec switches() :: keyword
  def switches, do: Enum.map(@names, &{&1, :string})

  @doc "Those that are given. How large each can be is the library's to say."
  @spec read(map) :: {:ok, keyword} | {:error, UsageError.t()}
  def read(options) do
    Enum.reduce_while(@names, {:ok, []}, fn key, {:ok, limits} ->
      case limit(key, options[key]) do
        {:ok, nil} -> {:cont, {:ok, limits}}
        {:ok, value} -> {:cont, {:ok, [{key, value} | limits]}}
        :error -> {:halt, invalid(key, options[key])}
      end
    end)
  end

  @doc "How a module has to be metered: a limit on fuel needs fuel metering, whatever is configured."
  @spec metering(keyword) :: keyword
  def metering(limits), do: if(limits[:fuel], do: [metering: :fuel], else: [])

  defp limit(_key, nil), do: {:ok, nil}

  defp limit(key, text) do
    with {digits, unit} <- unit(key, text),
         {:ok, count} when count > 0 <- TextFormat.integer(digits) do
      {:ok, count * unit}
    else
      _ -> :error
    end
  end

  defp unit(:max_memory, text) do
    case String.split_at(text, -1) do
      {digits, unit} when unit in ["k", "K"] -> {digits, 1024}
      {digits, unit} when unit in ["m", "M"] -> {digits, 1024 ** 2}
      {digits, unit} when unit in ["g", "G"] -> {digits, 1024 ** 3}
      _ -> {text, 1}
    end
  end

  defp unit(_key, text), do: {text, 1}

  defp invalid(key, text) do
    name = key |> to_string() |> String.replace("_", "-")
    CommandLine.usage_error("--#{name} must be #{wanted(key)}, got: #{text}")
  end

  defp wanted(:fuel), do: "a positive number of units, such as 1_000_000"
  defp wanted(:timeout), do: "a positive number of milliseconds, such as 500"
  defp wanted(:max_memory), do: "a positive number of bytes, such as 100_000, 64K, 16M or 1G"
end
