defmodule Cybernetic.WASM.Imports.LinkedTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Named

  alias Cybernetic.WASM.Imports.Linked
  alias Cybernetic.WASM.Runtime

  test "all that is given under a name is of one version, however the name is written" do
    # Two spellings of one name were looked up one by one: a reload between them gave a call two versions.
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    load_numbered!(name, 2, version: "2.0.0")
    # Each look-up may give another version.
    :ok = Runtime.split(name, %{"1.0.0" => 1, "2.0.0" => 1})

    given = %{
      "a" => name,
      "b" => {:name, name},
      "c" => %{"one" => {name, "number"}, "all" => [{{:name, name}, "number"}]}
    }

    versions =
      for _ <- 1..100 do
        linked = Linked.modules(given)
        %{"one" => {one, "number"}, "all" => [{all, "number"}]} = linked["c"]
        assert [version] = Enum.uniq(for m <- [linked["a"], linked["b"], one, all], do: m.version)
        version
      end

    assert versions |> Enum.uniq() |> Enum.sort() == ["1.0.0", "2.0.0"]
  end
end
