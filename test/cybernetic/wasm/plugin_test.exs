defmodule Cybernetic.WASM.PluginTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plugins

  alias Cybernetic.WASM.{CallError, LimitError, Plugin, PluginError, Run, Runtime, Sandbox}

  doctest Cybernetic.WASM.Plugin
  doctest Cybernetic.WASM.Plugin.Codec
  doctest Cybernetic.WASM.Plugin.Contract
  doctest Cybernetic.WASM.Plugin.Surface

  setup_all do
    {:ok, plugin: plugin!(bytes())}
  end

  describe "a contract" do
    test "is the first that a module meets, and says why" do
      for {source, name} <- [
            {bytes(), :bytes},
            {execute(), :execute},
            {process(), :process},
            {assembly_script(), :assemblyscript}
          ] do
        assert {^name, "it exports " <> _} = Plugin.contract(plugin!(source))
      end

      assert {:wasi, "it is a program" <> _} = Plugin.contract(Plugin.load!("priv/wasm/wc.wasm"))
      greeter = Plugin.load!("priv/wasm/greeter.wasm")
      assert {:component, "it is a component" <> _} = Plugin.contract(greeter)
    end

    test "that is not met says of each what is missing" do
      assert {:error, %PluginError{reason: :no_contract, blame: :caller} = error} =
               Plugin.load(
                 {:bytes,
                  ~S|(module (func (export "alloc") (param i64) (result i64) (local.get 0)))|}
               )

      message = Exception.message(error)

      for words <- [
            ~s|:bytes lacks the function "cw_alloc" (i32) -> i32; a memory|,
            ~s|:execute lacks the function "alloc" (i32) -> i32: its own is (i64) -> i64; the function "execute"|,
            ~s|:process lacks the function "process"|,
            ~s|:assemblyscript lacks the function "__new" (i32, i32) -> i32|,
            ~s|:wasi lacks the function "_start"|,
            ~s|:component lacks a component|
          ],
          do: assert(message =~ words)
    end

    test "that was asked for is the one, or the load fails" do
      assert {:execute, _} =
               Plugin.contract(plugin!(execute(), contract: {:execute, format: :raw}))

      assert {:error, %{missing: [process: [_ | _]]}} =
               Plugin.load({:bytes, bytes()}, contract: :process)

      for {given, words} <- [
            {:exekute, "option :contract must be one of :component, :extism, :bytes"},
            {{:execute, formt: :raw},
             "unknown option of the contract :execute :formt (did you mean :format?)"},
            {Enum, "must be one of"},
            {"bytes", "must be one of"}
          ] do
        assert_raise ArgumentError, ~r/#{Regex.escape(words)}/, fn ->
          plugin!(execute(), contract: given)
        end
      end
    end
  end

  describe "a call" do
    test "takes bytes and gives bytes", %{plugin: plugin} do
      for bytes <- ["", "a", <<0, 255>>, String.duplicate("long ", 100_000)],
          do: assert(Plugin.call(plugin, "echo", bytes) == {:ok, bytes})

      assert Plugin.call(plugin, "echo", ["io", ?d, ["ata"]]) == {:ok, "iodata"}
      assert Plugin.call!(plugin, "shout", "hello") == "HELLO"
    end

    test "sees nothing of another", %{plugin: plugin} do
      calls = for n <- 1..50, do: Task.async(fn -> Plugin.call(plugin, "echo", "#{n}") end)

      assert for({:ok, n} <- Task.await_many(calls, :infinity), do: n) ==
               for(n <- 1..50, do: "#{n}")
    end

    test "of a plugin whose module says no more calls its only function" do
      echo = plugin!(allocating("(i32.const 1024)"))
      assert Plugin.call(echo, "hello") == {:ok, "hello"}
      assert Plugin.call(echo, :entry, 1, codec: :number) == {:ok, 1}
      assert Plugin.call!(echo, "a") == "a"
      assert {:ok, %Run{result: "a"}} = Plugin.run(echo, "a")
    end

    test "without a name needs to know which", %{plugin: plugin} do
      assert {:error, %PluginError{reason: :no_entry} = error} = Plugin.call(plugin, "hello")
      assert "echo" in error.known
      assert Exception.message(error) =~ "Name it, or give the manifest an entry"
    end

    test "without a name calls the manifest's entry" do
      {:ok, manifest} = Sandbox.Manifest.parse(~s|[module]\nentry = "shout"\n|)
      plugin = plugin!(bytes(), manifest: manifest)
      assert Plugin.call(plugin, "hello") == {:ok, "HELLO"}
    end

    test "of what is not there is the caller's mistake", %{plugin: plugin} do
      assert {:error, %CallError{reason: :no_such_export}} = Plugin.call(plugin, "shuot", "hello")
      assert {:error, %CallError{reason: :arity}} = Plugin.call(plugin, "cw_alloc", "hello")
    end

    test "has options of its own, which come before the plugin's", %{plugin: plugin} do
      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
               Plugin.call(plugin, "spin", "", fuel: 1_000)

      short = plugin!(bytes(), fuel: 2_000, max_input: 3, codec: :text)
      assert {:error, %LimitError{allowed: 2_000}} = Plugin.call(short, "spin", "")
      assert {:error, %LimitError{allowed: 3_000}} = Plugin.call(short, "spin", "", fuel: 3_000)
      assert {:error, %LimitError{limit: :input}} = Plugin.call(short, "echo", "long")
      assert {:ok, "long"} = Plugin.call(short, "echo", "long", max_input: 4)

      assert {:error, %PluginError{reason: :input, codec: :text}} =
               Plugin.call(short, "echo", <<255>>)

      assert {:ok, <<255>>} = Plugin.call(short, "echo", <<255>>, codec: :raw)
    end

    test "takes imports beside those of the contract" do
      source = ~S"""
      (module
        (import "cybernetic" "error" (func $error (param i32 i32)))
        (import "env" "number" (func $number (result i32)))
        (memory (export "memory") 1)
        (func (export "cw_alloc") (param i32) (result i32) (i32.const 8))
        (func (export "digit") (param i32 i32) (result i64)
          (if (i32.load8_u (i32.const 8)) (then (call $error (i32.const 8) (local.get 1))))
          (i32.store8 (i32.const 0) (call $number)) (i64.const 1)))
      """

      number = fn number -> %{"env" => %{"number" => fn _ctx -> number end}} end
      plugin = plugin!(source, imports: number.(?7))
      assert Plugin.call(plugin, "digit", "") == {:ok, "7"}
      assert Plugin.call(plugin, "digit", "", imports: number.(?8)) == {:ok, "8"}

      assert {:error, %PluginError{reason: :refused, detail: "no"}} =
               Plugin.call(plugin, "digit", "no")
    end

    test "of a wrong option or of no plugin raises", %{plugin: plugin} do
      assert_raise ArgumentError, ~r/did you mean :codec/, fn -> plugin!(bytes(), codek: :raw) end

      assert_raise ArgumentError, ~r/a codec is one of :raw/, fn ->
        plugin!(bytes(), codec: :xml)
      end

      assert_raise ArgumentError, ~r/unknown call option/, fn ->
        Plugin.call(plugin, "echo", "", coded: 1)
      end

      assert_raise ArgumentError, ~r/a plugin is needed/, fn ->
        Plugin.call(:plugin, "echo", "")
      end

      assert_raise ArgumentError, ~r/must be a keyword list/, fn -> Plugin.load("x.wasm", %{}) end
    end
  end

  describe "a run" do
    test "tells what was used and what was run", %{plugin: plugin} do
      assert {:ok, %Run{result: "HELLO", usage: usage, metadata: metadata}} =
               Plugin.run(plugin, "shout", "hello")

      assert usage.fuel > 0

      assert metadata == %{
               contract: :bytes,
               module: nil,
               digest: plugin_digest(bytes()),
               function: "shout",
               input_length: 5,
               output_length: 5
             }

      assert {:ok, %Run{result: [1], metadata: metadata}} =
               Plugin.run(plugin, "echo", [1], codec: :json)

      assert {3, 3} == {metadata.input_length, metadata.output_length}
    end

    test "that fails has usage, too", %{plugin: plugin} do
      assert {:error, %PluginError{reason: :output, codec: :json, run: %Run{}} = error} =
               Plugin.run(plugin, "echo", "{", codec: [out: :json])

      assert error.usage.fuel > 0
      assert error.blame == :guest
    end
  end

  defp plugin_digest(source), do: Runtime.load_module!({:bytes, source}).digest

  describe "a plugin" do
    test "is of a module that is loaded, too, and can be sent to another process" do
      module = Runtime.load_module!({:bytes, bytes()})
      plugin = Plugin.load!(module, fuel: 1_000_000)
      task = Task.async(fn -> Plugin.call(plugin, "echo", "there") end)
      assert Task.await(task, :infinity) == {:ok, "there"}

      assert inspect(plugin) =~
               ~r/\A#Cybernetic.WASM.Plugin<:bytes, #Cybernetic.WASM.Module<bytes, /
    end

    test "of a name is whatever that leads to" do
      name = "plugin-of-a-name-#{System.unique_integer([:positive])}"
      on_exit(fn -> Runtime.unload(name) end)
      {:ok, _} = Runtime.load_module({:bytes, allocating("(i32.const 1024)")}, name: name)
      plugin = Plugin.load!({:name, name})
      assert Plugin.call(plugin, "hello") == {:ok, "hello"}
      assert {:ok, %Run{metadata: %{module: ^name}}} = Plugin.run(plugin, "hello")

      {:ok, _} = Runtime.load_module({:bytes, execute()}, name: name, version: "2.0.0")
      {:ok, _} = Runtime.promote(name, "2.0.0")
      assert {:ok, _bincode} = Plugin.call(plugin, "hello")
      assert {:ok, %Run{metadata: %{contract: :execute}}} = Plugin.run(plugin, "hello")

      {:ok, _} = Runtime.load_module({:bytes, "(module)"}, name: name, version: "3.0.0")
      {:ok, _} = Runtime.promote(name, "3.0.0")
      assert {:error, %PluginError{reason: :no_contract}} = Plugin.call(plugin, "hello")
      assert {:error, %CallError{reason: :no_such_name}} = Plugin.load({:name, name <> "-2"})
    end
  end

  describe "limits" do
    test "of output are a hundred megabytes where nobody says otherwise, and count what comes out" do
      plugin = plugin!(allocating("(i32.const 1024)"))
      %{prepared: %{call: %{plan: %{limits: limits}}}} = plugin
      assert limits.max_output == 100_000_000

      assert {:error, %LimitError{limit: :output, allowed: 4, used: 5}} =
               Plugin.call(plugin, "echo", "hello", max_output: 4)

      sandboxed = plugin!(allocating("(i32.const 1024)"), sandbox: Sandbox.new(max_output: 4))

      assert {:error, %LimitError{limit: :output, set_by: :sandbox}} =
               Plugin.call(sandboxed, "hello")
    end

    test "of input are found before anything is copied", %{plugin: plugin} do
      long = String.duplicate("a", 200_000)

      assert {:error,
              %LimitError{limit: :memory, allowed: 150_000, used: 200_000, blame: :caller} = error} =
               Plugin.call(plugin, "echo", long, max_memory: 150_000)

      assert Exception.message(error) =~ "option :max_memory of the call"

      assert {:error, %LimitError{limit: :input, allowed: 100, used: 200_000} = error} =
               Plugin.call(plugin, "echo", long, max_input: 100)

      assert Exception.message(error) =~
               "100 bytes of a plugin's input allowed, 200,000 asked for (to raise: option :max_input"
    end
  end
end
