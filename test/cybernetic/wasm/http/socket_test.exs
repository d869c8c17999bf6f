defmodule Cybernetic.WASM.HTTP.SocketTest do
  # Names here are put into the VM's own table of hosts, which is one for all.
  use ExUnit.Case

  import Cybernetic.WASM.Servers

  alias Cybernetic.WASM.HTTPError
  alias Cybernetic.WASM.HTTP.Client
  alias Cybernetic.WASM.Servers.Certificates

  setup do
    lookup = :inet_db.res_option(:lookup)
    :inet_db.set_lookup([:file, :native])
    :inet_db.add_host({127, 0, 0, 1}, ['one.test', 'two.test', 'deep.one.test'])

    on_exit(fn ->
      :inet_db.set_lookup(lookup)
      :inet_db.del_host({127, 0, 0, 1})
    end)
  end

  defp get(server, host \\ "127.0.0.1", opts \\ []) do
    rules =
      for host <- ["127.0.0.1", "one.test", "*.one.test", "two.test"],
          do: "#{host}:#{server.port}"

    opts = Keyword.merge(server.opts, [network: rules, allow_http: false] ++ opts)
    Client.request(%{url: "https://#{host}:#{server.port}/"}, opts)
  end

  defp hello(names, opts \\ []),
    do: serve_tls(fn peer, _ -> answer(peer, "hello") end, names, opts)

  defp alert({:error, %HTTPError{reason: :tls, blame: :caller, detail: detail}}), do: detail

  test "a certificate has to be for the name" do
    assert {:ok, %{body: "hello"}} = get(hello(["one.test"]), "one.test")
    assert {:ok, %{body: "hello"}} = get(hello(["two.test", "*.one.test"]), "deep.one.test")
    assert alert(get(hello(["two.test"]), "one.test")) =~ "hostname_check_failed"
    assert alert(get(hello([{127, 0, 0, 1}]), "one.test")) =~ "hostname_check_failed"
    assert alert(get(hello(["*.one.test"]), "one.test")) =~ "hostname_check_failed"
    assert alert(get(hello(["*.test"]), "deep.one.test")) =~ "hostname_check_failed"
  end

  test "a certificate has to be for the address, where that is asked for" do
    assert {:ok, %{body: "hello"}} = get(hello([{127, 0, 0, 1}]))
    assert alert(get(hello([{127, 0, 0, 2}]))) =~ "hostname_check_failed"
    assert alert(get(hello(["one.test"]))) =~ "hostname_check_failed"
  end

  test "a certificate has to be issued by somebody who is trusted, for now" do
    server = hello([{127, 0, 0, 1}])
    other = Certificates.issue([{127, 0, 0, 1}]).trusted
    assert alert(get(server, "127.0.0.1", tls: [cacerts: other])) =~ "unknown_ca"
    past = hello([{127, 0, 0, 1}], valid: {{2020, 1, 1}, {2020, 1, 2}})
    assert alert(get(past)) =~ "certificate_expired"
    future = hello([{127, 0, 0, 1}], valid: {{2200, 1, 1}, {2201, 1, 1}})
    assert {:error, %HTTPError{reason: :tls}} = get(future)
  end

  @tag :tmp_dir
  test "whom to trust may be in a file", %{tmp_dir: folder} do
    server = hello([{127, 0, 0, 1}])
    path = Path.join(folder, "trusted.pem")
    entries = for der <- server.opts[:tls][:cacerts], do: {:Certificate, der, :not_encrypted}
    File.write!(path, :public_key.pem_encode(entries))
    assert {:ok, %{body: "hello"}} = get(server, "127.0.0.1", tls: [cacertfile: path])

    assert {:error, %HTTPError{reason: :tls}} =
             get(server, "127.0.0.1", tls: [cacertfile: Path.join(folder, "none.pem")])
  end

  test "a session of one name is not continued under another one at the same address" do
    test = self()
    one = Certificates.issue(["one.test"])

    sni = fn name ->
      send(test, {:name, to_string(name)})
      one.server
    end

    server =
      serve(fn peer, _ -> answer(peer, "hello") end,
        tls: [sni_fun: sni, versions: [:"tlsv1.2"]] ++ one.server,
        trusted: one.trusted
      )

    for _ <- 1..3, do: assert({:ok, %{body: "hello"}} = get(server, "one.test"))
    assert alert(get(server, "two.test")) =~ "hostname_check_failed"
    for name <- ~w(one.test one.test one.test two.test), do: assert_received({:name, ^name})
  end

  test "what speaks no TLS is told" do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1}, active: false)
    {:ok, port} = :inet.port(listener)

    spawn_link(fn ->
      {:ok, socket} = :gen_tcp.accept(listener)
      :gen_tcp.send(socket, "HTTP/1.1 400 Bad Request\r\n\r\n")
      :gen_tcp.recv(socket, 0)
    end)

    assert {:error, %HTTPError{reason: reason}} = get(%{port: port, opts: []})
    assert reason in [:tls, :unreachable]
  end

  test "a handshake that nobody answers is over with its time" do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1}, active: false)
    {:ok, port} = :inet.port(listener)
    server = %{port: port, opts: []}

    assert {:error, %HTTPError{reason: :timeout, during: :connect}} =
             get(server, "127.0.0.1", connect_timeout: 50)

    assert {:error, %HTTPError{reason: :timeout, during: :connect}} =
             get(server, "127.0.0.1", timeout: 50)
  end
end
