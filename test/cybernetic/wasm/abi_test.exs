defmodule Cybernetic.WASM.ABITest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Exchanges, Guests, Shapes}

  alias Cybernetic.WASM.{ABI, CallError, Executor, Instance, Memory, Module, Run}

  doctest Cybernetic.WASM.ABI

  setup_all do
    module = exchanging()
    {:ok, module: module, opts: [imports: asked()]}
  end

  defp guest(%{module: module, opts: opts}, more \\ []), do: Instance.new!(module, opts ++ more)

  describe "bytes come back" do
    test "whatever they are, from fresh and live guests, short and long", context do
      abi = packed()
      guest = guest(context, abi: abi)

      check_all(100, fn ->
        bytes = :rand.bytes(Enum.random([0, 1, 63, 64, 65, 1_000, 70_000]))

        assert Executor.call(context.module, "echo", [bytes], [abi: abi] ++ context.opts) ==
                 {:ok, bytes}

        assert Instance.call(guest, "echo", [bytes]) == {:ok, bytes}
      end)
    end

    test "megabytes too, whatever the scheduling", context do
      bytes = :rand.bytes(3_000_000)

      for scheduling <- [:adaptive, :inline, :dirty], _proven <- 1..5 do
        opts = [abi: packed(), scheduling: scheduling] ++ context.opts
        assert Executor.call(context.module, "echo", [bytes], opts) == {:ok, bytes}
      end
    end

    test "by every way to call", %{module: module} = context do
      opts = [abi: packed()] ++ context.opts

      assert {:ok, %Run{result: "hello", usage: usage}} =
               Executor.run(module, "echo", ["hello"], opts)

      assert usage.fuel > 0

      assert module |> Executor.async("echo", ["hello"], opts) |> Executor.await() ==
               {:ok, "hello"}

      assert module |> Executor.async_stream("echo", [["a"], ["b"]], opts) |> Enum.to_list() ==
               [{:ok, "a"}, {:ok, "b"}]

      assert [{:done, %Run{result: "hello"}}] =
               module
               |> Executor.stream("echo", ["hello"], [tagged: true] ++ opts)
               |> Enum.to_list()

      guest = guest(context)
      assert {:ok, %Run{result: "hello"}} = Instance.run(guest, "echo", ["hello"], abi: packed())

      assert guest |> Executor.async("echo", ["a"], abi: packed()) |> Executor.await() ==
               {:ok, "a"}

      server = start_supervised!({Instance, [module: module] ++ context.opts})
      assert Instance.call(server, "echo", ["hello"], abi: packed()) == {:ok, "hello"}

      assert Executor.with_instance(module, opts, &Instance.call!(&1, "echo", ["hello"])) ==
               {:ok, "hello"}
    end

    test "from a module that is linked with others", %{module: module} do
      outer =
        load!(
          ~S|(module
        (import "lib" "memory" (memory 1)) (import "lib" "alloc" (func $alloc (param i32) (result i32)))
        (import "lib" "echo" (func $echo (param i32 i32) (result i64)))
        (export "memory" (memory 0)) (export "alloc" (func $alloc))
        (func (export "echo") (param i32 i32) (result i64) (call $echo (local.get 0) (local.get 1))))|
        )

      abi = ABI.new(alloc: "alloc", result: :packed)
      imports = Map.put(asked(), "lib", module)
      assert Executor.call(outer, "echo", ["hello"], abi: abi, imports: imports) == {:ok, "hello"}
      instance = Instance.new!(outer, imports: imports)

      for text <- ["hello", "and again"],
          do: assert(Instance.call(instance, "echo", [text], abi: abi) == {:ok, text})
    end
  end

  describe "arguments" do
    test "are bytes in several forms, beside numbers", context do
      guest = guest(context)
      call = fn name, args, opts -> Instance.call(guest, name, args, abi: packed(opts)) end
      assert call.("echo", [{:bytes, ["he", ?l, ["lo"]]}], []) == {:ok, "hello"}
      assert call.("same", [{:cstring, ["hel", "lo"]}], result: :cstring) == {:ok, "hello"}
      assert call.("same", [{:pointer, ["hel", "lo"]}], result: {:fixed, 4}) == {:ok, "hell"}
      assert call.("into", [{:room, 8}, "hello"], result: :pair_at) == {:ok, "hello"}
      assert call.("second", ["first", 1.5, "second"], []) == {:ok, "second"}
      assert call.("second", ["first", :nan, "second"], []) == {:ok, "second"}
      assert call.("second", ["first", {:f64_bits, 1}, "second"], []) == {:ok, "second"}
      assert call.("add", [2, 3], result: :values) == {:ok, 5}
    end

    test "that look like bytes are values where that is said", context do
      guest = guest(context)
      vector = :rand.bytes(16)
      values = [abi: packed(result: :values)]
      assert Instance.call(guest, "vector", [{:value, vector}, "text"], values) == {:ok, vector}

      for term <- ["a text", %{a: 1}, {:pointer, "p"}, String.duplicate("long", 100), nil, [1]],
          do:
            assert(Instance.call(guest, "term", [{:value, term}, "text"], values) == {:ok, term})

      assert {:error, %CallError{reason: :own_handle, index: 0}} =
               Instance.call(guest, "term", [guest, "text"], values)

      assert {:error, %CallError{reason: :arity}} =
               Instance.call(guest, "vector", [vector, "text"], values)
    end

    test "of the wrong number or type are refused with where they stand", context do
      call = fn name, args ->
        Executor.call(context.module, name, args, [abi: packed()] ++ context.opts)
      end

      assert {:error, %CallError{reason: :arity, expected: 2, given: 3}} = call.("echo", ["a", 1])
      assert {:error, %CallError{reason: :arity, expected: 2, given: 0}} = call.("echo", [])

      assert {:error, %CallError{reason: :type, index: 1, given: "bytes"}} =
               call.("second", ["a", "b", 1])

      assert {:error, %CallError{reason: :type, index: 2}} = call.("second", ["a", 1.0, [], 1])
      assert_raise ArgumentError, fn -> call.("echo", [{:bytes, :none}]) end
      assert_raise ArgumentError, ~r/no zero byte/, fn -> call.("same", [{:cstring, "a\0b"}]) end
      assert_raise ArgumentError, ~r/room is a number/, fn -> call.("same", [{:room, -1}]) end
      assert_raise ArgumentError, ~r/proper list/, fn -> call.("echo", "a") end
    end
  end

  describe "an instance's own ABI" do
    test "holds for its calls, but for one that has another or none", context do
      guest = guest(context, abi: packed())
      assert Instance.call(guest, "echo", ["hello"]) == {:ok, "hello"}
      assert Instance.call(guest, "add", [2, 3], abi: nil) == {:ok, 5}

      assert Instance.call(guest, "same", [{:cstring, "a"}], abi: packed(result: :cstring)) ==
               {:ok, "a"}

      assert Instance.call(guest, "echo", ["hello"], fuel: 10_000) == {:ok, "hello"}
      assert Instance.reset(guest) == :ok
      assert Instance.call(guest, "echo", ["hello"]) == {:ok, "hello"}
    end

    test "is no matter of calls by reference, which take numbers", context do
      guest = guest(context, abi: packed())
      assert Instance.call_table(guest, "table", 0, [1, 2]) == {:ok, 0x1_0000_0002}

      assert_raise ArgumentError, ~r/called by their names/, fn ->
        Instance.call_table(guest, "table", 0, ["a"], abi: packed())
      end
    end

    test "is none of a program's, which is given its arguments otherwise" do
      program = load!(~S|(module (memory (export "memory") 1) (func (export "_start")))|)
      abi = ABI.new(alloc: "alloc", result: :packed)
      assert Executor.call(program, :start, [], abi: abi) == {:ok, 0}
      assert program |> Instance.new!(abi: abi) |> Instance.call(:start) == {:ok, 0}
    end

    test "is that of its forks", %{module: module} = context do
      guest = Instance.new!(module, [abi: packed(), snapshottable: true] ++ context.opts)
      # Its table is a constant one.
      assert Instance.call(guest, "echo", ["hello"]) == {:ok, "hello"}
      {:ok, fork} = Instance.fork(guest)
      assert Instance.call(fork, "echo", ["hello"]) == {:ok, "hello"}
    end
  end

  test "what was allocated is let go of, as the ABI says", context do
    guest = guest(context)
    freed = fn -> elem(Instance.get_global(guest, "freed"), 1) end
    call = fn opts -> Instance.call(guest, "echo", ["12345"], abi: ABI.new(opts)) end
    base = [alloc: "alloc", result: :packed]
    free = {"free", [:pointer, :size]}

    for {opts, sum} <- [
          {[], 0},
          {[free: free], 5},
          {[free: nil], 5},
          {[free_arguments: free], 10},
          {[free_result: free], 15},
          {[free: free, free_result: nil], 20},
          {[free: {"free", [:pointer, 100]}], 120}
        ] do
      assert call.(base ++ opts) == {:ok, "12345"}
      assert freed.() == sum
    end
  end

  test "a host function may be called wherever the guest wants to", context do
    test = self()
    asked = asked(fn _ctx, n -> send(test, {:asked, n}) && n end)
    abi = packed(alloc: "ask_and_alloc")
    guest = Instance.new!(context.module, imports: asked)
    assert {:ok, run} = Instance.run(guest, "ask_and_echo", ["hello"], abi: abi)
    assert {run.result, run.usage.host_calls} == {"hello", 2}
    for _ <- 1..2, do: assert_received({:asked, 5})
  end

  test "the bytes are in the memory that the ABI names" do
    module = load!(~S|(module (memory (export "one") 1) (memory (export "two") 1)
      (func (export "alloc") (param i32) (result i32) (i32.const 64))
      (func (export "first") (param i32 i32) (result i32) (i32.load8_u 0 (local.get 0)))
      (func (export "second") (param i32 i32) (result i32) (i32.load8_u 1 (local.get 0))))|)

    guest = Instance.new!(module)
    assert Instance.call(guest, "first", ["A"], abi: [alloc: "alloc"]) == {:ok, ?A}

    assert Instance.call(guest, "second", ["B"], abi: [alloc: "alloc", memory: "two"]) ==
             {:ok, ?B}

    assert Memory.read(guest, 64, 1, memory: "one") == {:ok, "A"}

    assert {:error, %CallError{reason: :no_memory, export: "three"}} =
             Instance.call(guest, "first", ["A"], abi: [alloc: "alloc", memory: "three"])
  end

  test "a module without what the ABI names is refused before it runs", context do
    refused = fn opts ->
      assert {:error, %CallError{blame: :caller} = error} =
               Executor.call(context.module, "echo", ["a"], [abi: opts] ++ context.opts)

      assert is_binary(Exception.message(error))
      error
    end

    assert %{reason: :no_allocator} = refused.(result: :packed)
    assert %{reason: :no_such_export, export: "malloc"} = refused.(alloc: "malloc")
    assert %{reason: :not_by_abi, export: "alloc"} = refused.(alloc: {"alloc", [:size, 1]})
    assert %{reason: :not_by_abi, export: "free"} = refused.(alloc: "alloc", free: "free")
    assert %{reason: :not_by_abi, export: "echo"} = refused.(alloc: "alloc", result: :pair)
    assert %{reason: :wrong_export_kind} = refused.(alloc: "memory")
  end

  test "options are checked" do
    for opts <- [
          [alloc: 1],
          [alloc: {"alloc", [:pointer]}],
          [alloc: {"alloc", [:size | 1]}],
          [alloc: <<0xFF>>],
          [free: {"free", ["size"]}],
          [free_arguments: {"free", [:result]}],
          [free: {"free", [0x8000_0000_0000_0000]}],
          [result: :utf8],
          [result: {:fixed, -1}],
          [memory: 1],
          [size: 1],
          :packed
        ] do
      assert_raise ArgumentError, fn -> ABI.new(opts) end
    end

    module = compute()

    for abi <- ["alloc", %{alloc: "alloc"}, [1], [aloc: "alloc"]],
        do: assert_raise(ArgumentError, fn -> Executor.call(module, "add", [2, 3], abi: abi) end)

    assert Executor.call(module, "add", [2, 3], abi: nil) == {:ok, 5}
    assert Executor.call(module, "add", [2, 3], abi: [], fuel: 1_000) == {:ok, 5}
  end

  test "one that is of another run of the VM is told from those that are good", context do
    other = %{packed() | ref: make_ref()}

    assert_raise ArgumentError, ~r/an ABI is only good in the VM that made it/, fn ->
      Instance.call(guest(context), "echo", ["a"], abi: other)
    end
  end

  test "it is shown by what it says" do
    assert inspect(packed()) =~ ~s(alloc: "alloc")
    refute inspect(packed()) =~ "Reference"
    assert %Module{} = exchanging()
  end
end
