defmodule Cybernetic.WASM.Host.Context do
  @moduledoc false
  # One open host call, as its host function has it. `execution` is suspended in it, and `call` says in which one; `plan` and
  # `sandbox` are those of the whole call. `function`, its name `import` and `data` are those of the member that calls, and
  # `process` is where the function runs. It is good for as long as that takes.

  @enforce_keys [:execution, :call, :plan, :process]
  defstruct [:execution, :call, :plan, :process, :sandbox, :function, :import, :data]

  @type t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(%{call: {_member, _import, serial}}, _opts),
      do: "#Cybernetic.WASM.Host.Context<call #{serial}>"
  end
end
