defmodule Cybernetic.WASM.Sealed do
  @moduledoc false
  # What handles keep to themselves: nothing that prints a term, not even Erlang's `~p` in a crash report, looks into a closure.
  # To open one costs a call of it.
  #
  # It is a module of its own that has no reason to change: a process that holds closures of old code is killed when that code
  # is purged, and handles may be held for long.

  @opaque t(value) :: (() -> value)

  @doc "Seals a term."
  @spec seal(value) :: t(value) when value: term
  def seal(term), do: fn -> term end

  @doc "The term."
  @spec open(t(value)) :: value when value: term
  def open(sealed), do: sealed.()
end
