defmodule Cybernetic.WASM.Execution.Errands do
  @moduledoc false
  # What there is to do for a guest's HTTP, in the process that drives it: the body of the request that it answers is pulled, and the
  # requests that it sends go through `HTTP.Client`, which holds them to the sandbox's network rules. Each is a step's own errand,
  # so the guest waits while it is run; nothing is read ahead of what it asks for.
  #
  # Open connections are in the process's dictionary under the key of the run, since a host function's own calls may use them
  # as well. They are the process's: whatever kills it closes them.

  alias Cybernetic.WASM.{Error, HTTPError, HostError, Native, Shown}
  alias Cybernetic.WASM.Execution.{Lane, Plan, Pull}
  alias Cybernetic.WASM.HTTP.{Asked, Client}

  @typedoc "What the guest answers: `{:answer, status, headers}`, `{:piece, bytes}` or `{:end, trailers}`."
  @type piece :: tuple

  # As that of the request that the call is for.
  @asked 0

  # A guest may say anything; the call's own time is shorter.
  @longest_connect 600_000

  @handle {"wasi:http/incoming-handler", "handle"}

  @doc "Runs an errand. What the guest answers is nobody's but the caller's."
  @spec run(reference, tuple | atom, Plan.t()) ::
          :ok | {:answer, piece} | {:refused, term} | {:error, Error.t()}
  def run(_execution, {tag, _, _} = answer, _plan) when tag == :answer, do: {:answer, answer}
  def run(_execution, {tag, _} = answer, _plan) when tag in [:piece, :end], do: {:answer, answer}

  def run(execution, :body, plan) do
    with {:ok, came} <- pulled(plan.asked, plan.errands), do: done(execution, @asked, came)
  end

  def run(execution, {:send, number, request}, plan) do
    case start(request, execution, plan) do
      {:ok, exchange, first} ->
        keep(plan, number, {exchange, first})

      {:error, error} ->
        done(execution, number, {:failed, why(error)})
    end
  end

  def run(execution, {:write, number, bytes}, plan),
    do: with_exchange(execution, number, plan, &Client.write(&1, bytes))

  def run(execution, {:finish, number, trailers}, plan),
    do: with_exchange(execution, number, plan, &Client.finish(&1, trailers))

  def run(execution, {:head, number}, plan) do
    with {exchange, first} <- opened(plan, number) do
      case head(exchange, first) do
        {:ok, response, exchange} ->
          keep(plan, number, {exchange, first})
          done(execution, number, {:head, response.status, response.headers})

        {:error, error} ->
          failed(execution, number, error, plan)
      end
    end
  end

  def run(execution, {:read, number}, plan) do
    with {exchange, first} <- opened(plan, number) do
      case Client.read(exchange) do
        {:ok, bytes, exchange} ->
          keep(plan, number, {exchange, first})
          done(execution, number, {:piece, bytes})

        {:done, trailers} ->
          drop(plan, number)
          done(execution, number, {:end, trailers})

        {:error, error} ->
          failed(execution, number, error, plan)
      end
    end
  end

  def run(_execution, {:close, number}, plan) do
    with {exchange, _first} <- opened(plan, number), do: Client.close(exchange)
    drop(plan, number)
  end

  defp head(exchange, nil), do: Client.head(exchange)
  defp head(exchange, first), do: Client.head(exchange, first)

  # Names and addresses are the rules' affair, and a rule names a port: `http:` is no more than another one.
  defp start({method, url, headers, has_body, connect, first}, execution, plan) do
    request = %{method: method, url: url, headers: headers, body: if(has_body, do: :open)}

    opts =
      [network: plan.sandbox, allow_http: true, timeout: time_left(execution)] ++
        if(connect, do: [connect_timeout: connect |> max(1) |> min(@longest_connect)], else: [])

    with {:ok, exchange} <- Client.start(request, opts), do: {:ok, exchange, first}
  end

  # A call has little left where another process has it in its hands.
  defp time_left(execution) do
    case Native.execution_time_left(execution) do
      {:refused, _busy} -> 0
      milliseconds -> milliseconds
    end
  end

  defp with_exchange(execution, number, plan, work) do
    with {exchange, first} <- opened(plan, number) do
      case work.(exchange) do
        {:ok, exchange} -> keep(plan, number, {exchange, first})
        {:error, error} -> failed(execution, number, error, plan)
      end
    end
  end

  defp failed(execution, number, error, plan) do
    drop(plan, number)
    done(execution, number, {:failed, why(error)})
  end

  # What a guest is told: no more than it could find out.
  defp why(%HTTPError{reason: :timeout, during: :resolve}), do: :resolve_timeout
  defp why(%HTTPError{reason: :timeout, during: :connect}), do: :connect_timeout
  defp why(%HTTPError{reason: :timeout, during: :send}), do: :send_timeout
  defp why(%HTTPError{reason: :timeout}), do: :receive_timeout
  defp why(%HTTPError{reason: :insecure}), do: :denied
  defp why(%HTTPError{reason: reason}), do: reason

  defp done(execution, number, came) do
    if large?(came),
      do: Native.execution_errand_done_dirty(execution, number, came),
      else: Native.execution_errand_done(execution, number, came)
  end

  defp large?({:piece, bytes}), do: Lane.large?(bytes)
  defp large?(_other), do: false

  # The body of the request that the guest answers

  defp pulled(%Asked{source: nil}, _key), do: {:ok, {:end, []}}

  defp pulled(%Asked{source: source, trailers: trailers}, key) do
    case Pull.next(key, source) do
      {:ok, nil} -> {:ok, {:end, trailers}}
      {:ok, {:piece, piece}} -> to_binary(piece, key)
      raised -> {:error, raised(raised)}
    end
  end

  defp to_binary(piece, key) do
    {:ok, {:piece, IO.iodata_to_binary(piece)}}
  rescue
    ArgumentError ->
      Pull.stop(key)
      text = "the body of a request is made of iodata, got: #{Shown.kind(piece)}"
      {:error, raised({:raised, :error, %ArgumentError{message: text}, __STACKTRACE__})}
  end

  # As of a host function: the guest's call is what failed.
  defp raised({:raised, kind, reason, stacktrace}),
    do: %HostError{kind: kind, reason: reason, stacktrace: stacktrace, import: @handle}

  # Connections

  defp opened(%Plan{errands: key}, number), do: Map.get(open(key), number, :ok)

  defp keep(%Plan{errands: key}, number, exchange) do
    Process.put({__MODULE__, key}, Map.put(open(key), number, exchange))
    :ok
  end

  defp drop(%Plan{errands: key}, number) do
    Process.put({__MODULE__, key}, Map.delete(open(key), number))
    :ok
  end

  defp open(key), do: Process.get({__MODULE__, key}, %{})

  @doc "Keeps of the answer what nobody takes just now."
  @spec keep_answer(Plan.t(), piece) :: :ok
  def keep_answer(%Plan{errands: key}, piece) do
    Process.put({__MODULE__, :answer, key}, [piece | Process.get({__MODULE__, :answer, key}, [])])
    :ok
  end

  @doc "Takes it, in order."
  @spec take_answers(Plan.t()) :: [piece]
  def take_answers(%Plan{errands: key}),
    do: Enum.reverse(Process.delete({__MODULE__, :answer, key}) || [])

  @doc "Ends all that is under way; what giving up the request's body raised, as an error."
  @spec close(Plan.t()) :: :ok | {:error, HostError.t()}
  def close(%Plan{errands: nil}), do: :ok

  def close(%Plan{errands: key} = plan) do
    _not_taken = take_answers(plan)

    for {_number, {exchange, _first}} <- Process.delete({__MODULE__, key}) || %{},
        do: Client.close(exchange)

    with {:raised, _, _, _} = raised <- Pull.close(key), do: {:error, raised(raised)}
  end
end
