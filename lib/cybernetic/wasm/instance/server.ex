defmodule Cybernetic.WASM.Instance.Server do
  @moduledoc false
  # A named, supervised instance: the process that says whose turn it is. The one whose turn it is drives the guest itself,
  # in its own process; this one only watches it, and resets the guest when it was left poisoned.
  #
  # Where a source is given in the place of a module, a process beside this one loads it and makes the instance, and it is that
  # one's turn meanwhile. A source that cannot be loaded is the error of each call, and of no supervisor; it is tried again at the
  # next.

  use GenServer

  require Logger

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{CallError, Module, Options, Shown}
  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Instance.Live
  alias Cybernetic.WASM.Runtime.{Names, Registration}

  @options [
    module:
      {"a %Cybernetic.WASM.Module{}, {:name, text}, or the source of a module",
       &__MODULE__.module?/1},
    name: :any,
    on_poison: {:one_of, [:reset, :stop]},
    load: {"options of Cybernetic.WASM.Runtime.load_module/2", &Keyword.keyword?/1}
  ]

  @wait 5_000

  # How long a killed caller's guest may take to be let go: the end of a slice, and of the process.
  @letting_go 60_000

  # `make` is what makes the instance, where that is made of a source; a closure, so that no crash report shows its options.
  defstruct [:instance, :on_poison, :holder, :make, queue: :queue.new()]

  @doc false
  @spec module?(term) :: boolean
  def module?(module) when is_loaded(module), do: true
  def module?({:bytes, bytes}), do: is_binary(bytes)
  def module?({:name, name}), do: is_binary(name)
  def module?(path), do: is_binary(path)

  @doc "See `Cybernetic.WASM.Instance.start_link/1`."
  def start_link(opts) do
    known = @options ++ Live.options()
    checked = Options.check!(opts, known, "option of an instance's server")

    unless checked[:module],
      do: Module.needed!(nil, "option :module must be a %Cybernetic.WASM.Module{} or its source")

    {own, instance} = Keyword.split(opts, Keyword.keys(@options))
    name = if own[:name], do: [name: own[:name]], else: []
    state = %__MODULE__{on_poison: Keyword.get(own, :on_poison, :reset)}
    GenServer.start_link(__MODULE__, {own[:module], own[:load], instance, state}, name)
  end

  @doc "Runs `function` with the instance when it is the caller's turn."
  def borrow(server, function, opts) do
    ticket = make_ref()

    # Checked here: what the server cannot use would end it, and everybody else's instance with it.
    wait = opts |> Options.check!(Plan.in_line(), "option of a turn on an instance") |> wait()

    server = known!(server)

    case GenServer.call(server, {:check_out, ticket, wait}, :infinity) do
      {:ok, instance} ->
        try do
          function.(instance)
        after
          GenServer.cast(server, {:check_in, ticket})
        end

      error ->
        error
    end
  end

  @doc "Runs a call with these options, of which some say how long it may stand in line."
  def borrow_for(server, opts, function) do
    in_line =
      if Keyword.keyword?(opts), do: Keyword.take(opts, Keyword.keys(Plan.in_line())), else: opts

    borrow(server, function, in_line)
  end

  # A caller with less time than it may stand in line gives up when its time is over.
  defp wait(opts),
    do: Map.get_lazy(opts, :wait, fn -> min(@wait, Map.get(opts, :timeout, @wait)) end)

  @doc "The instance, to be looked at; `nil` while it is not there yet."
  def peek(server), do: GenServer.call(known!(server), :peek)

  @doc "Ends the process, and with it the instance."
  def stop(server), do: GenServer.stop(known!(server))

  # Its guest is driven by the caller, who has to be on its node. The first mistake of many is to call a module.
  defp known!(server) when is_pid(server) and node(server) == node(), do: server
  defp known!(server) when is_atom(server) and server not in [nil, true, false], do: server

  defp known!(server)
       when is_pid(server) or
              (tuple_size(server) == 2 and is_atom(elem(server, 0)) and is_atom(elem(server, 1))) or
              (tuple_size(server) == 2 and elem(server, 0) == :global) or
              (tuple_size(server) == 3 and elem(server, 0) == :via) do
    case GenServer.whereis(server) do
      pid when is_pid(pid) and node(pid) != node() -> elsewhere!(node(pid))
      {_name, node} -> elsewhere!(node)
      _here_or_nowhere -> server
    end
  end

  defp known!(other) do
    raise ArgumentError,
          "a live instance is needed, from Cybernetic.WASM.Instance.new/2, or the pid or name of an instance's server, got: #{Shown.term(other)}"
  end

  @spec elsewhere!(node) :: no_return
  defp elsewhere!(node) do
    raise ArgumentError,
          "the instance's server is on the node #{inspect(node)}, and a guest runs in its caller's process: " <>
            "call it there, with :erpc.call(#{inspect(node)}, …) for example"
  end

  @impl true
  def init({module, _load, opts, state}) when is_loaded(module) do
    case Live.new(module, opts) do
      {:ok, instance} -> {:ok, %{state | instance: instance}}
      {:error, error} -> {:stop, error}
    end
  end

  def init({source, load, opts, state}) do
    make = fn ->
      with {:ok, module} <- loaded(source, load || []), do: Live.new(module, opts)
    end

    {:ok, begin(%{state | make: make})}
  end

  defp loaded({:name, _text} = name, _load), do: Names.fetch(name)
  defp loaded(source, load), do: Registration.load(source, load)

  # What it raises, for a mistake in the options, is this process's end, too.
  defp begin(%{make: make} = state) do
    {maker, monitor} = spawn_monitor(__MODULE__, :make, [self(), make])
    %{state | holder: {{:making, maker}, monitor}}
  end

  @doc false
  @spec make(pid, (() -> term)) :: no_return
  def make(server, make) do
    Process.link(server)
    made = make.()
    Process.unlink(server)
    exit({:made, made})
  end

  @impl true
  def handle_call(:peek, _from, state), do: {:reply, state.instance, state}

  def handle_call({:check_out, ticket, wait}, {pid, _} = from, state) do
    waiting = {ticket, Process.monitor(pid), from}

    cond do
      state.holder == nil and state.instance != nil ->
        {:noreply, lend(waiting, state)}

      # The source could not be loaded before.
      state.holder == nil ->
        {:noreply, stand_in_line(waiting, wait, begin(state))}

      true ->
        {:noreply, stand_in_line(waiting, wait, state)}
    end
  end

  @impl true
  def handle_cast({:check_in, ticket}, %{holder: {ticket, monitor}} = state) do
    Process.demonitor(monitor, [:flush])
    next(state)
  end

  def handle_cast({:check_in, _ticket}, state), do: {:noreply, state}

  @impl true
  def handle_info(
        {:DOWN, monitor, :process, _, {:made, made}},
        %{holder: {{:making, _maker}, monitor}} = state
      ),
      do: {:noreply, made(made, %{state | holder: nil})}

  def handle_info(
        {:DOWN, monitor, :process, _, reason},
        %{holder: {{:making, _maker}, monitor}} = state
      ),
      do: {:stop, reason, state}

  def handle_info({:DOWN, monitor, :process, _, _}, %{holder: {_, monitor}} = state),
    do: next(state)

  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    {:noreply,
     leave(state, fn {_ticket, waiting, _from} -> waiting == monitor end, fn _ -> :ok end)}
  end

  def handle_info({:too_late, ticket}, state),
    do: {:noreply, leave(state, fn {waiting, _, _} -> waiting == ticket end, &refuse/1)}

  # A late answer of a call that a callback of the instance's start function made.
  def handle_info(_other, state), do: {:noreply, state}

  # A link ends nobody where the end is a normal one.
  @impl true
  def terminate(_reason, %{holder: {{:making, maker}, _monitor}}) do
    Process.unlink(maker)
    Process.exit(maker, :kill)
  end

  def terminate(_reason, _state), do: :ok

  defp stand_in_line(waiting, 0, state) do
    refuse(waiting)
    state
  end

  defp stand_in_line({ticket, _monitor, _from} = waiting, wait, state) do
    Process.send_after(self(), {:too_late, ticket}, wait)
    %{state | queue: :queue.in(waiting, state.queue)}
  end

  defp made({:ok, instance}, state), do: lend_to_next(%{state | instance: instance})

  defp made({:error, error}, state) do
    Logger.error("Cybernetic.WASM: #{name()} has no instance: #{Exception.message(error)}")
    leave(state, fn _everybody -> true end, &answer(&1, {:error, error}))
  end

  defp name do
    case Process.info(self(), :registered_name) do
      {:registered_name, name} when is_atom(name) -> inspect(name)
      _nameless -> inspect(self())
    end
  end

  defp leave(state, who, farewell) do
    {leaving, staying} = state.queue |> :queue.to_list() |> Enum.split_with(who)
    Enum.each(leaving, farewell)
    %{state | queue: :queue.from_list(staying)}
  end

  defp refuse(waiting), do: answer(waiting, {:error, %CallError{reason: :busy}})

  defp answer({_ticket, monitor, from}, answer) do
    Process.demonitor(monitor, [:flush])
    GenServer.reply(from, answer)
  end

  defp lend({ticket, monitor, from}, state) do
    GenServer.reply(from, {:ok, state.instance})
    %{state | holder: {ticket, monitor}}
  end

  # The instance is sound, or is made sound, before the next has it.
  defp next(state) do
    state = %{state | holder: nil}

    case recover(state) do
      :ok -> {:noreply, lend_to_next(state)}
      {:stop, reason} -> {:stop, reason, state}
    end
  end

  # A killed caller may not have let go of the guest yet: then it is as good as poisoned.
  defp recover(%{instance: instance, on_poison: on_poison}) do
    case Live.state(instance) do
      :idle -> :ok
      :closed -> {:stop, :normal}
      state when state in [:busy, :poisoned] -> recover(instance, on_poison)
    end
  end

  defp recover(_instance, :stop), do: {:stop, {:shutdown, :poisoned}}

  defp recover(instance, :reset) do
    case Live.reset(instance, wait: @letting_go) do
      :ok -> :ok
      {:error, error} -> {:stop, error}
    end
  end

  defp lend_to_next(state) do
    case :queue.out(state.queue) do
      {{:value, waiting}, queue} -> lend(waiting, %{state | queue: queue})
      {:empty, _queue} -> state
    end
  end
end
