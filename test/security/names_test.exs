defmodule Cybernetic.WASM.Security.NamesTest do
  # Whoever brings a module may want it to be called in the place of another, or with more than that one is granted; and whoever
  # brings a name, to be served slowly.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Named

  alias Cybernetic.WASM.{CallError, Digest, Executor, FreshNode, LimitError, Loader, LoadError}
  alias Cybernetic.WASM.{Runtime, Sandbox, Store}
  alias Cybernetic.WASM.Loader.{Keys, Signature}

  defmodule Upload do
    @behaviour Cybernetic.WASM.Loader.Source
    @impl true
    def fetch({name, bytes}, _opts), do: {:ok, bytes, %{name: name, version: "9.9.9"}}
    @impl true
    def describe(_upload), do: "an upload"
  end

  defp number(given), do: Executor.call(given, "number")

  test "a source that is no store takes no name of this node, whatever it says" do
    name = name()
    load_numbered!(name, 1)
    {:bytes, bytes} = numbered(2)
    assert {:ok, _module} = Runtime.load_module({Upload, {name, bytes}})
    assert number(name) == {:ok, 1}
    # Asked to, it does; its word for the version gives way to what is there.
    assert Runtime.load_module!({Upload, {"other", bytes}}, name: name).version == "9.9.9"
    {:bytes, bytes} = numbered(3)
    assert Runtime.load_module!({Upload, {"other", bytes}}, name: name).version == "9.9.10"
  end

  test "a manifest that names itself after another module takes no name either" do
    name = name()
    load_numbered!(name, 1)
    {:ok, manifest} = Sandbox.Manifest.parse(~s|[module]\nname = "#{name}"|)
    assert {:ok, _module} = Runtime.load_module(numbered(2), manifest: manifest)
    assert number(name) == {:ok, 1}
  end

  @tag :tmp_dir
  test "nor does one of a module that a store has without a name", %{tmp_dir: folder} do
    File.chmod!(folder, 0o700)
    name = name()
    load_numbered!(name, 1)
    text = ~s|[module]\nname = "#{name}"\nversion = "0.1.0"|
    {:ok, manifest} = Sandbox.Manifest.parse(text)
    {:bytes, bytes} = numbered(2)
    {:ok, entry} = Store.put(bytes, store: folder)
    opts = [manifest: manifest, store: folder]

    {:ok, fetched} = Loader.fetch({:store, entry.digest}, opts)
    assert fetched.name == name

    for source <- [{:store, entry.digest}, fetched] do
      assert {:ok, _module} = Runtime.load_module(source, opts)
      assert {number(name), length(Runtime.changes(name))} == {{:ok, 1}, 1}
    end

    # Nor is the manifest's word for the version the store's.
    module = Runtime.load_module!({:store, entry.digest}, [name: name] ++ opts)
    assert module.version == "0.1.1"

    # What is no name of a node is none here, whoever said it.
    {:ok, fetched} = Loader.fetch({:store, entry.digest}, store: folder, name: "No name")
    assert {:ok, _module} = Runtime.load_module(fetched)
    refute Enum.any?(Runtime.modules(), &(&1.name == "No name"))
  end

  test "a reload does not get rid of the sandbox or the manifest of a name" do
    name = name()
    {:ok, manifest} = Sandbox.Manifest.parse("[limits]\nfuel = 1")
    load_numbered!(name, 1, manifest: manifest, sandbox: Sandbox.new(host_functions: []))
    assert {:ok, _module} = Runtime.reload(name, numbered(2))

    assert {:error, %LimitError{limit: :fuel, allowed: 1}} =
             Executor.call(name, "number", [], fuel: 1_000_000)

    asking = numbered(3, ~S|(import "env" "f" (func))|)
    assert {:error, %LoadError{reason: :widened}} = Runtime.reload(name, asking)

    assert {:error, %LoadError{reason: :widened}} =
             Runtime.reload(name, numbered(3), manifest: false)
  end

  test "what is asked of a name anew holds for its reloads, though its module is there already" do
    {public, private} = Keys.generate()
    {:bytes, bytes} = numbered(1)
    signature = Signature.sign(Signature.new(Digest.text_of(bytes, :blake3), nil), private)
    trust = [trust: [keys: [Keys.to_text(public)]]]
    signed = [signature: {:bytes, Signature.encode(signature)}] ++ trust

    for again <- [
          fn name -> Runtime.load_module({:bytes, bytes}, [name: name] ++ signed) end,
          fn name ->
            Runtime.load_module({:bytes, bytes}, [name: name, current: false] ++ signed)
          end,
          fn name -> Runtime.reload(name, {:bytes, bytes}, signed) end
        ] do
      name = name()
      load_numbered!(name, 1)
      again.(name)
      assert [%{action: :loaded}] = Runtime.changes(name)
      assert {:error, %LoadError{reason: :unsigned}} = Runtime.reload(name, numbered(2))
      assert number(name) == {:ok, 1}
    end
  end

  test "a module that has been started up stays in the sandbox that it was loaded with" do
    name = name()
    wat = ~S|(module (func (export "init")) (func (export "spin") (loop (br 0))))|
    held = [name: name, sandbox: Sandbox.new(fuel: 1_000)]
    module = Runtime.load_module!({:bytes, wat}, held)

    for given <- [module, name] do
      {:ok, ready} = Runtime.preinit(given, "init")

      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
               Executor.call(ready, "spin", [], fuel: 1_000_000)
    end
  end

  defmodule Tag do
    @behaviour Cybernetic.WASM.Loader.Source
    @impl true
    def fetch({test, bytes}, opts) do
      send(test, {:http, opts.http})
      {:ok, bytes, %{}}
    end

    @impl true
    def describe(_tag), do: "a tag"
    @impl true
    def mutable?(_tag), do: true
  end

  test "what one source was trusted with is not handed on to the next" do
    name = name()
    [{:bytes, one}, {:bytes, two}] = for n <- 1..2, do: numbered(n)
    digest = Runtime.load_module!({:bytes, one}).digest
    opts = [allow_unpinned: true, digest: digest, http: [max_redirects: 3]]
    {:ok, _module} = Runtime.load_module({Tag, {self(), one}}, [name: name] ++ opts)
    assert_received {:http, max_redirects: 3}

    assert {:error, %LoadError{reason: :unpinned}} = Runtime.reload(name, {Tag, {self(), two}})
    assert {:ok, _module} = Runtime.reload(name, {Tag, {self(), two}}, allow_unpinned: true)
    assert_received {:http, []}
  end

  test "the operator's pin under a name holds for each load and reload of it" do
    code = ~S"""
    source = fn number -> {:bytes, "(module (func (export \"f\") (result i32) i32.const #{number}))"} end
    {:ok, first} = Runtime.load_module(source.(1), name: "acme/pinned")
    reasons =
      for load <- [
            fn -> Runtime.reload("acme/pinned", source.(2)) end,
            fn -> Runtime.reload("acme/pinned", source.(2), version: "7.0.0", allow: :widen) end,
            fn -> Runtime.load_module(source.(2), name: "acme/pinned", version: "8.0.0", current: false) end
          ] do
        {:error, error} = load.()
        {error.reason, error.pin}
      end
    {reasons, Runtime.reload("acme/pinned", source.(1)), Executor.call("acme/pinned", "f"), length(Runtime.modules())}
    """

    digest =
      Runtime.load_module!({:bytes, ~s|(module (func (export "f") (result i32) i32.const 1))|}).digest

    assert {reasons, :unchanged, {:ok, 1}, 1} =
             FreshNode.eval([pins: %{"acme/pinned" => digest}], code)

    assert reasons == List.duplicate({:digest_mismatch, :config}, 3)
  end

  test "the operator's pin of a version holds where the version is what comes next" do
    code = ~S"""
    source = fn number -> {:bytes, "(module (func (export \"f\") (result i32) i32.const #{number}))"} end
    {:ok, manifest} = Cybernetic.WASM.Sandbox.Manifest.parse("[module]\nversion = \"0.1.0\"")
    for name <- ["acme/a", "acme/b"] do
      {:ok, _} = Runtime.load_module(source.(1), name: name, manifest: manifest)
      wrong =
        for load <- [
              fn -> Runtime.load_module(source.(3), name: name) end,
              # Its version is taken, and gives way.
              fn -> Runtime.load_module(source.(3), name: name, manifest: manifest) end,
              fn -> Runtime.load_module(source.(3), name: name, current: false) end,
              fn -> Runtime.reload(name, source.(3), manifest: manifest) end,
              fn -> Runtime.reload(name, source.(3), allow: :widen, manifest: false) end
            ] do
          {:error, error} = load.()
          {error.reason, error.pin, error.source}
        end
      {:ok, pinned} = Runtime.reload(name, source.(2))
      {:ok, next} = Runtime.reload(name, source.(3))
      {Enum.uniq(wrong), pinned.version, next.version}
    end
    """

    bytes = ~s|(module (func (export "f") (result i32) i32.const 2))|
    [sha256, blake3] = for kind <- [:sha256, :blake3], do: Digest.text_of(bytes, kind)
    pins = %{"acme/a@0.1.1" => sha256, "acme/b@0.1.1" => blake3}
    refused = {[{:digest_mismatch, :config, :bytes}], "0.1.1", "0.1.2"}
    assert FreshNode.eval([pins: pins], code) == [refused, refused]
  end

  test "names that nobody has loaded are refused alike, however many modules there are" do
    for _ <- 1..30, do: load_numbered!(name(), 1)
    long = String.duplicate("a", 1_000_000)

    for odd <- [long, "x@" <> long, "x@~> " <> long, <<255>> <> long] do
      assert {:error, %CallError{reason: :no_such_name} = error} = number(odd)
      assert byte_size(error.name) < 300
      assert length(error.known) <= 21
    end
  end

  test "requirements in any number leave no more behind than a few rows" do
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    for n <- 1..200, do: assert({:ok, 1} = number("#{name}@< 1.#{n}.0"))
    # Whatever was to be kept has been by now.
    {:ok, _module} = Runtime.promote(name, "1.0.0")

    rows =
      for {text, _} <- :ets.tab2list(Runtime.Names),
          is_binary(text),
          text =~ name <> "@<",
          do: text

    assert length(rows) in 1..32
    Runtime.unload(name)

    assert for({text, _} <- :ets.tab2list(Runtime.Names), is_binary(text), text =~ name, do: text) ==
             []
  end

  test "a smoke test that will not end holds up nobody else" do
    name = name()
    load_numbered!(name, 1)
    test = self()

    smoke = fn _module ->
      send(test, {:trying, self()})
      receive do: (:never -> :ok)
    end

    reload = Task.async(fn -> Runtime.reload(name, numbered(2), smoke: smoke) end)
    assert_receive {:trying, pid}
    assert {:ok, _module} = Runtime.reload(name, numbered(3))
    assert number(name) == {:ok, 3}
    Process.exit(pid, :kill)
    assert {:error, %LoadError{reason: :smoke_failed}} = Task.await(reload, :infinity)
  end
end
