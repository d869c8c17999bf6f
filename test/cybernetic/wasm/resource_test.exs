defmodule Cybernetic.WASM.ResourceTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{CallError, Component, Executor, Host, HostError, Instance}
  alias Cybernetic.WASM.{LinkError, Resource, Runtime, TrapError}

  doctest Resource

  @guest "test/fixtures/components/resources.wat"
  @db "acme:host/db@1.0.0"

  defp guest, do: Runtime.load_module!(@guest)

  # Connections are `{:conn, number}`, of which the test is told when they end.
  defp imports(test \\ self()) do
    %{
      "acme:host/db" => %{
        "[constructor]conn" => fn _ctx, number -> {:conn, number} end,
        "[method]conn.get" => fn _ctx, {:conn, number} -> number end,
        "[static]conn.close" => fn _ctx, {:conn, number} -> number end,
        "conn" => &send(test, {:ended, &1})
      }
    }
  end

  defp live(opts \\ []) do
    {:ok, instance} = Instance.new(guest(), Keyword.put_new(opts, :imports, imports()))
    instance
  end

  defp call!(instance, name, args \\ []) do
    {:ok, result} = Instance.call(instance, name, args)
    result
  end

  defp cart(instance, number), do: call!(instance, "[constructor]cart", [number])

  test "the world tells of both kinds" do
    conn = Enum.find(Component.imports(guest()), &(&1.name == "conn"))
    assert %{interface: @db, type: {:resource, @db <> "#conn"}} = conn

    assert Component.type(guest(), "cart") == {:ok, {:resource, "cart"}}

    assert Component.type(guest(), "take") ==
             {:ok, {:func, [{"cart", {:own, "cart"}}], :u32}}

    assert Component.type(guest(), "borrow") ==
             {:ok, {:func, [{"conn", {:borrow, @db <> "#conn"}}], :u32}}
  end

  test "a term of the host's stays what it is, beside an enumerable for a list" do
    wat = ~S"""
    (component
      (import "conn" (type $conn (sub resource)))
      (core module $m (memory (export "m") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
        (func (export "f") (param i32 i32 i32) (result i32) (local.get 2)))
      (core instance $i (instantiate $m))
      (func (export "f") (param "conn" (own $conn)) (param "numbers" (list u32)) (result u32)
        (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "realloc")))))
    """

    component = Runtime.load_module!({:bytes, wat})
    test = self()
    imports = %{"$root" => %{"conn" => &send(test, {:ended, &1})}}
    stream = Stream.map(1..3, & &1)

    for term <- [MapSet.new([1]), 1..2, stream] do
      assert Executor.call(component, "f", [term, stream], imports: imports) == {:ok, 3}
      assert_receive {:ended, ^term}
    end
  end

  describe "a resource of the component's" do
    test "is lent and given away" do
      instance = live()
      assert %Resource{type: "cart"} = cart = cart(instance, 3)
      assert inspect(cart) == "#Cybernetic.WASM.Resource<cart>"
      assert call!(instance, "[method]cart.get", [cart]) == 3
      assert call!(instance, "both", [cart, cart(instance, 4)]) == 34
      assert Resource.kept?(cart)
      assert call!(instance, "take", [cart]) == 3
      refute Resource.kept?(cart)
      assert Resource.drop(cart) == :ok
    end

    test "is dropped by the next call, in the order in which they were let go of" do
      instance = live()
      [one, two, three] = for number <- 1..3, do: cart(instance, number)
      for cart <- [two, three, two, one], do: assert(Resource.drop(cart) == :ok)
      assert call!(instance, "ended") == 231
    end

    test "is dropped when it was collected" do
      instance = live()

      {pid, monitor} =
        spawn_monitor(fn ->
          cart(instance, 7)
        end)

      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
      Cybernetic.WASM.Eventually.eventually(fn -> call!(instance, "ended") == 7 end)
    end

    test "is used from any process" do
      instance = live()
      cart = cart(instance, 5)
      get = fn -> Instance.call(instance, "[method]cart.get", [cart], wait: 60_000) end

      assert Enum.map(1..10, fn _n -> Task.async(get) end) |> Task.await_many(:infinity) ==
               List.duplicate({:ok, 5}, 10)
    end

    test "comes in lists" do
      carts = call!(instance = live(), "many", [5])
      assert Enum.map(carts, &call!(instance, "[method]cart.get", [&1])) == [0, 1, 2, 3, 4]
    end

    test "is refused where it is no good, and leaves the instance as it was" do
      instance = live()
      {cart, gone} = {cart(instance, 1), cart(instance, 2)}
      Resource.drop(gone)

      for {name, args, given} <- [
            {"[method]cart.get", [gone], "dropped or given away"},
            {"both", [cart, cart], "dropped or given away"},
            {"both", [cart, gone], "dropped or given away"},
            {"[method]cart.get", [cart(live(), 1)], "another instance"},
            {"[method]cart.get", [1], "1"},
            {"[method]cart.get", [%{}], "a map"},
            {"[method]cart.get", [%Resource{ref: make_ref(), type: "cart"}], "a map"}
          ] do
        assert {:error, %CallError{reason: :type} = error} = Instance.call(instance, name, args)
        assert error.given =~ given
        assert error.path =~ ~r/^argument \d/
      end

      assert call!(instance, "take", [cart]) == 1
    end

    test "is refused once its instance was reset, or its fresh one is gone" do
      instance = live()
      cart = cart(instance, 1)
      :ok = Instance.reset(instance)
      assert {:error, error} = Instance.call(instance, "take", [cart])
      assert Exception.message(error) =~ "reset"

      {:ok, cart} = Executor.call(guest(), "[constructor]cart", [1], imports: imports())
      assert {:error, %CallError{}} = Instance.call(instance, "take", [cart])
      assert Resource.drop(cart) == :ok
    end

    test "says on which node it is good" do
      assert_raise ArgumentError, ~r/a resource is only good in the VM/, fn ->
        Resource.drop(%Resource{ref: make_ref(), type: "cart"})
      end
    end
  end

  describe "a resource of the host's" do
    test "is the term that it is" do
      instance = live()
      assert call!(instance, "open", [7]) == 7
      assert call!(instance, "hand-out", [8]) == {:conn, 8}
      assert call!(instance, "borrow", [{:conn, 9}]) == 9
      assert call!(instance, "close", [{:conn, 10}]) == 10
      assert_receive {:ended, {:conn, 7}}
      Instance.close(instance)
      refute_received {:ended, _other}
    end

    test "ends in the order in which the component drops it, one after the other" do
      test = self()

      slow = fn conn ->
        send(test, {:ending, self(), conn})
        receive(do: (:go_on -> :ok))
      end

      instance = live(imports: put_in(imports(), ["acme:host/db", "conn"], slow))
      for number <- 1..3, do: call!(instance, "open", [number])

      for number <- 1..3 do
        assert_receive {:ending, pid, {:conn, ^number}}
        refute_received {:ending, _pid, _conn}
        send(pid, :go_on)
      end
    end

    test "may have no destructor" do
      {_destructor, imports} = pop_in(imports(), ["acme:host/db", "conn"])
      assert {:ok, 1} = Executor.call(guest(), "open", [1], imports: imports)
    end

    test "has a destructor of one argument, or the import is refused" do
      for wrong <- [:none, fn _ctx, _conn -> :ok end] do
        imports = put_in(imports(), ["acme:host/db", "conn"], wrong)

        assert {:error, %LinkError{problems: [problem]}} =
                 Executor.call(guest(), "open", [1], imports: imports)

        assert %{module: @db, name: "conn", wanted: "resource"} = problem
        assert problem.reason =~ "one argument"
      end
    end

    test "ends in a process of the library's, and one that fails does not keep the others" do
      test = self()

      imports =
        put_in(imports(), ["acme:host/db", "conn"], fn {:conn, number} ->
          send(test, {:ended, number, self()})
          if number == 1, do: exit(:kill)
          if number == 2, do: raise("a secret")
        end)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          instance = live(imports: imports)
          for number <- 1..3, do: call!(instance, "open", [number])
          for number <- 1..3, do: assert_receive({:ended, ^number, _pid})
          refute_received {:ended, _number, ^test}
        end)

      assert log =~ "RuntimeError"
      refute log =~ "secret"
    end

    test "is refused to a guest whose host function failed" do
      imports =
        put_in(imports(), ["acme:host/db", "[method]conn.get"], fn _ctx, _conn -> "no" end)

      assert {:error, %HostError{reason: %CallError{path: "result"}}} =
               Executor.call(guest(), "open", [1], imports: imports)

      assert_receive {:ended, {:conn, 1}}
    end
  end

  test "the guest's use of what it has dropped is a trap" do
    assert {:error, %TrapError{}} = Executor.call(guest(), "use-after", [1], imports: imports())
  end

  describe "reentrant: true" do
    defp reentering(function),
      do: put_in(imports(), ["acme:host/db", "[method]conn.get"], function)

    test "lets a host function call the component that waits for it" do
      imports =
        reentering(fn ctx, {:conn, number} ->
          assert {:ok, 0} = Host.call(ctx, "ended")
          assert {:ok, cart} = Host.call(ctx, "[constructor]cart", [number])
          assert {:error, %CallError{reason: :type}} = Host.call(ctx, "take", [number])
          assert {:ok, ^number} = Host.call(ctx, "take", [cart])
          number
        end)

      instance = live(imports: imports, reentrant: true)
      assert call!(instance, "open", [4]) == 4
      assert call!(instance, "ended") == 4

      assert {:ok, 5} = Executor.call(guest(), "open", [5], imports: imports, reentrant: true)
    end

    test "is asked for: without it the error names both calls" do
      imports =
        reentering(fn ctx, _conn ->
          assert {:error, %CallError{reason: :reentrant} = error} = Host.call(ctx, "ended")
          assert Exception.message(error) =~ "ended"
          assert Exception.message(error) =~ "[method]conn.get"
          1
        end)

      assert {:ok, 1} = Executor.call(guest(), "open", [4], imports: imports)

      assert_raise ArgumentError, ~r/an option of Instance.new/, fn ->
        Instance.call(live(), "ended", [], reentrant: true)
      end
    end

    test "does not let it give away what is lent to the call that waits" do
      test = self()

      imports =
        reentering(fn ctx, {:conn, number} ->
          assert_receive {:cart, cart}
          send(test, {:given, Host.call(ctx, "take", [cart])})
          assert {:ok, ^number} = Host.call(ctx, "[method]cart.get", [cart])
          Resource.drop(cart)
          number
        end)

      instance = live(imports: imports, reentrant: true)
      cart = cart(instance, 6)
      send(self(), {:cart, cart})
      assert call!(instance, "visit", [cart]) == 6
      assert_received {:given, {:error, %CallError{reason: :type} = error}}
      assert error.given =~ "lent"
      assert call!(instance, "ended") == 6
    end

    test "leaves the instance poisoned when what it calls traps" do
      imports =
        reentering(fn ctx, _conn ->
          assert {:error, %TrapError{}} = Host.call(ctx, "trap", [1])
          1
        end)

      instance = live(imports: imports, reentrant: true)
      _whatever = Instance.call(instance, "open", [1])
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, "ended", [])
    end
  end

  test "a host function has the terms while the guest is suspended" do
    imports =
      put_in(imports(), ["acme:host/db", "[method]conn.get"], fn ctx, {:conn, number} ->
        assert Host.time_left(ctx) > 0
        number + 1
      end)

    assert {:ok, 2} = Executor.call(guest(), "open", [1], imports: imports)
  end
end
