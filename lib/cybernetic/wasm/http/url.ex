defmodule Cybernetic.WASM.HTTP.URL do
  @moduledoc false
  # A URL that a request can be sent to, in one spelling, so that two origins compare as terms. It may be a guest's word or a
  # server's: nothing here raises.

  alias Cybernetic.WASM.Shown

  @enforce_keys [:scheme, :host, :address, :port, :target]
  defstruct @enforce_keys

  @typedoc "`host` is a name in small letters without its last dot, or an address, which `address` then is as a tuple."
  @type t :: %__MODULE__{
          scheme: String.t(),
          host: String.t(),
          address: :inet.ip_address() | nil,
          port: :inet.port_number(),
          target: String.t()
        }

  # Servers take about this much as the first line of a request.
  @longest 8_000
  @ports %{"http" => 80, "https" => 443}

  @doc "Reads a URL, or says what is wrong with it."
  @spec parse(term) :: {:ok, t} | {:error, String.t()}
  def parse(text) when is_binary(text) and byte_size(text) <= @longest do
    with true <- visible?(text),
         {:ok, uri} <- URI.new(text) do
      from(uri)
    else
      _ -> {:error, "the URL is none: blanks, control characters and other scripts are encoded"}
    end
  end

  def parse(text) when is_binary(text), do: {:error, "the URL has more than #{@longest} bytes"}
  def parse(%URI{} = uri), do: uri |> to_string() |> parse()
  def parse(_other), do: {:error, "the URL is no text"}

  @doc "Reads what a server says where something is, from the URL that was asked."
  @spec join(t, String.t()) :: {:ok, t} | {:error, String.t()}
  def join(url, location) do
    with true <- byte_size(location) <= @longest and visible?(location),
         {:ok, relative} <- URI.new(location) do
      url |> text() |> URI.parse() |> URI.merge(relative) |> parse()
    else
      _ -> {:error, "the URL is none"}
    end
  end

  defp visible?(text), do: for(<<byte <- text>>, byte not in ?!..?~, do: byte) == []

  defp from(%URI{userinfo: userinfo}) when userinfo != nil,
    do: {:error, "the URL has a user's name in it: credentials belong into a header"}

  defp from(%URI{scheme: scheme, host: host} = uri)
       when is_map_key(@ports, scheme) and host not in [nil, ""] do
    port = uri.port || @ports[scheme]
    {host, address} = host(host)

    cond do
      port not in 1..65_535 ->
        {:error, "the URL's port is not one from 1 to 65535"}

      not (host =~ ~r/\A[a-z0-9._:-]+\z/) ->
        {:error, "the URL's host is neither name nor address"}

      true ->
        {:ok,
         struct!(__MODULE__,
           scheme: scheme,
           host: host,
           address: address,
           port: port,
           target: target(uri)
         )}
    end
  end

  defp from(_uri), do: {:error, "the URL has to begin with https:// or http:// and a host"}

  defp host(host) do
    case :inet.parse_strict_address(to_charlist(host)) do
      {:ok, address} -> {address |> :inet.ntoa() |> to_string(), address}
      {:error, _} -> {host |> String.downcase(:ascii) |> String.replace_suffix(".", ""), nil}
    end
  end

  defp target(%URI{path: path, query: nil}), do: path(path)
  defp target(%URI{path: path, query: query}), do: path(path) <> "?" <> query

  defp path(empty) when empty in [nil, ""], do: "/"
  defp path(path), do: path

  @doc "Where it leads to: what belongs to one origin is not for another."
  @spec origin(t) :: {String.t(), String.t(), :inet.port_number()}
  def origin(url), do: {url.scheme, url.host, url.port}

  @doc "Host and port as a request's header has them."
  @spec authority(t) :: String.t()
  def authority(%{scheme: scheme, port: port} = url) do
    if @ports[scheme] == port, do: bracketed(url), else: "#{bracketed(url)}:#{port}"
  end

  defp bracketed(%{address: address, host: host}) when tuple_size(address) == 8, do: "[#{host}]"
  defp bracketed(%{host: host}), do: host

  @doc "The URL."
  @spec text(t) :: String.t()
  def text(url), do: "#{url.scheme}://#{authority(url)}#{url.target}"

  @doc "The URL in one spelling, for comparing: dots and escapes in its path that make no other one are gone (RFC 3986, 6.2.2)."
  @spec key(t) :: String.t()
  def key(url) do
    [path | query] = String.split(url.target, "?", parts: 2)
    path = path |> escapes() |> String.split("/") |> dots([]) |> Enum.join("/")
    text(%{url | target: Enum.join([path | query], "?")})
  end

  defp escapes(path) do
    Regex.replace(~r/%([0-9A-Fa-f]{2})/, path, fn escape, hex ->
      {code, ""} = Integer.parse(hex, 16)
      if URI.char_unreserved?(code), do: <<code>>, else: String.upcase(escape)
    end)
  end

  defp dots([], done), do: Enum.reverse(done)
  defp dots([dot], done) when dot in [".", ".."], do: dots([dot, ""], done)
  defp dots(["." | parts], done), do: dots(parts, done)
  # What is before the first slash stays.
  defp dots([".." | parts], [root]), do: dots(parts, [root])
  defp dots([".." | parts], [_above | done]), do: dots(parts, done)
  defp dots([part | parts], done), do: dots(parts, [part | done])

  @doc "The URL without its query."
  @spec without_query(t) :: t
  def without_query(url), do: %{url | target: url.target |> String.split("?", parts: 2) |> hd()}

  @doc "The URL for messages: without its query, in which signatures and keys are common."
  @spec shown(t) :: String.t()
  def shown(url) do
    case url |> text() |> String.split("?", parts: 2) do
      [text] -> Shown.cut(text)
      [text, _query] -> Shown.cut(text) <> "?…"
    end
  end
end
