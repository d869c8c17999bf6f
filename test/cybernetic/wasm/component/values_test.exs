defmodule Cybernetic.WASM.Component.ValuesTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{CallError, Executor, Instance, Runtime}

  defp imports do
    log = %{
      "write" => fn _ctx, _level, _text -> 0 end,
      "shout" => fn _ctx, text -> {:ok, text} end
    }

    [imports: %{"acme:values/log" => log, "$root" => %{"twice" => fn _ctx, n -> 2 * n end}}]
  end

  setup_all do
    component = Runtime.load_module!("test/fixtures/components/values.wasm")
    {:ok, instance} = Instance.new(component, imports())
    %{component: component, instance: instance}
  end

  # In a fresh instance and on a live one.
  defp through(%{component: component, instance: instance}, name, value) do
    name = "acme:values/identity##{name}"
    fresh = Executor.call(component, name, [value], imports())
    assert Instance.call(instance, name, [value], wait: 60_000) == fresh
    fresh
  end

  defp message(context, name, value) do
    assert {:error, %CallError{reason: :type, blame: :caller} = error} =
             through(context, name, value)

    Exception.message(error)
  end

  @integers [
    s8: {-0x80, 0x7F},
    u8: {0, 0xFF},
    s16: {-0x8000, 0x7FFF},
    u16: {0, 0xFFFF},
    s32: {-0x8000_0000, 0x7FFF_FFFF},
    u32: {0, 0xFFFF_FFFF},
    s64: {-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF},
    u64: {0, 0xFFFF_FFFF_FFFF_FFFF}
  ]

  test "integers go through within their bounds, and are refused beyond", context do
    for {type, {least, most}} <- @integers do
      for value <- [least, most, 0, 1], do: assert(through(context, type, value) == {:ok, value})

      for value <- [least - 1, most + 1, 2 ** 70, 1.0, true, nil, "1", []] do
        assert message(context, type, value) =~ ~r/^argument 1 \("v"\): expected #{type}, got /
      end
    end
  end

  test "booleans are true and false", context do
    for value <- [true, false], do: assert(through(context, "bool", value) == {:ok, value})
    for value <- [nil, 1, 0, "true", :yes], do: message(context, "bool", value)
  end

  test "floats go through with every bit pattern's meaning", context do
    for type <- ["f32", "f64"] do
      for value <- [0.0, 1.5, -2.25, :infinity, :neg_infinity, :nan],
          do: assert(through(context, type, value) == {:ok, value})

      assert through(context, type, 3) == {:ok, 3.0}
      for value <- ["1.0", :one, nil, true], do: message(context, type, value)
    end

    assert through(context, "f64", {:f64_bits, 0x4000_0000_0000_0000}) == {:ok, 2.0}
    assert through(context, "f32", {:f32_bits, 0x4000_0000}) == {:ok, 2.0}
    message(context, "f32", 1.0e300)
  end

  test "a char is a code point, or a string of one character", context do
    for code <- [0, ?a, ?é, 0x1F600, 0x10FFFF],
        do: assert(through(context, "char", code) == {:ok, code})

    assert through(context, "char", "é") == {:ok, ?é}

    for value <- [0xD800, 0xDFFF, 0x110000, -1, "", "ab", <<0xFF>>],
        do: message(context, "char", value)
  end

  test "a string is UTF-8, given as iodata", context do
    for text <- ["", "héllo", "日本", String.duplicate("é", 50_000)],
        do: assert(through(context, "text", text) == {:ok, text})

    assert through(context, "text", ["a", [?b | "c"], ~c"d"]) == {:ok, "abcd"}
    assert message(context, "text", <<0xFF>>) =~ "no UTF-8"
    for value <- [nil, :text, 1, %{}, [:a], [1_000]], do: message(context, "text", value)
  end

  test "a list of bytes is a binary, given as iodata too", context do
    for bytes <- ["", <<0, 255>>, :binary.copy(<<0xC0>>, 100_000)] do
      assert through(context, "bytes", bytes) == {:ok, bytes}
    end

    assert through(context, "bytes", [1, 2, <<3>>]) == {:ok, <<1, 2, 3>>}
    assert through(context, "bytes", 1..3) == {:ok, <<1, 2, 3>>}
    for value <- [nil, 1, [256], [-1], <<1::3>>], do: message(context, "bytes", value)
    assert through(context, "option-of-bytes", "") == {:ok, :none}
    assert through(context, "option-of-bytes", "a") == {:ok, {:some, "a"}}
    assert through(context, "result-of-bytes", "") == {:ok, {:error, "empty"}}
    assert through(context, "result-of-bytes", "a") == {:ok, {:ok, "a"}}
    blob = %{"name" => "n", "data" => <<1, 2, 255>>}
    assert through(context, "a-blob", blob) == {:ok, blob}

    assert through(context, "a-blob", %{name: "", data: ""}) ==
             {:ok, %{"name" => "", "data" => ""}}
  end

  test "a list is a list, given as any enumerable", context do
    assert through(context, "numbers", []) == {:ok, []}
    assert through(context, "numbers", [1, 2]) == {:ok, [1, 2]}
    assert through(context, "numbers", 1..3) == {:ok, [1, 2, 3]}
    assert through(context, "numbers", MapSet.new([7])) == {:ok, [7]}
    assert through(context, "numbers", Stream.take(Stream.cycle([1]), 2)) == {:ok, [1, 1]}
    assert through(context, "pairs", %{"a" => 1}) == {:ok, [{"a", 1}]}
    assert through(context, "texts", ["a", ["b", ?c]]) == {:ok, ["a", "bc"]}
    large = Enum.to_list(1..20_000)
    assert through(context, "numbers", large) == {:ok, large}
    assert message(context, "numbers", [1, -1]) == ~s|argument 1 ("v")[1]: expected u32, got -1|
    for value <- [nil, 1, "a", %{}, {1}, [1 | 2]], do: message(context, "numbers", value)
    assert message(context, "numbers", Version.parse!("1.0.0")) =~ "a struct that is none"
    assert message(context, "pairs", %{"a" => -1}) =~ ~s|("v")[0][1]: expected u32, got -1|
  end

  test "a record is a map with WIT's names, given with atoms and in snake case as well",
       context do
    point = %{"x" => -1, "y-axis" => 0.5, "label" => "é", "tags" => ["a", ""], "on" => true}
    assert through(context, "a-point", point) == {:ok, point}
    atoms = %{x: -1, y_axis: 0.5, label: "é", tags: ["a", ""], on: true}
    assert through(context, "a-point", atoms) == {:ok, point}
    assert through(context, "points", [point, atoms]) == {:ok, [point, point]}

    assert message(context, "a-point", Map.delete(point, "y-axis")) =~
             ~s|("v").y-axis: expected f64, got nothing|

    assert message(context, "points", [point, %{point | "tags" => [:no]}]) ==
             ~s|argument 1 ("v")[1].tags[0]: expected string, got :no|

    assert message(context, "a-point", Map.put(point, "more", 1)) =~ ~s|got "more" as well|
    assert message(context, "a-point", Map.put(point, :x, 1)) =~ "got one of them twice"
    for value <- [nil, [], {1}, "a", [x: 1]], do: message(context, "a-point", value)
  end

  test "a tuple is a tuple", context do
    assert through(context, "pair", {1, "a"}) == {:ok, {1, "a"}}
    assert message(context, "pair", {1, 2}) =~ ~s|("v")[1]: expected string, got 2|
    for value <- [{1}, {1, "a", 2}, [1, "a"], nil], do: message(context, "pair", value)
  end

  test "a variant is its case, with its value where it has one", context do
    for value <- ["none", {"circle", 1.5}, {"named", "a"}, {"both", {1, "b"}}],
        do: assert(through(context, "a-shape", value) == {:ok, value})

    assert through(context, "a-shape", :none) == {:ok, "none"}
    assert through(context, "a-shape", {:circle, 2}) == {:ok, {"circle", 2.0}}
    assert message(context, "a-shape", "circle") =~ ~s|got "circle" alone|
    assert message(context, "a-shape", {"none", 1}) =~ ~s|got "none" with a value|
    assert message(context, "a-shape", {"both", {1, 2}}) =~ ~s|("v").both[1]: expected string|

    for value <- ["square", {"square", 1}, nil, {}, {"circle", 1, 2}],
        do: message(context, "a-shape", value)
  end

  test "an enum is its case's name, and flags are a list of theirs in order", context do
    for value <- ["red", "deep-blue"],
        do: assert(through(context, "a-color", value) == {:ok, value})

    assert through(context, "a-color", :deep_blue) == {:ok, "deep-blue"}
    assert through(context, "a-color", :"deep-blue") == {:ok, "deep-blue"}
    for value <- ["deep_blue", "blue", nil, 0], do: message(context, "a-color", value)

    assert through(context, "a-access", []) == {:ok, []}
    assert through(context, "a-access", ["write", :read]) == {:ok, ["read", "write"]}
    assert through(context, "a-access", MapSet.new([:all_else])) == {:ok, ["all-else"]}
    assert message(context, "a-access", ["read", "no"]) =~ ~s|("v")[1]|

    for value <- [nil, "read", %{}, 1, ["read" | "write"]],
        do: message(context, "a-access", value)
  end

  test "options and results are exact, also inside each other", context do
    for value <- [:none, {:some, 1}], do: assert(through(context, "maybe", value) == {:ok, value})
    assert through(context, "maybe", nil) == {:ok, :none}
    assert message(context, "maybe", {:some, -1}) =~ ~s|("v").some: expected u32, got -1|
    for value <- [1, {:some, nil}, :some], do: message(context, "maybe", value)

    for value <- [:none, {:some, :none}, {:some, {:some, 1}}],
        do: assert(through(context, "nested", value) == {:ok, value})

    for value <- [{:ok, 1}, {:error, "e"}],
        do: assert(through(context, "outcome", value) == {:ok, value})

    assert message(context, "outcome", {:error, 1}) =~ ~s|("v").error: expected string, got 1|
    for value <- [:ok, :error, {:ok, "a"}, nil, 1], do: message(context, "outcome", value)

    for value <- [:ok, :error],
        do: assert(through(context, "bare-outcome", value) == {:ok, value})

    for value <- [{:ok, 1}, nil], do: message(context, "bare-outcome", value)
  end

  test "no atom is made of what a guest gives, nor of what is looked for", context do
    for n <- 1..100 do
      name = "never-an-atom-#{n}"
      {:ok, ^name} = through(context, "text", name)
      message(context, "a-color", name)
      message(context, "a-point", %{name => 1})
    end

    for n <- 1..100 do
      assert_raise ArgumentError, fn -> String.to_existing_atom("never-an-atom-#{n}") end
      assert_raise ArgumentError, fn -> String.to_existing_atom("never_an_atom_#{n}") end
    end
  end

  test "what is given beyond the limit is refused before the guest runs", context do
    %{component: component, instance: instance} = context
    numbers = "acme:values/identity#numbers"

    assert {:error, %CallError{reason: :type, expected: "at most 4000 bytes" <> _}} =
             Executor.call(
               component,
               numbers,
               [Enum.to_list(1..200)],
               [max_transfer: 4_000] ++ imports()
             )

    assert {:ok, _} =
             Executor.call(
               component,
               numbers,
               [Enum.to_list(1..90)],
               [max_transfer: 4_000] ++ imports()
             )

    assert {:error, %CallError{}} =
             Instance.call(instance, "acme:values/identity#text", ["ab"],
               max_transfer: 1,
               wait: 60_000
             )

    refute Instance.poisoned?(instance)
  end
end
