defmodule Cybernetic.WASM.Plugin.Contracts.ExtismTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plugins

  alias Cybernetic.WASM.{LimitError, Plugin, PluginError, Run, Sandbox, TrapError}

  doctest Cybernetic.WASM.Plugin.Extism

  # Made with Extism's PDK for Rust.
  @rust "test/fixtures/extism/rust.wasm"

  defp rust(opts \\ [], more \\ []) do
    functions = %{"shout" => &String.upcase/1}
    opts = Keyword.merge([functions: functions], opts)
    Plugin.load!(@rust, [contract: {:extism, opts}] ++ more)
  end

  defp count(plugin, text) do
    assert {:ok, counted} = Plugin.call(plugin, "count_vowels", text, codec: [out: :json])
    counted
  end

  describe "a plugin of the PDK for Rust" do
    test "is told from what it imports, and takes and gives bytes" do
      plugin = rust()
      assert Plugin.contract(plugin) == {:extism, "it imports from extism:host/env"}

      for bytes <- [
            "",
            "a",
            <<0, 255>>,
            :rand.bytes(70_001),
            String.duplicate("long ", 1_000_000)
          ],
          do: assert(Plugin.call(plugin, "echo", bytes) == {:ok, bytes})

      assert {:ok, %Run{metadata: %{input_length: 5, output_length: 5}}} =
               Plugin.run(plugin, "echo", "hello")
    end

    test "has its configuration, and variables from call to call" do
      plugin = rust()
      assert count(plugin, "hello") == %{"count" => 2, "total" => 2, "vowels" => "aeiouAEIOU"}
      assert count(plugin, "aaa") == %{"count" => 3, "total" => 5, "vowels" => "aeiouAEIOU"}
      assert {:ok, ""} = Plugin.call(plugin, "forget", "total")
      assert %{"total" => 1} = count(plugin, "a")

      other = rust(config: %{"vowels" => "l"})
      assert count(other, "hello") == %{"count" => 2, "total" => 2, "vowels" => "l"}
    end

    test "reports errors with their text" do
      assert {:error, %PluginError{reason: :refused, blame: :guest, contract: :extism} = error} =
               Plugin.call(rust(), "fail", "so it is")

      assert error.detail =~ "it fails: so it is"
      assert error.exit_code == 7
      assert {:error, %PluginError{run: %Run{}} = error} = Plugin.run(rust(), "fail", "")
      assert error.usage.fuel > 0
    end

    test "calls functions of the host, in the calling process" do
      caller = self()

      shout = fn text ->
        send(caller, {:called, self()})
        [String.upcase(text), "!"]
      end

      assert Plugin.call(rust(functions: %{"shout" => shout}), "loud", "hello") == {:ok, "HELLO!"}
      assert_received {:called, ^caller}

      raw = fn ctx, offset ->
        {:ok, text} = Plugin.Extism.read(ctx, offset)
        {:ok, offset} = Plugin.Extism.write(ctx, String.reverse(text))
        offset
      end

      assert Plugin.call(rust(functions: %{"shout" => raw}), "loud", "abc") == {:ok, "cba"}

      assert {:error, %{reason: %ArgumentError{}, blame: :host}} =
               Plugin.call(rust(functions: %{"shout" => fn -> "" end}), "loud", "abc")
    end

    test "logs what is not below the level, to whoever listens" do
      caller = self()
      log = fn level, text -> send(caller, {level, text}) end
      assert {:ok, ""} = Plugin.call(rust(log: log), "say", "hello")
      assert_received {:info, "hello"}
      refute_received {:debug, _text}

      assert {:ok, ""} = Plugin.call(rust(log: log, log_level: :debug), "say", "again")
      assert_received {:debug, "quietly: again"}
      assert {:ok, ""} = Plugin.call(rust(), "say", "to nobody")
    end

    test "keeps no more in variables than it may" do
      plugin = rust(max_vars: 10_000)
      assert {:ok, ""} = Plugin.call(plugin, "remember", "9000")

      assert {:error, %LimitError{limit: :variables, allowed: 10_000} = error} =
               Plugin.call(plugin, "remember", "20000")

      assert Exception.message(error) =~ "bytes of a plugin's variables"
      assert {:ok, ""} = Plugin.call(plugin, "remember", "100")
    end

    test "has no more memory for its blocks than its limits say" do
      long = String.duplicate("a", 5_000_000)

      assert {:error, %LimitError{limit: :memory}} =
               Plugin.call(rust(), "echo", long, max_memory: 8_000_000)

      assert {:error, %LimitError{limit: :output}} =
               Plugin.call(rust(), "echo", long, max_output: 1_000_000)
    end
  end

  describe "a plugin of the PDK for AssemblyScript" do
    test "takes and gives bytes, and has its configuration and its variables" do
      load = &Plugin.load!("test/fixtures/extism/assembly_script.wasm", contract: {:extism, &1})
      plugin = load.([])

      for bytes <- ["", "a", :rand.bytes(1_001)],
          do: assert(Plugin.call(plugin, "echo", bytes) == {:ok, bytes})

      assert count(plugin, "hello") == %{"count" => 2, "total" => 2, "vowels" => "aeiouAEIOU"}
      assert %{"total" => 3} = count(plugin, "ab")
      assert %{"count" => 1, "vowels" => "h"} = count(load.(config: %{"vowels" => "h"}), "hello")

      assert {:error, %PluginError{reason: :refused, exit_code: 3, detail: ""}} =
               Plugin.call(plugin, "fail", "")
    end
  end

  describe "requests over the network" do
    setup do
      {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}])
      {:ok, port} = :inet.port(listener)
      {:ok, listener: listener, port: port, url: "http://127.0.0.1:#{port}/"}
    end

    defp serve(listener, answer) do
      caller = self()

      spawn_link(fn ->
        {:ok, socket} = :gen_tcp.accept(listener)
        {:ok, request} = :gen_tcp.recv(socket, 0)
        send(caller, {:request, request})
        :gen_tcp.send(socket, answer)
        :gen_tcp.recv(socket, 0)
      end)
    end

    test "go where the sandbox lets them", %{listener: listener, port: port, url: url} do
      serve(
        listener,
        "HTTP/1.1 201 Created\r\nx-kind: pong\r\ncontent-length: 4\r\n\r\npong"
      )

      plugin =
        rust([http: [allow_http: true]], sandbox: Sandbox.new(network: ["127.0.0.1:#{port}"]))

      assert Plugin.call(plugin, "fetch", url) == {:ok, "201 pong pong"}
      assert_receive {:request, request}
      assert request =~ ~r/\APOST \/ HTTP\/1.1\r\n/
      assert request =~ "x-plugin: yes"
    end

    test "go nowhere without a grant", %{url: url} do
      assert {:error, %PluginError{reason: :refused} = error} =
               Plugin.call(rust(http: [allow_http: true]), "fetch", url)

      assert error.detail =~ "127.0.0.1"
    end

    test "are counted for each call, and leave little behind", %{url: url} do
      plugin = rust(http: [allow_http: true, max_requests: 1])

      for _ <- 1..3 do
        assert {:error, %PluginError{detail: detail}} = Plugin.call(plugin, "fetch", url)
        assert detail =~ "127.0.0.1"
      end

      assert Enum.count(Process.get(), &match?({_key, {[_ | _], 1}}, &1)) == 1
    end

    test "are as many as they may be", %{url: url} do
      assert {:error, %PluginError{detail: "more than 0 requests" <> _}} =
               Plugin.call(rust(http: [max_requests: 0]), "fetch", url)
    end
  end

  describe "a module" do
    defp hostile(body) do
      plugin!("""
      (module
        (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
        (import "extism:host/env" "free" (func $free (param i64)))
        (import "extism:host/env" "length" (func $length (param i64) (result i64)))
        (import "extism:host/env" "load_u8" (func $load_u8 (param i64) (result i32)))
        (import "extism:host/env" "load_u64" (func $load_u64 (param i64) (result i64)))
        (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
        (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
        (import "extism:host/env" "input_length" (func $input_length (result i64)))
        (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param i64) (result i64)))
        (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
        (import "extism:host/env" "error_set" (func $error_set (param i64)))
        (import "extism:host/env" "var_set" (func $var_set (param i64 i64)))
        (func (export "run") #{body}))
      """)
    end

    test "that leaves its blocks traps" do
      for body <- [
            "(drop (call $load_u8 (i64.const 1000000)))",
            "(drop (call $load_u64 (i64.const -1)))",
            "(call $store_u64 (i64.const -8) (i64.const 1))",
            "(call $store_u8 (i64.const 99999999) (i32.const 1))",
            "(drop (call $input_load_u64 (i64.const 0)))",
            "(drop (call $input_load_u64 (i64.const -1)))",
            "(call $output_set (i64.const 8) (i64.const -1))",
            "(call $output_set (i64.const -1) (i64.const 8))"
          ] do
        assert {:error, %TrapError{code: :memory_out_of_bounds}} =
                 Plugin.call(hostile("(result i32) #{body} (i32.const 0)"), "run", "abc")
      end
    end

    test "that asks for what is no block gets nothing" do
      body = """
      (call $free (i64.const 77)) (call $free (i64.const 0))
      (if (i64.ne (call $length (i64.const 77)) (i64.const 0)) (then (unreachable)))
      (if (i64.ne (call $alloc (i64.const 0)) (i64.const 0)) (then (unreachable)))
      (call $var_set (i64.const 77) (i64.const 78))
      """

      assert Plugin.call(hostile(body), "run", "abc") == {:ok, ""}
    end

    test "that wants more blocks than there is memory fails with the limit" do
      for size <- ["-1", "0x7fffffffffffffff", "1000000000"] do
        body = "(drop (call $alloc (i64.const #{size})))"
        assert {:error, %LimitError{limit: :memory}} = Plugin.call(hostile(body), "run", "abc")
      end

      loop = "(loop (drop (call $alloc (i64.const 100000))) (br 0))"
      assert {:error, %LimitError{limit: :memory}} = Plugin.call(hostile(loop), "run", "abc")
      freed = "(loop (call $free (call $alloc (i64.const 100000))) (br 0))"

      assert {:error, %LimitError{limit: limit}} =
               Plugin.call(hostile(freed), "run", "abc", fuel: 1_000_000)

      assert limit in [:fuel, :host_calls]
    end

    test "whose result is no i32 of 0 has failed" do
      assert {:ok, ""} = Plugin.call(hostile("(result i32) (i32.const 0)"), "run", "")

      for {body, code} <- [
            {"(result i32) (i32.const 3)", 3},
            {"(result i64) (i64.const 0)", 0},
            {"(result f64) (f64.const 0)", nil},
            {"(call $error_set (call $alloc (i64.const 1)))", nil}
          ] do
        assert {:error, %PluginError{reason: :refused, exit_code: ^code}} =
                 Plugin.call(hostile(body), "run", "")
      end
    end

    test "that starts as Haskell's do, or has constructors, is started once, before it is called" do
      for {export, params} <- [{"hs_init", "(param i32 i32)"}, {"__wasm_call_ctors", ""}] do
        plugin =
          plugin!("""
          (module
            (import "extism:host/env" "input_length" (func (result i64)))
            (global $started (mut i32) (i32.const 1))
            (func (export "#{export}") #{params} (global.set $started (i32.sub (global.get $started) (i32.const 1))))
            (func (export "run") (result i32) (global.get $started)))
          """)

        assert Plugin.call(plugin, "run", "") == {:ok, ""}
      end
    end

    test "with an import of another type is not linked" do
      assert {:error, error} =
               Plugin.load(
                 {:bytes,
                  ~S|(module (import "extism:host/env" "alloc" (func (param i32))) (func (export "run")))|}
               )
               |> then(fn {:ok, plugin} -> Plugin.call(plugin, "run", "") end)

      assert Exception.message(error) =~ "Extism's has another type"
    end
  end
end
