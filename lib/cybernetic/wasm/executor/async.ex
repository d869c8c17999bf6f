defmodule Cybernetic.WASM.Executor.Async do
  @moduledoc """
  A call that runs in a process of its own: see `Cybernetic.WASM.Executor.async/4`. `pid` is the process to monitor.
  """

  alias Cybernetic.WASM.{Error, Executor, HostError, Shown}
  alias Cybernetic.WASM.Execution.{Call, Cancel}
  alias Cybernetic.WASM.Executor.Warden

  @supervisor Cybernetic.WASM.TaskSupervisor

  @enforce_keys [:pid, :ref, :cancel]
  # One that sends its output to a process has no task.
  defstruct [:pid, :ref, :cancel, :task]

  @typedoc "A call that runs in a process of its own. `ref` marks its messages."
  @type t :: %__MODULE__{pid: pid, ref: reference}

  @doc false
  @spec start({:ok, Call.t()} | {:error, Error.t()}, boolean, :link | :nolink) :: t
  def start(call, report, link) do
    {cancel, leader} = {Cancel.new(), Process.group_leader()}

    # What the guest or a host function writes goes where it would go without a process in between.
    work = fn ->
      Process.group_leader(self(), leader)
      with {:ok, call} <- call, do: Warden.run(call, cancel, &drive(&1, report))
    end

    supervisor = supervisor!()

    task =
      case link do
        :link -> Task.Supervisor.async(supervisor, work)
        :nolink -> Task.Supervisor.async_nolink(supervisor, work)
      end

    %__MODULE__{pid: task.pid, ref: task.ref, cancel: cancel, task: task}
  end

  # The one thing that is there only while the application runs.
  defp supervisor! do
    if Process.whereis(@supervisor),
      do: @supervisor,
      else:
        raise(
          "a call in a process of its own needs the library's application: start :cybernetic_wasm first, " <>
            "with Application.ensure_all_started(:cybernetic_wasm)"
        )
  end

  defp drive(call, false) do
    with {:ok, result, _tally} <- Call.run(call), do: {:ok, result}
  end

  defp drive(call, true) do
    with {:ok, result, tally} <- call |> Call.reporting() |> Call.run(),
         do: {:ok, Call.finished(call, result, tally)}
  end

  @doc false
  # Sends the call's output to `consumer`.
  @spec deliver(Call.t(), pid, pos_integer) :: t
  def deliver(call, consumer, credit) do
    {cancel, ref, leader} = {Cancel.new(), make_ref(), Process.group_leader()}

    {:ok, pid} =
      Task.Supervisor.start_child(supervisor!(), fn ->
        Process.group_leader(self(), leader)
        warden = self()
        drive = &Executor.Stream.deliver(&1, {consumer, ref}, warden, credit)
        result = Warden.run(call, cancel, drive, consumer)
        with {:error, error} <- result, do: send(consumer, {ref, {:failed, error}})
      end)

    %__MODULE__{pid: pid, ref: ref, cancel: cancel}
  end

  @doc false
  @spec demand(t, pos_integer) :: :ok
  def demand(%__MODULE__{pid: pid, cancel: cancel, task: nil}, more),
    do: Warden.credit(pid, cancel, more)

  def demand(%__MODULE__{}, _more),
    do: raise(ArgumentError, "demand/2 is for a call that Executor.stream/4 started with into:")

  @doc false
  @spec await(t, timeout) :: {:ok, term} | {:error, Error.t()}
  def await(async, timeout) do
    with nil <- yield(async, timeout) do
      Process.demonitor(async.ref, [:flush])
      exit({:timeout, {Cybernetic.WASM.Executor, :await, [async, timeout]}})
    end
  end

  @doc false
  @spec yield(t, timeout) :: {:ok, term} | {:error, Error.t()} | nil
  def yield(%__MODULE__{task: %Task{} = task}, timeout),
    do: task |> Task.yield(timeout) |> result()

  def yield(%__MODULE__{}, _timeout) do
    raise ArgumentError, "a call that Executor.stream/4 started with into: sends its result there"
  end

  @doc false
  @spec cancel(t, term, timeout) :: {:ok, term} | {:error, Error.t()} | :ok
  def cancel(%__MODULE__{pid: pid, cancel: cancel} = async, reason, grace) do
    Warden.cancel(pid, cancel, reason, grace)
    monitor = Process.monitor(pid)
    reason = receive do: ({:DOWN, ^monitor, :process, _, reason} -> reason)
    if async.task && async.task.owner == self(), do: ended(async.task, reason), else: :ok
  end

  # What has been awaited or cancelled before has no result any more. One that somebody kills just now tells both monitors, in
  # either order.
  defp ended(task, reason) do
    cond do
      result = task |> Task.yield(0) |> result() -> result
      reason in [:normal, :noproc] -> :ok
      Process.demonitor(task.ref, [:flush]) -> result({:exit, reason})
    end
  end

  defp result({:ok, result}), do: result
  defp result({:exit, reason}), do: {:error, %HostError{kind: :exit, reason: reason}}
  defp result(nil), do: nil

  @doc false
  @spec stream(Enumerable.t(), {:ok, Call.t()} | {:error, Error.t()}, {boolean, keyword}) ::
          Enumerable.t()
  def stream(enumerable, call, {report, opts}) do
    # The process that reads the stream, which is the one that goes through the enumerable.
    calls = Stream.map(enumerable, &{self(), Process.group_leader(), with_args(call, &1)})

    work = fn {reader, leader, call} ->
      Process.group_leader(self(), leader)

      with {:ok, call} <- call,
           do: Warden.run(call, Cancel.new(), &drive(&1, report), reader)
    end

    # The call's own limit ends each, from outside if need be.
    supervisor!()
    |> Task.Supervisor.async_stream_nolink(calls, work, [timeout: :infinity] ++ opts)
    |> Stream.map(&result/1)
  end

  defp with_args({:ok, call}, args) when length(args) >= 0, do: Call.with_args(call, args)
  defp with_args({:error, error}, args) when length(args) >= 0, do: {:error, error}

  # The caller's mistake, for which no task need crash.
  defp with_args(_call, other) do
    raise ArgumentError,
          "each element must be a proper list of arguments, got: #{Shown.kind(other)}"
  end

  defimpl Inspect do
    def inspect(async, _opts),
      do: "#Cybernetic.WASM.Executor.Async<#{Kernel.inspect(async.pid)}>"
  end
end
