defmodule Cybernetic.WASM.JSON do
  @moduledoc false
  # Writes and reads JSON (RFC 8259): neither Elixir 1.14 nor OTP 25 can.
  #
  # `encode/1` is for what the library says: it never fails, keeps the order of keyword lists, and escapes everything beyond
  # ASCII, so that the output is the same whatever the terminal's encoding is. `write/2` is for data, which comes back as it was or
  # is refused. What is read is a stranger's: its size, its depth and the length of its numbers are bounded, keys become no atoms,
  # and one that stands twice in an object is refused, since two readers could take it for different things. Data goes through
  # Rust, on a scheduler that its size asks for.

  alias Cybernetic.WASM.Native

  @doc ~S"""
  Maps and keyword lists become objects, atoms strings; keyword lists keep their order.

      iex> Cybernetic.WASM.JSON.encode(result: [1, -0.5, nil], name: "a\nb")
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

  # Objects and arrays inside each other.
  @deepest 32

  @doc ~S"""
  What a text of at most `most` bytes stands for. Objects become maps with strings for keys. Integers of up to 128 bytes stay
  integers.

      iex> Cybernetic.WASM.JSON.decode(~S({"result": [1, -0.5, null], "name": "a\nb"}), 1_000)
      {:ok, %{"result" => [1, -0.5, nil], "name" => "a\nb"}}
      iex> Cybernetic.WASM.JSON.decode(~S({"result": 1), 1_000)
      {:error, "no JSON at byte 12"}
  """
  @spec decode(binary, pos_integer, 0..100) :: {:ok, term} | {:error, String.t()}
  def decode(text, most, deepest \\ @deepest)

  def decode(text, most, _deepest) when byte_size(text) > most,
    do: {:error, "#{byte_size(text)} bytes, at most #{most} are read"}

  def decode(text, _most, deepest) do
    case with(
           :dirty <- Native.json_read(text, deepest),
           do: Native.json_read_dirty(text, deepest)
         ) do
      {:ok, term} -> {:ok, term}
      {:invalid, words, byte} -> {:error, "#{words} at byte #{byte}"}
    end
  end

  @doc ~S"""
  The JSON of a term, of at most `most` bytes. What JSON has not is refused, with a JSON Pointer to it.

      iex> Cybernetic.WASM.JSON.write(%{"total" => 3, items: [1.5, nil, :new]}, 1_000)
      {:ok, ~S({"items":[1.5,null,"new"],"total":3})}
      iex> Cybernetic.WASM.JSON.write(%{"items" => [1, {2, 3}]}, 1_000)
      {:error, {"/items/1", "a tuple, which JSON has not: a list is an array"}}
  """
  @spec write(term, non_neg_integer, 0..100) ::
          {:ok, String.t()} | {:error, {path :: String.t(), String.t()}}
  def write(term, most, deepest \\ @deepest) do
    case with(
           :dirty <- Native.json_write(term, most, deepest),
           do: Native.json_write_dirty(term, most, deepest)
         ) do
      {:ok, text} -> {:ok, text}
      :too_large -> {:error, {"", "more than #{most} bytes"}}
      {:invalid, words, path} -> {:error, {pointer(path), words}}
    end
  end

  # See RFC 6901. The steps come from inside.
  defp pointer(steps) do
    steps
    |> Enum.reverse()
    |> Enum.map_join(&("/" <> (&1 |> String.replace("~", "~0") |> String.replace("/", "~1"))))
  end
end
