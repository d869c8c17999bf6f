defmodule Cybernetic.WASM.ShownTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Module, Shown}

  # Inspects itself, and shows its name as it is.
  defp named(name),
    do: %Module{ref: nil, digest: "", size: 0, engine: nil, name: name, private: nil}

  test "of a term its beginning is shown" do
    assert Shown.term([1, "two", :three]) == ~s([1, "two", :three])
    assert Shown.term(Enum.to_list(1..9)) == "[1, 2, 3, 4, 5, ...]"
    assert Shown.term(String.duplicate("a", 81)) == ~s("#{String.duplicate("a", 80)}" <> ...)
  end

  test "no term is shown at any length, however it is nested or inspects itself" do
    deep = Enum.reduce(1..8, "x", fn _, inner -> [inner, inner, inner, inner, inner] end)

    for term <- [deep, named(String.duplicate("a", 5_000))],
        do: assert(String.length(Shown.term(term)) <= 1_001)
  end

  test "no control character is shown" do
    for text <- [Shown.term("\e[2J"), Shown.term(named("\e[2J\nb")), Shown.name("\e[2J\n")] do
      refute text =~ ~r/[[:cntrl:]]/
      assert text =~ "[2J"
    end
  end

  test "what is no control character is shown as it is, whatever bytes it has" do
    for text <- ["€ … ïß", "日本語", "𝄞"] do
      assert Shown.term(text) == inspect(text)
      assert Shown.term(named(text)) =~ text
      assert Shown.path(text) == text
    end

    refute Shown.term(named("a\u009B2J")) =~ "\u009B"
    assert Shown.path("a\u009Bb") =~ "\\"
  end

  test "a name is bare where it is one plain word" do
    assert Shown.name("env.log/1") == "env.log/1"
    assert Shown.name("two words") == ~s("two words")
    assert Shown.name("") == ~s("")
    assert Shown.name("naïve") == ~s("naïve")
    assert Shown.name(<<255>>) == "<<255>>"
  end

  test "a long name is cut" do
    name = String.duplicate("a", 100_000)
    assert Shown.name(name) == ~s("#{String.duplicate("a", 200)}" <> ...)
    assert Shown.quoted(name) == Shown.name(name)
  end

  test "a name that is a fact of an error is cut between two characters" do
    for letter <- ["a", "ï", "€", "𝄞"], before <- 0..3 do
      long = String.duplicate("-", before) <> String.duplicate(letter, 1_000)
      cut = Shown.cut(long)
      assert String.valid?(cut)
      assert String.starts_with?(long, String.trim_trailing(cut, "…"))
      assert byte_size(cut) in 200..203
      assert Shown.cut(cut) |> byte_size() <= 203
    end

    for short <- ["", "env", String.duplicate("a", 200)], do: assert(Shown.cut(short) == short)
    assert byte_size(Shown.cut(String.duplicate(<<255>>, 1_000))) == 203
    assert Shown.cut("abc", 2) == "ab…"
  end

  test "of what a guest is given only numbers and atoms are shown" do
    for {term, words} <- [
          {1, "1"},
          {-1.5, "-1.5"},
          {:atom, ":atom"},
          {nil, "nil"},
          {"hunter2", "a binary of 7 bytes"},
          {["hunter2"], "a list"},
          {["a" | "hunter2"], "a list"},
          {{"hunter2"}, "a tuple"},
          {%{"hunter2" => 1}, "a map"},
          {%URI{host: "hunter2"}, "a %URI{}"},
          {fn -> 1 end, "a function"},
          {make_ref(), "another term"},
          {Integer.pow(7, 100), "an integer of more than 128 bits"}
        ],
        do: assert(Shown.kind(term) == words)
  end

  test "long numbers are in groups" do
    for {number, shown} <- [
          {0, "0"},
          {999, "999"},
          {1_000, "1,000"},
          {-1_000, "-1,000"},
          {1_234_567, "1,234,567"}
        ],
        do: assert(Shown.number(number) == shown)
  end

  test "a path is bare where it is text" do
    assert Shown.path("/srv/naïve name.wasm") == "/srv/naïve name.wasm"
    assert Shown.path("a\e[2J") == ~S("a\e[2J")
    assert Shown.path(<<"a", 255>>) == ~S("a\xFF")
    assert byte_size(Shown.path(String.duplicate("a", 100_000))) < 100
  end
end
