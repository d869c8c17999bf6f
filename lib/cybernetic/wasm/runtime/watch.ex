defmodule Cybernetic.WASM.Runtime.Watch do
  @moduledoc false
  # Follows the modules in a folder: a task looks at their files again and again, since OTP has nothing that tells of changes, and
  # ends with the process that asked for it. `Watch.File` says when a file is due. Whether it is another module then, the reload
  # finds out, by its digest.

  require Logger

  alias Cybernetic.WASM.{LoadError, Options, Shown, TaskSupervisor}
  alias Cybernetic.WASM.Runtime.{Names, Registration, Reload, Watch}

  @extensions [".wat", ".wasm"]

  @keywords {"a keyword list", &Keyword.keyword?/1}
  @options [
    interval: {:milliseconds, 1},
    load: @keywords,
    reload: @keywords,
    report: {"a function of one argument", &__MODULE__.report?/1}
  ]

  @enforce_keys [:dir, :owner, :opts]
  # `files` are by the names of their modules; `nil` before the first look. `shadowed` are the names of those that are there in
  # both formats.
  defstruct [:dir, :owner, :opts, :files, shadowed: []]

  @doc false
  @spec report?(term) :: boolean
  def report?(report), do: is_function(report, 1)

  @doc "Starts to follow a folder. What is in it has been loaded when this returns."
  @spec start(Path.t(), keyword) :: {:ok, pid} | {:error, LoadError.t()}
  def start(dir, opts) do
    opts = Options.check!(opts, @options, "option of watch/2")
    opts = Map.merge(%{interval: 1_000, load: [], reload: [], report: nil}, opts)
    check!(opts.load, Registration.options(), "option of watch/2's load:")
    check!(opts.reload, Reload.options(), "option of watch/2's reload:")

    with :ok <- folder(dir), do: dir |> begin(opts) |> await()
  end

  # What is wrong with them, each of the files would be told of. The name is the file's.
  defp check!(opts, known, whose), do: Options.check!(opts, Keyword.delete(known, :name), whose)

  defp folder(dir) do
    case File.stat(dir) do
      {:ok, %File.Stat{type: :directory}} -> :ok
      {:ok, %File.Stat{type: :regular}} -> refuse(dir, :unreadable, "a file, and no folder")
      {:ok, %File.Stat{type: type}} -> refuse(dir, :unreadable, "a #{type}, and no folder")
      {:error, :enoent} -> refuse(dir, :not_found, "no such folder")
      {:error, reason} -> refuse(dir, :unreadable, to_string(:file.format_error(reason)))
    end
  end

  defp refuse(dir, reason, detail),
    do: {:error, %LoadError{reason: reason, source: Shown.cut(dir), detail: detail}}

  defp begin(dir, opts) do
    caller = self()
    # Where the application does not run this says so.
    _names = Names.all()

    {:ok, pid} =
      Task.Supervisor.start_child(TaskSupervisor, fn ->
        watch = look(%Watch{dir: dir, owner: Process.monitor(caller), opts: opts})
        send(caller, {self(), :ready})
        follow(watch)
      end)

    pid
  end

  defp await(pid) do
    monitor = Process.monitor(pid)

    receive do
      {^pid, :ready} ->
        Process.demonitor(monitor, [:flush])
        {:ok, pid}

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        exit(reason)
    end
  end

  @doc "Ends it."
  @spec stop(pid) :: :ok
  def stop(pid) do
    _there? = Task.Supervisor.terminate_child(TaskSupervisor, pid)
    :ok
  end

  defp follow(%Watch{owner: owner, opts: %{interval: interval}} = watch) do
    receive do
      {:DOWN, ^owner, :process, _pid, _reason} -> :ok
    after
      interval -> watch |> look() |> follow()
    end
  end

  # Looking

  defp look(%Watch{files: files} = watch) do
    all = all(watch.dir)
    # Of a module in both formats the binary one counts.
    found = Map.new(all)
    shadowed = Enum.uniq(for({name, _file} <- all, do: name) -- Map.keys(found))

    for {name, _file} <- files || %{}, not is_map_key(found, name) do
      report(watch, :warning, "#{Shown.name(name)}: its file is gone, what was loaded stays")
    end

    for name <- shadowed -- watch.shadowed do
      report(
        watch,
        :warning,
        "#{Shown.name(name)}: its .wat is not looked at, since there is a .wasm"
      )
    end

    files = Map.new(found, fn {name, now} -> {name, look_at(watch, name, now)} end)
    %{watch | files: files, shadowed: shadowed}
  end

  # Binary ones come last.
  defp all(dir) do
    files = with {:ok, files} <- File.ls(dir), do: files, else: ({:error, _reason} -> [])

    for extension <- @extensions,
        file <- files,
        Path.extname(file) == extension,
        path = Path.join(dir, file),
        look = Watch.File.look(path),
        do: {Path.rootname(file), {path, look}}
  end

  defp look_at(watch, name, {path, look}) do
    case watch |> file(name, look) |> Watch.File.next(look) do
      {:due, file} -> tell(watch, file, load(watch, name, path))
      {:quiet, file} -> file
    end
  end

  # What is there when it begins is taken as it is.
  defp file(%Watch{files: nil}, _name, look), do: %Watch.File{seen: look}
  defp file(%Watch{files: files}, name, _look), do: Map.get(files, name, %Watch.File{})

  # What is broken is said once.
  defp tell(_watch, file, nil), do: %{file | line: nil}
  defp tell(_watch, %Watch.File{line: line} = file, {_level, line}), do: file

  defp tell(watch, file, {level, line}) do
    report(watch, level, line)
    %{file | line: line}
  end

  defp report(%Watch{opts: %{report: nil}}, level, line),
    do: Logger.log(level, "Cybernetic.WASM: " <> line)

  defp report(watch, _level, line), do: watch.opts.report.(line)

  # Loading

  defp load(watch, name, path) do
    shown = Shown.name(name)

    case load_or_reload(watch.opts, name, path) do
      :unchanged ->
        nil

      {:ok, module} ->
        {:info, "#{shown}: #{module.version} is loaded, #{String.slice(module.digest, 0, 15)}"}

      {:error, error} ->
        {:warning, "#{shown}: #{state(name)}: #{Shown.first_line(error)}"}
    end
  rescue
    # Of a file whose name none can be.
    error in ArgumentError ->
      {:warning, "#{Shown.name(name)}: not loaded: #{Shown.first_line(error)}"}
  end

  defp load_or_reload(opts, name, path) do
    if Names.versions(name),
      do: Reload.run(name, path, opts.load ++ opts.reload),
      else: Registration.load(path, [name: name] ++ opts.load)
  end

  defp state(name) do
    case Names.fetch(name) do
      {:ok, module} -> "#{module.version} stays"
      {:error, _none} -> "not loaded"
    end
  end
end
