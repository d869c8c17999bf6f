defmodule Cybernetic.WASM.Component.WASITest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{
    CallError,
    CancelledError,
    Component,
    DeniedError,
    Denial,
    Executor,
    Instance,
    LimitError,
    LinkError,
    Native,
    Runtime,
    Sandbox,
    TrapError
  }

  alias Cybernetic.WASM.Sandbox.Interfaces

  # A command whose first argument says which function of WASI it calls.
  @calls "test/fixtures/components/wasi_calls.wasm"

  defp component, do: Runtime.load_module!(@calls)

  defp run(args, opts \\ []) do
    opts = Keyword.merge([args: args, sandbox: :command], opts)
    Executor.run(component(), :start, opts)
  end

  defp said(args, opts \\ []) do
    {:ok, run} = run(args, opts)
    assert {run.exit_code, run.denials} == {0, []}
    String.trim_trailing(run.stdout, "\n")
  end

  # With standard output alone, and these grants.
  defp granted(grants), do: [sandbox: Sandbox.new([stdio: :captured, wasi: true] ++ grants)]

  # A component of one function, which imports what it does not call.
  defp importing(interface, items) do
    Runtime.load_module(
      {:bytes,
       ~s"""
       (component
         (import "#{interface}" (instance #{items}))
         (core module $m (func (export "f") (result i32) i32.const 7))
         (core instance $m (instantiate $m))
         (func (export "f") (result u32) (canon lift (core func $m "f"))))
       """}
    )
  end

  @now ~S|(export "now" (func (result u64)))|

  describe "a command" do
    test "ends with an exit code" do
      for {args, code} <- [
            {["nothing"], 0},
            {["fail"], 1},
            {["exit", "0"], 0},
            {["exit", "1"], 1},
            {["exit-with-code", "42"], 42}
          ] do
        assert {:ok, %{exit_code: ^code, result: nil}} = run(args)
        assert Executor.call(component(), :start, args: args, sandbox: :command) == {:ok, code}
      end
    end

    test "has its arguments, its name and its variables" do
      assert said(["arguments", "a b", "ü"]) == ~S|["a b", "ü"]|
      assert said(["environment"], env: %{"MODE" => "batch"}) == ~S|[("MODE", "batch")] None|
    end

    test "reads what it is given, pulled as it reads, and is streamed" do
      assert said(["echo"], stdin: "seven b") == "seven b"
      assert said(["splice"], stdin: ["se", ["ven"]]) == "seven"
      assert said(["echo"], stdin: Stream.map(1..3, &"#{&1} ")) == "1 2 3 "

      me = self()
      lines = Stream.each(["a", "b"], &send(me, {:pulled, &1}))

      stream =
        Executor.stream(component(), :start, args: ["echo"], stdin: lines, sandbox: :command)

      assert Enum.take(stream, 1) == ["a"]
      assert_received {:pulled, "a"}
      refute_received {:pulled, "b"}
    end

    test "runs in a process of its own, and is cancelled while it sleeps" do
      opts = [args: ["sleep", "3600000000000"], sandbox: :command]
      async = Executor.async(component(), :start, opts)
      assert {:error, %CancelledError{reason: :enough}} = Executor.cancel(async, :enough)
    end

    test "that sleeps ends with its time" do
      assert {:error, %LimitError{limit: :timeout}} = run(["sleep", "3600000000000"], timeout: 20)
    end

    test "is a component that exports it" do
      {:ok, greeter} = Runtime.load_module("priv/wasm/greeter.wasm")

      assert {:error, %CallError{reason: :component} = error} = Executor.run(greeter, :start)
      assert Exception.message(error) =~ "wasi:cli/run"
    end

    test "is run by a live instance, which a program that exits is gone from" do
      {:ok, instance} = Instance.new(component(), args: ["arguments", "x"], sandbox: :command)
      assert {:ok, %{exit_code: 0, stdout: ~s|["x"]\n|}} = Instance.run(instance, :start)
      assert {:ok, %{exit_code: 0}} = Instance.run(instance, :start)

      {:ok, instance} = Instance.new(component(), args: ["exit", "1"], sandbox: :command)
      assert {:ok, 1} = Instance.call(instance, :start)
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, :start)
      assert :ok = Instance.reset(instance)
      assert {:ok, 1} = Instance.call(instance, :start)
    end
  end

  describe "without a grant" do
    test "a component is linked, and called where it needs none" do
      {:ok, component} = importing("wasi:clocks/monotonic-clock@0.2.6", @now)
      assert Executor.call(component, "f") == {:ok, 7}
      assert Executor.call(component, "f", [], sandbox: Sandbox.new()) == {:ok, 7}
      assert {:ok, %{denials: []}} = Executor.run(component, "f")
    end

    test "what is refused answers with its error, and is in the denials" do
      assert {:ok, run} =
               Executor.run(component(), :start,
                 sandbox: Sandbox.new(wasi: true),
                 args: ["arguments"]
               )

      assert run.stdout == ""

      assert run.denials == [
               %Denial{
                 capability: :stdio,
                 operation: "wasi:io/streams#write",
                 detail: "stdout",
                 errno: :closed
               }
             ]

      assert {:ok, run} = run(["connect", "192.0.2.1:80"])
      assert run.stdout == "access-denied\n"
      assert [%{capability: :network, errno: :access_denied}] = run.denials
    end

    test "what has no error to answer with traps" do
      assert {:error, %TrapError{code: :wasi} = error} = run(["random", "4"], granted([]))
      assert Exception.message(error) =~ "wasi:random/random#get-random-bytes"
      assert [%{capability: :random, errno: :trap}] = error.run.denials
      assert {:error, %TrapError{code: :wasi}} = run(["wall"], granted(random: :system))
    end

    test "a call gives no arguments and no variables" do
      assert {:error, %DeniedError{capability: :wasi}} =
               Executor.run(component(), :start, args: ["arguments"])
    end

    test "the sandbox tells what it will refuse" do
      denied = Sandbox.check(component(), Sandbox.new(clocks: :real))
      effects = Map.new(denied, &{{&1.module, &1.name}, {&1.capability, &1.effect}})

      assert effects[{"wasi:random/random@0.2.12", "get-random-u64"}] == {:random, :trap}
      assert effects[{"wasi:cli/stdin@0.2.12", "get-stdin"}] == {:stdio, :errno}
      assert effects[{"wasi:cli/environment@0.2.12", "get-environment"}] == {:env, :empty}
      refute Map.has_key?(effects, {"wasi:cli/environment@0.2.12", "get-arguments"})
      refute Enum.any?(denied, &(&1.capability == :clocks or &1.effect == :link))

      assert {"wasi:sockets/tcp@0.2.12", _} =
               Enum.find(
                 Map.keys(effects),
                 &(effects[&1] == {:network, :errno} and elem(&1, 0) =~ "tcp@")
               )
    end
  end

  describe "the grants" do
    test "of clocks and random bytes hold as they do for modules" do
      fixed = granted(clocks: {:fixed, 1_000_000_007}, random: {:seeded, 7})
      assert said(["wall"], fixed) =~ "seconds: 1, nanoseconds: 7"
      assert said(["sleep", "3600000000000"], fixed) == "3600000000000"
      assert said(["random", "8"], fixed) == said(["random", "8"], fixed)
    end

    test "of determinism leave nothing that makes runs differ" do
      opts = [deterministic: true]
      assert {:error, %TrapError{code: :wasi}} = run(["wall"], opts)
      assert {:error, %TrapError{code: :wasi}} = run(["random", "1"], opts)
      assert said(["seed"], opts) == said(["seed"], opts)
    end

    test "of the network open sockets" do
      {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}])
      {:ok, port} = :inet.port(listener)

      server =
        Task.async(fn ->
          {:ok, client} = :gen_tcp.accept(listener)
          {:ok, "hello"} = :gen_tcp.recv(client, 5)
          :ok = :gen_tcp.send(client, "good day")
          :gen_tcp.close(client)
        end)

      peer = "127.0.0.1:#{port}"
      assert said(["connect", peer, "hello"], granted(network: [peer])) == "good day"
      Task.await(server, :infinity)
    end
  end

  describe "imports" do
    test "that the call gives itself are called in the place of WASI's" do
      now = fn _ctx -> 42 end
      imports = %{"wasi:clocks/monotonic-clock" => %{"now" => now}}
      assert said(["monotonic"], imports: imports) == "42"
      assert said(["sleep", "0"], imports: imports) == "0"
    end

    test "of another 0.2 are served, and what is none is missing" do
      {:ok, component} = importing("wasi:clocks/monotonic-clock@0.2.99", @now)
      assert Executor.call(component, "f") == {:ok, 7}

      {:ok, component} = importing("wasi:clocks/monotonic-clock@0.3.0", @now)
      assert {:error, %LinkError{}} = Executor.call(component, "f")

      {:ok, component} =
        importing("wasi:clocks/monotonic-clock@0.2.6", String.replace(@now, "u64", "u32"))

      assert {:error, %LinkError{problems: [problem]}} = Executor.call(component, "f")
      assert problem.module == "wasi:clocks/monotonic-clock@0.2.6"
      assert problem.reason =~ "WASI has no such import"
    end

    test "that are served are those that the core serves" do
      assert Enum.sort(Interfaces.names()) == Enum.sort(Native.wasi_interfaces())
      served = component() |> Component.imports() |> Enum.map(& &1.interface) |> Enum.uniq()
      assert Enum.all?(served, &Interfaces.served?/1)

      for name <- [
            "wasi:cli/exit",
            "wasi:cli/exit@0.2.",
            "wasi:cli/exit@0.2.0-rc",
            "wasi:cli/exit@0.3.0",
            "a:b/c@0.2.0"
          ] do
        refute Interfaces.served?(name), name
      end
    end
  end
end
