defmodule Mix.Tasks.Wasm.Store do
  @shortdoc "Keeps WebAssembly modules by name, version and digest"

  @moduledoc """
  Puts modules into a store, gets them out of it, and looks after it: see `Cybernetic.WASM.Store`.

      mix wasm.store put FILE [--name NAME] [--version VERSION] [--note TEXT]
      mix wasm.store get REFERENCE [--output FILE]
      mix wasm.store list
      mix wasm.store versions NAME
      mix wasm.store delete NAME@VERSION|DIGEST
      mix wasm.store prune --keep COUNT [--name NAME]
      mix wasm.store gc
      mix wasm.store verify

  A FILE that is `-` is standard input or output. A REFERENCE is a name, a name with a version or a requirement, or a digest:
  `acme/thumb`, `acme/thumb@1.2`, `"acme/thumb@~> 1.2"`, `sha256:…`. What is put into a store is taken as it is; whether it is a
  valid module shows when it is loaded.

    * `put` - without `--version` the version is the one behind the highest; without `--name` the bytes have only their digest,
      and `gc` drops them
    * `get` - writes the bytes to FILE, or else to standard output, where that is no terminal
    * `list` - the current version of each name
    * `versions` - all of one name, the highest first
    * `prune` - drops all versions but the highest COUNT and the current one, of each name or of one
    * `gc` - drops the bytes that no version points at
    * `verify` - reads everything, and sets aside what is damaged

  ## Options

    * `--store FOLDER` - the store. Default: what is configured, else the user's.
    * `--by NAME` - with `put`: who puts it there. Default: the user's name.
    * `--json` - prints one JSON object, with an `error` where there is one. `get` needs `--output` then.
    * `--help`

  ## Exit status

    * 0 - it is done
    * 1 - something in the store is damaged or missing, there is no room, or the disk refused
    * 2 - an unknown option, no such file, name or version, a version that is taken, a folder that cannot be relied on

  ## Examples

      $ mix wasm.store put thumb.wasm --name acme/thumb --version 1.2.0
      acme/thumb@1.2.0 blake3:5d055a7d5bec0de5405337154e927cddd1e5b123ce5f52c840b91e7b3d08e3af 1343 bytes

      $ mix wasm.store get acme/thumb@1.3
      mix wasm.store: store: no version of acme/thumb fits 1.3; there are 1.2.0
  """

  use Mix.Task

  alias Cybernetic.WASM.{JSON, Store}
  alias Cybernetic.WASM.Store.Place
  alias Mix.Tasks.Wasm.{CommandLine, UsageError}

  @task "wasm.store"
  @usage "put|get|list|versions|delete|prune|gc|verify …"
  @switches [
    store: :string,
    json: :boolean,
    name: :string,
    version: :string,
    note: :string,
    by: :string,
    output: :string,
    keep: :integer
  ]

  # What each takes beside --store and --json: how many words, and which options.
  @commands %{
    "put" => {"FILE", [:name, :version, :note, :by]},
    "get" => {"REFERENCE", [:output]},
    "list" => {nil, []},
    "versions" => {"NAME", []},
    "delete" => {"NAME@VERSION or DIGEST", []},
    "prune" => {nil, [:keep, :name]},
    "gc" => {nil, []},
    "verify" => {nil, []}
  }

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, @switches) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> run(parsed, argv)
    end
  end

  defp run(parsed, argv) do
    json? = CommandLine.asked?(argv, "--json")

    with {:ok, options, [command | words]} <- with_command(parsed),
         {:ok, word} <- word(command, words),
         :ok <- fits(command, options),
         :ok <- CommandLine.start(),
         {:ok, opts} <- store(options, command),
         {:ok, result} <- command(command, word, options, opts) do
      show(command, result, json?)
      if command == "verify", do: judge(result)
    else
      {:error, error} -> CommandLine.stop(error, @task, json: json?)
    end
  end

  defp with_command({:ok, options, [command | words]}) when is_map_key(@commands, command),
    do: {:ok, options, [command | words]}

  defp with_command({:ok, _options, []}),
    do: CommandLine.usage_error("a command is missing; there are: #{commands()}")

  defp with_command({:ok, _options, [other | _words]}),
    do: CommandLine.usage_error("unknown command #{other}; there are: #{commands()}")

  defp with_command(error), do: error

  defp commands, do: @commands |> Map.keys() |> Enum.join(", ")

  defp word(command, words) do
    case {elem(@commands[command], 0), words} do
      {nil, []} -> {:ok, nil}
      {nil, _words} -> CommandLine.usage_error("#{command} takes no arguments")
      {_what, [word]} -> {:ok, word}
      {what, []} -> CommandLine.usage_error("#{what} is missing")
      {what, _words} -> CommandLine.usage_error("#{command} takes one #{what}")
    end
  end

  defp fits(command, options) do
    own = elem(@commands[command], 1)

    case Map.keys(options) -- ([:store, :json, :help] ++ own) do
      [] -> needed(command, options)
      [other | _] -> CommandLine.usage_error("#{command} has no option --#{other}")
    end
  end

  defp needed("prune", options) when not is_map_key(options, :keep),
    do: CommandLine.usage_error("prune needs --keep COUNT: how many versions stay")

  defp needed("prune", %{keep: keep}) when keep < 1,
    do: CommandLine.usage_error("--keep is at least 1")

  defp needed("put", options)
       when is_map_key(options, :version) and not is_map_key(options, :name),
       do: CommandLine.usage_error("--version is of a name: give --name, too")

  defp needed("get", options)
       when is_map_key(options, :json) and not is_map_key(options, :output),
       do:
         CommandLine.usage_error("get --json needs --output FILE: the bytes would be in the way")

  defp needed(_command, _options), do: :ok

  defp store(%{store: store}, command) do
    cond do
      not Place.store?(store) ->
        CommandLine.usage_error("--store needs a folder")

      # An empty answer, or a folder that is made for it, would hide that it is misspelt.
      command != "put" and not File.dir?(store) ->
        CommandLine.usage_error("--store: there is no folder #{store}; put makes it")

      true ->
        {:ok, [store: store]}
    end
  end

  defp store(_options, _command), do: {:ok, []}

  # What is done

  defp command("put", file, options, opts) do
    given = for key <- [:name, :version, :note, :by], value = options[key], do: {key, value}
    with {:ok, bytes} <- read(file), do: Store.put(bytes, given ++ opts)
  end

  defp command("get", reference, options, opts) do
    with {:ok, bytes, entry} <- Store.get(reference, opts),
         :ok <- write(options[:output] || "-", bytes),
         do: {:ok, {entry, options[:output]}}
  end

  defp command("list", nil, _options, opts), do: Store.list(opts)
  defp command("versions", name, _options, opts), do: Store.versions(name, opts)

  defp command("delete", reference, _options, opts),
    do: with(:ok <- Store.delete(reference, opts), do: {:ok, reference})

  defp command("prune", nil, options, opts),
    do: Store.prune(Enum.to_list(Map.take(options, [:keep, :name])) ++ opts)

  defp command("gc", nil, _options, opts), do: Store.gc(opts)
  defp command("verify", nil, _options, opts), do: Store.verify(opts)

  defp read("-") do
    {:bytes, bytes} = CommandLine.standard_input()
    {:ok, bytes}
  end

  defp read(file), do: file |> File.read() |> done(file)

  defp write("-", bytes) do
    if CommandLine.terminal?(),
      do:
        CommandLine.usage_error(
          "its bytes are nothing for a terminal: give --output FILE, or redirect them"
        ),
      else: print(bytes)
  end

  defp write(file, bytes), do: file |> File.write(bytes) |> done(file)

  defp print(bytes) do
    CommandLine.as_bytes([Process.group_leader()], fn -> IO.binwrite(bytes) end)
  end

  defp done({:error, reason}, file),
    do: {:error, %UsageError{message: "#{file}: #{:file.format_error(reason)}"}}

  defp done(result, _file), do: result

  # What is shown

  defp show("get", {_entry, output}, json?) when output in [nil, "-"] and not json?, do: :ok
  defp show(command, result, true), do: CommandLine.print(JSON.encode(json(command, result)))

  defp show(command, result, false) do
    case text(command, result) do
      [] -> :ok
      lines -> CommandLine.print(Enum.intersperse(lines, "\n"))
    end
  end

  defp text("put", entry), do: [line(entry)]
  defp text("get", {entry, output}), do: ["#{output}: #{entry.size} bytes"]
  defp text(command, entries) when command in ["list", "versions"], do: Enum.map(entries, &line/1)
  defp text("delete", reference), do: ["dropped #{reference}"]
  defp text("prune", dropped), do: Enum.map(dropped, &"dropped #{&1}")
  defp text("gc", counts), do: ["dropped #{counts.blobs} blobs, #{counts.bytes} bytes"]

  defp text("verify", report) do
    ["sound: #{report.blobs} blobs, #{report.bytes} bytes, #{report.versions} versions"] ++
      for(what <- report.damaged, do: "damaged, set aside: #{what}") ++
      for(what <- report.missing, do: "missing the bytes of: #{what}") ++
      mended(report) ++
      if(report.restored > 0, do: ["found by SHA-256 again: #{report.restored} blobs"], else: [])
  end

  defp mended(%{damaged: [], missing: []}), do: []

  defp mended(_report),
    do: [
      "what is put there again, by the same name and version, is sound again; or delete those versions"
    ]

  defp line(entry) do
    note = if entry.note, do: " #{entry.note}"
    "#{reference(entry)}#{entry.digest} #{entry.size} bytes#{note}"
  end

  defp reference(%{name: nil}), do: ""
  defp reference(entry), do: "#{entry.name}@#{entry.version} "

  defp json("put", entry), do: facts(entry)
  defp json("get", {entry, output}), do: facts(entry) ++ [output: output]

  defp json(command, entries) when command in ["list", "versions"],
    do: [{command_key(command), Enum.map(entries, &facts/1)}]

  defp json("delete", reference), do: [dropped: [reference]]
  defp json("prune", dropped), do: [dropped: dropped]
  defp json("gc", counts), do: Enum.sort(counts)
  defp json("verify", report), do: Enum.sort(report)

  defp command_key("list"), do: :names
  defp command_key("versions"), do: :versions

  defp facts(entry) do
    [
      name: entry.name,
      version: entry.version,
      digest: entry.digest,
      sha256: entry.sha256,
      size: entry.size,
      at: if(entry.at, do: DateTime.to_iso8601(entry.at)),
      by: entry.by,
      note: entry.note
    ]
  end

  defp judge(%{damaged: [], missing: []}), do: :ok
  defp judge(_report), do: exit({:shutdown, 1})
end
