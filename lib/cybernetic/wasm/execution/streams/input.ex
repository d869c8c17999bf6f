defmodule Cybernetic.WASM.Execution.Streams.Input do
  @moduledoc false
  # Standard input that is pulled, in the process that drives the guest.

  alias Cybernetic.WASM.{HostError, Native, Shown}
  alias Cybernetic.WASM.Execution.{Lane, Pull, Streams}
  alias Cybernetic.WASM.Sandbox.Check

  @read {Check.wasi(), "fd_read"}

  @doc "The next piece of what the guest reads, or `nil` at its end; what pulling it raised, as an error."
  @spec next(Streams.t() | nil) :: {:ok, binary | nil} | {:error, HostError.t()}
  def next(%Streams{key: key, source: source}) when source != nil do
    case Pull.next(key, source) do
      {:ok, nil} -> {:ok, nil}
      {:ok, {:piece, piece}} -> to_binary(piece, key)
      raised -> {:error, failed(raised)}
    end
  end

  def next(_none), do: {:ok, nil}

  defp to_binary(piece, key) do
    {:ok, IO.iodata_to_binary(piece)}
  rescue
    ArgumentError ->
      Pull.stop(key)
      text = "standard input is made of iodata, got: #{Shown.kind(piece)}"
      {:error, failed({:raised, :error, %ArgumentError{message: text}, __STACKTRACE__})}
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
  def close(key),
    do: with({:raised, _, _, _} = raised <- Pull.close(key), do: {:error, failed(raised)})

  # As of a host function: the guest's call is what failed.
  defp failed({:raised, kind, reason, stacktrace}),
    do: %HostError{kind: kind, reason: reason, stacktrace: stacktrace, import: @read}
end
