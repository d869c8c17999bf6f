defmodule Cybernetic.WASM.Loader.Download do
  @moduledoc false
  # A GET for a load: what comes is bounded by what the load takes, and what goes wrong is a `LoadError` that has the
  # client's error as its cause.

  alias Cybernetic.WASM.HTTP.{Client, Response, URL}
  alias Cybernetic.WASM.{HTTPError, LoadError}

  @typedoc """
  What is asked: a URL with headers, of which `max_size` bytes are taken, and the options of the client. `pinned` says that bytes which
  are cut are refused later on in any case.
  """
  @type asked :: %{
          url: String.t(),
          headers: [{String.t(), String.t()}],
          max_size: pos_integer,
          pinned: boolean,
          http: keyword
        }

  @doc "The body of an answer with status 200. Any other is an error."
  @spec get(asked) :: {:ok, binary} | {:error, LoadError.t()}
  def get(asked) do
    case ask(asked) do
      {:ok, body, _response} -> {:ok, body}
      {:other, response} -> {:error, refused(response)}
      error -> error
    end
  end

  @doc "The body of an answer with status 200. Of any other nobody reads the body."
  @spec ask(asked) ::
          {:ok, binary, Response.t()} | {:other, Response.t()} | {:error, LoadError.t()}
  def ask(asked) do
    opts = Keyword.put(asked.http, :max_body, asked.max_size)

    with {:ok, response, exchange} <-
           Client.open(%{url: asked.url, headers: asked.headers}, opts),
         :ok <- ends(response, exchange, asked),
         {:ok, body} <- body(response, exchange) do
      if body, do: {:ok, body, response}, else: {:other, response}
    else
      {:error, %LoadError{} = error} -> {:error, error}
      {:error, error} -> {:error, failed(error, asked)}
    end
  end

  # A body that ends with the connection is cut by whoever can end that, TLS or not: OTP tells an end by the server from no other.
  defp ends(%Response{status: 200, url: "https:" <> _} = response, exchange, %{pinned: false}) do
    if framed?(response), do: :ok, else: endless(response, exchange)
  end

  defp ends(_response, _exchange, _asked), do: :ok

  defp framed?(response),
    do: Enum.any?(~w(content-length transfer-encoding), &(Response.header(response, &1) != []))

  defp endless(%Response{url: url}, exchange) do
    :ok = Client.close(exchange)
    detail = "#{url} does not say where its answer ends, and there is no pin for what it gives"
    {:error, %LoadError{reason: :fetch_failed, detail: detail}}
  end

  defp body(%Response{status: 200}, exchange) do
    with {:ok, body, _trailers} <- Client.read_all(exchange), do: {:ok, body}
  end

  defp body(_response, exchange) do
    :ok = Client.close(exchange)
    {:ok, nil}
  end

  @doc "The options of the client: those of the load, under those of the source, within the time of the load."
  @spec options(keyword, keyword, integer | :infinity) :: keyword
  def options(load, own, :infinity), do: Keyword.merge(load, own)

  def options(load, own, deadline),
    do: load |> Keyword.merge(own) |> Keyword.put(:deadline, deadline)

  @doc "The error of an answer that is not the one that was wanted. What may be tried again is nobody's mistake."
  @spec refused(Response.t()) :: LoadError.t()
  def refused(%Response{status: status, url: url}) do
    blame = if status == 429 or status >= 500, do: :node, else: :caller
    detail = "#{url} answered with status #{status}"
    %LoadError{reason: :fetch_failed, status: status, detail: detail, blame: blame}
  end

  defp failed(%HTTPError{reason: :too_large} = error, _asked),
    do: %LoadError{reason: :too_large, size: error.size, allowed: error.allowed, cause: error}

  defp failed(%HTTPError{reason: reason} = error, asked) do
    kind = if reason == :denied, do: :denied, else: :fetch_failed
    detail = Exception.message(error) <> option(error, asked)

    %LoadError{
      reason: kind,
      detail: detail,
      status: error.status,
      cause: error,
      blame: error.blame
    }
  end

  # Which option of the load lets it go there. Where a server sends on to, nobody is told to open.
  defp option(%HTTPError{reason: reason, url: url}, asked) when reason in [:insecure, :denied] do
    with {:ok, url} <- URL.parse(hd(String.split(url || "", "?", parts: 2))),
         {:ok, first} <- URL.parse(asked.url),
         true <- URL.origin(url) == URL.origin(first) do
      "; for a server of your own, the option http: [#{rules(reason, url)}]"
    else
      _elsewhere -> ""
    end
  end

  defp option(%HTTPError{reason: :tls, detail: "unknown_ca" <> _}, _asked),
    do:
      "; for a server with a certificate of your own, the option http: [tls: [cacertfile: path]]"

  defp option(_error, _asked), do: ""

  defp rules(:insecure, %{scheme: "http"} = url),
    do: Enum.join(["allow_http: true" | List.wrap(if within?(url), do: network(url))], ", ")

  defp rules(:denied, %{scheme: "http"} = url), do: "allow_http: true, " <> network(url)
  defp rules(_reason, url), do: network(url)

  # A name without a dot is of a network of one's own. Of others the address will show it.
  defp within?(%{address: nil, host: host}), do: not String.contains?(host, ".")
  defp within?(_address), do: true

  defp network(%{address: nil, host: "localhost"} = url),
    do: ~s|network: ["localhost:#{url.port}", "127.0.0.1:#{url.port}"]|

  defp network(%{address: nil} = url),
    do: ~s|network: ["#{url.host}:#{url.port}", "its address:#{url.port}"]|

  defp network(%{address: address} = url) when tuple_size(address) == 8,
    do: ~s|network: ["[#{url.host}]:#{url.port}"]|

  defp network(url), do: ~s|network: ["#{url.host}:#{url.port}"]|
end
