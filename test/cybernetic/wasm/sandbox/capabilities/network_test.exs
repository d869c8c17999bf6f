defmodule Cybernetic.WASM.Sandbox.Capabilities.NetworkTest do
  # The rules themselves are tested where they are judged, in the core crate's network.rs.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{DeniedError, Executor, Runtime, Sandbox}
  alias Cybernetic.WASM.Sandbox.Capabilities.Network

  doctest Cybernetic.WASM.Sandbox.Capabilities.Network

  defp network(option), do: Sandbox.new(network: option).network
  defp allowed?(option, target, opts \\ []), do: Network.allowed?(network(option), target, opts)

  defp reason(option, target, opts \\ []) do
    assert {:error, %DeniedError{capability: :network, denied: reason, blame: :caller}} =
             Network.check(network(option), target, opts)

    reason
  end

  test "nobody can be reached until a rule is granted" do
    for option <- [false, [], [allow: []], [allow: [], dns: true]] do
      assert network(option) == %Network{}
      refute allowed?(option, "example.com:443")
      refute allowed?(option, "8.8.8.8:53")
      refute Network.lookup?(network(option), "example.com")
    end
  end

  test "rules are for names, names below, addresses and ranges" do
    rules = ["example.com:443", "*.example.org:*", "10.1.0.0/16:5432", "udp://[2600:db8::]/32:53"]

    for target <- [
          "example.com:443",
          "EXAMPLE.com.:443",
          "a.b.example.org:80",
          "10.1.2.3:5432",
          {{10, 1, 2, 3}, 5432},
          {"example.com", 443},
          URI.parse("https://example.com/path"),
          URI.parse("https://example.org.example.org:8443")
        ],
        do: assert(allowed?(rules, target), inspect(target))

    assert allowed?(rules, "[2600:db8::1]:53", protocol: :udp)
    assert allowed?(rules, {{0x2600, 0xDB8, 0, 0, 0, 0, 0, 1}, 53}, protocol: :udp)

    for target <- [
          "example.com:80",
          "example.org:80",
          "10.2.2.3:5432",
          "[2600:db8::1]:53",
          URI.parse("http://example.com"),
          URI.parse("https://10.1.2.3")
        ],
        do: refute(allowed?(rules, target), inspect(target))
  end

  test "the inside is reached by rules for the inside alone" do
    world = ["0.0.0.0/0:*", "[::]/0:*"]
    assert allowed?(world, "8.8.8.8:80")

    for target <- [
          "127.0.0.1:80",
          "10.0.0.1:80",
          "[::1]:80",
          "[::ffff:10.0.0.1]:80",
          "[fd00::1]:80"
        ],
        do: assert(reason(world, target) =~ "no rule names it or a range within")

    assert allowed?(["127.0.0.1:80"], "[::ffff:127.0.0.1]:80")
  end

  test "a name's address is judged as well" do
    rules = ["db.example:5432", "10.0.0.5:5432"]
    at = fn address -> allowed?(rules, "db.example:5432", address: address) end
    assert at.({93, 184, 216, 34})
    assert at.("93.184.216.34")
    assert at.({10, 0, 0, 5})
    refute at.({10, 0, 0, 6})
    refute at.("::1")
    refute at.("localhost")
    refute at.(:here)
    refute allowed?(rules, "10.0.0.5:5432", address: {10, 0, 0, 6})
    assert allowed?(rules, "10.0.0.5:5432", address: {10, 0, 0, 5})
  end

  test "a lookup by itself is a grant" do
    rules = ["db.example:5432", "10.0.0.0/8:5432"]
    assert Network.lookup?(network(rules), "db.example")
    refute Network.lookup?(network(rules), "other.example")
    with_dns = [allow: rules, dns: true]
    assert Network.lookup?(network(with_dns), "other.example")
    assert reason(with_dns, "other.example:5432") =~ "its address decides"
    assert allowed?(with_dns, "other.example:5432", address: {10, 0, 0, 9})
  end

  test "a target that makes no sense is refused, for it may be a guest's" do
    for target <- [
          "",
          "example.com",
          "example.com:",
          "example.com:0",
          "example.com:65536",
          "example.com:443:443",
          "user@example.com:443",
          "https://example.com:443",
          "example.com:443\n",
          "2130706433:443",
          "0x7f.1:443",
          "a b:443",
          <<255, ":443">>,
          String.duplicate("a", 10_000) <> ":443",
          {"example.com", 0},
          {"example.com", -1},
          {nil, 443},
          {{1, 2, 3}, 443},
          {{256, 0, 0, 1}, 443},
          nil,
          :example,
          URI.parse("//example.com")
        ] do
      refute allowed?(["example.com:*", "0.0.0.0/0:*"], target), inspect(target, limit: 5)
    end
  end

  test "who asks has the grant, a sandbox with it, a host function's context, or a preset's name" do
    sandbox = Sandbox.new(network: ["a.example:1"])

    ask = fn granted ->
      assert Network.allowed?(granted, "a.example:1")
      assert Network.lookup?(granted, "a.example")
      refute Network.allowed?(granted, "b.example:1")
    end

    Enum.each([sandbox.network, sandbox], ask)

    module = Runtime.load_module!({:bytes, ~S|
        (module (import "env" "ask" (func $ask)) (func (export "run") (call $ask)))|})

    imports = %{"env" => %{"ask" => ask}}
    assert {:ok, nil} = Executor.call(module, "run", [], sandbox: sandbox, imports: imports)

    for preset <- Sandbox.presets(), do: refute(Network.allowed?(preset, "a.example:1"))

    assert_raise ArgumentError, ~r/unknown sandbox preset :shell/, fn ->
      Network.allowed?(:shell, "a.example:1")
    end
  end

  test "options are checked" do
    assert_raise ArgumentError, fn -> allowed?([], "a.example:1", ip: "1.1.1.1") end

    assert_raise ArgumentError, ~r/:tcp or :udp/, fn ->
      allowed?([], "a.example:1", protocol: :icmp)
    end
  end

  test "a rule that cannot be taken is named with the reason" do
    for {rule, reason} <- [
          {"example.com", "a port is missing"},
          {"example.com:99999", "the port must be a number"},
          {"https://example.com:443", "tcp://"},
          {"10.0.0.1/8:80", "the range is 10.0.0.0/8"},
          {"[::ffff:10.0.0.1]:80", "name that one (10.0.0.1)"},
          {"*:80", "a name is of letters"}
        ] do
      error = assert_raise ArgumentError, fn -> network(["ok.example:1", rule]) end
      assert error.message =~ inspect(rule)
      assert error.message =~ reason
    end

    for option <- [
          true,
          nil,
          "example.com:443",
          [:all],
          [allow: "a:1"],
          [dns: 1],
          [<<255>>],
          [hosts: []]
        ] do
      assert_raise ArgumentError, ~r/option :network/, fn -> network(option) end
    end

    assert_raise ArgumentError, ~r/at most 1000 rules/, fn ->
      network(for n <- 1..1_001, do: "h#{n}.example:1")
    end
  end

  test "narrowing asks every list" do
    both =
      Network.narrow(
        network(allow: ["*.example.com:*"], dns: true),
        network(["api.example.com:443", "www.example.com:443", "example.org:443"])
      )

    assert Network.allowed?(both, "api.example.com:443")
    refute Network.allowed?(both, "api.example.com:80")
    refute Network.allowed?(both, "example.org:443")
    refute Network.lookup?(both, "other.example")
    assert Network.narrow(both, %Network{}) == %Network{}
  end
end
