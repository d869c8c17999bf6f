defmodule Cybernetic.WASM.Component.WitTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Component, Runtime}
  alias Cybernetic.WASM.Component.Words

  doctest Words

  defp component(text), do: Runtime.load_module!({:bytes, text})
  defp values, do: Runtime.load_module!("test/fixtures/components/values.wasm")

  defp declared(component, name) do
    Enum.find(Component.exports(component), &(Component.path(&1) == name))
  end

  describe "a declaration" do
    test "has the names that types have in WIT" do
      identity = "acme:values/identity@1.2.0"
      points = declared(values(), identity <> "#points")
      list = {:list, {:named, identity <> "#point"}}
      assert points.declared == {:func, [{"v", list}], list}
      assert {:func, [{"v", {:list, {:record, _fields}}}], _} = points.type
      assert Words.item(points) == "func(v: list<point>) -> list<point>"

      color = declared(values(), identity <> "#color")
      assert color.declared == {:type, {:enum, ["red", "green", "deep-blue"]}}
      assert Words.item(color) == "enum { red, green, deep-blue }"

      assert declared(values(), "four-times").declared == {:func, [{"n", :u32}], :u32}
    end

    test "is told of imports as well" do
      imports = Component.imports(values())
      write = Enum.find(imports, &(&1.name == "write"))
      assert write.declared == {:func, [{"level", :u8}, {"text", :string}], :u32}
    end

    test "is nil where WIT has no words for the component, which is called all the same" do
      # It exports a type of its own.
      resources = Runtime.load_module!("test/fixtures/components/resources.wat")
      assert Component.wit(resources) == nil
      assert Enum.all?(Component.exports(resources), &(&1.declared == nil and &1.docs == nil))
      assert Words.item(declared(resources, "take")) == "func(cart: cart) -> u32"
      assert Words.item(declared(resources, "cart")) == "resource"
    end
  end

  describe "the text" do
    test "has the world, and the interfaces of all packages" do
      text = Component.wit(values())
      assert text =~ "package root:component;"
      assert text =~ "import acme:values/log@1.2.0;"
      assert text =~ "export acme:values/identity@1.2.0;"
      assert text =~ "flags access {"
      assert text =~ "package acme:values@1.2.0 {"
      assert component("(component)") |> Component.wit() =~ "world root {"
    end

    test "of types that would be longer than a megabyte is left out" do
      name = String.duplicate("n", 10_000)
      fields = for n <- 1..120, do: ~s|(field "#{name}#{n}" u8)|

      wat =
        ~s|(component (import "a:b/c" (instance (type $r (record #{fields})) (export "r" (type (eq $r))))))|

      component = component(wat)
      assert Component.wit(component) == nil
      assert [%{type: {:type, {:record, [_ | _]}}}] = Component.imports(component)
    end
  end

  test "types that share parts are told, or refused, but never written out without end" do
    for depth <- [10, 60, 95] do
      doubled = for n <- 1..depth, do: "(type $t#{n} (tuple $t#{n - 1} $t#{n - 1}))"
      imported = ~s|(import "f" (func (param "a" $t#{depth})))|
      wat = "(component (type $t0 (tuple u8 u8)) #{doubled} #{imported})"

      case Runtime.load_module({:bytes, wat}) do
        {:ok, component} -> assert Component.wit(component) =~ "import f: func"
        {:error, error} -> assert depth > 10 and error.reason in [:unsupported, :invalid]
      end
    end
  end

  describe "what a component says of itself" do
    test "is in its custom sections" do
      metadata =
        component(~S"""
        (component $shop
          (@custom "version" "1.2.0")
          (@custom "description" "Sells things.")
          (@custom "authors" "Ada; Grace")
          (@custom "licenses" "Apache-2.0")
          (core module (@producers (language "Rust" "1.95.0") (processed-by "rustc" "1.95.0")))
          (core module (@producers (language "Rust" "1.95.0"))))
        """)
        |> Component.metadata()

      assert %{name: "shop", version: "1.2.0", description: "Sells things."} = metadata
      assert %{authors: "Ada; Grace", licences: "Apache-2.0", homepage: nil} = metadata

      assert metadata.producers == [
               %{role: "language", name: "Rust", version: "1.95.0"},
               %{role: "processed-by", name: "rustc", version: "1.95.0"}
             ]
    end

    test "is cut, and left out where it is no text" do
      metadata =
        component(~s"""
        (component
          (@custom "version" "\\ff")
          (@custom "authors" "")
          (@custom "description" "#{String.duplicate("é", 100_000)}"))
        """)
        |> Component.metadata()

      assert metadata.version == nil
      assert metadata.authors == ""
      assert byte_size(metadata.description) <= 1_010
      assert String.valid?(metadata.description)
      assert %{name: nil, producers: []} = metadata
    end

    test "names so many producers" do
      many = for n <- 1..300, do: ~s|(core module (@producers (language "L#{n}" "1")))|
      assert length(Component.metadata(component("(component #{many})")).producers) == 100
    end
  end

  test "packages that are imported are told with their versions" do
    wat = ~S"""
    (component
      (import "acme:host/log@1.0.0" (instance))
      (import "acme:host/db@1.0.0" (instance))
      (import "acme:host/log@2.0.0" (instance))
      (import "plain" (func))
      (import "inline" (instance))
      (import "wasi:io/poll" (instance)))
    """

    assert Component.dependencies(component(wat)) == []

    used = String.replace(wat, "(instance)", ~s|(instance (export "f" (func)))|)

    assert Component.dependencies(component(used)) == [
             %{package: "acme:host", version: "1.0.0", interfaces: ["log", "db"]},
             %{package: "acme:host", version: "2.0.0", interfaces: ["log"]},
             %{package: "wasi:io", version: nil, interfaces: ["poll"]}
           ]
  end
end
