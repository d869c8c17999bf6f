defmodule Cybernetic.WASM.HTTP do
  @moduledoc """
  HTTP requests that a component answers, by its `wasi:http/incoming-handler`.

  The calling process drives the component, as in any other call: no server and no task is started for it. A request's body is
  pulled as the component reads it, and its answer's is handed over as it writes it, so neither runs ahead of the other
  side. Any server can stand in front: see "Behind a server".

  | | |
  |---|---|
  | instance | a fresh one for each request of a component; that of a live instance, one request after the other |
  | grants | the sandbox's, as for every call. What the component asks of other servers goes out by `Cybernetic.WASM.HTTP.Client`, within `network:`: names are looked up once, private addresses need a rule, no redirection is followed, at most 16 requests at once. |
  | limits | the call's: time, fuel and memory until the end of the answer; what leaves the component, its answer and the requests that it sends, counts as `max_output` |
  | headers | of a request 100 and 65,536 bytes at most, of an answer as many bytes as the host holds them in; names that belong to a connection, such as `host` and `connection`, neither go in nor come out |

  A component that traps, exceeds a limit, or never answers in its time fails as any call does. One that returns without an answer, or
  before the end of its body, or answers with an error code, is a `Cybernetic.WASM.HTTPError` with the reason `:no_answer`,
  `:unfinished` or `:refused`, and the blame `:guest`.

  ## Requests

  A map, or a keyword list, with these keys, all of which may be left out:

    * `:method` - a text or an atom; default `"GET"`
    * `:path` - with its query, default `"/"`
    * `:scheme` - `:http` (default) or `:https`, which the component is told
    * `:authority` - host and port; default what a header `host` says, and else `"localhost"`
    * `:headers` - a list of names and values, both texts
    * `:body` - bytes as a binary or a list, an enumerable of such, or `nil`
    * `:trailers` - names and values behind the body; default `[]`

  ## Options

  Those of a call (`t:Cybernetic.WASM.Executor.option/0`), and:

    * `:stream` - `true`: the answer is given when it begins, and its body is a stream, which drives the component as far as it
      is read. It is read once, in the same process; its elements are binaries. An error after the beginning is raised
      there. Whoever stops reading gives the component up; one that is never read is given up with its process. Default: `false`,
      the body is a binary.
    * `:tagged` - `true`, with `:stream`: the elements are `{:data, bytes}`, `{:trailers, list}` if there are any, and at the end
      `{:done, run}` with a `Cybernetic.WASM.Run`

  ## Behind a server

  A Plug, for instance, which sends the answer on while the component makes it:

      def call(conn, _opts) do
        request = %{method: conn.method, path: path(conn), headers: conn.req_headers, body: body(conn)}

        case HTTP.handle(:site, request, stream: true) do
          {:ok, response} ->
            conn = conn |> merge_resp_headers(response.headers) |> send_chunked(response.status)
            Enum.reduce_while(response.body, conn, &chunk_or_stop/2)

          {:error, error} ->
            send_resp(conn, if(Error.transient?(error), do: 503, else: 502), "")
        end
      end

  ## Examples

      iex> alias Cybernetic.WASM.{HTTP, Runtime}
      iex> {:ok, site} = Runtime.load_module("test/fixtures/components/wasi/site.wasm")
      iex> {:ok, response} = HTTP.handle(site, %{path: "/"})
      iex> {response.status, response.headers, response.body}
      {200, [{"content-type", "text/plain"}], "Hello, world!"}
      iex> pieces = Stream.map(1..3, &"line \#{&1}\\n")
      iex> {:ok, response} = HTTP.handle(site, %{method: :post, path: "/echo", body: pieces}, stream: true)
      iex> Enum.join(response.body)
      "line 1\\nline 2\\nline 3\\n"
      iex> {:error, error} = HTTP.handle(site, %{path: "/mute"})
      iex> {error.reason, error.blame}
      {:no_answer, :guest}
  """

  alias Cybernetic.WASM.{Error, Execution, HTTPError, Instance, Module, Options, Run}
  alias Cybernetic.WASM.Execution.{Call, Opened, Plan}
  alias Cybernetic.WASM.HTTP.{Asked, Response}

  @handler "wasi:http/incoming-handler#handle"
  @own [stream: :boolean, tagged: :boolean]

  @typedoc "A request: see above."
  @type request :: map | keyword

  @doc """
  Has a component, the name of one, or a live instance answer a request.

  The answer's `url` is `nil`. With `stream: true` its `body` is an enumerable, and its `trailers` are `nil`.
  """
  @spec handle(Module.given() | Instance.t(), request, keyword) ::
          {:ok, Response.t()} | {:error, Error.t() | HTTPError.t()}
  def handle(component, request, opts \\ []) do
    {own, opts} = own!(opts)

    with {:ok, asked} <- Asked.new(request),
         {:ok, call} <- Call.new(component, @handler, [], opts),
         {:ok, opened} <- call |> answering(asked, own) |> Opened.open(),
         do: opened |> begin() |> answered(own)
  end

  defp own!(opts) do
    unless Keyword.keyword?(opts), do: raise(ArgumentError, "options must be a keyword list")
    {own, opts} = Keyword.split(opts, Keyword.keys(@own))
    own = Options.check!(own, @own, "option of an answer")

    if own[:tagged] && !own[:stream],
      do:
        raise(ArgumentError, "option :tagged says what a stream is of: give stream: true as well")

    {own, opts}
  end

  defp answering(%Call{plan: plan} = call, asked, own) do
    plan = %{plan | asked: asked, abi: nil}
    %{call | plan: if(own[:tagged], do: Plan.reporting(plan), else: plan)}
  end

  # To the beginning of the answer.
  defp begin(opened) do
    case opened |> Opened.start() |> Execution.drive_to_answer(opened.plan) |> advanced(opened) do
      {[{:answer, status, headers} | pieces], state} ->
        {:ok, %Response{status: status, headers: headers}, {pieces, state}}

      {:error, error} ->
        {:error, error}
    end
  end

  defp advanced({:answer, pieces, suspended}, opened),
    do: {pieces, {:suspended, suspended, opened}}

  defp advanced(ended, opened) do
    case Opened.finish(ended, opened) do
      {:ok, _nothing, tally} -> {[], {:done, tally}}
      {:error, error} -> {:error, error}
    end
  end

  defp answered({:error, error}, _own), do: {:error, error}

  defp answered({:ok, response, begun}, %{stream: true} = own),
    do: {:ok, %{response | body: stream(begun, Map.get(own, :tagged, false))}}

  defp answered({:ok, response, begun}, _own), do: gather(begun, response, [])

  defp gather({pieces, state}, response, body) do
    case {Enum.reduce(pieces, {response, body}, &gathered/2), state} do
      {{response, body}, {:done, _tally}} ->
        {:ok, %{response | body: IO.iodata_to_binary(body)}}

      {{response, body}, state} ->
        with {pieces, state} when is_list(pieces) <- go_on(state),
             do: gather({pieces, state}, response, body)
    end
  end

  defp gathered({:piece, bytes}, {response, body}), do: {response, [body, bytes]}
  defp gathered({:end, trailers}, {response, body}), do: {%{response | trailers: trailers}, body}

  defp go_on({:suspended, suspended, opened}),
    do: suspended |> Execution.go_on_to_answer() |> advanced(opened)

  defp stream(begun, tagged),
    do: Stream.resource(fn -> begun end, &next(&1, tagged), &halt/1)

  defp next({[], :ended}, _tagged), do: {:halt, :ended}

  defp next({[], {:done, tally}}, tagged),
    do: {if(tagged, do: [{:done, Run.new(nil, tally)}], else: []), {[], :ended}}

  defp next({[], state}, _tagged) do
    case go_on(state) do
      {:error, error} -> Error.raise!(error)
      next -> {[], next}
    end
  end

  defp next({pieces, state}, true), do: {Enum.flat_map(pieces, &tagged/1), {[], state}}
  defp next({pieces, state}, false), do: {for({:piece, bytes} <- pieces, do: bytes), {[], state}}

  defp tagged({:piece, bytes}), do: [{:data, bytes}]
  defp tagged({:end, []}), do: []
  defp tagged({:end, trailers}), do: [{:trailers, trailers}]

  defp halt({_pieces, {:suspended, suspended, opened}}) do
    :ok = Execution.abandon(suspended)
    Opened.release(opened)
  end

  defp halt(_ended), do: :ok
end
