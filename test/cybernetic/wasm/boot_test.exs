defmodule Cybernetic.WASM.BootTest do
  # Each in a VM of its own: the list is read when the application starts.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.FreshNode

  @compute "priv/wasm/compute.wasm"

  defp modules(entries), do: [modules: entries]

  test "modules of the list are loaded under their names when the application starts" do
    entries = [
      [source: @compute, name: "compute", version: "1.2.0", required: true],
      [source: {:priv, :cybernetic_wasm, "wasm/wc.wasm"}, name: "tools/wc"]
    ]

    assert FreshNode.eval(modules(entries), ~S"""
           names = for module <- Runtime.modules(), do: {module.name, module.version}
           {names, Executor.call("compute@1.2", "process", [42])}
           """) == {[{"compute", "1.2.0"}, {"tools/wc", "0.1.0"}], {:ok, 84}}
  end

  test "versions of one name come in the order of the list, and the last is current" do
    entries =
      for n <- 1..8 do
        wat = ~s|(module (func (export "n") (result i32) i32.const #{n}))|
        [source: {:bytes, wat}, name: "rate"]
      end

    assert FreshNode.eval(modules(entries), ~S"""
           versions = for %{version: version} <- Runtime.modules(), do: version
           {Enum.sort_by(versions, &Version.parse!/1, Version), Executor.call("rate", "n")}
           """) == {for(n <- 0..7, do: "0.1.#{n}"), {:ok, 8}}
  end

  test "an older version behind a newer one is not current, unless it is to be" do
    entries =
      for {n, more} <- [{2, []}, {1, []}, {0, [current: true]}] do
        wat = ~s|(module (func (export "n") (result i32) i32.const #{n}))|
        [source: {:bytes, wat}, name: "rate", version: "#{n}.0.0"] ++ more
      end

    call = ~S|Executor.call("rate", "n")|
    assert FreshNode.eval(modules(Enum.take(entries, 2)), call) == {:ok, 2}
    assert FreshNode.eval(modules(entries), call) == {:ok, 0}
  end

  test "pins that none of them goes by are told" do
    pin = "sha256:" <> Base.encode16(:crypto.hash(:sha256, File.read!(@compute)), case: :lower)
    secret = "https://example.com/x.wasm?token=hunter2"
    pins = %{"./priv/../#{@compute}" => pin, "acme/typo" => pin, secret => pin}
    config = [pins: pins, modules: [[source: @compute, name: "compute"]]]
    {output, 0} = FreshNode.run(config, "IO.inspect(Runtime.unused_pins())")

    assert output =~
             ~s|goes by these pins: acme/typo, "https://example.com/x.wasm?…". If they are|

    assert output =~ ~s|["acme/typo", "https://example.com/x.wasm?…"]|
    refute output =~ "hunter2"
    {output, 0} = FreshNode.run([pins: pins], "IO.inspect(Runtime.unused_pins())")
    refute output =~ "goes by these pins"
  end

  test "their sandboxes hold" do
    entries = [[source: @compute, name: "compute", sandbox: [fuel: 1_000]]]

    assert FreshNode.eval(modules(entries), ~S"""
           {:error, %LimitError{} = error} = Executor.call("compute", "spin")
           {:error, %LimitError{} = narrowed} = Executor.call("compute", "spin", [], fuel: 1_000_000)
           {error.allowed, narrowed.allowed}
           """) == {1_000, 1_000}
  end

  test "one that is not required and fails is logged, and the others are there" do
    entries = [
      [source: "priv/nowhere.wasm", name: "gone"],
      [source: {:bytes, "no module"}],
      [source: @compute, name: "compute"]
    ]

    {output, 0} =
      FreshNode.run(
        modules(entries),
        ~S|IO.inspect(for module <- Runtime.modules(), do: module.name)|
      )

    assert output =~ "the module gone is not loaded: cannot load priv/nowhere.wasm: no such file"

    assert output =~
             "a module without a name is not loaded: cannot load the module: not WebAssembly"

    assert output =~ ~s|["compute"]|
  end

  test "one that is required and fails stops the start, in one sentence" do
    entries = [
      [source: {:bytes, "(module)"}, name: "fine"],
      [source: "priv/nowhere.wasm", name: "gone", required: true]
    ]

    {output, status} = FreshNode.run(modules(entries), "IO.puts(:started)")
    assert status != 0
    refute output =~ "started"

    assert output =~
             "the module gone, which is required, is not loaded: cannot load priv/nowhere.wasm: no such file"
  end

  test "a mistake in the list stops the start, required or not" do
    for {entry, text} <- [
          {[source: @compute, nam: "compute"], "nam"},
          {[name: "compute"], "needs a :source"},
          {[source: @compute, name: "No Name"], "the module"},
          {[source: :nowhere, name: "compute"], "a module is loaded from"},
          {[source: @compute, name: "compute", required: :yes],
           ":required must be true or false"},
          {:compute, "a list of keyword lists, one for each module, such as [[source:"},
          # One entry in the place of a list of them.
          {{:source, @compute}, "a list of keyword lists, one for each module, such as [[source:"}
        ] do
      {output, status} = FreshNode.run(modules([entry]), "IO.puts(:started)")
      assert status != 0
      assert output =~ "the configuration is not valid: "
      assert output =~ text
    end
  end

  test "an application that could not start starts once the list is right" do
    broken = [[source: "priv/nowhere.wasm", name: "gone", required: true]]

    assert FreshNode.eval(
             modules(broken),
             ~S"""
             {:error, {:cybernetic_wasm, {text, _mfa}}} = Application.ensure_all_started(:cybernetic_wasm)
             Application.put_env(:cybernetic, :wasm, modules: [[source: "priv/wasm/compute.wasm", name: "compute"]])
             {:ok, _} = Application.ensure_all_started(:cybernetic_wasm)
             {is_binary(text), Executor.call("compute", "process", [1])}
             """,
             start: false
           ) == {true, {:ok, 2}}
  end
end
