defmodule Mix.Tasks.Wasm.JSONTest do
  use ExUnit.Case, async: true

  import Mix.Tasks.Wasm.JSON, only: [encode: 1]

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
end
