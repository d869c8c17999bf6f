defmodule Mix.Tasks.Wasm.JSON do
  @moduledoc false
  # Writes and reads JSON (RFC 8259): neither Elixir 1.14 nor OTP 25 can. Everything beyond ASCII is
  # escaped, so that the output is the same whatever the terminal's encoding is.

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

  # Reading

  @doc ~S"""
  What a text stands for. Objects become maps with strings for keys.

      iex> Mix.Tasks.Wasm.JSON.decode(~S({"result": [1, -0.5, null], "name": "a\nb"}))
      {:ok, %{"result" => [1, -0.5, nil], "name" => "a\nb"}}
      iex> Mix.Tasks.Wasm.JSON.decode(~S({"result": 1))
      :error
  """
  @spec decode(binary) :: {:ok, term} | :error
  def decode(text) do
    case text |> skip() |> read() do
      {value, ""} -> {:ok, value}
      _more -> :error
    end
  catch
    :no_json -> :error
  end

  # These give a value, and what comes behind it and the space there.
  defp read("{" <> rest), do: rest |> skip() |> members(%{})
  defp read("[" <> rest), do: rest |> skip() |> items([])
  defp read("\"" <> rest), do: text(rest, [])
  defp read("true" <> rest), do: {true, skip(rest)}
  defp read("false" <> rest), do: {false, skip(rest)}
  defp read("null" <> rest), do: {nil, skip(rest)}

  defp read(rest) do
    case Regex.run(~r/\A-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/, rest) do
      [digits] -> {number(digits), rest |> behind(digits) |> skip()}
      nil -> throw(:no_json)
    end
  end

  defp number(digits) do
    case Integer.parse(digits) do
      {integer, ""} -> integer
      # Elixir wants a fraction before an exponent.
      _float -> digits |> String.replace(~r/\A(-?\d+)(?=[eE])/, "\\1.0") |> String.to_float()
    end
  rescue
    # Beyond what a float holds.
    ArgumentError -> throw(:no_json)
  end

  defp behind(text, part),
    do: binary_part(text, byte_size(part), byte_size(text) - byte_size(part))

  defp members("}" <> rest, map) when map == %{}, do: {map, skip(rest)}

  defp members("\"" <> rest, map) do
    with {key, ":" <> rest} <- text(rest, []),
         {value, rest} <- rest |> skip() |> read() do
      map = Map.put(map, key, value)
      more(rest, "}", &members(&1, map), map)
    else
      _no_colon -> throw(:no_json)
    end
  end

  defp members(_other, _map), do: throw(:no_json)

  defp items("]" <> rest, []), do: {[], skip(rest)}

  defp items(rest, items) do
    {item, rest} = read(rest)
    items = [item | items]
    more(rest, "]", &items(&1, items), Enum.reverse(items))
  end

  # Behind a member or an item.
  defp more("," <> rest, close, next, _done) do
    case skip(rest) do
      <<^close::binary-size(1), _::binary>> -> throw(:no_json)
      rest -> next.(rest)
    end
  end

  defp more(<<close::binary-size(1), rest::binary>>, close, _next, done), do: {done, skip(rest)}
  defp more(_rest, _close, _next, _done), do: throw(:no_json)

  @escapes %{
    ?" => ?",
    ?\\ => ?\\,
    ?/ => ?/,
    ?b => ?\b,
    ?f => ?\f,
    ?n => ?\n,
    ?r => ?\r,
    ?t => ?\t
  }

  defp text("\"" <> rest, done),
    do: {done |> Enum.reverse() |> List.to_string(), skip(rest)}

  defp text(<<"\\u", digits::binary-size(4), rest::binary>>, done) do
    case unit(digits) do
      high when high in 0xD800..0xDBFF -> low(rest, high, done)
      low when low in 0xDC00..0xDFFF -> text(rest, [0xFFFD | done])
      unit -> text(rest, [unit | done])
    end
  end

  defp text(<<?\\, escape, rest::binary>>, done) when is_map_key(@escapes, escape),
    do: text(rest, [@escapes[escape] | done])

  defp text(<<character::utf8, rest::binary>>, done) when character >= 0x20 and character != ?\\,
    do: text(rest, [character | done])

  defp text(_other, _done), do: throw(:no_json)

  # A pair of surrogates is one character, half a pair is none.
  defp low(<<"\\u", digits::binary-size(4), rest::binary>> = both, high, done) do
    case <<high::16, unit(digits)::16>> do
      <<character::utf16>> -> text(rest, [character | done])
      _no_pair -> text(both, [0xFFFD | done])
    end
  end

  defp low(rest, _high, done), do: text(rest, [0xFFFD | done])

  defp unit(digits) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<unit::16>>} -> unit
      :error -> throw(:no_json)
    end
  end

  defp skip(<<space, rest::binary>>) when space in ' \t\n\r', do: skip(rest)
  defp skip(rest), do: rest
end
