defmodule Mix.Tasks.Wasm.AssemblyScript do
  @moduledoc false
  # What a module of AssemblyScript wants of its host: `env.abort`, which a failed assertion calls.

  alias Cybernetic.WASM.{Host, Module}

  @abort %{module: "env", name: "abort", type: {:function, ["i32", "i32", "i32", "i32"], []}}

  # Characters of a message are worth reading up to here.
  @most_bytes 2_000

  @doc "Host functions for the module; none for one of another language."
  @spec imports(Module.t()) :: Host.imports()
  def imports(module) do
    if @abort in Module.imports(module),
      do: %{"env" => %{"abort" => &abort/5}},
      else: %{}
  end

  @spec abort(Host.ctx(), integer, integer, integer, integer) :: no_return
  defp abort(ctx, message, file, line, column) do
    Host.trap(ctx, "abort: #{text(ctx, message)} at #{text(ctx, file)}:#{line}:#{column}")
  end

  # A string is UTF-16, with its length in bytes in front: see https://www.assemblyscript.org/runtime.html.
  defp text(_ctx, 0), do: "(none)"

  defp text(ctx, pointer) do
    with {:ok, <<length::little-32>>} <- Host.read(ctx, pointer - 4, 4),
         {:ok, bytes} <- Host.read(ctx, pointer, min(length, @most_bytes)),
         text when is_binary(text) <- :unicode.characters_to_binary(bytes, {:utf16, :little}) do
      text
    else
      _unreadable -> "(unreadable)"
    end
  end
end
