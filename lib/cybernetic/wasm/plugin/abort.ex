defmodule Cybernetic.WASM.Plugin.Abort do
  @moduledoc false
  # What a module of AssemblyScript says when it calls `env.abort`, as a failed assertion does.

  alias Cybernetic.WASM.Host

  # Characters of a message are worth reading up to here.
  @most_bytes 2_000

  @doc "The message and the place, of the pointers and numbers that it gives."
  @spec facts(Host.ctx(), {integer, integer, integer, integer}) :: %{
          detail: String.t() | nil,
          file: String.t() | nil,
          line: non_neg_integer,
          column: non_neg_integer
        }
  def facts(ctx, {message, file, line, column}) do
    <<line::unsigned-32, column::unsigned-32>> = <<line::32, column::32>>
    %{detail: text(ctx, message), file: text(ctx, file), line: line, column: column}
  end

  # A string is UTF-16, with its length in bytes in front: see https://www.assemblyscript.org/runtime.html.
  defp text(_ctx, 0), do: nil

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
