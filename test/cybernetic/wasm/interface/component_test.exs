defmodule Cybernetic.WASM.Interface.ComponentTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{CallError, Component, Instance, LoadError, Resource, Runtime}
  alias Cybernetic.WASM.Interface.{Function, Types, World}

  defmodule Values do
    use Cybernetic.WASM,
      source: "test/fixtures/components/values.wasm",
      as: %{"acme:values/identity@1.2.0#bare-outcome" => :bare},
      except: ["acme:values/behaviour@1.2.0#spin"],
      call: [
        imports: [
          Cybernetic.WASM.Interface.ComponentTest.Log,
          %{"$root" => %{"twice" => fn _ctx, n -> 2 * n end}}
        ]
      ]
  end

  # A callback that is missing, or has another arity, is a warning of the compiler.
  defmodule Log do
    use Cybernetic.WASM.Host, interface: "acme:values/log"
    @behaviour Cybernetic.WASM.Interface.ComponentTest.Values.Log

    defimport write(_ctx, level, text) do
      level + byte_size(text)
    end

    defimport shout(_ctx, text) do
      {:ok, String.upcase(text)}
    end
  end

  defmodule Resources do
    use Cybernetic.WASM,
      source: "test/fixtures/components/resources.wat",
      call: [
        imports: %{
          "acme:host/db" => %{
            "[constructor]conn" => fn _ctx, number -> {:conn, number} end,
            "[method]conn.get" => fn _ctx, {:conn, number} -> number end,
            "[static]conn.close" => fn _ctx, {:conn, number} -> number end
          }
        }
      ]
  end

  @values "test/fixtures/components/values.wasm"

  test "a function of the world's own is one of the module, and one of an interface of a module in that" do
    assert Values.four_times(3) == {:ok, 12}
    assert Values.four_times!(3, fuel: 1_000_000) == 12
    assert Values.Identity.text("Ada") == {:ok, "Ada"}
    assert Values.Identity.bytes!(["a", ?b]) == "ab"
    assert Values.Identity.a_color(:deep_blue) == {:ok, "deep-blue"}
    assert Values.Identity.bare(:error) == {:ok, :error}
    point = %{x: 1, y_axis: 0.5, label: "p", tags: ~w(a b), on: true}

    assert Values.Identity.a_point(point) ==
             {:ok, %{"x" => 1, "y-axis" => 0.5, "label" => "p", "tags" => ~w(a b), "on" => true}}

    refute function_exported?(Values.Behaviour, :spin, 1)
    assert {:ok, %Component{name: "values.wasm"}} = Values.module()
  end

  test "a mistake in the arguments names the parameter" do
    assert {:error, %CallError{} = error} = Values.Identity.a_point(%{x: "one"})
    assert Exception.message(error) =~ ~s|argument 1 ("v").x: expected s32|
    assert_raise CallError, fn -> Values.Identity.u8!(256) end
  end

  test "a live instance is called where one is given" do
    {:ok, instance} = Values.instance()
    assert Values.Behaviour.count(instance: instance) == {:ok, 1}
    assert Values.Behaviour.count!(instance: instance) == 2
    assert Values.Behaviour.count() == {:ok, 1}
  end

  test "imports are callbacks, of a module of their interface" do
    assert Enum.sort(Values.Log.behaviour_info(:callbacks)) == [shout: 2, write: 3]
    assert Values.behaviour_info(:callbacks) == [twice: 2]
    assert Values.Behaviour.say(2, "abc") == {:ok, 5}
    assert Values.Behaviour.shout("hey") == {:ok, {:ok, "HEY"}}
  end

  test "methods and constructors are called by the names of their resources" do
    {:ok, instance} = Resources.instance()
    assert {:ok, %Resource{} = cart} = Resources.new_cart(7, instance: instance)
    assert Resources.cart_get(cart, instance: instance) == {:ok, 7}

    assert Enum.sort(Resources.Db.behaviour_info(:callbacks)) == [
             conn_close: 2,
             conn_get: 2,
             new_conn: 2
           ]
  end

  defp functions do
    component = Runtime.load_module!(@values)
    World.functions(Component.imports(component), Component.exports(component))
  end

  defp spec(name) do
    function = Enum.find(functions(), &(&1.export =~ name))
    [spec, _with_options] = Function.specs(%{function | name: :f})
    spec |> Macro.to_string() |> String.replace(~r/\s+/, " ")
  end

  test "specifications have the names of types, and what is accepted beside them" do
    assert spec("#text") ==
             "f(iodata) :: {:ok, String.t()} | {:error, Cybernetic.WASM.Error.t()}"

    assert spec("#points") =~ "f(Enumerable.t()) :: {:ok, [point]}"
    assert spec("#a-point") =~ "f(point | map) :: {:ok, point}"
    assert spec("#a-shape") =~ "f(shape | String.t() | atom | {String.t() | atom, term})"
    assert spec("#nested") =~ "{:ok, :none | {:some, :none | {:some, non_neg_integer}}}"
    assert spec("#outcome") =~ "{:ok, {:ok, non_neg_integer} | {:error, String.t()}}"
    assert spec("#nothing") =~ "f() :: {:ok, nil}"
  end

  test "types have what WIT says of them as documentation" do
    component = Runtime.load_module!(@values)
    {imports, exports} = {Component.imports(component), Component.exports(component)}
    groups = World.groups(functions(), imports, exports)
    identity = Enum.find(groups, &(&1.module == "Identity"))
    code = identity.types |> Macro.to_string() |> String.replace(~r/\s+/, " ")

    assert code =~ "@type color :: String.t()"
    assert code =~ "`color`: `enum { red, green, deep-blue }`."
    assert code =~ "@type shape :: String.t() | {String.t(), "
  end

  test "types that have one name get that of their interface, and those that Elixir has as well" do
    item = fn interface, name, declared ->
      %{interface: interface, name: name, type: nil, declared: declared, docs: nil}
    end

    exports = [
      item.("a:b/one@1.0.0", "size", {:type, {:enum, ["s"]}}),
      item.("a:b/two", "size", {:type, {:enum, ["l"]}}),
      item.("a:b/two", "list", {:type, {:list, :u32}}),
      item.("a:b/two", "deep", {:type, {:option, {:named, "a:b/two#list"}}})
    ]

    known =
      Types.known([], exports)
      |> Types.named([
        {:tuple, [{:named, "a:b/one@1.0.0#size"}, {:named, "a:b/two#size"}]},
        {:named, "a:b/two#deep"},
        {:own, "nowhere"}
      ])

    assert known.names == %{
             "a:b/one@1.0.0#size" => :one_size,
             "a:b/two#size" => :two_size,
             "a:b/two#list" => :two_list,
             "a:b/two#deep" => :deep
           }

    # Where nobody would read on.
    deep = Enum.reduce(1..50, :u8, fn _, type -> {:option, type} end)
    assert Macro.to_string(Types.out(deep, known)) =~ "term"
    assert Macro.to_string(Types.out({:named, "un#known"}, known)) == "term"
  end

  test "what has no name of its own in Elixir has to be given one" do
    wat = fn name ->
      ~s|(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
        (func (export #{inspect(name)}) (canon lift (core func $i "f"))))|
    end

    define = fn name, opts ->
      code = "source: {:bytes, #{inspect(wat.(name))}}, #{opts}"
      module = "#{inspect(__MODULE__)}.M#{System.unique_integer([:positive])}"
      Code.compile_string("defmodule #{module} do use Cybernetic.WASM, #{code} end")
    end

    assert_raise CompileError, ~r/would be module, which means something else/, fn ->
      define.("module", "except: []")
    end

    assert [{module, _beam}] = define.("module", ~s|as: %{"module" => :named}|)
    assert module.named() == {:ok, nil}

    assert_raise CompileError, ~r/leave out abi:/, fn -> define.("f", ~s|abi: [alloc: "m"]|) end
    assert {:ok, instance} = module.instance()
    assert Instance.call(instance, "module") == {:ok, nil}
  end

  describe "of WIT alone" do
    @moduletag :tmp_dir

    defp written(tmp_dir, wit, opts) do
      File.write!(Path.join(tmp_dir, "world.wit"), wit)
      module = "#{inspect(__MODULE__)}.W#{System.unique_integer([:positive])}"
      opts = "wit: #{inspect(tmp_dir)}, source: #{inspect(@values)}, #{opts}"
      compiled = Code.compile_string("defmodule #{module} do use Cybernetic.WASM, #{opts} end")
      compiled |> Enum.map(&elem(&1, 0)) |> Enum.min_by(&(&1 |> inspect() |> byte_size()))
    end

    @wit ~S"""
    package acme:values@1.2.0;

    interface identity {
      /// A colour.
      enum color { red, green, deep-blue }
      /// Gives it back.
      a-color: func(v: color) -> color;
    }

    interface behaviour { trap: func(); }

    world painter {
      import twice: func(n: u32) -> u32;
      export identity;
      export four-times: func(n: u32) -> u32;
    }

    world other { export behaviour; }
    """

    test "it has the functions of the world, and a component that exports them is loaded", %{
      tmp_dir: dir
    } do
      opts = ~s|world: "painter", call: [unknown_imports: :trap]|
      module = written(dir, @wit, opts)
      identity = Module.concat(module, Identity)
      assert identity.a_color("red") == {:ok, "red"}
      assert {:error, %{code: :unknown_import}} = module.four_times(1)
      assert module.behaviour_info(:callbacks) == [twice: 2]
      refute module.__mix_recompile__?()
    end

    test "another component is refused", %{tmp_dir: dir} do
      wit = String.replace(@wit, "-> color;", "-> string;")
      module = written(dir, wit, ~s|world: "painter"|)
      assert {:error, %LoadError{reason: :unexpected, exports: [wrong]}} = module.module()
      assert wrong.name == "acme:values/identity@1.2.0#a-color"
      assert wrong.expected == "func(v: color) -> string"
      assert wrong.found == "func(v: color) -> color"
    end

    test "its documentation is the author's", %{tmp_dir: dir} do
      File.write!(Path.join(dir, "world.wit"), @wit)
      {:ok, world} = Component.declared_in(dir, "painter")
      functions = World.functions(world.imports, world.exports)
      function = Enum.find(functions, &(&1.export =~ "a-color"))
      assert Function.doc(function) =~ "Gives it back.\n\nCalls the export"
      [group | _] = World.groups([function], world.imports, world.exports)
      assert Macro.to_string(group.types) =~ "A colour."
    end

    test "what is no WIT, or has several worlds, is an error of the compiler", %{tmp_dir: dir} do
      for {wit, opts, said} <- [
            {@wit, "world: nil", "worlds"},
            {@wit, ~s|world: "third"|, "third"},
            {"package a:b; world w { export f: fun(); }", "world: nil", "expected"},
            {"package a:b; world w { export f: func(s: stream<u8>); }", "world: nil",
             "not supported"}
          ] do
        assert_raise CompileError, ~r/#{said}/, fn -> written(dir, wit, opts) end
      end

      assert_raise ArgumentError, ~r/:world of use Cybernetic.WASM needs the option :wit/, fn ->
        Code.compile_string(
          ~s|defmodule #{inspect(__MODULE__)}.N do use Cybernetic.WASM, world: "w", source: "a" end|
        )
      end
    end
  end
end
