defmodule Mix.Tasks.Wasm.Compile do
  @shortdoc "Compiles WebAssembly modules ahead of time"

  @moduledoc """
  Compiles WebAssembly modules and keeps their code on disk, so that a node that starts later need not.
  What is there already is not compiled again.

      mix wasm.compile FILE... [options]

  Files are in the binary or the text format; `-` is standard input. For each a line is printed, in the
  order in which they are ready, or the error to standard error. The last line says where the code is
  kept: see `Cybernetic.WASM.Runtime.artifacts/0`.

  Code is found again by a node of the same build of this library, on a machine of the same kind, that
  runs as the same user with the same `artifact_dir`, and that loads the same bytes with the same options.

  ## Options

    * `--metering METERING` - `fuel` or `epoch`. Default: as configured.
    * `--deterministic` - for modules that are loaded with `deterministic: true`
    * `--json` - prints one JSON object, with an `error` for each file that has one
    * `--help`

  ## Exit status

    * 0 - the code of all files is kept
    * 1 - that of at least one is not
    * 2 - an unknown option, no file given, or nothing is kept on disk here

  ## Examples

      $ mix wasm.compile priv/wasm/compute.wasm priv/wasm/wordcount.wasm
      [1/2] priv/wasm/compute.wasm: 14008 bytes of code
      [2/2] priv/wasm/wordcount.wasm: 14040 bytes of code
      compiled 2, found 0, in /home/me/.cache/cybernetic_wasm/artifacts
  """

  use Mix.Task

  alias Cybernetic.WASM.{JSON, Module, Runtime}
  alias Mix.Tasks.Wasm.CommandLine

  @task "wasm.compile"
  @usage "FILE... [--metering METERING] [--deterministic] [--json]"
  @switches [metering: :string, deterministic: :boolean, json: :boolean]

  # The compiler shares itself out between those that wait for it.
  @together 8

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> compile(parsed, argv)
    end
  end

  defp compile(parsed, argv) do
    with {:ok, options, files} <- parsed,
         :ok <- some(files),
         {:ok, load} <- load_options(options),
         :ok <- CommandLine.start(),
         {:ok, folder} <- folder() do
      before = Runtime.stats()
      report = if options[:json], do: fn _file, _result, _at -> :ok end, else: &report/3
      results = compile_all(files, load, report)
      counts = %{compiled: grown(before, :artifact_writes), found: grown(before, :artifact_hits)}

      CommandLine.print(
        if options[:json], do: json(results, counts, folder), else: last(counts, folder)
      )

      unless Enum.all?(results, &match?({_file, {:ok, _module}}, &1)), do: exit({:shutdown, 1})
    else
      {:error, error} -> CommandLine.stop(error, @task, json: CommandLine.asked?(argv, "--json"))
    end
  end

  defp some([]), do: CommandLine.usage_error("FILE is missing\nusage: mix #{@task} #{@usage}")
  defp some(_files), do: :ok

  defp load_options(options) do
    deterministic = options |> Map.take([:deterministic]) |> Enum.to_list()

    case options[:metering] do
      nil -> {:ok, deterministic}
      "fuel" -> {:ok, [metering: :fuel] ++ deterministic}
      "epoch" -> {:ok, [metering: :epoch] ++ deterministic}
      other -> CommandLine.usage_error("--metering must be fuel or epoch, got: #{other}")
    end
  end

  defp folder do
    case Runtime.artifacts() do
      %{folder: folder, reason: nil} -> {:ok, folder}
      %{reason: reason} -> CommandLine.usage_error("nothing is kept on disk here: #{reason}")
    end
  end

  defp compile_all(files, load, report) do
    count = length(files)

    files
    |> Task.async_stream(&{&1, compile_one(&1, load)},
      max_concurrency: @together,
      ordered: false,
      timeout: :infinity
    )
    |> Enum.with_index(1)
    |> Enum.map(fn {{:ok, {file, result}}, index} ->
      report.(file, result, "[#{index}/#{count}]")
      {file, result}
    end)
  end

  defp compile_one(file, load) do
    with {:ok, module} <- CommandLine.load(file, load),
         :ok <- Runtime.keep(module) do
      {:ok, module}
    else
      {:error, reason} when is_binary(reason) ->
        CommandLine.usage_error("the code of #{file} cannot be kept: #{reason}")

      error ->
        error
    end
  end

  defp report(file, {:ok, module}, at),
    do: CommandLine.print("#{at} #{file}: #{Module.code_size(module)} bytes of code")

  defp report(_file, {:error, error}, at),
    do: CommandLine.warn("#{at} #{Exception.message(error)}")

  defp grown(before, key), do: Map.fetch!(Runtime.stats(), key) - Map.fetch!(before, key)

  defp last(counts, folder),
    do: "compiled #{counts.compiled}, found #{counts.found}, in #{folder}"

  defp json(results, counts, folder) do
    JSON.encode(
      folder: folder,
      compiled: counts.compiled,
      found: counts.found,
      files: Enum.map(results, &one/1)
    )
  end

  defp one({file, {:ok, module}}) do
    [file: file, digest: module.digest, size: module.size, code_size: Module.code_size(module)]
  end

  defp one({file, {:error, error}}), do: [file: file, error: CommandLine.facts(error)]
end
