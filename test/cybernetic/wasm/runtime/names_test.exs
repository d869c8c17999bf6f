defmodule Cybernetic.WASM.Runtime.NamesTest do
  # Modules under names: loading them so, and calling them by these names wherever a module is taken.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Named}

  alias Cybernetic.WASM.{
    CallError,
    Executor,
    FreshNode,
    Instance,
    LinkError,
    LoadError,
    Loader,
    Module,
    Runtime,
    Sandbox,
    Store
  }

  alias Cybernetic.WASM.Runtime.{Names, Registry}

  defp number(given), do: Executor.call(given, "number")

  describe "a load under a name" do
    test "gives the module with its name and version, from 0.1.0" do
      name = name()
      module = load_numbered!(name, 1)
      assert {module.name, module.version} == {name, "0.1.0"}
      assert load_numbered!(name, 2).version == "0.1.1"
      assert load_numbered!(name, 3, version: "1.2.0").version == "1.2.0"
      assert load_numbered!(name, 4).version == "1.2.1"
      assert number(name) == {:ok, 4}
      assert inspect(module) =~ "#{name}@0.1.0"
    end

    test "of what is current already changes nothing but the count" do
      name = name()
      load_numbered!(name, 1, version: "1.0.0")
      assert load_numbered!(name, 1).version == "1.0.0"
      assert load_numbered!(name, 1, version: "1.0.0").version == "1.0.0"
      assert [%{version: "1.0.0", loads: 3}] = listed(name)
      assert [%{action: :loaded}] = Runtime.changes(name)
    end

    test "never gives a version other bytes" do
      name = name()
      load_numbered!(name, 1, version: "1.0.0")

      assert {:error, %LoadError{reason: :version_taken} = error} =
               Runtime.load_module(numbered(2), name: name, version: "1.0.0")

      assert {error.name, error.version} == {name, "1.0.0"}
      assert Exception.message(error) =~ "version 1.0.0 of \"#{name}\" is there"
      assert number(name) == {:ok, 1}
    end

    test "of an older version puts it beside the current one, unless it is to be current" do
      name = name()
      load_numbered!(name, 2, version: "2.0.0")
      assert load_numbered!(name, 1, version: "1.0.0").version == "1.0.0"
      assert {number(name), number(name <> "@1.0.0")} == {{:ok, 2}, {:ok, 1}}
      assert [%{action: :loaded, from: "2.0.0", to: "1.0.0"}, _first] = Runtime.changes(name)

      # One that is there is not made current by being loaded again, either.
      load_numbered!(name, 1, version: "1.0.0")
      assert number(name) == {:ok, 2}
      load_numbered!(name, 1, version: "1.0.0", current: true)
      assert number(name) == {:ok, 1}
      load_numbered!(name, 2, version: "2.0.0")
      assert number(name) == {:ok, 2}
      load_numbered!(name, 0, version: "0.9.0", current: true)
      assert number(name) == {:ok, 0}
      # Older is what is older than the current one, and not than the highest.
      load_numbered!(name, 15, version: "1.5.0")
      assert number(name) == {:ok, 15}
    end

    test "of an older version leaves a split as it is" do
      name = name()
      load_numbered!(name, 1, version: "1.0.0")
      load_numbered!(name, 2, version: "2.0.0")
      :ok = Runtime.split(name, %{"1.0.0" => 1_000_000, "2.0.0" => 1})
      load_numbered!(name, 1, version: "1.0.0")
      load_numbered!(name, 0, version: "0.1.0")
      assert [%{share: share}, %{share: other}, %{share: 0.0}] = listed(name)
      assert {share, other} == {0.0, 100.0}
    end

    test "of the same module and manifest again is no other version" do
      name = name()
      {:ok, manifest} = Sandbox.Manifest.parse("[module]\nversion = \"3.1.0\"")
      for number <- [1, 2], do: load_numbered!(name, number, manifest: manifest)
      assert load_numbered!(name, 2, manifest: manifest).version == "3.1.1"
      assert [%{version: "3.1.1", loads: 2}, %{version: "3.1.0"}] = listed(name)
    end

    test "with other options is another version" do
      name = name()
      load_numbered!(name, 1)
      assert load_numbered!(name, 1, metering: :epoch).version == "0.1.1"

      assert {:error, %LoadError{reason: :version_taken}} =
               Runtime.load_module(numbered(1), name: name, version: "0.1.0", metering: :epoch)
    end

    test "takes the manifest's version, and the next where other bytes have that" do
      name = name()
      {:ok, manifest} = Sandbox.Manifest.parse("[module]\nversion = \"3.1.0\"")
      assert load_numbered!(name, 1, manifest: manifest).version == "3.1.0"
      assert load_numbered!(name, 2, manifest: manifest).version == "3.1.1"
      assert load_numbered!(name, 3, manifest: manifest, version: "4.0.0").version == "4.0.0"
    end

    test "that is not to be current is called by its version" do
      name = name()
      load_numbered!(name, 1, version: "1.0.0")
      load_numbered!(name, 2, version: "2.0.0", current: false)
      assert {number(name), number(name <> "@2.0.0")} == {{:ok, 1}, {:ok, 2}}
      # The first of a name is.
      other = name()
      load_numbered!(other, 3, current: false)
      assert number(other) == {:ok, 3}
    end

    test "that fails leaves the name as it was" do
      name = name()
      load_numbered!(name, 1)
      assert {:error, %LoadError{}} = Runtime.load_module({:bytes, "no"}, name: name)
      assert number(name) == {:ok, 1}
      assert {:error, %LoadError{}} = Runtime.load_module({:bytes, "no"}, name: fresh = name())
      assert {:error, %CallError{reason: :no_such_name}} = number(fresh)
    end

    test "refuses what is no name, no version, and a version without a name" do
      for bad <- [
            "",
            "Upper",
            "../x",
            "/x",
            "x/",
            ".x",
            "a b",
            "x@1",
            "x\0",
            :x,
            "ä",
            String.duplicate("x", 201)
          ] do
        assert_raise ArgumentError, ~r/option :name must be a name such as/, fn ->
          Runtime.load_module(numbered(1), name: bad)
        end
      end

      for bad <- ["1", "1.2", "~> 1.2", "1.2.0+build", "01.2.0", 1, String.duplicate("1", 99)] do
        assert_raise ArgumentError, ~r/option :version must be a version such as/, fn ->
          Runtime.load_module(numbered(1), name: name(), version: bad)
        end
      end

      assert_raise ArgumentError, ~r/option :version is of a load under a name/, fn ->
        Runtime.load_module(numbered(1), version: "1.0.0")
      end
    end

    test "without the application says that it needs it" do
      code = """
      calls = [
        fn -> Runtime.load_module({:bytes, "(module)"}, name: "x") end,
        fn -> Executor.call("x", "f") end,
        fn -> Runtime.modules() end,
        fn -> Runtime.rollback("x") end,
        fn -> Runtime.subscribe("x") end
      ]
      for call <- calls do
        try do
          call.()
        rescue
          error in ArgumentError -> error.message =~ "start :cybernetic_wasm first"
        end
      end
      """

      assert FreshNode.eval([], code, start: false) == List.duplicate(true, 5)
    end

    test "goes with the application, and its names with it" do
      code = """
      Runtime.load_module!({:bytes, ~S|(module (func (export "f")))|}, name: "x")
      {:ok, nil} = Executor.call("x", "f")
      :ok = Application.stop(:cybernetic_wasm)
      :ok = Application.start(:cybernetic_wasm)
      {:error, error} = Executor.call("x", "f")
      {error.reason, Runtime.modules(), Enum.count(:persistent_term.get(), &match?({{Cybernetic.WASM.Runtime.Names, _}, _}, &1))}
      """

      assert FreshNode.eval([], code) == {:no_such_name, [], 0}
    end
  end

  describe "a module of a store" do
    @describetag :tmp_dir

    setup %{tmp_dir: folder} do
      File.chmod!(folder, 0o700)
      name = name()

      for {version, number} <- [{"1.2.0", 120}, {"1.2.7", 127}, {"2.0.0", 200}] do
        {:bytes, bytes} = numbered(number)
        {:ok, _entry} = Store.put(bytes, name: name, version: version, store: folder)
      end

      %{name: name, store: folder}
    end

    test "brings name and version along", %{name: name, store: store} do
      module = Runtime.load_module!({:store, name <> "@1.2"}, store: store)
      assert {module.name, module.version} == {name, "1.2.7"}
      assert number(name) == {:ok, 127}
      assert Runtime.load_module!({:store, name}, store: store).version == "2.0.0"
      assert number(name) == {:ok, 200}
      assert number(name <> "@1") == {:ok, 127}
    end

    test "that is older takes nobody back by itself", %{name: name, store: store} do
      Runtime.load_module!({:store, name}, store: store)
      module = Runtime.load_module!({:store, name <> "@1.2.0"}, store: store)
      assert module.version == "1.2.0"
      assert {number(name), number(name <> "@1.2.0")} == {{:ok, 200}, {:ok, 120}}

      assert {:error, %LoadError{reason: :older_version, version: "1.2.7", found: "2.0.0"}} =
               Runtime.reload(name, {:store, name <> "@1.2"}, store: store)

      assert {:ok, %{version: "1.2.0"}} = Runtime.promote(name, "1.2.0")
      assert number(name) == {:ok, 120}
    end

    test "goes under another name, or under none, where that is asked for", %{
      name: name,
      store: store
    } do
      other = name()
      module = Runtime.load_module!({:store, name <> "@1.2.0"}, store: store, name: other)
      assert {module.name, module.version} == {other, "1.2.0"}
      assert Runtime.load_module!({:store, name}, store: store, name: nil).version == nil
      assert {:error, %CallError{reason: :no_such_name}} = number(name)
    end

    test "is never another one under its version", %{name: name, store: store} do
      load_numbered!(name, 1, version: "1.2.0")

      assert {:error, %LoadError{reason: :version_taken}} =
               Runtime.load_module({:store, name <> "@1.2.0"}, store: store)

      assert {:error, %LoadError{reason: :version_taken}} =
               Runtime.reload(name, {:store, name <> "@1.2.0"}, store: store)

      assert {:ok, %{version: "2.0.0"}} = Runtime.reload(name, {:store, name}, store: store)
    end
  end

  describe "a name" do
    setup do
      name = name()

      for {version, number} <- [
            {"1.2.9", 129},
            {"1.2.10", 1210},
            {"1.3.0", 130},
            {"2.0.0-rc.1", 200}
          ],
          do: load_numbered!(name, number, version: version)

      load_numbered!(name, 110, version: "1.1.0", current: true)
      %{name: name}
    end

    test "is found with a version and with a requirement", %{name: name} do
      for {asked, number} <- [
            {"", 110},
            {"@1.2.9", 129},
            {"@1.2", 1210},
            {"@1", 130},
            {"@~> 1.2", 130},
            {"@< 1.2.10", 129},
            {"@2.0.0-rc.1", 200},
            {"@~> 2.0-rc", 200}
          ] do
        assert {asked, {:ok, number}} == {asked, number(name <> asked)}
        assert {asked, {:ok, number}} == {asked, number({:name, name <> asked})}
      end
    end

    test "that is not there, or has no such version, is an error that names those that are", %{
      name: name
    } do
      assert {:error, %CallError{reason: :no_such_version, name: ^name} = error} =
               number(name <> "@~> 3.0")

      assert {error.expected, error.blame} == {"~> 3.0", :caller}
      assert error.known == ["2.0.0-rc.1", "1.3.0", "1.2.10", "1.2.9", "1.1.0"]

      assert Exception.message(error) =~
               ~s|no version of "#{name}" is ~> 3.0; loaded are: 2.0.0-rc.1, 1.3.0|

      assert {:error, %CallError{reason: :no_such_name} = error} = number(name <> "x")
      assert hd(error.known) == name

      assert Exception.message(error) =~
               ~s|no module is loaded under the name "#{name}x": load it first|

      assert Exception.message(error) =~ "; loaded are: #{name}"
    end

    test "that is a path or a URL says what is done with one" do
      for path <- ["priv/wasm/compute.wasm", "x.wat", "https://example.com/x"] do
        assert {:error, %CallError{reason: :no_such_name} = error} = number(path)

        assert Exception.message(error) =~
                 "load it first, with Cybernetic.WASM.Runtime.load_module/2, and call the module that this gives"
      end
    end

    test "with something else behind the @ says what stands there", %{name: name} do
      for odd <- ["@latest", "@", "@v1.2.0", "@1.2.x", "@>=1"] do
        assert {:error, %CallError{reason: :no_such_name} = error} = number(name <> odd)
        assert Exception.message(error) =~ "behind the @ stands a version"
      end
    end

    test "is at hand for a requirement that comes often, whatever came before", %{name: name} do
      others = for number <- 1..40, do: "#{name}@>= 1.0.#{number}"
      for text <- others, do: {:ok, _} = number(text)
      at_hand = fn -> Names.versions(name).asked |> Enum.map(&elem(&1, 0)) |> Enum.sort() end
      wanted = name <> "@~> 1.2"

      eventually(fn ->
        {:ok, 130} = number(wanted)
        # What was asked before is done.
        _ = :sys.get_state(Registry)
        wanted in at_hand.()
      end)

      assert length(at_hand.()) == 32
      for text <- [wanted | others], do: assert(Names.row(text) != nil == text in at_hand.())
      for text <- [wanted | others], do: assert({:ok, 130} = number(text))
      # A version that comes later is found by all of them.
      load_numbered!(name, 190, version: "1.9.0")
      for text <- [wanted | others], do: assert({:ok, 190} = number(text))
    end

    test "of any shape is no more than not there" do
      for odd <- [
            "",
            "@",
            "@1.0.0",
            "x@",
            "x@@",
            "X",
            "../../etc/passwd",
            <<0>>,
            <<255, 254>>,
            "x@~>",
            "x@1.0.0 or",
            String.duplicate("x", 100_000),
            "x@" <> String.duplicate("1", 100_000),
            "blake3:00",
            "(module)"
          ] do
        assert {:error, %CallError{reason: :no_such_name} = error} = number(odd)
        assert byte_size(Exception.message(error)) < 10_000
        assert {:error, %CallError{reason: :no_such_name}} = number({:name, odd})
      end

      for odd <- [{:name, :x}, {:name, nil}, {:name, 'x'}, 1, nil, %{}, {:name, "x", "y"}],
          do: assert_raise(ArgumentError, fn -> number(odd) end)
    end

    test "that is not there is found no sooner for many that are", %{name: _name} do
      names = for _ <- 1..30, do: name()
      for name <- names, do: load_numbered!(name, 1)
      assert {:error, error} = number("none/such")
      assert length(error.known) == 21
      assert Exception.message(error) =~ ", and more"
    end
  end

  describe "names are taken wherever a module is" do
    setup do
      name = name()
      Runtime.load_module!("priv/wasm/compute.wasm", name: name, version: "1.0.0")
      %{name: name}
    end

    test "by all of Executor", %{name: name} do
      for given <- [name, name <> "@1", {:name, name}] do
        assert Executor.call(given, "process", [42]) == {:ok, 84}
        assert Executor.call(given, "process", [42], fuel: 1_000_000) == {:ok, 84}
        assert Executor.call!(given, "process", [42]) == 84
        assert {:ok, %{result: 84}} = Executor.run(given, "process", [42])
        assert Executor.run!(given, "process", [42]).result == 84
        assert given |> Executor.async("process", [42]) |> Executor.await() == {:ok, 84}
        assert given |> Executor.async_nolink("process", [42]) |> Executor.await() == {:ok, 84}

        assert given |> Executor.async_stream("process", [[1], [2]]) |> Enum.to_list() == [
                 {:ok, 2},
                 {:ok, 4}
               ]

        assert [{:done, %{result: 84}}] =
                 given |> Executor.stream("process", [42], tagged: true) |> Enum.to_list()

        assert {:ok, async} = Executor.stream(given, "process", [42], into: self())
        assert_receive {ref, {:done, %{result: 84}}} when ref == async.ref
        assert Executor.with_instance(given, &Instance.call!(&1, "process", [42])) == {:ok, 84}

        assert Executor.with_instance(
                 given,
                 [fuel: 1_000_000],
                 &Instance.call!(&1, "process", [42])
               ) == {:ok, 84}
      end
    end

    test "by all that makes instances and looks at modules", %{name: name} do
      for given <- [name, name <> "@1", {:name, name}] do
        assert {:ok, instance} = Instance.new(given)
        assert instance.module.version == "1.0.0"
        assert Instance.call(instance, "process", [42]) == {:ok, 84}

        assert given |> Instance.new!(fuel: 1_000_000) |> Instance.call("process", [42]) ==
                 {:ok, 84}

        assert Sandbox.check(given, :none) == []
        assert {:ok, _module} = Runtime.preinit(given, "process", [42])
        assert {:ok, %{version: "1.0.0"}} = Runtime.info(given)
        assert {:ok, %Module{version: "1.0.0"}} = Runtime.module(given)
        assert Sandbox.Manifest.check(%Sandbox.Manifest{}, given) == :ok
        named = if is_binary(given), do: {:name, given}, else: given
        expect = [exports: [process: "(i32) -> i32"]]
        assert {:ok, %Module{version: "1.0.0"}} = Loader.validate(named, expect: expect)
      end

      pid = start_supervised!({Instance, module: {:name, name <> "@1"}})
      assert Instance.call(pid, "process", [42]) == {:ok, 84}
    end

    test "as a command, and with its options in the place of arguments" do
      name = name()
      Runtime.load_module!("priv/wasm/wc.wasm", name: name)
      opts = [stdin: "to be", sandbox: :command]
      assert {:ok, %{stdout: "0 2 5\n"}} = Executor.run(name, :start, opts)
      assert {:ok, %{stdout: "0 2 5\n"}} = Executor.run(name, :start, [key: 1] ++ opts)
      assert {:ok, 0} = Executor.call(name, :start, [], [key: 1] ++ opts)
    end

    test "and an unknown one is the error of each" do
      none = {:error, :no_such_name}
      reason = fn {:error, error} -> {:error, error.reason} end

      for given <- ["no/such", {:name, "no/such@1"}] do
        assert reason.(Executor.call(given, "f")) == none
        assert reason.(Executor.run(given, :start)) == none
        assert given |> Executor.async("f") |> Executor.await() |> reason.() == none
        assert_raise CallError, fn -> given |> Executor.stream("f") |> Enum.to_list() end
        assert reason.(Executor.stream(given, "f", [], into: self())) == none
        assert [none] == given |> Executor.async_stream("f", [[]]) |> Enum.map(reason)
        assert reason.(Executor.with_instance(given, & &1)) == none
        assert reason.(Instance.new(given)) == none
        assert reason.(Runtime.preinit(given, "f")) == none
        assert reason.(Runtime.info(given)) == none
        assert reason.(Sandbox.Manifest.check(%Sandbox.Manifest{}, given)) == none
        assert_raise CallError, fn -> Sandbox.check(given, :none) end
      end

      pid = start_supervised!({Instance, module: {:name, "no/such"}})
      assert reason.(Instance.call(pid, "f")) == none
    end

    test "in imports, as whole modules and one export each" do
      lib = name()
      load_numbered!(lib, 7, version: "1.0.0")

      main =
        load!(~S"""
        (module
          (import "lib" "number" (func $a (result i32)))
          (import "env" "other" (func $b (result i32)))
          (func (export "sum") (result i32) (i32.add (call $a) (call $b))))
        """)

      for whole <- [lib, {:name, lib}, lib <> "@1"], one <- [lib, {:name, lib <> "@1.0.0"}] do
        imports = %{"lib" => whole, "env" => %{"other" => {one, "number"}}}
        assert Executor.call(main, "sum", [], imports: imports) == {:ok, 14}
        assert {:ok, instance} = Instance.new(main, imports: imports)
        assert Instance.call(instance, "sum") == {:ok, 14}
      end

      several = %{"lib" => lib, "env" => %{"other" => [fn _ctx, _a -> 1 end, {lib, "number"}]}}
      assert Executor.call(main, "sum", [], imports: several) == {:ok, 14}

      imports = %{"lib" => "no/lib", "env" => %{"other" => {"no/lib", "number"}}}

      assert {:error, %LinkError{problems: problems}} =
               Executor.call(main, "sum", [], imports: imports)

      assert length(problems) == 2

      for problem <- problems,
          do: assert(problem.reason =~ ~s|no module is loaded under the name "no/lib"|)
    end
  end

  describe "what is listed" do
    test "is what was loaded, and how it is used" do
      name = name()
      one = load_numbered!(name, 1, version: "1.0.0")
      {:bytes, bytes} = numbered(1)
      before = DateTime.utc_now() |> DateTime.truncate(:second)
      load_numbered!(name, 2, version: "2.0.0")

      assert [%{version: "2.0.0", current: true}, %{version: "1.0.0", current: false} = first] =
               listed(name)

      assert {first.digest, first.size, first.source} == {one.digest, byte_size(bytes), :bytes}
      assert {first.loads, first.calls, first.last_used, first.live_instances} == {1, 0, nil, 0}
      assert first.code_size > 0

      for _ <- 1..3, do: number(name <> "@1.0.0")
      number(one)
      {:ok, instance} = Instance.new(one)
      Instance.call(instance, "number")
      Instance.run(instance, "number")
      one |> Executor.async_stream("number", [[], []]) |> Stream.run()
      one |> Executor.stream("number") |> Stream.run()

      assert [%{calls: 0, last_used: nil}, first] = listed(name)
      assert {first.calls, first.live_instances} == {9, 1}
      assert DateTime.compare(first.last_used, before) in [:eq, :gt]

      Instance.close(instance)
      eventually(fn -> match?([_, %{live_instances: 0}], listed(name)) end)
      assert {:ok, %{calls: 9, current: false}} = Runtime.info(name <> "@1.0.0")
    end

    test "knows members of linked guests, and guests of other engines" do
      name = name()
      module = load_numbered!(name, System.unique_integer([:positive, :monotonic]))

      main =
        load!(
          ~S|(module (import "lib" "number" (func $f (result i32))) (func (export "f") (result i32) (call $f)))|
        )

      {:ok, linked} = Instance.new(main, imports: %{"lib" => name})
      {:ok, other} = Instance.new(module, deterministic: true)
      {:ok, forked} = Instance.new(module, snapshottable: true)
      assert [%{live_instances: 3}] = listed(name)
      for instance <- [linked, other, forked], do: Instance.close(instance)
      eventually(fn -> match?([%{live_instances: 0}], listed(name)) end)
    end

    test "shows nothing of the options of a load" do
      name = name()
      load_numbered!(name, 1, manifest: secret_manifest())
      refute inspect(Runtime.modules(), limit: :infinity) =~ "hunter2"
      refute inspect(:ets.tab2list(Runtime.Names), limit: :infinity) =~ "hunter2"
      refute :io_lib.format("~p", [:ets.tab2list(Runtime.Names)]) |> to_string() =~ "hunter2"
    end
  end

  defp secret_manifest do
    {:ok, manifest} =
      Sandbox.Manifest.parse(~s|[capabilities]\nenv = [{ name = "TOKEN_X", value = "hunter2" }]|)

    manifest
  end

  defp listed(name), do: Enum.filter(Runtime.modules(), &(&1.name == name))
end
