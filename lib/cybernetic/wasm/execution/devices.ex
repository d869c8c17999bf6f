defmodule Cybernetic.WASM.Execution.Devices do
  @moduledoc false
  # The VM's standard streams, as a guest that inherits them uses them: through the process that drives it, so that a group
  # leader of its own (a remote shell's, a test's) is respected.
  #
  # A device takes either bytes or characters. Where it takes characters, bytes that are no UTF-8 are written as Latin-1.

  @doc "Standard input, a line at a time."
  @spec stdin() :: Enumerable.t()
  def stdin do
    Stream.repeatedly(fn -> read(Process.group_leader()) end)
    |> Stream.take_while(&is_binary/1)
  end

  defp read(device) do
    case encoding(device) do
      :latin1 -> IO.binread(device, :line)
      _unicode -> IO.read(device, :line)
    end
  end

  @doc "Writes to standard output or error."
  @spec write(:stdout | :stderr, binary) :: :ok
  def write(:stdout, bytes), do: write_to(Process.group_leader(), bytes)
  def write(:stderr, bytes), do: write_to(:standard_error, bytes)

  defp write_to(device, bytes) do
    if encoding(device) != :latin1 and String.valid?(bytes),
      do: IO.write(device, bytes),
      else: IO.binwrite(device, bytes)
  end

  defp encoding(device) do
    case :io.getopts(device) do
      options when is_list(options) -> Keyword.get(options, :encoding, :latin1)
      {:error, _} -> :latin1
    end
  end
end
