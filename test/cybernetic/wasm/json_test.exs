defmodule Cybernetic.WASM.JSONTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.JSON, only: [encode: 1, decode: 2, decode: 3, write: 2, write: 3]

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
          # Half a pair is no character.
          ~S("\ud834x"),
          ~S("\udd1e"),
          "\"\n\"",
          <<?", 0xFF, ?">>
        ],
        do: assert({:error, "no " <> _} = decode(text), text)
  end

  test "the place of what is wrong is told" do
    assert decode(~S({"a": [1, tru]})) == {:error, "no JSON at byte 13"}
    assert decode("[1] 2") == {:error, "no JSON at byte 4"}
    assert decode("[1,\n\n2,\n oh]") == {:error, "no JSON at byte 9"}
    assert decode("[1, [2") == {:error, "no JSON at byte 6"}
    assert decode(<<?", ?a, 0xFF, ?">>) == {:error, "no UTF-8 at byte 2"}
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

    assert {:ok, _} = decode("1." <> String.duplicate("0", 390))
    assert {:error, "a number of more than 400" <> _} = decode("1." <> String.duplicate("0", 400))
    assert {:error, "a number of more" <> _} = decode("1." <> String.duplicate("0", 90_000))
  end

  test "the depth is what was asked for, and never more than a hundred" do
    nested = fn depth -> String.duplicate("[", depth) <> String.duplicate("]", depth) end
    assert {:ok, [[[]]]} = decode(nested.(3), 100, 3)
    assert {:error, "more than 2 objects" <> _} = decode(nested.(3), 100, 2)
    assert {:ok, _} = decode(nested.(100), 1_000, 100)
    assert {:error, "more than 100 objects" <> _} = decode(nested.(101), 1_000, 1_000)
    # Also on the small stack of a dirty scheduler.
    assert {:ok, [_ | _]} =
             decode("[#{nested.(99)}, \"#{String.duplicate("a", 50_000)}\"]", 100_000, 100)

    assert {:error, {path, "more than 3 lists and maps" <> _}} = write([[%{"a" => []}]], 100, 3)
    assert path == "/0/0/a"
    assert {:error, {_path, "more than 100 lists" <> _}} = write(deep(10_000), 1_000, 1_000)
  end

  defp deep(depth), do: Enum.reduce(1..depth, 0, fn _level, inner -> [inner] end)

  test "integers stay integers, of up to 128 bytes, and floats the floats that they are" do
    for number <- [
          0xFFFF_FFFF_FFFF_FFFF,
          0x1_0000_0000_0000_0000,
          -0x8000_0000_0000_0000,
          -0x8000_0000_0000_0001,
          Integer.pow(10, 300),
          -Integer.pow(7, 350),
          0.1,
          5.0e-324,
          1.7976931348623157e308,
          2.2250738585072011e-308,
          9_007_199_254_740_993.0
        ] do
      assert {:ok, text} = write([number, "1.5"], 1_000)
      assert decode(text) == {:ok, [number, "1.5"]}
    end

    assert decode("-0") == {:ok, 0}
    assert {:ok, [zero]} = decode("[-0.0]")
    assert <<1::1, 0::63>> = <<zero::float>>

    assert {:error, {"/0", "an integer of more than 1024 bits"}} =
             write([Integer.pow(2, 1_024)], 1_000)

    assert {:error, "no JSON" <> _} = decode(String.duplicate("9", 309))
  end

  test "data comes back, or is refused with where it is" do
    for term <- [
          %{"a" => [1, -2.5, true, false, nil, "b"], "" => %{"c" => []}},
          "\"\\/\n\t\r\0\d é€𝄞",
          for(n <- 1..5_000, do: %{"number" => n, "text" => "#{n}"})
        ] do
      assert {:ok, text} = write(term, 1_000_000)
      assert decode(text, 1_000_000) == {:ok, term}
    end

    assert write(%{a: :word, b: [é: 1] |> Map.new()}, 100) == {:ok, ~S({"a":"word","b":{"é":1}})}

    for {term, path, words} <- [
          {%{"a" => [0, {1, 2}]}, "/a/1", "a tuple"},
          {%{"a/b" => %{"~" => self()}}, "/a~1b/~0", "a pid"},
          {[fn -> :ok end], "/0", "a function"},
          {[make_ref()], "/0", "a reference"},
          {%{x: :nan}, "/x", "a float that JSON lacks"},
          {%{x: [:infinity, 1]}, "/x/0", "a float that JSON lacks"},
          {[1 | 2], "", "an improper list"},
          {%{1 => 2}, "", "a key that is neither"},
          {%{:a => 1, "a" => 2}, "", "two keys"},
          {%{<<0xFF>> => 2}, "", "a key that is no UTF-8"},
          {[~D[2026-01-01]], "/0", "a struct"},
          {[<<?a, 0xFF>>], "/0", "text that is no UTF-8, at byte 1"},
          {[<<1::3>>], "/0", "bits"}
        ] do
      assert {:error, {^path, said}} = write(term, 1_000)
      assert said =~ words
    end
  end

  test "what is written is bounded" do
    assert write("abc", 5) == {:ok, ~S("abc")}
    assert write("abc", 4) == {:error, {"", "more than 4 bytes"}}
    assert {:error, {"", "more than" <> _}} = write(List.duplicate(1, 100_000), 20_000)
    assert {:error, {"", "more than" <> _}} = write(String.duplicate("\0", 30_000), 100_000)
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
