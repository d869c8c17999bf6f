defmodule Cybernetic.WASM.InternalError do
  @moduledoc """
  Something that should not happen: a panic in this library, caught, or memory that the operating system refused. `detail`
  has the text.
  """

  defexception [:detail, :usage, blame: :host]

  @typedoc "What should not happen."
  @type t :: %__MODULE__{
          detail: String.t(),
          usage: Cybernetic.WASM.Usage.t() | nil,
          blame: :host
        }

  @impl true
  def message(%__MODULE__{} = error), do: error.detail
end
