defmodule Cybernetic.WASM.Security.HTTP.HandlersTest do
  # A component that answers requests may do whatever it likes with them, and asks other servers in its host's name. Each way has an
  # end that the host sets, and leaves nothing behind.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Servers}

  alias Cybernetic.WASM.{HTTP, HTTPError, Instance, LimitError, Runtime, Sandbox, TrapError}

  # A busy machine may take long; no test is decided by that.
  @patience 600_000

  defp site, do: Runtime.load_module!("test/fixtures/components/wasi/site.wasm")

  defp handle(path, opts \\ []),
    do: HTTP.handle(site(), %{path: path}, [timeout: @patience] ++ opts)

  defp ask(path, url, grants, opts \\ []) do
    sandbox = Sandbox.new([timeout: @patience] ++ grants)
    request = %{path: path, headers: [{"x-url", url}], body: opts[:body]}
    HTTP.handle(site(), request, sandbox: sandbox, stream: true, tagged: true)
  end

  # Of an answer that came to its end: what it was, and what the component was refused.
  defp gathered({:ok, response}) do
    {body, [{:done, run}]} = Enum.split_while(response.body, &(not match?({:done, _}, &1)))
    {response.status, for({:data, bytes} <- body, into: "", do: bytes), run.denials}
  end

  describe "an answer" do
    test "that never comes ends with the limits" do
      assert {:error, %LimitError{limit: :fuel}} = handle("/hang", fuel: 10_000_000)

      assert {:error, %LimitError{limit: :timeout}} =
               handle("/hang", timeout: 50, fuel: 1_000_000_000_000)
    end

    test "that is none is an error of the component's" do
      assert {:error, %HTTPError{reason: :no_answer, blame: :guest} = error} = handle("/mute")
      assert Exception.message(error) == "no answer: the component returned without one"
      assert error.usage.fuel > 0

      assert {:error, %HTTPError{reason: :refused, detail: "not today"}} = handle("/refuse")
      assert {:error, %TrapError{code: :unreachable}} = handle("/trap")
    end

    test "whose body has no end that it says is an error" do
      for path <- ["/unfinished", "/leak", "/short"] do
        assert {path, {:error, %HTTPError{reason: :unfinished}}} = {path, handle(path)}
        assert {:ok, response} = handle(path, stream: true)
        assert_raise HTTPError, fn -> Stream.run(response.body) end
      end
    end

    test "that traps in the middle is none" do
      assert {:error, %TrapError{code: :unreachable}} = handle("/trap-later")

      case handle("/trap-later", stream: true) do
        {:error, %TrapError{}} -> :ok
        {:ok, response} -> assert_raise TrapError, fn -> Stream.run(response.body) end
      end
    end

    test "without end is taken as far as the call may put out" do
      assert {:error, %LimitError{limit: :output, allowed: 100_000}} =
               handle("/endless", max_output: 100_000)

      {:ok, response} = handle("/endless", max_output: 100_000, stream: true)
      assert_raise LimitError, fn -> Stream.run(response.body) end
    end

    test "with headers of ten megabytes is none" do
      assert {:error, %TrapError{} = error} = handle("/huge-header")
      assert Exception.message(error) =~ "fields"
      assert {:error, %TrapError{}} = handle("/many-headers")
    end

    test "cannot say how it is framed, nor begin another one" do
      assert {:ok, %{body: "[true, true, true] true"}} = handle("/forbidden-header")
    end

    test "of a component that keeps messages takes no memory of the host's" do
      assert {:error, %TrapError{} = error} = handle("/hoard")
      assert Exception.message(error) =~ "256"
    end
  end

  describe "a request" do
    test "with headers of ten megabytes is refused before the component sees it" do
      huge = [{"x-huge", String.duplicate("x", 10_000_000)}]
      many = for number <- 1..1_000, do: {"x-#{number}", "y"}

      for headers <- [huge, many] do
        assert {:error, %HTTPError{reason: :invalid}} = HTTP.handle(site(), %{headers: headers})
      end
    end

    test "whose body never ends is read as far as the limits go" do
      body = Stream.cycle([String.duplicate("x", 4_096)])
      opts = [timeout: @patience, max_output: 100_000]

      assert {:error, %LimitError{limit: :output}} =
               HTTP.handle(site(), %{path: "/echo", body: body}, opts)
    end
  end

  describe "a stream" do
    test "that is cut off in the middle leaves an instance that says so" do
      {:ok, instance} = Instance.new(site(), timeout: @patience)
      {:ok, response} = HTTP.handle(instance, %{path: "/endless"}, stream: true)
      assert {:error, %{reason: :busy}} = HTTP.handle(instance, %{path: "/"})
      assert response.body |> Enum.take(2) |> length() == 2
      assert {:error, %{reason: :poisoned}} = HTTP.handle(instance, %{path: "/"})
      :ok = Instance.reset(instance)
      assert {:ok, %{status: 200}} = HTTP.handle(instance, %{path: "/"})
    end

    test "whose reader is killed in the middle leaves nobody there" do
      {:ok, instance} = Instance.new(site(), timeout: @patience)
      test = self()

      reader =
        spawn(fn ->
          {:ok, response} = HTTP.handle(instance, %{path: "/endless"}, stream: true)
          [_] = Enum.take(Stream.each(response.body, fn _ -> send(test, :reading) end), 1)

          {:ok, response} =
            HTTP.handle(site(), %{path: "/endless"}, stream: true, timeout: @patience)

          for _ <- response.body, do: send(test, :reading)
        end)

      for _ <- 1..10, do: assert_receive(:reading, @patience)
      Process.exit(reader, :kill)
      eventually(fn -> not Process.alive?(reader) end)
      assert {:error, %{reason: :poisoned}} = HTTP.handle(instance, %{path: "/"})
    end

    test "that a server sends is closed with the component that reads it" do
      test = self()

      server =
        serve(fn peer, _ ->
          say(peer, "HTTP/1.1 200 OK\r\n\r\n")
          for_ever(peer, String.duplicate("x", 4_096))
          send(test, :gone)
        end)

      grants = [network: ["127.0.0.1:#{server.port}"]]
      {:ok, response} = ask("/fetch", server.url, grants)
      assert [{:data, _}] = Enum.take(response.body, 1)
      assert_receive :gone, @patience
    end

    test "the same when the process is killed that drives it" do
      test = self()

      server =
        serve(fn peer, _ ->
          send(test, :asked)
          until_closed(peer)
          send(test, :gone)
        end)

      grants = [network: ["127.0.0.1:#{server.port}"]]
      driver = spawn(fn -> ask("/fetch", server.url, grants) end)
      assert_receive :asked, @patience
      Process.exit(driver, :kill)
      assert_receive :gone, @patience
    end
  end

  describe "requests of its own" do
    test "go nowhere where nothing is granted" do
      assert {502, "ErrorCode::HttpRequestDenied", [denial]} =
               gathered(ask("/fetch", "https://example.com/a?token=secret", []))

      assert %{capability: :network, operation: "wasi:http/outgoing-handler#handle"} = denial
      assert denial.detail == "https://example.com/a"
    end

    test "go to no host that is not granted, whatever it is called" do
      grants = [network: ["203.0.113.7:443"]]

      for url <- [
            "https://example.org/",
            "https://203.0.113.7:444/",
            "http://203.0.113.7/",
            "https://203.0.113.7.example.org/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:203.0.113.8]/",
            "https://2130706433/",
            "https://0/"
          ] do
        assert {502, said, _denials} = gathered(ask("/fetch", url, grants))

        assert {url, said} in [
                 {url, "ErrorCode::HttpRequestDenied"},
                 {url, "ErrorCode::HttpProtocolError"}
               ]
      end
    end

    test "go to no private address behind a public name" do
      server = serve(fn peer, _ -> answer(peer, "inside") end)
      grants = [network: ["localhost:#{server.port}"]]
      url = "http://localhost:#{server.port}/"

      assert {502, "ErrorCode::HttpRequestDenied", [%{errno: errno}]} =
               gathered(ask("/fetch", url, grants))

      assert errno == :http_request_denied
      refute_received {:request, _}
    end

    test "are no more at once than a few" do
      server = serve(fn peer, _ -> until_closed(peer) end)
      grants = [network: ["127.0.0.1:#{server.port}"]]

      assert {200, "16 ErrorCode::ConnectionLimitReached", []} =
               gathered(ask("/flood", server.url, grants))
    end

    test "that nobody answers end with the call" do
      server = serve(fn peer, _ -> until_closed(peer) end)
      sandbox = Sandbox.new(network: ["127.0.0.1:#{server.port}"], timeout: 300)
      request = %{path: "/fetch", headers: [{"x-url", server.url}]}

      assert {:error, %LimitError{limit: :timeout}} =
               HTTP.handle(site(), request, sandbox: sandbox)
    end

    test "whose answers never end are read as far as the client goes" do
      server =
        serve(fn peer, _ ->
          say(peer, "HTTP/1.1 200 OK\r\n\r\n")
          for_ever(peer, String.duplicate("x", 65_536))
        end)

      grants = [network: ["127.0.0.1:#{server.port}"], max_output: 100_000_000]
      assert {200, body, []} = gathered(ask("/fetch", server.url, grants))
      assert byte_size(body) < 11_000_000
      assert body =~ "failed: Some(ErrorCode::HttpResponseBodySize"
    end

    test "with heads of ten megabytes have no answer" do
      server =
        serve(fn peer, _ ->
          say(peer, "HTTP/1.1 200 OK\r\n") &&
            for_ever(peer, "x: #{String.duplicate("y", 1_000)}\r\n")
        end)

      grants = [network: ["127.0.0.1:#{server.port}"]]

      assert {502, "ErrorCode::HttpProtocolError", []} =
               gathered(ask("/fetch", server.url, grants))
    end

    test "with bodies that never end count as output" do
      server =
        serve(fn peer, _ ->
          until_closed(peer)
        end)

      sandbox =
        Sandbox.new(
          network: ["127.0.0.1:#{server.port}"],
          timeout: @patience,
          max_output: 1_000_000
        )

      request = %{path: "/pour", headers: [{"x-url", server.url}]}

      assert {:error, %LimitError{limit: :output}} =
               HTTP.handle(site(), request, sandbox: sandbox)
    end

    test "of a URL that is no URL are refused" do
      for url <- ["https:///x", "https://a b/", "https://a/\r\nx: y"] do
        case ask("/fetch", url, network: ["example.com:443"]) do
          {:ok, _} = answered -> assert {502, _, _} = gathered(answered)
          # The guest gives up where it cannot even put it together.
          {:error, %TrapError{}} -> :ok
          {:error, %HTTPError{reason: :invalid}} -> :ok
        end
      end
    end
  end
end
