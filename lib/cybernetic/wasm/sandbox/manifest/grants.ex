defmodule Cybernetic.WASM.Sandbox.Manifest.Grants do
  @moduledoc false
  # The capabilities of a manifest, as the options of `Sandbox.new/1` that they come to. What such an option takes is for the
  # sandbox to say: each grant is tried there by itself, so that an error can name the key and line.

  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.DeniedError
  alias Cybernetic.WASM.Sandbox.Capabilities

  @options %{
    filesystem: Capabilities.Filesystem,
    env: Capabilities.Env,
    network: Capabilities.Network,
    clocks: Capabilities.Clocks,
    random: Capabilities.Random,
    stdio: Capabilities.Stdio,
    host_functions: Capabilities.HostFunctions
  }

  @directory [{"host", :host}, {"guest", :guest}, {"mode", :mode}]
  @network [{"allow", :allow}, {"dns", :dns}]
  @variable [{"name", :name}, {"value", :value}, {"secret", :secret}]
  @clocks [{"fixed", :fixed}, {"start", :start}, {"step", :step}]
  @streams [{"stdin", :stdin}, {"stdout", :stdout}, {"stderr", :stderr}]
  @stdio [
    {"none", :none},
    {"captured", :captured},
    {"streamed", :streamed},
    {"inherited", :inherited}
  ]
  @variable_name "a variable's name, one that looks like a secret's as { name = …, secret = true }"

  @doc "The grant that a key's node asks for."
  @spec read(atom, tuple, map) :: term
  def read(key, node, at) when key in [:memory, :wasi], do: boolean(node, at)

  def read(:threading, node, at) do
    if boolean(node, at), do: throw({:mistake, threads(at)}), else: false
  end

  def read(:filesystem, {:boolean, _line, false}, _at), do: []

  def read(:filesystem, {:array, _line, _items} = node, at),
    do: for({node, at} <- items(node, at), do: directory(node, at))

  def read(:filesystem, node, at) do
    refuse(
      node,
      at,
      ~S|false or a list such as [{ host = "data", guest = "/data", mode = "ro" }]|
    )
  end

  def read(:scratch, {:boolean, _line, false}, _at), do: false

  def read(:scratch, node, at) do
    expected = "false or an absolute path in the guest"
    scratch = text(node, at, expected)
    try_out([filesystem: [scratch: scratch]], node, at, expected)
    scratch
  end

  def read(key, node, at) when key in [:quota, :max_open] do
    expected = if key == :quota, do: "a number of bytes", else: "a number of files"
    number = integer(node, at, expected)
    try_out([filesystem: [{:scratch, "/scratch"}, {key, number}]], node, at, expected)
    number
  end

  def read(:network, {:boolean, _line, false}, _at), do: false
  def read(:network, {:array, _line, _items} = node, at), do: rules(node, at)

  def read(:network, {:table, _line, _entries} = node, at) do
    Enum.map(table(node, at, @network), fn
      {:allow, node, at} -> {:allow, rules(node, at)}
      {:dns, node, at} -> {:dns, boolean(node, at)}
    end)
  end

  def read(:network, node, at),
    do: refuse(node, at, ~S|false or a list of rules such as "api.example.com:443"|)

  def read(:env, {:boolean, _line, false}, _at), do: false
  def read(:env, {:string, _line, "any"}, _at), do: :any

  def read(:env, {:array, _line, _items} = node, at),
    do: variables(Enum.map(items(node, at), fn {node, at} -> variable(node, at) end), at)

  def read(:env, {:table, _line, entries}, at) do
    entries
    |> Enum.map(fn {name, line, node} -> explicit(name, node, inside(at, name, line)) end)
    |> variables(at)
  end

  def read(:env, node, at), do: refuse(node, at, ~S|false, "any" or a list such as ["LANG"]|)

  def read(:clocks, {:table, _line, _entries} = node, at) do
    expected = "{ fixed = … } or { start = …, step = … }, in nanoseconds"

    times =
      for {field, node, at} <- table(node, at, @clocks),
          do: {field, integer(node, at, "an integer of nanoseconds")}

    case Enum.sort(times) do
      [fixed: time] -> grant(:clocks, {:fixed, time}, node, at, expected)
      [start: start, step: step] -> grant(:clocks, {:stepped, start, step}, node, at, expected)
      _ -> refuse(node, at, expected)
    end
  end

  def read(:clocks, node, at) do
    expected = ~S|"none", "real", { fixed = … } or { start = …, step = … }|
    clocks = choice(node, at, [{"none", :none}, {"real", :real}], expected)
    grant(:clocks, clocks, node, at, expected)
  end

  def read(:random, {:table, _line, _entries} = node, at) do
    expected = "an integer from 0 to 9223372036854775807"

    case table(node, at, [{"seed", :seed}]) do
      [{:seed, node, at}] ->
        grant(:random, {:seeded, integer(node, at, expected)}, node, at, expected)

      [] ->
        refuse(node, at, "{ seed = … }")
    end
  end

  def read(:random, node, at) do
    expected = ~S|"none", "system" or { seed = 42 }|
    random = choice(node, at, [{"none", :none}, {"system", :system}], expected)
    grant(:random, random, node, at, expected)
  end

  def read(:stdio, {:table, _line, _entries} = node, at) do
    streams = for {stream, node, at} <- table(node, at, @streams), do: {stream, stream(node, at)}
    if streams == [], do: :none, else: grant(:stdio, streams, node, at, "streams")
  end

  def read(:stdio, node, at), do: stream(node, at)

  def read(:host_functions, {:boolean, _line, false}, _at), do: false

  def read(:host_functions, {:array, _line, _items} = node, at),
    do: for({node, at} <- items(node, at), do: host_function(node, at))

  def read(:host_functions, node, at),
    do: refuse(node, at, ~S|false or a list of functions such as "env.log"|)

  @doc "Grants of files come in several keys, and are one option."
  @spec files(keyword, map) :: false | keyword
  def files(values, at) do
    dirs = Keyword.get(values, :filesystem, [])
    scratch = Keyword.get(values, :scratch, false)

    if dirs == [] and scratch == false do
      false
    else
      files = [dirs: dirs, scratch: scratch] ++ Keyword.take(values, [:quota, :max_open])
      try_out([filesystem: files], {:array, at.line, []}, at, "directories that fit together")
      files
    end
  end

  defp threads(at) do
    %DeniedError{
      capability: :threading,
      denied: "#{at.file || "manifest"}:#{at.line}: #{at.key}",
      grant: "threads are never offered: write threading = false"
    }
  end

  # Files

  defp directory({:table, _line, _entries} = node, at) do
    %{host: {host, host_at}, guest: {guest, guest_at}} =
      parts = parts(node, at, @directory, [:host, :guest])

    expected = "an absolute path in the guest"
    path = host_path(host, host_at)
    dir = {path, text(guest, guest_at, expected), mode(parts)}
    try_out([filesystem: [dir]], guest, guest_at, expected)
    dir
  end

  defp directory(node, at),
    do: refuse(node, at, ~S|a table such as { host = "data", guest = "/data", mode = "ro" }|)

  defp mode(%{mode: {node, at}}),
    do: choice(node, at, [{"ro", :ro}, {"rw", :rw}], ~S|"ro" or "rw"|)

  defp mode(_read_only), do: :ro

  defp host_path(node, at) do
    path = text(node, at, "a directory's path")
    if String.contains?(path, <<0>>), do: refuse(node, at, "a path without zero bytes")
    absolute = Path.expand(path, at.base)

    unless at.allow_absolute or (Path.type(path) == :relative and inside?(absolute, at.base)) do
      expected =
        "a path in the manifest's directory, without links (option allow_absolute: true lifts this)"

      refuse(node, at, expected)
    end

    absolute
  end

  defp inside?(path, base) do
    base_names = Path.split(base)

    case Enum.split(Path.split(path), length(base_names)) do
      {^base_names, names} -> not linked?(names, base)
      _outside -> false
    end
  end

  # Whoever sends a bundle may put links into it.
  defp linked?([], _dir), do: false

  defp linked?([name | names], dir) do
    path = Path.join(dir, name)

    case File.lstat(path) do
      {:ok, %File.Stat{type: :symlink}} -> true
      {:ok, _stat} -> linked?(names, path)
      {:error, _reason} -> false
    end
  end

  # Network

  defp rules(node, at) do
    expected = ~S|a rule such as "api.example.com:443", "*.example.com:443" or "10.1.0.0/16:5432"|

    for {node, at} <- items(node, at) do
      rule = text(node, at, expected)
      try_out([network: [rule]], node, at, expected)
      rule
    end
  end

  # Environment. Values may be secrets: no error shows one.

  defp variables(variables, at) do
    try_out([env: variables], {:array, at.line, []}, at, "variables that fit together")
    variables
  end

  defp variable({:string, line, name}, at), do: from_vm(name, name, {:string, line, name}, at)

  defp variable({:table, _line, _entries} = node, at) do
    %{name: {name_node, name_at}} = parts = parts(node, at, @variable, [:name])
    name = text(name_node, name_at, @variable_name)

    case parts do
      %{value: _, secret: _} ->
        refuse(node, at, "either a value or secret = true")

      %{value: {value, at}} ->
        explicit(name, value, at)

      %{secret: {secret, at}} ->
        from_vm(name, secret(name, boolean(secret, at)), name_node, name_at)

      _ ->
        from_vm(name, name, name_node, name_at)
    end
  end

  defp variable(node, at), do: mistake(at, @variable_name, kind(node))

  defp secret(name, true), do: {:secret, name}
  defp secret(name, false), do: name

  # What stands behind an = is a value in the wrong place.
  defp from_vm(name, variable, {:string, line, _name}, at) do
    shown = name |> String.split("=") |> hd()
    try_out([env: [variable]], {:string, line, shown}, at, @variable_name)
    variable
  end

  defp explicit(name, {:string, line, value}, at) do
    shown = name |> String.split("=") |> hd()
    expected = "a variable's name and value without zero bytes, the name without ="
    try_out([env: [{name, value}]], {:string, line, shown}, at, expected)
    {name, value}
  end

  defp explicit(_name, node, at), do: mistake(at, "a variable's value, a text", kind(node))

  # Streams and functions

  defp stream(node, at) do
    expected = ~S|"none", "captured", "streamed" or "inherited"|
    grant(:stdio, choice(node, at, @stdio, expected), node, at, expected)
  end

  defp host_function({:table, _line, _entries} = node, at) do
    keys = [{"module", :module}, {"name", :name}]
    parts = parts(node, at, keys, [:module, :name])
    {module, name} = {name(parts.module), name(parts.name)}
    try_out([host_functions: [{module, name}]], node, at, "a function's module and name")
    {module, name}
  end

  defp host_function(node, at) do
    expected = ~S|a function such as "env.log", "env.*" or { module = "a.b", name = "log" }|
    function = text(node, at, expected)
    try_out([host_functions: [function]], node, at, expected)
    function
  end

  # WebAssembly has empty names too.
  defp name({{:string, _line, text}, _at}), do: text
  defp name({node, at}), do: refuse(node, at, "a text")

  # Trying

  defp grant(capability, value, node, at, expected) do
    try_out([{capability, value}], node, at, expected)
    value
  end

  # The option's own words say more than ours.
  defp try_out([{name, value}], node, at, expected) do
    with {:error, {why, _given}} <- @options[name].grant(value),
         do: mistake(at, expected, shown(node), why)
  end
end
