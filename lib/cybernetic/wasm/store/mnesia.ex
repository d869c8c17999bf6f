defmodule Cybernetic.WASM.Store.Mnesia do
  @moduledoc """
  A store in Mnesia, OTP's own database: replicated on as many nodes as wanted, and there again after a restart.

      # once, on the nodes that are to have it; Mnesia has a schema there and runs
      :ok = Cybernetic.WASM.Store.Mnesia.create(nodes: [node() | Node.list()])

      Cybernetic.WASM.Store.put(bytes, name: "acme/thumb", store: {Cybernetic.WASM.Store.Mnesia, []})

  or, for all of the node, `config :cybernetic_wasm, store: {Cybernetic.WASM.Store.Mnesia, []}`.

  A put, a deletion, `prune/1` and `gc/1` are a transaction each, over all nodes that have the store, and one at a time. When
  they return, the log of this node is on its disk; other nodes write theirs a little later. Of `:timeout` less than a second is
  taken for a second: whoever asks for the lock waits for an answer in any case. Bytes and records are checked as they are read, as in any store; what is damaged is taken out of it for good.

  Tables of the kind `:disc_copies` are in memory as a whole, besides being on disk: so many modules take so much of it on each
  node. `:disc_only_copies` are not, and hold at most 2 GB a table. With `:ram_copies` nothing outlives the last node.

  ## Config

    * `:tables` - an atom that the names of the three tables begin with. Default: `:cybernetic_wasm_store`.

  The application needs `:mnesia` among its `extra_applications`. Where nodes have been apart, and both of them wrote, Mnesia
  does not join their tables again by itself: see its user's guide, "Recovery".
  """

  @behaviour Cybernetic.WASM.Store.Backend

  alias Cybernetic.WASM.{Deadline, Options, StoreError}
  alias Cybernetic.WASM.Store.{Backend, Record}

  # Of bytes: themselves by their digest, and what is known of them. Of a version: its record.
  @tables [
    blobs: [:digest, :bytes],
    facts: [:digest, :sha256, :size, :used],
    entries: [:version, :record]
  ]

  # Uses within so many seconds count as one: each is written to the log.
  @same_use 60

  # Milliseconds that asking for the lock may take where nobody has it.
  @least_wait 1_000

  @kinds [:disc_copies, :disc_only_copies, :ram_copies]
  @options [
    nodes: {"a list of nodes", &is_list/1},
    copies: {:one_of, @kinds},
    tables: {"an atom", &is_atom/1}
  ]

  @doc """
  Makes the tables of a store, and waits until they are there. Tables that are there already stay as they are.

    * `:nodes` - which are to have a copy. Default: this one.
    * `:copies` - `:disc_copies` (default), `:disc_only_copies` or `:ram_copies`
    * `:tables` - as in the config
  """
  @spec create([{:nodes, [node]} | {:copies, atom} | {:tables, atom}]) ::
          :ok | {:error, StoreError.t()}
  def create(opts \\ []) do
    opts = Options.check!(opts, @options, "store option")
    copies = [{Map.get(opts, :copies, :disc_copies), Map.get(opts, :nodes, [node()])}]
    config = Map.to_list(opts)

    with :ok <- Backend.each(@tables, &create(&1, config, copies)),
         do: config |> tables() |> :mnesia.wait_for_tables(:infinity) |> done()
  end

  defp create({kind, attributes}, config, copies) do
    index = if kind == :facts, do: [:sha256], else: []

    case :mnesia.create_table(
           table(config, kind),
           [attributes: attributes, index: index] ++ copies
         ) do
      {:atomic, :ok} -> :ok
      {:aborted, {:already_exists, _table}} -> :ok
      {:aborted, reason} -> failed(reason)
    end
  end

  defp tables(config), do: for({kind, _attributes} <- @tables, do: table(config, kind))

  # Made of the operator's own words alone.
  defp table(config, kind), do: :"#{Keyword.get(config, :tables, :cybernetic_wasm_store)}_#{kind}"

  @impl true
  def alone(config, timeout, function) do
    case locked(table(config, :entries), max(timeout, @least_wait), function) do
      {:atomic, result} ->
        with :ok <- on_disk(:mnesia.sync_log()), do: result

      :busy ->
        StoreError.refuse(:busy)

      {:aborted, {:refused, error}} ->
        {:error, error}

      {:aborted, {%{__exception__: true} = error, stack}} when is_list(stack) ->
        reraise error, stack

      {:aborted, reason} ->
        failed(reason)
    end
  end

  # Mnesia waits for a lock as long as another has it, and can be told nothing else: so another process does, which can be ended.
  # It ends with its caller, too.
  defp locked(table, timeout, function) do
    caller = self()
    mark = make_ref()

    held = fn ->
      send(caller, {mark, :waits})
      :mnesia.write_lock_table(table)
      send(caller, {mark, :has_it})
      with {:error, error} <- function.(), do: :mnesia.abort({:refused, error})
    end

    worker =
      spawn_monitor(fn ->
        Process.link(caller)
        done = :mnesia.transaction(held)
        Process.unlink(caller)
        send(caller, {mark, {:done, done}})
      end)

    await(worker, mark, timeout, Deadline.in_ms(timeout))
  end

  # The time is for the waiting, and not for what is done then. Mnesia may begin a transaction anew, which waits anew.
  defp await({pid, monitor} = worker, mark, timeout, deadline) do
    receive do
      {^mark, :has_it} ->
        await(worker, mark, timeout, :infinity)

      {^mark, :waits} ->
        deadline = if deadline == :infinity, do: Deadline.in_ms(timeout), else: deadline
        await(worker, mark, timeout, deadline)

      {^mark, {:done, done}} ->
        Process.demonitor(monitor, [:flush])
        done

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        {:aborted, reason}
    after
      Deadline.left(deadline) -> give_up(worker, mark)
    end
  end

  defp give_up({pid, monitor}, mark) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
    receive(do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> last_word(mark, :busy)))
  end

  # It may have been done at the last moment.
  defp last_word(mark, so_far) do
    receive do
      {^mark, {:done, done}} -> last_word(mark, done)
      {^mark, _word} -> last_word(mark, so_far)
    after
      0 -> so_far
    end
  end

  # Bytes

  @impl true
  def put_blob(config, %{blake3: digest, sha256: sha256}, bytes) do
    write(config, :blobs, {digest, bytes})
    write(config, :facts, {digest, sha256, byte_size(bytes), now()})
  end

  @impl true
  def blob(config, digest, most) do
    case read(config, :blobs, digest) do
      {:ok, [{_digest, bytes}]} when byte_size(bytes) > most ->
        {:error, {:too_large, byte_size(bytes)}}

      {:ok, [{_digest, bytes}]} ->
        {:ok, bytes}

      {:ok, []} ->
        :none

      error ->
        error
    end
  end

  @impl true
  def blobs(config) do
    select(config, :facts, {:"$1", :_, :"$2", :"$3"}, fn [digest, size, used] ->
      %{digest: digest, size: size, used: used}
    end)
  end

  @impl true
  def find(config, sha256) do
    case select(config, :facts, {:"$1", sha256, :_, :_}, &hd/1) do
      {:ok, [digest | _]} -> {:ok, digest}
      {:ok, []} -> :none
      error -> error
    end
  end

  @impl true
  def used(config, digest) do
    with {:ok, [{_digest, _sha256, _size, used}]} <- read(config, :facts, digest),
         true <- now() - used >= @same_use,
         do: :mnesia.transaction(fn -> use_now(config, digest) end)

    :ok
  end

  # It may have been dropped meanwhile.
  defp use_now(config, digest) do
    for {_digest, sha256, size, _used} <- elem(read(config, :facts, digest), 1),
        do: write(config, :facts, {digest, sha256, size, now()})
  end

  defp now, do: System.os_time(:second)

  @impl true
  def drop_blob(config, digest, _size) do
    :mnesia.delete({table(config, :blobs), digest})
    :mnesia.delete({table(config, :facts), digest})
  end

  # Names

  @impl true
  def names(config) do
    with {:ok, names} <- select(config, :entries, {{:"$1", :_}, :_}, &hd/1),
         do: {:ok, Enum.uniq(names)}
  end

  @impl true
  def versions(config, name), do: select(config, :entries, {{name, :"$1"}, :_}, &hd/1)

  @impl true
  def entry(config, name, version) do
    case read(config, :entries, {name, version}) do
      {:ok, [{_key, record}]} -> decoded(Record.decode(record), name, version)
      {:ok, []} -> :none
      error -> error
    end
  end

  defp decoded({:ok, %{name: name, version: version} = entry}, name, version), do: {:ok, entry}

  defp decoded(_other, name, version),
    do: StoreError.refuse(:damaged, name: name, version: version)

  @impl true
  def put_entry(config, entry),
    do: write(config, :entries, {{entry.name, entry.version}, Record.encode(entry)})

  @impl true
  def drop_entry(config, name, version),
    do: :mnesia.delete({table(config, :entries), {name, version}})

  @impl true
  def set_aside(config, {:blob, digest}), do: drop_blob(config, digest, 0)
  def set_aside(config, {:entry, name, version}), do: drop_entry(config, name, version)

  # A transaction leaves nothing behind.
  @impl true
  def sweep(_config), do: :ok

  # Rows, without the name of their table

  defp write(config, kind, row), do: :mnesia.write(Tuple.insert_at(row, 0, table(config, kind)))

  defp read(config, kind, key) do
    active(fn ->
      for row <- :mnesia.read(table(config, kind), key), do: Tuple.delete_at(row, 0)
    end)
  end

  defp select(config, kind, pattern, function) do
    table = table(config, kind)
    pattern = Tuple.insert_at(pattern, 0, table)
    active(fn -> table |> :mnesia.select([{pattern, [], [:"$$"]}]) |> Enum.map(function) end)
  end

  # Who only reads takes no lock, and is in no transaction.
  defp active(function) do
    if :mnesia.is_transaction(),
      do: {:ok, function.()},
      else: {:ok, :mnesia.activity(:async_dirty, function)}
  catch
    :exit, {:aborted, reason} ->
      if :mnesia.is_transaction(), do: exit({:aborted, reason}), else: failed(reason)
  end

  # A node that keeps nothing on a disk has no log.
  defp on_disk({:error, :no_such_log}), do: :ok
  defp on_disk(synced), do: done(synced)

  defp done(:ok), do: :ok
  defp done({:error, reason}), do: failed(reason)
  defp done({:timeout, tables}), do: failed({:timeout, tables})

  defp failed({:no_exists, _what}) do
    StoreError.refuse(:failed,
      detail:
        "its tables are not on this node: Cybernetic.WASM.Store.Mnesia.create/1 makes them, once Mnesia runs"
    )
  end

  defp failed(reason) do
    StoreError.refuse(:failed,
      detail: "Mnesia: #{inspect(reason, limit: 20, printable_limit: 200)}"
    )
  end
end
