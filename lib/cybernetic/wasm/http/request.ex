defmodule Cybernetic.WASM.HTTP.Request do
  @moduledoc false
  # A request that can be sent: checked once, whoever it comes from. What is wrong with one is told as an error, and no header's
  # value in it.

  alias Cybernetic.WASM.{HTTPError, Options, Shown}
  alias Cybernetic.WASM.HTTP.{Fields, Settings, URL}

  @derive {Inspect, only: [:method]}
  @enforce_keys [:method, :url, :headers, :body, :framing]
  defstruct @enforce_keys

  @typedoc "What a body is, and how its end is told to the server."
  @type t :: %__MODULE__{
          method: String.t(),
          url: URL.t(),
          headers: Fields.t(),
          body: nil | {:bytes, iodata} | {:stream, Enumerable.t()} | :open,
          framing: {:length, non_neg_integer} | :chunked
        }

  @keys ~w(method url headers body)a
  @agent {"user-agent", "cybernetic-wasm"}
  # Compressed bodies would have to be measured again.
  @plain {"accept-encoding", "identity"}

  # Servers want to be told that there is no body, where there could be one.
  @with_body ~w(POST PUT PATCH)
  @longest_method 100

  @doc "Checks a request."
  @spec new(map | keyword, Settings.t()) :: {:ok, t} | {:error, HTTPError.t()}
  def new(given, settings) do
    given = keys!(given, @keys, "a url")

    with {:ok, method} <- method(Map.get(given, :method, "GET")),
         {:ok, url} <- URL.parse(Map.get(given, :url)),
         {:ok, headers} <- Fields.check(Map.get(given, :headers, []), settings),
         {:ok, body} <- body(Map.get(given, :body)),
         {:ok, framing} <- framing(body, Fields.values(headers, "content-length")) do
      {:ok, %__MODULE__{method: method, url: url, headers: headers, body: body, framing: framing}}
    else
      {:error, why} -> {:error, HTTPError.new(:invalid, detail: why)}
    end
  end

  @doc "What is given as a request, as a map that has none but `known` keys. `needed` is what one cannot do without, in words."
  @spec keys!(term, [atom], String.t()) :: map
  def keys!(given, known, _needed)
      when is_list(given) or (is_map(given) and not is_struct(given)) do
    given = Map.new(given)

    case Map.keys(given) -- known do
      [] ->
        given

      [key | _] ->
        raise ArgumentError,
              "unknown key #{Shown.term(key)} of a request; known are: #{Options.list(known)}"
    end
  end

  def keys!(other, _known, needed),
    do: raise(ArgumentError, "a request is a map with #{needed}, got: #{Shown.kind(other)}")

  @doc "A method as it is sent, or what is wrong with it."
  @spec method(term) :: {:ok, String.t()} | {:error, String.t()}
  def method(atom) when is_atom(atom),
    do: atom |> Atom.to_string() |> String.upcase(:ascii) |> method()

  # CONNECT asks for a tunnel, whatever some servers take for it.
  def method(text) when is_binary(text) and byte_size(text) <= @longest_method do
    if text =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and String.upcase(text, :ascii) != "CONNECT",
      do: {:ok, text},
      else: {:error, "the method is none"}
  end

  def method(_other), do: {:error, "the method is none"}

  defp body(nil), do: {:ok, nil}
  defp body(:open), do: {:ok, :open}
  defp body(bytes) when is_binary(bytes), do: {:ok, {:bytes, bytes}}

  defp body(list) when is_list(list) do
    {:ok, {:bytes, :erlang.iolist_to_iovec(list)}}
  rescue
    ArgumentError -> {:error, "the body is a list, but none of bytes"}
  end

  defp body(other) do
    if Enumerable.impl_for(other),
      do: {:ok, {:stream, other}},
      else: {:error, "the body is neither bytes nor an enumerable of them"}
  end

  defp framing(body, []), do: {:ok, length_of(body) || :chunked}

  defp framing(body, [stated]) do
    own = length_of(body)

    case {:length, if(stated =~ ~r/\A\d{1,15}\z/, do: String.to_integer(stated))} do
      {:length, nil} -> {:error, "the header content-length is no number"}
      ^own -> {:ok, own}
      stated when own == nil -> {:ok, stated}
      _ -> {:error, "the header content-length is not the length of the body"}
    end
  end

  defp framing(_body, _several), do: {:error, "there are several headers content-length"}

  defp length_of(nil), do: {:length, 0}
  defp length_of({:bytes, bytes}), do: {:length, IO.iodata_length(bytes)}
  defp length_of(_unknown), do: nil

  @doc "The head, as it is sent."
  @spec head(t) :: iolist
  def head(%__MODULE__{url: url} = request) do
    own = [{"host", URL.authority(url)}] ++ unless_given([@agent, @plain], request.headers)
    given = Enum.reject(request.headers, &match?({"content-length", _}, &1))
    fields = own ++ given ++ framed(request) ++ [{"connection", "close"}]
    [request.method, " ", url.target, " HTTP/1.1\r\n", Fields.lines(fields), "\r\n"]
  end

  defp unless_given(own, given),
    do: Enum.reject(own, fn {name, _} -> Fields.values(given, name) != [] end)

  defp framed(%{framing: :chunked}), do: [{"transfer-encoding", "chunked"}]

  defp framed(%{body: nil, method: method, framing: {:length, 0}}) when method not in @with_body,
    do: []

  defp framed(%{framing: {:length, length}}), do: [{"content-length", Integer.to_string(length)}]
end
