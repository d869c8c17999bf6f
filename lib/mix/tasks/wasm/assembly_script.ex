defmodule Mix.Tasks.Wasm.AssemblyScript do
  @moduledoc false
  # What a module of AssemblyScript wants of its host: `env.abort`, which a failed assertion calls.

  alias Cybernetic.WASM.{Host, Module}
  alias Cybernetic.WASM.Plugin.Abort

  @abort %{module: "env", name: "abort", type: {:function, ["i32", "i32", "i32", "i32"], []}}

  @doc "Host functions for the module; none for one of another language."
  @spec imports(Module.loaded()) :: Host.imports()
  def imports(module) do
    if @abort in Module.imports(module),
      do: %{"env" => %{"abort" => &abort/5}},
      else: %{}
  end

  @spec abort(Host.ctx(), integer, integer, integer, integer) :: no_return
  defp abort(ctx, message, file, line, column) do
    facts = Abort.facts(ctx, {message, file, line, column})
    place = "#{facts.file || "(none)"}:#{facts.line}:#{facts.column}"
    Host.trap(ctx, "abort: #{facts.detail || "(none)"} at #{place}")
  end
end
