defmodule Cybernetic.WASM.Boot do
  @moduledoc false
  # The modules that the configuration lists: they are loaded under their names when the application starts, all at once. One
  # that is required has to come; of any other that does not there is a line in the log.

  require Logger

  alias Cybernetic.WASM.{Options, Runtime, Sandbox, Shown, TaskSupervisor}

  # Of pins that nothing went by.
  @most_named 20

  # What an entry has beside the options of its load.
  @own [source: :any, required: :boolean]

  @typedoc """
  An entry of the list: `:source`, `:required`, and options of `Cybernetic.WASM.Runtime.load_module/2`, of which the sandbox may be
  the options of one.
  """
  @type entry :: keyword

  @typep outcome :: :loaded | {:failed | :mistaken, String.t()}

  @doc "Loads them, or says in a sentence why the application cannot start."
  @spec load([entry]) :: :ok | {:error, String.t()}
  def load([]), do: :ok

  def load(entries) do
    with :ok <- entries |> Enum.zip(outcomes(entries)) |> Enum.reduce(:ok, &tell/2),
         do: tell_unused(Runtime.unused_pins())
  end

  # A pin whose name somebody misspelt holds nothing. It may as well be for what is loaded later.
  defp tell_unused([]), do: :ok

  defp tell_unused(pins) do
    {named, others} = Enum.split(pins, @most_named)
    more = if others == [], do: "", else: " and #{length(others)} more"

    Logger.notice(
      "Cybernetic.WASM: no module of modules: goes by these pins: #{Enum.map_join(named, ", ", &Shown.name/1)}#{more}. " <>
        "If they are for what is loaded later, all is well; Runtime.unused_pins/0 lists those that no load has gone by"
    )
  end

  # None waits for one of another name, and one that is killed takes none of those with it. Those of one name come in the order
  # of the list: the last is current.
  defp outcomes(entries) do
    groups = entries |> Enum.with_index() |> Enum.group_by(&group/1) |> Map.values()

    TaskSupervisor
    |> Task.Supervisor.async_stream_nolink(groups, &load_in_order/1, timeout: :infinity)
    |> Enum.zip(groups)
    |> Enum.flat_map(&outcomes_of/1)
    |> Enum.sort_by(fn {place, _outcome} -> place end)
    |> Enum.map(fn {_place, outcome} -> outcome end)
  end

  defp group({entry, place}), do: entry[:name] || place

  defp load_in_order(group), do: for({entry, place} <- group, do: {place, load_one(entry)})

  defp outcomes_of({{:ok, outcomes}, _group}), do: outcomes

  defp outcomes_of({{:exit, reason}, group}) do
    for {_entry, place} <- group,
        do: {place, {:failed, "its load ended with #{Shown.kind(reason)}"}}
  end

  @spec load_one(entry) :: outcome
  defp load_one(entry) do
    {own, opts} = Keyword.split(entry, Keyword.keys(@own))

    case own |> source!() |> Runtime.load_module(sandboxed(opts)) do
      {:ok, _module} -> :loaded
      {:error, error} -> {:failed, Shown.first_line(error)}
    end
  rescue
    error in ArgumentError -> {:mistaken, Shown.first_line(error)}
  end

  defp source!(own) do
    case Options.check!(own, @own, "key of an entry of modules:") do
      %{source: source} -> source
      _none -> raise ArgumentError, "an entry of modules: needs a :source"
    end
  end

  # A configuration file is read where there is nobody yet to make one.
  defp sandboxed(opts) do
    case opts[:sandbox] do
      [_ | _] = granted -> Keyword.put(opts, :sandbox, Sandbox.new(granted))
      _given -> opts
    end
  end

  # The first that stops the start is the one that is told.
  defp tell({_entry, :loaded}, so_far), do: so_far

  defp tell({entry, {:mistaken, text}}, so_far) do
    with :ok <- so_far,
         do: {:error, "the configuration is not valid: #{subject(entry)}, of modules: #{text}"}
  end

  defp tell({entry, {:failed, text}}, so_far) do
    if entry[:required] do
      with :ok <- so_far,
           do: {:error, "#{subject(entry)}, which is required, is not loaded: #{text}"}
    else
      Logger.warning("Cybernetic.WASM: #{subject(entry)} is not loaded: #{text}")
      so_far
    end
  end

  defp subject(entry) do
    case entry[:name] do
      name when is_binary(name) -> "the module #{Shown.name(name)}"
      _none -> "a module without a name"
    end
  end
end
