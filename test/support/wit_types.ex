defmodule Cybernetic.WASM.WitTypes do
  @moduledoc false
  # Random types of WIT, as `Cybernetic.WASM.Component.type/2` tells them, and random values of each: right ones, in all the forms
  # that are accepted, and wrong ones with the place where they are wrong.

  import Cybernetic.WASM.Shapes, only: [bits: 1, signed: 2]

  @unsigned [u8: 8, u16: 16, u32: 32, u64: 64]
  @signed [s8: 8, s16: 16, s32: 32, s64: 64]
  @integers Keyword.keys(@unsigned ++ @signed)
  @plain [:bool, :f32, :f64, :char, :string] ++ @integers

  # Types

  @doc "A type with at most so many levels of others in it."
  def type(0), do: Enum.random(@plain ++ [{:list, :u8}, {:enum, names()}, {:flags, names()}])

  def type(depth) do
    case :rand.uniform(9) do
      1 -> type(0)
      2 -> {:list, type(depth - 1)}
      3 -> {:option, type(depth - 1)}
      4 -> {:tuple, several(fn -> type(depth - 1) end)}
      5 -> {:record, for(name <- names(), do: {name, type(depth - 1)})}
      6 -> {:variant, for(name <- names(), do: {name, maybe(depth - 1)})}
      7 -> {:result, maybe(depth - 1), maybe(depth - 1)}
      8 -> {:list, {:tuple, [type(0), type(depth - 1)]}}
      9 -> {:option, {:option, type(depth - 1)}}
    end
  end

  defp maybe(depth), do: if(:rand.uniform(3) > 1, do: type(depth))
  defp several(make), do: for(_ <- 1..:rand.uniform(4), do: make.())
  # Atoms are made of them, so they are few.
  defp names,
    do: for(n <- 1..:rand.uniform(5), do: Enum.random(["f", "the-f", "a-b-"]) <> "c#{n}")

  @memory ~S"""
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 1024))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (loop $grow
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
          (br $grow))))
    (local.get $at))
  """

  @doc """
  A component that gives back what it takes of these types: of the first, `whole0` takes a value and gives it, and `list0` a list
  of them. Both take and give them where they are in memory, whatever they are.
  """
  def component(types) do
    functions = types |> Enum.with_index() |> Enum.map_join("\n", &functions/1)

    """
    (component
      (core module $m
        #{@memory}
        (func (export "whole") (param i32) (result i32) (local.get 0))
        (func (export "list") (param i32 i32) (result i32)
          (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
          (i32.const 16))
        (func (export "reset") (param i32) (global.set $next (i32.const 1024))))
      (core instance $i (instantiate $m))
      #{functions})
    """
  end

  # What takes more than sixteen values takes them in memory, one after the other, as a tuple of them is given.
  @beside 16

  @doc "The arguments of `whole0` beside the value."
  def beside, do: List.duplicate(0, @beside)

  defp functions({type, index}) do
    {text, {declared, _last}} = text(type, {[], "#{index}x0"})
    params = for n <- 1..@beside, do: ~s|(param "p#{n}" u8)|

    """
    #{for {name, type} <- Enum.reverse(declared), do: exported(name, type)}
    (func (export "whole#{index}") (param "v" #{text}) #{params}
      (result (tuple #{text} #{String.duplicate("u8 ", @beside)}))
      (canon lift (core func $i "whole") #{options()}))
    (func (export "list#{index}") (param "v" (list #{text})) (result (list #{text}))
      (canon lift (core func $i "list") #{options()}))
    """
  end

  defp options do
    ~s|(memory (core memory $i "memory")) (realloc (core func $i "realloc")) | <>
      ~s|(post-return (core func $i "reset"))|
  end

  defp exported(name, type),
    do: ~s|(type $d#{name} #{type}) (export $t#{name} "t#{name}" (type $d#{name}))\n|

  @doc "A component whose `ask` calls `get` of the interface `a:b/c`, which gives a tuple: a value of the type, and 0."
  def asking(type) do
    {text, {declared, _last}} = text(type, {[], "0x0"})

    """
    (component
      (import "a:b/c" (instance $host
        #{for {name, type} <- Enum.reverse(declared), do: imported(name, type)}
        (export "get" (func (result (tuple #{text} u8))))))
      (core module $memory #{@memory})
      (core instance $memory (instantiate $memory))
      (core func $get (canon lower (func $host "get") (memory (core memory $memory "memory"))
        (realloc (core func $memory "realloc"))))
      (core module $m
        (import "host" "get" (func $get (param i32)))
        (func (export "ask") (call $get (i32.const 65536))))
      (core instance $i (instantiate $m (with "host" (instance (export "get" (func $get))))))
      (func (export "ask") (canon lift (core func $i "ask"))))
    """
  end

  defp imported(name, type),
    do: ~s|(type $d#{name} #{type}) (export "t#{name}" (type $t#{name} (eq $d#{name})))\n|

  # The text of a type. What has names in it must be exported, and is then known by that name.
  defp text(plain, declared) when is_atom(plain), do: {Atom.to_string(plain), declared}
  defp text({:list, type}, declared), do: around("list", [type], declared)
  defp text({:option, type}, declared), do: around("option", [type], declared)
  defp text({:tuple, types}, declared), do: around("tuple", types, declared)

  defp text({:result, ok, error}, declared) do
    {ok, declared} = optional(ok, "", declared)
    {error, declared} = optional(error, "error", declared)
    {"(result #{ok} #{error})", declared}
  end

  defp text({:record, fields}, declared) do
    {fields, declared} =
      Enum.map_reduce(fields, declared, fn {name, type}, declared ->
        {type, declared} = text(type, declared)
        {~s|(field "#{name}" #{type})|, declared}
      end)

    declare("(record #{Enum.join(fields, " ")})", declared)
  end

  defp text({:variant, cases}, declared) do
    {cases, declared} =
      Enum.map_reduce(cases, declared, fn {name, type}, declared ->
        {type, declared} = optional(type, "", declared)
        {~s|(case "#{name}" #{type})|, declared}
      end)

    declare("(variant #{Enum.join(cases, " ")})", declared)
  end

  defp text({kind, names}, declared) when kind in [:enum, :flags] do
    names = Enum.map_join(names, " ", &~s|"#{&1}"|)
    declare("(#{kind} #{names})", declared)
  end

  defp around(word, types, declared) do
    {types, declared} = Enum.map_reduce(types, declared, &text/2)
    {"(#{word} #{Enum.join(types, " ")})", declared}
  end

  defp optional(nil, _word, declared), do: {"", declared}

  defp optional(type, word, declared) do
    {type, declared} = text(type, declared)
    {if(word == "", do: type, else: "(#{word} #{type})"), declared}
  end

  defp declare(definition, {declared, last}) do
    name = last <> "y"
    {"$t#{name}", {[{name, definition} | declared], name}}
  end

  # Values

  @doc "A value, as it may be given and as it comes out."
  def value(:bool), do: same(Enum.random([true, false]))
  def value(type) when type in [:f32, :f64], do: float(:rand.uniform(6))
  def value(:string), do: text_value(random_text())

  def value(:char) do
    code = Enum.random([0, ?a, ?é, 0xD7FF, 0xE000, 0x10FFFF])
    {Enum.random([code, <<code::utf8>>]), code}
  end

  for {type, bits} <- @unsigned, do: def(value(unquote(type)), do: same(bits(unquote(bits))))

  for {type, bits} <- @signed,
      do: def(value(unquote(type)), do: same(signed(bits(unquote(bits)), unquote(bits))))

  def value({:list, :u8}) do
    bytes = :rand.bytes(:rand.uniform(20) - 1)
    {Enum.random([bytes, :binary.bin_to_list(bytes), [bytes, []]]), bytes}
  end

  def value({:list, type}) do
    {given, out} = Enum.unzip(for _ <- 1..(:rand.uniform(5) - 1)//1, do: value(type))
    given = if :rand.uniform(8) == 1, do: Stream.map(given, & &1), else: given
    {given, out}
  end

  def value({:tuple, types}) do
    {given, out} = types |> Enum.map(&value/1) |> Enum.unzip()
    {List.to_tuple(given), List.to_tuple(out)}
  end

  def value({:record, fields}) do
    values = for {name, type} <- fields, do: {name, value(type)}

    {Map.new(values, fn {name, {given, _}} -> {word(name), given} end),
     Map.new(values, fn {name, {_, out}} -> {name, out} end)}
  end

  def value({:variant, cases}) do
    case Enum.random(cases) do
      {name, nil} ->
        {word(name), name}

      {name, type} ->
        {given, out} = value(type)
        {{word(name), given}, {name, out}}
    end
  end

  def value({:enum, names}) do
    name = Enum.random(names)
    {word(name), name}
  end

  def value({:flags, names}) do
    set = Enum.filter(names, fn _ -> :rand.uniform(2) == 1 end)
    given = set |> Enum.shuffle() |> Enum.map(&word/1)
    {Enum.random([given, MapSet.new(given), given ++ given]), set}
  end

  def value({:option, type}) do
    if :rand.uniform(3) == 1 do
      {Enum.random([nil, :none]), :none}
    else
      {given, out} = value(type)
      {{:some, given}, {:some, out}}
    end
  end

  def value({:result, ok, error}) do
    {tag, type} = Enum.random(ok: ok, error: error)

    if type do
      {given, out} = value(type)
      {{tag, given}, {tag, out}}
    else
      same(tag)
    end
  end

  defp same(value), do: {value, value}

  defp float(1) do
    integer = :rand.uniform(100)
    {integer, integer / 1}
  end

  defp float(2), do: same(Enum.random([:nan, :infinity, :neg_infinity]))
  defp float(_), do: same((:rand.uniform(4_000) - 2_000) / 8)

  defp text_value(text), do: {Enum.random([text, [text], [text | ""], ["", [text]]]), text}

  defp random_text,
    do:
      for(
        _ <- 1..:rand.uniform(8),
        into: "",
        do: <<Enum.random([?a, ?é, 0x65E5, 0x1F600])::utf8>>
      )

  # As WIT has it, or as an atom of either spelling.
  defp word(name) do
    case :rand.uniform(3) do
      1 -> name
      2 -> String.to_atom(name)
      3 -> name |> String.replace("-", "_") |> String.to_atom()
    end
  end

  # Wrong values

  @doc "A term that is no value of the type, and the path to where it is wrong."
  def wrong(type) do
    if :rand.uniform(3) == 1, do: here(type), else: within(type)
  end

  defp within({:list, type}) when type != :u8 do
    before = for _ <- 1..:rand.uniform(3), do: elem(value(type), 0)
    {wrong, path} = wrong(type)
    {before ++ [wrong], "[#{length(before)}]#{path}"}
  end

  defp within({:tuple, types}) do
    at = :rand.uniform(length(types)) - 1
    {wrong, path} = types |> Enum.at(at) |> wrong()
    values = for type <- types, do: elem(value(type), 0)
    {values |> List.replace_at(at, wrong) |> List.to_tuple(), "[#{at}]#{path}"}
  end

  defp within({:record, fields} = record) do
    {name, type} = Enum.random(fields)
    {_, right} = value(record)
    {wrong, path} = wrong(type)

    case :rand.uniform(4) do
      1 -> {Map.delete(right, name), ".#{name}"}
      2 -> {Map.put(right, "no-such-field", 1), ""}
      _ -> {Map.put(right, name, wrong), ".#{name}#{path}"}
    end
  end

  defp within({:variant, cases}) do
    case Enum.random(cases) do
      {name, nil} ->
        {{name, 1}, ""}

      {name, type} ->
        {wrong, path} = wrong(type)
        Enum.random([{{name, wrong}, ".#{name}#{path}"}, {name, ""}])
    end
  end

  defp within({:option, type}) do
    {wrong, path} = wrong(type)
    {{:some, wrong}, ".some#{path}"}
  end

  defp within({:result, ok, error}) do
    case Enum.random(ok: ok, error: error) do
      {tag, nil} ->
        {{tag, 1}, ""}

      {tag, type} ->
        {wrong, path} = wrong(type)
        Enum.random([{{tag, wrong}, ".#{tag}#{path}"}, {tag, ""}])
    end
  end

  defp within({:flags, names}), do: {[hd(names), :no_such_name], "[1]"}
  defp within(type), do: here(type)

  # What no type takes, and what some do.
  @odd [:no_such_name, {}, {:a, :b, :c, :d, :e}, <<1::3>>, 36_893_488_147_419_103_232, [:x | :y]]

  defp here(type), do: {Enum.random([self(), make_ref()] ++ @odd ++ odd(type)), ""}

  defp odd(type) when type in @integers, do: [1.0, true, nil, "1", -9_223_372_036_854_775_809]
  defp odd(:bool), do: [nil, 0, 1, "true"]
  defp odd(:f32), do: [1.0e300, true, "1.0"]
  defp odd(:f64), do: [true, "1.0", nil]
  defp odd(:char), do: [0xD800, 0x110000, -1, "", "ab", <<255>>]
  defp odd(:string), do: [<<255>>, "a" <> <<0xED, 0xA0, 0x80>>, %{}, 1, nil, [1_000_000_000]]
  defp odd({:list, :u8}), do: [[256], [-1], %{}, 1, nil, ["a", :b]]
  defp odd({:list, _}), do: ["text", 1, nil, true]
  defp odd({:record, _}), do: [[], [a: 1], "text", nil]
  defp odd({:tuple, _}), do: [[], [1, 2], nil, "text"]
  defp odd({:variant, _}), do: [nil, 1, "no such name", {"no-such-case", 1}, %{}]
  defp odd({:enum, _}), do: [nil, 0, "no such name", ""]
  defp odd({:flags, _}), do: [nil, 0, "text", %{"a" => 1}]
  defp odd({:option, _}), do: [1, "text", true, {:some}, {:none, 1}, %{}]
  defp odd({:result, _, _}), do: [1, nil, "text", {:ok, 1, 2}, %{}]
end
