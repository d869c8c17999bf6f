defmodule Cybernetic.WASM.HTTP.ClientTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Servers}

  alias Cybernetic.WASM.{HTTPError, Sandbox}
  alias Cybernetic.WASM.HTTP.{Client, Response}

  doctest Client
  doctest Response

  defp get(server, opts \\ []), do: ask(server, %{}, opts)

  defp ask(server, request, opts \\ []),
    do: Client.request(Map.put_new(request, :url, server.url), Keyword.merge(server.opts, opts))

  describe "an answer" do
    test "has a status, headers in small letters, and its body" do
      server =
        serve(fn peer, _ ->
          answer(peer, "hello", "200 Fine", [{"ETag", "\t7 "}, {"Etag", "8"}])
        end)

      assert {:ok, %Response{status: 200, body: "hello", trailers: []} = response} = get(server)
      assert response.headers == [{"etag", "7"}, {"etag", "8"}, {"content-length", "5"}]
      assert Response.header(response, "etag") == ["7", "8"]
      assert response.url == server.url
    end

    test "is one, whatever its status" do
      for status <- ["404 Not Found", "503 ", "200"] do
        server = serve(fn peer, _ -> answer(peer, "no", status) end)
        assert {:ok, %{status: code, body: "no"}} = get(server)
        assert String.starts_with?(status, Integer.to_string(code))
      end
    end

    test "may come in chunks, with trailers" do
      chunks = "5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nChecksum: 1\r\n\r\n"

      server =
        serve(fn peer, _ ->
          say(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" <> chunks)
        end)

      assert {:ok, %{body: "hello world", trailers: [{"checksum", "1"}]}} = get(server)
    end

    test "may end with its connection" do
      server = serve(fn peer, _ -> say(peer, "HTTP/1.0 200 OK\r\n\r\nall of it") end)
      assert {:ok, %{body: "all of it"}} = get(server)
    end

    test "is what comes after informational ones" do
      early = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
      server = serve(fn peer, _ -> say(peer, early) && answer(peer, "then") end)
      assert {:ok, %{status: 200, body: "then", headers: [{"content-length", "4"}]}} = get(server)
    end

    test "has the body that its method and status allow, whatever follows" do
      for {method, status} <- [
            {"HEAD", "200 OK"},
            {"GET", "204 No Content"},
            {"GET", "304 Not Modified"}
          ] do
        server = serve(fn peer, _ -> answer(peer, "a body", status) end)
        assert {:ok, %{body: ""}} = ask(server, %{method: method})
      end
    end

    test "keeps bytes that are no text" do
      body = for byte <- 0..255, into: "", do: <<byte>>
      server = serve(fn peer, _ -> answer(peer, body, "200 OK", [{"x", <<0xFF, 0x80>>}]) end)
      assert {:ok, %{body: ^body} = response} = get(server)
      assert Response.header(response, "x") == [<<0xFF, 0x80>>]
    end

    test "comes over TLS as well" do
      server = serve_tls(fn peer, _ -> answer(peer, String.duplicate("x", 100_000)) end)
      assert {:ok, %{body: body}} = get(server, allow_http: false)
      assert byte_size(body) == 100_000
    end
  end

  describe "a request" do
    test "says what it has to, and as it was given" do
      server = serve(fn peer, _ -> answer(peer, "") end)
      url = server.url <> "a/b?c=%20"
      assert {:ok, _} = ask(server, %{url: url, headers: [{"X-Own", " 1 "}, {"accept", "*/*"}]})
      assert_receive {:request, head}

      assert String.split(head, "\r\n") == [
               "GET /a/b?c=%20 HTTP/1.1",
               "host: 127.0.0.1:#{server.port}",
               "user-agent: cybernetic-wasm",
               "accept-encoding: identity",
               "x-own: 1",
               "accept: */*",
               "connection: close"
             ]
    end

    test "may have a body of bytes" do
      server = serve(fn peer, _ -> answer(peer, hear(peer, 10)) end)

      for body <- ["0123456789", ["0123", [?4, "56789"]]] do
        assert {:ok, %{body: "0123456789"}} = ask(server, %{method: :post, body: body})
        assert_receive {:request, "POST" <> _ = head}
        assert header(head, "content-length") == ["10"]
      end
    end

    test "without a body says so where there could be one" do
      server = serve(fn peer, _ -> answer(peer, "") end)

      for {method, length} <- [get: [], delete: [], post: ["0"], put: ["0"]] do
        assert {:ok, _} = ask(server, %{method: method})
        assert_receive {:request, head}
        assert header(head, "content-length") == length
      end
    end

    test "may have a body that is an enumerable, in chunks or of a length that is told" do
      server = serve(fn peer, _ -> answer(peer, hear(peer, 21)) end)
      request = %{method: "PUT", body: Stream.map(["01234", "", "56789"], & &1)}
      assert {:ok, %{body: "5\r\n01234\r\n5\r\n56789\r\n0"}} = ask(server, request)
      assert_receive {:request, head}
      assert header(head, "transfer-encoding") == ["chunked"]

      server = serve(fn peer, _ -> answer(peer, hear(peer, 10)) end)

      assert {:ok, %{body: "0123456789"}} =
               ask(server, Map.put(request, :headers, [{"Content-Length", "10"}]))

      assert_receive {:request, head}
      assert header(head, "transfer-encoding") == []
    end

    test "is not sent if its enumerable gives more or less than it told" do
      server = serve(fn peer, _ -> until_closed(peer) end)

      for {pieces, word} <- [{["0123456789", "0"], "longer"}, {["01234"], "shorter"}] do
        request = %{
          method: "PUT",
          body: Stream.map(pieces, & &1),
          headers: [{"content-length", "10"}]
        }

        assert {:error, %HTTPError{reason: :invalid, detail: detail}} = ask(server, request)
        assert detail =~ word
      end
    end

    test "lets through what its enumerable raises, and closes the connection" do
      test = self()
      server = serve(fn peer, _ -> send(test, until_closed(peer)) end)
      pieces = Stream.map([1, 2], fn n -> if n == 2, do: raise("mine"), else: "one" end)
      assert_raise RuntimeError, "mine", fn -> ask(server, %{method: "PUT", body: pieces}) end
      assert_receive :closed
    end

    test "may be allowed by a sandbox" do
      server = serve(fn peer, _ -> answer(peer, "hello") end)
      sandbox = Sandbox.new(network: server.opts[:network])
      assert {:ok, %{body: "hello"}} = get(server, network: sandbox)
      assert {:error, %HTTPError{reason: :denied}} = get(server, network: Sandbox.new())
    end
  end

  describe "a stream" do
    test "is read as far as somebody reads" do
      for serve <- [&serve/1, &serve_tls/1] do
        test = self()
        head = "HTTP/1.1 200 OK\r\n\r\n"
        piece = :binary.copy("x", 100_000)

        server =
          serve.(fn peer, _ ->
            say(peer, head)
            for n <- 1..300, do: say(peer, piece) && send(test, {:sent, n})
          end)

        {:ok, %{status: 200, body: nil}, exchange} =
          Client.open(%{url: server.url}, server.opts ++ [max_body: 30_000_000])

        # What lies between is the kernel's, and OTP's for TLS: some megabytes.
        stuck = settled(fn -> length(mailbox()) end)
        assert stuck < 250
        assert {:ok, body, []} = Client.read_all(exchange)
        assert byte_size(body) == 30_000_000
        flush()
      end
    end

    test "is written as far as the peer reads" do
      test = self()

      server =
        serve(fn peer, _ ->
          send(test, {:server, self()})
          receive do: (:go -> :ok)
          hear(peer, 30_000_000)
          answer(peer, "thanks")
        end)

      writer =
        Task.async(fn ->
          {:ok, exchange} =
            Client.start(
              %{
                url: server.url,
                method: "PUT",
                body: :open,
                headers: [{"content-length", "30000000"}]
              },
              server.opts
            )

          piece = :binary.copy("x", 100_000)

          exchange =
            Enum.reduce(1..300, exchange, fn n, exchange ->
              {:ok, exchange} = Client.write(exchange, piece)
              send(test, {:sent, n})
              exchange
            end)

          {:ok, exchange} = Client.finish(exchange)
          {:ok, response, exchange} = Client.head(exchange)
          {response.status, Client.read_all(exchange)}
        end)

      assert_receive {:server, handler}
      assert_receive {:sent, 1}
      assert settled(fn -> length(mailbox()) end) < 250
      send(handler, :go)
      assert await(writer) == {200, {:ok, "thanks", []}}
    end

    test "may be answered before it has ended" do
      server =
        serve(fn peer, _ ->
          say(peer, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
          "3\r\none\r\n" = hear(peer, 8)
          say(peer, "3\r\nONE\r\n")
          "3\r\ntwo\r\n" = hear(peer, 8)
          say(peer, "3\r\nTWO\r\n")
          "0\r\nsum: 2\r\n\r\n" = hear(peer, 13)
          say(peer, "0\r\n\r\n")
        end)

      {:ok, exchange} = Client.start(%{url: server.url, method: "POST", body: :open}, server.opts)
      {:ok, %{status: 200}, exchange} = Client.head(exchange)
      {:ok, exchange} = Client.write(exchange, "one")
      {:ok, "ONE", exchange} = Client.read(exchange)
      {:ok, exchange} = Client.write(exchange, "two")
      {:ok, "TWO", exchange} = Client.read(exchange)
      {:ok, exchange} = Client.finish(exchange, [{"sum", "2"}])
      assert Client.read(exchange) == {:done, []}
    end

    test "is over once it is closed" do
      test = self()
      server = serve(fn peer, _ -> answer(peer, "hello") && send(test, until_closed(peer)) end)
      {:ok, _response, exchange} = Client.open(%{url: server.url}, server.opts)
      assert Client.close(exchange) == :ok
      assert_receive :closed
      assert Client.close(exchange) == :ok
      assert {:error, %HTTPError{}} = Client.write(%{exchange | out: :chunked}, "more")
    end

    test "ends with its process" do
      test = self()

      for serve <- [&serve/1, &serve_tls/1] do
        server =
          serve.(fn peer, _ ->
            say(peer, "HTTP/1.1 200 OK\r\n\r\n") && send(test, until_closed(peer))
          end)

        {pid, _} = spawn_monitor(fn -> Client.request(%{url: server.url}, server.opts) end)
        assert_receive {:request, _}
        Process.exit(pid, :kill)
        assert_receive :closed
      end
    end
  end

  describe "an option" do
    test "that is wrong is told with the known ones" do
      assert_raise ArgumentError,
                   ~r/unknown HTTP option :max_bodies \(did you mean :max_body\?\)/,
                   fn ->
                     Client.request(%{url: "https://example.com"}, max_bodies: 1)
                   end

      assert_raise ArgumentError,
                   ~r/unknown key :uri of a request; known are: :method, :url/,
                   fn ->
                     Client.request(%{uri: "https://example.com"})
                   end

      assert_raise ArgumentError, ~r/unknown TLS option :verify/, fn ->
        Client.request(%{url: "https://example.com"}, tls: [verify: :verify_none])
      end

      assert_raise ArgumentError, ~r/the rule "example" cannot be taken/, fn ->
        Client.request(%{url: "https://example.com"}, network: ["example"])
      end

      assert_raise ArgumentError, ~r/begun by start/, fn ->
        Client.open(%{url: "https://example.com", body: :open})
      end
    end
  end
end
