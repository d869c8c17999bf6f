defmodule Mix.Tasks.Wasm.WitTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  @greeter "priv/wasm/greeter.wasm"

  test "prints a component's WIT" do
    assert {0, output, ""} = run("wasm.wit", [@greeter])
    assert output =~ "package root:component;\n\nworld root {\n"
    assert output =~ "export greet: func(name: string) -> string;"
    assert output =~ "record line {"

    {:docs_v1, _, _, _, %{"en" => moduledoc}, _, _} = Code.fetch_docs(Mix.Tasks.Wasm.Wit)

    shown =
      output
      |> String.split("\n")
      |> Enum.map_join("\n", &if(&1 == "", do: "", else: "    " <> &1))

    assert moduledoc =~ String.trim_trailing(shown)
  end

  test "says what has none" do
    assert {2, "", message} = run("wasm.wit", ["-"], "(module)")
    assert message =~ "- is a module, which has no WIT"
    assert {2, "", message} = run("wasm.wit", ["test/fixtures/components/resources.wat"])
    assert message =~ "WIT has no words"
    assert {2, "", message} = run("wasm.wit", [])
    assert message =~ "FILE is missing"
  end

  test "a component's other tasks take it as well" do
    assert {0, output, ""} = run("wasm.inspect", [@greeter])
    assert output =~ "  greet: func(name: string) -> string\n"

    assert output =~
             "acme:shop/orders@1.2.0 place: func(lines: list<line>) -> result<receipt, problem>\n"

    assert output =~ "  processed-by: wit-component 0.247.0\n"
    assert output =~ "imports: none\n"

    assert {0, json, ""} = run("wasm.inspect", [@greeter, "--json"])

    assert json =~
             ~s|{"interface":null,"name":"greet","kind":"func","type":"func(name: string) -> string","docs":null}|

    assert {0, "Hello, Ada!\n", ""} = run("wasm.call", [@greeter, "greet", "Ada"])
    order = ~S|[{item: "tea", count: 2}]|

    assert {0, "ok({number: 1, total: 2, gift: false})\n", ""} =
             run("wasm.call", [@greeter, "acme:shop/orders#place", order])

    assert {0, ~s|{"result":{"error":"empty"}}\n|, ""} =
             run("wasm.call", [@greeter, "acme:shop/orders@1.2.0#place", "[]", "--json"])

    assert {2, "", message} =
             run("wasm.call", [@greeter, "acme:shop/orders#place", "[{item: 1}]"])

    assert message =~
             ~s|argument 1 must be list<record { item: string, count: u32 }> (string expected at "1}]")|

    assert {2, "", message} = run("wasm.call", [@greeter, "greet"])
    assert message =~ "func(name: string) -> string"
    assert {2, "", message} = run("wasm.call", [@greeter])
    assert message =~ "\n  greet: func(name: string) -> string"

    assert {0, manifest, ""} = run("wasm.manifest", [@greeter])
    assert manifest =~ "[component]\nname = \"greeter\""
    assert manifest =~ ~s|# One of its exports: "greet", "acme:shop/orders@1.2.0#place"|
    assert {:ok, manifest} = Cybernetic.WASM.Sandbox.Manifest.parse(manifest)
    assert {:ok, _held} = Cybernetic.WASM.Runtime.load_module(@greeter, manifest: manifest)

    assert {0, "priv/wasm/greeter.wasm: ok\n", ""} = run("wasm.validate", [@greeter])
  end
end
