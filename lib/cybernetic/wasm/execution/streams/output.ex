defmodule Cybernetic.WASM.Execution.Streams.Output do
  @moduledoc false
  # A guest's output: taken from it while it runs, and written to those of the VM's streams that are its own. The beginning
  # of a character whose end is not there yet is kept in the dictionary of the process that drives the guest.

  alias Cybernetic.WASM.{HostError, Native}
  alias Cybernetic.WASM.Execution.{Devices, Streams, Tally}
  alias Cybernetic.WASM.Sandbox.Check

  @write {Check.wasi(), "fd_write"}

  @doc "The guest's output to these streams since the last time, in pieces."
  @spec take(reference, [atom]) :: [Tally.piece()]
  def take(execution, streams) do
    with :dirty <- Native.execution_take_output(execution, streams),
         do: Native.execution_take_output_dirty(execution, streams)
  end

  @doc "Which streams a consumer of the output gets."
  @spec consumed(Streams.t() | nil) :: [:output | :stdout | :stderr]
  def consumed(nil), do: [:output]
  def consumed(%Streams{inherited: inherited}), do: [:output, :stdout, :stderr] -- inherited

  @doc "Writes the guest's output to those of the VM's streams that are its own."
  @spec write(Streams.t() | nil, reference) :: :ok | {:error, HostError.t()}
  def write(%Streams{inherited: [_ | _] = streams, key: key}, execution) do
    for {stream, bytes} <- take(execution, streams), do: keep({key, stream}, bytes)
    :ok
  catch
    kind, reason -> {:error, failed(kind, reason, __STACKTRACE__)}
  end

  def write(_none, _execution), do: :ok

  # A write may end within a character.
  defp keep({_, stream} = key, bytes) do
    case Devices.write(stream, (Process.get(key) || "") <> bytes) do
      "" -> Process.delete(key)
      rest -> Process.put(key, rest)
    end
  end

  @doc "The tally of a call that was cut off in a write, without the part that belongs on the VM's streams, which is written."
  @spec flush(Streams.t() | nil, Tally.t() | nil) :: Tally.t() | nil
  def flush(%Streams{inherited: [_ | _] = streams, key: key}, %Tally{} = tally) do
    Enum.reduce(streams, tally, fn stream, tally ->
      Map.update!(tally, stream, &last(&1, fn bytes -> keep({key, stream}, bytes) end))
    end)
  end

  def flush(_none, tally), do: tally

  @doc "Writes what was kept back; what that raised, as an error."
  @spec close(Streams.t()) :: :ok | {:error, HostError.t()}
  def close(%Streams{inherited: inherited, key: key}) do
    for stream <- inherited,
        rest = Process.delete({key, stream}),
        do: last(rest, &Devices.write_rest(stream, &1))

    :ok
  catch
    kind, reason -> {:error, failed(kind, reason, __STACKTRACE__)}
  end

  # The call has ended with an error already: that its last words could not be written either is none.
  defp last("", _write), do: ""

  defp last(bytes, write) do
    write.(bytes)
    ""
  rescue
    IO.StreamError -> ""
  end

  # As of a host function: the guest's call is what failed.
  defp failed(kind, reason, stacktrace),
    do: %HostError{kind: kind, reason: reason, stacktrace: stacktrace, import: @write}
end
