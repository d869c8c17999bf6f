defmodule Cybernetic.WASM.ShownTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Module, Shown}

  # Inspects itself, and shows its name as it is.
  defp named(name), do: %Module{ref: nil, digest: "", size: 0, engine: nil, name: name}

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

  test "a path is bare where it is text" do
    assert Shown.path("/srv/naïve name.wasm") == "/srv/naïve name.wasm"
    assert Shown.path("a\e[2J") == ~S("a\e[2J")
    assert Shown.path(<<"a", 255>>) == ~S("a\xFF")
    assert byte_size(Shown.path(String.duplicate("a", 100_000))) < 100
  end
end
