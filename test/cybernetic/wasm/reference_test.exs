defmodule Cybernetic.WASM.ReferenceTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Reference

  doctest Reference

  defp selector(text) do
    {:ok, {:name, "x", selector}} = Reference.parse("x@" <> text)
    selector
  end

  test "a version is one, its beginning the highest of those that begin so" do
    versions = ~w(1.2.0 1.2.3 1.10.0 2.0.0-rc.1 2.0.0 2.1.0-rc.1)

    for {text, picked} <- [
          {"1", "1.10.0"},
          {"1.2", "1.2.3"},
          {"1.2.0", "1.2.0"},
          {"2.0.0-rc.1", "2.0.0-rc.1"},
          {"2", "2.0.0"},
          {"> 1.2.0", "2.0.0"},
          {"~> 2.1.0-rc", "2.1.0-rc.1"},
          {"3", nil},
          {"1.2.1", nil}
        ],
        do: assert(Reference.pick(versions, selector(text)) == picked, text)

    assert Reference.pick(versions, :current) == "2.0.0"
    assert Reference.pick([], :current) == nil
  end

  test "a digest is one whose letters are small" do
    digest = "sha256:" <> String.duplicate("0a", 32)
    assert Reference.parse(digest) == {:ok, {:digest, digest}}
    assert Reference.parse(String.upcase(digest)) == :error
    assert Reference.parse("md5:" <> String.duplicate("0a", 16)) == :error
    assert Reference.parse(digest <> "@1") == :error
  end

  test "what is long is no reference" do
    assert Reference.parse(String.duplicate("x", 201)) == :error
    assert Reference.parse("x@1." <> String.duplicate("9", 1_000)) == :error
    assert Reference.parse("x@>= 1.0.0" <> String.duplicate(" and >= 1.0.0", 100)) == :error
    assert Reference.version("1.0.0-" <> String.duplicate("a", 59)) == :error
  end
end
