defmodule Mix.Tasks.Wasm.Wave do
  @moduledoc false
  # Values of components as text, in WAVE: https://docs.rs/wasm-wave. A whole argument that is a string, a character or bytes needs
  # no quotes, since a shell has its own.

  alias Cybernetic.WASM.Component
  alias Cybernetic.WASM.Component.Words
  alias Cybernetic.WASM.Resource
  alias Mix.Tasks.Wasm.TextFormat

  @integers [:s8, :u8, :s16, :u16, :s32, :u32, :s64, :u64]
  @escapes %{"n" => "\n", "t" => "\t", "r" => "\r", "\\" => "\\", "\"" => "\"", "'" => "'"}

  @doc """
  Reads a value of a type. What is out of a type's range is the library's to refuse.

      iex> alias Mix.Tasks.Wasm.Wave
      iex> Wave.read(~S|[{item: "tea", count: 2}]|, {:list, {:record, [{"item", :string}, {"count", :u32}]}})
      {:ok, [%{"item" => "tea", "count" => 2}]}
      iex> Wave.read("sold-out(1)", {:variant, [{"empty", nil}, {"sold-out", :u32}]})
      {:ok, {"sold-out", 1}}
      iex> Wave.read("some(none)", {:option, {:option, :u8}})
      {:ok, {:some, :none}}
      iex> Wave.read("Ada", :string)
      {:ok, "Ada"}
      iex> Wave.read("{item: 1}", {:record, [{"item", :string}]})
      {:error, "string expected at \\"1}\\""}
  """
  @spec read(String.t(), Component.wit_type()) :: {:ok, term} | {:error, String.t()}
  def read(text, type) do
    if bare?(text, type), do: {:ok, text}, else: {:ok, whole(text, type)}
  catch
    {:expected, what, rest} -> {:error, "#{what} expected at #{place(rest)}"}
  end

  defp bare?("\"" <> _, _type), do: false
  defp bare?(_text, :string), do: true
  defp bare?("'" <> _ = text, :char), do: String.length(text) == 1
  defp bare?(_text, :char), do: true
  defp bare?("[" <> _, {:list, :u8}), do: false
  defp bare?(_text, {:list, :u8}), do: true
  defp bare?(_text, _type), do: false

  defp whole(text, type) do
    case text |> skip() |> value(type) do
      {value, ""} -> value
      {_value, rest} -> expected("nothing more", rest)
    end
  end

  defp place(""), do: "the end"
  defp place(rest), do: inspect(String.slice(rest, 0, 20))

  @spec expected(String.t(), String.t()) :: no_return
  defp expected(what, rest), do: throw({:expected, what, rest})

  # Each takes its value and the blanks behind it.

  defp value(text, :bool) do
    case word(text) do
      {"true", rest} -> {true, rest}
      {"false", rest} -> {false, rest}
      _other -> expected("true or false", text)
    end
  end

  defp value(text, type) when type in @integers or type in [:f32, :f64] do
    {digits, rest} = run(text, ~r/\A[-+.\w]+/)
    kind = if type in @integers, do: "i64", else: Atom.to_string(type)

    case TextFormat.read(digits, kind) do
      {:ok, number} -> {number, rest}
      :error -> expected(Words.type(type), text)
    end
  end

  defp value("'" <> rest, :char) do
    {character, rest} = quoted(rest, "'", [])
    if String.length(character) == 1, do: {character, rest}, else: expected("one character", rest)
  end

  defp value("\"" <> rest, :string), do: quoted(rest, "\"", [])
  defp value("\"" <> rest, {:list, :u8}), do: quoted(rest, "\"", [])
  defp value("[" <> rest, {:list, type}), do: rest |> skip() |> items("]", &value(&1, type))

  defp value("(" <> rest, {:tuple, types}) do
    {values, rest} = each(skip(rest), types)
    {List.to_tuple(values), rest}
  end

  defp value("{" <> rest, {:record, fields}) do
    {given, rest} = rest |> skip() |> items("}", &field(&1, fields))
    absent = for {name, {:option, _type}} <- fields, into: %{}, do: {name, :none}
    {Map.merge(absent, Map.new(given)), rest}
  end

  defp value("{" <> rest, {:flags, names}),
    do: rest |> skip() |> items("}", &one_of(&1, names, "a flag"))

  defp value(text, {:enum, names}), do: one_of(text, names, "a case")
  defp value(text, {:variant, cases}), do: case_of(text, cases)

  defp value(text, {:option, type}) do
    case case_of(text, [{"none", nil}, {"some", type}]) do
      {"none", rest} -> {:none, rest}
      {{"some", value}, rest} -> {{:some, value}, rest}
    end
  end

  defp value(text, {:result, ok, error}) do
    case case_of(text, [{"ok", ok}, {"err", error}]) do
      {{"ok", value}, rest} -> {{:ok, value}, rest}
      {{"err", value}, rest} -> {{:error, value}, rest}
      {"ok", rest} -> {:ok, rest}
      {"err", rest} -> {:error, rest}
    end
  end

  defp value(text, {kind, _path} = type) when kind in [:own, :borrow],
    do: expected("a #{Words.type(type)}, which a shell cannot give,", text)

  defp value(text, type), do: expected(Words.type(type), text)

  defp case_of(text, cases) do
    {name, rest} = word(text)

    case {List.keyfind(cases, name, 0), rest} do
      {{name, nil}, rest} ->
        {name, rest}

      {{name, type}, "(" <> rest} ->
        {value, rest} = rest |> skip() |> value(type)
        {{name, value}, close(rest, ")")}

      _other ->
        expected("one of #{Enum.map_join(cases, ", ", &shown/1)}", text)
    end
  end

  defp shown({name, nil}), do: name
  defp shown({name, type}), do: "#{name}(#{Words.type(type)})"

  defp one_of(text, names, what) do
    {name, rest} = word(text)

    if name in names,
      do: {name, rest},
      else: expected("#{what} of #{Enum.join(names, ", ")}", text)
  end

  defp field(text, fields) do
    {name, rest} = word(text)

    case List.keyfind(fields, name, 0) do
      {name, type} ->
        {value, rest} = rest |> close(":") |> value(type)
        {{name, value}, rest}

      nil ->
        expected("a field of #{Enum.map_join(fields, ", ", &elem(&1, 0))}", text)
    end
  end

  # A comma may stand behind the last one.
  defp items(text, closing, item), do: items(text, closing, item, [])

  defp items(text, closing, item, found) do
    if String.starts_with?(text, closing) do
      {Enum.reverse(found), close(text, closing)}
    else
      {one, rest} = item.(text)
      rest = if String.starts_with?(rest, closing), do: rest, else: close(rest, ",")
      items(rest, closing, item, [one | found])
    end
  end

  defp each(text, types) do
    {values, rest} =
      Enum.map_reduce(types, text, fn type, text ->
        {value, rest} = value(text, type)
        {value, if(String.starts_with?(rest, ")"), do: rest, else: close(rest, ","))}
      end)

    {values, close(rest, ")")}
  end

  # A name that WAVE has a meaning for stands behind a percent sign.
  defp word("%" <> text), do: run(text, ~r/\A[A-Za-z][-A-Za-z0-9]*/)
  defp word(text), do: run(text, ~r/\A[A-Za-z][-A-Za-z0-9]*/)

  defp run(text, pattern) do
    case Regex.run(pattern, text) do
      [found] -> {found, text |> behind(found) |> skip()}
      nil -> {"", text}
    end
  end

  defp close(text, sign) do
    if String.starts_with?(text, sign),
      do: text |> behind(sign) |> skip(),
      else: expected(sign, text)
  end

  defp behind(text, start),
    do: binary_part(text, byte_size(start), byte_size(text) - byte_size(start))

  defp skip(text), do: String.replace(text, ~r/\A\s+/, "")

  defp quoted("\\u{" <> rest, sign, found) do
    with [all, digits] <- Regex.run(~r/\A([0-9a-fA-F]{1,6})\}/, rest),
         code = String.to_integer(digits, 16),
         true <- code in 0..0xD7FF or code in 0xE000..0x10FFFF do
      quoted(behind(rest, all), sign, [<<code::utf8>> | found])
    else
      _ -> expected("a code point", rest)
    end
  end

  defp quoted("\\" <> <<escape::binary-size(1), rest::binary>> = text, sign, found) do
    case @escapes do
      %{^escape => character} -> quoted(rest, sign, [character | found])
      _ -> expected("an escape", text)
    end
  end

  defp quoted(<<sign::binary-size(1), rest::binary>>, sign, found),
    do: {found |> Enum.reverse() |> IO.iodata_to_binary(), skip(rest)}

  defp quoted(<<character::utf8, rest::binary>>, sign, found),
    do: quoted(rest, sign, [<<character::utf8>> | found])

  defp quoted(rest, sign, _found), do: expected(sign, rest)

  @doc """
  Writes a value as `read/2` reads it.

      iex> alias Mix.Tasks.Wasm.Wave
      iex> Wave.write({:ok, %{"n" => 1, "names" => ["a\\n"]}}, {:result, {:record, [{"n", :u8}, {"names", {:list, :string}}]}, nil})
      ~S|ok({n: 1, names: ["a\\n"]})|
      iex> Wave.write("Hello, Ada!", :string)
      "Hello, Ada!"
  """
  @spec write(term, Component.wit_type()) :: String.t()
  def write(text, :string), do: text
  def write(code, :char), do: <<code::utf8>>

  def write(bytes, {:list, :u8}) do
    if String.printable?(bytes), do: bytes, else: IO.iodata_to_binary(inner(bytes, {:list, :u8}))
  end

  def write(value, type), do: value |> inner(type) |> IO.iodata_to_binary()

  defp inner(text, :string), do: [?", escaped(text, ?"), ?"]
  defp inner(code, :char), do: [?', escaped(<<code::utf8>>, ?'), ?']
  defp inner(value, :bool), do: Atom.to_string(value)
  defp inner(value, plain) when is_atom(plain), do: TextFormat.write(value)

  defp inner(bytes, {:list, :u8}),
    do: ["[", bytes |> :binary.bin_to_list() |> Enum.join(", "), "]"]

  defp inner(values, {:list, type}), do: ["[", listed(values, &inner(&1, type)), "]"]

  defp inner(tuple, {:tuple, types}) do
    values = tuple |> Tuple.to_list() |> Enum.zip(types)
    ["(", listed(values, fn {value, type} -> inner(value, type) end), ")"]
  end

  defp inner(record, {:record, fields}) do
    ["{", listed(fields, fn {name, type} -> [name, ": ", inner(record[name], type)] end), "}"]
  end

  defp inner(flags, {:flags, _names}), do: ["{", Enum.join(flags, ", "), "}"]
  defp inner(name, {:enum, _names}), do: name

  defp inner({name, value}, {:variant, cases}) do
    {_name, type} = List.keyfind(cases, name, 0)
    [name, "(", inner(value, type), ")"]
  end

  defp inner(name, {:variant, _cases}), do: name
  defp inner(:none, {:option, _type}), do: "none"
  defp inner({:some, value}, {:option, type}), do: ["some(", inner(value, type), ")"]
  defp inner({:ok, value}, {:result, type, _error}), do: ["ok(", inner(value, type), ")"]
  defp inner({:error, value}, {:result, _ok, type}), do: ["err(", inner(value, type), ")"]
  defp inner(:ok, {:result, _ok, _error}), do: "ok"
  defp inner(:error, {:result, _ok, _error}), do: "err"
  defp inner(resource, {_kind, path}), do: shown_resource(resource, path)

  defp shown_resource(%Resource{type: type}, _path), do: "<#{type}>"
  defp shown_resource(_term, path), do: "<#{path}>"

  defp listed(values, write), do: values |> Enum.map(write) |> Enum.intersperse(", ")

  defp escaped(text, sign) do
    for <<character::utf8 <- text>>, into: "" do
      case character do
        ?\n -> "\\n"
        ?\t -> "\\t"
        ?\r -> "\\r"
        ?\\ -> "\\\\"
        ^sign -> <<?\\, sign>>
        code when code < 0x20 or code == 0x7F -> "\\u{#{Integer.to_string(code, 16)}}"
        code -> <<code::utf8>>
      end
    end
  end

  @doc """
  A value as JSON has it: a case with a value is an object, an option its value or `null`, or an object where it is one of an option.
  Bytes are a string where they are text.
  """
  @spec json(term, Component.wit_type()) :: term
  def json(code, :char), do: <<code::utf8>>

  def json(value, type) when type in [:f32, :f64] and not is_number(value),
    do: TextFormat.write(value)

  def json(value, plain) when is_atom(plain), do: value

  def json(bytes, {:list, :u8}),
    do: if(String.valid?(bytes), do: bytes, else: :binary.bin_to_list(bytes))

  def json(values, {:list, type}), do: Enum.map(values, &json(&1, type))

  def json(tuple, {:tuple, types}),
    do: tuple |> Tuple.to_list() |> Enum.zip_with(types, &json/2)

  def json(record, {:record, fields}),
    do: for({name, type} <- fields, do: {name, json(record[name], type)})

  def json(flags, {:flags, _names}), do: flags

  def json({name, value}, {:variant, cases}) do
    {_name, type} = List.keyfind(cases, name, 0)
    [{name, json(value, type)}]
  end

  def json(:none, {:option, _type}), do: nil
  def json({:some, value}, {:option, {:option, _} = type}), do: [{"some", json(value, type)}]
  def json({:some, value}, {:option, type}), do: json(value, type)
  def json({:ok, value}, {:result, type, _error}), do: [{"ok", json(value, type)}]
  def json({:error, value}, {:result, _ok, type}), do: [{"error", json(value, type)}]
  def json(word, {kind, _, _}) when kind == :result, do: Atom.to_string(word)
  def json(name, {kind, _names}) when kind in [:enum, :variant], do: name
  def json(resource, {_kind, path}), do: shown_resource(resource, path)
end
