defmodule Cybernetic.WASM.Instance.Link.SnapshotsTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Guests, Turns}

  alias Cybernetic.WASM.{CallError, Instance, LinkError}

  describe "linking and snapshots" do
    test "an instance that is linked cannot be snapshottable" do
      lib = load!(~S|(module (func (export "f")))|)
      module = load!(~S|(module (import "lib" "f" (func)))|)

      for opts <- [
            [imports: %{"lib" => lib}],
            [imports: %{"lib" => Instance.new!(lib)}],
            [imports: %{"lib" => %{"f" => {lib, "f"}}}],
            [imports: %{"lib" => %{"f" => fn _ -> nil end}}, store: live()]
          ] do
        assert_raise ArgumentError, ~r/linked to others cannot be snapshottable/, fn ->
          Instance.new(module, [snapshottable: true] ++ opts)
        end
      end
    end

    test "one that others were linked to has no snapshot any more, and says so" do
      module = load!(~S|(module (func (export "f") (result i32) i32.const 1))|)
      importer = load!(~S|(module (import "lib" "f" (func (result i32))))|)
      lib = Instance.new!(module, snapshottable: true)
      assert {:ok, _} = Instance.snapshot(lib)
      assert {:ok, _} = Instance.new(importer, imports: %{"lib" => lib})

      for result <- [Instance.snapshot(lib), Instance.fork(lib)] do
        assert {:error, %CallError{reason: :no_snapshot} = error} = result
        assert Exception.message(error) =~ "other modules have been linked"
      end
    end

    test "one that nothing could be linked to still has" do
      module = load!(~S|(module (func (export "f") (result i32) i32.const 1))|)
      wrong = load!(~S|(module (import "lib" "f" (func (param f64))))|)
      lib = Instance.new!(module, snapshottable: true)
      assert {:error, %LinkError{}} = Instance.new(wrong, imports: %{"lib" => lib})
      assert {:ok, _} = Instance.snapshot(lib)
    end
  end
end
