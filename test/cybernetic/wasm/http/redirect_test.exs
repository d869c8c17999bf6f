defmodule Cybernetic.WASM.HTTP.RedirectTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Servers

  alias Cybernetic.WASM.HTTPError
  alias Cybernetic.WASM.HTTP.Client

  # Sends on from "/" to where `location` says, and tells what was asked at "/there".
  defp redirecting(status, location) do
    serve(fn peer, head ->
      case path(head) do
        "/" -> answer(peer, "elsewhere", status, [{"location", location}])
        _there -> answer(peer, path(head))
      end

      # Who closes while a body is on its way resets the connection, and what was answered may be lost.
      until_closed(peer)
    end)
  end

  defp asked do
    receive do
      {:request, head} -> [head | asked()]
    after
      0 -> []
    end
  end

  defp request(server, request \\ %{}, opts \\ []),
    do: Client.request(Map.put_new(request, :url, server.url), Keyword.merge(server.opts, opts))

  test "is followed, to a URL or a part of one" do
    for status <- ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"],
        location <- ["/there?x=1", "there?x=1", "./a/../there?x=1#part"] do
      server = redirecting(status, location)
      assert {:ok, %{status: 200, body: "/there?x=1"} = response} = request(server)
      assert response.url == server.url <> "there?…"
    end
  end

  test "is an answer where nobody wants it followed, and where it names no place" do
    server = redirecting("302 Found", "/there")
    assert {:ok, %{status: 302, body: "elsewhere"}} = request(server, %{}, redirect: false)
    server = serve(fn peer, _ -> answer(peer, "where?", "302 Found") end)
    assert {:ok, %{status: 302, body: "where?"}} = request(server)

    server =
      serve(fn peer, _ ->
        answer(peer, "choose", "300 Multiple Choices", [{"location", "/there"}])
      end)

    assert {:ok, %{status: 300, body: "choose"}} = request(server)
  end

  test "keeps headers, method and body within one origin, but for a POST that becomes a GET" do
    headers = [{"authorization", "secret"}, {"content-type", "text/plain"}]

    for {status, method, next} <- [
          {"301 Moved", "POST", "GET"},
          {"302 Found", "POST", "GET"},
          {"303 See Other", "POST", "GET"},
          {"303 See Other", "PUT", "GET"},
          {"302 Found", "PUT", "PUT"},
          {"307 Temporary", "POST", "POST"},
          {"308 Permanent", "POST", "POST"}
        ] do
      server = redirecting(status, "/there")

      assert {:ok, %{body: "/there"}} =
               request(server, %{method: method, headers: headers, body: "1234"})

      assert [_first, second] = asked()
      assert String.starts_with?(second, next <> " /there ")
      assert header(second, "authorization") == ["secret"]
      with_body = if next == "GET", do: {[], []}, else: {["4"], ["text/plain"]}
      assert {header(second, "content-length"), header(second, "content-type")} == with_body
    end

    server = redirecting("303 See Other", "/there")
    assert {:ok, _} = request(server, %{method: "HEAD"})
    assert [_, "HEAD /there" <> _] = asked()
  end

  test "takes no header to another origin, and brings none back" do
    first = redirecting("307 Temporary", "/there")
    second = redirecting("307 Temporary", first.url <> "there")
    server = redirecting("307 Temporary", second.url)
    rules = for %{port: port} <- [first, second, server], do: "127.0.0.1:#{port}"

    secrets = [
      {"authorization", "secret"},
      {"cookie", "secret"},
      {"x-api-key", "secret"},
      {"accept", "secret"}
    ]

    assert {:ok, %{body: "/there"}} = request(server, %{headers: secrets}, network: rules)
    assert [one, two, three] = asked()
    assert one =~ "secret"
    refute two =~ "secret"
    refute three =~ "secret"
  end

  test "sends no body and no change to another origin" do
    for {method, body, word} <- [
          {"POST", "secret", "a POST is not repeated"},
          {"DELETE", nil, "a DELETE is not repeated"},
          {"GET", "secret", "a body is not sent"}
        ] do
      other = serve(fn peer, _ -> answer(peer, "") end)
      server = redirecting("307 Temporary", other.url)
      rules = for %{port: port} <- [other, server], do: "127.0.0.1:#{port}"
      assert {:error, error} = request(server, %{method: method, body: body}, network: rules)
      assert %HTTPError{reason: :redirect, status: 307, detail: detail, url: url} = error
      assert detail =~ word
      assert url == server.url
      assert [_only_one] = asked()
    end
  end

  test "does not repeat a body that was a stream" do
    server = redirecting("307 Temporary", "/there")
    request = %{method: "PUT", body: Stream.map(["x"], & &1)}
    assert {:error, %HTTPError{reason: :redirect, detail: detail}} = request(server, request)
    assert detail =~ "stream"
  end

  test "is followed so often and no more" do
    server = serve(fn peer, _ -> answer(peer, "", "302 Found", [{"location", "/again"}]) end)
    assert {:error, %HTTPError{reason: :redirect, detail: detail}} = request(server)
    assert detail =~ "too many"
    assert length(asked()) == 6
    assert {:error, %HTTPError{reason: :redirect}} = request(server, %{}, max_redirects: 0)
    assert length(asked()) == 1
  end

  test "is judged by the network rules anew" do
    other = serve(fn peer, _ -> answer(peer, "inside") end)

    for location <- [
          other.url,
          "http://localhost:#{other.port}/",
          "http://[::ffff:127.0.0.1]:#{other.port}/",
          "//169.254.169.254/latest",
          "http://10.0.0.1/"
        ] do
      server = redirecting("302 Found", location)
      assert {:error, %HTTPError{reason: :denied}} = request(server)
      assert [_only_one] = asked()
    end
  end

  test "goes to no other scheme, and to http: only where that is allowed" do
    for location <- [
          "file:///etc/passwd",
          "ftp://127.0.0.1/",
          "javascript:1",
          "http://",
          "http://user:pass@127.0.0.1/",
          "http://a b/",
          "http://127.0.0.1:0/"
        ] do
      server = redirecting("302 Found", location)
      assert {:error, %HTTPError{reason: :redirect}} = request(server)
    end

    plain = serve(fn peer, _ -> answer(peer, "plain") end)
    server = serve_tls(fn peer, _ -> answer(peer, "", "302 Found", [{"location", plain.url}]) end)
    rules = for %{port: port} <- [plain, server], do: "127.0.0.1:#{port}"

    assert {:error, %HTTPError{reason: :insecure}} =
             request(server, %{}, network: rules, allow_http: false)

    assert {:ok, %{body: "plain"}} = request(server, %{}, network: rules)
  end

  test "that names several places is not followed" do
    server =
      serve(fn peer, _ ->
        answer(peer, "", "302 Found", [{"location", "/a"}, {"location", "/b"}])
      end)

    assert {:error, %HTTPError{reason: :redirect}} = request(server)
  end
end
