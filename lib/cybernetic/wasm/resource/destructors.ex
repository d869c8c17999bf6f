defmodule Cybernetic.WASM.Resource.Destructors do
  @moduledoc false
  # Ends resources of the host's that no guest owns any more. Rust tells of each once, whatever has become of the guest and of
  # the process that called it: so that is none to run a destructor in. Each runs in a process of its own; those of one guest one
  # after the other, in the order in which they came. One that fails is logged, and the next has its turn.

  use GenServer

  require Logger

  @doc "Starts it, under its own name."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_arg), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  # `running` are the guests by the monitors of what runs for them, `waiting` is what has to wait, by guest.
  @impl true
  def init(nil), do: {:ok, %{running: %{}, waiting: %{}}}

  @impl true
  def handle_info({:ended, guest, function, resource}, %{waiting: waiting} = state) do
    case waiting do
      %{^guest => queue} ->
        {:noreply, put_in(state.waiting[guest], :queue.in({function, resource}, queue))}

      %{} ->
        {:noreply, run({function, resource}, guest, put_in(state.waiting[guest], :queue.new()))}
    end
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{running: running} = state) do
    {guest, running} = Map.pop!(running, monitor)
    {:noreply, next(guest, %{state | running: running})}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp next(guest, %{waiting: waiting} = state) do
    case :queue.out(waiting[guest]) do
      {{:value, ended}, queue} -> run(ended, guest, put_in(state.waiting[guest], queue))
      {:empty, _queue} -> %{state | waiting: Map.delete(waiting, guest)}
    end
  end

  defp run(ended, guest, state) do
    {_pid, monitor} = spawn_monitor(fn -> finish(ended) end)
    put_in(state.running[monitor], guest)
  end

  # What it raised may hold the resource, which is nobody's business.
  defp finish({function, resource}) do
    function.(resource)
  catch
    kind, reason ->
      Logger.error(
        "Cybernetic.WASM: a destructor of resources, #{inspect(function)}, failed: #{failure(kind, reason)}"
      )
  end

  defp failure(:error, reason), do: inspect(Exception.normalize(:error, reason).__struct__)
  defp failure(kind, _reason), do: Atom.to_string(kind)
end
