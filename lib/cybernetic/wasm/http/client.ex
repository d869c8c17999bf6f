defmodule Cybernetic.WASM.HTTP.Client do
  @moduledoc """
  HTTP/1.1 for what may not be trusted on either side: requests whose URL a guest chose, and servers that lie.

  Whatever the library fetches, it fetches by this client. It runs in the calling process, and what it takes is bounded: in
  time, in bytes and in number.

  | | |
  |---|---|
  | whom it reaches | public addresses, or what `:network` allows. A name is looked up once, its addresses are judged, and one of those is connected to. The name is kept for the certificate and the `host` header. |
  | encryption | `https:` with verified certificates, TLS 1.2 or 1.3; `http:` only with `allow_http: true`. Revocation is not checked. |
  | redirections | followed by this module, at most `:max_redirects`; each is judged anew. To another origin (scheme, host and port) goes no header of the request, no body, and no other method than `GET` and `HEAD`. |
  | time | `:timeout` is for all of it, redirections and the last byte of the body included |
  | bytes | `:max_body`, counted while they come; `:max_header_bytes` and `:max_headers` for the heads, for what stands between chunks and for trailers |
  | pace | nothing is read ahead of `read/1`, and `write/2` waits until the peer takes more. TLS keeps up to 2 MB in a process of OTP's. |
  | connections | one for each request; none is kept |

  A body is given as it came: nothing is decompressed, and `accept-encoding: identity` is sent unless the headers say otherwise.
  No proxy is used, whatever the environment says. No cookie is kept.

  OTP's own client, `:httpc`, is not used underneath: it looks names up by itself, streams the bodies of status 200 and 206 alone and
  gathers all others, and follows redirections by rules of its own.

  ## Requests

  A map, or a keyword list, with these keys:

    * `:url` - `https://…`, without a user's name in it. Required.
    * `:method` - a text or an atom; default `"GET"`
    * `:headers` - a list of names and values, both texts. A line break in one is refused. How a message is framed is the
      client's affair: `host`, `connection`, `transfer-encoding` and their like are refused; a `content-length` has to be true.
    * `:body` - `nil`, bytes as a binary or a list, an enumerable of such, or `:open`, which `write/2` is for. What has no
      length goes in chunks.

  ## Options

    * `:network` - `:public` (default: every public address, by any name), a list of rules as
      `Cybernetic.WASM.Sandbox.Capabilities.Network` takes it, a sandbox, or the context of a host function. A private
      or loopback address needs a rule that names it.
    * `:allow_http` - default `false`
    * `:timeout` - milliseconds for all; default 30,000
    * `:deadline` - a point in monotonic milliseconds, instead of `:timeout`; of both the earlier one holds
    * `:connect_timeout` - milliseconds for one address, of which a name may have several; default 10,000
    * `:max_body` - bytes of the answer's body; default 10,000,000
    * `:max_header_bytes` - bytes of a head, those of informational answers included; default 65,536
    * `:max_headers` - fields of a head; default 100
    * `:redirect` - whether to follow redirections; default `true`. Otherwise they are answers.
    * `:max_redirects` - default 5
    * `:tls` - whom to trust instead of the system's certificates: `[cacertfile: path]` or `[cacerts: ders]`

  ## Streams

  `open/2` gives an answer whose body is read piece by piece. With `start/2`, `write/2`, `finish/2` and `head/1` the request's
  body is written likewise, and the answer may be read before that is finished.

      iex> alias Cybernetic.WASM.HTTP.Client
      iex> {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}])
      iex> {:ok, port} = :inet.port(listener)
      iex> spawn(fn ->
      ...>   {:ok, socket} = :gen_tcp.accept(listener)
      ...>   :gen_tcp.send(socket, "HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n")
      ...>   {:ok, _request} = :gen_tcp.recv(socket, 0)
      ...>   :gen_tcp.send(socket, "5\\r\\nhello\\r\\n0\\r\\nchecksum: 1f\\r\\n\\r\\n")
      ...>   :gen_tcp.recv(socket, 0)
      ...> end)
      iex> rules = [network: ["127.0.0.1:\#{port}"], allow_http: true]
      iex> {:ok, exchange} =
      ...>   Client.start(%{method: "POST", url: "http://127.0.0.1:\#{port}/", body: :open}, rules)
      iex> {:ok, exchange} = Client.write(exchange, ["some ", "bytes"])
      iex> {:ok, response, exchange} = Client.head(exchange)
      iex> response.status
      200
      iex> {:ok, exchange} = Client.finish(exchange, [{"checksum", "2e"}])
      iex> {:ok, "hello", exchange} = Client.read(exchange)
      iex> Client.read(exchange)
      {:done, [{"checksum", "1f"}]}

  An exchange is a value of the process that began it; use what the last function gave. After an error, after the end of the
  body and with that process the connection is closed; otherwise `close/1` does it.

  ## Examples

      iex> alias Cybernetic.WASM.HTTP.Client
      iex> {:error, error} = Client.request(%{url: "http://example.com/thumb.wasm"})
      iex> error.reason
      :insecure
      iex> {:error, error} = Client.request(%{url: "https://169.254.169.254/latest?token=x"})
      iex> Exception.message(error)
      "no answer from https://169.254.169.254/latest?…: 169.254.169.254 is link-local (169.254.0.0/16), and no rule names it or a range within"
  """

  alias Cybernetic.WASM.HTTP.{Exchange, Redirect, Request, Response, Settings}
  alias Cybernetic.WASM.HTTPError

  @typedoc "A request: see above."
  @type request :: map | keyword

  @typedoc "A connection with its request and its answer, between two functions of this module."
  @opaque exchange :: Exchange.t()

  @doc """
  Sends a request and gathers its answer.

      iex> {:error, error} = Cybernetic.WASM.HTTP.Client.request(%{url: "https://127.0.0.1:1/"}, network: ["127.0.0.1:1"])
      iex> {error.reason, error.blame}
      {:unreachable, :node}
  """
  @spec request(request, keyword) :: {:ok, Response.t()} | {:error, HTTPError.t()}
  def request(request, opts \\ []) do
    with {:ok, response, exchange} <- open(request, opts),
         {:ok, body, trailers} <- read_all(exchange),
         do: {:ok, %{response | body: body, trailers: trailers}}
  end

  @doc "Sends a request, and gives the answer once its head is there. `read/1` reads its body."
  @spec open(request, keyword) :: {:ok, Response.t(), exchange} | {:error, HTTPError.t()}
  def open(request, opts \\ []) do
    with {:ok, request, settings} <- checked(request, opts),
         do: follow(not_open!(request), settings)
  end

  defp checked(request, opts) do
    settings = Settings.new!(opts)
    with {:ok, request} <- Request.new(request, settings), do: {:ok, request, settings}
  end

  defp not_open!(%{body: :open}),
    do: raise(ArgumentError, "a body that is :open is begun by start/2 and written by write/2")

  defp not_open!(request), do: request

  defp follow(request, settings) do
    with {:ok, exchange} <- begin(request, settings),
         {:ok, response, exchange} <- Exchange.head(exchange),
         do: redirect(request, response, exchange)
  end

  defp redirect(request, response, %{settings: settings} = exchange) do
    case settings.redirect and Redirect.next(request, response) do
      stay when stay in [false, :stay] ->
        {:ok, response, exchange}

      {:ok, request} when settings.max_redirects > 0 ->
        Exchange.close(exchange)
        follow(request, %{settings | max_redirects: settings.max_redirects - 1})

      {:ok, _request} ->
        not_followed(exchange, response, "there were too many before it")

      {:error, why} ->
        not_followed(exchange, response, why)
    end
  end

  defp not_followed(exchange, response, why) do
    Exchange.close(exchange)
    error = HTTPError.new(:redirect, status: response.status, detail: why)
    {:error, %{error | url: response.url}}
  end

  @doc """
  Sends a request without waiting for its answer, and follows no redirection. A body that is `:open` is then written by
  `write/2` and ended by `finish/2`; any other is sent here.
  """
  @spec start(request, keyword) :: {:ok, exchange} | {:error, HTTPError.t()}
  def start(request, opts \\ []) do
    with {:ok, request, settings} <- checked(request, opts), do: begin(request, settings)
  end

  defp begin(request, settings) do
    with {:ok, exchange} <- Exchange.start(request, settings),
         do: send_body(exchange, request.body)
  end

  defp send_body(exchange, :open), do: {:ok, exchange}
  defp send_body(exchange, nil), do: Exchange.finish(exchange)

  defp send_body(exchange, {:bytes, bytes}) do
    with {:ok, exchange} <- Exchange.write(exchange, bytes), do: Exchange.finish(exchange)
  end

  defp send_body(exchange, {:stream, pieces}) do
    with {:ok, exchange} <- send_pieces(exchange, pieces), do: Exchange.finish(exchange)
  end

  # What the enumerable raises is the caller's, and goes to the caller.
  defp send_pieces(exchange, pieces) do
    Enum.reduce_while(pieces, {:ok, exchange}, fn piece, {:ok, exchange} ->
      case Exchange.write(exchange, piece) do
        {:ok, exchange} -> {:cont, {:ok, exchange}}
        error -> {:halt, error}
      end
    end)
  catch
    kind, reason ->
      Exchange.close(exchange)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  @doc "Sends a piece of a body that is `:open`, once the peer has taken most of what was sent before."
  @spec write(exchange, iodata) :: {:ok, exchange} | {:error, HTTPError.t()}
  defdelegate write(exchange, data), to: Exchange

  @doc """
  Ends a body that is `:open`. Without a `content-length` it may have trailers, names and values like headers. Names that
  frame a message, route it or say who sent it, such as `content-length` and `authorization`, are headers alone, and refused.
  """
  @spec finish(exchange, [{String.t(), binary}]) :: {:ok, exchange} | {:error, HTTPError.t()}
  defdelegate finish(exchange, trailers \\ []), to: Exchange

  @doc "Waits for the answer's head, of a request that `start/2` began. Informational answers are passed over."
  @spec head(exchange) :: {:ok, Response.t(), exchange} | {:error, HTTPError.t()}
  defdelegate head(exchange), to: Exchange

  @doc "The same, but waits no longer than so many milliseconds."
  @spec head(exchange, non_neg_integer) ::
          {:ok, Response.t(), exchange} | {:error, HTTPError.t()}
  defdelegate head(exchange, milliseconds), to: Exchange

  @doc """
  The next bytes of the answer's body: those that are there, or come next, at most some 64 KB. At its end, which closes the
  connection, the trailers.
  """
  @spec read(exchange) ::
          {:ok, binary, exchange} | {:done, [{String.t(), binary}]} | {:error, HTTPError.t()}
  defdelegate read(exchange), to: Exchange

  @doc "All that is left of the answer's body, and the trailers."
  @spec read_all(exchange) ::
          {:ok, binary, [{String.t(), binary}]} | {:error, HTTPError.t()}
  def read_all(exchange), do: gather(exchange, "")

  # One binary that grows, and no list: of a body in small pieces that would take many times as much.
  defp gather(exchange, body) do
    case Exchange.read(exchange) do
      {:ok, data, exchange} -> gather(exchange, body <> data)
      {:done, trailers} -> {:ok, body, trailers}
      error -> error
    end
  end

  @doc "Closes the connection, and throws away what was not sent or read yet."
  @spec close(exchange) :: :ok
  defdelegate close(exchange), to: Exchange
end
