defmodule Cybernetic.WASM.Instance.Link.StoreTest do
  # What linked instances share, and what each has for itself.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Links, Plenty, Turns}

  alias Cybernetic.WASM.{Executor, Host, Instance, Memory, Module, Run}
  alias Cybernetic.WASM.{CallError, LinkError}

  describe "store:" do
    test "has an instance made beside another, without importing from it" do
      one = Instance.new!(base())
      other = Instance.new!(base(), store: one)
      assert inspect(other) =~ "member 1>"
      assert Instance.call(one, "bump", [1]) == {:ok, 1}
      assert Instance.call(other, "bump", [5]) == {:ok, 5}
      assert Instance.get_global(one, "n") == {:ok, 1}
      assert Instance.get_global(other, "n") == {:ok, 5}
      :ok = Memory.write(one, 0, "one")
      assert Memory.read(other, 0, 3) == {:ok, <<0, 0, 0>>}
    end

    test "makes function references of one good in the other" do
      module = load!(~S|(module (func $self (export "self") (result funcref) (ref.func $self))
        (func (export "take") (param funcref) (result i32) (ref.is_null (local.get 0))))|)

      one = Instance.new!(module)
      other = Instance.new!(module, store: one)
      reference = Instance.call!(one, "self")
      assert Instance.call(other, "take", [reference]) == {:ok, 0}
    end

    test "makes both take turns" do
      one = live()
      other = Instance.new!(base(), store: one)

      waiting =
        while_held(one, fn ->
          assert {:error, %CallError{reason: :busy}} = Instance.call(other, "bump", [1])
          assert {:error, %CallError{reason: :busy}} = Memory.size(other)
          in_line(fn -> Instance.call(other, "bump", [1], wait: never()) end)
        end)

      assert await(waiting) == {:ok, 1}
    end

    test "has a host function of one find the other busy by its handle" do
      one = Instance.new!(base())
      test = self()

      imports =
        f(fn _ctx, n ->
          send(test, {:other, Instance.call(one, "bump", [1]), Memory.size(one)})
          n
        end)

      other = Instance.new!(counter(), imports: imports, store: one)
      assert Instance.call(other, "run", [3]) == {:ok, 3}

      assert_received {:other, {:error, %CallError{reason: :busy}},
                       {:error, %CallError{reason: :busy}}}

      assert Instance.call(one, "bump", [1]) == {:ok, 1}
    end

    test "ends them together" do
      one = Instance.new!(base())
      other = Instance.new!(base(), store: one)
      assert Instance.close(other) == :ok
      assert {:error, %CallError{reason: :closed}} = Instance.call(one, "bump", [1])
      assert {:error, %CallError{reason: :closed}} = Instance.new(base(), store: one)
    end
  end

  describe "metering and determinism, given to a call or to new" do
    defp adding do
      {load!(~S|(module (func (export "add") (param f32) (result f32)
         (f32.add (local.get 0) (f32.const 1))))|),
       load!(~S|(module (import "lib" "add" (func $add (param f32) (result f32)))
         (func (export "run") (param f32) (result i32)
           (i32.reinterpret_f32 (call $add (local.get 0)))))|)}
    end

    test "are those of all the modules: they are compiled once more" do
      {lib, module} = adding()
      imports = %{"lib" => lib}
      payload = {:f32_bits, 0x7FA0_0001}
      opts = [imports: imports, deterministic: true]
      assert Executor.call(module, "run", [payload], opts) == {:ok, 0x7FC0_0000}

      assert {:ok, %Run{usage: %{fuel: nil}}} =
               Executor.run(module, "run", [1.0], imports: imports, metering: :epoch)
    end

    test "hold in the store of another, or are refused there" do
      nan = load!(~S|(module (func (export "f") (param f32) (result i32)
        (i32.reinterpret_f32 (f32.add (local.get 0) (f32.const 1)))))|)

      case Instance.new(nan, store: live(), deterministic: true) do
        {:ok, instance} ->
          assert Instance.call(instance, "f", [{:f32_bits, 0x7FA0_0001}]) == {:ok, 0x7FC0_0000}

        {:error, error} ->
          assert %CallError{reason: :other_engine} = error
      end

      case Instance.new(nan, store: live(), metering: :epoch) do
        {:ok, instance} -> assert Instance.run!(instance, "f", [1.0]).usage.fuel == nil
        {:error, error} -> assert %CallError{reason: :other_engine} = error
      end
    end
  end

  describe "a call on modules" do
    test "has fresh ones each time" do
      opts = [imports: %{"base" => base()}]
      for _ <- 1..10, do: assert(Executor.call(user(), "twice", [1], opts) == {:ok, 2})
      assert %Run{result: 2} = Executor.run!(user(), "twice", [1], opts)
      call = Executor.async(user(), "twice", [1], opts)
      assert Executor.await(call) == {:ok, 2}
    end

    test "does not take away the instance that it was given to import from" do
      lib = Instance.new!(base())

      for n <- 1..3 do
        result = Executor.call(user(), "twice", [1], imports: %{"base" => lib})
        # It may be refused, or use what is there; the instance is the caller's own, and stays.
        assert result == {:ok, 2 * n} or match?({:error, %LinkError{}}, result)
        assert {:ok, _} = Instance.get_global(lib, "n")
      end
    end

    test "may be streamed" do
      lib = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
        (func (export "put") (param i32) (drop (call $f (local.get 0)))))|)

      module =
        load!(
          ~S|(module (import "lib" "put" (func $put (param i32)))
        (func (export "count") (local i32)
          (loop (call $put (local.get 0)) (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br 0))))|
        )

      put = f(fn ctx, n -> Host.emit(ctx, to_string(n)) && n end)
      stream = Executor.stream(module, "count", [], imports: Map.put(put, "lib", lib))
      assert Enum.take(stream, 3) == ["0", "1", "2"]
      assert Enum.take(stream, 3) == ["0", "1", "2"]
    end
  end

  describe "facts" do
    test "a linked instance is one of its own module" do
      {one, other} = pair()
      assert Module.exports(one.module) == Module.exports(base())
      assert Module.exports(other.module) == Module.exports(user())

      assert inspect(other) =~
               ~r/\A#Cybernetic\.WASM\.Instance<bytes, blake3:[0-9a-f]{8}, member 1>\z/
    end

    test "a missing export of a linked instance is looked for among its own" do
      {_one, other} = pair()

      assert {:error, %CallError{reason: :no_such_export, known: known}} =
               Instance.call(other, "invoke", [1])

      assert "twice" in known
    end
  end

  describe "a module that no slot of the pool can hold" do
    defp five_memories do
      load!(~S"""
      (module
        (import "base" "bump" (func $bump (param i32) (result i32)))
        (memory 1) (memory 1) (memory 1) (memory 1) (memory $last (export "last") 1)
        (func (export "f") (param i32) (result i32)
          (i32.store8 $last (i32.const 0) (call $bump (local.get 0))) (i32.load8_u $last (i32.const 0))))
      """)
    end

    test "is linked with one that a slot can hold, in a call and as an instance" do
      imports = %{"base" => base()}
      assert Executor.call(five_memories(), "f", [7], imports: imports) == {:ok, 7}
      instance = Instance.new!(five_memories(), imports: imports)
      assert Instance.call(instance, "f", [7]) == {:ok, 7}
      assert :ok = Instance.reset(instance)
      assert Instance.call(instance, "f", [1]) == {:ok, 1}
    end

    test "also where it is not the one that is called" do
      above =
        load!(~S"""
        (module (import "five" "f" (func $f (param i32) (result i32)))
          (func (export "g") (param i32) (result i32) (call $f (local.get 0))))
        """)

      imports = %{"five" => five_memories(), "base" => base()}
      assert Executor.call(above, "g", [3], imports: imports) == {:ok, 3}
    end

    test "joins an instance that was made on demand, and is told so where it was not" do
      pooled = Instance.new!(base())

      assert {:error, %CallError{reason: :not_for_pool} = error} =
               Instance.new(five_memories(), imports: %{"base" => pooled})

      assert Exception.message(error) =~ "allocation: :on_demand"
      own = Instance.new!(base(), allocation: :on_demand)
      instance = Instance.new!(five_memories(), imports: %{"base" => own})
      assert Instance.call(instance, "f", [9]) == {:ok, 9}
      assert Instance.get_global(own, "n") == {:ok, 9}
    end
  end
end
