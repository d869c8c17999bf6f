defmodule Mix.Tasks.Wasm.Sign do
  @shortdoc "Signs a WebAssembly module"

  @moduledoc """
  Signs a WebAssembly module, and the manifest that it comes with. Nothing is compiled.

      mix wasm.sign FILE --key KEY [options]

  The signature goes to FILE.sig, beside the module, where `Cybernetic.WASM.Runtime.load_module/2` looks for it. If that file has
  signatures of other keys for the same module and manifest, this one is added to them. Signatures for another module or manifest,
  such as those of the version before, are replaced.

  ## Options

    * `--key KEY` - the file of the private key, of `mix wasm.keygen`. Nobody but its owner may be able to read it.
    * `--manifest MANIFEST` - the manifest that is signed with the module. A load with a manifest needs that, unless its host says
      otherwise.
    * `--json` - prints one JSON object, with an `error` where there is one
    * `--help`

  ## Exit status

    * 0 - the module is signed
    * 2 - an unknown option, a file that cannot be read or written, or a key that is none

  ## Examples

      $ mix wasm.sign plugins/resize.wasm --key release.key --manifest plugins/module.toml
      plugins/resize.wasm.sig: ed25519:9bm4AKsbfFZ0eW0bzx4OwvhE7kPMWbX0yLEMGkYHA3g=
  """

  use Mix.Task

  alias Cybernetic.WASM.{JSON, Loader, RegularFile, Shown}
  alias Cybernetic.WASM.Loader.{Fetched, Keys, Signature}
  alias Mix.Tasks.Wasm.CommandLine

  @task "wasm.sign"
  @usage "FILE --key KEY [--manifest MANIFEST] [--json]"

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, key: :string, manifest: :string, json: :boolean) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> sign(parsed, argv)
    end
  end

  defp sign(parsed, argv) do
    with {:ok, options, words} <- parsed,
         {:ok, file} <- CommandLine.one_argument(words, "FILE", "mix #{@task} #{@usage}"),
         {:ok, private} <- private(options[:key]),
         :ok <- CommandLine.start(),
         {:ok, fetched} <- Loader.fetch(file, manifest: options[:manifest] || false),
         {:ok, signature} <- before(file <> ".sig", unsigned(fetched)),
         signature = Signature.sign(signature, private),
         :ok <- write(file <> ".sig", Signature.encode(signature)) do
      report(file <> ".sig", Keys.public(private), signature, options)
      unless options[:manifest], do: tell_of_manifest(file)
    else
      {:error, error} -> CommandLine.stop(error, @task, json: CommandLine.asked?(argv, "--json"))
    end
  end

  defp private(nil),
    do: CommandLine.usage_error("--key is missing\nusage: mix #{@task} #{@usage}")

  defp private(path) do
    with {:error, why} <- Keys.read_private(path),
         do: CommandLine.usage_error("the key #{Shown.path(path)}: #{why}")
  end

  defp unsigned(fetched) do
    {digest, _fetched} = Fetched.digest(fetched, :blake3)
    Signature.new(digest, fetched.manifest && fetched.manifest.text_digest)
  end

  # What is there already, if it is for the same.
  defp before(path, unsigned) do
    with {:ok, text} <- RegularFile.read(path, Signature.most_bytes()),
         {:ok, signature} <- Signature.parse(text) do
      same? = {signature.module, signature.manifest} == {unsigned.module, unsigned.manifest}
      {:ok, if(same?, do: signature, else: unsigned)}
    else
      {:error, :enoent} ->
        {:ok, unsigned}

      {:error, why} when is_binary(why) ->
        cannot(path, "#{why}; nothing is written over it: move it away first")

      {:error, refusal} ->
        cannot(path, RegularFile.words(refusal))
    end
  end

  # Whoever loads with it would be refused, and would not know why.
  defp tell_of_manifest(file) do
    beside = Path.join(Path.dirname(file), "module.toml")

    if File.regular?(beside) do
      CommandLine.warn(
        "mix #{@task}: #{beside} is not signed; a load with it is refused, unless its host says trust: [manifest: :any]. " <>
          "To sign it as well: --manifest #{beside}"
      )
    end
  end

  defp write(path, text) do
    with {:error, reason} <- File.write(path, text),
         do: cannot(path, to_string(:file.format_error(reason)))
  end

  defp cannot(path, why), do: CommandLine.usage_error("#{path}: #{why}")

  defp report(path, key, signature, options) do
    key = Keys.to_text(key)
    json = [file: path, key: key, module: signature.module, manifest: signature.manifest]
    CommandLine.print(if options[:json], do: JSON.encode(json), else: "#{path}: #{key}")
  end
end
