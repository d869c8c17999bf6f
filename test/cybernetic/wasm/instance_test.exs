defmodule Cybernetic.WASM.InstanceTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Instance, LimitError, TrapError}

  defp counter do
    load!(~S"""
    (module
      (import "env" "f" (func $f (param i32) (result i32)))
      (global $n (mut i32) (i32.const 0))
      (func (export "next") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      (func $self (export "self") (result funcref) (ref.func $self))
      (func (export "take") (param funcref) (result i32) (ref.is_null (local.get 0)))
      (func (export "host") (result i32) (call $f (global.get $n)))
      (func (export "spin") (loop (br 0)))
      (func (export "fail") unreachable))
    """)
  end

  defp live(function \\ fn _ctx, n -> n end) do
    {:ok, instance} = Instance.new(counter(), imports: f(function))
    instance
  end

  defp next(instance), do: Instance.call(instance, "next", [], imports: f(fn _, n -> n end))

  test "an instance keeps its state between calls" do
    instance = live()
    assert Enum.map(1..5, fn _ -> next(instance) end) == Enum.map(1..5, &{:ok, &1})
  end

  test "two instances of one module are apart" do
    one = live()
    other = live()
    assert {:ok, 1} = next(one)
    assert {:ok, 2} = next(one)
    assert {:ok, 1} = next(other)
  end

  test "a function reference is good in the instance that gave it, and no other" do
    imports = [imports: f(fn _, n -> n end)]
    one = live()
    other = live()
    {:ok, reference} = Instance.call(one, "self", [], imports)
    assert Instance.call(one, "take", [reference], imports) == {:ok, 0}

    assert {:error, %CallError{reason: :type, index: 0}} =
             Instance.call(other, "take", [reference], imports)
  end

  test "each call has its own limits and its own host functions" do
    instance = live()

    assert {:ok, 7} =
             Instance.call(instance, "host", [], imports: f(fn _, _ -> 7 end), fuel: 1_000)

    assert {:ok, 8} =
             Instance.call(instance, "host", [], imports: f(fn _, _ -> 8 end), fuel: 1_000)
  end

  test "a call that did not end well leaves it poisoned" do
    for {name, opts, error} <- [
          {"fail", [], TrapError},
          {"spin", [fuel: 1_000], LimitError},
          {"spin", [timeout: 10], LimitError}
        ] do
      instance = live()
      opts = [imports: f(fn _, n -> n end)] ++ opts
      assert {:error, %^error{}} = Instance.call(instance, name, [], opts)
      # It is busy until what was left of the call has been unwound.
      eventually(fn -> match?({:error, %CallError{reason: :poisoned}}, next(instance)) end)
    end
  end

  test "a mistake of the caller's leaves it as it was" do
    instance = live()
    imports = [imports: f(fn _, n -> n end)]
    assert {:error, %CallError{}} = Instance.call(instance, "nothing", [], imports)
    assert {:error, %CallError{}} = Instance.call(instance, "next", [1], imports)
    assert {:ok, 1} = next(instance)
  end

  test "a second call at the same time is told that it is busy" do
    instance = live()
    test = self()

    imports = f(fn _ctx, n -> send(test, :inside) && receive(do: (:go -> n)) end)
    caller = Task.async(fn -> Instance.call(instance, "host", [], imports: imports) end)
    assert_receive :inside, 5_000
    assert {:error, %CallError{reason: :busy}} = next(instance)
    send(caller.pid, :go)
    assert Task.await(caller) == {:ok, 0}
    assert {:ok, 1} = next(instance)
  end

  test "a start function that loops ends by its limits" do
    module = load!(~S"(module (func $s (loop (br 0))) (start $s))")
    assert {:error, %LimitError{limit: :fuel}} = Instance.new(module, fuel: 100_000)
    assert {:error, %LimitError{limit: :timeout}} = Instance.new(module, timeout: 20)
  end
end
