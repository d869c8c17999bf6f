defmodule Cybernetic.WASM.HTTP.Redirect do
  @moduledoc false
  # Where an answer sends a request on to, and what of it may go there (RFC 9110, 15.4). Nothing but the method and the URL
  # goes to another origin: the headers were meant for the first one, whatever their names.

  alias Cybernetic.WASM.HTTP.{Request, Response, URL}

  @statuses [301, 302, 303, 307, 308]
  # What is asked without asking for a change.
  @safe ~w(GET HEAD)

  @doc "The request to send next; `:stay` for an answer that is no redirection."
  @spec next(Request.t(), Response.t()) :: :stay | {:ok, Request.t()} | {:error, String.t()}
  def next(request, %Response{status: status} = response) when status in @statuses do
    case Response.header(response, "location") do
      [location] -> to(request, status, location)
      [] -> :stay
      _several -> {:error, "it names several places"}
    end
  end

  def next(_request, _response), do: :stay

  defp to(request, status, location) do
    with {:ok, url} <- URL.join(request.url, location),
         request = method(request, status),
         same? = URL.origin(url) == URL.origin(request.url),
         :ok <- repeatable(request, same?) do
      {:ok, %{request | url: url, headers: if(same?, do: request.headers, else: [])}}
    end
  end

  # As everybody does with a POST, and 303 asks for.
  defp method(%{method: "POST"} = request, status) when status in [301, 302], do: get(request)
  defp method(%{method: method} = request, 303) when method != "HEAD", do: get(request)
  defp method(request, _status), do: request

  # What described the body goes with it.
  defp get(request) do
    headers =
      Enum.reject(request.headers, fn {name, _} -> String.starts_with?(name, "content-") end)

    %{request | method: "GET", headers: headers, body: nil, framing: {:length, 0}}
  end

  defp repeatable(%{body: {:stream, _}}, _same?),
    do: {:error, "the body was a stream, which is read once"}

  defp repeatable(%{method: method}, false) when method not in @safe,
    do: {:error, "a #{method} is not repeated for another origin"}

  defp repeatable(%{body: body}, false) when body != nil,
    do: {:error, "a body is not sent to another origin"}

  defp repeatable(_request, _same?), do: :ok
end
