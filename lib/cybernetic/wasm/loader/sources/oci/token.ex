defmodule Cybernetic.WASM.Loader.Sources.OCI.Token do
  @moduledoc false
  # The token that a registry asks for (the distribution specification's "bearer" flow): it names a realm, which gives one. The realm
  # is a stranger's word. It is asked like any other URL, within the network rules, for one repository and for reading. And
  # credentials go to the registry's own origin, or to the realm that the caller has named: otherwise whoever answers for a
  # registry could have them sent anywhere.

  alias Cybernetic.WASM.HTTP.{Response, URL}
  alias Cybernetic.WASM.{JSON, LoadError}
  alias Cybernetic.WASM.Loader.Download

  # Headers with several challenges are longer than this in no registry.
  @longest 4_096
  # Tokens that name many rights have some thousand bytes.
  @longest_answer 65_536

  @doc "The `authorization` for asking again, after an answer with status 401."
  @spec authorization(Response.t(), map) :: {:ok, String.t()} | {:error, LoadError.t()}
  def authorization(response, given) do
    case response |> Response.header("www-authenticate") |> Enum.find_value(&challenge/1) do
      {"bearer", %{"realm" => realm} = challenge} -> token(realm, challenge["service"], given)
      {"basic", _challenge} -> basic(given, response)
      _none -> {:error, Download.refused(response)}
    end
  end

  defp challenge(header) when byte_size(header) <= @longest do
    case Regex.run(~r/\A(bearer|basic)\s+(.*)\z/is, header, capture: :all_but_first) do
      [scheme, parameters] -> {String.downcase(scheme), parameters(parameters)}
      nil -> nil
    end
  end

  defp challenge(_long), do: nil

  defp parameters(text) do
    for [_, key, value] <- Regex.scan(~r/([A-Za-z_]+)="([^"\\]*)"/, text),
        into: %{},
        do: {String.downcase(key), value}
  end

  defp basic(%{credentials: nil}, response), do: {:error, Download.refused(response)}
  defp basic(%{credentials: credentials}, _response), do: {:ok, basic(credentials)}

  defp basic({user, password}), do: "Basic " <> Base.encode64("#{user}:#{password}")

  defp token(realm, service, given) do
    with {:ok, url} <- realm(realm),
         asked = %{
           given.asked
           | url: asked(url, service, given),
             headers: credentials(url, given),
             max_size: @longest_answer
         },
         {:ok, text} <- Download.get(asked),
         do: read(text)
  end

  defp realm(realm) do
    case URL.parse(realm) do
      {:ok, url} -> {:ok, url}
      {:error, why} -> failed("the registry names a realm that is none: #{why}")
    end
  end

  # What is asked for is ours to say: a challenge could ask for more.
  defp asked(url, service, given) do
    query = [{"scope", "repository:#{given.repository}:pull"}]
    query = URI.encode_query(if service, do: [{"service", service} | query], else: query)
    separator = if String.contains?(url.target, "?"), do: "&", else: "?"
    URL.text(url) <> separator <> query
  end

  defp credentials(_url, %{credentials: nil}), do: []

  defp credentials(url, given) do
    if URL.origin(url) in given.trusted,
      do: [{"authorization", basic(given.credentials)}],
      else: []
  end

  defp read(text) do
    case JSON.decode(text, @longest_answer) do
      {:ok, %{"token" => token}} when is_binary(token) and token != "" ->
        {:ok, "Bearer " <> token}

      {:ok, %{"access_token" => token}} when is_binary(token) and token != "" ->
        {:ok, "Bearer " <> token}

      _ ->
        failed("the registry's realm gave no token")
    end
  end

  defp failed(detail), do: {:error, %LoadError{reason: :fetch_failed, detail: detail}}
end
