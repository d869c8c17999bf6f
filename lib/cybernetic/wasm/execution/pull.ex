defmodule Cybernetic.WASM.Execution.Pull do
  @moduledoc false
  # An enumerable that a guest reads, a piece at a time, in the process that drives the guest. Between two pulls the rest of it is
  # in that process's dictionary, since a host function's own calls may pull as well.

  @typedoc "What pulling raised."
  @type raised :: {:raised, :error | :exit | :throw, term, Exception.stacktrace()}

  @doc "Whether it can be pulled, or is bytes already."
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

  @doc "The next piece of `source`, which is pulled under `key`, or `nil` at its end."
  @spec next(reference, Enumerable.t()) :: {:ok, {:piece, term} | nil} | raised
  def next(key, source), do: pull(Process.get(key, {:begin, source}), key)

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
      {:raised, kind, reason, __STACKTRACE__}
  end

  @doc "Gives up what has not been pulled. What is pulled after that is the end."
  @spec stop(reference) :: :ok
  def stop(key) do
    _closed_or_failed = close(key)
    Process.put(key, :ended)
    :ok
  end

  @doc "Gives up what has not been pulled, and the key."
  @spec close(reference) :: :ok | raised
  def close(key) do
    case Process.delete(key) do
      continuation when is_function(continuation) -> continuation.({:halt, nil})
      _begun_or_ended -> :ok
    end

    :ok
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end
end
