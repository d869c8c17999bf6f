defmodule Cybernetic.WASM.Security.Components.WASITest do
  # Components that take what the system interface gives until there is no more, and callers who are gone while one waits.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Eventually

  alias Cybernetic.WASM.{Executor, LimitError, Runtime, Sandbox, TrapError}

  @calls "test/fixtures/components/wasi_calls.wasm"

  setup :quiet_node

  defp run(args, opts \\ []) do
    component = Runtime.load_module!(@calls)
    Executor.run(component, :start, Keyword.merge([args: args, sandbox: :command], opts))
  end

  test "handles that are never given back come to an end" do
    assert {:error, %kind{}} = run(["streams", "1000000"], max_host_calls: 10_000_000)
    assert kind in [TrapError, LimitError]
  end

  test "waiting for too much, and asking for too much, end the component alone" do
    timers = ["timers", "10001", "1000000000"]
    assert {:error, %LimitError{limit: :resources}} = run(timers)
    many = Sandbox.new(clocks: :real, stdio: :captured, max_resources: 100_000)
    assert {:error, %TrapError{code: :wasi}} = run(timers, sandbox: many)
    assert {:error, %TrapError{code: :wasi}} = run(["poll-nothing"])

    assert {:error, %LimitError{limit: :transfer, blame: :guest}} =
             run(["random-length", "18446744073709551615"])

    assert {:error, %LimitError{limit: :output}} = run(["write", "100000000"], max_output: 10_000)
  end

  test "a component that asks again and again whether a time has come is cut off" do
    assert {:error, %LimitError{limit: limit}} =
             run(["look", "3600000000000"], max_host_calls: 10_000)

    assert limit == :host_calls
  end

  test "a component whose caller is killed while it sleeps is gone" do
    caller = spawn(fn -> run(["sleep", "3600000000000"]) end)
    until_live(1)
    Process.exit(caller, :kill)
    until_live(0)
  end

  test "a component whose caller is killed while it reads from a peer is gone, and its socket closed" do
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}])
    {:ok, port} = :inet.port(listener)
    peer = "127.0.0.1:#{port}"
    sandbox = Sandbox.new(stdio: :captured, network: [peer])
    caller = spawn(fn -> run(["connect", peer, "hello"], sandbox: sandbox) end)

    {:ok, client} = :gen_tcp.accept(listener)
    {:ok, "hello"} = :gen_tcp.recv(client, 5)
    Process.exit(caller, :kill)
    assert {:error, :closed} = :gen_tcp.recv(client, 0)
  end
end
