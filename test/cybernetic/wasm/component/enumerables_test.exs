defmodule Cybernetic.WASM.Component.EnumerablesTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Component.Enumerables

  defp listed(term, type), do: [term] |> Enumerables.listed([type]) |> hd()

  test "enumerables become lists where the type has lists or flags, at every depth" do
    set = MapSet.new([1, 2])
    numbers = {:list, :u32}
    record = {:record, [{"of-all", numbers}, {"own", {:own, "conn"}}]}

    for {type, given, expected} <- [
          {numbers, set, [1, 2]},
          {{:list, numbers}, Stream.map([set], & &1), [[1, 2]]},
          {{:flags, ["a"]}, MapSet.new([:a]), [:a]},
          {{:option, numbers}, {:some, 1..2}, {:some, [1, 2]}},
          {{:result, numbers, numbers}, {:error, 1..2}, {:error, [1, 2]}},
          {{:result, numbers, nil}, {:ok, 1..2}, {:ok, [1, 2]}},
          {{:tuple, [numbers, :u8]}, {1..2, 1}, {[1, 2], 1}},
          {{:variant, [{"some-of", numbers}]}, {:some_of, 1..2}, {:some_of, [1, 2]}},
          {record, %{of_all: 1..2, own: set}, %{of_all: [1, 2], own: set}},
          {record, %{"of-all" => 1..2, "own" => 1..2}, %{"of-all" => [1, 2], "own" => 1..2}},
          {{:list, {:tuple, [:string, numbers]}}, %{"a" => 1..2}, %{"a" => [1, 2]}}
        ] do
      assert listed(given, type) == expected
    end
  end

  test "what is of another type stays as it is" do
    set = MapSet.new([1])

    for type <- [:u32, :string, {:own, "conn"}, {:borrow, "conn"}, {:enum, ["a"]}, {:record, []}],
        do: assert(listed(set, type) == set)

    assert listed({1..2}, {:tuple, [{:list, :u8}, :u8]}) == {1..2}
    assert listed([1 | 2], {:list, :u8}) == [1 | 2]
    assert listed(%{1 => 1..2}, {:record, [{"a", {:list, :u8}}]}) == %{1 => 1..2}
    assert listed(nil, {:option, {:list, :u8}}) == nil
  end
end
