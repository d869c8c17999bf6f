defmodule Mix.Tasks.Wasm.TextFormat do
  @moduledoc false
  # Types and values in the words of WebAssembly's text format (§6 of the specification), in so far as a
  # command line needs them.

  alias Cybernetic.WASM.{Module, Value}

  # How the bits are tagged, and the widths of exponent and payload.
  @floats %{"f32" => {:f32_bits, 8, 23}, "f64" => {:f64_bits, 11, 52}}

  # Types

  @doc """
  The type of an import or export.

      iex> Mix.Tasks.Wasm.TextFormat.type({:function, ["i32", "funcref"], ["f64"]})
      "(func (param i32 funcref) (result f64))"
  """
  @spec type(Module.extern_type()) :: String.t()
  def type({:function, params, results}),
    do: wrap(["func", group("param", params), group("result", results)])

  def type({:tag, params}), do: wrap(["tag", group("param", params)])

  def type({:global, %{mutable: true, type: type}}),
    do: wrap(["global", wrap(["mut", type])])

  def type({:global, %{type: type}}), do: wrap(["global", type])

  def type({:table, table}),
    do: wrap(["table", table.minimum, table.maximum, table.element])

  def type({:memory, memory}),
    do: wrap(["memory", index(memory), memory.minimum, memory.maximum, page_size(memory)])

  defp index(%{index: "i32"}), do: nil
  defp index(%{index: index}), do: index

  defp page_size(%{page_size: 65_536}), do: nil
  defp page_size(%{page_size: bytes}), do: wrap(["pagesize", bytes])

  defp group(_word, []), do: nil
  defp group(word, types), do: wrap([word | types])

  defp wrap(words), do: "(#{words |> Enum.reject(&is_nil/1) |> Enum.join(" ")})"

  @doc "A name, quoted."
  @spec name(String.t()) :: String.t()
  def name(name), do: inspect(name, binaries: :as_strings)

  @doc "A name: bare where it is one plain word, quoted otherwise."
  @spec plain(String.t()) :: String.t()
  def plain(name), do: if(name =~ ~r/\A[\x21-\x7e]+\z/, do: name, else: name(name))

  # Values

  @doc "Reads a value of a type. What is out of a type's range is the library's to refuse."
  @spec read(String.t(), Module.value_type()) :: {:ok, Value.t()} | :error
  def read(text, type) when type in ["i32", "i64"], do: integer(text)
  def read(text, type) when type in ["f32", "f64"], do: text |> String.downcase() |> float(type)
  def read("null", type), do: if(nullable?(type), do: {:ok, nil}, else: :error)
  def read(text, "v128"), do: vector(text)
  def read(_text, _type), do: :error

  @doc """
  Reads an integer, decimal or hexadecimal.

      iex> Mix.Tasks.Wasm.TextFormat.integer("-0xFF_FF")
      {:ok, -65535}
  """
  @spec integer(String.t()) :: {:ok, integer} | :error
  def integer(text) do
    case Regex.run(~r/\A([+-]?)(0x)?([0-9a-f]+(?:_[0-9a-f]+)*)\z/i, text) do
      [_, sign, prefix, digits] -> integer(sign <> String.replace(digits, "_", ""), prefix)
      nil -> :error
    end
  end

  defp integer(digits, prefix) do
    case Integer.parse(digits, if(prefix == "", do: 10, else: 16)) do
      {integer, ""} -> {:ok, integer}
      _ -> :error
    end
  end

  defp float(text, type) do
    case Regex.run(~r/\A([+-]?)(inf|nan)(?::0x([0-9a-f]+))?\z/, text) do
      [_, "-", "inf"] -> {:ok, :neg_infinity}
      [_, _, "inf"] -> {:ok, :infinity}
      [_, "", "nan"] -> {:ok, :nan}
      [_, sign, "nan"] -> nan(sign, nil, type)
      [_, sign, "nan", payload] -> nan(sign, String.to_integer(payload, 16), type)
      [_, _, "inf", _payload] -> :error
      nil -> number(text)
    end
  end

  # Without a payload it is the canonical NaN: the highest bit of the payload alone.
  defp nan(sign, payload, type) do
    {tag, exponent, width} = @floats[type]
    payload = payload || 2 ** (width - 1)
    sign = if sign == "-", do: 1, else: 0
    <<bits::size(width + exponent + 1)>> = <<sign::1, -1::size(exponent), payload::size(width)>>
    if payload in 1..(2 ** width - 1), do: {:ok, {tag, bits}}, else: :error
  end

  defp number(text) do
    with true <- text =~ ~r/\A[+-]?\.?\d[\d._e+-]*\z/,
         {float, ""} <- text |> ungrouped() |> Float.parse() do
      {:ok, float}
    else
      _ -> :error
    end
  rescue
    # What no float holds, such as 1e999, in some versions of Elixir.
    ArgumentError -> :error
  end

  # As Float.parse/1 takes them: a digit before the point, none grouped.
  defp ungrouped(digits) do
    digits
    |> String.replace(~r/\A([+-]?)\./, "\\g{1}0.")
    |> String.replace(~r/(?<=\d)_(?=\d)/, "")
  end

  defp vector(text) do
    with "0x" <> _ <- text,
         {:ok, bits} <- integer(text),
         true <- bits < 2 ** 128 do
      {:ok, <<bits::little-128>>}
    else
      _ -> :error
    end
  end

  @doc "What values of a type look like."
  @spec expected(Module.value_type()) :: String.t()
  def expected("i32"), do: "an i32: an integer from -2147483648 to 4294967295"
  def expected("i64"), do: "an i64: an integer from -9223372036854775808 to 18446744073709551615"
  def expected("f32"), do: "an f32: a number such as 1.5 or 1e-3 up to 3.4e38, inf, -inf or nan"
  def expected("f64"), do: "an f64: a number such as 1.5 or 1e-3 up to 1.8e308, inf, -inf or nan"
  def expected("v128"), do: "a v128: 0x and up to 32 hexadecimal digits"

  def expected(type) do
    if nullable?(type),
      do: "null, the one #{type} that a shell can give",
      else: "a #{type}, which a shell cannot give"
  end

  defp nullable?("(ref null " <> _), do: true
  defp nullable?(type), do: String.ends_with?(type, "ref")

  @doc """
  Writes a value as `read/2` reads it.

      iex> alias Mix.Tasks.Wasm.TextFormat
      iex> Enum.map([-1, 0.5, :nan, {:f32_bits, 0xFF800001}, nil], &TextFormat.write/1)
      ["-1", "0.5", "nan", "-nan:0x1", "null"]
  """
  @spec write(Value.t()) :: String.t()
  def write(nil), do: "null"
  def write(:infinity), do: "inf"
  def write(:neg_infinity), do: "-inf"
  def write(integer) when is_integer(integer), do: Integer.to_string(integer)
  def write(float) when is_float(float), do: Float.to_string(float)
  def write(<<bits::little-128>>), do: "0x" <> hexadecimal(bits, 32)
  def write({:f32_bits, bits}), do: write_nan(<<bits::32>>, @floats["f32"])
  def write({:f64_bits, bits}), do: write_nan(<<bits::64>>, @floats["f64"])
  def write(reference) when is_reference(reference), do: "funcref"
  def write(atom) when is_atom(atom), do: Atom.to_string(atom)

  defp write_nan(bits, {_tag, exponent, width}) do
    <<sign::1, _::size(exponent), payload::size(width)>> = bits
    "#{if sign == 1, do: "-"}nan:0x#{hexadecimal(payload, 1)}"
  end

  defp hexadecimal(bits, digits) do
    bits |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(digits, "0")
  end
end
