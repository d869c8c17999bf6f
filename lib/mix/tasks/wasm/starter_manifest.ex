defmodule Mix.Tasks.Wasm.StarterManifest do
  @moduledoc false
  # The text of a manifest for a module: what its imports suggest, and a comment on what that grants. A module's names are a
  # stranger's words: they stand in it only as TOML strings, so that none can end a comment or begin a key.

  import Cybernetic.WASM.Sandbox.Check, only: [is_wasi: 1]

  alias Cybernetic.WASM.{Component, Limits, Module, Sandbox}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Interfaces}

  # More are listed by their modules.
  @most_listed 100

  # A module whose names are longer has them for other reasons than to be called by people.
  @longest_shown 100

  @doc "A manifest's text, with these limits."
  @spec text(Module.loaded(), Limits.t()) :: String.t()
  def text(module, limits) do
    needs = needs(module)

    """
    # What the module may use. Written from what it imports: read it before you grant it.

    [#{table(module)}]
    #{name(module)}version = "0.1.0"
    #{entry(module)}
    # No other module is taken. Remove the line to take the next version, too.
    digest = #{string(module.digest)}

    [capabilities]
    memory = #{Module.memory?(module)}
    # Threads are never offered.
    threading = false
    #{[wasi(needs), host_functions(needs[:host_functions])]}
    [limits]
    # Bytes of all memories and tables.
    memory = #{limits.max_memory}
    # Bytes of stack.
    stack = #{limits.max_stack}
    # About one for each instruction.
    fuel = #{limits.fuel}
    # Milliseconds, waiting included.
    time_ms = #{limits.timeout}
    # Bytes of output.
    output = #{limits.max_output}
    host_calls = #{limits.max_host_calls}
    table_elements = #{limits.max_table_elements}
    instances = #{limits.max_instances}
    """
  end

  # What a sandbox that grants nothing but the presence of WASI would deny: `[%{module, name}]` by capability.
  defp needs(module) do
    denied = Sandbox.check(module, Sandbox.new(wasi: true, host_functions: []))
    needs = Enum.group_by(denied, & &1.capability, &Map.take(&1, [:module, :name]))

    wasi? = Enum.any?(Module.functions(module), &wasi?(module, elem(&1, 0)))
    if wasi?, do: Map.put_new(needs, :wasi, []), else: needs
  end

  defp wasi?(%Component{}, interface), do: Interfaces.served?(interface)
  defp wasi?(_module, from), do: is_wasi(from)

  defp table(%Component{}), do: "component"
  defp table(_module), do: "module"

  # [module]

  defp name(%{name: nil}), do: ""
  defp name(%{name: file}), do: "name = #{file |> Path.rootname() |> string()}\n"

  defp entry(module) do
    names = functions(module)
    shown = names |> Enum.filter(&(byte_size(&1) <= @longest_shown and &1 != "")) |> Enum.take(10)

    case {"_start" in names, names, shown} do
      {true, _, _} ->
        ~S|entry = "_start"|

      {false, [_], [name]} ->
        "entry = #{string(name)}"

      {false, _, []} ->
        "# It exports no function that could be its entry."

      {false, _, shown} ->
        "# One of its exports: #{Enum.map_join(shown, ", ", &string/1)}\n# entry = …"
    end
  end

  defp functions(%Component{} = component) do
    for %{type: {:func, _, _}} = item <- Component.exports(component), do: Component.path(item)
  end

  defp functions(module) do
    for %{name: name, type: {:function, _, _}} <- Module.exports(module), do: name
  end

  # [capabilities]

  defp wasi(needs) when not is_map_key(needs, :wasi), do: ""

  defp wasi(needs) do
    suggestions =
      for {name, capability} <- Capabilities.all(),
          is_map_key(needs, name),
          do: capability.suggestion()

    [
      "# WASI. What is not granted of it below answers with an error.\nwasi = true\n",
      suggestions
    ]
  end

  defp host_functions(nil), do: "# It imports no host functions.\nhost_functions = false\n"

  # "*" is every name: what is called so cannot be granted alone.
  defp host_functions(imports) do
    imports = Enum.reject(imports, &(&1.name == "*"))
    items = if length(imports) > @most_listed, do: by_module(imports), else: imports
    lines = items |> Enum.uniq() |> Enum.map(&"  #{host_function(&1)},\n")
    ["# What the caller has to give as imports.\nhost_functions = [\n", lines, "]\n"]
  end

  defp by_module(imports), do: Enum.map(imports, &%{&1 | name: "*"})

  defp host_function(%{module: module, name: name}) do
    if String.contains?(module <> name, ".") or module == "" or name == "",
      do: "{ module = #{string(module)}, name = #{string(name)} }",
      else: string("#{module}.#{name}")
  end

  # A string in TOML. Control and format characters are escaped: they could forge what a terminal shows.
  defp string(text) do
    escaped =
      String.replace(text, ~r/["\\]|[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u, fn
        <<character>> when character in [?", ?\\] ->
          <<?\\, character>>

        <<character::utf8>> ->
          "\\U" <> String.pad_leading(Integer.to_string(character, 16), 8, "0")
      end)

    ~s|"#{escaped}"|
  end
end
