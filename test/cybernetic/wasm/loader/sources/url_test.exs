defmodule Cybernetic.WASM.Loader.Sources.URLTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Servers

  alias Cybernetic.WASM.LoadError
  alias Cybernetic.WASM.Loader.Sources
  alias Cybernetic.WASM.Loader.Sources.URL

  @module File.read!("priv/wasm/compute.wasm")
  @secret "hunter2-93ad"

  @asked %{
    max_size: 10_000_000,
    deadline: :infinity,
    digest: nil,
    signature: false,
    manifest: false,
    http: [],
    store: nil
  }

  defp fetch(server, asked \\ %{}, own \\ [], path \\ "thumb.wasm"),
    do: source({:url, server.url <> path, [http: server.opts] ++ own}, asked)

  defp source(source, asked \\ %{}),
    do: source |> Sources.of!() |> Sources.fetch(Map.merge(@asked, asked))

  defp module, do: serve(fn peer, _ -> answer(peer, @module) end)

  test "gives what lies there" do
    assert fetch(module()) == {:ok, @module, %{}}
  end

  test "is asked with the headers that are given, which go to its origin alone" do
    other = module()

    server = serve(fn peer, _ -> answer(peer, "", "302 Found", [{"location", other.url}]) end)

    rules = for %{port: port} <- [server, other], do: "127.0.0.1:#{port}"
    own = [headers: [{"authorization", @secret}], http: [network: rules, allow_http: true]]
    assert {:ok, @module, _} = source({:url, server.url, own})
    assert_receive {:request, first}
    assert header(first, "authorization") == [@secret]
    assert_receive {:request, second}
    assert header(second, "authorization") == []
  end

  test "takes the HTTP options of the load, under its own" do
    server = module()
    assert {:ok, @module, _} = source({:url, server.url}, %{http: server.opts})
    assert {:error, %LoadError{reason: :fetch_failed}} = source({:url, server.url}, %{http: []})

    assert {:error, %LoadError{reason: :denied}} =
             source({:url, server.url}, %{http: [allow_http: true]})

    assert {:error, %LoadError{reason: :fetch_failed, cause: %{reason: :insecure}}} =
             source({:url, server.url, http: [allow_http: false]}, %{http: server.opts})
  end

  test "says which options let a load go to a server of one's own" do
    for {url, http, words} <- [
          {"http://example.com/x?token=hunter2", [], "the option http: [allow_http: true]"},
          {"http://localhost:8000/x", [],
           ~s|http: [allow_http: true, network: ["localhost:8000", "127.0.0.1:8000"]]|},
          {"http://localhost:8000/x", [allow_http: true],
           ~s|http: [allow_http: true, network: ["localhost:8000", "127.0.0.1:8000"]]|},
          {"http://10.0.0.7/x", [], ~s|http: [allow_http: true, network: ["10.0.0.7:80"]]|},
          {"https://10.0.0.7/x", [], ~s|http: [network: ["10.0.0.7:443"]]|},
          {"https://[::1]:8443/x", [], ~s|http: [network: ["[::1]:8443"]]|},
          {"https://wasm:8443/x", [network: ["10.0.0.0/8:443"]],
           ~s|http: [network: ["wasm:8443", "its address:8443"]]|}
        ] do
      assert {:error, %LoadError{reason: reason} = error} = source({:url, url}, %{http: http})
      assert reason in [:fetch_failed, :denied]
      assert Exception.message(error) =~ "; for a server of your own, "
      assert Exception.message(error) =~ words
      refute Exception.message(error) =~ "hunter2"
    end
  end

  test "does not advise to open what a server sends on to" do
    server =
      serve(fn peer, _ ->
        answer(peer, "", "302 Found", [{"location", "http://169.254.169.254/latest"}])
      end)

    assert {:error, %LoadError{reason: :denied} = error} = fetch(server)
    assert Exception.message(error) =~ "169.254.169.254"
    refute Exception.message(error) =~ "the option http:"
  end

  test "has no more bytes than a module may have" do
    server = module()
    size = byte_size(@module)

    assert {:error, %LoadError{reason: :too_large, size: ^size, allowed: 100}} =
             fetch(server, %{max_size: 100})

    endless =
      serve(fn peer, _ -> say(peer, "HTTP/1.1 200 OK\r\n\r\n") && for_ever(peer, @module) end)

    assert {:error, %LoadError{reason: :too_large} = error} = fetch(endless)
    assert Exception.message(error) =~ "at most"
  end

  test "says where it ends, unless a pin does" do
    endless = fn peer, body -> say(peer, ["HTTP/1.1 200 OK\r\n\r\n", body]) end
    server = serve_tls(fn peer, _ -> endless.(peer, @module) end)
    assert {:error, %LoadError{reason: :fetch_failed} = error} = fetch(server)
    assert Exception.message(error) =~ "does not say where its answer ends"
    assert {:ok, @module, _} = fetch(server, %{digest: "sha256:" <> String.duplicate("0", 64)})

    # A pin of the module is none of what lies beside it.
    beside =
      serve_tls(fn peer, head ->
        if path(head) == "/thumb.wasm", do: answer(peer, @module), else: endless.(peer, "name")
      end)

    pinned = %{digest: "sha256:" <> String.duplicate("0", 64)}
    assert {:ok, @module, _} = fetch(beside, pinned)

    for fact <- [:signature, :manifest] do
      assert {:error, %LoadError{reason: :fetch_failed, status: nil}} =
               fetch(beside, Map.put(pinned, fact, true))
    end
  end

  test "says what failed, and whose doing it is" do
    for {status, blame} <- [
          {"404 Not Found", :caller},
          {"403 Forbidden", :caller},
          {"429 Slow", :node},
          {"500 Oh", :node},
          {"204 None", :caller}
        ] do
      server = serve(fn peer, _ -> answer(peer, @module, status) end)
      code = status |> String.slice(0, 3) |> String.to_integer()

      assert {:error, %LoadError{reason: :fetch_failed, status: ^code, blame: ^blame} = error} =
               fetch(server)

      assert Exception.message(error) =~ "answered with status #{code}"
      assert Exception.message(error) =~ "{:url, url, headers:" == (code == 403)
    end

    cut =
      serve(fn peer, _ -> say(peer, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" <> "x") end)

    assert {:error, %LoadError{reason: :fetch_failed, blame: :node, cause: %{reason: :truncated}}} =
             fetch(cut)
  end

  test "shows no query, header or user's name" do
    server = serve(fn peer, _ -> answer(peer, "", "500 Oh") end)
    own = [headers: [{"authorization", @secret}]]

    for path <- ["x.wasm?sig=#{@secret}", "x.wasm#" <> @secret] do
      assert {:error, error} = fetch(server, %{}, own, path)
      refute Exception.message(error) =~ @secret
      refute inspect(error) =~ @secret
    end

    for url <- [
          "https://user:#{@secret}@example.com/",
          "no url #{@secret}",
          "ftp://example.com/#{@secret}"
        ] do
      assert {:error, %LoadError{reason: :fetch_failed} = error} = source({:url, url})
      assert URL.describe(url) == "a URL"
      refute inspect(error) =~ @secret
    end

    error = catch_error(source({:url, "https://example.com", headers: @secret}))
    refute Exception.message(error) =~ @secret
  end

  test "is in its time, or not at all" do
    silent = serve(fn peer, _ -> until_closed(peer) end)

    assert {:error, %LoadError{reason: :fetch_failed, blame: :node, cause: %{reason: :timeout}}} =
             fetch(silent, %{deadline: System.monotonic_time(:millisecond) + 100})
  end

  test "has its signature and its manifest beside it" do
    server =
      serve(fn peer, head ->
        case path(head) do
          "/a/thumb.wasm?x=1" -> answer(peer, @module)
          "/a/thumb.wasm.sig" -> answer(peer, "signature")
          "/a/module.toml" -> answer(peer, "name")
        end
      end)

    opts = %{@asked | signature: true, manifest: true, http: server.opts}
    url = server.url <> "a/thumb.wasm?x=1"
    assert URL.fetch(url, opts) == {:ok, @module, %{signature: "signature", manifest: "name"}}
    assert URL.fetch(url, %{opts | signature: false, manifest: false}) == {:ok, @module, %{}}

    bare =
      serve(fn peer, head ->
        if path(head) == "/x.wasm",
          do: answer(peer, @module),
          else: answer(peer, "", "404 Not Found")
      end)

    assert URL.fetch(bare.url <> "x.wasm", %{opts | http: bare.opts}) == {:ok, @module, %{}}

    # What does not say that there is none may have one.
    failing =
      serve(fn peer, head ->
        if path(head) == "/x.wasm", do: answer(peer, @module), else: answer(peer, "", "500 Oh")
      end)

    assert {:error, %LoadError{status: 500}} =
             URL.fetch(failing.url <> "x.wasm", %{opts | http: failing.opts})

    endless =
      serve(fn peer, head ->
        if path(head) == "/x.wasm",
          do: answer(peer, @module),
          else: answer(peer, String.duplicate("x", 65_537))
      end)

    assert {:error, %LoadError{reason: :too_large}} =
             URL.fetch(endless.url <> "x.wasm", %{opts | http: endless.opts})
  end

  test "has them at its own origin, whatever its path looks like" do
    other = serve(fn peer, _ -> answer(peer, "theirs") end)

    server =
      serve(fn peer, head ->
        answer(peer, if(path(head) =~ ~r"wasm\z", do: @module, else: "ours"))
      end)

    rules = for %{port: port} <- [server, other], do: "127.0.0.1:#{port}"
    own = [headers: [{"authorization", @secret}], http: [network: rules, allow_http: true]]
    there = "//127.0.0.1:#{other.port}/"
    url = String.trim_trailing(server.url, "/") <> there <> "x.wasm"

    assert {:ok, @module, %{signature: "ours", manifest: "ours"}} =
             source({:url, url, own}, %{signature: true, manifest: true})

    for name <- ["x.wasm", "x.wasm.sig", "module.toml"] do
      assert_receive {:request, head}
      assert header(head, "host") == ["127.0.0.1:#{server.port}"]
      assert path(head) == there <> name
    end

    refute_received {:request, _}
  end

  test "names the module by its path" do
    assert URL.name("https://example.com/a/thumb.wasm?x=1") == "thumb.wasm"
    assert URL.name({"https://example.com/", []}) == nil

    assert URL.describe("https://example.com/a/thumb.wasm?x=1") ==
             "https://example.com/a/thumb.wasm?…"
  end

  test "what is no source of this kind is the caller's mistake" do
    for source <- [
          {:url, 1},
          {:url, 'https://example.com'},
          {:url, "https://example.com", [header: []]},
          {:url, "https://example.com", 1}
        ] do
      assert_raise ArgumentError, fn -> source(source) end
    end
  end
end
