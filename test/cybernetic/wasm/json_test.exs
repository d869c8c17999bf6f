defmodule Cybernetic.WASM.JSONTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.JSON, only: [encode: 1, decode: 2]

  doctest Cybernetic.WASM.JSON

  defp decode(text), do: decode(text, 100_000)

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
        do: assert({:error, "no " <> _} = decode(text), text)
  end

  test "the place of what is wrong is told" do
    assert decode(~S({"a": [1, tru]})) == {:error, "no JSON at byte 10"}
    assert decode("[1] 2") == {:error, "no JSON at byte 4"}
    assert decode(<<?", ?a, 0xFF, ?">>) == {:error, "no UTF-8 at byte 1"}
  end

  test "a key that stands twice is refused, also where it is written in two ways" do
    assert {:error, "a key that is there already" <> _} = decode(~S({"a":1,"b":2,"a":1}))
    assert {:error, "a key that is there already" <> _} = decode(~S({"a":1,"\u0061":2}))
    assert decode(~S([{"a":1},{"a":2}])) == {:ok, [%{"a" => 1}, %{"a" => 2}]}
  end

  test "size, depth and the length of numbers are bounded" do
    assert decode("[12]", 4) == {:ok, [12]}
    assert decode("[12]", 3) == {:error, "4 bytes, at most 3 are read"}

    nested = fn depth -> String.duplicate("[", depth) <> String.duplicate("]", depth) end
    assert {:ok, _} = decode(nested.(32))
    assert {:error, "more than 32 objects" <> _} = decode(nested.(33))
    assert {:error, "more than 32 objects" <> _} = decode(String.duplicate("[", 100_000))
    assert {:error, "more than 32" <> _} = decode(String.duplicate(~S({"":), 20_000))

    assert {:ok, _} = decode(String.duplicate("9", 400))
    assert {:error, "a number of more than 400" <> _} = decode(String.duplicate("9", 401))
    assert {:error, "a number of more" <> _} = decode("1." <> String.duplicate("0", 90_000))
  end

  test "whatever bytes come, there is an answer" do
    text = ~S({"a": [1, -2.5e3, true, null, "\u00e9\ud834\udd1e\n"], "b": {"c": {}}})

    for _ <- 1..3_000 do
      at = :rand.uniform(byte_size(text)) - 1
      cut = :rand.uniform(4) - 1
      <<before::binary-size(at), rest::binary>> = text
      rest = binary_part(rest, min(cut, byte_size(rest)), max(byte_size(rest) - cut, 0))
      mutant = before <> :rand.bytes(:rand.uniform(3) - 1) <> rest

      case decode(mutant) do
        {:ok, term} -> assert {:ok, ^term} = term |> encode() |> decode()
        {:error, words} -> assert words =~ ~r/ at byte \d+\z/
      end
    end
  end

  test "no atom is made of what is read" do
    key = "no atom is called so #{System.unique_integer()}"
    assert {:ok, %{^key => ^key}} = decode(encode(%{key => key}))
    assert_raise ArgumentError, fn -> String.to_existing_atom(key) end
  end
end
