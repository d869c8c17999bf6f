defmodule Mix.Tasks.Wasm.Run do
  @shortdoc "Runs a WebAssembly program as a command"

  @moduledoc """
  Runs a program for WASI preview 1 as a shell runs any other command: its standard input, output and
  error are the program's, byte for byte, and so is its exit status.

      mix wasm.run FILE [ARG...] [options] [-- ARG...]

  FILE is in the binary or the text format and exports `_start`; `-` is standard input, of which
  nothing is left for the program then. Whatever else is no option is an argument of the program, in
  the order of the command line. After `--` nothing is an option.

  The program has its arguments, standard streams, the clock and random bytes. It has no files, no
  environment variables and no host functions but what is granted here, and never a network.

  ## Options

    * `--dir HOST::GUEST` - a directory, which the program finds at the path GUEST and may read and
      write. `HOST::GUEST:ro` is for reading only, `:rw` is the default. HOST alone is found under
      its own name: `--dir data` at `/data`, `--dir .` at `/`. May be given several times.
    * `--scratch GUEST` - an empty directory at that path, removed afterwards
    * `--env NAME=VALUE` - an environment variable; `--env NAME` has the shell's value, if it has
      one. May be given several times.
    * `--arg ARG` - an argument that looks like an option
    * `--random-seed N` - the same random bytes for the same N. Default: the system's random bytes
    * `--clock fixed:N` - it is always N nanoseconds after the beginning of 1970, and sleeping takes
      no time. Default: the real time
    * `--fuel N` - units of fuel, about one per instruction. Default: 10,000,000,000,000
    * `--timeout N` - milliseconds, waiting for input included. Default: 3,600,000, an hour
    * `--max-memory N` - bytes of all memories and tables, also as `64K`, `16M` or `1G` (of 1024).
      Default: 100,000,000, or what is configured
    * `--manifest PATH` - what the program may use, instead of the above: see
      `Cybernetic.WASM.Sandbox.Manifest`. Options only narrow it: of directories, those that are
      given are left, and limits are the lower ones; what it does not grant is a mistake.
    * `--usage` - also prints what the program used, to standard error
    * `--help`

  ## Limits

  A program at a terminal may take longer than a call of a server. So that the hour is over first,
  the other defaults are larger here, too: 10,000,000,000 calls of WASI's functions,
  10,000,000,000,000 bytes of output, 10,000,000,000 bytes written to files, 1,000 open files, a
  module of 1,000,000,000 bytes. They also hold where a manifest says nothing; the others are as
  configured: see `Cybernetic.WASM.Config`.

  ## Exit status

    * the program's own, of which a shell sees the last eight bits. One that would come to 0 by that
      and is not is 255.
    * 134 - it trapped, or a limit stopped it: a shell's word for an abort, as of other runtimes
    * 141 - whoever read its output is gone, as in `| head -1`: a shell's word for a closed pipe.
      There is no message.
    * 2 - the mistake is on the command line: an unknown option, no such file, not a program, not
      granted by the manifest, host functions
    * 1 - anything else that is not the program's own, such as a node without room for it

  Messages go to standard error and begin with `mix wasm.run:`, which tells 1 and 2 from a program's.

  ## Differences from other commands

  Standard streams are never a terminal to the program. The VM reads standard input ahead of the
  program, and Ctrl-C is its own: it asks what to do, and a second one ends it.

  ## Examples

      $ mix wasm.run priv/wasm/wc.wasm < LICENSE
      $ mix wasm.run priv/wasm/wc.wasm --dir .::/here:ro /here/LICENSE /here/nope
      $ echo $?
      $ mix wasm.run priv/wasm/wc.wasm /etc/passwd
  """

  use Mix.Task

  alias Cybernetic.WASM.{Error, Executor, HostError, LimitError, Sandbox, TrapError}
  alias Cybernetic.WASM.Sandbox.Capabilities.Env
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Mix.Tasks.Wasm.{CommandLine, LimitOptions, TextFormat, UsageReport}

  @task "wasm.run"
  @usage "FILE [ARG...] [--dir HOST::GUEST[:ro]] [--env NAME[=VALUE]] [--arg ARG] [--scratch GUEST] " <>
           "[--manifest PATH] [--random-seed N] [--clock fixed:N] [--fuel N] [--timeout N] " <>
           "[--max-memory N] [--usage] [-- ARG...]"
  @switches [
              dir: [:string, :keep],
              env: [:string, :keep],
              arg: [:string, :keep],
              scratch: :string,
              manifest: :string,
              random_seed: :string,
              clock: :string
            ] ++ LimitOptions.switches() ++ [usage: :boolean]

  # The command preset's grants, but with the shell's own streams.
  @grants [clocks: :real, random: :system, stdio: :inherited, env: :any]
  @limits [
    timeout: 3_600_000,
    fuel: 10_000_000_000_000,
    max_host_calls: 10_000_000_000,
    max_output: 10_000_000_000_000
  ]
  @files [quota: 10_000_000_000, max_open: 1_000]
  @max_module_size 1_000_000_000

  # The guest notices by itself that its time is over, unless it waits for a device.
  @late 100
  # A process waits no longer.
  @longest_wait 0xFFFF_FFFF

  @aborted 134
  @pipe_closed 141
  @out_of_range 255

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> parsed |> run_program() |> finish(CommandLine.asked?(argv, "--usage"))
    end
  end

  defp run_program(parsed) do
    with {:ok, options, words} <- parsed,
         {:ok, file, args} <- program(words),
         {:ok, limits} <- LimitOptions.read(options),
         {:ok, asked} <- asked(options),
         {:ok, env} <- environment(options),
         :ok <- CommandLine.start(),
         {:ok, manifest} <- manifest(options),
         {:ok, sandbox} <- sandbox(manifest, asked, limits),
         {:ok, module} <- load(file, manifest, limits) do
      run_guest(module, [args: args, env: env, sandbox: sandbox], sandbox.limits.timeout)
    end
  end

  defp load(file, manifest, limits) do
    opts = [manifest: manifest, max_module_size: @max_module_size]
    CommandLine.load(file, opts ++ LimitOptions.metering(limits))
  end

  # The command line

  defp program(words) do
    case Enum.split_while(words, &match?({:arg, _}, &1)) do
      {_args, []} -> CommandLine.usage_error("FILE is missing\nusage: mix #{@task} #{@usage}")
      {args, [file | words]} -> {:ok, file, Enum.map(args ++ words, &argument/1)}
    end
  end

  defp argument({:arg, text}), do: text
  defp argument(text), do: text

  # The capabilities that are asked for, as the options of a sandbox.
  defp asked(options) do
    with {:ok, filesystem} <- filesystem(options),
         {:ok, clocks} <- clocks(options[:clock]),
         {:ok, random} <- random(options[:random_seed]),
         do: {:ok, filesystem ++ clocks ++ random}
  end

  defp filesystem(%{dir: _} = options) do
    with {:ok, dirs} <- dirs(options.dir), do: files(dirs, options)
  end

  defp filesystem(options), do: files([], options)

  defp files([], options) when not is_map_key(options, :scratch), do: {:ok, []}

  defp files(dirs, options) do
    scratch = Map.get(options, :scratch, false)
    {:ok, [filesystem: [dirs: dirs, scratch: scratch] ++ @files]}
  end

  defp dirs(texts) do
    dirs = Enum.map(texts, &dir/1)

    case Enum.find(dirs, fn {host, _guest, _mode} -> not File.dir?(host) end) do
      nil -> {:ok, dirs}
      {host, _guest, _mode} -> CommandLine.usage_error("--dir: no such directory: #{host}")
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

  defp environment(options) do
    options
    |> Map.get(:env, [])
    |> Enum.reduce_while({:ok, %{}}, fn text, {:ok, env} ->
      case String.split(text, "=", parts: 2) do
        [name, value] -> {:cont, {:ok, Map.put(env, name, value)}}
        [name] -> inherit(name, env)
      end
    end)
  end

  # The name alone may have been given without thinking of what is in it.
  defp inherit(name, env) do
    if Env.secret?(name) do
      {:halt,
       CommandLine.usage_error(
         "--env: #{name} looks like a secret's name; to give it all the same: --env #{name}=\"$#{name}\""
       )}
    else
      value = System.get_env(name)
      {:cont, {:ok, if(value, do: Map.put(env, name, value), else: env)}}
    end
  end

  # The sandbox

  defp manifest(%{manifest: path}) do
    with {:ok, manifest} <- Manifest.load(path), do: {:ok, passed_on(manifest)}
  end

  defp manifest(_options), do: {:ok, false}

  # What a program's caller captures goes on to the shell, and what the manifest leaves open is as without one.
  defp passed_on(manifest) do
    stdio = inherited(manifest.capabilities[:stdio])

    %{
      manifest
      | capabilities: Keyword.put(manifest.capabilities, :stdio, stdio),
        limits: Keyword.merge(@limits, manifest.limits)
    }
  end

  defp inherited(streams) when is_list(streams),
    do: for({stream, grant} <- streams, do: {stream, inherited(grant)})

  defp inherited(none) when none in [nil, false, :none], do: :none
  defp inherited(_captured), do: :inherited

  defp sandbox(false, asked, limits),
    do: CommandLine.sandbox(@grants |> Keyword.merge(@limits ++ asked) |> Keyword.merge(limits))

  defp sandbox(manifest, asked, limits) do
    with {:ok, wanted} <- CommandLine.sandbox(asked ++ limits) do
      granted = Manifest.to_sandbox(manifest)
      limits = struct!(granted.limits, limits)
      asked = Map.take(wanted, Keyword.keys(asked))
      narrowed = Sandbox.narrow(granted, struct!(%{granted | limits: limits}, asked))

      case Enum.find(asked, &refused?(&1, narrowed)) do
        nil -> {:ok, narrowed}
        {capability, _} -> not_granted(capability, manifest, granted)
      end
    end
  end

  defp refused?({:filesystem, asked}, narrowed) do
    Map.take(asked, [:dirs, :scratch]) != Map.take(narrowed.filesystem, [:dirs, :scratch])
  end

  defp refused?({capability, asked}, narrowed), do: asked != Map.fetch!(narrowed, capability)

  defp not_granted(capability, manifest, granted) do
    granted =
      granted
      |> Sandbox.explain()
      |> String.split("\n")
      |> Enum.find(&String.starts_with?(&1, "#{capability}: "))

    CommandLine.usage_error(
      "#{manifest.file} does not grant what is asked for; in it is #{granted}"
    )
  end

  # The guest

  # In a process of its own, which can be left in the middle of reading or writing.
  defp run_guest(module, opts, timeout) do
    CommandLine.as_bytes([Process.group_leader(), :standard_error], fn ->
      began = System.monotonic_time(:millisecond)
      task = Task.async(fn -> call(module, opts) end)

      case Task.yield(task, min(timeout + @late, @longest_wait)) do
        {:ok, result} -> result
        nil -> overdue(task, timeout, began)
      end
    end)
  end

  defp overdue(task, timeout, began) do
    # It may have ended in the last moment.
    with nil <- Task.shutdown(task, :brutal_kill) do
      used = System.monotonic_time(:millisecond) - began
      {:error, %LimitError{limit: :timeout, allowed: timeout, used: used}}
    else
      {:ok, result} -> result
    end
  end

  defp call(module, opts) do
    Executor.run(module, :start, opts)
  rescue
    IO.StreamError -> :closed
    error in ArgumentError -> CommandLine.usage_error(Exception.message(error))
  end

  # The end

  defp finish({:ok, run}, usage?) do
    if usage?, do: UsageReport.print(run.usage)
    leave(status(run.exit_code))
  end

  defp finish(:closed, _usage?), do: leave(@pipe_closed)

  defp finish({:error, error}, usage?) do
    usage = if usage?, do: Map.get(error, :usage)
    if usage, do: UsageReport.print(usage)
    CommandLine.stop(error, @task, status: status_of(error))
  end

  defp status_of(%kind{}) when kind in [TrapError, LimitError], do: @aborted
  defp status_of(_error), do: nil

  defp status(0), do: 0

  defp status(code) do
    case rem(code, 256) do
      0 -> @out_of_range
      status -> status
    end
  end

  defp leave(0), do: :ok
  defp leave(status), do: exit({:shutdown, status})
end
