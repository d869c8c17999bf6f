defmodule Cybernetic.WASM.Loader.Sources.URL do
  @moduledoc false
  # `{:url, "https://example.com/x.wasm"}`, or with options: `{:url, url, headers: […]}`. What lies there may change, so that a
  # load wants a pin.

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.HTTP.URL
  alias Cybernetic.WASM.{LoadError, Options}
  alias Cybernetic.WASM.Loader.Download

  @options [
    headers: {:unshown, {"a list of names and values", &is_list/1}},
    http: {:unshown, {"a keyword list of HTTP options", &Keyword.keyword?/1}}
  ]

  # What lies beside a module is a page of text.
  @longest_text 65_536

  @impl true
  def fetch(given, opts) do
    {text, own} = given!(given)

    with {:ok, url} <- parse(text),
         asked = asked(text, own, opts),
         {:ok, bytes} <- asked |> Download.get() |> credentials_named(),
         {:ok, facts} <- beside(url, asked, opts),
         do: {:ok, bytes, facts}
  end

  defp credentials_named({:error, %LoadError{status: status} = error})
       when status in [401, 403] do
    how = "; credentials go along as {:url, url, headers: [{name, value}]}"
    {:error, %{error | detail: error.detail <> how}}
  end

  defp credentials_named(result), do: result

  defp given!({url, own}) when is_binary(url),
    do: {url, Options.check!(own, @options, "option of a {:url, url, options}")}

  defp given!(url) when is_binary(url), do: {url, %{}}

  defp given!(_other),
    do:
      raise(
        ArgumentError,
        "{:url, url} or {:url, url, options} expected, with a URL that is a text"
      )

  defp parse(text) do
    with {:error, why} <- URL.parse(text) do
      detail = ~s(#{why}; expected is {:url, "https://example.com/resize.wasm"})
      {:error, %LoadError{reason: :fetch_failed, detail: detail}}
    end
  end

  defp asked(url, own, opts) do
    http = Download.options(opts.http, Map.get(own, :http, []), opts.deadline)

    %{
      url: url,
      headers: Map.get(own, :headers, []),
      max_size: opts.max_size,
      pinned: opts.digest != nil,
      http: http
    }
  end

  # Signature and manifest lie beside it, as beside a file. Their paths are no references: one that begins with two slashes would
  # name another host, which would be sent the headers.
  defp beside(url, asked, opts) do
    path = path_of(url)

    wanted = [
      {:signature, opts.signature, path <> ".sig"},
      {:manifest, opts.manifest, String.replace(path, ~r"[^/]*\z", "module.toml", global: false)}
    ]

    Enum.reduce_while(wanted, {:ok, %{}}, fn {fact, wanted?, path}, {:ok, facts} ->
      case wanted? && text(url, path, asked) do
        absent when absent in [false, :absent] -> {:cont, {:ok, facts}}
        {:ok, text} -> {:cont, {:ok, Map.put(facts, fact, text)}}
        error -> {:halt, error}
      end
    end)
  end

  # A server that has none says so with one status or another. One that fails is a failure: what is signed would go for unsigned.
  defp text(url, path, asked) do
    url = URL.text(%{url | target: path})

    case Download.get(%{asked | url: url, max_size: @longest_text, pinned: false}) do
      {:error, %LoadError{status: status}} when status in 400..499 -> :absent
      other -> other
    end
  end

  @doc "Where the signature lies, without secrets."
  @spec signature_at(String.t() | {String.t(), keyword}) :: String.t() | nil
  def signature_at(given) do
    {text, _own} = given!(given)

    with {:ok, url} <- URL.parse(text),
         do: URL.shown(%{url | target: path_of(url) <> ".sig"}),
         else: (_none -> nil)
  end

  defp path_of(url), do: URL.without_query(url).target

  @impl true
  def describe(given) do
    {text, _own} = given!(given)

    case URL.parse(text) do
      {:ok, url} -> URL.shown(url)
      {:error, _why} -> "a URL"
    end
  end

  @impl true
  def name(given) do
    {text, _own} = given!(given)

    with {:ok, url} <- URL.parse(text),
         name when name != "" <- url |> path_of() |> Path.basename() do
      name
    else
      _ -> nil
    end
  end

  # With its query, and for all queries.
  @impl true
  def pinned_as(given) do
    {text, _own} = given!(given)

    case URL.parse(text) do
      {:ok, url} -> Enum.map([url, URL.without_query(url)], &URL.text/1)
      {:error, _why} -> []
    end
  end

  # What is no URL is refused for that, by who fetches it.
  @impl true
  def mutable?(given) do
    {text, _own} = given!(given)
    match?({:ok, _url}, URL.parse(text))
  end

  @impl true
  def remote?(_given), do: true
end
