defmodule Mix.Tasks.Wasm.Watch do
  @shortdoc "Loads the WebAssembly modules of a folder, and again when their files change"

  @moduledoc """
  Follows a folder while you work on what builds its modules: each is loaded under the name of its file, and reloaded when that
  changes. One line is printed for each load, and for each that fails: then the version before stays. Of a module that is there as
  `.wasm` and as `.wat` the `.wasm` is loaded.

      mix wasm.watch FOLDER [--app] [--interval N] [--widen]

  What is checked is what `Cybernetic.WASM.Runtime.reload/3` checks. It goes on until it is ended.

  ## Options

    * `--app` - starts your project's application, as `mix run` does: what calls the modules by their names gets the new ones.
      By default this library alone is started.
    * `--interval N` - milliseconds between two looks at the folder. Default: 1,000.
    * `--widen` - a new version may import more than the one before
    * `--help`

  ## Exit status

    * 2 - an unknown option, or no such folder

  ## Examples

      $ mix wasm.watch priv/wasm
      compute: 0.1.0 is loaded, blake3:5c1d7ac6
      compute: 0.1.0 stays: cannot load priv/wasm/compute.wasm: invalid at offset 212: unexpected end
      compute: 0.1.1 is loaded, blake3:09f3b2e4
  """

  use Mix.Task

  alias Cybernetic.WASM.Runtime
  alias Mix.Tasks.Wasm.{CommandLine, TextFormat}

  @task "wasm.watch"
  @usage "FOLDER [--app] [--interval N] [--widen]"
  @switches [app: :boolean, interval: :string, widen: :boolean]

  # A process waits no longer.
  @longest 0xFFFF_FFFF

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> follow(parsed)
    end
  end

  defp follow(parsed) do
    with {:ok, options, words} <- parsed,
         {:ok, folder} <- folder(words),
         {:ok, interval} <- interval(options[:interval]),
         :ok <- CommandLine.start(),
         :ok <- start_app(options[:app]),
         {:ok, watch} <- watch(folder, interval ++ reload(options[:widen])) do
      print(Process.monitor(watch))
    else
      {:error, error} -> CommandLine.stop(error, @task, [])
    end
  end

  defp folder([folder]) when is_binary(folder), do: {:ok, folder}

  defp folder(_words),
    do: CommandLine.usage_error("one FOLDER is needed\nusage: mix #{@task} #{@usage}")

  defp interval(nil), do: {:ok, []}

  defp interval(text) do
    case TextFormat.integer(text) do
      {:ok, milliseconds} when milliseconds in 1..@longest ->
        {:ok, [interval: milliseconds]}

      _ ->
        CommandLine.usage_error(
          "--interval must be a positive number of milliseconds, got: #{text}"
        )
    end
  end

  defp start_app(true) do
    Mix.Task.run("app.start")
    :ok
  end

  defp start_app(_no), do: :ok

  defp reload(true), do: [reload: [allow: :widen]]
  defp reload(_no), do: []

  # The process that looks has another terminal, as it were: the lines are printed here.
  defp watch(folder, opts) do
    printer = self()
    Runtime.watch(folder, [report: &send(printer, {:line, &1})] ++ opts)
  end

  defp print(monitor) do
    receive do
      {:line, line} ->
        CommandLine.print(line)
        print(monitor)

      {:DOWN, ^monitor, :process, _pid, reason} ->
        exit(reason)
    end
  end
end
