defmodule Mix.Tasks.Wasm.TextFormatTest do
  use ExUnit.Case, async: true

  alias Mix.Tasks.Wasm.TextFormat

  doctest TextFormat

  test "what is written reads back" do
    for {type, value} <- [
          {"i32", -5},
          {"i64", 0x7FFF_FFFF_FFFF_FFFF},
          {"f64", 1.0e-300},
          {"f64", -0.0},
          {"f32", :nan},
          {"f32", :infinity},
          {"f64", :neg_infinity},
          {"f32", {:f32_bits, 0x7F80_0001}},
          {"f32", {:f32_bits, 0xFFFF_FFFF}},
          {"f64", {:f64_bits, 0x7FF0_0000_0000_0001}},
          {"f64", {:f64_bits, 0xFFF4_0000_0000_0000}},
          {"v128", <<1::little-128>>},
          {"v128", <<-1::128>>},
          {"funcref", nil},
          {"(ref null 0)", nil}
        ] do
      assert {:ok, ^value} = value |> TextFormat.write() |> TextFormat.read(type)
    end
  end

  test "a memory says what is out of the ordinary" do
    memory = %{index: "i64", minimum: 1, maximum: nil, page_size: 1}
    assert TextFormat.type({:memory, memory}) == "(memory i64 1 (pagesize 1))"
  end

  test "null is a value of the types that have it" do
    assert TextFormat.read("null", "externref") == {:ok, nil}
    assert TextFormat.read("null", "(ref func)") == :error
    assert TextFormat.read("null", "v128") == :error
  end
end
