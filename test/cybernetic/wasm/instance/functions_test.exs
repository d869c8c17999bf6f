defmodule Cybernetic.WASM.Instance.FunctionsTest do
  # Function pointers: what stands in a guest's table, and references to functions, called by the host.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, Instance, LimitError, TrapError}

  @table "__indirect_function_table"

  # Registers callbacks with the host by their index or by reference, as C's `qsort` and `atexit` do.
  defp guest(opts \\ []) do
    ~S"""
    (module
      (import "env" "register" (func $register (param i32) (result i32)))
      (import "env" "pass" (func $pass (param funcref) (result i32)))
      (table (export "__indirect_function_table") 9 funcref)
      (table (export "terms") 2 externref)
      (memory (export "memory") 1)
      (global $calls (mut i32) (i32.const 0))
      (elem (i32.const 1) func $double $add $fail $spin $long $register $recurse)
      (func $double (param i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.mul (local.get 0) (i32.const 2)))
      (func $add (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
      (func $fail unreachable)
      (func $spin (loop (br 0)))
      (func $long (param i64 f64) (result f64 i64) (local.get 1) (local.get 0))
      (func $recurse (param i32) (result i32) (call $register (local.get 0)))
      (func (export "run") (param i32) (result i32) (call $register (local.get 0)))
      (func (export "pass") (result i32) (call $pass (ref.func $double)))
      (func (export "add") (result funcref) (ref.func $add))
      (func (export "keep") (param externref) (table.set 1 (i32.const 1) (local.get 0)))
      (func (export "calls") (result i32) (global.get $calls)))
    """
    |> load!()
    |> Instance.new!([imports: imports()] ++ opts)
  end

  defp imports(register \\ fn _ctx, n -> n + 100 end, pass \\ fn _ctx, _ref -> 0 end),
    do: %{"env" => %{"register" => register, "pass" => pass}}

  defp reason({:error, %CallError{reason: reason}}), do: reason

  describe "call_table" do
    test "calls what stands at an index" do
      instance = guest()
      assert Instance.call_table(instance, @table, 1, [21]) == {:ok, 42}
      assert Instance.call_table(instance, @table, 2, [40, 2]) == {:ok, 42}
      assert Instance.call_table(instance, @table, 5, [7, 1.5]) == {:ok, [1.5, 7]}
      assert Instance.call(instance, "calls") == {:ok, 1}
      # One that it imports, too.
      assert Instance.call_table(instance, @table, 6, [1]) == {:ok, 101}
    end

    test "works with a server's name, and takes a call's options" do
      start_supervised!({Instance, module: guest().module, imports: imports(), name: __MODULE__})
      assert Instance.call_table(__MODULE__, @table, 1, [4]) == {:ok, 8}
      other = imports(fn _ctx, n -> n + 1_000 end)
      assert Instance.call_table(__MODULE__, @table, 6, [1], imports: other) == {:ok, 1_001}

      assert {:error, %LimitError{limit: :fuel, allowed: 10_000}} =
               Instance.call_table(__MODULE__, @table, 4, [], fuel: 10_000)

      # The server has made it anew.
      assert Instance.call_table(__MODULE__, @table, 1, [4]) == {:ok, 8}
    end

    test "checks number and types of the arguments as with an export" do
      instance = guest()

      assert {:error, %CallError{reason: :arity, expected: 1, given: 2} = error} =
               Instance.call_table(instance, @table, 1, [1, 2])

      assert error.signature == "(func (param i32) (result i32))"

      assert {:error, %CallError{reason: :type, index: 1}} =
               Instance.call_table(instance, @table, 2, [1, "2"])

      assert Instance.call(instance, "calls") == {:ok, 0}

      for wrong <- [:no, [1 | 2], "1"] do
        assert_raise ArgumentError, fn -> Instance.call_table(instance, @table, 1, wrong) end
      end

      for wrong <- [-1, 1.0, nil, Integer.pow(2, 64)] do
        assert_raise ArgumentError, ~r/an index is an integer from 0/, fn ->
          Instance.call_table(instance, @table, wrong, [1])
        end
      end
    end

    test "says what is not there" do
      instance = guest()
      assert reason(Instance.call_table(instance, @table, 0)) == :no_function
      assert reason(Instance.call_table(instance, @table, 8)) == :no_function
      assert reason(Instance.call_table(instance, "terms", 0)) == :no_function
      assert reason(Instance.call_table(instance, @table, 9)) == :no_such_element
      assert reason(Instance.call_table(instance, "nope", 0)) == :no_such_export
      assert reason(Instance.call_table(instance, "memory", 0)) == :wrong_export_kind
      # A term of the host's that only looks like one.
      assert {:ok, nil} = Instance.call(instance, "keep", [make_ref()])
      assert reason(Instance.call_table(instance, "terms", 1)) == :type
      {:error, error} = Instance.call_table(instance, @table, 8)
      assert Exception.message(error) == ~s|the table "#{@table}" has no function at 8|
      refute Instance.poisoned?(instance)
    end

    test "that traps poisons the instance, or not, as any call does" do
      instance = guest()
      assert {:error, %TrapError{code: :unreachable}} = Instance.call_table(instance, @table, 3)
      assert Instance.poisoned?(instance)
      keeping = guest(on_trap: :keep)
      assert {:error, %TrapError{code: :unreachable}} = Instance.call_table(keeping, @table, 3)
      assert Instance.call_table(keeping, @table, 1, [3]) == {:ok, 6}
    end
  end

  describe "call_ref" do
    test "calls what a call returned, and what a table or a host function was given" do
      instance = guest()
      {:ok, add} = Instance.call(instance, "add")
      assert Instance.call_ref(instance, add, [1, 2]) == {:ok, 3}
      {:ok, double} = Instance.table_get(instance, @table, 1)
      assert Instance.call_ref(instance, double, [8]) == {:ok, 16}

      test = self()
      keep = fn _ctx, ref -> send(test, {:ref, ref}) && 0 end
      assert {:ok, 0} = Instance.call(instance, "pass", [], imports: imports(nil_fun(), keep))
      assert_received {:ref, ref}
      assert Instance.call_ref(instance, ref, [5]) == {:ok, 10}
    end

    test "refuses a reference of another guest, or of the one before a reset" do
      {one, other} = {guest(), guest()}
      {:ok, add} = Instance.call(one, "add")
      assert reason(Instance.call_ref(other, add, [1, 2])) == :other_instance
      refute Instance.poisoned?(other)
      assert Instance.reset(one) == :ok
      assert reason(Instance.call_ref(one, add, [1, 2])) == :other_instance
      {:error, error} = Instance.call_ref(one, add, [1, 2])
      assert Exception.message(error) =~ "another instance's, or from before a reset"
      assert reason(Instance.call_ref(one, make_ref(), [1, 2])) == :type

      for wrong <- [nil, 1, "add", :add] do
        assert_raise ArgumentError, ~r/a function reference/, fn ->
          Instance.call_ref(one, wrong, [])
        end
      end

      error = assert_raise ArgumentError, fn -> Instance.call_ref(one, "secret", "secret") end
      refute error.message =~ "secret"
    end

    test "is for linked instances as well, which share their store" do
      lib = Instance.new!(load!(~S|(module (func (export "f") (result i32) i32.const 7)
        (func (export "ref") (result funcref) (ref.func 0)))|))

      user = load!(~S|(module (import "lib" "f" (func $f (result i32)))
        (table (export "t") 1 funcref) (elem (i32.const 0) func $f))|)

      user = Instance.new!(user, imports: %{"lib" => lib})
      assert Instance.call_table(user, "t", 0) == {:ok, 7}
      {:ok, ref} = Instance.call(lib, "ref")
      assert Instance.call_ref(user, ref) == {:ok, 7}
    end
  end

  defp nil_fun, do: fn _ctx, n -> n end

  describe "in a host call" do
    test "the guest's callbacks are called by index, from the very call that registers them" do
      register = fn ctx, index ->
        {:ok, doubled} = Host.call_table(ctx, @table, index, [20])
        {:ok, sum} = Host.call_table(ctx, @table, 2, [doubled, 2])
        sum
      end

      instance = guest()
      assert Instance.call(instance, "run", [1], imports: imports(register)) == {:ok, 42}
      assert Instance.call(instance, "calls") == {:ok, 1}
      module = instance.module
      assert Executor.call(module, "run", [1], imports: imports(register)) == {:ok, 42}
    end

    test "and by reference" do
      pass = fn ctx, ref ->
        {:ok, n} = Host.call_ref(ctx, ref, [33])
        assert {:error, %CallError{reason: :arity}} = Host.call_ref(ctx, ref, [])
        assert {:error, %CallError{reason: :type}} = Host.call_ref(ctx, ref, ["1"])
        assert {:error, %CallError{reason: :type}} = Host.call_ref(ctx, make_ref(), [1])
        assert_raise ArgumentError, fn -> Host.call_ref(ctx, nil, [1]) end
        n
      end

      module = guest().module
      assert Executor.call(module, "pass", [], imports: imports(nil_fun(), pass)) == {:ok, 66}
    end

    test "they may call the host again, to the depth that the limits allow" do
      register = fn
        _ctx, 0 ->
          0

        ctx, n ->
          case Host.call_table(ctx, @table, 7, [n - 1]) do
            {:ok, depth} -> depth + 1
            {:error, %LimitError{limit: :reentrance}} -> -1_000
          end
      end

      instance = guest()
      assert Instance.call(instance, "run", [10], imports: imports(register)) == {:ok, 10}
      assert {:ok, depth} = Instance.call(instance, "run", [500], imports: imports(register))
      assert depth < 0
    end

    test "one that traps is an error to the host function, which decides" do
      # What Emscripten's `invoke_*` do.
      invoke = fn ctx, index ->
        case Host.call_table(ctx, @table, index) do
          {:ok, nil} -> 0
          {:error, %TrapError{code: :unreachable}} -> 1
          {:error, %CallError{reason: :no_function}} -> 2
          {:error, %CallError{reason: :no_such_element, index: index}} -> index
        end
      end

      opts = [imports: imports(invoke)]
      module = guest().module
      assert Executor.call(module, "run", [3], opts) == {:ok, 1}
      assert Executor.call(module, "run", [0], opts) == {:ok, 2}
      # A pointer is an unsigned number.
      assert Executor.call(module, "run", [-1], opts) == {:ok, -1}
      instance = guest()
      assert Instance.call(instance, "run", [3], opts) == {:ok, 1}
      assert Instance.poisoned?(instance)
    end

    test "they have what the call has left" do
      register = fn ctx, _n ->
        assert {:error, %LimitError{limit: :fuel}} = Host.call_table(ctx, @table, 4)
        0
      end

      opts = [imports: imports(register), fuel: 100_000]

      # The guest has nothing left, either, but to return.
      assert Executor.call(guest().module, "run", [1], opts) == {:ok, 0}
    end

    test "a reference of another guest is refused" do
      {:ok, foreign} = Instance.call(guest(), "add")

      register = fn ctx, _n ->
        assert {:error, %CallError{reason: :other_instance}} = Host.call_ref(ctx, foreign, [1, 2])
        5
      end

      assert Executor.call(guest().module, "run", [1], imports: imports(register)) == {:ok, 5}
    end

    test "nothing is called when the host call is over" do
      test = self()
      register = fn ctx, _n -> send(test, {:ctx, ctx}) && 1 end
      instance = guest()
      assert {:ok, 1} = Instance.call(instance, "run", [1], imports: imports(register))
      assert [{:ctx, ctx}] = mailbox()
      assert reason(Host.call_table(ctx, @table, 1, [1])) in [:stale_context, :busy]
    end

    test "what the host function raises for a callback is its own error" do
      register = fn ctx, index ->
        {:ok, n} = Host.call_table(ctx, @table, index, [1, 2, 3])
        n
      end

      assert {:error, %HostError{reason: {:badmatch, {:error, %CallError{reason: :arity}}}}} =
               Executor.call(guest().module, "run", [1], imports: imports(register))
    end
  end

  test "a function of WASI that stands in a table finds the memory of the instance that is asked" do
    module =
      load!(~S"""
      (module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (table (export "t") 1 funcref) (elem (i32.const 0) func $random))
      """)

    instance =
      Instance.new!(module, sandbox: Cybernetic.WASM.Sandbox.new(wasi: true, random: {:seeded, 1}))

    assert Instance.call_table(instance, "t", 0, [16, 8]) == {:ok, 0}
    assert {:ok, bytes} = Cybernetic.WASM.Memory.read(instance, 16, 8)
    assert bytes != <<0::64>>
  end
end
