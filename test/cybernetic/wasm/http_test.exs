defmodule Cybernetic.WASM.HTTPTest do
  use ExUnit.Case, async: true
  doctest Cybernetic.WASM.HTTP

  import Cybernetic.WASM.Servers

  alias Cybernetic.WASM.{Executor, HTTP, HTTPError, Instance, Run, Runtime, Sandbox}

  @site "test/fixtures/components/wasi/site.wasm"
  # A busy machine may take long; no test is decided by that.
  @patience [timeout: 600_000]

  defp site, do: Runtime.load_module!(@site)

  defp handle(request, opts \\ []), do: HTTP.handle(site(), request, opts ++ @patience)

  defp handle!(request, opts \\ []) do
    {:ok, response} = handle(request, opts)
    response
  end

  # Tells the test of each piece that is pulled.
  defp told(pieces) do
    test = self()

    Stream.map(pieces, fn piece ->
      send(test, {:pulled, piece})
      piece
    end)
  end

  describe "a request" do
    test "arrives as it was given" do
      request = %{
        method: :put,
        scheme: :https,
        authority: "shop.example:8443",
        path: "/request?a=1&b=2",
        headers: [{"X-One", "1"}, {"x-two", "2"}, {"x-one", "3"}]
      }

      body = handle!(request).body

      assert body =~
               ~s|Put (Some(Scheme::Https), Some("shop.example:8443"), Some("/request?a=1&b=2"))|

      assert body =~ "x-one=1"
      assert body =~ "x-one=3"
      assert body =~ "x-two=2"
    end

    test "names its server by its header, and not those that belong to a connection" do
      headers = [
        {"Host", "a.example"},
        {"Connection", "keep-alive"},
        {"transfer-encoding", "chunked"}
      ]

      body = handle!(%{path: "/request", headers: headers}).body
      assert body =~ ~s|Some("a.example")|
      refute body =~ ~r/keep-alive|chunked|host=/
    end

    test "of another method" do
      assert handle!(%{method: "PURGE", path: "/request"}).body =~ "PURGE"
    end

    test "that is none is an error, and an unknown key is refused" do
      for {wrong, detail} <- [
            {%{path: "no-slash"}, "slash"},
            {%{path: "/a b"}, "URL"},
            {%{method: "a b"}, "method"},
            {%{authority: "a@b"}, "user"},
            {%{headers: [{"x", "a\r\nb: c"}]}, "line break"},
            {%{headers: [{"x y", "z"}]}, "name"},
            {%{headers: :none}, "headers"},
            {%{headers: [{"content-length", "7"}], body: "seven"}, "content-length"},
            {%{body: 7}, "body"},
            {%{body: "a", trailers: [{"content-length", "1"}]}, "trailer"}
          ] do
        assert {:error, %HTTPError{reason: :invalid, blame: :caller, detail: said}} =
                 handle(wrong)

        assert said =~ detail
      end

      assert_raise ArgumentError, ~r/unknown key :url of a request; known are/, fn ->
        handle(%{url: "http://example.com/"})
      end

      assert_raise ArgumentError, ~r/stream: true/, fn -> handle(%{}, tagged: true) end
    end
  end

  describe "an answer" do
    test "has a status, headers and a body" do
      assert %{status: 418, body: "teapot", trailers: []} = handle!(%{path: "/status"})
    end

    test "of any length" do
      assert byte_size(handle!(%{path: "/large"}, max_output: 20_000_000).body) == 2_560 * 4_096
    end

    test "has trailers" do
      assert %{body: "a body", trailers: [{"checksum", "1f"}]} =
               handle!(%{path: "/with-trailers"})
    end

    test "has the length that it says" do
      assert %{headers: [{"content-length", "8192"}], body: body} = handle!(%{path: "/length"})
      assert byte_size(body) == 8_192
    end

    test "may leave the request's body where it is" do
      assert handle!(%{path: "/ignore", body: told(["never"])}).body == "ignored"
      refute_received {:pulled, _}
    end

    test "may end long before the component does" do
      assert handle!(%{path: "/late"}).body == "early"
    end

    test "may be waited for" do
      sandbox = Sandbox.new([clocks: :real] ++ @patience)
      assert {:ok, %{body: "waited"}} = HTTP.handle(site(), %{path: "/wait"}, sandbox: sandbox)
    end
  end

  describe "bodies" do
    test "go through, whatever they are given as" do
      for body <- ["text", ["te", ?x, [["t"]]], Stream.map(["te", "xt"], & &1), ["text"], nil, ""] do
        expected = if body in [nil, ""], do: "", else: "text"
        assert handle!(%{method: :post, path: "/echo", body: body}).body == expected
      end
    end

    test "have trailers both ways" do
      for body <- ["text", Stream.map(["te", "xt"], & &1)] do
        request = %{path: "/echo", body: body, trailers: [{"X-Sum", "7"}]}
        assert %{body: "text", trailers: [{"x-sum", "7"}]} = handle!(request)
      end

      assert handle!(%{path: "/trailers", trailers: [{"a", "b"}]}).body =~ ~s|"a"|
      assert handle!(%{path: "/trailers"}).body == "None"
    end

    test "with many empty pieces are no body that ends" do
      body = Stream.concat(List.duplicate("", 100), ["text"])
      assert handle!(%{path: "/echo", body: body}).body == "text"
    end

    test "are pulled no further than they are read" do
      assert handle!(%{path: "/first", body: told(Stream.cycle(["piece"]))}).body == "piece"
      assert_received {:pulled, "piece"}
      refute_received {:pulled, _}
    end

    test "are handed over while they are made, and made while they are read" do
      response = handle!(%{path: "/echo", body: told(["one", "two", "three"])}, stream: true)
      assert response.status == 200
      refute_received {:pulled, _}

      for {piece, said} <- Enum.zip(["one", "two", "three"], response.body) |> Enum.take(2) do
        assert said == piece
      end
    end

    test "that never end are read as far as anybody wants" do
      response = handle!(%{path: "/endless"}, stream: true)
      assert response.body |> Stream.map(&byte_size/1) |> Enum.take(3) == [4_096, 4_096, 4_096]
    end

    test "that raise end the call with what they raised" do
      body =
        Stream.map(["a", "b"], fn
          "b" -> raise("broken")
          "a" -> "a"
        end)

      assert {:error, %{kind: :error, reason: %RuntimeError{message: "broken"}}} =
               handle(%{path: "/echo", body: body})

      assert {:error, %{reason: %ArgumentError{}}} =
               handle(%{path: "/echo", body: Stream.map([:no], & &1)})
    end

    test "that are given up are closed" do
      test = self()
      body = Stream.resource(fn -> 1 end, &{["piece"], &1}, fn _ -> send(test, :closed) end)
      response = handle!(%{path: "/echo", body: body}, stream: true)
      assert Enum.take(response.body, 1) == ["piece"]
      assert_received :closed
    end

    test "come with what the call used, where that is asked for" do
      response = handle!(%{path: "/with-trailers"}, stream: true, tagged: true)

      assert [{:data, "a body"}, {:trailers, [{"checksum", "1f"}]}, {:done, %Run{usage: usage}}] =
               Enum.to_list(response.body)

      assert usage.fuel > 0
    end
  end

  describe "an instance" do
    test "is a fresh one for each request of a component" do
      for _ <- 1..3, do: assert(handle!(%{path: "/count"}).body == "1")
    end

    test "that lives goes on, also after a request that it has not answered" do
      {:ok, instance} = Instance.new(site(), @patience)
      assert {:ok, %{body: "1"}} = HTTP.handle(instance, %{path: "/count"})
      assert {:error, %HTTPError{reason: :no_answer}} = HTTP.handle(instance, %{path: "/mute"})
      assert {:error, %HTTPError{reason: :refused}} = HTTP.handle(instance, %{path: "/refuse"})
      assert {:ok, %{body: "2"}} = HTTP.handle(instance, %{path: "/count"})
    end

    test "may be of a component under a name" do
      name = "test/site-#{System.unique_integer([:positive])}"
      {:ok, _} = Runtime.load_module(@site, name: name)
      assert {:ok, %{body: "Hello, world!"}} = HTTP.handle(name, %{path: "/"})
    end
  end

  test "a component that answers no requests says so" do
    {:ok, greeter} = Runtime.load_module("priv/wasm/greeter.wasm")
    assert {:error, error} = HTTP.handle(greeter, %{})
    assert Exception.message(error) =~ "wasi:http/incoming-handler#handle"
  end

  test "its handler is called in no other way" do
    handler = "wasi:http/incoming-handler#handle"
    assert {:error, error} = Executor.call(site(), handler, [1, 2], @patience)
    assert Exception.message(error) =~ "expected wasi:http/types@0.2.12#incoming-request, got 1"
  end

  describe "requests of its own" do
    defp asking(server), do: [network: ["127.0.0.1:#{server.port}"]] ++ @patience

    test "go where the sandbox lets them, with the answer piece by piece" do
      server =
        serve(fn peer, head ->
          assert head =~ "x-from: site"

          say(
            peer,
            "HTTP/1.1 203 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nsum: 7\r\n\r\n"
          )
        end)

      request = %{path: "/fetch", headers: [{"x-url", server.url <> "a?b=c"}]}
      assert {:ok, response} = HTTP.handle(site(), request, sandbox: Sandbox.new(asking(server)))

      assert %{headers: [{"x-status", "203"}], body: "onetwo", trailers: [{"sum", "7"}]} =
               response
    end

    test "have bodies that come from elsewhere" do
      server =
        serve(fn peer, head ->
          assert head =~ "POST"
          assert hear(peer, 21) == "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
          answer(peer, "good")
        end)

      request = %{
        path: "/forward",
        headers: [{"x-url", server.url}],
        body: Stream.map(["one", "two"], & &1)
      }

      assert {:ok, %{body: "good"}} =
               HTTP.handle(site(), request, sandbox: Sandbox.new(asking(server)))
    end

    test "may be several at once" do
      server = serve(fn peer, _ -> say(peer, "HTTP/1.1 204 No\r\n\r\n") end)
      request = %{path: "/race", headers: [{"x-url", server.url}]}

      assert {:ok, %{body: body}} =
               HTTP.handle(site(), request, sandbox: Sandbox.new(asking(server)))

      assert body == "true [Ok(204), Ok(204)]"
    end

    test "have times of their own to wait for an answer" do
      server = serve(fn peer, _ -> until_closed(peer) end)
      request = %{path: "/impatient", headers: [{"x-url", server.url}]}

      assert {:ok, %{body: body}} =
               HTTP.handle(site(), request, sandbox: Sandbox.new(asking(server)))

      assert body == "Err(ErrorCode::HttpResponseTimeout)"
    end

    test "follow no redirection" do
      server =
        serve(fn peer, _ ->
          say(peer, "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")
        end)

      request = %{path: "/fetch", headers: [{"x-url", server.url}]}
      assert {:ok, response} = HTTP.handle(site(), request, sandbox: Sandbox.new(asking(server)))
      assert response.headers == [{"x-status", "302"}]
    end
  end
end
