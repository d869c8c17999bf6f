defmodule Cybernetic.WASM.HTTP.Socket do
  @moduledoc false
  # A connection, plain or TLS, on a passive socket of the calling process: nothing is read from it that nobody has asked
  # for, so what the peer sends waits at the peer.

  alias Cybernetic.WASM.{Deadline, HTTPError}
  alias Cybernetic.WASM.HTTP.{Settings, URL}

  @opaque t :: {:gen_tcp, :gen_tcp.socket()} | {:ssl, :ssl.sslsocket()}

  # What one `recv` gives at most. TLS reads up to a hundred of these ahead, in its own process.
  @buffer 65_536
  @tls_buffer 16_384

  @doc "Connects to the first address that answers."
  @spec connect(URL.t(), [:inet.ip_address(), ...], Settings.t()) ::
          {:ok, t} | {:error, HTTPError.t()}
  def connect(url, [address | rest], settings) do
    case connect_to(url, address, settings) do
      {:error, %HTTPError{reason: reason}}
      when rest != [] and reason in [:unreachable, :timeout] ->
        connect(url, rest, settings)

      outcome ->
        outcome
    end
  end

  defp connect_to(%URL{scheme: "http"} = url, address, settings) do
    case :gen_tcp.connect(address, url.port, tcp(address, @buffer), connect_time(settings)) do
      {:ok, socket} -> {:ok, {:gen_tcp, socket}}
      {:error, reason} -> not_connected(reason)
    end
  end

  defp connect_to(%URL{scheme: "https"} = url, address, settings) do
    {:ok, _} = Application.ensure_all_started(:ssl)

    with {:ok, trusted} <- trusted(settings.tls),
         opts = tcp(address, @tls_buffer) ++ trusted ++ tls(url),
         {:ok, socket} <- :ssl.connect(address, url.port, opts, connect_time(settings)) do
      {:ok, {:ssl, socket}}
    else
      {:error, %HTTPError{}} = error -> error
      {:error, reason} -> not_connected(reason)
    end
  end

  defp connect_time(settings), do: min(settings.connect_timeout, Deadline.left(settings.deadline))

  # Closing would wait for seconds until a peer has taken what is left to be sent: with this it is thrown away.
  defp tcp(address, buffer) do
    family = if tuple_size(address) == 8, do: :inet6, else: :inet

    [
      family,
      :binary,
      active: false,
      nodelay: true,
      linger: {true, 0},
      show_econnreset: true,
      buffer: buffer,
      send_timeout_close: true
    ]
  end

  # The name decides, not the address. No session is resumed: a resumed one brings no certificate to look at. Handshakes that
  # fail are errors of the caller's, and no lines in the node's log.
  defp tls(url) do
    match = :public_key.pkix_verify_hostname_match_fun(:https)

    [
      verify: :verify_peer,
      customize_hostname_check: [match_fun: match],
      versions: [:"tlsv1.3", :"tlsv1.2"],
      alpn_advertised_protocols: ["http/1.1"],
      reuse_sessions: false,
      log_level: :none
    ] ++ named(url)
  end

  # Without a name OTP compares the certificate with the address that it connects to.
  defp named(%URL{address: nil, host: host}), do: [server_name_indication: to_charlist(host)]
  defp named(_url), do: []

  defp trusted([]) do
    {:ok, cacerts: :public_key.cacerts_get()}
  rescue
    _ ->
      {:error,
       HTTPError.new(:tls,
         detail: "this system has no certificates to trust: give tls: [cacertfile: path]"
       )}
  end

  defp trusted(tls), do: {:ok, tls}

  defp not_connected(:timeout), do: {:error, HTTPError.new(:timeout, during: :connect)}

  defp not_connected({:tls_alert, {alert, said}}),
    do: {:error, HTTPError.new(:tls, detail: "#{alert}#{bad_certificate(to_string(said))}")}

  defp not_connected({:options, _wrong}),
    do: {:error, HTTPError.new(:tls, detail: "the options of :tls cannot be taken")}

  defp not_connected(reason) when is_atom(reason),
    do: {:error, HTTPError.new(:unreachable, detail: word(reason))}

  defp not_connected(_other), do: {:error, HTTPError.new(:tls, detail: "the handshake failed")}

  # OTP has what is wrong with a certificate in the text of the alert alone.
  defp bad_certificate(said) do
    case Regex.run(~r/bad_cert,\s*\{?([a-z_]+)/, said) do
      [_, why] -> ": #{why}"
      nil -> ""
    end
  end

  defp word(:closed), do: "closed"
  defp word(reason), do: reason |> :inet.format_error() |> to_string()

  @doc "Sends all of it, once the peer has taken most of what was sent before."
  @spec send(t, iodata, Deadline.t()) :: :ok | {:error, HTTPError.t()}
  def send(connection, data, deadline),
    do: data |> :erlang.iolist_to_iovec() |> send_pieces(connection, deadline)

  # OTP takes a piece of any size at once, and time is kept, and looked at, for each.
  defp send_pieces([], _connection, _deadline), do: :ok

  defp send_pieces(parts, connection, deadline) do
    {piece, rest} = piece(parts, @buffer, [])

    with :ok <- send_within(connection, piece, Deadline.left(deadline)),
         do: send_pieces(rest, connection, deadline)
  end

  defp piece([part | rest], most, piece) when byte_size(part) <= most,
    do: piece(rest, most - byte_size(part), [piece, part])

  defp piece([part | rest], most, piece) do
    <<beginning::binary-size(most), behind::binary>> = part
    {[piece, beginning], [behind | rest]}
  end

  defp piece([], _most, piece), do: {piece, []}

  defp send_within(_connection, _piece, 0), do: {:error, HTTPError.new(:timeout, during: :send)}

  defp send_within({transport, socket}, piece, left) do
    with :ok <- setopts(transport, socket, send_timeout: left),
         :ok <- transport.send(socket, piece) do
      :ok
    else
      {:error, :timeout} -> {:error, HTTPError.new(:timeout, during: :send)}
      {:error, {:timeout, _rest}} -> {:error, HTTPError.new(:timeout, during: :send)}
      {:error, _closed} -> {:error, HTTPError.new(:truncated)}
    end
  end

  defp setopts(:gen_tcp, socket, opts), do: :inet.setopts(socket, opts)
  defp setopts(:ssl, socket, opts), do: :ssl.setopts(socket, opts)

  @doc "What has come, or comes next. `:closed` is the peer's end of the connection."
  @spec recv(t, Deadline.t()) :: {:ok, binary} | :closed | {:error, HTTPError.t()}
  def recv(connection, deadline), do: recv_within(connection, Deadline.left(deadline))

  # Of a peer that never ends something is always there.
  defp recv_within(_connection, 0), do: {:error, HTTPError.new(:timeout, during: :receive)}

  defp recv_within({transport, socket}, left) do
    case transport.recv(socket, 0, left) do
      {:ok, bytes} -> {:ok, bytes}
      {:error, :timeout} -> {:error, HTTPError.new(:timeout, during: :receive)}
      {:error, :closed} -> :closed
      {:error, _reset} -> {:error, HTTPError.new(:truncated)}
    end
  end

  @doc "Closes it at once."
  @spec close(t) :: :ok
  def close({transport, socket}) do
    _ = transport.close(socket)
    :ok
  end
end
