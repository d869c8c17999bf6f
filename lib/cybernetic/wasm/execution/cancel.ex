defmodule Cybernetic.WASM.Execution.Cancel do
  @moduledoc false
  # What ends calls from outside: any process that has it can do so, at once and from then on.

  alias Cybernetic.WASM.Native

  @type t :: reference

  @doc "One that has not ended anything."
  @spec new() :: t
  def new, do: Native.cancel_new()

  @doc "Ends the calls that were begun with it. The first reason stays."
  @spec now(t, term) :: :ok
  def now(cancel, reason), do: Native.cancel_now(cancel, reason)

  @doc "Why it has ended them; `nil` before."
  @spec reason(t) :: term
  def reason(cancel), do: Native.cancel_reason(cancel)
end
