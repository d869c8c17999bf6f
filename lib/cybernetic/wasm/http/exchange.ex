defmodule Cybernetic.WASM.HTTP.Exchange do
  @moduledoc false
  # One request and its answer on one connection: the body is written and read piece by piece, and whoever writes or reads
  # sets the pace. It is a value of the process that began it, and every function gives the next one. One that gives an
  # error, or the end, has closed the connection.

  alias Cybernetic.WASM.{Deadline, HTTPError}

  alias Cybernetic.WASM.HTTP.{
    Chunks,
    Fields,
    Head,
    Peers,
    Request,
    Response,
    Settings,
    Socket,
    URL
  }

  @derive {Inspect, only: [:method, :out, :received]}
  @enforce_keys [:socket, :url, :method, :out, :settings]
  defstruct [:socket, :url, :method, :out, :settings, in: {:head, 0}, buffer: "", received: 0]

  @typedoc """
  `out` is what may still be written, `in` what is still to come, `received` the bytes of the body that have.
  """
  @type t :: %__MODULE__{
          socket: Socket.t(),
          url: URL.t(),
          method: String.t(),
          out: {:length, non_neg_integer} | :chunked | :finished,
          in:
            {:head, seen :: non_neg_integer}
            | {:length, non_neg_integer}
            | Chunks.t()
            | :until_close
            | :none,
          settings: Settings.t(),
          buffer: binary,
          received: non_neg_integer
        }

  @typedoc "What a function gives that goes on."
  @type next :: {:ok, t} | {:error, HTTPError.t()}

  @doc "Connects and sends the head."
  @spec start(Request.t(), Settings.t()) :: next
  def start(request, settings) do
    url = request.url

    with :ok <- encrypted(url, settings),
         {:ok, addresses} <- Peers.addresses(url, settings.network, settings.deadline),
         {:ok, socket} <- Socket.connect(url, addresses, settings) do
      %__MODULE__{
        socket: socket,
        url: url,
        method: request.method,
        out: request.framing,
        settings: settings
      }
      |> put_out(Request.head(request))
    else
      {:error, error} -> {:error, %{error | url: URL.shown(url)}}
    end
  end

  defp encrypted(%URL{scheme: "http"}, %Settings{allow_http: false}),
    do: {:error, HTTPError.new(:insecure)}

  defp encrypted(_url, _settings), do: :ok

  # Writing

  @doc "Sends a piece of the body, once the peer has taken most of what was sent before."
  @spec write(t, iodata) :: next
  def write(exchange, data) do
    case {exchange.out, IO.iodata_length(data)} do
      {_out, 0} ->
        {:ok, exchange}

      {:chunked, size} ->
        put_out(exchange, [Integer.to_string(size, 16), "\r\n", data, "\r\n"])

      {{:length, left}, size} when size <= left ->
        put_out(%{exchange | out: {:length, left - size}}, data)

      {{:length, _}, _more} ->
        fail(exchange, :invalid, detail: "the body is longer than its content-length")

      {:finished, _} ->
        fail(exchange, :invalid, detail: "the body has been finished before")
    end
  end

  @doc "Ends the body, of which a chunked one may have trailers."
  @spec finish(t, Fields.t()) :: next
  def finish(exchange, trailers \\ [])
  def finish(%{out: {:length, 0}} = exchange, []), do: {:ok, %{exchange | out: :finished}}
  def finish(%{out: :finished} = exchange, []), do: {:ok, exchange}

  def finish(%{out: :chunked} = exchange, trailers) do
    case Fields.check_trailers(trailers, exchange.settings) do
      {:ok, trailers} ->
        put_out(%{exchange | out: :finished}, ["0\r\n", Fields.lines(trailers), "\r\n"])

      {:error, why} ->
        fail(exchange, :invalid, detail: why)
    end
  end

  def finish(%{out: {:length, 0}} = exchange, _trailers),
    do: fail(exchange, :invalid, detail: "a body with a content-length has no trailers")

  def finish(exchange, _trailers),
    do: fail(exchange, :invalid, detail: "the body is shorter than its content-length")

  defp put_out(exchange, data) do
    case Socket.send(exchange.socket, data, exchange.settings.deadline) do
      :ok -> {:ok, exchange}
      {:error, error} -> fail(exchange, error)
    end
  end

  # Reading

  @doc "Waits for the head of the answer. Informational ones before it are passed over."
  @spec head(t) :: {:ok, Response.t(), t} | {:error, HTTPError.t()}
  def head(%{in: {:head, seen}, buffer: buffer} = exchange) do
    case Head.decode(buffer, seen, exchange.settings) do
      {:ok, status, fields, rest} ->
        headed(exchange, status, fields, rest)

      :more ->
        with {:ok, exchange} <- more(exchange),
             do: head(%{exchange | in: {:head, byte_size(buffer)}})

      {:error, why} ->
        fail(exchange, :protocol, detail: why)
    end
  end

  def head(_exchange), do: raise(ArgumentError, "the head of this answer has been read before")

  @doc "The same, but for no longer than so many milliseconds."
  @spec head(t, non_neg_integer) :: {:ok, Response.t(), t} | {:error, HTTPError.t()}
  def head(%{settings: %{deadline: deadline}} = exchange, milliseconds) do
    sooner = milliseconds |> Deadline.in_ms() |> Deadline.earlier(deadline)

    with {:ok, response, exchange} <- exchange |> due(sooner) |> head(),
         do: {:ok, response, due(exchange, deadline)}
  end

  defp due(exchange, deadline), do: put_in(exchange.settings.deadline, deadline)

  defp headed(exchange, 101, _fields, _rest),
    do: fail(exchange, :protocol, detail: "it changes to another protocol")

  # They could come for ever, so they are taken from what a head may have.
  defp headed(exchange, status, _fields, rest) when status < 200 do
    taken = byte_size(exchange.buffer) - byte_size(rest)
    settings = Map.update!(exchange.settings, :max_header_bytes, &(&1 - taken))
    head(%{exchange | in: {:head, 0}, buffer: rest, settings: settings})
  end

  defp headed(exchange, status, fields, rest) do
    case Head.framing(exchange.method, status, fields) do
      {:ok, {:length, length}} when length > exchange.settings.max_body ->
        too_large(exchange, length)

      {:ok, framing} ->
        response = %Response{status: status, headers: fields, url: URL.shown(exchange.url)}
        {:ok, response, %{exchange | buffer: rest, in: coded(framing, exchange.settings)}}

      {:error, why} ->
        fail(exchange, :protocol, detail: why)
    end
  end

  defp coded(:chunked, settings), do: Chunks.new(settings)
  defp coded(framing, _settings), do: framing

  @doc "The next bytes of the answer's body: what is there, or what comes next. At its end, the trailers."
  @spec read(t) :: {:ok, binary, t} | {:done, Fields.t()} | {:error, HTTPError.t()}
  def read(%{in: {:head, _}}), do: raise(ArgumentError, "wait for the head of the answer first")
  def read(%{in: ended} = exchange) when ended in [:none, {:length, 0}], do: done(exchange, [])

  def read(%{in: %Chunks{} = chunks} = exchange) do
    case Chunks.decode(chunks, exchange.buffer) do
      {:ok, data, chunks, rest} -> decoded(%{exchange | in: chunks, buffer: rest}, data)
      {:error, why} -> fail(exchange, :protocol, detail: why)
    end
  end

  def read(%{in: :until_close, buffer: ""} = exchange) do
    case Socket.recv(exchange.socket, exchange.settings.deadline) do
      {:ok, bytes} -> got(exchange, bytes)
      :closed -> done(exchange, [])
      {:error, error} -> fail(exchange, error)
    end
  end

  def read(%{buffer: ""} = exchange),
    do: with({:ok, exchange} <- more(exchange), do: read(exchange))

  def read(%{in: :until_close} = exchange), do: got(%{exchange | buffer: ""}, exchange.buffer)

  # What comes beyond the length is not of this answer, and there is no other one.
  def read(%{in: {:length, left}, buffer: buffer} = exchange) do
    size = min(left, byte_size(buffer))
    <<data::binary-size(size), rest::binary>> = buffer
    got(%{exchange | in: {:length, left - size}, buffer: rest}, data)
  end

  defp decoded(%{in: chunks} = exchange, "") do
    if Chunks.done?(chunks),
      do: ended(exchange, chunks),
      else: with({:ok, exchange} <- more(exchange), do: read(exchange))
  end

  defp decoded(exchange, data), do: got(exchange, data)

  defp ended(exchange, chunks) do
    case Chunks.trailers(chunks) do
      {:ok, trailers} -> done(exchange, trailers)
      {:error, why} -> fail(exchange, :protocol, detail: why)
    end
  end

  defp got(exchange, data) do
    received = exchange.received + byte_size(data)

    if received > exchange.settings.max_body,
      do: too_large(exchange, nil),
      else: {:ok, data, %{exchange | received: received}}
  end

  defp more(exchange) do
    case Socket.recv(exchange.socket, exchange.settings.deadline) do
      {:ok, bytes} -> {:ok, %{exchange | buffer: exchange.buffer <> bytes}}
      :closed -> fail(exchange, :truncated, [])
      {:error, error} -> fail(exchange, error)
    end
  end

  # Ending

  @doc "Closes the connection. What was not sent or read yet is thrown away."
  @spec close(t) :: :ok
  def close(exchange), do: Socket.close(exchange.socket)

  defp done(exchange, trailers) do
    close(exchange)
    {:done, trailers}
  end

  defp too_large(exchange, size),
    do: fail(exchange, :too_large, size: size, allowed: exchange.settings.max_body)

  defp fail(exchange, reason, facts), do: fail(exchange, HTTPError.new(reason, facts))

  defp fail(exchange, error) do
    close(exchange)
    {:error, %{error | url: URL.shown(exchange.url)}}
  end
end
