defmodule Cybernetic.WASM.StoreTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.StoreFolders, only: [store_folder: 1]

  alias Cybernetic.WASM.{Config, Executor, FreshNode, LoadError, Runtime, Store, StoreError}

  doctest Cybernetic.WASM.Store

  @wat ~S|(module (func (export "f") (result i32) (i32.const 7)))|

  describe "the source {:store, reference}" do
    setup :store_folder

    test "loads what the store has, and brings name and version along", %{store: store} do
      {:ok, entry} = Store.put(@wat, name: "acme/x", version: "1.2.0", store: store)

      for reference <- ["acme/x", "acme/x@1", "acme/x@~> 1.2", entry.digest, entry.sha256] do
        assert {:ok, module} = Runtime.load_module({:store, reference}, store: store)
        assert Executor.call(module, "f") == {:ok, 7}
        assert module.digest == entry.digest
      end

      {:ok, fetched} = Cybernetic.WASM.Loader.fetch({:store, "acme/x@1"}, store: store)
      assert {fetched.name, fetched.version} == {"acme/x", "1.2.0"}
      assert fetched.digests.blake3 == entry.digest
    end

    test "is held to pins like any other", %{store: store} do
      {:ok, entry} = Store.put(@wat, name: "x", store: store)
      opts = [store: store, digest: entry.sha256]
      assert {:ok, _module} = Runtime.load_module({:store, "x"}, opts)
      opts = [store: store, digest: "sha256:" <> String.duplicate("0", 64)]

      assert {:error, %LoadError{reason: :digest_mismatch}} =
               Runtime.load_module({:store, "x"}, opts)
    end

    test "says what the store says", %{store: store} do
      {:ok, _} = Store.put(@wat, name: "x", version: "1.0.0", store: store)

      assert {:error, %StoreError{reason: :no_such_version, versions: ["1.0.0"]} = error} =
               Runtime.load_module({:store, "x@2"}, store: store)

      assert Exception.message(error) == "store: no version of x fits 2; there are 1.0.0"

      assert {:error, %LoadError{reason: :too_large, allowed: 10}} =
               Runtime.load_module({:store, "x"}, store: store, max_module_size: 10)

      assert_raise ArgumentError, ~r/{:store, "name@version"}/, fn ->
        Runtime.load_module({:store, 1}, store: store)
      end

      assert_raise ArgumentError, ~r/a folder, or {module, config}/, fn ->
        Runtime.load_module({:store, "x"}, store: {:none, 1})
      end
    end
  end

  describe "a door that is given something else" do
    test "says what it takes" do
      for {take, words} <- [
            {fn -> Store.put({:bytes, @wat}) end, "put/2 takes the bytes of a module themselves"},
            {fn -> Store.put(nil) end, "put/2 takes the bytes of a module themselves"},
            {fn -> Store.get({:store, "x"}) end,
             ~s|a reference such as "acme/thumb@1.2" is needed|},
            {fn -> Store.versions(:x) end, ~s|a name such as "acme/thumb" is needed|},
            {fn -> Store.delete({"x", "1.0.0"}) end, ~s|a version such as "acme/thumb@1.2.3"|},
            {fn -> Store.prune([]) end, "prune(keep: 5)"},
            {fn -> Store.prune(5) end, "prune(keep: 5)"},
            {fn -> Store.prune(keep: :all) end, "option :keep must be"},
            {fn -> Store.list(1) end, "store options must be a keyword list"}
          ] do
        error = assert_raise ArgumentError, take
        assert error.message =~ words
        refute error.message =~ "(module"
      end
    end
  end

  defmodule Far do
    @moduledoc false
    @behaviour Cybernetic.WASM.Loader.Source

    @impl true
    def fetch({test, wat}, _opts) do
      send(test, :asked)
      {:ok, wat, %{}}
    end

    @impl true
    def describe(_argument), do: "far"

    @impl true
    def remote?(_argument), do: true
  end

  describe "a source that is far away" do
    setup :store_folder

    test "is not asked where the store has what is pinned", %{store: store} do
      {:ok, entry} = Store.put(@wat, name: "x", store: store)
      source = {Far, {self(), @wat}}

      for digest <- [entry.digest, entry.sha256], offline <- [false, true] do
        opts = [digest: digest, store: store, offline: offline]
        assert {:ok, module} = Runtime.load_module(source, opts)
        assert Executor.call(module, "f") == {:ok, 7}
      end

      refute_received :asked
      assert {:ok, _module} = Runtime.load_module(source, store: store)
      assert_received :asked
    end

    test "is asked where the store lacks it, has it damaged, or cannot be used", context do
      %{store: store, around: around, harm: harm} = context
      source = {Far, {self(), @wat}}
      {:ok, entry} = Store.put(@wat, store: store)
      opts = [digest: entry.digest, store: store]
      harm.blob.(entry.digest)

      assert {:error, %LoadError{reason: :offline}} =
               Runtime.load_module(source, [offline: true] ++ opts)

      assert {:ok, _module} = Runtime.load_module(source, opts)
      assert_received :asked
      # What it gave has taken the place of what was damaged.
      assert {:ok, @wat, _entry} = Store.get(entry.digest, store: store)

      File.rm_rf!(store)
      assert {:ok, _module} = Runtime.load_module(source, opts)
      assert_received :asked

      File.chmod!(around, 0o777)
      assert {:ok, _module} = Runtime.load_module(source, opts)
      assert_received :asked
    end
  end

  describe "without the option" do
    setup :store_folder

    test "the configured folder is the store", %{store: store} do
      assert FreshNode.eval(
               [store_dir: store, store_size: 8],
               ~S"""
               alias Cybernetic.WASM.{Store, StoreError}
               {:ok, _} = Store.put("12345678", name: "x")
               {:error, %StoreError{reason: :full}} = Store.put("9", name: "y")
               {:ok, [entry]} = Store.list()
               entry.name
               """
             ) == "x"

      assert {:ok, "12345678", _} = Store.get("x", store: store)
    end

    test "it is in the user's cache folder", %{around: around} do
      code = ~S"""
      {:ok, _} = Cybernetic.WASM.Store.put("bytes", name: "x")
      :ok
      """

      assert FreshNode.eval([], code, env: [{"XDG_CACHE_HOME", around}]) == :ok
      store = Path.join(around, "cybernetic_wasm/store")
      assert {:ok, "bytes", _} = Store.get("x", store: store)
    end
  end

  test "the configuration takes a path, a size and a store" do
    for wrong <- [[store_dir: 1], [store_size: 0], [store: "path"]],
        do: assert_raise(ArgumentError, fn -> Config.new!(wrong) end)

    assert Config.new!(store: {Store.Mnesia, []}, store_dir: "/x", store_size: 1)
  end

  test "errors have words, and are on one line where they are inspected" do
    {:error, error} =
      StoreError.refuse(:invalid_name, name: "a\nb" <> String.duplicate("x", 1_000))

    assert Exception.message(error) =~ ~S|"a\nb|
    assert byte_size(Exception.message(error)) < 500
    refute inspect(error) =~ "\n"
  end
end
