defmodule Mix.Tasks.Wasm.JSON do
  @moduledoc false
  # Writes JSON (RFC 8259): neither Elixir 1.14 nor OTP 25 can. Everything beyond ASCII is escaped, so
  # that the output is the same whatever the terminal's encoding is.

  @doc ~S"""
  Maps and keyword lists become objects, atoms strings; keyword lists keep their order.

      iex> Mix.Tasks.Wasm.JSON.encode(result: [1, -0.5, nil], name: "a\nb")
      ~S({"result":[1,-0.5,null],"name":"a\nb"})
  """
  @spec encode(term) :: String.t()
  def encode(term), do: term |> value() |> IO.iodata_to_binary()

  defp value(word) when word in [true, false], do: Atom.to_string(word)
  defp value(nil), do: "null"
  defp value(atom) when is_atom(atom), do: atom |> Atom.to_string() |> string()
  defp value(integer) when is_integer(integer), do: Integer.to_string(integer)
  defp value(float) when is_float(float), do: Float.to_string(float)
  defp value(text) when is_binary(text), do: string(text)
  defp value([{_, _} | _] = pairs), do: object(pairs)
  defp value(list) when is_list(list), do: [?[, list |> Enum.map(&value/1) |> commas(), ?]]
  defp value(map) when is_map(map) and not is_struct(map), do: map |> Enum.to_list() |> object()
  defp value(other), do: other |> inspect() |> string()

  defp object(pairs) do
    members = for {key, value} <- pairs, do: [string(to_string(key)), ?:, value(value)]
    [?{, commas(members), ?}]
  end

  defp commas(parts), do: Enum.intersperse(parts, ?,)

  defp string(text), do: [?", characters(text, []), ?"]

  defp characters(<<>>, done), do: Enum.reverse(done)
  defp characters(<<?", rest::binary>>, done), do: characters(rest, ["\\\"" | done])
  defp characters(<<?\\, rest::binary>>, done), do: characters(rest, ["\\\\" | done])
  defp characters(<<?\n, rest::binary>>, done), do: characters(rest, ["\\n" | done])
  defp characters(<<?\t, rest::binary>>, done), do: characters(rest, ["\\t" | done])

  defp characters(<<character, rest::binary>>, done) when character in 0x20..0x7E,
    do: characters(rest, [character | done])

  defp characters(<<character::utf8, rest::binary>>, done),
    do: characters(rest, [escape(character) | done])

  # Not UTF-8: only what the user typed can be that, such as a file's name.
  defp characters(<<_byte, rest::binary>>, done), do: characters(rest, [escape(0xFFFD) | done])

  defp escape(character) when character > 0xFFFF do
    <<high::16, low::16>> = <<character::utf16>>
    [escape(high), escape(low)]
  end

  defp escape(unit) do
    ["\\u", unit |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(4, "0")]
  end
end
