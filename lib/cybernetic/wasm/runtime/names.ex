defmodule Cybernetic.WASM.Runtime.Names do
  @moduledoc false
  # What this node has loaded under names, for those who look one up. No process is asked: a table has a row for each name and
  # for each version of it, `"resize"` and `"resize@1.2.0"`, with the serial number of a module, and the module is a persistent
  # term. `Runtime.Registry` is the only one who writes.
  #
  # A look-up copies what is in its row, and a module is some hundred words: that alone would take longer than all of this. A
  # persistent term is not copied. It is dear to change, since all processes are looked through for it: so it never is. What
  # changes, which module a name leads to, is in the table; and for a bare name in a cell as well, an atomic that is a persistent
  # term, too, since most calls come by one, and to read a cell takes less than half of what a row takes. Zero in it says that the
  # row has more to tell.
  #
  # The table is the application's, not the registry's: calls go on whatever becomes of that process. Rows are written before
  # what they lead to is needed, and a module goes after all that leads to it.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{CallError, Module, Reference, Shown}
  alias Cybernetic.WASM.Runtime.{Registry, Versions}

  @table __MODULE__
  @most_known 20
  @most_compared 200

  @typedoc "What is known of a version that is loaded, beside its module."
  @type entry :: %{
          required(:serial) => Versions.serial(),
          required(:name) => String.t(),
          required(:version) => String.t(),
          optional(atom) => term
        }

  @doc "Whether it is a name, marked as one."
  defguard is_name(given)
           when tuple_size(given) == 2 and elem(given, 0) == :name and is_binary(elem(given, 1))

  # Looking up

  @doc "The module itself, or the one that is loaded under a name. `opts` are the call's: `:key` says whose share it is of a split."
  @spec fetch(Module.given(), keyword) :: {:ok, Module.loaded()} | {:error, CallError.t()}
  def fetch(given, opts \\ [])
  def fetch(module, _opts) when is_loaded(module), do: {:ok, module}
  def fetch({:name, text}, opts) when is_binary(text), do: fetch(text, opts)

  def fetch(text, opts) when is_binary(text) do
    with cell when cell != nil <- :persistent_term.get({__MODULE__, text}, nil),
         serial when serial > 0 <- :atomics.get(cell, 1),
         module when module != nil <- :persistent_term.get({__MODULE__, serial}, nil) do
      {:ok, module}
    else
      _not_so_plain -> look_up(text, opts)
    end
  end

  def fetch(other, _opts), do: Module.needed!(other)

  defp look_up(text, opts) do
    case lookup(text) do
      [{_text, serial}] when is_integer(serial) -> module(serial, text, opts)
      [{_text, split}] -> split |> Versions.share(key(text, split, opts)) |> module(text, opts)
      [] -> search(text, opts)
    end
  end

  # It was there when the name was looked up.
  defp module(serial, text, opts) do
    case :persistent_term.get({__MODULE__, serial}, nil) do
      nil -> fetch(text, opts)
      module -> {:ok, module}
    end
  end

  defp key(text, {:split, by, _shares}, opts) do
    case Keyword.keyword?(opts) and Keyword.fetch(opts, :key) do
      {:ok, key} -> {text, key}
      _none when by == :process -> {text, self()}
      # A number that nobody else gets, and no state as `:rand` has it.
      _none -> :erlang.unique_integer()
    end
  end

  defp search(text, opts) do
    with {:ok, {:name, name, selector}} when selector != :current <- Reference.parse(text),
         %Versions{} = versions <- versions(name) do
      case Versions.find(versions, selector) do
        nil ->
          {:error, no_such_version(versions, selector)}

        serial ->
          if Versions.may_ask?(versions), do: GenServer.cast(Registry, {:asked, name, text})
          module(serial, text, opts)
      end
    else
      :error -> {:error, %{no_such_name(text) | detail: misread(text)}}
      _no_name -> {:error, no_such_name(text)}
    end
  end

  defp misread(text) do
    if String.contains?(text, "@"),
      do: ~S|behind the @ stands a version, "1.2.0" or "1.2", or a requirement, "~> 1.2"|
  end

  @doc "The error where no version fits: the names of those that are there are in it."
  @spec no_such_version(Versions.t(), term) :: CallError.t()
  def no_such_version(versions, wanted) do
    known = versions |> Versions.texts() |> Enum.take(@most_known + 1)

    %CallError{
      reason: :no_such_version,
      name: versions.name,
      expected: to_string(wanted),
      known: known
    }
  end

  @doc "The error where nothing has that name: the most similar names are in it."
  @spec no_such_name(String.t()) :: CallError.t()
  def no_such_name(text) do
    [name | _version] = String.split(Shown.cut(text), "@", parts: 2)

    known =
      some_names()
      |> Enum.sort_by(&{-String.jaro_distance(&1, name), &1})
      |> Enum.take(@most_known + 1)

    %CallError{reason: :no_such_name, name: Shown.cut(text), known: known}
  end

  # Names that nobody has loaded may come in any number from outside, and must not take long to refuse.
  defp some_names do
    case :ets.select(@table, [{{{:versions, :"$1"}, :_}, [], [:"$1"]}], @most_compared) do
      {names, _more} -> names
      :"$end_of_table" -> []
    end
  end

  @doc "The versions of a name; `nil` where nothing is loaded under it."
  @spec versions(String.t()) :: Versions.t() | nil
  def versions(name) do
    with [{_key, versions}] <- lookup({:versions, name}), do: versions, else: ([] -> nil)
  end

  @doc "All names with their versions."
  @spec all() :: [Versions.t()]
  def all, do: select([{{{:versions, :_}, :"$1"}, [], [:"$1"]}])

  @doc "What is known of a version, and its module; `nil` where it is gone."
  @spec entry(Versions.serial()) :: {entry, Module.loaded()} | nil
  def entry(serial) do
    with [{_serial, entry}] <- lookup(serial),
         module when is_loaded(module) <- :persistent_term.get({__MODULE__, serial}, nil) do
      {entry, module}
    else
      _gone -> nil
    end
  end

  @doc "All that is loaded under names."
  @spec entries() :: [{entry, Module.loaded()}]
  def entries do
    for serial <- select([{{:"$1", :_}, [{:is_integer, :"$1"}], [:"$1"]}]),
        {_entry, _module} = found <- [entry(serial)],
        do: found
  end

  @doc "What happened to names, the latest first."
  @spec changes() :: [struct]
  def changes do
    [{{{:change, :"$1"}, :"$2"}, [], [{{:"$1", :"$2"}}]}]
    |> select()
    |> Enum.sort_by(&elem(&1, 0), :desc)
    |> Enum.map(&elem(&1, 1))
  end

  @doc "A row of another kind."
  @spec row(term) :: tuple | nil
  def row(key), do: key |> lookup() |> List.first()

  # Where the application does not run there is no table.
  defp lookup(key) do
    :ets.lookup(@table, key)
  rescue
    ArgumentError -> not_started!()
  end

  @doc "What a match specification gives."
  @spec select(list) :: list
  def select(pattern) do
    :ets.select(@table, pattern)
  rescue
    ArgumentError -> not_started!()
  end

  @doc "Raises for what needs the application where that does not run."
  @spec not_started!() :: no_return
  def not_started! do
    raise ArgumentError,
          "names need the library's application: start :cybernetic_wasm first, " <>
            "with Application.ensure_all_started(:cybernetic_wasm)"
  end

  # Writing: `Runtime.Registry` alone

  @doc "Lets go of all modules: of an earlier run, or at the end."
  @spec clear() :: :ok
  def clear do
    # Whoever finds a row looks for its module until it is there, or the row is gone.
    if :ets.whereis(@table) != :undefined, do: :ets.delete_all_objects(@table)

    for {{__MODULE__, _serial} = key, _module} <- :persistent_term.get(),
        do: :persistent_term.erase(key)

    :ok
  end

  @doc "Makes the table, which is the calling process's."
  @spec new() :: :ok
  def new do
    clear()
    @table = :ets.new(@table, [:named_table, :public, read_concurrency: true])
    :ok
  end

  @doc "Keeps a module, before anything leads to it."
  @spec keep(Versions.serial(), Module.loaded()) :: :ok
  def keep(serial, module), do: :persistent_term.put({__MODULE__, serial}, module)

  @doc "Writes rows, all at once: the versions of a name with all that follows from them, and others."
  @spec write(Versions.t(), [tuple]) :: :ok
  def write(versions, rows) do
    own = for {version, serial} <- versions.all, do: {versions.name <> "@" <> version, serial}

    {missing, asked} = versions |> Versions.found() |> Enum.split_with(&match?({_, nil}, &1))
    route = {versions.name, Versions.route(versions)}
    kept = {{:versions, versions.name}, versions}
    true = :ets.insert(@table, [route, kept] ++ own ++ asked ++ rows)
    for {text, nil} <- missing, do: :ets.delete(@table, text)
    point(versions)
  end

  defp point(%Versions{name: name} = versions) do
    key = {__MODULE__, name}

    if :persistent_term.get(key, nil) == nil,
      do: :persistent_term.put(key, :atomics.new(1, signed: false))

    serial = with split when is_tuple(split) <- Versions.route(versions), do: 0
    :atomics.put(:persistent_term.get(key), 1, serial)
  end

  @doc "Writes rows of other kinds."
  @spec write([tuple]) :: :ok
  def write(rows) do
    true = :ets.insert(@table, rows)
    :ok
  end

  @doc "Lets go of a version, to which the name leads no more."
  @spec forget(entry) :: :ok
  def forget(%{serial: serial, name: name, version: version}) do
    exactly = name <> "@" <> version
    # Another one may have that number by now.
    :ets.delete_object(@table, {exactly, serial})
    :ets.delete(@table, serial)
    _was_there? = :persistent_term.erase({__MODULE__, serial})
    :ok
  end

  @doc "Lets go of a name that has no versions any more."
  @spec forget_name(Versions.t()) :: :ok
  def forget_name(%Versions{name: name, asked: asked}) do
    _was_there? = :persistent_term.erase({__MODULE__, name})
    for {text, _selector} <- asked, do: :ets.delete(@table, text)
    for key <- [name, {:versions, name}], do: :ets.delete(@table, key)
    :ok
  end

  @doc "Deletes a row."
  @spec delete(term) :: :ok
  def delete(key) do
    :ets.delete(@table, key)
    :ok
  end

  @doc "Lets go of modules that no name leads to: whoever was to write or to forget them was killed over it."
  @spec forget_orphans() :: :ok
  def forget_orphans do
    known = for versions <- all(), {_version, serial} <- versions.all, do: serial

    kept =
      for {{__MODULE__, serial}, _} when is_integer(serial) <- :persistent_term.get(), do: serial

    for serial <- kept -- known do
      case lookup(serial) do
        [{_serial, entry}] -> forget(entry)
        [] -> :persistent_term.erase({__MODULE__, serial})
      end
    end

    :ok
  end
end
