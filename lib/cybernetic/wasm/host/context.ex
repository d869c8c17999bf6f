defmodule Cybernetic.WASM.Host.Context do
  @moduledoc false
  # Names one open host call: the execution that is suspended in it, the import's index and the call's serial number.

  @enforce_keys [:execution, :import, :serial, :plan]
  defstruct [:execution, :import, :serial, :plan]

  @type t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(context, _opts), do: "#Cybernetic.WASM.Host.Context<call #{context.serial}>"
  end
end
