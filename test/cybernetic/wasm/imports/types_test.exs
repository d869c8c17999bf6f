defmodule Cybernetic.WASM.Imports.TypesTest do
  # One name imported with several types, and functions that take whatever there is.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Guests, Eventually}

  alias Cybernetic.WASM.{Executor, Host, HostError, Instance, LinkError, Run}

  # A logger: one name, four types.
  defp logger(more \\ "") do
    load!("""
    (module
      (import "env" "log" (func $i (param i32) (result i32)))
      (import "env" "log" (func $f (param f64) (result i32)))
      (import "env" "log" (func $ii (param i32 i32) (result i32)))
      (import "env" "log" (func $none))
      (import "env" "log" (func $again (param i32) (result i32)))
      #{more}
      (func (export "run") (result i32 i32 i32 i32)
        (call $none)
        (call $i (i32.const 5)) (call $f (f64.const 1.5))
        (call $ii (i32.const 6) (i32.const 7)) (call $again (i32.const 8))))
    """)
  end

  defp log(log), do: %{"env" => %{"log" => log}}

  # The same answer on every path: a fresh instance, a live one, one beside others, and each once more after a reset.
  defp on_every_path(module, imports, function \\ "run") do
    lib = load!(~S|(module (memory (export "m") 1))|)
    live = Instance.new(module, imports: imports)
    beside = Instance.new(module, imports: imports, store: Instance.new!(lib))

    called = for {:ok, instance} <- [live, beside], do: Instance.call(instance, function)
    for {:ok, instance} <- [live, beside], do: :ok = Instance.reset(instance)
    again = for {:ok, instance} <- [live, beside], do: Instance.call(instance, function)
    refused = for {:error, _error} = refused <- [live, beside], do: refused

    Enum.uniq(
      [Executor.call(module, function, [], imports: imports)] ++ called ++ again ++ refused
    )
  end

  test "an import gets the first function that fits it, by arity or by type" do
    functions = [
      {fn _ctx, n -> n + 100 end, type: {[:i32], [:i32]}},
      {fn _ctx, x -> trunc(x * 10) end, type: {[:f64], [:i32]}},
      fn _ctx, a, b -> a * b end,
      fn _ctx -> :ignored end
    ]

    assert on_every_path(logger(), log(functions)) == [{:ok, [105, 15, 42, 108]}]
  end

  test "a variadic function fits every type, and knows what was called" do
    test = self()

    variadic =
      {fn ctx, args ->
         send(test, {Host.imported_as(ctx), args})
         length(args)
       end, args: :list}

    assert {:ok, [1, 1, 2, 1]} = Executor.call(logger(), "run", [], imports: log(variadic))

    assert mailbox() ==
             for(args <- [[], [5], [1.5], [6, 7], [8]], do: {{"env", "log"}, args})

    # The first that fits is taken.
    functions = [fn _ctx, a, b -> a - b end, variadic]
    assert on_every_path(logger(), log(functions)) == [{:ok, [1, 1, -1, 1]}]
  end

  test "a variadic function may be waited for" do
    variadic =
      {fn _ctx, args -> Task.async(fn -> Enum.sum(args) |> trunc() end) end,
       async: true, args: :list}

    assert Executor.call(logger(), "run", [], imports: log(variadic)) == {:ok, [5, 1, 13, 8]}
  end

  test "more parameters than a function of Elixir's can have are a list" do
    params = String.duplicate(" i32", 300)
    consts = for n <- 1..300, into: "", do: "(i32.const #{n})"

    module =
      load!("""
      (module (import "env" "log" (func $many (param#{params}) (result i32)))
        (func (export "run") (result i32) (call $many #{consts})))
      """)

    variadic = {fn _ctx, args -> Enum.sum(args) end, args: :list}
    assert on_every_path(module, log(variadic)) == [{:ok, Enum.sum(1..300)}]

    assert {:error, %LinkError{problems: [%{reason: reason}]}} =
             Executor.call(module, "run", [], imports: log(fn _ctx, _list -> 1 end))

    assert reason =~ "give {function, args: :list}"
  end

  test "what a variadic function returns is checked as any other's is" do
    variadic = {fn _ctx, _args -> "text" end, args: :list}
    assert {:error, %HostError{}} = Executor.call(logger(), "run", [], imports: log(variadic))
  end

  test "a type that nothing is given for is named with what was given, on every path" do
    given = [{fn _ctx, n -> n end, type: {[:i32], [:i32]}}, fn _ctx, a, b -> a + b end]

    for result <- on_every_path(logger(), log(given)) do
      assert {:error, %LinkError{problems: problems}} = result
      assert Enum.map(problems, & &1.wanted) == ["(func (param f64) (result i32))", "(func)"]

      for %{reason: reason} <- problems do
        assert reason =~ "none of the 2 that were given fits"
        assert reason =~ "it was given for the type (func (param i32) (result i32))"
      end
    end
  end

  test "lists of anything else are refused" do
    for wrong <- [[], [1], [fn _ctx -> 1 end | :more], [fn _ctx -> 1 end, async: true], [:a]] do
      assert {:error, %LinkError{problems: [%{reason: reason} | _]}} =
               Executor.call(logger(), "run", [], imports: log(wrong))

      assert reason =~ "a function is needed"
    end

    for wrong <- [
          [args: :all],
          [type: :i32],
          [type: {[:int], []}],
          [type: {[:i32 | :i32], []}],
          [args: true]
        ] do
      assert {:error, %LinkError{problems: [%{reason: reason} | _]}} =
               Executor.call(logger(), "run", [], imports: log({fn _ctx -> 1 end, wrong}))

      assert reason =~ "the options of a function are"
    end
  end

  test "another guest's export may stand beside functions of the host" do
    lib = load!(~S|(module (func (export "half") (param f64) (result i32)
      (i32.trunc_f64_s (f64.div (local.get 0) (f64.const 0.5)))))|)

    # A function of another guest fits any type until it is linked: it comes where it is the one for its type.
    module =
      load!(~S"""
      (module
        (import "env" "log" (func $ii (param i32 i32) (result i32)))
        (import "env" "log" (func $f (param f64) (result i32)))
        (func (export "run") (result i32 i32)
          (call $ii (i32.const 6) (i32.const 7)) (call $f (f64.const 3))))
      """)

    functions = [fn _ctx, a, b -> a * b end, {lib, "half"}]
    assert on_every_path(module, log(functions)) == [{:ok, [42, 6]}]
  end

  test "functions of WASI may be answered so, too" do
    module =
      load!(~S"""
      (module
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "run") (result i32) (call $close (i32.const 1))))
      """)

    imports = %{
      "wasi_snapshot_preview1" => %{"fd_close" => {fn _ctx, [fd] -> fd + 40 end, args: :list}}
    }

    assert Executor.call(module, "run", [], imports: imports) == {:ok, 41}
  end

  test "each host call is counted, whichever of the functions it is" do
    functions = {fn _ctx, args -> length(args) end, args: :list}
    assert {:ok, %Run{usage: usage}} = Executor.run(logger(), "run", [], imports: log(functions))
    assert usage.host_calls == 5
  end

  test "a call on an instance may bring others" do
    instance =
      Instance.new!(logger(), imports: log({fn _ctx, args -> length(args) end, args: :list}))

    other = log({fn _ctx, _args -> 9 end, args: :list})
    assert Instance.call(instance, "run", [], imports: other) == {:ok, [9, 9, 9, 9]}
    assert Instance.call(instance, "run") == {:ok, [1, 1, 2, 1]}
  end

  test "a snapshot of such a module is one again" do
    imports = log({fn _ctx, args -> length(args) end, args: :list})
    module = logger(~S|(memory (export "memory") 1)|)
    instance = Instance.new!(module, imports: imports, snapshottable: true)
    assert {:ok, fork} = Instance.fork(instance)
    assert Instance.call(fork, "run") == {:ok, [1, 1, 2, 1]}
  end
end
