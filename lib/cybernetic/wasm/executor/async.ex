defmodule Cybernetic.WASM.Executor.Async do
  @moduledoc """
  A call that runs in a process of its own: see `Cybernetic.WASM.Executor.async/4`. `pid` is the process to monitor.
  """

  alias Cybernetic.WASM.{Error, HostError, Native, Run}
  alias Cybernetic.WASM.Execution.{Call, Plan}
  alias Cybernetic.WASM.Executor.{Output, Warden}

  @supervisor Cybernetic.WASM.TaskSupervisor

  @enforce_keys [:pid, :ref, :cancel]
  # One that sends its output to a process has no task.
  defstruct [:pid, :ref, :cancel, :task]

  @typedoc "A call that runs in a process of its own. `ref` marks its messages."
  @type t :: %__MODULE__{pid: pid, ref: reference}

  @doc false
  @spec start({:ok, Call.t()} | {:error, Error.t()}, boolean, :link | :nolink) :: t
  def start(call, report, link) do
    cancel = Native.cancel_new()
    work = fn -> with {:ok, call} <- call, do: Warden.run(call, cancel, &drive(&1, report)) end

    task =
      case link do
        :link -> Task.Supervisor.async(@supervisor, work)
        :nolink -> Task.Supervisor.async_nolink(@supervisor, work)
      end

    %__MODULE__{pid: task.pid, ref: task.ref, cancel: cancel, task: task}
  end

  defp drive(call, false) do
    with {:ok, result, _usage} <- Call.run(call), do: {:ok, result}
  end

  defp drive(call, true) do
    with {:ok, result, usage} <- Call.run(%{call | plan: Plan.reporting(call.plan)}),
         do: {:ok, Run.new(result, usage)}
  end

  @doc false
  # Sends the call's output to `consumer`.
  @spec deliver(Call.t(), pid, pos_integer) :: t
  def deliver(call, consumer, credit) do
    {cancel, ref} = {Native.cancel_new(), make_ref()}

    {:ok, pid} =
      Task.Supervisor.start_child(@supervisor, fn ->
        result = Warden.run(call, cancel, &Output.deliver(&1, {consumer, ref}, credit))
        with {:error, error} <- result, do: send(consumer, {ref, {:failed, error}})
      end)

    %__MODULE__{pid: pid, ref: ref, cancel: cancel}
  end

  @doc false
  @spec demand(t, pos_integer) :: :ok
  def demand(%__MODULE__{pid: pid, ref: ref, task: nil}, more),
    do: Warden.tell(pid, {ref, {:credit, more}})

  @doc false
  @spec await(t, timeout) :: {:ok, term} | {:error, Error.t()}
  def await(%__MODULE__{task: %Task{} = task}, timeout), do: Task.await(task, timeout)

  @doc false
  @spec yield(t, timeout) :: {:ok, term} | {:error, Error.t()} | nil
  def yield(%__MODULE__{task: %Task{} = task}, timeout),
    do: task |> Task.yield(timeout) |> result()

  @doc false
  @spec cancel(t, term, timeout) :: {:ok, term} | {:error, Error.t()} | :ok
  def cancel(%__MODULE__{pid: pid, task: task, cancel: cancel}, reason, grace) do
    Warden.cancel(pid, cancel, reason, grace)

    if task && task.owner == self() do
      task |> Task.yield(:infinity) |> result()
    else
      monitor = Process.monitor(pid)
      receive do: ({:DOWN, ^monitor, :process, _, _} -> :ok)
    end
  end

  defp result({:ok, result}), do: result
  defp result({:exit, reason}), do: {:error, %HostError{kind: :exit, reason: reason}}
  defp result(nil), do: nil

  @doc false
  @spec stream(Enumerable.t(), (term -> {:ok, Call.t()} | {:error, Error.t()}), keyword) ::
          Enumerable.t()
  def stream(enumerable, make, opts) do
    work = fn element ->
      with {:ok, call} <- make.(element),
           do: Warden.run(call, Native.cancel_new(), &drive(&1, false))
    end

    # The call's own limit ends each, from outside if need be.
    @supervisor
    |> Task.Supervisor.async_stream_nolink(enumerable, work, [timeout: :infinity] ++ opts)
    |> Stream.map(&result/1)
  end

  defimpl Inspect do
    def inspect(async, _opts),
      do: "#Cybernetic.WASM.Executor.Async<#{Kernel.inspect(async.pid)}>"
  end
end
