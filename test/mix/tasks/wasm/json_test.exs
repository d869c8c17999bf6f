defmodule Mix.Tasks.Wasm.JSONTest do
  use ExUnit.Case, async: true

  import Mix.Tasks.Wasm.JSON, only: [encode: 1, decode: 1]

  doctest Mix.Tasks.Wasm.JSON

  test "numbers, words and nothing" do
    assert encode([1, -2, 0.1, 1.0e300, -0.0, true, false, nil]) ==
             "[1,-2,0.1,1.0e300,-0.0,true,false,null]"

    assert encode(0xFFFF_FFFF_FFFF_FFFF) == "18446744073709551615"
  end

  test "objects keep the order of a keyword list, and may be empty or nested" do
    assert encode(b: 1, a: [c: []]) == ~s({"b":1,"a":{"c":[]}})
    assert encode(%{}) == "{}"
    assert encode([%{"k" => :word}, []]) == ~s([{"k":"word"},[]])
  end

  test "what ends or steers a string is escaped" do
    assert encode("\"\\/") == ~S("\"\\/")
    assert encode("\n\t\r\0\e\d") == ~S("\n\t\u000d\u0000\u001b\u007f")
    assert encode("\u2028") == ~S("\u2028")
  end

  test "beyond ASCII everything is escaped, in surrogate pairs where needed" do
    assert encode("é€") == ~S("\u00e9\u20ac")
    assert encode("𝄞") == ~S("\ud834\udd1e")
  end

  test "what is not UTF-8 is replaced" do
    assert encode(<<?a, 0xFF, ?b>>) == ~S("a\ufffdb")
  end

  test "what JSON does not know is inspected" do
    assert encode({:a, 1}) == ~s("{:a, 1}")
  end

  test "what was written can be read" do
    for term <- [
          [],
          %{},
          %{"a" => [1, -2.5, true, false, nil, "b"], "" => %{"c" => []}},
          [1.0e300, -0.1, 18_446_744_073_709_551_615],
          "\"\\/\n\t\r\0\d é€𝄞"
        ],
        do: assert(term |> encode() |> decode() == {:ok, term})
  end

  test "space between the parts, escapes and exponents of others are read" do
    assert decode(" [ 1 ,\n{ \"a\" : 2e2 } ]\t") == {:ok, [1, %{"a" => 200.0}]}

    assert decode(~S(["\b\f\/\u00E9\uD834\uDD1E", 1E-2, 1.5e+1])) ==
             {:ok, ["\b\f/é𝄞", 0.01, 15.0]}

    # Halves of pairs are no characters.
    assert decode(~S("\ud834x\udd1e")) == {:ok, "\uFFFDx\uFFFD"}
  end

  test "what is no JSON is refused" do
    for text <- [
          "",
          "[1",
          "[1,]",
          "[,1]",
          "[1 2]",
          ~S({"a"}),
          ~S({"a":}),
          ~S({"a":1,}),
          ~S({a:1}),
          "nul",
          "1 2",
          "01",
          "1.",
          ".5",
          "+1",
          "1e999",
          ~S("a),
          ~S("\x"),
          ~S("\u12g4"),
          "\"\n\"",
          <<?", 0xFF, ?">>
        ],
        do: assert(decode(text) == :error, text)
  end
end
