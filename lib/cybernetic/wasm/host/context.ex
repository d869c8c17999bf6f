defmodule Cybernetic.WASM.Host.Context do
  @moduledoc false
  # Names one open host call: the execution that is suspended in it, the import's index and the call's serial number, and the
  # process that the host function runs in. `sandbox` is that of the whole call.

  @enforce_keys [:execution, :import, :serial, :plan, :process, :sandbox]
  defstruct [:execution, :import, :serial, :plan, :process, :sandbox]

  @type t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(context, _opts), do: "#Cybernetic.WASM.Host.Context<call #{context.serial}>"
  end
end
