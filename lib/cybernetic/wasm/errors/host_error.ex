defmodule Cybernetic.WASM.HostError do
  @moduledoc """
  A host function raised, threw or exited, or returned what its type does not take. The guest was unwound.

    * `kind`, `reason`, `stacktrace` - what it did, as in `catch kind, reason`; the `kind` of a
      `Cybernetic.WASM.Host.trap/3` is `:trap`
    * `import` - `{module, name}` of the function; `nil` where the process of an asynchronous call was killed
    * `blame` - `:host`; of a `Cybernetic.WASM.Host.trap/3` `:guest`, or whom that names
    * `usage` - what the call had used, a `Cybernetic.WASM.Usage`
    * `run` - a `Cybernetic.WASM.Run` with the output and the denials up to then

  `Cybernetic.WASM.Executor.call!/4` raises the original with its own stack instead.
  """

  alias Cybernetic.WASM.Shown

  defexception [:kind, :reason, :import, :usage, :run, stacktrace: [], blame: :host]

  @typedoc "What a host function did."
  @type t :: %__MODULE__{
          kind: :error | :exit | :throw | :trap,
          reason: term,
          stacktrace: Exception.stacktrace(),
          import: {String.t(), String.t()} | nil,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :host | :guest | :caller
        }

  @impl true
  def message(%__MODULE__{import: nil} = error) do
    "the process that ran the call ended: #{Exception.format_exit(error.reason)}"
  end

  def message(%__MODULE__{import: {"wasi_snapshot_preview1", "fd_read"}} = error),
    do: "standard input (option :stdin) failed: #{banner(error)}"

  def message(%__MODULE__{import: {module, name}} = error) do
    "the host function #{Shown.quoted(module)} #{Shown.quoted(name)} failed: #{banner(error)}"
  end

  defp banner(%{kind: :trap, reason: reason}), do: "it trapped the guest with #{inspect(reason)}"

  # Guest and host may have called each other two hundred deep: what matters is what failed innermost.
  defp banner(%{reason: %__MODULE__{} = inner}), do: "inside it, #{innermost(inner)}"
  defp banner(error), do: Exception.format_banner(error.kind, error.reason, error.stacktrace)

  defp innermost(%{reason: %__MODULE__{} = inner}), do: innermost(inner)
  defp innermost(error), do: message(error)
end
