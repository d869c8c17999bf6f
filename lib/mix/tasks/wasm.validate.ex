defmodule Mix.Tasks.Wasm.Validate do
  @shortdoc "Checks that WebAssembly modules can be loaded"

  @moduledoc """
  Checks that files are WebAssembly modules which the library loads: not too large, valid, and without
  features that are switched off. Each is compiled, and nothing in it runs.

      mix wasm.validate FILE... [--manifest MANIFEST]

  Files are in the binary or the text format; `-` is standard input. For each a line is printed:
  `FILE: ok` to standard output, or the error to standard error. The ceiling on size and the features
  are as configured: see `Cybernetic.WASM.Config`.

  ## Options

    * `--manifest MANIFEST` - checks the manifest as well, that each file is the module which it describes, and that it
      grants what each imports. A directory of this host that it grants and that is not there is a warning, and no error.
      See `Cybernetic.WASM.Sandbox.Manifest`; `mix wasm.manifest` writes one.
    * `--help`

  ## Exit status

    * 0 - all files are valid
    * 1 - at least one is not, or cannot be read
    * 2 - an unknown option, or no file given

  ## Examples

      $ mix wasm.validate priv/wasm/compute.wasm mix.exs
      priv/wasm/compute.wasm: ok
      cannot load mix.exs: not WebAssembly: it starts with the bytes 64 65 66 6d 6f 64 75 6c
      $ echo $?
      1
  """

  use Mix.Task

  alias Cybernetic.WASM.{DeniedError, Sandbox, Shown}
  alias Cybernetic.WASM.Sandbox.{Check, Manifest}
  alias Mix.Tasks.Wasm.CommandLine

  @task "wasm.validate"
  @usage "FILE... [--manifest MANIFEST]"

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, manifest: :string) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> validate(parsed)
    end
  end

  defp validate(parsed) do
    with {:ok, options, files} <- parsed,
         :ok <- some(files),
         :ok <- CommandLine.start() do
      valid? = files |> Enum.map(&valid?(&1, options[:manifest] || false)) |> Enum.all?()
      unless valid?, do: exit({:shutdown, 1})
    else
      {:error, error} -> CommandLine.stop(error, @task, [])
    end
  end

  defp some([]), do: CommandLine.usage_error("FILE is missing\nusage: mix #{@task} #{@usage}")
  defp some(_files), do: :ok

  defp valid?(file, manifest) do
    with {:ok, module} <- CommandLine.load(file, manifest: manifest),
         :ok <- granted(module) do
      CommandLine.print("#{file}: ok")
      Enum.each(missing(module), &CommandLine.warn("#{file}: warning: #{&1}"))
      true
    else
      {:error, error} ->
        CommandLine.warn(Exception.message(error))
        false
    end
  end

  # It may well be there where the module is to run.
  defp missing(%{manifest: nil}), do: []

  defp missing(module) do
    for {host, guest, _mode} <- Manifest.to_sandbox(module.manifest).filesystem.dirs,
        not File.dir?(host),
        do: "the directory #{Shown.path(host)}, granted as #{Shown.path(guest)}, is not there"
  end

  # What would fail when the module is linked. What a guest would be refused while it runs is its own affair.
  defp granted(%{manifest: nil}), do: :ok

  defp granted(module) do
    denied = Sandbox.check(module, Manifest.to_sandbox(module.manifest))
    with %DeniedError{} = error <- Check.to_error(denied), do: {:error, error}, else: (nil -> :ok)
  end
end
