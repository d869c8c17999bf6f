defmodule Cybernetic.WASM.Runtime.History do
  @moduledoc false
  # What happened to names: the latest changes, and those who want to be told of the next. `Runtime.Registry` writes both.

  alias Cybernetic.WASM.Runtime.{Change, Names}

  # Of all names together.
  @most 1_000

  @doc "The rows by which the change with this number is kept."
  @spec rows(Change.t(), pos_integer) :: [tuple]
  def rows(change, number), do: [{{:change, number}, change}, {:changes, number}]

  @doc "The number of the next change."
  @spec next_number() :: pos_integer
  def next_number do
    case Names.row(:changes) do
      {:changes, number} -> number + 1
      nil -> 1
    end
  end

  @doc "Lets go of the change that falls out for this one."
  @spec trim(pos_integer) :: :ok
  def trim(number), do: Names.delete({:change, number - @most})

  @doc "The latest changes of a name, or of all, the last one first."
  @spec of(String.t() | :all) :: [Change.t()]
  def of(:all), do: Names.changes()
  def of(name), do: Enum.filter(Names.changes(), &(&1.name == name))

  @doc "Tells those who want to know."
  @spec tell(Change.t()) :: :ok
  def tell(%Change{name: name} = change) do
    for {pid, names} <- subscribers(),
        :all in names or name in names,
        do: send(pid, {:wasm_module, change})

    :ok
  end

  @doc "Who is told of what."
  @spec subscribers() :: [{pid, [String.t() | :all]}]
  def subscribers, do: Names.select([{{{:subscriber, :"$1"}, :"$2"}, [], [{{:"$1", :"$2"}}]}])

  @doc "Has a process told of this as well. Whether it is the first that it is told of."
  @spec subscribe(pid, String.t() | :all) :: boolean
  def subscribe(pid, of) do
    names = names(pid)
    Names.write([{{:subscriber, pid}, Enum.uniq([of | names])}])
    names == []
  end

  @doc "Has it no longer told of this. Whether it is told of nothing any more."
  @spec unsubscribe(pid, String.t() | :all) :: boolean
  def unsubscribe(pid, of) do
    case List.delete(names(pid), of) do
      [] ->
        forget(pid)
        true

      names ->
        Names.write([{{:subscriber, pid}, names}])
        false
    end
  end

  defp names(pid) do
    case Names.row({:subscriber, pid}) do
      {_key, names} -> names
      nil -> []
    end
  end

  @doc "Forgets a process."
  @spec forget(pid) :: :ok
  def forget(pid), do: Names.delete({:subscriber, pid})
end
