defmodule Cybernetic.WASM.Runtime.Registry do
  @moduledoc false
  # The one process that changes what is loaded under names, so that two changes at once come one after the other. It keeps
  # nothing to itself: all is in the table of `Runtime.Names`, which is not its own. Each change is written at once, with what is
  # to be read of it later, so that one that is killed leaves nothing halfway; the next finds everything there.
  #
  # It fetches, compiles and tries out nothing: whoever changes something comes with a module that is ready.

  use GenServer

  alias Cybernetic.WASM.{CallError, LoadError, Module}
  alias Cybernetic.WASM.Runtime.{History, Names, Transitions, Versions}

  # How often, and after how many milliseconds, it is asked again while it is being started anew.
  @tries 100
  @pause 20

  @typedoc """
  A module that is to be put under a name. `wanted` is its version: `{:exactly, version}`, `{:rather, version}`, which gives way
  to one that is there, or `:next`. `current` is whether calls of the bare name get it: `:unless_older` than the current one, a
  load puts it beside that, and a reload is refused. `instead_of` is the serial that is to be current still, or `:any`. `keep` are the versions
  that may stay of those that are replaced, and `drain` after how many milliseconds the replaced one goes. `refused` are the
  versions that it cannot be, for the operator's pins.
  """
  @type request :: %{
          serial: Versions.serial(),
          name: String.t(),
          module: Module.loaded(),
          wanted: {:exactly | :rather, String.t()} | :next,
          current: boolean | :unless_older,
          action: :loaded | :reloaded,
          instead_of: Versions.serial() | :any,
          keep: non_neg_integer | :all,
          drain: non_neg_integer | nil,
          refused: %{String.t() => LoadError.t()},
          facts: map,
          said: map
        }

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Puts a module under a name, and gives it as it is there. `:unchanged` where it is there already, and `{:moved, serial}` where
  another version has become current.
  """
  @spec put(request) ::
          {:ok | :unchanged, Module.loaded()}
          | {:moved, Versions.serial()}
          | {:error, LoadError.t()}
  def put(request), do: ask({:put, request})

  @doc "Has what is known of the load of a version be this, which reloads go by. One that has gone is none."
  @spec renew(Versions.serial(), map) :: :ok
  def renew(serial, facts), do: ask({:renew, serial, facts})

  @doc "Makes a version current."
  @spec promote(String.t(), String.t(), map) :: {:ok, Module.loaded()} | {:error, CallError.t()}
  def promote(name, version, said), do: ask({:promote, name, version, said})

  @doc "Makes the version current that was before. Where another than `from` is current, somebody else has done so by now."
  @spec rollback(String.t(), Versions.serial(), map) ::
          {:ok, Module.loaded()} | {:error, CallError.t()}
  def rollback(name, from, said), do: ask({:rollback, name, from, said})

  @doc "Shares the calls of a bare name out."
  @spec split(String.t(), %{String.t() => pos_integer}, :random | :process, map) ::
          :ok | {:error, CallError.t()}
  def split(name, weights, by, said), do: ask({:split, name, weights, by, said})

  @doc "Lets go of a name, or of one of its versions."
  @spec unload(String.t(), String.t() | :all, map) :: :ok | {:error, CallError.t()}
  def unload(name, version, said), do: ask({:unload, name, version, said})

  @doc "Has the calling process told of changes, or no longer."
  @spec subscribe(String.t() | :all, boolean) :: :ok
  def subscribe(of, wanted), do: ask({if(wanted, do: :subscribe, else: :unsubscribe), self(), of})

  @doc "A serial number for a module; a later one is larger."
  @spec serial() :: Versions.serial()
  def serial, do: System.unique_integer([:positive, :monotonic])

  # Killed, it is there again at once, and whatever it is asked a second time it does once: `promote` and `split` by their
  # nature, the others since the request says from which state they start.
  defp ask(request, tries \\ @tries) do
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, _gone when tries == 0 ->
      Names.not_started!()

    :exit, {_reason, {GenServer, :call, _}} ->
      # Where the application does not run nobody will start it.
      _there = Names.all()
      Process.sleep(@pause)
      ask(request, tries - 1)
  end

  # The process

  @impl true
  def init(_opts) do
    for {entry, _module} <- Names.entries(), do: Transitions.arm(entry)
    # Whoever was here before may have been killed with one step to go.
    for versions <- Names.all(), do: Names.write(versions, [])
    Names.forget_orphans()
    {:ok, for({pid, _names} <- History.subscribers(), into: %{}, do: {pid, Process.monitor(pid)})}
  end

  @impl true
  def handle_call({:subscribe, pid, of}, _from, monitors) do
    History.subscribe(pid, of)
    {:reply, :ok, Map.put_new_lazy(monitors, pid, fn -> Process.monitor(pid) end)}
  end

  def handle_call({:unsubscribe, pid, of}, _from, monitors) do
    if History.unsubscribe(pid, of) do
      {monitor, monitors} = Map.pop(monitors, pid)
      if monitor, do: Process.demonitor(monitor, [:flush])
      {:reply, :ok, monitors}
    else
      {:reply, :ok, monitors}
    end
  end

  def handle_call(request, _from, monitors), do: {:reply, Transitions.make(request), monitors}

  @impl true
  def handle_cast({:asked, name, text}, monitors) do
    Transitions.asked(name, text)
    {:noreply, monitors}
  end

  def handle_cast(_other, monitors), do: {:noreply, monitors}

  @impl true
  def handle_info({:drain, name, serial}, monitors) do
    Transitions.drained(name, serial)
    {:noreply, monitors}
  end

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, monitors) do
    History.forget(pid)
    {:noreply, Map.delete(monitors, pid)}
  end

  def handle_info(_other, monitors), do: {:noreply, monitors}
end
