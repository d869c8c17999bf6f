defmodule Cybernetic.WASM.Runtime.Transitions do
  @moduledoc false
  # What `Runtime.Registry` is asked to change, carried out in that process: from the versions of a name to what they are then,
  # with the record of it. Each is written at once.

  alias Cybernetic.WASM.{CallError, Config, LoadError, Module, Reference}
  alias Cybernetic.WASM.Loader.Pins
  alias Cybernetic.WASM.Runtime.{Change, History, Names, Uses, Versions}

  @doc "Makes a change, and gives the answer."
  @spec make(tuple) :: term
  def make({:put, request}), do: put_module(request)

  def make({:renew, serial, facts}) do
    with {entry, _module} <- Names.entry(serial),
         do: Names.write([{serial, Map.merge(entry, facts)}]),
         else: (nil -> :ok)
  end

  def make({:promote, name, version, said}) do
    with {:ok, versions, serial} <- find(name, version) do
      if versions.current == serial and versions.split == nil,
        do: registered(serial),
        else: make_current(versions, Versions.promote(versions, serial), {:promoted, said})
    end
  end

  def make({:rollback, name, from, said}) do
    with {:ok, versions} <- known(name) do
      case Versions.rollback(versions) do
        _done_by_now when versions.current != from -> registered(versions.current)
        nil -> {:error, %CallError{reason: :nothing_before, name: name}}
        before -> make_current(versions, before, {:rolled_back, said})
      end
    end
  end

  def make({:split, name, weights, by, said}) do
    with {:ok, versions} <- known(name),
         {:ok, shares} <- shares(versions, weights) do
      after_split = Versions.split(versions, shares, by)
      change = change(versions, after_split, {:split, said})
      Enum.each(shares, fn {serial, _weight} -> stay(serial) end)
      commit(after_split, [], %{change | shares: weights})
    end
  end

  def make({:unload, name, :all, said}) do
    with {:ok, versions} <- known(name) do
      entries = for {_version, serial} <- versions.all, do: elem(Names.entry(serial), 0)
      Names.forget_name(versions)
      Enum.each(entries, &Names.forget/1)
      from = Versions.version(versions, versions.current)
      record(struct!(Change, [name: name, action: :unloaded, from: from] ++ facts(said)))
    end
  end

  def make({:unload, name, version, said}) do
    with {:ok, versions, serial} <- find(name, version) do
      cond do
        match?([_only], versions.all) ->
          make({:unload, name, :all, said})

        Versions.serves?(versions, serial) ->
          {:error, %CallError{reason: :current_version, name: name, given: version}}

        true ->
          drop(versions, [serial], said, :unloaded)
      end
    end
  end

  @doc "Lets a version go whose time has come, unless it is wanted again."
  @spec drained(String.t(), Versions.serial()) :: :ok
  def drained(name, serial) do
    with %Versions{} = versions <- Names.versions(name),
         {%{drop_at: at}, _module} when at != nil <- Names.entry(serial),
         true <- at <= System.monotonic_time(:millisecond),
         false <- Versions.serves?(versions, serial),
         do: drop(versions, [serial], %{by: "drain", why: nil}),
         else: (_stays -> :ok)
  end

  @doc "Has what a requirement finds at hand: whoever looks up by it need not read it again."
  @spec asked(String.t(), String.t()) :: :ok
  def asked(name, text) do
    with %Versions{} = versions <- Names.versions(name),
         {:ok, {:name, ^name, selector}} when selector != :current <- Reference.parse(text),
         serial when serial != nil <- Versions.find(versions, selector),
         do: ask(versions, text, selector),
         else: (_gone -> :ok)
  end

  # What is not kept any more goes first: a row that nobody writes anew would lead to a version that there was.
  defp ask(versions, text, selector) do
    asking = Versions.ask(versions, text, selector)
    for {other, _selector} <- versions.asked -- asking.asked, do: Names.delete(other)
    Names.write(asking, [])
  end

  # Putting

  defp put_module(%{name: name, serial: serial, module: module} = request) do
    versions = Names.versions(name) || %Versions{name: name}

    cond do
      # It was asked before, and killed with the answer on its lips.
      Names.entry(serial) != nil ->
        registered(serial)

      request.instead_of not in [:any, versions.current] ->
        {:moved, versions.current}

      there = same(versions, module, request) ->
        put_again(versions, there, request)

      true ->
        with {:ok, version} <- number(versions, request),
             :ok <- pinned(request, version),
             {:ok, current?} <- current(versions, version, request),
             do: add(versions, version, %{request | current: current?})
    end
  end

  # The same module is there already, as the version that is wanted.
  defp same(versions, module, %{wanted: wanted}) do
    versions
    |> candidates(wanted)
    |> Enum.find(fn serial ->
      with {_entry, there} <- Names.entry(serial),
           do: Module.same?(there, module),
           else: (nil -> false)
    end)
  end

  defp candidates(versions, :next), do: List.wrap(versions.current)

  defp candidates(versions, {:rather, version} = wanted) do
    current = if unedited?(versions, wanted), do: [versions.current], else: []
    List.wrap(Versions.serial(versions, version)) ++ current
  end

  defp candidates(versions, {:exactly, version}),
    do: List.wrap(Versions.serial(versions, version))

  defp put_again(versions, serial, request) do
    {entry, module} = Names.entry(serial)

    with {:ok, current?} <- current(versions, entry.version, request) do
      Names.write([{serial, Map.merge(%{entry | loads: entry.loads + 1}, request.facts)}])

      if current? and Versions.route(versions) != serial do
        now = Versions.promote(versions, serial)
        make_current(versions, now, {request.action, request.said})
      else
        {:unchanged, module}
      end
    end
  end

  # An older version takes the place of a newer one only where somebody says so.
  defp current(_versions, _version, %{current: said}) when is_boolean(said), do: {:ok, said}

  defp current(versions, version, %{current: :unless_older} = request) do
    cond do
      not Versions.older?(versions, version) -> {:ok, true}
      request.action == :loaded -> {:ok, false}
      true -> {:error, older(versions, version)}
    end
  end

  defp older(versions, version) do
    %LoadError{
      reason: :older_version,
      name: versions.name,
      version: version,
      found: Versions.version(versions, versions.current)
    }
  end

  defp number(versions, %{wanted: {:exactly, version}} = request) do
    if Versions.serial(versions, version),
      do: {:error, %LoadError{reason: :version_taken, name: request.name, version: version}},
      else: {:ok, version}
  end

  defp number(versions, %{wanted: {:rather, version} = wanted}) do
    if Versions.serial(versions, version) || unedited?(versions, wanted),
      do: {:ok, Versions.next(versions)},
      else: {:ok, version}
  end

  defp number(versions, %{wanted: :next}), do: {:ok, Versions.next(versions)}

  # Whether the manifest of the current version said the same number: that may have gone meanwhile, and is not used again.
  defp unedited?(%Versions{current: nil}, _wanted), do: false

  defp unedited?(versions, wanted) do
    with {entry, _module} <- Names.entry(versions.current), do: entry[:wanted] == wanted
  end

  # The operator's pin may be under a number that nobody knew before.
  defp pinned(%{refused: refused, name: name}, version) do
    Pins.seen(Config.get().pins, "#{name}@#{version}")

    case refused do
      %{^version => error} -> {:error, error}
      _pinned_or_not -> :ok
    end
  end

  defp add(versions, version, %{name: name, serial: serial, module: module} = request) do
    module = Module.named(module, name, version, Uses.new())
    Names.keep(serial, module)

    entry =
      Map.merge(request.facts, %{
        serial: serial,
        name: name,
        version: version,
        loads: 1,
        loaded_at: DateTime.utc_now(),
        reloaded: request.action == :reloaded,
        drop_at: nil
      })

    added = Versions.add(versions, version, serial)
    after_it = if request.current, do: Versions.promote(added, serial), else: added
    change = change(versions, after_it, {request.action, request.said})
    draining = draining(versions, after_it, request)

    commit(after_it, [{serial, entry} | draining], %{
      change
      | to: version,
        digest: module.digest
    })

    Enum.each(draining, fn {_serial, entry} -> arm(entry) end)
    drop_surplus(after_it, request)
    {:ok, module}
  end

  # The version that was replaced, with the time at which it goes.
  defp draining(before, now, %{drain: milliseconds}) when milliseconds != nil do
    with serial when serial not in [nil, now.current] <- before.current,
         {entry, _module} <- Names.entry(serial) do
      [{serial, %{entry | drop_at: System.monotonic_time(:millisecond) + milliseconds}}]
    else
      _none -> []
    end
  end

  defp draining(_before, _now, _request), do: []

  @doc "Has the calling process told when a version is to go."
  @spec arm(Names.entry()) :: :ok
  def arm(%{drop_at: nil}), do: :ok

  def arm(%{name: name, serial: serial, drop_at: at}) do
    Process.send_after(self(), {:drain, name, serial}, at, abs: true)
    :ok
  end

  defp drop_surplus(_versions, %{keep: :all}), do: :ok

  defp drop_surplus(versions, %{keep: keep, said: said}) do
    reloaded? = fn serial -> match?({%{reloaded: true}, _module}, Names.entry(serial)) end

    case Versions.idle(versions, keep, reloaded?) do
      [] -> :ok
      serials -> drop(versions, serials, said)
    end
  end

  defp drop(versions, serials, said, action \\ :dropped) do
    Enum.reduce(serials, versions, fn serial, versions ->
      {entry, _module} = Names.entry(serial)
      without = Versions.drop(versions, serial)
      gone = [name: versions.name, action: action, from: entry.version]
      commit(without, [], struct!(Change, gone ++ facts(said)))
      Names.forget(entry)
      without
    end)

    :ok
  end

  # Changing what is there

  defp known(name) do
    case Names.versions(name) do
      nil -> {:error, Names.no_such_name(name)}
      versions -> {:ok, versions}
    end
  end

  defp find(name, version) do
    with {:ok, versions} <- known(name) do
      case Versions.serial(versions, version) do
        nil -> {:error, Names.no_such_version(versions, version)}
        serial -> {:ok, versions, serial}
      end
    end
  end

  defp shares(versions, weights) do
    case Enum.find(Map.keys(weights), &(Versions.serial(versions, &1) == nil)) do
      nil ->
        {:ok, for({version, weight} <- weights, do: {Versions.serial(versions, version), weight})}

      missing ->
        {:error, Names.no_such_version(versions, missing)}
    end
  end

  defp make_current(before, now, what) do
    stay(now.current)
    commit(now, [], change(before, now, what))
    registered(now.current)
  end

  # One that is wanted again does not go.
  defp stay(serial) do
    {entry, _module} = Names.entry(serial)
    if entry.drop_at, do: Names.write([{serial, %{entry | drop_at: nil}}]), else: :ok
  end

  defp registered(serial) do
    {_entry, module} = Names.entry(serial)
    {:ok, module}
  end

  defp change(before, now, {action, said}) do
    digest = with {_entry, module} <- Names.entry(now.current), do: module.digest

    struct!(
      Change,
      [
        name: now.name,
        action: action,
        from: Versions.version(before, before.current),
        to: Versions.version(now, now.current),
        digest: digest
      ] ++ facts(said)
    )
  end

  defp facts(said), do: [by: said.by, why: said.why, at: DateTime.utc_now()]

  # In force from here on.
  defp commit(versions, rows, change) do
    number = History.next_number()
    Names.write(versions, rows ++ History.rows(change, number))
    History.trim(number)
    History.tell(change)
  end

  defp record(change) do
    number = History.next_number()
    Names.write(History.rows(change, number))
    History.trim(number)
    History.tell(change)
  end
end
