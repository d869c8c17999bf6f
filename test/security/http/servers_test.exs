defmodule Cybernetic.WASM.Security.HTTP.ServersTest do
  # A server that a guest has chosen may say anything, for ever, or nothing. Each of them has an end that the client sets, and
  # leaves nothing behind.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Servers}

  alias Cybernetic.WASM.HTTPError
  alias Cybernetic.WASM.HTTP.Client

  # The kinds of connection, since TLS has a process and buffers of its own.
  @kinds [&Cybernetic.WASM.Servers.serve/1, &Cybernetic.WASM.Servers.serve_tls/1]

  defp get(server, opts \\ []),
    do:
      Client.request(%{url: server.url}, Keyword.merge(server.opts, [max_body: 100_000] ++ opts))

  # What a client is told by a server that answers so and closes the connection.
  defp said(text, opts \\ []), do: get(serve(fn peer, _ -> say(peer, text) end), opts)

  # A client that is told so, and then the same again and again.
  defp endless(first, again, opts \\ [max_header_bytes: 4_000]) do
    again = again |> List.duplicate(div(1_000, byte_size(again)) + 1) |> IO.iodata_to_binary()

    for serve <- @kinds do
      server = serve.(fn peer, _ -> say(peer, first) && for_ever(peer, again) end)
      assert {:error, error} = get(server, opts)
      {error.reason, error.detail}
    end
  end

  @ok "HTTP/1.1 200 OK\r\n"
  @chunked @ok <> "transfer-encoding: chunked\r\n\r\n"

  test "a body that never ends is read as far as is allowed" do
    piece = String.duplicate("x", 5_000)
    too_large = [{:too_large, nil}, {:too_large, nil}]
    assert endless(@ok <> "\r\n", piece) == too_large
    assert endless(@chunked, "1388\r\n#{piece}\r\n") == too_large
    assert endless(@chunked, "1\r\nx\r\n") == too_large
  end

  test "a body that says that it is too large is not read at all" do
    for length <- [100_001, 999_999_999_999_999] do
      assert {:error, %HTTPError{reason: :too_large, size: ^length, allowed: 100_000}} =
               said(@ok <> "content-length: #{length}\r\n\r\n")
    end

    assert {:ok, %{body: body}} =
             said(@ok <> "content-length: 100000\r\n\r\n" <> String.duplicate("x", 100_000))

    assert byte_size(body) == 100_000
  end

  test "a chunk that says that it is too large is read as far as is allowed" do
    assert {:error, %HTTPError{reason: :too_large}} =
             said(@chunked <> "fffffffffffff\r\n" <> String.duplicate("x", 200_000))
  end

  test "a body that is shorter than it says is no answer, and what is longer is cut" do
    length = @ok <> "content-length: 10\r\n\r\n"
    assert {:error, %HTTPError{reason: :truncated, blame: :node}} = said(length <> "12345")
    assert {:ok, %{body: "1234567890"}} = said(length <> "1234567890and more")
    assert {:error, %HTTPError{reason: :truncated}} = said(@chunked <> "a\r\n12345")
    assert {:error, %HTTPError{reason: :truncated}} = said(@chunked <> "5\r\n12345\r\n")
    assert {:error, %HTTPError{reason: :truncated}} = said(@chunked <> "5\r\n12345\r\n0\r\n")
    assert {:ok, %{body: "12345"}} = said(@chunked <> "5\r\n12345\r\n0\r\n\r\nand more")
  end

  test "a connection that ends before or in the head is no answer" do
    for text <- ["", "HTTP/1.1 20", @ok, @ok <> "content-length: 0\r\n"],
        do: assert({:error, %HTTPError{reason: :truncated}} = said(text))
  end

  test "a connection that is reset is no answer" do
    for text <- [
          "",
          @ok <> "content-length: 10\r\n\r\n12345",
          @chunked <> "5\r\n12345\r\n",
          @ok <> "\r\nsome"
        ] do
      server = serve(fn peer, _ -> say(peer, text) && reset(peer) end)
      assert {:error, %HTTPError{reason: :truncated}} = get(server)
    end
  end

  test "a head that never ends is read as far as is allowed" do
    assert [{:protocol, _}, {:protocol, _}] = endless(@ok, "a: 1\r\n")
    assert [{:protocol, why}, {:protocol, _}] = endless(@ok <> "a: ", "xxxxxxxxxx")
    assert why =~ "max_header_bytes"
    assert [{:protocol, _}, {:protocol, _}] = endless("HTTP/1.1 200 ", "O")
    assert [{:protocol, _}, {:protocol, _}] = endless("", "\r\n")
    assert [{:protocol, _}, {:protocol, _}] = endless("", <<0>>)
    headers = for n <- 1..101, do: "a: #{n}\r\n"

    assert {:error, %HTTPError{reason: :protocol, detail: "more than 100 headers"}} =
             said([@ok, headers, "\r\n"])
  end

  test "informational answers do not come for ever" do
    for early <- ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"],
        do: assert([{:protocol, _}, {:protocol, _}] = endless("", early))

    assert {:error, %HTTPError{reason: :protocol}} =
             said("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n")
  end

  test "extensions of chunks and trailers do not come for ever" do
    assert [{:protocol, _}, {:protocol, _}] = endless(@chunked <> "1", ";x=y")

    assert [{:protocol, _}, {:protocol, _}] =
             endless(@chunked, "1;#{String.duplicate("x", 1_000)}\r\n.\r\n")

    assert [{:protocol, _}, {:protocol, _}] = endless(@chunked <> "0\r\n", "a: 1\r\n")
    assert [{:protocol, _}, {:protocol, _}] = endless(@chunked <> "0\r\na: ", "1")
    assert [{:protocol, _}, {:protocol, _}] = endless(@chunked <> "0", "0")
  end

  test "a message that two readers could take differently is no answer" do
    for text <- [
          @ok <> "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
          @ok <> "content-length: 5\r\ncontent-length: 6\r\n\r\n123456",
          @ok <> "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
          @chunked <> "-1\r\n\r\n",
          @chunked <> "g\r\n\r\n",
          @chunked <> "2\r\n.\r\n0\r\n\r\n",
          "HTTP/1.1 200 OK\n\nbody",
          "HTTP/0.9 200 OK\r\n\r\n",
          "HTTP/2 200\r\n\r\n",
          "220 mail.example ESMTP\r\n"
        ],
        do: assert({^text, {:error, %HTTPError{reason: :protocol}}} = {text, said(text)})
  end

  test "one that says nothing, or a little again and again, has the time that it is given" do
    late = {:timeout, :receive}

    for serve <- @kinds, first <- ["", @ok, @ok <> "\r\n", @chunked <> "5\r\n"] do
      silent = serve.(fn peer, _ -> say(peer, first) && until_closed(peer) end)
      assert {:error, error} = get(silent, timeout: 300)
      # Over TLS it may be gone while the connection is made.
      assert {error.reason, error.during} in [late, {:timeout, :connect}]
    end

    drip = serve(fn peer, _ -> say(peer, @ok <> "\r\n") && drip(peer) end)
    assert {:error, %HTTPError{reason: :timeout, during: :receive}} = get(drip, timeout: 300)

    flood =
      serve(fn peer, _ ->
        say(peer, @ok <> "\r\n") && for_ever(peer, String.duplicate("x", 10_000))
      end)

    assert {:error, %HTTPError{reason: :timeout}} =
             get(flood, timeout: 300, max_body: 1_000_000_000_000)
  end

  defp drip(peer) do
    Process.sleep(1)
    if say(peer, "x") == :ok, do: drip(peer)
  end

  test "the time is for all redirections together" do
    server = serve(fn peer, _ -> answer(peer, "", "302 Found", [{"location", "/again"}]) end)

    assert {:error, %HTTPError{reason: :timeout}} =
             get(server, timeout: 300, max_redirects: 1_000_000_000)
  end

  # What is left to be sent is thrown away: OTP would wait for seconds until the peer has taken it.
  test "one that takes nothing of the body has the time that it is given, and no more to take the rest" do
    for serve <- @kinds do
      server = serve.(fn _peer, _ -> receive(do: (:never -> :ok)) end)
      body = String.duplicate("x", 20_000_000)
      request = %{url: server.url, method: "PUT", body: body}
      assert {:error, error} = Client.request(request, Keyword.merge(server.opts, timeout: 1_000))
      # On a busy machine the handshake over TLS may take all of it.
      assert {error.reason, error.during} in [{:timeout, :send}, {:timeout, :connect}]
    end
  end

  test "a body in small pieces takes as much memory as another one" do
    pieces = String.duplicate("1\r\nx\r\n", 1_000)

    server =
      serve(fn peer, _ ->
        say(peer, @chunked)
        for _ <- 1..200, do: say(peer, pieces)
        say(peer, "0\r\n\r\n")
      end)

    # Words. A list of the pieces alone would take more.
    limit = %{size: 1_000_000, kill: true, error_logger: false}

    {pid, monitor} =
      spawn_monitor(fn ->
        Process.flag(:max_heap_size, limit)
        {:ok, %{body: body}} = get(server, max_body: 200_000)
        exit({:got, byte_size(body)})
      end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, {:got, 200_000}}
  end

  test "nothing is left of them: no connection, no process, no message" do
    body = String.duplicate("x", 200_000)

    for serve <- @kinds do
      server =
        serve.(fn peer, _ ->
          send(self(), :served)
          say(peer, [@ok, "\r\n", body])
          until_closed(peer)
        end)

      task =
        Task.async(fn ->
          for _ <- 1..20, do: {:error, %HTTPError{reason: :too_large}} = get(server)
          eventually(fn -> match?({:links, [_test]}, Process.info(self(), :links)) end)
          {Process.info(self(), :message_queue_len), Process.info(self(), :monitors)}
        end)

      assert await(task) == {{:message_queue_len, 0}, {:monitors, []}}
    end
  end
end
