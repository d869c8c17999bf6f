defmodule Cybernetic.WASM.Runtime.VersionsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Reference
  alias Cybernetic.WASM.Runtime.Versions

  defp versions(numbered) do
    Enum.reduce(numbered, %Versions{name: "x"}, fn {version, serial}, versions ->
      versions |> Versions.add(version, serial) |> Versions.promote(serial)
    end)
  end

  defp find(versions, text) do
    {:ok, {:name, "x", selector}} = Reference.parse("x@" <> text)
    Versions.version(versions, Versions.find(versions, selector))
  end

  test "a requirement takes the highest that fits" do
    versions = versions([{"1.2.9", 1}, {"1.10.0", 2}, {"1.2.10", 3}, {"2.0.0-rc.1", 4}])

    assert Versions.texts(versions) == ["2.0.0-rc.1", "1.10.0", "1.2.10", "1.2.9"]
    assert find(versions, "1.2") == "1.2.10"
    assert find(versions, "~> 1.2") == "1.10.0"
    assert find(versions, "< 1.2.10") == "1.2.9"
    assert find(versions, "~> 2.0-rc") == "2.0.0-rc.1"
    assert find(versions, "~> 3.0") == nil
  end

  test "older is what is lower than the current one" do
    refute Versions.older?(%Versions{name: "x"}, "0.0.1")
    versions = versions([{"2.0.0", 1}, {"1.10.0", 2}])

    for {version, older?} <- [
          {"1.9.0", true},
          {"1.10.0", false},
          {"1.10.0-rc.1", true},
          {"2.0.0", false}
        ],
        do: assert({version, Versions.older?(versions, version)} == {version, older?})
  end

  test "the next version is above all that there ever were" do
    assert Versions.next(%Versions{name: "x"}) == "0.1.0"
    versions = versions([{"1.0.0", 1}, {"1.4.2", 2}, {"1.1.0", 3}])
    assert Versions.next(versions) == "1.4.3"
    assert versions |> Versions.drop(2) |> Versions.next() == "1.4.3"
  end

  test "going back goes from one to the one before it, and on" do
    versions = versions([{"1.0.0", 1}, {"1.1.0", 2}, {"1.2.0", 3}])
    back = Versions.rollback(versions)
    assert {back.current, Versions.rollback(back).current} == {2, 1}
    assert back |> Versions.rollback() |> Versions.rollback() == nil
    # Whoever is current again was before only once.
    assert versions |> Versions.promote(1) |> Map.fetch!(:before) == [3, 2]
    assert versions |> Versions.drop(2) |> Versions.rollback() |> Map.fetch!(:current) == 1
  end

  test "what no call gets goes, the latest that were current last" do
    versions = versions([{"1.0.0", 1}, {"1.1.0", 2}, {"1.2.0", 3}, {"1.3.0", 4}])
    all = fn _serial -> true end
    assert Versions.idle(versions, 0, all) == [3, 2, 1]
    assert Versions.idle(versions, 2, all) == [1]
    assert Versions.idle(versions, 0, &(&1 != 2)) == [3, 1]
    # The one that was gone back from comes after those that were before.
    assert versions |> Versions.rollback() |> Versions.idle(1, all) == [1, 4]
    split = Versions.split(versions, [{4, 1}, {1, 1}], :random)
    assert Versions.idle(split, 0, all) == [3, 2]
    # One that has not been current yet is no such.
    assert versions |> Versions.add("2.0.0", 5) |> Versions.idle(0, all) == [3, 2, 1]
  end

  describe "a split" do
    test "gives each its share" do
      split =
        [{"1.0.0", 1}, {"2.0.0", 2}] |> versions() |> Versions.split([{1, 90}, {2, 10}], :random)

      got = for n <- 1..10_000, do: Versions.share(Versions.route(split), n)
      assert_in_delta Enum.count(got, &(&1 == 2)), 1_000, 150
      assert {Versions.hundredths(split, 1), Versions.hundredths(split, 2)} == {90.0, 10.0}
    end

    test "keeps the keys of a canary whose share grows, whatever the weights add up to" do
      versions = versions([{"1.0.0", 1}, {"2.0.0", 2}])

      canary = fn weights ->
        route = versions |> Versions.split(weights, :random) |> Versions.route()
        for key <- 1..2_000, Versions.share(route, key) == 2, into: MapSet.new(), do: key
      end

      [few, more, most] =
        Enum.map([[{1, 95}, {2, 5}], [{1, 8}, {2, 2}], [{1, 1}, {2, 1}]], canary)

      assert MapSet.subset?(few, more) and MapSet.subset?(more, most)
      assert MapSet.size(few) < MapSet.size(more) and MapSet.size(more) < MapSet.size(most)
    end

    test "of one version gives it all, and ends with the next that is current" do
      versions = versions([{"1.0.0", 1}, {"2.0.0", 2}])
      split = Versions.split(versions, [{1, 1}], :random)
      assert Enum.all?(1..1_000, &(Versions.share(Versions.route(split), &1) == 1))
      assert split |> Versions.promote(2) |> Versions.route() == 2
      assert split |> Versions.rollback() |> Versions.route() == 1
    end
  end
end
