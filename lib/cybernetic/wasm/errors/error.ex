defmodule Cybernetic.WASM.Error do
  @moduledoc false
  # Turns what Rust says into the exception structs, and holds what they have in common. Their fields are facts, the text
  # is made in `message/1`.

  alias Cybernetic.WASM.{
    CallError,
    CancelledError,
    DeniedError,
    HostError,
    InternalError,
    LimitError,
    LinkError,
    LoadError,
    ManifestError,
    TrapError
  }

  @typedoc "Any of the library's exceptions."
  @type t ::
          LoadError.t()
          | LinkError.t()
          | CallError.t()
          | CancelledError.t()
          | DeniedError.t()
          | TrapError.t()
          | LimitError.t()
          | HostError.t()
          | ManifestError.t()
          | InternalError.t()

  @structs %{
    load: LoadError,
    link: LinkError,
    call: CallError,
    cancelled: CancelledError,
    trap: TrapError,
    limit: LimitError,
    internal: InternalError
  }

  @doc "The struct of a `{kind, fields}` from Rust."
  @spec from_native({atom, map}) :: t
  def from_native({:exit, fields}), do: struct(%TrapError{code: :exit, detail: "exit"}, fields)
  def from_native({kind, fields}), do: struct!(Map.fetch!(@structs, kind), fields)

  @doc "Whether the same may go well a little later: the node had too much to do."
  @spec transient?(t) :: boolean
  def transient?(%LimitError{blame: :node}), do: true
  def transient?(_error), do: false

  @doc "What a call gave, or an exception."
  @spec unwrap!({:ok, value} | {:error, t}) :: value when value: term
  def unwrap!({:ok, value}), do: value
  def unwrap!({:error, error}), do: raise!(error)

  @doc "Raises the error; what a host function raised is raised again, with its own stack."
  @spec raise!(t) :: no_return
  def raise!(%HostError{kind: kind} = error) when kind != :trap,
    do: :erlang.raise(kind, error.reason, error.stacktrace)

  def raise!(error), do: raise(error)
end
