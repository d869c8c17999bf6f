defmodule Cybernetic.WASM.Plugin.CodecsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Plugin.Codecs
  alias Cybernetic.WASM.PluginError

  defp encode(codec, term), do: codec |> Codecs.new!() |> Codecs.encode(term)
  defp decode(codec, bytes), do: codec |> Codecs.new!() |> Codecs.decode(bytes)

  defp round(codec, term) do
    assert {:ok, bytes} = encode(codec, term)
    decode(codec, bytes)
  end

  defp refused({:error, %PluginError{} = error}, reason) do
    assert {error.reason, error.blame} ==
             {reason, if(reason == :input, do: :caller, else: :guest)}

    error.detail
  end

  test "terms come back as they went in" do
    for {codec, terms} <- [
          raw: ["", <<0, 255>>],
          text: ["", "é€𝄞"],
          json: [%{"a" => [1, -2.5, nil, true, "b"]}, [], "text", 7, nil],
          number: [0, -1, 1.5, Integer.pow(10, 40), 1.0e300],
          boolean: [true, false],
          term: [{:ok, [1 | 2], %{a: {}}, "b", 1.5, <<1::3>>}, [], %{}, nil]
        ],
        term <- terms,
        do: assert(round(codec, term) == {:ok, term})
  end

  test "what a codec does not take is refused, with why" do
    for {codec, term, words} <- [
          {:raw, :a, "iodata is needed"},
          {:raw, [:a], "iodata is needed"},
          {:text, <<?a, 255>>, "no UTF-8 at byte 1"},
          {:json, {1}, "a tuple"},
          {:number, "1", "a number is needed"},
          {:boolean, nil, "true or false"},
          {:term, %{a: [self()]}, "a pid"},
          {:term, [1 | &Enum.map/2], "a function"}
        ],
        do: assert(codec |> encode(term) |> refused(:input) =~ words)
  end

  test "what a guest gives that is none is the guest's fault" do
    for {codec, bytes, words} <- [
          {:text, <<?a, 255>>, "no UTF-8 at byte 1"},
          {:json, "{", "no JSON at byte 1"},
          {:number, "1 2", "no number"},
          {:number, "true", "no number"},
          {:number, String.duplicate("1", 2_000), "no number"},
          {:boolean, "True", "neither true nor false"},
          {:term, "abc", "no term"},
          {:term, :erlang.term_to_binary(1) <> "a", "something follows"}
        ],
        do: assert(codec |> decode(bytes) |> refused(:output) =~ words)
  end

  test "bounds are those of the options" do
    assert {:ok, [[1]]} = decode({:json, max_depth: 2}, "[[1]]")
    assert decode({:json, max_depth: 1}, "[[1]]") |> refused(:output) =~ "more than 1 objects"
    assert decode({:json, max_size: 4}, "[[1]]") |> refused(:output) =~ "at most 4"
    assert encode({:json, max_size: 4}, [[1]]) |> refused(:input) =~ "more than 4 bytes"

    assert decode({:term, max_size: 4}, :erlang.term_to_binary("a")) |> refused(:output) =~
             "at most 4"

    deep = String.duplicate("[", 10_000) <> String.duplicate("]", 10_000)
    assert decode(:json, deep) |> refused(:output) =~ "more than 64"
    assert decode(:auto, deep) == {:ok, deep}

    assert_raise ArgumentError, ~r/option :max_depth must be an integer from 1 to 100/, fn ->
      Codecs.new!({:json, max_depth: 101})
    end

    assert_raise ArgumentError, ~r/unknown option of the codec :raw :a/, fn ->
      Codecs.new!({:raw, a: 1})
    end

    assert_raise ArgumentError, ~r/a codec is/, fn -> Codecs.new!(in: :raw, outt: :raw) end
  end

  test "a term of a guest holds nothing that acts, and makes no atom" do
    name = "no_atom_has_this_name_#{System.unique_integer([:positive])}"
    atom = <<131, 119, byte_size(name), name::binary>>
    assert decode(:term, atom) |> refused(:output) =~ "an atom that is not there"
    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end

    for {term, words} <- [
          {&Enum.map/2, "a function"},
          {[1, {fn -> 1 end}], "a function"},
          {%{1 => self()}, "a pid"},
          {%{make_ref() => 1}, "a reference"},
          {[1 | hd(Port.list())], "a port"}
        ],
        do: assert(decode(:term, :erlang.term_to_binary(term)) |> refused(:output) =~ words)

    bomb = :erlang.term_to_binary(String.duplicate("a", 1_000_000), compressed: 9)
    assert decode(:term, bomb) |> refused(:output) =~ "compressed"
  end

  test "auto is told by what is there" do
    for {term, bytes} <- [
          {"text", "text"},
          {["io", ?d], "iod"},
          {1.5, "1.5"},
          {nil, "null"},
          {true, "true"},
          {:word, "word"},
          {%{a: 1}, ~S({"a":1})},
          {[%{}, 1], "[{},1]"}
        ],
        do: assert(encode(:auto, term) == {:ok, bytes})

    for {bytes, term} <- [
          {"text", "text"},
          {<<255>>, <<255>>},
          {"", ""},
          {~S("quoted"), ~S("quoted")},
          {" \"a\"", " \"a\""},
          {"-1.5", -1.5},
          {"null", nil},
          {~S({"a":[1]}), %{"a" => [1]}},
          {"[1", "[1"}
        ],
        do: assert(decode(:auto, bytes) == {:ok, term})

    assert encode(:auto, {1}) |> refused(:input) =~ "a tuple"
  end
end
