defmodule Mix.Tasks.Wasm.Verify do
  @shortdoc "Checks the signatures of a WebAssembly module"

  @moduledoc """
  Checks that a WebAssembly module is signed by keys that are trusted, and has the digest that is expected. Nothing is compiled.

      mix wasm.verify FILE [options]

  What the configuration says of trust and pins holds, too: see `Cybernetic.WASM.Loader`. Where neither that nor an option says
  anything of this module, the task refuses. What was checked is printed: who has signed it, and which digests it was held to.

  ## Options

    * `--key KEY` - a public key that is trusted, `ed25519:…`, or a file with one such key a line. May be given several times.
    * `--threshold N` - how many of these keys have to sign. Default: 1.
    * `--signature PATH` - the file of signatures. Default: FILE.sig.
    * `--manifest MANIFEST` - the manifest that has to be signed with the module
    * `--digest DIGEST` - the digest that the module has to have, `sha256:…` or `blake3:…`
    * `--json` - prints one JSON object, with an `error` where there is one
    * `--help`

  ## Exit status

    * 0 - it is what was asked for
    * 1 - it is not
    * 2 - nothing to check, an unknown option, or a file that cannot be read

  ## Examples

      $ mix wasm.verify plugins/resize.wasm --key release.key.pub --manifest plugins/module.toml
      plugins/resize.wasm: blake3:5d055a7d5bec0de5405337154e927cddd1e5b123ce5f52c840b91e7b3d08e3af
      signed by ed25519:9bm4AKsbfFZ0eW0bzx4OwvhE7kPMWbX0yLEMGkYHA3g=
  """

  use Mix.Task

  alias Cybernetic.WASM.{Config, JSON, Loader, LoadError}
  alias Cybernetic.WASM.Loader.{Fetched, Pins}
  alias Mix.Tasks.Wasm.CommandLine

  @task "wasm.verify"
  @usage "FILE [--key KEY]... [--threshold N] [--signature PATH] [--manifest MANIFEST] [--digest DIGEST] [--json]"

  @switches [
    key: [:string, :keep],
    threshold: :integer,
    signature: :string,
    manifest: :string,
    digest: :string,
    json: :boolean
  ]

  @whose %{config: "by the configuration", option: "by --digest", manifest: "by the manifest"}

  @not_what_was_asked_for [:unsigned, :bad_signature, :untrusted, :digest_mismatch, :unpinned]

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> verify(parsed, argv)
    end
  end

  defp verify(parsed, argv) do
    with {:ok, options, words} <- parsed,
         {:ok, file} <- CommandLine.one_argument(words, "FILE", "mix #{@task} #{@usage}"),
         :ok <- CommandLine.start(),
         :ok <- something_to_check(options),
         :ok <- signature_there(options[:signature]),
         {:ok, fetched} <- verified(file, options),
         :ok <- something_checked(fetched, file) do
      CommandLine.print(if options[:json], do: json(file, fetched), else: text(file, fetched))
    else
      {:error, error} ->
        json? = CommandLine.asked?(argv, "--json")
        CommandLine.stop(error, @task, json: json?, status: status(error))
    end
  end

  # Whoever forgets the key is not to be told that all is well.
  defp something_to_check(options) do
    config = Config.get()
    asked = Enum.any?([:key, :threshold, :digest, :manifest], &is_map_key(options, &1))

    if asked or config.trust != nil or not Pins.none?(config.pins) do
      :ok
    else
      CommandLine.usage_error(
        "nothing to check: give --key or --digest, or configure trust: or pins:"
      )
    end
  end

  # As a signature that does not hold is no mistake of whoever asks, one that is not where he says it is has its own words.
  defp signature_there(nil), do: :ok

  defp signature_there(path) do
    if File.exists?(path),
      do: :ok,
      else: CommandLine.usage_error("--signature #{path}: no such file")
  end

  # The pins that are configured may all be for others, a manifest may name no digest, and trust: may let unsigned modules pass.
  defp something_checked(%{signers: [], pins: []}, file) do
    CommandLine.usage_error(
      "nothing was checked: no pin of the configuration is for #{file}, no manifest names its digest, and no signature is " <>
        "asked for. Give --key or --digest"
    )
  end

  defp something_checked(_fetched, _file), do: :ok

  defp status(%LoadError{reason: reason}) when reason in @not_what_was_asked_for, do: 1
  defp status(_error), do: nil

  # What is wrong with an option is the library's to say.
  defp verified(file, options) do
    Loader.verify(
      file,
      options |> Map.take([:signature, :manifest, :digest]) |> Enum.to_list() |> trusting(options)
    )
  rescue
    error in ArgumentError -> CommandLine.usage_error(Exception.message(error))
  end

  defp trusting(opts, options)
       when is_map_key(options, :key) or is_map_key(options, :threshold) do
    keys = for key <- Map.get(options, :key, []), do: key(key)
    [trust: [keys: keys] ++ Enum.to_list(Map.take(options, [:threshold]))] ++ opts
  end

  defp trusting(opts, _neither), do: opts

  defp key("ed25519:" <> _ = key), do: key
  defp key(path), do: {:file, path}

  defp text(file, fetched) do
    {digest, _fetched} = Fetched.digest(fetched, :blake3)
    signed = Enum.map(fetched.signers, &"signed by #{&1}")
    pinned = for {whose, digest} <- fetched.pins, do: "pinned #{@whose[whose]}: #{digest}"
    Enum.join(["#{file}: #{digest}"] ++ signed ++ pinned, "\n")
  end

  defp json(file, fetched) do
    {digest, fetched} = Fetched.digest(fetched, :blake3)
    {sha256, fetched} = Fetched.digest(fetched, :sha256)
    pins = for {whose, digest} <- fetched.pins, do: [by: whose, digest: digest]
    JSON.encode(file: file, digest: digest, sha256: sha256, signers: fetched.signers, pins: pins)
  end
end
