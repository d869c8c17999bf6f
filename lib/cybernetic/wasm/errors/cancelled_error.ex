defmodule Cybernetic.WASM.CancelledError do
  @moduledoc """
  A call was cancelled: see `Cybernetic.WASM.Executor.cancel/3`. The guest was unwound.

    * `reason` - what the one who cancelled gave
    * `usage` - what the call had used, a `Cybernetic.WASM.Usage`; `nil` where it did not end in its grace time
    * `run` - a `Cybernetic.WASM.Run` with the output and the denials up to then
  """

  alias Cybernetic.WASM.Shown

  defexception [:reason, :usage, :run, blame: :caller]

  @typedoc "A cancelled call."
  @type t :: %__MODULE__{
          reason: term,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :caller
        }

  @impl true
  def message(%__MODULE__{reason: reason}),
    do: "the call was cancelled: #{Shown.term(reason)}"
end
