defmodule Cybernetic.WASM.Security.HTTP.RequestsTest do
  # The URL, the method, the headers and the body of a request may all be a guest's. Whatever they are, one request goes out,
  # and it is the one that was meant; and what it carries in secret stands in no message.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Servers

  alias Cybernetic.WASM.HTTPError
  alias Cybernetic.WASM.HTTP.{Client, Request, Settings}

  @secret "hunter2-41c0"

  defp invalid!(request) do
    assert {:error, %HTTPError{reason: :invalid, blame: :caller} = error} =
             Client.request(Map.put_new(request, :url, "https://example.com/"),
               network: ["example.com:443"]
             )

    refute Exception.message(error) =~ @secret
    refute inspect(error) =~ @secret
    error
  end

  test "no header begins another one, or another request" do
    for value <- [
          "a\r\nx: y",
          "a\nx: y",
          "a\rb",
          "a\0b",
          "\r\n\r\nGET / HTTP/1.1",
          <<127>>,
          "a\r\n b"
        ],
        do: invalid!(%{headers: [{"x-own", value <> @secret}]})

    for name <- ["", "a b", "a:", "a\r\nb", "a\0", "a\n", "ä", ":path", "a\t", "(a)"],
        do: invalid!(%{headers: [{name, @secret}]})
  end

  test "headers are names and values" do
    for headers <- [
          %{"a" => "b"},
          [{"a", 1}],
          [{:a, "b"}],
          [["a", "b"]],
          ["a: b"],
          [{"a", "b"} | :tail],
          "a: b",
          [{"a", nil}]
        ],
        do: invalid!(%{headers: headers})
  end

  test "what frames a message is the client's own" do
    for name <-
          ~w(Host HOST connection Transfer-Encoding TE trailer Upgrade Keep-Alive proxy-connection expect http2-settings),
        do: invalid!(%{headers: [{name, @secret}]})

    for length <- ["5", "-1", "x", "", "4 4", "+4", "4, 4"],
        do: invalid!(%{method: "POST", body: "four", headers: [{"content-length", length}]})

    invalid!(%{
      method: "POST",
      body: "four",
      headers: [{"content-length", "4"}, {"content-length", "4"}]
    })
  end

  test "headers are as many and as long as those of an answer" do
    invalid!(%{headers: List.duplicate({"a", @secret}, 101)})
    invalid!(%{headers: [{"a", String.duplicate(@secret, 10_000)}]})
  end

  test "no method, URL or body is another line, or none" do
    for method <- [
          "",
          "GET /x HTTP/1.1\r\nx: y",
          "GE T",
          "GET\n",
          "CONNECT",
          "connect",
          1,
          "ä",
          String.duplicate("x", 101)
        ],
        do: invalid!(%{method: method})

    for url <- [
          "https://example.com/\r\nx: y",
          "https://example.com/ HTTP/1.1",
          "https://example.com\0/",
          "https://u:#{@secret}@example.com/",
          nil,
          %{}
        ],
        do: invalid!(%{url: url})

    for body <- [1, {:file, "/etc/passwd"}, [1_000], [:a], self()],
        do: invalid!(%{method: "POST", body: body})
  end

  test "trailers are fields" do
    server = serve(fn peer, _ -> until_closed(peer) end)

    for trailers <- [[{"a", "b\r\nc"}], [{"transfer-encoding", "x"}], [{1, 2}], :none] do
      {:ok, exchange} = Client.start(%{url: server.url, method: "POST", body: :open}, server.opts)
      assert {:error, %HTTPError{reason: :invalid}} = Client.finish(exchange, trailers)
    end

    for name <-
          ~w(Content-Length content-encoding Authorization proxy-authorization cookie Set-Cookie host
                   x-forwarded-host range cache-control transfer-encoding trailer) do
      {:ok, exchange} = Client.start(%{url: server.url, method: "POST", body: :open}, server.opts)
      trailers = [{"checksum", "1"}, {name, @secret}]
      assert {:error, %HTTPError{reason: :invalid} = error} = Client.finish(exchange, trailers)
      assert Exception.message(error) =~ String.downcase(name)
      refute Exception.message(error) =~ @secret
    end

    {:ok, exchange} = Client.start(%{url: server.url, method: "POST", body: "four"}, server.opts)
    assert {:error, %HTTPError{reason: :invalid}} = Client.finish(exchange, [{"a", "b"}])
  end

  test "a body does not end before its end, nor go on after it" do
    server = serve(fn peer, _ -> until_closed(peer) end)

    start = fn headers ->
      Client.start(%{url: server.url, method: "POST", body: :open, headers: headers}, server.opts)
    end

    {:ok, exchange} = start.([{"content-length", "4"}])
    {:ok, exchange} = Client.write(exchange, "fou")
    assert {:error, %HTTPError{reason: :invalid}} = Client.write(exchange, "rs")

    {:ok, exchange} = start.([{"content-length", "4"}])
    assert {:error, %HTTPError{reason: :invalid}} = Client.finish(exchange)

    {:ok, exchange} = start.([])
    # An empty chunk would be the last one.
    {:ok, exchange} = Client.write(exchange, ["", []])
    {:ok, exchange} = Client.finish(exchange)
    assert {:error, %HTTPError{reason: :invalid}} = Client.write(exchange, "more")
  end

  test "what a request carries stands nowhere" do
    url = "https://example.com/x?token=#{@secret}"
    request = %{url: url, method: "POST", headers: [{"authorization", @secret}], body: @secret}
    {:ok, checked} = Request.new(request, Settings.new!([]))
    refute inspect(checked) =~ @secret

    server =
      serve(fn peer, _ ->
        answer(peer, @secret, "302 Found", [
          {"location", "https://example.com/?#{@secret}"},
          {"set-cookie", @secret}
        ])
      end)

    url = server.url <> "?token=#{@secret}"

    {:ok, response, exchange} =
      Client.open(%{request | url: url}, server.opts ++ [redirect: false])

    refute inspect(response) =~ @secret
    refute inspect(exchange) =~ @secret
    refute inspect(exchange.settings) =~ @secret

    for opts <- [[network: []], [max_body: 1], []] do
      {:error, error} = Client.request(%{request | url: url}, Keyword.merge(server.opts, opts))
      refute Exception.message(error) =~ @secret
      refute inspect(error) =~ @secret
    end

    for request <- [%{headers: @secret, uri: @secret}, @secret, [headers: @secret, uri: 1]] do
      error = catch_error(Client.request(request))
      refute Exception.message(error) =~ @secret
    end
  end
end
