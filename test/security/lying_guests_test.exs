defmodule Cybernetic.WASM.Security.LyingGuestsTest do
  # Guests that pass bytes, and give pointers and lengths that cannot be, or never come to an end: an error with what they gave,
  # within the call's limits, and nothing of anybody else's memory.
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Exchanges, Guests, Shapes}

  alias Cybernetic.WASM.{
    ABI,
    ABIError,
    CallError,
    Error,
    Executor,
    Instance,
    LimitError,
    TrapError
  }

  @memory 131_072

  setup_all do
    {:ok, module: exchanging(), opts: [imports: asked()]}
  end

  test "any pointer and length give what is there, or the error that says what was given",
       context do
    guest = Instance.new!(context.module, context.opts)
    abi = ABI.new(result: :packed)

    check_all(300, fn ->
      [pointer, length] = for _ <- 1..2, do: Enum.random([bits(32), Enum.random(0..@memory)])
      given = signed(bor(pointer <<< 32, length), 64)

      case Instance.call(guest, "give", [given], abi: abi) do
        {:ok, bytes} ->
          assert pointer + length <= @memory
          assert byte_size(bytes) == length

        {:error, %ABIError{reason: :out_of_bounds} = error} ->
          assert pointer + length > @memory
          assert {error.offset, error.length, error.size} == {pointer, length, @memory}
          assert {error.export, Error.blame(error)} == {"give", :guest}
          assert Exception.message(error) =~ "outside its memory of 131,072 bytes"
          assert error.usage.fuel > 0
      end

      refute Instance.poisoned?(guest)
    end)
  end

  test "an allocator that gives nothing, or what is not there, is told", context do
    call =
      &Executor.call(context.module, "echo", ["hello"], [abi: packed(alloc: &1)] ++ context.opts)

    assert {:error, %ABIError{reason: :no_room, export: "none", length: 5} = error} =
             call.("none")

    assert Exception.message(error) =~ "no room for 5 bytes"

    assert {:error,
            %ABIError{reason: :out_of_bounds, export: "far", offset: 0xFFFF_FFF8, length: 5}} =
             call.("far")
  end

  test "an allocator that traps or loops ends as any function does, and poisons its guest",
       context do
    for {alloc, limits, kind} <- [
          {"fail", [], TrapError},
          {"spin", [fuel: 100_000], LimitError},
          {"spin", [fuel: 1_000_000_000_000, timeout: 50], LimitError}
        ] do
      opts = [abi: packed(alloc: alloc)] ++ limits ++ context.opts
      assert {:error, %^kind{blame: :guest}} = Executor.call(context.module, "echo", ["a"], opts)
      guest = Instance.new!(context.module, opts)
      assert {:error, %^kind{}} = Instance.call(guest, "echo", ["a"])
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(guest, "echo", ["a"])
      assert Instance.reset(guest) == :ok
      assert Instance.call(guest, "echo", ["a"], abi: packed()) == {:ok, "a"}
    end
  end

  test "what a guest gives without end is no more than its output may be", context do
    opts = [max_output: 1_000, abi: packed()] ++ context.opts
    guest = Instance.new!(context.module, opts)

    assert {:error, %LimitError{limit: :output, allowed: 1_000, used: 1_001, set_by: :instance}} =
             Instance.call(guest, "echo", [String.duplicate("a", 1_001)])

    assert {:ok, _} = Instance.call(guest, "echo", [String.duplicate("a", 1_000)])
    strings = packed(result: :cstring)

    assert {:error, %LimitError{limit: :output}} =
             Instance.call(guest, "same", [{:cstring, String.duplicate("a", 1_001)}], abi: strings)

    # A budget is for all of its results together.
    guest = Instance.new!(context.module, [budget: true] ++ opts)
    assert {:ok, _} = Instance.call(guest, "echo", [String.duplicate("a", 600)])

    assert {:error, %LimitError{limit: :output, used: 1_200}} =
             Instance.call(guest, "echo", [String.duplicate("a", 600)])
  end

  test "what a guest allocates counts as its memory", context do
    opts = [max_memory: 1_000_000, abi: packed()] ++ context.opts
    bytes = :binary.copy("a", 2_000_000)

    assert {:error, %ABIError{reason: :no_room, length: 2_000_000}} =
             Executor.call(context.module, "echo", [bytes], opts)
  end

  test "a string that nothing ends is told", context do
    module = load!(~S|(module (memory (export "memory") 1) (data (i32.const 65530) "ending")
      (func (export "f") (result i32) (i32.const 65530)))|)

    assert {:error, %ABIError{reason: :unterminated, offset: 65_530, size: 65_536} = error} =
             Executor.call(module, "f", [], abi: ABI.new(result: :cstring))

    assert Exception.message(error) =~ "no zero byte ends"
    assert context.module
  end

  test "a caller that is killed in the middle of it takes its guest along", context do
    test = self()

    opts = [
      abi: packed(alloc: "ask_and_alloc"),
      imports: asked(fn _ctx, _n -> send(test, :inside) && Process.sleep(:infinity) end)
    ]

    guest = Instance.new!(context.module, opts)
    caller = spawn(fn -> Instance.call(guest, "echo", ["hello"]) end)
    assert_receive :inside, 60_000
    Process.exit(caller, :kill)
    eventually(fn -> Instance.poisoned?(guest) end)
  end
end
