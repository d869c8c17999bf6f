defmodule Cybernetic.WASM.Instance.Link.PoisonTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Links, Turns}

  alias Cybernetic.WASM.{Host, Instance, Memory}
  alias Cybernetic.WASM.{CallError, LinkError, TrapError}

  describe "poisoning and reset of linked instances" do
    test "one that is poisoned poisons the others" do
      {one, other} = pair()
      assert {:error, %TrapError{}} = Instance.call(other, "fail")
      assert Instance.poisoned?(one) and Instance.poisoned?(other)
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(one, "bump", [1])
      assert {:error, %CallError{reason: :poisoned}} = Memory.size(one)
    end

    test "a killed caller of one poisons the others" do
      one = live()
      other = Instance.new!(base(), store: one)
      one |> hold() |> kill()
      eventually(fn -> Instance.poisoned?(other) end)
      assert Instance.reset(other) == :ok
      assert Instance.call(one, "next") == {:ok, 1}
    end

    test "reset by either makes all of them anew, and links them again" do
      for pick <- [&elem(&1, 0), &elem(&1, 1)], poison <- [false, true] do
        {one, other} = pair = pair()
        Instance.call!(other, "twice", [5])
        :ok = Memory.write(one, 100, "overwritten afterwards")
        if poison, do: Instance.call(one, "fail")

        assert Instance.reset(pick.(pair)) == :ok
        assert Instance.call(other, "n") == {:ok, 0}
        assert Memory.read(one, 100, 19) == {:ok, "written at the link"}
        assert Instance.call(one, "invoke", [2]) == {:ok, 42}
        assert Instance.call(other, "twice", [1]) == {:ok, 2}
        assert Instance.get_global(one, "n") == {:ok, 2}
      end
    end

    test "reset keeps the host functions and data of each" do
      one = Instance.new!(member(1), imports: asked(:one), data: "d1")

      two =
        Instance.new!(
          asking_both(),
          imports: Map.put(asked(:two), "one", one),
          data: "d2"
        )

      for instance <- [one, two] do
        :ok = Instance.reset(instance)
        assert Instance.call(two, "both") == {:ok, [100, 200]}
      end

      both = [{:one, "d1", "member 1"}, {:two, "d2", "member 2"}]
      assert mailbox() == both ++ both
    end

    test "reset runs the start functions of all, each with its own host functions" do
      starting = fn number, imports ->
        load!("""
        (module #{imports} (import "env" "f" (func $f (param i32) (result i32)))
          (func $s (drop (call $f (i32.const #{number})))) (start $s) (func (export "g")))
        """)
      end

      test = self()
      noting = &f(fn ctx, n -> send(test, {&1, Host.data(ctx), n}) && n end)
      one = Instance.new!(starting.(1, ""), imports: noting.(:one), data: :d1)

      two =
        Instance.new!(starting.(2, ~S|(import "one" "g" (func))|),
          imports: Map.put(noting.(:two), "one", one),
          data: :d2
        )

      assert mailbox() == [{:one, :d1, 1}, {:two, :d2, 2}]
      assert Instance.reset(two) == :ok
      assert Enum.drop(mailbox(), 2) == [{:one, :d1, 1}, {:two, :d2, 2}]
      assert Instance.reset(one) == :ok
      assert Enum.drop(mailbox(), 4) == [{:one, :d1, 1}, {:two, :d2, 2}]
    end

    test "reset of a guest that failed links were tried on brings back those that succeeded" do
      one = Instance.new!(base())
      wrong = load!(~S|(module (import "base" "bump" (func)))|)
      assert {:error, %LinkError{}} = Instance.new(wrong, imports: %{"base" => one})
      other = Instance.new!(user(), imports: %{"base" => one})
      assert {:error, %LinkError{}} = Instance.new(wrong, imports: %{"base" => one})
      assert Instance.reset(one) == :ok
      assert Instance.call(other, "twice", [1]) == {:ok, 2}
    end
  end
end
