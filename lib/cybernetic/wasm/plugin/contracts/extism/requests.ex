defmodule Cybernetic.WASM.Plugin.Contracts.Extism.Requests do
  @moduledoc false
  # Requests over the network of plugins made for Extism, by the library's client and under the sandbox's grant. What a plugin asks
  # for is JSON: a URL, a method and headers; a body is a block of its own.

  alias Cybernetic.WASM.{Error, Execution, JSON, Options}
  alias Cybernetic.WASM.HTTP.Client
  alias Cybernetic.WASM.Plugin.{Complaint, Extism}

  @most_request 1_048_576
  @most_requests 100

  @doc "The host function, with these options of the client."
  @spec function(keyword) :: function
  def function(opts) do
    {own, opts} = Keyword.split(opts, [:max_requests])
    own = Options.check!(own, [max_requests: :count], "option of a plugin's requests")
    most = Map.get(own, :max_requests, @most_requests)
    fn ctx, request, body -> answer(ctx, {request, body}, {opts, most}) end
  end

  defp answer(ctx, {request, body}, {opts, most}) do
    :ok = count(ctx, most)

    with {:ok, text} <- Extism.read(ctx, request),
         {:ok, wanted} <- wanted(text),
         {:ok, body} <- Extism.read(ctx, body),
         opts = Keyword.merge(opts, network: ctx),
         {:ok, response} <- Client.request(Map.put(wanted, :body, body(body)), opts) do
      give(ctx, response)
    else
      {:error, words} when is_binary(words) -> Complaint.raise!(ctx, %{detail: words})
      {:error, error} -> Complaint.raise!(ctx, %{detail: Exception.message(error)})
    end
  end

  # Each call is an execution of its own, driven by this process. What is kept of it is no reference, which would hold it.
  defp count(%{execution: execution} = ctx, most) do
    call = :erlang.ref_to_list(execution)

    done =
      case Process.get(__MODULE__) do
        {^call, done} -> done
        _another_call -> 0
      end

    if done >= most,
      do: Complaint.raise!(ctx, %{detail: "more than #{most} requests in one call"})

    Process.put(__MODULE__, {call, done + 1})
    :ok
  end

  defp body(""), do: nil
  defp body(bytes), do: bytes

  defp wanted(text) do
    with {:ok, %{"url" => url} = wanted} when is_binary(url) <- JSON.decode(text, @most_request),
         {:ok, headers} <- headers(wanted["headers"] || wanted["header"] || %{}),
         method when is_binary(method) <- wanted["method"] || "GET" do
      {:ok, %{url: url, method: method, headers: headers}}
    else
      {:error, words} -> {:error, "no request: #{words}"}
      _other -> {:error, "no request: it needs a url, and a method and headers that are texts"}
    end
  end

  defp headers(%{} = headers) do
    if Enum.all?(headers, fn {_name, value} -> is_binary(value) end),
      do: {:ok, Enum.to_list(headers)},
      else: {:error, "headers are texts"}
  end

  defp headers(_other), do: {:error, "headers are an object"}

  defp give(ctx, response) do
    headers =
      for {name, value} <- response.headers, reduce: %{} do
        all -> Map.update(all, name, printable(value), &(&1 <> ", " <> printable(value)))
      end

    {:ok, _} = Execution.command(ctx, {:answered, response.status, JSON.encode(headers)})
    ctx |> Extism.write(response.body) |> Error.unwrap!()
  end

  defp printable(value), do: if(String.valid?(value), do: value, else: inspect(value))
end
