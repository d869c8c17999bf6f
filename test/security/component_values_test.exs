defmodule Cybernetic.WASM.Security.ComponentValuesTest do
  # Values of any type go into a component and come back as they were; terms that are no such values never get there.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Shapes
  import Cybernetic.WASM.WitTypes

  alias Cybernetic.WASM.{CallError, Component, Executor, HostError, Instance, Runtime}

  defp load(types), do: Runtime.load_module!({:bytes, component(types)})

  # Random types, and an instance of what gives back values of them.
  defp some(count) do
    types = for _ <- 1..count, do: type(:rand.uniform(4) - 1)
    {Enum.with_index(types), Instance.new!(load(types))}
  end

  defp refused!(call, path) do
    path = ~s|argument 1 ("v")| <> path
    assert {:error, %CallError{reason: :type, blame: :caller, path: ^path} = error} = call
    assert String.starts_with?(Exception.message(error), path <> ": expected ")
  end

  test "a component tells the types that it was written with" do
    check_all(10, fn ->
      types = for _ <- 1..5, do: type(3)
      component = load(types)

      for {type, index} <- Enum.with_index(types) do
        assert {:ok, {:func, [{"v", ^type} | _], _}} = Component.type(component, "whole#{index}")
      end
    end)
  end

  test "a random value of a random type comes back as it was" do
    check_all(12, fn ->
      {types, instance} = some(8)

      for {type, index} <- types, _ <- 1..6 do
        {given, out} = value(type)

        assert {:ok, tuple} = Instance.call(instance, "whole#{index}", [given | beside()]),
               "#{inspect(given)} of #{inspect(type)}"

        assert {elem(tuple, 0), type} == {out, type}
      end
    end)
  end

  test "so does a list of them, also in a fresh instance" do
    check_all(12, fn ->
      types = for _ <- 1..8, do: type(:rand.uniform(3) - 1)
      component = load(types)

      for {type, index} <- Enum.with_index(types), _ <- 1..3 do
        {given, out} = value({:list, type})
        assert Executor.call(component, "list#{index}", [given]) == {:ok, out}, inspect(type)
      end
    end)
  end

  test "a random wrong term is refused with the path to what is wrong in it, and the instance stays as it was" do
    check_all(8, fn ->
      {[{first, 0} | _] = types, instance} = some(8)
      {given, out} = value(first)

      for {type, index} <- types, _ <- 1..40 do
        {wrong, path} = wrong(type)
        refused!(Instance.call(instance, "whole#{index}", [wrong | beside()]), path)
        {wrong, path} = wrong({:list, type})
        refused!(Instance.call(instance, "list#{index}", [wrong]), path)
      end

      assert {:ok, tuple} = Instance.call(instance, "whole0", [given | beside()])
      assert elem(tuple, 0) == out
    end)
  end

  test "what a host function returns is held to its type, too" do
    check_all(12, fn ->
      type = type(2)
      component = Runtime.load_module!({:bytes, asking(type)})
      {given, _out} = value(type)
      {wrong, path} = wrong(type)

      assert ask(component, given) == {:ok, nil}

      assert {:error, %HostError{reason: %CallError{reason: :type} = error}} =
               ask(component, wrong)

      assert String.starts_with?(Exception.message(error), "result[0]" <> path <> ": expected ")
    end)
  end

  defp ask(component, value) do
    imports = %{"a:b/c" => %{"get" => fn _ctx -> {value, 0} end}}
    Executor.call(component, "ask", [], imports: imports)
  end
end
