defmodule Cybernetic.WASM.HTTP.Asked do
  @moduledoc false
  # A request that a guest is to answer: checked once, since it may come from anywhere. What is wrong with one is told as an error,
  # and no header's value in it.

  require Record

  alias Cybernetic.WASM.HTTPError
  alias Cybernetic.WASM.Execution.Pull
  alias Cybernetic.WASM.HTTP.{Fields, Request, URL}

  # As Rust takes it. A body that is `nil` is pulled.
  Record.defrecordp(:asked, [:method, :url, :headers, :body])

  @derive {Inspect, only: []}
  @enforce_keys [:native]
  defstruct [:native, :source, trailers: []]

  @typedoc "A request, with the body that is pulled, if it is, and what comes behind that."
  @type t :: %__MODULE__{
          native: tuple,
          source: Enumerable.t() | nil,
          trailers: Fields.t()
        }

  @keys ~w(method scheme authority path headers body trailers)a
  @bounds %{max_headers: 100, max_header_bytes: 65_536}

  @doc "Checks a request."
  @spec new(map | keyword) :: {:ok, t} | {:error, HTTPError.t()}
  def new(given) do
    given = Request.keys!(given, @keys, "a path")
    headers = Map.get(given, :headers, [])

    with {:ok, method} <- Request.method(Map.get(given, :method, "GET")),
         {:ok, url} <- url(given, headers),
         {:ok, fields} <- headers |> Fields.without_own() |> Fields.check(@bounds),
         {:ok, trailers} <- Fields.check_trailers(Map.get(given, :trailers, []), @bounds),
         {:ok, body, source} <- body(Map.get(given, :body), trailers),
         :ok <- length_told(Fields.values(fields, "content-length"), body) do
      native = asked(method: method, url: url, headers: fields, body: body)
      {:ok, %__MODULE__{native: native, source: source, trailers: trailers}}
    else
      {:error, why} -> {:error, HTTPError.new(:invalid, detail: why)}
    end
  end

  defp url(given, headers) do
    {scheme, path} = {Map.get(given, :scheme, :http), Map.get(given, :path, "/")}

    with true <- scheme in [:http, :https, "http", "https"] || {:error, "the scheme is none"},
         true <- path?(path) || {:error, "the path does not begin with a slash"},
         {:ok, url} <- URL.parse("#{scheme}://#{authority(given, headers)}#{path}"),
         do: {:ok, URL.text(url)}
  end

  defp path?(path), do: is_binary(path) and String.starts_with?(path, "/")

  # Where a request says nothing of it, there is one server alone that it can be for.
  defp authority(%{authority: authority}, _headers) when is_binary(authority), do: authority

  defp authority(_given, headers) when is_list(headers) and length(headers) >= 0 do
    Enum.find_value(headers, "localhost", fn
      {name, value} when is_binary(name) and is_binary(value) ->
        if String.downcase(name, :ascii) == "host", do: value

      _other ->
        nil
    end)
  end

  defp authority(_given, _headers), do: "localhost"

  defp body(nil, []), do: {:ok, "", nil}

  defp body(body, trailers) do
    cond do
      not Pull.readable?(body) -> {:error, "the body is neither bytes nor an enumerable of them"}
      not (is_binary(body) or is_list(body) or is_nil(body)) -> {:ok, nil, body}
      trailers == [] -> {:ok, IO.iodata_to_binary(body), nil}
      true -> {:ok, nil, List.wrap(body)}
    end
  end

  # A guest that believes it would wait for what does not come.
  defp length_told([length], body) when is_binary(body) do
    if length == Integer.to_string(byte_size(body)),
      do: :ok,
      else: {:error, "the header content-length is not the length of the body"}
  end

  defp length_told([_, _ | _], _body), do: {:error, "there are several headers content-length"}
  defp length_told(_none_or_pulled, _body), do: :ok
end
