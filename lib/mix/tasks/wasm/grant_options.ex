defmodule Mix.Tasks.Wasm.GrantOptions do
  @moduledoc false
  # What a program may use, as options of a command line and within a manifest.

  alias Cybernetic.WASM.{Limits, Sandbox}
  alias Cybernetic.WASM.Sandbox.Capabilities.Env
  alias Cybernetic.WASM.Sandbox.{Explain, Manifest}
  alias Mix.Tasks.Wasm.{CommandLine, TextFormat, UsageError}

  # What the preset `:command` grants, but with the shell's own streams.
  @grants [clocks: :real, random: :system, stdio: :inherited, env: :any]
  # The hour is over first.
  @limits [
    timeout: 3_600_000,
    fuel: 100_000_000_000_000,
    max_host_calls: 10_000_000_000,
    max_output: 10_000_000_000_000
  ]
  @null "/dev/null"
  @files [quota: 10_000_000_000, max_open: 1_000]

  @doc "The switches."
  @spec switches() :: keyword
  def switches do
    [
      dir: [:string, :keep],
      env: [:string, :keep],
      scratch: :string,
      null: :boolean,
      manifest: :string,
      random_seed: :string,
      clock: :string
    ]
  end

  @doc "The capabilities that are asked for by name, as options of a sandbox."
  @spec read(map) :: {:ok, keyword} | {:error, UsageError.t()}
  def read(options) do
    with {:ok, filesystem} <- filesystem(options),
         {:ok, clocks} <- clocks(options[:clock]),
         {:ok, random} <- random(options[:random_seed]),
         do: {:ok, filesystem ++ clocks ++ random}
  end

  defp filesystem(options) do
    dirs = options |> Map.get(:dir, []) |> Enum.map(&dir/1)
    scratch = Map.get(options, :scratch, false)
    null = if options[:null], do: @null, else: false

    case Enum.find_value(dirs, &mistake/1) do
      nil when dirs == [] and scratch == false and null == false ->
        {:ok, []}

      nil ->
        places = [dirs: dirs, scratch: scratch, null: null]
        {:ok, [filesystem: places ++ times(options[:clock]) ++ @files]}

      mistake ->
        CommandLine.usage_error("--dir: #{mistake}")
    end
  end

  # They are a clock, too.
  defp times(nil), do: []
  defp times(_clock), do: [times: :fixed]

  # A mode that is misspelt would be a part of the path, and the directory writable.
  defp mistake({host, guest, _mode}) do
    cond do
      guest =~ ~r/:[[:alpha:]]\w*\z/ ->
        "the mode must be :ro or :rw, got: #{guest}"

      File.dir?(host) ->
        nil

      host =~ ":" ->
        "there is no directory #{host} (HOST and GUEST are parted by two colons: .::/here)"

      true ->
        "there is no directory #{host}"
    end
  end

  defp dir(text) do
    {text, mode} = mode(text)

    case String.split(text, "::", parts: 2) do
      [host, guest] -> {host, guest, mode}
      [host] -> {host, Path.join("/", host), mode}
    end
  end

  defp mode(text) do
    case String.split_at(text, -3) do
      {text, ":ro"} -> {text, :ro}
      {text, ":rw"} -> {text, :rw}
      _ -> {text, :rw}
    end
  end

  defp clocks(nil), do: {:ok, []}

  defp clocks(text) do
    with "fixed:" <> time <- text,
         {:ok, time} <- TextFormat.integer(time) do
      {:ok, [clocks: {:fixed, time}]}
    else
      _ -> CommandLine.usage_error("--clock must be fixed:N, N nanoseconds, got: #{text}")
    end
  end

  defp random(nil), do: {:ok, []}

  defp random(text) do
    case TextFormat.integer(text) do
      {:ok, seed} -> {:ok, [random: {:seeded, seed}]}
      :error -> CommandLine.usage_error("--random-seed must be an integer, got: #{text}")
    end
  end

  @doc "The environment variables that are given."
  @spec environment(map) :: {:ok, %{String.t() => String.t()}} | {:error, UsageError.t()}
  def environment(options) do
    options
    |> Map.get(:env, [])
    |> Enum.reduce_while({:ok, %{}}, fn text, {:ok, env} ->
      case variable(text) do
        {:ok, name, nil} -> {:cont, {:ok, Map.delete(env, name)}}
        {:ok, name, value} -> {:cont, {:ok, Map.put(env, name, value)}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  defp variable(text) do
    case String.split(text, "=", parts: 2) do
      [name, value] -> {:ok, name, value}
      [name] -> if Env.secret?(name), do: secret(name), else: {:ok, name, inherited_value(name)}
    end
  end

  # By its name alone it is easily given without a thought of what is in it.
  defp secret(name) do
    CommandLine.usage_error(
      "--env: #{name} looks like a secret's name; to give it all the same: --env #{name}=\"$#{name}\""
    )
  end

  defp inherited_value(name) do
    with value when value != nil <- System.get_env(name), do: CommandLine.as_typed(value)
  end

  @doc "The limits of a program that a shell runs, which may take longer than a call."
  @spec limits() :: keyword
  def limits, do: @limits

  @doc "The manifest that is asked for, as it is for what a shell runs; `limits` are those that it may leave open."
  @spec manifest(map, keyword) :: {:ok, Manifest.t() | nil} | {:error, Exception.t()}
  def manifest(%{manifest: path}, limits) do
    with {:ok, manifest} <- Manifest.load(path), do: {:ok, for_shell(manifest, limits)}
  end

  def manifest(_options, _limits), do: {:ok, nil}

  # Whoever captures a program's streams may pass them on, which is all that a shell does.
  defp for_shell(manifest, limits) do
    stdio = passed_on(manifest.capabilities[:stdio])

    %{
      manifest
      | capabilities: Keyword.put(manifest.capabilities, :stdio, stdio),
        limits: Keyword.merge(limits, manifest.limits)
    }
  end

  defp passed_on(streams) when is_list(streams),
    do: for({stream, grant} <- streams, do: {stream, passed_on(grant)})

  defp passed_on(none) when none in [nil, false, :none], do: :none
  defp passed_on(_captured), do: :inherited

  @doc """
  The sandbox with these capabilities and limits. Within a manifest they only narrow, and asking for what it does not grant
  is a mistake.
  """
  @spec sandbox(Manifest.t() | nil, keyword, keyword) ::
          {:ok, Sandbox.t()} | {:error, UsageError.t()}
  def sandbox(nil, asked, limits),
    do: @grants |> Keyword.merge(asked ++ limits) |> CommandLine.sandbox()

  def sandbox(manifest, asked, limits) do
    with {:ok, wanted} <- CommandLine.sandbox(asked ++ limits) do
      granted = Manifest.to_sandbox(manifest)
      asked = Map.take(wanted, Keyword.keys(asked))
      limits = Limits.put(granted.limits, Map.new(limits), :call)
      narrowed = Sandbox.narrow(granted, struct!(%{granted | limits: limits}, asked))

      case Enum.find(asked, &refused?(&1, narrowed)) do
        nil -> {:ok, narrowed}
        {capability, _grant} -> not_granted(capability, manifest, granted)
      end
    end
  end

  # What the manifest grants within a directory that is asked for comes with it.
  defp refused?({:filesystem, %{dirs: dirs, scratch: scratch, null: null}}, %{filesystem: left}),
    do: dirs -- left.dirs != [] or {scratch, null} != {left.scratch, left.null}

  defp refused?({capability, grant}, narrowed), do: grant != Map.fetch!(narrowed, capability)

  defp not_granted(capability, manifest, granted) do
    CommandLine.usage_error(
      "#{manifest.file} does not grant what is asked for, but\n  #{Explain.line(granted, capability)}"
    )
  end
end
