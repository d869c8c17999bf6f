defmodule Cybernetic.WASM.Instance.Link.LimitsTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Guests, Links, Turns}

  alias Cybernetic.WASM.{Executor, Host, Instance, LimitError, Memory, Run}

  describe "limits of linked instances" do
    test "max_instances counts all of them" do
      imports = %{"base" => base()}
      assert {:ok, _} = Instance.new(user(), imports: imports, max_instances: 2)

      assert {:error, %LimitError{limit: :instances, allowed: 1, used: 2}} =
               Instance.new(user(), imports: imports, max_instances: 1)

      one = Instance.new!(base(), max_instances: 3)
      for _ <- 1..2, do: assert({:ok, _} = Instance.new(base(), store: one, max_instances: 3))

      assert {:error, %LimitError{limit: :instances, allowed: 3, used: 4}} =
               Instance.new(base(), store: one, max_instances: 3)

      # Nothing has run, so nothing is wrong with those that are there.
      assert Instance.call(one, "bump", [1]) == {:ok, 1}
    end

    test "max_memory counts all their memories" do
      one = Instance.new!(member(1), imports: echo(), max_memory: 200_000)

      two = Instance.new!(member(2), imports: echo(), store: one, max_memory: 200_000)

      assert Memory.grow(one, 1) == {:ok, 1}

      assert {:error, %LimitError{limit: :memory, allowed: 200_000}} = Memory.grow(two, 1)

      lib = member(1, more: ~S|(memory 2)|)

      module = member(2, imports: ~S|(import "lib" "ask" (func (result i32)))|)

      imports = Map.put(echo(), "lib", lib)
      assert Executor.call(module, "ask", [], imports: imports, max_memory: 262_144) == {:ok, 2}

      assert {:error, %LimitError{limit: :memory, allowed: 262_143}} =
               Executor.call(module, "ask", [], imports: imports, max_memory: 262_143)
    end

    test "max_table_elements counts all their tables" do
      lib = load!(~S|(module (table 60 funcref) (func (export "f")))|)

      module =
        load!(~S|(module (import "lib" "f" (func $f)) (table 40 funcref) (export "f" (func $f)))|)

      imports = %{"lib" => lib}

      assert Executor.call(module, "f", [], imports: imports, max_table_elements: 100) ==
               {:ok, nil}

      assert {:error, %LimitError{limit: :table_elements, allowed: 99, used: 100}} =
               Executor.call(module, "f", [], imports: imports, max_table_elements: 99)
    end

    # Three modules of a call; each one's start function and the call itself do the same.
    defp three(body) do
      one = load!(~s|(module (import "env" "f" (func $f (param i32) (result i32)))
        (func $g (export "g") #{body}) (start $g))|)

      two = load!(~s|(module (import "env" "f" (func $f (param i32) (result i32)))
        (import "one" "g" (func)) (func $g (export "g") #{body}) (start $g))|)

      three = load!(~s|(module (import "env" "f" (func $f (param i32) (result i32)))
        (import "two" "g" (func)) (func $g (export "g") #{body}) (start $g))|)

      {three, %{"one" => one, "two" => two}}
    end

    @burning "(local i32) (local.set 0 (i32.const 10000)) (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))"
    @calling "(drop (call $f (i32.const 10)))"

    test "fuel is the whole call's, with the start functions of all" do
      {module, imports} = three(@burning)
      opts = [imports: Map.merge(echo(), imports)]
      # One burns some 50,000.
      assert Executor.call(module, "g", [], [fuel: 300_000] ++ opts) == {:ok, nil}

      assert {:error, %LimitError{limit: :fuel}} =
               Executor.call(module, "g", [], [fuel: 150_000] ++ opts)

      assert {:error, %LimitError{limit: :fuel}} = Instance.new(module, [fuel: 100_000] ++ opts)
      assert {:ok, _} = Instance.new(module, [fuel: 250_000] ++ opts)
    end

    test "time is the whole call's" do
      {module, imports} = three(@calling)
      slow = f(fn _ctx, n -> Process.sleep(40) && n end)
      opts = [imports: Map.merge(slow, imports)]

      assert {:error, %LimitError{limit: :timeout}} =
               Executor.call(module, "g", [], [timeout: 100] ++ opts)

      assert {:error, %LimitError{limit: :timeout}} = Instance.new(module, [timeout: 100] ++ opts)
      assert Executor.call(module, "g", [], opts) == {:ok, nil}
    end

    test "host calls are the whole call's" do
      {module, imports} = three(@calling)
      opts = [imports: Map.merge(echo(), imports)]
      assert Executor.call(module, "g", [], [max_host_calls: 4] ++ opts) == {:ok, nil}

      assert {:error, %LimitError{limit: :host_calls}} =
               Executor.call(module, "g", [], [max_host_calls: 3] ++ opts)
    end

    test "output is the whole call's, and all of it is told" do
      {module, imports} = three(@calling)
      emitting = f(fn ctx, n -> Host.emit(ctx, :binary.copy("x", n)) && n end)
      opts = [imports: Map.merge(emitting, imports)]

      assert {:ok, %Run{output: output}} = Executor.run(module, "g", [], [max_output: 40] ++ opts)
      assert byte_size(output) == 40

      assert {:error, %LimitError{limit: :output, allowed: 39}} =
               Executor.run(module, "g", [], [max_output: 39] ++ opts)
    end

    test "what was used is told of the whole call, as it is where there is one module" do
      {module, imports} = three(@calling)
      opts = [imports: Map.merge(echo(), imports)]
      assert {:ok, %Run{usage: usage}} = Executor.run(module, "g", [], opts)
      assert usage.host_calls == 4

      # What was allowed is what the caller allowed.
      assert {:error, %LimitError{limit: :host_calls, allowed: 3, used: 4}} =
               Executor.call(module, "g", [], [max_host_calls: 3] ++ opts)
    end

    test "are one set: one that joins a store does not widen what the store was given" do
      one = Instance.new!(member(1), imports: echo(), max_memory: 200_000)
      two = Instance.new!(member(2), imports: echo(), store: one, max_memory: 10_000_000)

      assert {:error, %LimitError{limit: :memory, allowed: 200_000}} = Memory.grow(two, 2)
      assert Memory.grow(two, 1) == {:ok, 1}
      assert {:error, %LimitError{limit: :memory}} = Memory.grow(one, 1)

      # Nor is there ever one that the others cannot be made anew with.
      assert Instance.reset(one) == :ok
      assert Instance.reset(two) == :ok

      assert {:error, %LimitError{limit: :memory, allowed: 200_000}} =
               Instance.new(load!("(module (memory 10))"), store: one, max_memory: 10_000_000)
    end

    test "given to a call narrow those of its instance" do
      {one, other} = pair()

      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
               Instance.call(other, "spin", [], fuel: 1_000)

      assert Instance.poisoned?(one)
    end
  end
end
