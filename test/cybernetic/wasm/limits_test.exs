defmodule Cybernetic.WASM.LimitsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Limits

  doctest Cybernetic.WASM.Limits

  test "the documented defaults are the struct's" do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Limits)

    documented =
      for [name, value] <-
            Regex.scan(~r/^\| `(\w+)` \|[^|]*\| ([\d,]+) \|/m, doc, capture: :all_but_first),
          into: %{},
          do:
            {String.to_existing_atom(name),
             value |> String.replace(",", "") |> String.to_integer()}

    assert documented == Map.from_struct(%Limits{})
  end

  test "narrowing gives the smaller of each, in any order, and changes nothing twice" do
    random = fn ->
      struct!(Limits, Map.new(Limits.keys(), &{&1, :rand.uniform(1_000)}))
    end

    for _ <- 1..100 do
      {one, other} = {random.(), random.()}
      narrowed = Limits.narrow(one, other)
      assert narrowed == Limits.narrow(other, one)
      assert narrowed == Limits.narrow(narrowed, other)
      for key <- Limits.keys(), do: assert(Map.get(narrowed, key) <= Map.get(one, key))
    end
  end

  test "narrowing by some limits leaves the others" do
    assert Limits.narrow(%Limits{}, %{fuel: 3}) == %Limits{fuel: 3}
  end
end
