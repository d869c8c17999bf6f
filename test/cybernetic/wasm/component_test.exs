defmodule Cybernetic.WASM.ComponentTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{
    CallError,
    Component,
    Executor,
    Instance,
    LoadError,
    Memory,
    Module,
    Runtime,
    Sandbox
  }

  doctest Component

  @greeter "priv/wasm/greeter.wasm"

  defp load(text), do: Runtime.load_module({:bytes, text})
  defp greeter, do: Runtime.load_module!(@greeter)

  describe "loading" do
    test "tells a component from a module by its bytes" do
      assert {:ok, %Component{name: "greeter.wasm", size: size}} = Runtime.load_module(@greeter)
      assert size == File.stat!(@greeter).size
      assert {:ok, %Component{name: nil}} = load(File.read!(@greeter))
      assert {:ok, %Component{}} = load("(component)")
      assert {:ok, %Component{}} = load(<<0, "asm", 0x0D, 0, 1, 0>>)
      assert {:ok, %Module{}} = load("(module)")
    end

    test "gives the same component from the cache" do
      assert greeter().digest == greeter().digest
      # Artifacts are off in the tests, and a component says so as a module does.
      assert Runtime.keep(greeter()) ==
               Runtime.keep(Runtime.load_module!("priv/wasm/compute.wasm"))

      assert inspect(greeter()) =~ "#Cybernetic.WASM.Component<greeter.wasm"
      assert Component.code_size(greeter()) > 1_000
    end

    test "says where it is invalid" do
      assert {:error, %LoadError{reason: :invalid, offset: offset}} =
               load(<<0, "asm", 0x0D, 0, 1, 0, "garbage">>)

      assert offset >= 8
    end

    test "refuses what is asynchronous, of 64 bits, or otherwise not supported, and says what" do
      needs = %{
        "component_model_async" => ~S|(component (type (func async)))|,
        "component_model_fixed_length_lists" => ~S|(component (type (list u8 4)))|,
        "component_model_map" => ~S|(component (type (map string u8)))|,
        "component_model_memory64" =>
          ~S|(component
          (core module $m (memory (export "m") i64 1)
            (func (export "f") (param i64 i64))
            (func (export "realloc") (param i64 i64 i64 i64) (result i64) unreachable))
          (core instance $i (instantiate $m))
          (func (export "f") (param "a" string)
            (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "realloc")))))|
      }

      for {feature, text} <- needs do
        assert {:error, %LoadError{reason: :unsupported_feature, feature: ^feature} = error} =
                 load(text)

        assert Exception.message(error) =~ feature
      end
    end

    test "holds features off in its modules" do
      simd = ~S|(component (core module (func (drop (v128.const i32x4 0 0 0 0)))))|

      assert {:error, %LoadError{feature: "simd"}} =
               Runtime.load_module({:bytes, simd}, features: [simd: false])
    end

    test "refuses one that is made of too many instances, and types of too many parts" do
      twice = fn inner ->
        "(component #{inner} (instance (instantiate 0)) (instance (instantiate 0)))"
      end

      core = "(component (core module) (core instance (instantiate 0)))"
      many = Enum.reduce(1..12, core, fn _, inner -> twice.(inner) end)
      assert {:error, %LoadError{reason: :unsupported, detail: detail}} = load(many)
      assert detail =~ "instances of modules"

      doubled = for n <- 1..16, do: "(type $t#{n} (tuple $t#{n - 1} $t#{n - 1}))"

      large =
        ~s|(component (type $t0 (tuple u8 u8)) #{doubled} (import "f" (func (param "a" $t16))))|

      assert {:error, %LoadError{reason: :unsupported, detail: detail}} = load(large)
      assert detail =~ "parts"
    end

    test "holds it to a manifest, whose entry may be an interface's function" do
      manifest = fn entry ->
        text = ~s|[module]\nentry = "#{entry}"\n[limits]\nfuel = 1_000\n|
        {:ok, manifest} = Sandbox.Manifest.parse(text)
        Runtime.load_module(@greeter, manifest: manifest)
      end

      assert {:ok, %Component{} = held} = manifest.("acme:shop/orders@1.2.0#place")
      assert {:error, %{limit: :fuel, allowed: 1_000}} = Executor.call(held, "greet", ["you"])
      assert {:ok, _} = manifest.("greet")
      assert {:error, %{reason: :module}} = manifest.("great")
    end
  end

  test "a component is called under a name that it is loaded under, and replaced by what exports the same" do
    name = "component-test/greeter"
    {:ok, loaded} = Runtime.load_module(@greeter, name: name, version: "1.0.0")
    assert {loaded.name, loaded.version} == {name, "1.0.0"}
    assert Executor.call(name, "greet", ["you"]) == {:ok, "Hello, you!"}

    assert Executor.call({:name, name}, {"acme:shop/orders", "place"}, [[]]) ==
             {:ok, {:error, "empty"}}

    assert {:error, %LoadError{reason: :narrowed}} = Runtime.reload(name, {:bytes, "(component)"})
    assert {:error, %LoadError{reason: :narrowed}} = Runtime.reload(name, {:bytes, "(module)"})
    assert {:ok, %{exports: [_ | _], live_instances: 0}} = Runtime.info(name)
    Runtime.unload(name)
  end

  describe "names" do
    test "are of the world, or of an interface with or without its version" do
      order = [[%{"item" => "tea", "count" => 2}]]
      place = {:ok, {:ok, %{"number" => 1, "total" => 2, "gift" => false}}}

      for name <- [
            "acme:shop/orders@1.2.0#place",
            "acme:shop/orders#place",
            {"acme:shop/orders@1.2.0", "place"},
            {"acme:shop/orders", "place"}
          ] do
        assert Executor.call(greeter(), name, order) == place
        {:ok, instance} = Instance.new(greeter())
        assert Instance.call(instance, name, order) == place
      end
    end

    test "that are not there list those that are" do
      for name <- ["place", "acme:shop/orders@1.3.0#place", "greet#greet", "", "orders#place"] do
        assert {:error, %CallError{reason: :no_such_export, known: known}} =
                 Executor.call(greeter(), name, ["a"])

        assert known == ["greet", "acme:shop/orders@1.2.0#place"]
      end
    end

    test "that are several functions' list these" do
      both =
        for version <- ["1.0.0", "2.0.0"] do
          ~s|(instance (export "a:b/c@#{version}") (export "f" (func $f)))|
        end

      {:ok, component} =
        load(
          ~s|(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                  (func $f (canon lift (core func $i "f"))) #{both})|
        )

      assert Executor.call(component, "a:b/c@1.0.0#f") == {:ok, nil}

      assert {:error, %CallError{reason: :ambiguous_export, known: known} = error} =
               Executor.call(component, "a:b/c#f")

      assert known == ["a:b/c@1.0.0#f", "a:b/c@2.0.0#f"]
      assert Exception.message(error) =~ "a:b/c@2.0.0#f"

      assert {:error, %CallError{reason: :ambiguous_export}} =
               Component.type(component, "a:b/c#f")
    end
  end

  describe "what only modules have" do
    test "is refused in words" do
      {:ok, instance} = Instance.new(greeter())
      refused = &match?({:error, %CallError{reason: :component}}, &1)
      assert refused.(Memory.read(instance, 0, 1))
      assert refused.(Memory.write(instance, 0, "a"))
      assert refused.(Instance.get_global(instance, "g"))
      assert refused.(Instance.table_size(instance, "t"))
      assert refused.(Executor.call(greeter(), "greet", ["a"], abi: []))
      assert refused.(Executor.run(greeter(), :start))
      # The instance is as it was.
      assert Instance.call(instance, "greet", ["you"]) == {:ok, "Hello, you!"}
    end

    test "is no option of an instance" do
      {:ok, other} = Instance.new(greeter())

      for opts <- [[on_trap: :keep], [snapshottable: true], [store: other]] do
        assert_raise ArgumentError, ~r/is for modules/, fn -> Instance.new(greeter(), opts) end
      end
    end

    test "and a component is nothing that a module can be linked to" do
      {:ok, module} = load(~S|(module (import "m" "f" (func)) (func (export "g")))|)

      assert {:error, error} = Executor.call(module, "g", [], imports: %{"m" => greeter()})
      assert Exception.message(error) =~ "not a map"
      {:ok, instance} = Instance.new(greeter())

      assert {:error, error} = Executor.call(module, "g", [], imports: %{"m" => instance})
      assert Exception.message(error) =~ "a component exports nothing that a module imports"
    end
  end
end
