defmodule Cybernetic.WASM.Plugin.Complaint do
  @moduledoc false
  # An error that a plugin reports itself: a host function of its contract ends the call with it, and the contract makes a
  # `PluginError` of that.

  alias Cybernetic.WASM.Plugin.{Abort, Surface}

  alias Cybernetic.WASM.{ABIError, Host, HostError, PluginError, Run}

  # More text than anybody reads; a guest may say that it is all of its memory.
  @most_bytes 65_536

  @doc "Ends the call with facts, or with the text that is there in the guest's memory."
  @spec raise!(Host.ctx(), {integer, integer} | map) :: no_return
  def raise!(ctx, %{} = facts), do: Host.trap(ctx, {__MODULE__, facts})

  def raise!(ctx, {at, length}) do
    <<length::unsigned-32>> = <<length::32>>

    case Host.read(ctx, at, min(length, @most_bytes)) do
      {:ok, text} -> raise!(ctx, %{detail: text})
      {:error, _out_of_bounds} -> raise!(ctx, %{detail: "(a text outside of its memory)"})
    end
  end

  @doc "What a module made by AssemblyScript imports to report a failed assertion, if it does."
  @spec of_abort(Surface.t()) :: Host.imports()
  def of_abort(surface) do
    if Surface.imports?(surface, "env", "abort"),
      do: %{"env" => %{"abort" => &aborted/5}},
      else: %{}
  end

  @spec aborted(Host.ctx(), integer, integer, integer, integer) :: no_return
  defp aborted(ctx, message, file, line, column),
    do: raise!(ctx, Abort.facts(ctx, {message, file, line, column}))

  @doc "The error with which a call has ended that way; another one as it is."
  @spec of(error) :: error | PluginError.t() when error: Cybernetic.WASM.Error.t()
  def of(%HostError{kind: :trap, reason: {__MODULE__, facts}} = error) do
    said = struct!(%PluginError{reason: :refused, blame: :guest}, facts)
    %{said | usage: error.usage, run: error.run}
  end

  def of(%ABIError{reason: :reported} = error) do
    %PluginError{
      reason: :refused,
      blame: :guest,
      function: error.export,
      detail: error.detail,
      exit_code: error.code,
      usage: error.usage,
      run: error.run
    }
  end

  def of(error), do: error

  @doc "The same for what the guest has given in the place of a result."
  @spec new(Run.t(), map) :: PluginError.t()
  def new(%Run{} = run, facts),
    do: struct!(%PluginError{reason: :refused, blame: :guest, usage: run.usage, run: run}, facts)
end
