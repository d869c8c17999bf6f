defmodule Cybernetic.WASM.Instance.Link.HostFunctionsTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Links}

  alias Cybernetic.WASM.{Executor, Host, Instance}
  alias Cybernetic.WASM.{CallError, HostError}

  describe "host functions of linked instances" do
    test "are each its own, whoever calls, and so are data, memory and exports of the context" do
      one = Instance.new!(member(1), imports: asked(:one), data: "d1")
      imports = Map.put(asked(:two), "one", one)
      two = Instance.new!(asking_both(), imports: imports, data: "d2")
      assert Instance.call(two, "both") == {:ok, [100, 200]}
      assert mailbox() == [{:one, "d1", "member 1"}, {:two, "d2", "member 2"}]

      assert Instance.call(one, "ask") == {:ok, 100}
      assert List.last(mailbox()) == {:one, "d1", "member 1"}
    end

    # The first calls whatever the second has put into its table, and the second's function asks the second's host.
    defp by_table do
      table =
        asking(~S"""
        (table $t (export "t") 1 funcref)
        (memory (export "memory") 1)
        (data (i32.const 0) "member 1")
        (type $i (func (result i32)))
        (func (export "number") (result i32) (i32.const 1))
        (func (export "indirectly") (result i32 i32)
          (call_indirect $t (type $i) (i32.const 0)) (call $f (i32.const 1)))
        """)

      filling =
        member(2,
          imports: ~S|(import "one" "t" (table $t 1 funcref))|,
          more: ~S|(elem (table $t) (i32.const 0) func $ask)|
        )

      one = Instance.new!(table, imports: asked(:one), data: "d1")
      {one, Instance.new!(filling, imports: Map.put(asked(:two), "one", one), data: "d2")}
    end

    test "are found by a callback through a table" do
      {one, two} = by_table()
      assert Instance.call(one, "indirectly") == {:ok, [200, 100]}
      assert mailbox() == [{:two, "d2", "member 2"}, {:one, "d1", "member 1"}]

      # Another process knows the first alone.
      task = Task.async(fn -> Instance.call(one, "indirectly") end)
      assert await(task) == {:ok, [200, 100]}
      assert length(mailbox()) == 4
      assert Instance.call(two, "number") == {:ok, 2}
    end

    test "of one whose handle nobody holds are gone, and a callback that needs them says so" do
      one = elsewhere(fn -> elem(by_table(), 0) end)

      eventually(fn ->
        case Instance.call(one, "indirectly") do
          {:ok, _} -> false
          {:error, %CallError{reason: :host_gone}} -> true
        end
      end)

      # The guest was cut off in the middle.
      assert Instance.poisoned?(one)
      assert Instance.reset(one) == :ok
      assert Instance.call(one, "number") == {:ok, 1}
    end

    test "call on into the others, each by its own context" do
      test = self()
      one = Instance.new!(member(1), imports: asked(:one), data: "d1")

      two =
        Instance.new!(
          member(2,
            imports: ~S|(import "one" "ask" (func $one (result i32)))|,
            more: ~S|(func (export "one") (result i32) (call $one))|
          ),
          imports:
            Map.put(
              f(fn ctx, 2 ->
                # By way of the first and its host function, and back in one's own memory.
                assert Host.call(ctx, "one") == {:ok, 100}
                {:ok, memory} = Host.read(ctx, 0, 8)
                send(test, {:two, Host.data(ctx), memory})
                assert {:error, %CallError{reason: :no_such_export}} = Host.call(ctx, "asks")
                7
              end),
              "one",
              one
            ),
          data: "d2"
        )

      assert Instance.call(two, "ask") == {:ok, 7}
      assert mailbox() == [{:one, "d1", "member 1"}, {:two, "d2", "member 2"}]
    end

    test "replaced for one call are replaced in the instance that is called" do
      one = Instance.new!(member(1), imports: f(fn _, _ -> 1 end), data: :one)

      two =
        Instance.new!(
          asking_both(),
          imports: Map.put(f(fn _, _ -> 2 end), "one", one),
          data: :two
        )

      replaced = f(fn ctx, _ -> if Host.data(ctx) == :other, do: 20, else: 0 end)

      assert Instance.call(two, "both", [], imports: replaced, data: :other) == {:ok, [1, 20]}
      assert Instance.call(two, "both") == {:ok, [1, 2]}
    end

    test "of one call on modules are given to all of them, each with its own memory" do
      one = member(1)

      two = asking_both()

      imports = Map.put(asked(:any), "one", one)
      assert Executor.call(two, "both", [], imports: imports, data: "d") == {:ok, [100, 200]}
      assert mailbox() == [{:any, "d", "member 1"}, {:any, "d", "member 2"}]
    end

    test "that raise are named, and poison all" do
      one = Instance.new!(member(1), imports: f(fn _, _ -> raise "one" end))

      two =
        Instance.new!(
          member(2,
            imports: ~S|(import "one" "ask" (func $one (result i32)))|,
            more: ~S|(func (export "run") (result i32) (call $one))|
          ),
          imports: Map.put(f(fn _, _ -> 2 end), "one", one)
        )

      assert {:error, %HostError{reason: %RuntimeError{message: "one"}, import: {"env", "f"}}} =
               Instance.call(two, "run")

      assert Instance.poisoned?(one) and Instance.poisoned?(two)
    end

    defmodule Declared do
      use Cybernetic.WASM.Host, module: "env"
      defimport(f(_ctx, n :: i32) :: i32, do: n + 1)
    end

    test "may be declared in a module, of which one member imports what another does not" do
      lib = member(5)

      module = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
          (import "lib" "ask" (func $ask (result i32)))
          (func (export "run") (result i32) (i32.add (call $ask) (call $f (i32.const 1)))))|)

      imports = [Declared, %{"lib" => lib}]
      assert Executor.call(module, "run", [], imports: imports) == {:ok, 8}

      lib = load!(~S|(module (func (export "ask") (result i32) i32.const 1))|)
      assert Executor.call(module, "run", [], imports: [Declared, %{"lib" => lib}]) == {:ok, 3}
    end
  end
end
