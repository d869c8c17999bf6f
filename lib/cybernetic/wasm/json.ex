defmodule Cybernetic.WASM.JSON do
  @moduledoc false
  # Writes and reads JSON (RFC 8259): neither Elixir 1.14 nor OTP 25 can. Everything beyond ASCII is escaped, so that the output
  # is the same whatever the terminal's encoding is. What is read is a stranger's: its size, its depth and the length of its
  # numbers are bounded, keys become no atoms, and one that stands twice in an object is refused, since two readers could take
  # it for different things.

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

  # Reading

  # Objects and arrays inside each other.
  @deepest 32
  # More digits than a float has take a time that grows faster than they do.
  @longest_number 400

  @doc ~S"""
  What a text of at most `most` bytes stands for. Objects become maps with strings for keys.

      iex> Cybernetic.WASM.JSON.decode(~S({"result": [1, -0.5, null], "name": "a\nb"}), 1_000)
      {:ok, %{"result" => [1, -0.5, nil], "name" => "a\nb"}}
      iex> Cybernetic.WASM.JSON.decode(~S({"result": 1), 1_000)
      {:error, "no JSON at byte 12"}
  """
  @spec decode(binary, pos_integer) :: {:ok, term} | {:error, String.t()}
  def decode(text, most) when byte_size(text) > most,
    do: {:error, "#{byte_size(text)} bytes, at most #{most} are read"}

  def decode(text, _most) do
    case text |> skip() |> value(0) do
      {value, ""} -> {:ok, value}
      {_value, rest} -> wrong(text, rest, "no JSON")
    end
  catch
    {:wrong, rest, words} -> wrong(text, rest, words)
  end

  defp wrong(text, rest, words),
    do: {:error, "#{words} at byte #{byte_size(text) - byte_size(rest)}"}

  @spec no_json(binary) :: no_return
  @spec no_json(binary, String.t()) :: no_return
  defp no_json(rest, words \\ "no JSON"), do: throw({:wrong, rest, words})

  # These give a value, and what comes behind it and the space there.
  defp value(<<open, _::binary>> = rest, @deepest) when open in [?{, ?[],
    do: no_json(rest, "more than #{@deepest} objects or arrays inside each other")

  defp value("{" <> rest, depth), do: rest |> skip() |> members(%{}, depth + 1)
  defp value("[" <> rest, depth), do: rest |> skip() |> items([], depth + 1)
  defp value("\"" <> rest, _depth), do: text(rest)
  defp value("true" <> rest, _depth), do: {true, skip(rest)}
  defp value("false" <> rest, _depth), do: {false, skip(rest)}
  defp value("null" <> rest, _depth), do: {nil, skip(rest)}

  defp value(rest, _depth) do
    case Regex.run(~r/\A-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/, rest) do
      [digits] when byte_size(digits) <= @longest_number ->
        {number(digits, rest), rest |> behind(byte_size(digits)) |> skip()}

      [_digits] ->
        no_json(rest, "a number of more than #{@longest_number} characters")

      nil ->
        no_json(rest)
    end
  end

  defp number(digits, rest) do
    case Integer.parse(digits) do
      {integer, ""} -> integer
      # Elixir wants a fraction before an exponent.
      _float -> digits |> String.replace(~r/\A(-?\d+)(?=[eE])/, "\\1.0") |> String.to_float()
    end
  rescue
    # Beyond what a float holds.
    ArgumentError -> no_json(rest)
  end

  defp behind(text, size), do: binary_part(text, size, byte_size(text) - size)

  defp members("}" <> rest, map, _depth) when map == %{}, do: {map, skip(rest)}

  defp members("\"" <> rest = start, map, depth) do
    case text(rest) do
      {key, ":" <> _rest} when is_map_key(map, key) ->
        no_json(start, "a key that is there already")

      {key, ":" <> rest} ->
        rest |> skip() |> value(depth) |> member(key, map, depth)

      _no_colon ->
        no_json(start)
    end
  end

  defp members(other, _map, _depth), do: no_json(other)

  defp member({value, rest}, key, map, depth) do
    map = Map.put(map, key, value)
    more(rest, "}", &members(&1, map, depth), map)
  end

  defp items("]" <> rest, [], _depth), do: {[], skip(rest)}

  defp items(rest, items, depth) do
    {item, rest} = value(rest, depth)
    items = [item | items]
    more(rest, "]", &items(&1, items, depth), items)
  end

  # Behind a member or an item.
  defp more("," <> rest, close, next, _done) do
    case skip(rest) do
      <<^close::binary-size(1), _::binary>> = rest -> no_json(rest)
      rest -> next.(rest)
    end
  end

  defp more(<<close::binary-size(1), rest::binary>>, close, _next, done),
    do: {if(is_list(done), do: Enum.reverse(done), else: done), skip(rest)}

  defp more(other, _close, _next, _done), do: no_json(other)

  @escapes %{
    ?" => "\"",
    ?\\ => "\\",
    ?/ => "/",
    ?b => "\b",
    ?f => "\f",
    ?n => "\n",
    ?r => "\r",
    ?t => "\t"
  }

  defp text(rest) do
    {parts, behind} = parts(rest, [])
    text = parts |> Enum.reverse() |> IO.iodata_to_binary()
    if String.valid?(text), do: {text, skip(behind)}, else: no_json(rest, "no UTF-8")
  end

  # What needs no look at each character stays in one piece.
  defp parts(rest, done) do
    size = plain(rest, 0)
    parts_behind(behind(rest, size), [binary_part(rest, 0, size) | done])
  end

  defp plain(<<byte, rest::binary>>, size) when byte >= 0x20 and byte not in [?", ?\\],
    do: plain(rest, size + 1)

  defp plain(_rest, size), do: size

  defp parts_behind("\"" <> rest, done), do: {done, rest}

  defp parts_behind(<<"\\u", digits::binary-size(4), rest::binary>> = start, done) do
    case unit(digits, start) do
      high when high in 0xD800..0xDBFF -> low(rest, high, done)
      low when low in 0xDC00..0xDFFF -> parts(rest, ["\uFFFD" | done])
      unit -> parts(rest, [<<unit::utf8>> | done])
    end
  end

  defp parts_behind(<<?\\, escape, rest::binary>>, done) when is_map_key(@escapes, escape),
    do: parts(rest, [@escapes[escape] | done])

  defp parts_behind(other, _done), do: no_json(other)

  # A pair of surrogates is one character, half a pair is none.
  defp low(<<"\\u", digits::binary-size(4), rest::binary>> = both, high, done) do
    case <<high::16, unit(digits, both)::16>> do
      <<character::utf16>> -> parts(rest, [<<character::utf8>> | done])
      _no_pair -> parts(both, ["\uFFFD" | done])
    end
  end

  defp low(rest, _high, done), do: parts(rest, ["\uFFFD" | done])

  defp unit(digits, start) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<unit::16>>} -> unit
      :error -> no_json(start)
    end
  end

  defp skip(<<space, rest::binary>>) when space in ' \t\n\r', do: skip(rest)
  defp skip(rest), do: rest
end
