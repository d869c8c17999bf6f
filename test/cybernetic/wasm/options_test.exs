defmodule Cybernetic.WASM.OptionsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Options

  @even {"an even number", &__MODULE__.even?/1}

  @known [
    also: {:also, :time},
    any: :any,
    flag: :boolean,
    count: :count,
    size: :positive,
    time: {:milliseconds, 1},
    wait: {:milliseconds, 0},
    stack: {:bytes, 10..20},
    place: :path,
    colour: {:one_of, [:red, :green]},
    uri: {:struct, URI},
    even: @even,
    secret: {:unshown, @even}
  ]

  def even?(value), do: is_integer(value) and rem(value, 2) == 0

  defp check(opts), do: Options.check!(opts, @known, "test option")
  defp refusal(opts), do: Exception.message(assert_raise(ArgumentError, fn -> check(opts) end))

  test "an option that none of several checks knows is told with the keys of all" do
    known = [a: :boolean, b: :count, a: :path]
    assert Options.known!([b: :any, a: 1], known, "test option") == [b: :any, a: 1]

    for {opts, words} <- [
          {[colour: 1], "unknown test option :colour; known are: :a, :b"},
          {:none, "test options must be a keyword list, got: :none"},
          {[{"a", 1}], "test options must be a keyword list, got: a list"}
        ] do
      error = assert_raise ArgumentError, fn -> Options.known!(opts, known, "test option") end
      assert error.message == words
    end

    error = assert_raise ArgumentError, fn -> Options.known!(1, known, "option of a test") end
    assert error.message == "options of a test must be a keyword list, got: 1"
  end

  test "what each kind takes comes back as a map" do
    opts = [
      any: self(),
      flag: false,
      count: 0,
      size: 1,
      time: 1,
      wait: 0,
      stack: 20,
      place: "/srv",
      colour: :green,
      uri: URI.parse("/"),
      even: 2,
      secret: 4
    ]

    assert check(opts) == Map.new(opts)
  end

  test "what a kind does not take is told, with what it takes" do
    for {opt, expected} <- [
          {{:flag, nil}, "true or false"},
          {{:count, -1}, "an integer from 0 to 281474976710655"},
          {{:count, 0xFFFF_FFFF_FFFF + 1}, "an integer from 0 to 281474976710655"},
          {{:size, 0}, "an integer from 1 to 281474976710655"},
          {{:size, 1.0}, "an integer from 1 to 281474976710655"},
          {{:time, 0}, "an integer of milliseconds from 1 to 4294967295"},
          {{:wait, -1}, "an integer of milliseconds from 0 to 4294967295"},
          {{:wait, 4_294_967_296}, "an integer of milliseconds from 0 to 4294967295"},
          {{:stack, 21}, "an integer of bytes from 10 to 20"},
          {{:place, 'srv'}, "a path"},
          {{:colour, :blue}, "one of :red, :green"},
          {{:uri, "/"}, "a %URI{}"},
          {{:even, 1}, "an even number"}
        ] do
      {key, value} = opt
      got = inspect(value, limit: 5)
      assert refusal([opt]) == "option #{inspect(key)} must be #{expected}, got: #{got}"
    end
  end

  test "what may hold an environment's values is not shown" do
    assert refusal(secret: ["hunter2"]) == "option :secret must be an even number, got: a list"
    assert refusal(secret: %{a: "hunter2"}) =~ "got: a map"
    assert refusal(["hunter2"]) == "test options must be a keyword list, got: a list"
  end

  test "another name stands for its key, and not beside it" do
    assert check(also: 5) == %{time: 5}
    assert refusal(also: 0) =~ "option :also must be an integer of milliseconds from 1"
    both = ":time and :also are two names of one option: give one of them"
    assert refusal(also: 5, time: 5) == both
    assert refusal(time: 5, also: 5) == both
    assert Options.canonical(:also, @known) == :time
    assert Options.canonical(:flag, @known) == :flag
  end

  test "an unknown key is told with the likeliest and all that are known" do
    assert refusal(colur: :red) =~
             "unknown test option :colur (did you mean :colour?); known are: :also"

    assert refusal(zzz: 1) =~ "unknown test option :zzz; known are: :also, :any"

    assert_raise ArgumentError, "unknown test option :zzz: it belongs to zzz/1", fn ->
      Options.check!([zzz: 1], @known, "test option", &"it belongs to #{&1}/1")
    end
  end
end
