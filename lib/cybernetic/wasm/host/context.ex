defmodule Cybernetic.WASM.Host.Context do
  @moduledoc false
  # One open host call, as its host function has it. `execution` is suspended in it, and `call` says in which one; `process` is
  # where the function runs. Private are the plan of the whole call, what answers the member that calls, and that member's data.
  # `alias` is what an asynchronous function's reply may be sent to. It is good for as long as the function runs. There is one for
  # each host call, so it keeps nothing that can be looked up.

  alias Cybernetic.WASM.Sealed

  @enforce_keys [:execution, :call, :process, :private]
  defstruct [:execution, :call, :process, :private, :alias]

  @type t :: %__MODULE__{}

  @doc "The context of a host call that is open in `execution`, for this process."
  @spec new(reference, tuple, struct, {struct | nil, term}) :: t
  def new(execution, call, plan, {host, data}) do
    private = Sealed.seal({plan, host, data})
    %__MODULE__{execution: execution, call: call, process: self(), private: private}
  end

  @doc "The plan of the whole call."
  @spec plan(t) :: struct
  def plan(%__MODULE__{private: private}), do: elem(Sealed.open(private), 0)

  @doc "What answers the host calls of the member that calls; `nil` where that is gone."
  @spec host(t) :: struct | nil
  def host(%__MODULE__{private: private}), do: elem(Sealed.open(private), 1)

  @doc "The member's data."
  @spec data(t) :: term
  def data(%__MODULE__{private: private}), do: elem(Sealed.open(private), 2)

  defimpl Inspect do
    def inspect(%{call: {_member, _import, serial}}, _opts),
      do: "#Cybernetic.WASM.Host.Context<call #{serial}>"
  end
end
