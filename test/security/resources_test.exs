defmodule Cybernetic.WASM.Security.ResourcesTest do
  # Resources that are leaked, by guests and by those who call them, and guests that end in the middle of it.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Eventually
  import Cybernetic.WASM.Plenty

  alias Cybernetic.WASM.{Executor, Instance, LimitError, Resource, Runtime, TrapError}

  @guest "test/fixtures/components/resources.wat"

  defp guest, do: Runtime.load_module!(@guest)

  defp imports(counter) do
    %{
      "acme:host/db" => %{
        "[constructor]conn" => fn _ctx, number ->
          :counters.add(counter, 1, 1)
          {:conn, number}
        end,
        "[method]conn.get" => fn _ctx, {:conn, number} -> number end,
        "[static]conn.close" => fn _ctx, {:conn, number} -> number end,
        "conn" => fn {:conn, _number} -> :counters.add(counter, 2, 1) end
      }
    }
  end

  # How many were made, and how many have ended.
  defp counter, do: :counters.new(2, [])
  defp made(counter), do: :counters.get(counter, 1)
  defp ended(counter), do: :counters.get(counter, 2)

  defp until_all_ended(counter, count) do
    assert made(counter) == count
    eventually(fn -> ended(counter) >= count end)
    assert settled(fn -> ended(counter) end) == count
  end

  defp opts(counter, opts \\ []),
    do: forever([imports: imports(counter), max_resources: 200_000] ++ opts)

  test "what a guest leaks ends once when its call does, by the hundred thousand" do
    counter = counter()
    assert {:ok, nil} = Executor.call(guest(), "leak", [100_000], opts(counter))
    until_all_ended(counter, 100_000)
  end

  test "what it has when it traps ends once" do
    counter = counter()
    {:ok, instance} = Instance.new(guest(), opts(counter))
    {:ok, nil} = Instance.call(instance, "leak", [10])
    assert {:error, %TrapError{}} = Instance.call(instance, "trap", [1])
    until_all_ended(counter, 11)
    Instance.close(instance)
    assert ended(counter) == 11
  end

  test "what it has when its caller is killed ends once" do
    counter = counter()
    test = self()

    imports =
      put_in(imports(counter), ["acme:host/db", "[method]conn.get"], fn _ctx, _conn ->
        send(test, :there)
        Process.sleep(:infinity)
      end)

    pid =
      spawn(fn ->
        {:ok, instance} = Instance.new(guest(), forever(imports: imports))
        {:ok, nil} = Instance.call(instance, "leak", [5])
        Instance.call(instance, "open", [1])
      end)

    assert_receive :there
    Process.exit(pid, :kill)
    until_all_ended(counter, 6)
  end

  test "what it has when its instance is collected, closed or reset ends once" do
    for finish <- [&Instance.close/1, &Instance.reset/1, fn _instance -> :collected end] do
      counter = counter()

      Task.async(fn ->
        {:ok, instance} = Instance.new(guest(), opts(counter))
        {:ok, nil} = Instance.call(instance, "leak", [300])
        finish.(instance)
      end)
      |> await()

      until_all_ended(counter, 300)
    end
  end

  test "more handles than are allowed end the call" do
    counter = counter()
    few = opts(counter, max_resources: 100)

    assert {:error, %LimitError{limit: :resources, allowed: 100, blame: :guest}} =
             Executor.call(guest(), "leak", [101], few)

    until_all_ended(counter, 101)

    assert {:error, %LimitError{limit: :resources} = error} =
             Executor.call(guest(), "many", [101], few)

    assert Exception.message(error) =~ "option :max_resources"
  end

  test "what callers leak is dropped, and they cannot leak more than is allowed" do
    {:ok, instance} =
      Instance.new(guest(), forever(imports: imports(counter()), max_resources: 1_000))

    # Each is garbage at once, or some time later: then the limit refuses, which ends the instance.
    for _round <- 1..100 do
      {:ok, carts} = Instance.call(instance, "many", [100])
      Enum.each(carts, &Resource.drop/1)
    end

    kept = for n <- 1..1_000, do: elem(Instance.call(instance, "[constructor]cart", [n]), 1)

    assert {:error, %LimitError{limit: :resources}} =
             Instance.call(instance, "[constructor]cart", [0])

    for cart <- kept, do: assert(Resource.drop(cart) == :ok)
  end

  test "a destructor of the guest's that traps, or does not end, is the next call's affair" do
    for {number, error} <- [{1_000_666, TrapError}, {1_000_999, LimitError}] do
      {:ok, instance} = Instance.new(guest(), imports: imports(counter()))
      {:ok, cart} = Instance.call(instance, "[constructor]cart", [number])
      Resource.drop(cart)
      assert {:error, %^error{}} = Instance.call(instance, "ended", [], fuel: 1_000_000)
      assert {:error, %{reason: :poisoned}} = Instance.call(instance, "ended", [])
    end
  end

  test "two calls that are given one resource at once: one of them has it" do
    {:ok, instance} = Instance.new(guest(), forever(imports: imports(counter()), wait: never()))

    for number <- 1..9 do
      {:ok, cart} = Instance.call(instance, "[constructor]cart", [number])
      take = fn -> Instance.call(instance, "take", [cart]) end
      results = for(_n <- 1..8, do: Task.async(take)) |> Enum.map(&await/1)
      assert [{:ok, ^number}] = Enum.filter(results, &match?({:ok, _}, &1))
    end

    assert {:ok, 123_456_789} = Instance.call(instance, "ended", [])
  end
end
