defmodule Mix.Tasks.Wasm.Inspect do
  @shortdoc "Shows what a WebAssembly module or component imports and exports"

  @moduledoc """
  Shows what is known of a WebAssembly module: size, digests, imports, exports, memories and custom
  sections. Of a component it shows its world, in the words of WIT, and what it says of itself. It is
  validated and compiled, and nothing in it runs.

      mix wasm.inspect FILE [options]

  FILE is in the binary or the text format; `-` is standard input. Types are in the words of the text
  format; sizes of memories there are in pages.

  ## Options

    * `--json` - prints one JSON object, with an `error` where there is one. Types are in parts, the
      sizes of memories in pages of `page_size` bytes.
    * `--help`

  ## Exit status

    * 0 - the module is shown
    * 1 - the node has no room for its code
    * 2 - an unknown option, no such file, not a valid module

  ## Examples

      $ mix wasm.inspect priv/wasm/wordcount.wasm
      file: priv/wasm/wordcount.wasm
      size: 1343 bytes
      digest: blake3:5d055a7d5bec0de5405337154e927cddd1e5b123ce5f52c840b91e7b3d08e3af
      digest: sha256:639b754315fcacbd2658f91ea6e0c60f3fbae30af93b13fd8324ddc92a235b11
      code: 14040 bytes of machine code and metadata
      imports: 2
        "env" "read" (func (param i32 i32 i32) (result i32))
        "env" "write" (func (param i32 i32))
      exports: 2
        "memory" (memory 1)
        "word_count" (func (result i32))
      memories: 1
        "memory" 65536 bytes, no maximum of its own
      custom sections: 3
        "name" 58 bytes
        "producers" 35 bytes
        "target_features" 14 bytes

      $ mix wasm.inspect priv/wasm/greeter.wasm | grep -A 6 exports
      exports: 5
        greet: func(name: string) -> string
        acme:shop/orders@1.2.0 line: record { item: string, count: u32 }
        acme:shop/orders@1.2.0 receipt: record { number: u32, total: u32, gift: bool }
        acme:shop/orders@1.2.0 problem: variant { empty, sold-out(string) }
        acme:shop/orders@1.2.0 place: func(lines: list<line>) -> result<receipt, problem>
      made with: 3

      $ mix wasm.inspect mix.exs
      mix wasm.inspect: cannot load mix.exs: not WebAssembly: it starts with the bytes 64 65 66 6d 6f 64 75 6c
  """

  use Mix.Task

  alias Cybernetic.WASM.{Component, JSON, Module}
  alias Cybernetic.WASM.Component.Words
  alias Mix.Tasks.Wasm.{CommandLine, TextFormat}

  @task "wasm.inspect"
  @usage "FILE [--json]"

  # What a component says of itself, in the order in which it is shown.
  @said [:name, :version, :description, :authors, :licences, :homepage, :source, :revision]

  @impl true
  def run(argv) do
    case CommandLine.parse(argv, json: :boolean) do
      :help -> CommandLine.help(@task, @usage)
      parsed -> show(parsed, argv)
    end
  end

  defp show(parsed, argv) do
    with {:ok, options, words} <- parsed,
         {:ok, file} <- CommandLine.one_argument(words, "FILE", "mix #{@task} #{@usage}"),
         :ok <- CommandLine.start(),
         {:ok, module} <- CommandLine.load(file) do
      CommandLine.print(if options[:json], do: json(file, module), else: text(file, module))
    else
      {:error, error} -> CommandLine.stop(error, @task, json: CommandLine.asked?(argv, "--json"))
    end
  end

  # Text

  defp text(file, module) do
    [
      "file: #{file}",
      "size: #{module.size} bytes",
      "digest: #{module.digest}",
      "digest: #{Module.digest(module, :sha256)}",
      "code: #{Module.code_size(module)} bytes of machine code and metadata",
      parts(module),
      list("custom sections", Module.custom_sections(module), &section/1)
    ]
    |> List.flatten()
    |> Enum.join("\n")
  end

  defp parts(%Component{} = component) do
    metadata = Component.metadata(component)
    said = for key <- @said, text = metadata[key], do: "#{key}: #{TextFormat.name(text)}"

    [
      said,
      list("imports", world(Component.imports(component)), & &1),
      list("exports", world(Component.exports(component)), & &1),
      list("made with", metadata.producers, &producer/1)
    ]
  end

  defp parts(module) do
    [
      list("imports", Module.imports(module), &imported/1),
      list("exports", Module.exports(module), &exported/1),
      list("memories", memories(module), &memory/1)
    ]
  end

  defp world(items) do
    for %{interface: interface, name: name} = item <- items do
      place = if interface, do: "#{TextFormat.plain(interface)} ", else: ""
      "#{place}#{TextFormat.plain(name)}: #{Words.item(item)}"
    end
  end

  defp producer(%{role: role, name: name, version: version}),
    do: "#{role}: #{TextFormat.plain(name)} #{TextFormat.plain(version)}"

  defp list(title, [], _line), do: "#{title}: none"

  defp list(title, items, line),
    do: ["#{title}: #{length(items)}" | Enum.map(items, &("  " <> line.(&1)))]

  defp imported(%{module: module, name: name, type: type}),
    do: "#{TextFormat.name(module)} #{TextFormat.name(name)} #{TextFormat.type(type)}"

  defp exported(%{name: name, type: type}),
    do: "#{TextFormat.name(name)} #{TextFormat.type(type)}"

  defp memories(module) do
    for %{name: name, type: {:memory, memory}} <-
          Module.imports(module) ++ Module.exports(module),
        do: {name, memory}
  end

  defp memory({name, memory}) do
    most =
      if memory.maximum,
        do: "at most #{memory.maximum * memory.page_size}",
        else: "no maximum of its own"

    "#{TextFormat.name(name)} #{memory.minimum * memory.page_size} bytes, #{most}"
  end

  defp section(%{name: name, size: size}), do: "#{TextFormat.name(name)} #{size} bytes"

  # JSON

  defp json(file, module) do
    sections =
      for %{name: name, size: size} <- Module.custom_sections(module),
          do: [name: name, size: size]

    JSON.encode(
      [
        file: file,
        size: module.size,
        digest: module.digest,
        sha256: Module.digest(module, :sha256),
        code_size: Module.code_size(module)
      ] ++ json_parts(module) ++ [custom_sections: sections]
    )
  end

  defp json_parts(%Component{} = component) do
    [
      metadata: Component.metadata(component),
      dependencies: Component.dependencies(component),
      imports: Enum.map(Component.imports(component), &item/1),
      exports: Enum.map(Component.exports(component), &item/1)
    ]
  end

  defp json_parts(module) do
    [
      imports: for(item <- Module.imports(module), do: [module: item.module] ++ named(item)),
      exports: Enum.map(Module.exports(module), &named/1)
    ]
  end

  defp item(%{interface: interface, name: name, docs: docs, type: type} = item),
    do: [interface: interface, name: name, kind: kind(type), type: Words.item(item), docs: docs]

  defp kind(type) when is_tuple(type), do: elem(type, 0)
  defp kind(type), do: type

  defp named(%{name: name, type: type}), do: [name: name, type: type(type)]

  defp type({:function, params, results}), do: [kind: :function, params: params, results: results]
  defp type({:tag, params}), do: [kind: :tag, params: params]
  defp type({kind, facts}), do: [kind: kind] ++ Enum.sort(facts)
end
