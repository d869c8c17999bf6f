defmodule Mix.Tasks.Wasm.Manifest do
  @shortdoc "Writes a manifest for a WebAssembly module to start from"

  @moduledoc """
  Writes a manifest for a WebAssembly module, with the capabilities that its imports suggest and a comment
  on what each of them grants. Nothing in the module runs.

      mix wasm.manifest FILE [--output PATH]

  FILE is in the binary or the text format; `-` is standard input. The manifest goes to standard output. It is
  one to start from: no files, no network and nothing of the VM's environment are granted in it, and its
  limits are the configured ones. What the keys mean is said in `Cybernetic.WASM.Sandbox.Manifest`.

  ## Options

    * `--output PATH` - writes it there, and refuses to overwrite a file. Beside its module it is called
      `module.toml`, beside a component `Component.toml` as well.
    * `--help`

  ## Exit status

    * 0 - the manifest is written
    * 1 - the node has no room for the module's code
    * 2 - an unknown option, no such file, not a valid module, or PATH cannot be written

  ## Examples

      $ mix wasm.manifest priv/wasm/wordcount.wasm --output priv/wasm/module.toml
      $ mix wasm.validate priv/wasm/wordcount.wasm --manifest priv/wasm/module.toml
      priv/wasm/wordcount.wasm: ok
  """

  use Mix.Task

  alias Cybernetic.WASM.Config
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Mix.Tasks.Wasm.{CommandLine, StarterManifest}

  @task "wasm.manifest"
  @usage "FILE [--output PATH]"

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, output: :string) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> write(parsed)
    end
  end

  defp write(parsed) do
    with {:ok, options, words} <- parsed,
         {:ok, file} <- CommandLine.one_argument(words, "FILE", "mix #{@task} #{@usage}"),
         :ok <- CommandLine.start(),
         {:ok, module} <- CommandLine.load(file),
         text = StarterManifest.text(module, Config.get().limits),
         # A module with more imports than a manifest has room for.
         {:ok, _manifest} <- Manifest.parse(text, file: "the manifest of #{file}"),
         :ok <- put(text, options[:output]) do
      :ok
    else
      {:error, error} -> CommandLine.stop(error, @task, [])
    end
  end

  defp put(text, nil), do: text |> String.trim_trailing() |> CommandLine.print()

  defp put(text, path) do
    with {:error, reason} <- File.write(path, text, [:exclusive]),
         do: CommandLine.usage_error("#{path}: #{:file.format_error(reason)}")
  end
end
