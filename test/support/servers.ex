defmodule Cybernetic.WASM.Servers do
  @moduledoc false
  # HTTP servers on the loopback interface that say whatever a test has them say. They know nothing of HTTP but where a request's
  # head ends, so that they can lie.

  alias Cybernetic.WASM.Servers.Certificates

  @never 600_000

  @doc """
  Serves connections, each by `handler` in a process of its own, until the test ends. A handler is given the connection and
  the request's head, and the connection is closed when it returns. With `tls: options`, those of `:ssl.listen/2`.

  Gives the port, the URL, and the options with which a client may go there.
  """
  def serve(handler, opts \\ []) do
    test = self()
    {:ok, listener} = listen(opts[:tls])
    {:ok, port} = port(listener)
    acceptor = spawn(fn -> receive(do: (:go -> accept(listener, handler, test))) end)
    :ok = give(listener, acceptor)
    send(acceptor, :go)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(acceptor, :kill) end)

    scheme = if opts[:tls], do: "https", else: "http"
    allowed = [network: ["127.0.0.1:#{port}"], allow_http: true, timeout: @never]
    %{port: port, url: "#{scheme}://127.0.0.1:#{port}/", opts: allowed ++ trusted(opts)}
  end

  @doc "Serves over TLS, with a certificate for these names."
  def serve_tls(handler, names \\ [{127, 0, 0, 1}], opts \\ []) do
    issued = Certificates.issue(names, opts)
    serve(handler, tls: issued.server, trusted: issued.trusted)
  end

  defp trusted(opts), do: if(opts[:trusted], do: [tls: [cacerts: opts[:trusted]]], else: [])

  defp listen(nil),
    do: with({:ok, socket} <- :gen_tcp.listen(0, options()), do: {:ok, {:gen_tcp, socket}})

  defp listen(tls) do
    {:ok, _} = Application.ensure_all_started(:ssl)

    with {:ok, socket} <- :ssl.listen(0, options() ++ [log_level: :none] ++ tls),
         do: {:ok, {:ssl, socket}}
  end

  defp options, do: [:binary, active: false, ip: {127, 0, 0, 1}, backlog: 100, reuseaddr: true]

  defp port({:gen_tcp, socket}), do: :inet.port(socket)

  defp port({:ssl, socket}),
    do: with({:ok, {_ip, port}} <- :ssl.sockname(socket), do: {:ok, port})

  defp give({:gen_tcp, socket}, pid), do: :gen_tcp.controlling_process(socket, pid)
  defp give({:handshake, socket}, pid), do: :ssl.controlling_process(socket, pid)
  # Nobody has to own a listener of TLS.
  defp give({:ssl, _listener}, _pid), do: :ok

  # The listener lives as long as this process.
  defp accept(listener, handler, test) do
    with {:ok, peer} <- accepted(listener) do
      server = spawn(fn -> receive(do: (:go -> served(peer, handler, test))) end)
      _ = give(peer, server)
      send(server, :go)
    end

    accept(listener, handler, test)
  end

  defp accepted({:gen_tcp, listener}),
    do: with({:ok, socket} <- :gen_tcp.accept(listener), do: {:ok, {:gen_tcp, socket}})

  defp accepted({:ssl, listener}),
    do: with({:ok, socket} <- :ssl.transport_accept(listener), do: {:ok, {:handshake, socket}})

  defp served({:handshake, socket}, handler, test) do
    case :ssl.handshake(socket, @never) do
      {:ok, socket} -> served({:ssl, socket}, handler, test)
      {:error, _} -> :ok
    end
  end

  defp served(peer, handler, test) do
    with {:ok, head} <- head(peer, "") do
      send(test, {:request, head})
      handler.(peer, head)
    end

    hang_up(peer)
  end

  defp head(peer, text) do
    case :binary.split(text, "\r\n\r\n") do
      [head, rest] ->
        Process.put(:heard, rest)
        {:ok, head}

      [_part] ->
        with {:ok, more} <- recv(peer, 0), do: head(peer, text <> more)
    end
  end

  @doc "Sends bytes. Whether somebody hears them is not the server's affair."
  def say({transport, socket}, bytes), do: transport.send(socket, bytes)

  @doc "Sends an answer with a body and its length."
  def answer(peer, body, status \\ "200 OK", headers \\ []) do
    lines = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]

    say(peer, [
      "HTTP/1.1 #{status}\r\n",
      lines,
      "content-length: #{IO.iodata_length(body)}\r\n\r\n",
      body
    ])
  end

  @doc "Reads so many bytes of the request's body."
  def hear(peer, size) do
    heard = Process.put(:heard, "") || ""

    if byte_size(heard) >= size do
      <<bytes::binary-size(size), rest::binary>> = heard
      Process.put(:heard, rest)
      bytes
    else
      {:ok, more} = recv(peer, 0)
      Process.put(:heard, heard <> more)
      hear(peer, size)
    end
  end

  @doc "Waits until the client has closed the connection."
  def until_closed(peer) do
    case recv(peer, 0) do
      {:ok, _bytes} -> until_closed(peer)
      {:error, _} -> :closed
    end
  end

  @doc "Says something again and again, until nobody is there any more. Gives how often it was said."
  def for_ever(peer, bytes, times \\ 0) do
    case say(peer, bytes) do
      :ok -> for_ever(peer, bytes, times + 1)
      {:error, _} -> times
    end
  end

  @doc "Closes the connection."
  def hang_up({transport, socket}), do: transport.close(socket)

  @doc "Closes it with a reset."
  def reset({:gen_tcp, socket}) do
    :ok = :inet.setopts(socket, linger: {true, 0})
    :gen_tcp.close(socket)
  end

  @doc "What stands in a head's first line."
  def path(head), do: head |> String.split(" ", parts: 3) |> Enum.at(1)

  @doc "The values of a header in a head."
  def header(head, name) do
    [_line | lines] = String.split(head, "\r\n")

    for line <- lines,
        [^name, value] <- [String.split(line, ": ", parts: 2)],
        do: value
  end

  defp recv({transport, socket}, size), do: transport.recv(socket, size)
end
