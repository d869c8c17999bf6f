defmodule Mix.Tasks.Wasm.WaveTest do
  use ExUnit.Case, async: true

  alias Mix.Tasks.Wasm.Wave

  doctest Wave

  @point {:record, [{"x", :s32}, {"label", :string}, {"maybe", {:option, :u8}}]}
  @shape {:variant, [{"empty", nil}, {"circle", :f64}, {"pair", {:tuple, [:u8, :char]}}]}

  test "what is written reads back" do
    for {type, value} <- [
          {:bool, true},
          {:s64, -9_223_372_036_854_775_808},
          {:f32, 1.5},
          {:f64, :neg_infinity},
          {{:option, :string}, {:some, "\"quoted\" \\ \n\t ü \u0001"}},
          {{:list, :string}, ["", "a,b", "]"]},
          {{:list, :u8}, "bytes"},
          {@point, %{"x" => -1, "label" => "p", "maybe" => :none}},
          {@shape, "empty"},
          {@shape, {"circle", 0.5}},
          {@shape, {"pair", {1, ?'}}},
          {{:enum, ["a", "b-c"]}, "b-c"},
          {{:flags, ["read", "write"]}, ["read", "write"]},
          {{:flags, ["read"]}, []},
          {{:option, {:option, :u8}}, {:some, {:some, 1}}},
          {{:result, :u8, :string}, {:error, "no"}},
          {{:result, nil, nil}, :ok},
          {{:tuple, [:u8, @point]}, {1, %{"x" => 1, "label" => "", "maybe" => {:some, 2}}}}
        ] do
      assert {:ok, read} = value |> Wave.write(type) |> Wave.read(type)
      assert as_given(read) == as_given(value)
    end
  end

  # A character may be one of text.
  defp as_given({n, <<code::utf8>>}), do: {n, code}
  defp as_given({name, pair}), do: {name, as_given(pair)}
  defp as_given(other), do: other

  test "bytes that are no text are numbers, and text is taken for bytes" do
    assert Wave.write(<<0, 255>>, {:list, :u8}) == "[0, 255]"
    assert Wave.read("[0, 255]", {:list, :u8}) == {:ok, [0, 255]}
    assert Wave.write(["ab"], {:list, {:list, :u8}}) == "[[97, 98]]"
    assert Wave.read(~S|["ab", [0]]|, {:list, {:list, :u8}}) == {:ok, ["ab", [0]]}
  end

  test "blanks, commas at the end, escaped names and left out options are read" do
    assert Wave.read(" { x : 1 , label:\"a\", } ", @point) ==
             {:ok, %{"x" => 1, "label" => "a", "maybe" => :none}}

    assert Wave.read("[1 , 2,]", {:list, :u32}) == {:ok, [1, 2]}
    assert Wave.read("%true", {:enum, ["true"]}) == {:ok, "true"}
    assert Wave.read(~S|"\u{1F600}"|, :string) == {:ok, "😀"}
    assert Wave.read("x", :char) == {:ok, "x"}
  end

  test "what is wrong is said with its place" do
    for {text, type, said} <- [
          {"1 2", :u8, ~s|nothing more expected at "2"|},
          {"maybe", :bool, "true or false expected"},
          {"one", :u8, "u8 expected"},
          {"[1", {:list, :u32}, ", expected at the end"},
          {"{x: 1, y: 2}", @point, "a field of x, label, maybe expected"},
          {"circle", @shape, "one of empty, circle(f64), pair(tuple<u8, char>) expected"},
          {"circle(1", @shape, ") expected at the end"},
          {"{fly}", {:flags, ["read"]}, "a flag of read expected"},
          {~S|["\q"]|, {:list, :string}, "an escape expected"},
          {~S|["\u{D800}"]|, {:list, :string}, "a code point expected"},
          {"\"open", :string, "\" expected at the end"},
          {"1", {:own, "a:b/c#conn"}, "a conn, which a shell cannot give, expected"}
        ] do
      assert {:error, message} = Wave.read(text, type)
      assert message =~ said
    end
  end

  test "JSON has objects for what has names" do
    point = %{"x" => 1, "label" => "p", "maybe" => {:some, 2}}
    assert Wave.json(point, @point) == [{"x", 1}, {"label", "p"}, {"maybe", 2}]
    assert Wave.json({"circle", :nan}, @shape) == [{"circle", "nan"}]
    assert Wave.json({:some, :none}, {:option, {:option, :u8}}) == [{"some", nil}]
    assert Wave.json(<<255>>, {:list, :u8}) == [255]
    assert Wave.json({:error, "no"}, {:result, nil, :string}) == [{"error", "no"}]
    assert Wave.json({1, ?x}, {:tuple, [:u8, :char]}) == [1, "x"]
  end
end
