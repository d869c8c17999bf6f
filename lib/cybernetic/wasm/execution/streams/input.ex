defmodule Cybernetic.WASM.Execution.Streams.Input do
  @moduledoc false
  # Standard input that is pulled, in the process that drives the guest. Between two pulls the rest of an enumerable is in that
  # process's dictionary, since a host function's own calls may pull as well.

  alias Cybernetic.WASM.{HostError, Native, Shown}
  alias Cybernetic.WASM.Execution.{Lane, Streams}
  alias Cybernetic.WASM.Sandbox.Check

  @read {Check.wasi(), "fd_read"}

  @doc "Whether it can be standard input: iodata, or an enumerable that is pulled."
  @spec readable?(term) :: boolean
  def readable?(bytes) when is_binary(bytes) or is_nil(bytes), do: true

  def readable?(list) when is_list(list) do
    is_binary(IO.iodata_to_binary(list))
  rescue
    ArgumentError -> false
  end

  def readable?(function) when is_function(function), do: is_function(function, 2)
  def readable?(map) when is_map(map) and not is_struct(map), do: false
  def readable?(other), do: Enumerable.impl_for(other) != nil

  @doc "The next piece of what the guest reads, or `nil` at its end; what pulling it raised, as an error."
  @spec next(Streams.t() | nil) :: {:ok, binary | nil} | {:error, HostError.t()}
  def next(%Streams{key: key, source: source}) when source != nil do
    with {:ok, piece} <- pull(Process.get(key, {:begin, source}), key), do: to_binary(piece, key)
  end

  def next(_none), do: {:ok, nil}

  defp pull(:ended, _key), do: {:ok, nil}

  defp pull({:begin, source}, key),
    do: pull(&Enumerable.reduce(source, &1, fn piece, _ -> {:suspend, {:piece, piece}} end), key)

  defp pull(continuation, key) do
    case continuation.({:cont, nil}) do
      {:suspended, piece, continuation} ->
        Process.put(key, continuation)
        {:ok, piece}

      {_done_or_halted, _} ->
        Process.put(key, :ended)
        {:ok, nil}
    end
  catch
    # It has closed itself.
    kind, reason ->
      Process.put(key, :ended)
      {:error, failed(kind, reason, __STACKTRACE__)}
  end

  defp to_binary(nil, _key), do: {:ok, nil}

  defp to_binary({:piece, piece}, key) do
    {:ok, IO.iodata_to_binary(piece)}
  rescue
    ArgumentError ->
      _closed_or_failed = close(key)
      Process.put(key, :ended)
      text = "standard input is made of iodata, got: #{Shown.kind(piece)}"
      {:error, failed(:error, %ArgumentError{message: text}, __STACKTRACE__)}
  end

  @doc "Gives the guest a piece of what it reads; `nil` is the end."
  @spec give(reference, binary | nil) :: :ok | {:refused, term}
  def give(execution, piece) do
    if Lane.large?(piece),
      do: Native.execution_give_input_dirty(execution, piece),
      else: Native.execution_give_input(execution, piece)
  end

  @doc "Gives up what has not been pulled; what that raised, as an error."
  @spec close(key :: reference) :: :ok | {:error, HostError.t()}
  def close(key) do
    case Process.delete(key) do
      continuation when is_function(continuation) -> continuation.({:halt, nil})
      _begun_or_ended -> :ok
    end

    :ok
  catch
    kind, reason -> {:error, failed(kind, reason, __STACKTRACE__)}
  end

  # As of a host function: the guest's call is what failed.
  defp failed(kind, reason, stacktrace),
    do: %HostError{kind: kind, reason: reason, stacktrace: stacktrace, import: @read}
end
