defmodule Mix.Tasks.Wasm.Keygen do
  @shortdoc "Makes a pair of keys to sign WebAssembly modules with"

  @moduledoc """
  Makes a pair of Ed25519 keys: the private one signs modules, and hosts trust the public one.

      mix wasm.keygen PATH [--json]

  The private key goes to PATH, which only its owner may read, and the public one to PATH.pub. Neither file may be there yet. The
  public key is printed, as `trust: [keys: …]` takes it: see `Cybernetic.WASM.Loader`.

  ## Options

    * `--json` - prints one JSON object, with an `error` where there is one
    * `--help`

  ## Exit status

    * 0 - the keys are written
    * 2 - an unknown option, or a file cannot be written

  ## Examples

      $ mix wasm.keygen release.key
      ed25519:9bm4AKsbfFZ0eW0bzx4OwvhE7kPMWbX0yLEMGkYHA3g=
  """

  use Mix.Task

  alias Cybernetic.WASM.JSON
  alias Cybernetic.WASM.Loader.Keys
  alias Mix.Tasks.Wasm.CommandLine

  @task "wasm.keygen"
  @usage "PATH [--json]"

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, json: :boolean) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> make(parsed, argv)
    end
  end

  defp make(parsed, argv) do
    with {:ok, options, words} <- parsed,
         {:ok, path} <- CommandLine.one_argument(words, "PATH", "mix #{@task} #{@usage}"),
         {public, _private} = keys = Keys.generate(),
         :ok <- write(path, keys) do
      key = Keys.to_text(public)
      json = [key: key, private: path, public: path <> ".pub"]
      CommandLine.print(if options[:json], do: JSON.encode(json), else: key)
    else
      {:error, error} -> CommandLine.stop(error, @task, json: CommandLine.asked?(argv, "--json"))
    end
  end

  defp write(path, keys) do
    with {:error, at, why} <- Keys.write_new(path, keys),
         do: CommandLine.usage_error(refused(at, path, why))
  end

  defp refused(at, path, why) do
    cond do
      File.dir?(at) ->
        "#{at} is a folder: give the path of a file in it"

      File.exists?(at) ->
        "#{at}: #{why}, and no key is written over: choose another PATH, or move it away"

      File.dir?(Path.dirname(path)) ->
        "#{path}: #{why}"

      true ->
        "#{path}: there is no folder #{Path.dirname(path)}"
    end
  end
end
