defmodule Cybernetic.WASM.Execution.Lane do
  @moduledoc false
  # What belongs on a normal scheduler though no guest runs for it: copying bytes does while there are not too many.

  # Copying this much takes some 0.1 ms.
  @large 262_144

  @doc "Whether bytes, an access or a command copy more than belongs on a normal scheduler."
  @spec large?(term) :: boolean
  def large?(bytes) when is_binary(bytes), do: byte_size(bytes) > @large
  # A negative length is an unsigned one, of 31 bits at least.
  def large?({:read, _memory, _offset, length}), do: length > @large or length < 0
  def large?({:write, _memory, _offset, bytes}), do: byte_size(bytes) > @large
  def large?({:put, bytes}), do: byte_size(bytes) > @large
  def large?({:set_global, _name, value}), do: large?(value)
  def large?({:call, _name, args}), do: Enum.any?(args, &large?/1)
  def large?({:call_again, _name, args}), do: large?({:call, nil, args})
  def large?({:call_ref, _ref, args}), do: Enum.any?(args, &large?/1)
  # A term that was looked into.
  def large?({:"$kept", size, _term}), do: size > @large
  def large?(_other), do: false
end
