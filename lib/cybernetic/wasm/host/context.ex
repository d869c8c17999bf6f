defmodule Cybernetic.WASM.Host.Context do
  @moduledoc false
  # One open host call, as its host function has it. `execution` is suspended in it, and `call` says in which one; `plan` is that
  # of the whole call. `host` answers the member that calls, and `data` is that member's; `process` is where the function runs. It
  # is good for as long as that takes. There is one for each host call, so it keeps nothing that can be looked up.

  @enforce_keys [:execution, :call, :plan, :process]
  defstruct [:execution, :call, :plan, :process, :host, :data]

  @type t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(%{call: {_member, _import, serial}}, _opts),
      do: "#Cybernetic.WASM.Host.Context<call #{serial}>"
  end
end
