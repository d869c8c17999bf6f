defmodule Mix.Tasks.Wasm.Run do
  @shortdoc "Runs a WebAssembly program as a command"

  @moduledoc """
  Runs a program for WASI preview 1 as a shell runs any other command: its standard input, output and
  error are the program's, byte for byte, and so is its exit status.

      mix wasm.run FILE [ARG...] [options] [-- ARG...]

  FILE is in the binary or the text format and exports `_start`; `-` is standard input, of which
  nothing is left for the program then. All else that is no option is an argument of the program, in
  the order of the command line; after `--` nothing is an option.

  The program has its arguments, the standard streams, the clock and random bytes. It has no files and
  no environment variables but what is granted here, never a network, and no host functions.

  ## Options

    * `--dir HOST::GUEST` - a directory that the program finds at the path GUEST, and may read and
      write. With `:ro` at the end it is for reading only; `:rw` is the default. HOST alone is found
      under its own name: `--dir data` at `/data`, `--dir .` at `/`. May be given several times.
    * `--scratch GUEST` - an empty directory at that path, removed afterwards
    * `--null` - a null device at `/dev/null`, without which some programs do not start
    * `--env NAME=VALUE` - an environment variable; `--env NAME` has the shell's value, if there is
      one. May be given several times.
    * `--arg ARG` - an argument that looks like an option
    * `--program NAME` - what the program is told that it is called. Default: the file's name
    * `--random-seed N` - the same random bytes for the same N. Default: the system's
    * `--clock fixed:N` - the time is N nanoseconds after the beginning of 1970, and only sleeping,
      which takes none, moves it on. Files of `--dir` and `--scratch` show one time, too. Default: the
      real time
    * `--fuel N` - units of fuel, about one per instruction. Default: 100,000,000,000,000
    * `--timeout N` - milliseconds, waiting for input included. Default: 3,600,000, an hour
    * `--max-memory N` - bytes of all memories and tables, also as `64K`, `16M` or `1G` (of 1024).
      Default: 100,000,000, or what is configured
    * `--manifest PATH` - what the program may use instead of all the above: see
      `Cybernetic.WASM.Sandbox.Manifest`. Options then only narrow it: limits are lowered, of its
      directories those that are given are left. To ask for what it does not grant is a mistake.
    * `--unknown-imports trap` - the program runs, and traps when it calls a function that is neither
      WASI's nor a host's. Default: `refuse`, before anything runs
    * `--usage` - also prints what the program used, to standard error
    * `--help`

  ## Limits

  A program at a terminal may take longer than a call on a server. The hour is what ends it: beside
  `--fuel` it has 10,000,000,000 calls of functions that it imports, 10,000,000,000,000 bytes of
  output, 10,000,000,000 bytes written to files, 1,000 open files, and FILE may have 1,000,000,000
  bytes. A manifest that leaves limits open leaves them at these. The others are as configured: see
  `Cybernetic.WASM.Config`.

  ## Exit status

    * the program's own, of which a shell sees the last eight bits; 255 where these are 0 and it is not
    * 134 - it trapped, or a limit stopped it: what a shell shows for an abort, and `wasmtime run` gives
    * 141 - whoever reads its output is gone, as in `| head -1`: what a shell shows for a closed
      pipe. Nothing is said.
    * 143 - it was ended by SIGTERM. Nothing is said.
    * 2 - the mistake is on the command line: an unknown option, no such file, not a program, more
      than the manifest grants, imports of host functions
    * 1 - what is neither its fault nor yours: its output cannot be written, no room on the node

  Messages to standard error begin with `mix wasm.run:`, which tells these from the program's own.

  ## What is different from other commands

  Ctrl-C is the VM's, which asks what to do; a second one ends it. The VM also reads standard input
  ahead of the program.

  ## Examples

      $ mix wasm.run priv/wasm/wc.wasm < LICENSE
      202 1581 11358

      $ mix wasm.run priv/wasm/wc.wasm --dir .::/here:ro /here/LICENSE /here/nope
      202 1581 11358 /here/LICENSE
      wc: /here/nope: No such file or directory
      $ echo $?
      1

      $ mix wasm.run priv/wasm/wc.wasm LICENSE
      wc: LICENSE: Capabilities insufficient

      $ sleep 10 | mix wasm.run priv/wasm/wc.wasm --timeout 500
      mix wasm.run: the timeout limit was reached: 500 milliseconds allowed, 505 used (to raise: --timeout)
      $ echo $?
      134
  """

  use Mix.Task

  alias Cybernetic.WASM.{Executor, HostError, LimitError, Limits, Runtime, TrapError}
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Mix.Tasks.Wasm.{CommandLine, Foreground, GrantOptions}
  alias Mix.Tasks.Wasm.{ImportOptions, LimitOptions, UsageReport}

  @task "wasm.run"
  @usage "FILE [ARG...] [--dir HOST::GUEST[:ro]] [--scratch GUEST] [--null] [--env NAME[=VALUE]] [--arg ARG] " <>
           "[--program NAME] [--random-seed N] [--clock fixed:N] [--fuel N] [--timeout N] [--max-memory N] " <>
           "[--manifest PATH] [--unknown-imports trap] [--usage] [-- ARG...]"
  @switches [arg: :string, program: :string, usage: :boolean] ++
              GrantOptions.switches() ++ ImportOptions.switches() ++ LimitOptions.switches()

  # A limit against strangers' modules, whereas this one is the user's own.
  @max_module_size 1_000_000_000

  @trapped 134
  @pipe_closed 141
  @terminated 143
  @out_of_range 255

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      {:ok, options, words} -> options |> run_program(words) |> finish(options[:usage])
      {:error, error} -> fail({:error, error}, false)
    end
  end

  defp run_program(options, words) do
    with {:ok, file, args} <- program(words),
         {:ok, limits} <- LimitOptions.read(options),
         {:ok, grants} <- GrantOptions.read(options),
         {:ok, env} <- GrantOptions.environment(options),
         {:ok, imports} <- ImportOptions.read(options),
         :ok <- CommandLine.start(),
         {:ok, manifest} <- GrantOptions.manifest(options, GrantOptions.limits()),
         {:ok, sandbox} <- sandbox(manifest, grants, limits),
         {:ok, module} <- load(file, manifest, limits) do
      opts = [args: args, env: env, sandbox: sandbox] ++ imports
      opts = opts ++ name(options[:program] || module.name)
      with_scratch(sandbox, fn -> run_guest(module, opts) end)
    end
  end

  defp sandbox(nil, grants, limits),
    do: GrantOptions.sandbox(nil, grants, Keyword.merge(GrantOptions.limits(), limits))

  defp sandbox(manifest, grants, limits), do: GrantOptions.sandbox(manifest, grants, limits)

  defp name(nil), do: []
  defp name(name), do: [program: name]

  defp program(words) do
    case Enum.split_while(words, &match?({:arg, _text}, &1)) do
      {_args, []} -> CommandLine.usage_error("FILE is missing\nusage: mix #{@task} #{@usage}")
      {args, [file | words]} -> {:ok, file, Enum.map(args ++ words, &argument/1)}
    end
  end

  defp argument({:arg, text}), do: text
  defp argument(text), do: text

  # The sandbox is within the manifest already.
  defp load(file, manifest, limits) do
    opts = [max_module_size: @max_module_size] ++ LimitOptions.metering(limits)

    with {:ok, module} <- CommandLine.load(file, opts),
         :ok <- if(manifest, do: Manifest.check(manifest, module), else: :ok),
         do: {:ok, module}
  end

  # The library removes a guest's own directory in the background, for which there is no time when the node ends.
  defp with_scratch(sandbox, function) do
    function.()
  after
    if sandbox.filesystem.scratch || sandbox.filesystem.null, do: Runtime.stop()
  end

  defp run_guest(module, opts) do
    limits = opts[:sandbox].limits
    timeout = limits.timeout

    with :overdue <- Foreground.run(fn -> call(module, opts) end, timeout) do
      overdue = %LimitError{limit: :timeout, allowed: timeout, used: timeout}
      {:error, Limits.attribute(overdue, limits)}
    end
  end

  # It is alone on its node: there is nobody to make room for on another kind of scheduler.
  defp call(module, opts) do
    case Executor.run(module, :start, [scheduling: :inline] ++ opts) do
      {:error, %HostError{reason: %IO.StreamError{}, import: {_, "fd_write"}}} -> :closed
      result -> result
    end
  rescue
    error in ArgumentError -> CommandLine.usage_error(Exception.message(error))
  end

  # The end

  defp finish({:ok, run}, usage?) do
    if usage?, do: UsageReport.print(run.usage)
    with status when status > 0 <- status(run.exit_code), do: leave(status)
  end

  defp finish(ended, usage?), do: fail(ended, usage?)

  @spec fail({:unwritten, atom} | :terminated | {:error, CommandLine.error()}, boolean | nil) ::
          no_return
  defp fail({:unwritten, :epipe}, _usage?), do: leave(@pipe_closed)

  defp fail({:unwritten, reason}, _usage?) do
    CommandLine.warn("mix #{@task}: the output cannot be written: #{:file.format_error(reason)}")
    leave(1)
  end

  defp fail(:terminated, _usage?), do: leave(@terminated)

  defp fail({:error, error}, usage?) do
    usage = if usage?, do: Map.get(error, :usage)
    if usage, do: UsageReport.print(usage)
    CommandLine.stop(error, @task, status: status_of(error))
  end

  @spec leave(pos_integer) :: no_return
  defp leave(status), do: exit({:shutdown, status})

  defp status(0), do: 0
  defp status(code) when rem(code, 256) == 0, do: @out_of_range
  defp status(code), do: rem(code, 256)

  defp status_of(%LimitError{blame: :node}), do: 1
  defp status_of(%kind{}) when kind in [LimitError, TrapError], do: @trapped
  defp status_of(_by_its_blame), do: nil
end
