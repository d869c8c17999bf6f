defmodule Cybernetic.WASM.Security.ComponentsTest do
  # Components of strangers: what they give, what they are, and what they leave behind.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plenty

  alias Cybernetic.WASM.{ABI, CallError, Component, Executor, Instance, LimitError, LoadError}
  alias Cybernetic.WASM.{Memory, Module, Runtime, TrapError}

  @greeter "priv/wasm/greeter.wasm"

  # A list of `count` strings that are all the same bytes, which stand in the guest once; and other results that lie.
  @liar ~S"""
  (component
    (core module $m
      (memory (export "memory") 32)
      (func (export "same") (param $count i32) (param $length i32) (result i32)
        (local $n i32)
        (loop $each
          (i32.store (i32.add (i32.const 1024) (i32.mul (local.get $n) (i32.const 8))) (i32.const 16))
          (i32.store (i32.add (i32.const 1028) (i32.mul (local.get $n) (i32.const 8))) (local.get $length))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $each (i32.lt_u (local.get $n) (local.get $count))))
        (i32.store (i32.const 8) (i32.const 1024)) (i32.store (i32.const 12) (local.get $count))
        (i32.const 8))
      (func (export "text") (param $at i32) (param $length i32) (result i32)
        (i32.store (i32.const 8) (local.get $at)) (i32.store (i32.const 12) (local.get $length))
        (i32.const 8))
      (func (export "number") (param i32) (result i32) (local.get 0)))
    (core instance $i (instantiate $m))
    (func (export "same") (param "count" u32) (param "length" u32) (result (list string))
      (canon lift (core func $i "same") (memory (core memory $i "memory"))))
    (func (export "text") (param "at" u32) (param "length" u32) (result string)
      (canon lift (core func $i "text") (memory (core memory $i "memory"))))
    (func (export "list") (param "at" u32) (param "length" u32) (result (list u8))
      (canon lift (core func $i "text") (memory (core memory $i "memory"))))
    (func (export "char") (param "n" u32) (result char) (canon lift (core func $i "number")))
    (type $color (enum "red" "green")) (export $exported "color" (type $color))
    (func (export "enum") (param "n" u32) (result $exported) (canon lift (core func $i "number"))))
  """

  defp liar, do: Runtime.load_module!({:bytes, @liar})

  test "a list of strings that are the same bytes is counted as what the host would hold" do
    assert {:error, %LimitError{limit: :transfer, blame: :guest}} =
             Executor.call(liar(), "same", [100_000, 1_000_000], forever())

    assert {:ok, texts} = Executor.call(liar(), "same", [1_000, 10], forever())
    assert length(texts) == 1_000
  end

  test "strings and lists of gigabytes are refused before anything is copied" do
    before = :erlang.memory(:total)

    for name <- ["text", "list"] do
      assert {:error, error} = Executor.call(liar(), name, [0, 0x7FFF_FFFF], forever())
      assert error.__struct__ in [LimitError, TrapError]
    end

    assert :erlang.memory(:total) - before < 50_000_000
  end

  test "what is no value of its type is a trap that poisons" do
    for {name, args} <- [
          {"text", [0xFFFF_FFF0, 4]},
          {"text", [2_097_150, 4]},
          {"list", [0xFFFF_FFFF, 1]},
          {"char", [0xD800]},
          {"char", [0x110000]},
          {"enum", [2]}
        ] do
      {:ok, live} = Instance.new(liar())

      assert {:error, %TrapError{code: :invalid_value, blame: :guest}} =
               Instance.call(live, name, args)

      assert {:error, %CallError{reason: :poisoned}} = Instance.call(live, "enum", [0])
      :ok = Instance.reset(live)
      assert Instance.call(live, "enum", [1]) == {:ok, "green"}
    end
  end

  test "wrong arguments leave nothing behind, however many come" do
    {:ok, live} = Instance.new(Runtime.load_module!(@greeter))
    place = "acme:shop/orders#place"

    wrong = [
      [%{item: "a", count: -1}],
      [%{item: "a"}],
      %{},
      nil,
      [[]],
      [%{item: <<255>>, count: 1}]
    ]

    for _ <- 1..2_000, args <- wrong do
      {:error, %CallError{reason: :type}} = Instance.call(live, place, [args])
    end

    before = Runtime.stats().total_memory
    for _ <- 1..2_000, args <- wrong, do: {:error, _} = Instance.call(live, place, [args])
    assert Runtime.stats().total_memory <= before + 1_000_000
    assert {:ok, {:ok, _}} = Instance.call(live, place, [[%{item: "tea", count: 1}]])
  end

  test "damaged components are errors, or run" do
    whole = File.read!(@greeter)
    :rand.seed(:exsss, {1, 2, 3})

    for round <- 1..150 do
      damaged =
        case rem(round, 3) do
          0 -> binary_part(whole, 0, :rand.uniform(byte_size(whole)) - 1)
          _ -> flip(whole, :rand.uniform(byte_size(whole)) - 1)
        end

      case Runtime.load_module({:bytes, damaged}) do
        {:ok, component} ->
          assert {_, _} = Executor.call(component, "greet", ["a"], fuel: 100_000)

        {:error, error} ->
          assert error.__struct__ in [LoadError, LimitError]
      end
    end
  end

  defp flip(bytes, at) do
    <<before::binary-size(at), byte, rest::binary>> = bytes
    <<before::binary, Bitwise.bxor(byte, Enum.random(1..255)), rest::binary>>
  end

  test "a trap after the return is the call's, though there was a result, and poisons" do
    post = ~S"""
    (component
      (core module $m
        (memory (export "memory") 1)
        (func (export "f") (result i32)
          (i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 3))
          (i32.const 8))
        (func (export "trap") (param i32) unreachable)
        (func (export "spin") (param i32) (loop (br 0)))
        (func (export "deep") (param i32) (call 3 (local.get 0))))
      (core instance $i (instantiate $m))
      (func (export "trap") (result string) (canon lift (core func $i "f")
        (memory (core memory $i "memory")) (post-return (core func $i "trap"))))
      (func (export "spin") (result string) (canon lift (core func $i "f")
        (memory (core memory $i "memory")) (post-return (core func $i "spin"))))
      (func (export "deep") (result string) (canon lift (core func $i "f")
        (memory (core memory $i "memory")) (post-return (core func $i "deep")))))
    """

    component = Runtime.load_module!({:bytes, post})

    for {name, kind, opts} <- [
          {"trap", TrapError, []},
          {"spin", LimitError, [fuel: 1_000_000]},
          {"spin", LimitError, [timeout: 20]},
          {"deep", LimitError, []}
        ] do
      assert {:error, %^kind{blame: :guest}} = Executor.call(component, name, [], forever(opts))
      {:ok, live} = Instance.new(component)
      assert {:error, %^kind{}} = Instance.call(live, name, [], forever(opts))
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(live, name)
    end
  end

  test "bytes of one kind under the header of the other are refused" do
    <<header::binary-size(8), component::binary>> = File.read!(@greeter)
    <<module_header::binary-size(8), module::binary>> = File.read!("priv/wasm/compute.wasm")
    assert {:error, %LoadError{}} = Runtime.load_module({:bytes, module_header <> component})
    assert {:error, %LoadError{}} = Runtime.load_module({:bytes, header <> module})
    assert {:ok, %Component{}} = Runtime.load_module({:bytes, header})
    assert {:ok, %Module{}} = Runtime.load_module({:bytes, module_header})
  end

  test "what is for modules is refused for components in words, and harms no instance" do
    greeter = Runtime.load_module!(@greeter)
    {:ok, live} = Instance.new(greeter)
    module = Runtime.load_module!({:bytes, ~S|(module (import "env" "f" (func)))|})

    asking =
      Runtime.load_module!(
        {:bytes, ~S|(component (import "a:b/c" (instance (export "f" (func)))))|}
      )

    of_module = Runtime.load_module!("priv/wasm/compute.wasm")

    refused = [
      fn -> Executor.call(greeter, "greet", ["a"], abi: ABI.new(alloc: "alloc")) end,
      fn -> Executor.run(greeter, :start) end,
      fn -> Instance.new(greeter, snapshottable: true) end,
      fn -> Instance.new(greeter, on_trap: :keep) end,
      fn -> Instance.snapshot(live) end,
      fn -> Instance.fork(live) end,
      fn -> Runtime.preinit(greeter, "greet", ["a"]) end,
      fn -> Instance.new(module, imports: %{"env" => greeter}) end,
      fn -> Instance.new(module, imports: %{"env" => live}) end,
      fn -> Instance.new(asking, imports: %{"a:b/c" => of_module}) end,
      fn -> Memory.read(live, 0, 1) end,
      fn -> Memory.write(live, 0, "a") end,
      fn -> Memory.size(live) end,
      fn -> Instance.get_global(live, "g") end,
      fn -> Instance.call(live, "greet", [1]) end
    ]

    for {refused, index} <- Enum.with_index(refused) do
      assert %{__exception__: true} = error = refusal(refused), "#{index}"
      assert Exception.message(error) != "", "#{index}"
    end

    assert Instance.call(live, "greet", ["Ada"]) == {:ok, "Hello, Ada!"}
  end

  # Mistakes in options raise, what only this component cannot do is an error.
  defp refusal(work) do
    case work.() do
      {:error, error} -> error
      other -> flunk("not refused: #{inspect(other)}")
    end
  rescue
    error in ArgumentError -> error
  end

  test "a component that never ends is ended, and an instance of it holds nobody up" do
    spin = ~S|(component (core module $m (func (export "f") (loop (br 0))))
      (core instance $i (instantiate $m)) (func (export "f") (canon lift (core func $i "f"))))|

    {:ok, component} = Runtime.load_module({:bytes, spin})

    assert {:error, %LimitError{limit: :timeout}} =
             Executor.call(component, "f", [], forever(timeout: 50))

    start =
      ~S|(component (core module $m (func $f (loop (br 0))) (start $f)) (core instance (instantiate $m)))|

    {:ok, component} = Runtime.load_module({:bytes, start})
    assert {:error, %LimitError{limit: :fuel}} = Instance.new(component, fuel: 1_000_000)
  end
end
