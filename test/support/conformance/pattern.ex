defmodule Cybernetic.WASM.Conformance.Pattern do
  @moduledoc false
  # The scripts' constants as `Cybernetic.WASM.Value` has them, and their patterns for results. Numbers are strings there;
  # a float is the number that its bits are.

  import Bitwise

  # With all of these bits a NaN is an arithmetic one, with no other but the sign it is the canonical one.
  @quiet %{32 => 0x7FC0_0000, 64 => 0x7FF8_0000_0000_0000}

  # Arguments

  @doc "The arguments of a call. Every second integer is given unsigned, which is as good."
  def arguments(constants) do
    for {constant, index} <- Enum.with_index(constants),
        do: argument(constant, rem(index, 2) == 1)
  end

  defp argument(%{"type" => type, "value" => value}, unsigned?) when type in ["i32", "i64"] do
    value = String.to_integer(value)
    if unsigned?, do: unsigned(value, width(type)), else: value
  end

  defp argument(%{"type" => type, "value" => value}, _) when type in ["f32", "f64"],
    do: float_argument(String.to_integer(value), width(type))

  defp argument(%{"type" => "v128", "lane_type" => type, "value" => lanes}, _) do
    size = width(type)
    for lane <- lanes, into: <<>>, do: <<String.to_integer(lane)::little-size(size)>>
  end

  defp argument(%{"type" => type, "value" => value}, _)
       when type in ["externref", "anyref"] and value != "null",
       do: {:extern, value}

  # The other references are null.
  defp argument(%{"type" => _reference}, _), do: nil

  # `:nan` is the positive one.
  defp float_argument(bits, size) do
    with :nan <- float(bits, size),
         do: if(bits == @quiet[size], do: :nan, else: tagged(bits, size))
  end

  # By the table of `Cybernetic.WASM.Value`.
  defp float(bits, 32) when bits in [0x7FC0_0000, 0xFFC0_0000], do: :nan
  defp float(0x7F80_0000, 32), do: :infinity
  defp float(0xFF80_0000, 32), do: :neg_infinity
  defp float(bits, 64) when bits in [0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000], do: :nan
  defp float(0x7FF0_0000_0000_0000, 64), do: :infinity
  defp float(0xFFF0_0000_0000_0000, 64), do: :neg_infinity

  defp float(bits, size) do
    case <<bits::size(size)>> do
      <<value::float-size(size)>> -> value
      _nan -> tagged(bits, size)
    end
  end

  defp tagged(bits, 32), do: {:f32_bits, bits}
  defp tagged(bits, 64), do: {:f64_bits, bits}

  # Results

  @doc "Whether what a call returned is what the patterns say."
  def matches?(result, []), do: result == nil
  def matches?(result, [pattern]), do: one?(result, pattern)

  def matches?(results, patterns) when length(results) == length(patterns),
    do:
      results |> Enum.zip(patterns) |> Enum.all?(fn {value, pattern} -> one?(value, pattern) end)

  def matches?(_results, _patterns), do: false

  defp one?(value, %{"type" => "either", "values" => patterns}),
    do: Enum.any?(patterns, &one?(value, &1))

  defp one?(value, %{"type" => type, "value" => wanted}) when type in ["i32", "i64"],
    do: value === String.to_integer(wanted)

  defp one?(value, %{"type" => type, "value" => wanted}) when type in ["f32", "f64"],
    do: float?(value, wanted, width(type))

  defp one?(<<_::128>> = vector, %{"type" => "v128", "lane_type" => type, "value" => lanes}) do
    size = width(type)
    found = for <<bits::little-size(size) <- vector>>, do: bits
    found |> Enum.zip(lanes) |> Enum.all?(fn {bits, lane} -> lane?(bits, lane, size) end)
  end

  defp one?(value, pattern), do: reference?(value, pattern)

  defp float?(value, "nan:canonical", _size), do: value == :nan
  defp float?(:nan, "nan:arithmetic", _size), do: true
  defp float?({:f32_bits, bits}, "nan:arithmetic", 32), do: arithmetic?(bits, 32)
  defp float?({:f64_bits, bits}, "nan:arithmetic", 64), do: arithmetic?(bits, 64)
  defp float?(_value, "nan:arithmetic", _size), do: false
  defp float?(value, wanted, size), do: same?(value, float(String.to_integer(wanted), size))

  # Zero has two signs, which `==` does not tell apart.
  defp same?(value, wanted) when is_float(value) and is_float(wanted),
    do: <<value::float>> == <<wanted::float>>

  defp same?(value, wanted), do: value == wanted

  defp lane?(bits, "nan:canonical", size), do: (bits &&& bnot(1 <<< (size - 1))) == @quiet[size]
  defp lane?(bits, "nan:arithmetic", size), do: arithmetic?(bits, size)
  defp lane?(bits, wanted, size), do: bits == unsigned(String.to_integer(wanted), size)

  defp arithmetic?(bits, size), do: (bits &&& @quiet[size]) == @quiet[size]

  # A host's reference that became an `anyref` is still the host's.
  defp reference?(value, %{"type" => "refnull"}), do: value == nil

  defp reference?(value, %{"type" => type, "value" => wanted})
       when type in ["externref", "anyref"],
       do: value == {:extern, wanted}

  defp reference?({:extern, _}, %{"type" => type}) when type in ["externref", "anyref"], do: true
  defp reference?(value, %{"type" => "externref"}), do: value == :externref
  defp reference?(value, %{"type" => "funcref"}), do: is_reference(value)
  defp reference?(value, %{"type" => "i31ref"}), do: value == :i31ref
  defp reference?(value, %{"type" => "structref"}), do: value == :structref
  defp reference?(value, %{"type" => "arrayref"}), do: value == :arrayref
  defp reference?(value, %{"type" => "eqref"}), do: value in [:i31ref, :structref, :arrayref]

  defp reference?(value, %{"type" => "anyref"}),
    do: value in [:i31ref, :structref, :arrayref, :anyref]

  defp reference?(_value, _pattern), do: false

  @doc """
  The pattern that the one result's bits match as an integer, where they are a canonical NaN's: `:nan` does not tell its
  sign. Else `nil`.
  """
  def bits([%{"type" => type, "value" => value}]) when type in ["f32", "f64"] do
    size = width(type)

    with {bits, ""} <- Integer.parse(value), :nan <- float(bits, size) do
      <<signed::signed-size(size)>> = <<bits::size(size)>>
      [%{"type" => "i#{size}", "value" => to_string(signed)}]
    else
      _told -> nil
    end
  end

  def bits(_patterns), do: nil

  defp unsigned(value, bits), do: value &&& (1 <<< bits) - 1

  defp width("i8"), do: 8
  defp width("i16"), do: 16
  defp width(type) when type in ["i32", "f32"], do: 32
  defp width(type) when type in ["i64", "f64"], do: 64
end
