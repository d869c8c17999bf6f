defmodule Cybernetic.WASM.Error do
  @moduledoc """
  What can go wrong: one exception for each kind of failure, and whose fault it is.

  Functions give `{:error, error}` with one of these, and raise it with a `!`. Their fields are facts; the text is made by
  `Exception.message/1`. An option that is wrong is no such error: it raises an `ArgumentError`.

  | error | what has happened |
  |---|---|
  | `Cybernetic.WASM.LoadError` | a source cannot be read, is not the module that was pinned, signed or expected, or is none that can be compiled |
  | `Cybernetic.WASM.ManifestError` | a manifest is wrong, or does not fit its module |
  | `Cybernetic.WASM.LinkError` | imports cannot be satisfied; all of them are named |
  | `Cybernetic.WASM.DeniedError` | the sandbox does not grant what the module, or the call, needs |
  | `Cybernetic.WASM.CallError` | the caller asked for what is not there: a name, a type, an idle instance, … |
  | `Cybernetic.WASM.ABIError` | the guest gave a pointer or a length that cannot be, where bytes are passed |
  | `Cybernetic.WASM.TrapError` | the guest trapped, threw an exception that nobody caught, or ended itself |
  | `Cybernetic.WASM.LimitError` | a limit struck, of the call, of a load or of the node |
  | `Cybernetic.WASM.HTTPError` | a request of the library's HTTP client got no answer, or a component gave none |
  | `Cybernetic.WASM.HostError` | a host function raised, or stopped the guest |
  | `Cybernetic.WASM.CancelledError` | somebody cancelled the call |
  | `Cybernetic.WASM.PluginError` | a module meets no contract, its codec cannot write or read something, or the plugin itself reports an error |
  | `Cybernetic.WASM.StoreError` | a store does not have it, does not take it, or cannot be relied on |
  | `Cybernetic.WASM.InternalError` | what should not happen |

  Errors of a call that had begun have its `usage` and its `run`: the output and the denials up to then.

  ## Blame

  Each has a `blame`, which is worked out from what happened:

  | `blame` | whose doing it is | what to do |
  |---|---|---|
  | `:caller` | the code that calls the library, or its options | repair it: the same call fails again |
  | `:guest` | the WebAssembly code: a trap, an exit, a limit of its call, a load that takes too much, an abort by way of `Cybernetic.WASM.Host.trap/3` | tell its author; a live instance may be poisoned, see `Cybernetic.WASM.Instance.reset/2` |
  | `:host` | a host function that raised, or the library itself | repair the function; report an `InternalError` |
  | `:node` | nobody's: this node has too much to do. Its ceilings were reached (`:live_instances`, `:total_memory`, `:code_memory`, `:open_files`, `:compile_queue`), or the system's (`:address_space`, `:mappings`), or the call's time passed while it waited (`during: :wait`, `during: :compile`). Or the network failed, or a server that was asked | try again later: `transient?/1` |

  The time of host functions counts against the guest's `timeout`, too, and is then the guest's: `usage.slice_time` says what
  it took itself.

      iex> alias Cybernetic.WASM.{Error, Executor, Runtime}
      iex> {:ok, module} = Runtime.load_module({:bytes, ~S|
      ...>   (module (import "env" "abort" (func $abort))
      ...>     (func (export "spin") (loop (br 0)))
      ...>     (func (export "give_up") (call $abort)))|})
      iex> imports = %{"env" => %{"abort" => fn ctx -> Cybernetic.WASM.Host.trap(ctx, :abort) end}}
      iex> whose = fn name ->
      ...>   {:error, error} = Executor.call(module, name, [], imports: imports, fuel: 1_000)
      ...>   {error.__struct__, Error.blame(error), Error.transient?(error)}
      ...> end
      iex> whose.("spin")
      {Cybernetic.WASM.LimitError, :guest, false}
      iex> whose.("give_up")
      {Cybernetic.WASM.HostError, :guest, false}
      iex> whose.("spni")
      {Cybernetic.WASM.CallError, :caller, false}

  ## What errors show

  Inspected, an error is one line: the first of its message, and the facts that are set. What a guest chose, such as the names
  of its functions, is cut after 200 bytes, and ends with `…` then.

      iex> {:error, error} = Cybernetic.WASM.Runtime.load_module({:bytes, "no"})
      iex> inspect(error)
      "#Cybernetic.WASM.LoadError<cannot load the module: not WebAssembly: it starts with the bytes 6e 6f; " <>
        "reason: :not_wasm; source: :bytes; detail: \\"it starts with the bytes 6e 6f\\">"
  """

  alias Cybernetic.WASM.{
    ABIError,
    CallError,
    CancelledError,
    DeniedError,
    HTTPError,
    HostError,
    InternalError,
    LimitError,
    LinkError,
    LoadError,
    ManifestError,
    PluginError,
    StoreError,
    TrapError
  }

  @typedoc "Any of the library's exceptions."
  @type t ::
          LoadError.t()
          | LinkError.t()
          | CallError.t()
          | ABIError.t()
          | CancelledError.t()
          | DeniedError.t()
          | TrapError.t()
          | LimitError.t()
          | HostError.t()
          | HTTPError.t()
          | ManifestError.t()
          | PluginError.t()
          | StoreError.t()
          | InternalError.t()

  @typedoc "Whose fault an error is."
  @type blame :: :caller | :guest | :host | :node

  @structs %{
    load: LoadError,
    link: LinkError,
    call: CallError,
    abi: ABIError,
    answer: HTTPError,
    cancelled: CancelledError,
    trap: TrapError,
    limit: LimitError,
    internal: InternalError
  }

  @doc "Whose fault it is."
  @spec blame(t) :: blame
  def blame(%{blame: blame}), do: blame

  @doc """
  Whether the same may go well a little later: the node had too much to do, or another call had the instance.
  """
  @spec transient?(t) :: boolean
  def transient?(%{blame: :node}), do: true
  def transient?(%CallError{reason: :busy}), do: true
  def transient?(_error), do: false

  @doc false
  # The struct of a `{kind, fields}` from Rust.
  @spec from_native({atom, map}) :: t
  def from_native({:exit, fields}), do: struct!(%TrapError{code: :exit, detail: "exit"}, fields)

  # Those that nobody sets here.
  def from_native({:limit, %{limit: limit} = fields})
      when limit in [:reentrance, :address_space, :mappings, :variables],
      do: struct!(%LimitError{set_by: nil}, fields)

  def from_native({kind, fields}), do: struct!(Map.fetch!(@structs, kind), fields)

  @doc false
  # What a call gave, or an exception.
  @spec unwrap!({:ok, value} | {:error, t}) :: value when value: term
  def unwrap!({:ok, value}), do: value
  def unwrap!({:error, error}), do: raise!(error)

  @doc false
  # Raises the error; what a host function raised is raised again, with its own stack.
  @spec raise!(t) :: no_return
  def raise!(%HostError{kind: kind} = error) when kind != :trap,
    do: :erlang.raise(kind, error.reason, error.stacktrace)

  def raise!(error), do: raise(error)
end
