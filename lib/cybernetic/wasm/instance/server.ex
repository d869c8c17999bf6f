defmodule Cybernetic.WASM.Instance.Server do
  @moduledoc false
  # A named, supervised instance: the process that says whose turn it is. The one whose turn it is drives the guest itself,
  # in its own process; this one only watches it, and resets the guest when it was left poisoned.

  use GenServer

  alias Cybernetic.WASM.{CallError, Module, Options, Shown}

  @options [module: {:struct, Module}, name: :any, on_poison: {:one_of, [:reset, :stop]}]
  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Instance.Live

  @wait 5_000

  # How long a killed caller's guest may take to be let go: the end of a slice, and of the process.
  @letting_go 60_000

  defstruct [:instance, :on_poison, :holder, queue: :queue.new()]

  @doc "See `Cybernetic.WASM.Instance.start_link/1`."
  def start_link(opts) do
    known = @options ++ Live.options()
    checked = Options.check!(opts, known, "option of an instance's server")

    unless is_struct(checked[:module], Module),
      do: Module.needed!(checked[:module], "option :module must be a %Cybernetic.WASM.Module{}")

    {own, instance} = Keyword.split(opts, Keyword.keys(@options))
    name = if own[:name], do: [name: own[:name]], else: []
    on_poison = Keyword.get(own, :on_poison, :reset)
    GenServer.start_link(__MODULE__, {own[:module], instance, on_poison}, name)
  end

  @doc "Runs `function` with the instance when it is the caller's turn."
  def borrow(server, function, opts) do
    ticket = make_ref()

    # Checked here: what the server cannot use would end it, and everybody else's instance with it.
    wait = opts |> Options.check!(Plan.in_line(), "option of a turn on an instance") |> wait()

    case GenServer.call(known!(server), {:check_out, ticket, wait}, :infinity) do
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

  @doc "The instance, to be looked at."
  def peek(server), do: GenServer.call(known!(server), :peek)

  @doc "Ends the process, and with it the instance."
  def stop(server), do: GenServer.stop(known!(server))

  # The first mistake of many is to call a module.
  defp known!(server)
       when is_pid(server) or is_tuple(server) or
              (is_atom(server) and server not in [nil, true, false]),
       do: server

  defp known!(other) do
    raise ArgumentError,
          "a live instance is needed, from Cybernetic.WASM.Instance.new/2, or the pid or name of an instance's server, got: #{Shown.term(other)}"
  end

  @impl true
  def init({module, opts, on_poison}) do
    case Live.new(module, opts) do
      {:ok, instance} -> {:ok, %__MODULE__{instance: instance, on_poison: on_poison}}
      {:error, error} -> {:stop, error}
    end
  end

  @impl true
  def handle_call(:peek, _from, state), do: {:reply, state.instance, state}

  def handle_call({:check_out, ticket, wait}, {pid, _} = from, state) do
    waiting = {ticket, Process.monitor(pid), from}

    cond do
      state.holder == nil ->
        {:noreply, lend(waiting, state)}

      wait == 0 ->
        refuse(waiting)
        {:noreply, state}

      true ->
        Process.send_after(self(), {:too_late, ticket}, wait)
        {:noreply, %{state | queue: :queue.in(waiting, state.queue)}}
    end
  end

  @impl true
  def handle_cast({:check_in, ticket}, %{holder: {ticket, monitor}} = state) do
    Process.demonitor(monitor, [:flush])
    next(state)
  end

  def handle_cast({:check_in, _ticket}, state), do: {:noreply, state}

  @impl true
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

  defp leave(state, who, farewell) do
    {leaving, staying} = state.queue |> :queue.to_list() |> Enum.split_with(who)
    Enum.each(leaving, farewell)
    %{state | queue: :queue.from_list(staying)}
  end

  defp refuse({_ticket, monitor, from}) do
    Process.demonitor(monitor, [:flush])
    GenServer.reply(from, {:error, %CallError{reason: :busy}})
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
