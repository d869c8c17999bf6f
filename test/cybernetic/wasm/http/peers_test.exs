defmodule Cybernetic.WASM.HTTP.PeersTest do
  # The names here are put into the VM's own table of hosts, which is one for all.
  use ExUnit.Case

  import Cybernetic.WASM.Servers

  alias Cybernetic.WASM.HTTPError
  alias Cybernetic.WASM.HTTP.{Client, Peers, URL}
  alias Cybernetic.WASM.Sandbox.Capabilities.Network
  alias Cybernetic.WASM.Sandbox.Capability

  setup do
    lookup = :inet_db.res_option(:lookup)
    :inet_db.set_lookup([:file, :native])

    on_exit(fn ->
      :inet_db.set_lookup(lookup)
      for ip <- [{127, 0, 0, 1}, {127, 0, 0, 2}, {10, 0, 0, 1}], do: :inet_db.del_host(ip)
    end)
  end

  defp named(address, names), do: :inet_db.add_host(address, Enum.map(names, &to_charlist/1))
  defp hello, do: serve(fn peer, _ -> answer(peer, "hello") end)

  defp get(server, host, rules, opts \\ []) do
    rules = Enum.map(rules, &"#{&1}:#{server.port}")
    opts = Keyword.merge(server.opts, [network: rules] ++ opts)
    Client.request(%{url: "http://#{host}:#{server.port}/"}, opts)
  end

  test "a name is reached at an address that the rules allow as well" do
    named({127, 0, 0, 1}, ["one.test"])
    server = hello()
    assert {:ok, %{body: "hello"}} = get(server, "ONE.test.", ["one.test", "127.0.0.1"])
    assert_receive {:request, head}
    assert header(head, "host") == ["one.test:#{server.port}"]

    assert {:error, %HTTPError{reason: :denied, detail: why}} =
             get(server, "one.test", ["one.test"])

    assert why =~ "loopback"
    assert {:error, %HTTPError{reason: :denied}} = get(server, "one.test", ["127.0.0.1"])

    assert {:error, %HTTPError{reason: :denied}} =
             get(server, "one.test", ["two.test", "127.0.0.1"])

    refute_received {:request, _}
  end

  test "an address that the rules do not allow is left out" do
    named({10, 0, 0, 1}, ["both.test"])
    named({127, 0, 0, 1}, ["both.test"])
    server = hello()
    assert {:ok, %{body: "hello"}} = get(server, "both.test", ["both.test", "127.0.0.1"])
  end

  test "the next address is tried where one does not answer" do
    named({127, 0, 0, 2}, ["both.test"])
    named({127, 0, 0, 1}, ["both.test"])
    server = hello()
    assert {:ok, %{body: "hello"}} = get(server, "both.test", ["both.test", "127.0.0.0/8"])
  end

  test "no more addresses of a name are judged than could be meant" do
    addresses = for last <- 1..200, do: {127, 0, 0, last}
    for address <- addresses, do: named(address, ["many.test"])
    on_exit(fn -> for address <- addresses, do: :inet_db.del_host(address) end)
    {:ok, known} = :inet.getaddrs('many.test', :inet)
    assert length(known) == 200
    {:ok, url} = URL.parse("http://many.test:80/")
    rule = fn address -> "#{:inet.ntoa(address)}:80" end

    reached = fn rules ->
      Peers.addresses(url, Capability.grant!(Network, ["many.test:80" | rules]), :infinity)
    end

    first = hd(known)
    assert reached.([rule.(first)]) == {:ok, [first]}
    assert {:error, %HTTPError{reason: :denied}} = reached.([rule.(List.last(known))])
  end

  test "a name that has changed its address is judged by the new one" do
    named({127, 0, 0, 1}, ["rebound.test"])

    server =
      serve(fn peer, _ ->
        :inet_db.del_host({127, 0, 0, 1})
        named({10, 0, 0, 1}, ["rebound.test"])
        answer(peer, "", "302 Found", [{"location", "/again"}])
      end)

    assert {:error, %HTTPError{reason: :denied, detail: why}} =
             get(server, "rebound.test", ["rebound.test", "127.0.0.1"])

    assert why =~ "10.0.0.1"
    assert_receive {:request, _}
    refute_received {:request, _}
  end

  test "public addresses are all that is reached unless somebody says otherwise" do
    named({127, 0, 0, 1}, ["inside.test"])
    server = hello()

    for host <- ["inside.test", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"] do
      url = "http://#{host}:#{server.port}/"
      assert {:error, %HTTPError{reason: :denied}} = Client.request(%{url: url}, allow_http: true)
    end

    for host <- ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "exa_mple..com"] do
      url = "http://#{host}:#{server.port}/"
      assert {:error, %HTTPError{reason: :denied}} = Client.request(%{url: url}, allow_http: true)
    end

    refute_received {:request, _}
  end

  test "a name without an address is told" do
    assert {:error, %HTTPError{reason: :unresolved, blame: :node} = error} =
             Client.request(%{url: "https://nobody.invalid/?token=secret"},
               network: ["nobody.invalid:443"]
             )

    assert Exception.message(error) ==
             "no answer from https://nobody.invalid/?…: the name has no address"
  end
end
