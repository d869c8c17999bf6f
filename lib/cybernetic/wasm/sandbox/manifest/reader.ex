defmodule Cybernetic.WASM.Sandbox.Manifest.Reader do
  @moduledoc false
  # From the tree of a manifest's text to its fields. The capabilities read their own keys.

  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.{DeniedError, Digest, Limits, ManifestError}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Capability}

  @capabilities Capabilities.keys()

  # In the order in which an error lists them: each key, and the name of its field or option. One of the first two stands for the
  # other.
  @tables [
    {"module", :module},
    {"component", :module},
    {"capabilities", :capabilities},
    {"limits", :limits}
  ]

  @keys %{
    module: [{"name", :name}, {"version", :version}, {"entry", :entry}, {"digest", :digest}],
    capabilities:
      for(
        key <- [:memory, :threading, :wasi | Keyword.keys(@capabilities)],
        do: {Atom.to_string(key), key}
      ),
    limits: [
      {"memory", :max_memory},
      {"stack", :max_stack},
      {"fuel", :fuel},
      {"time_ms", :timeout},
      {"output", :max_output},
      {"host_calls", :max_host_calls},
      {"transfer", :max_transfer},
      {"resources", :max_resources},
      {"table_elements", :max_table_elements},
      {"instances", :max_instances}
    ]
  }

  @typedoc "The fields of a `Cybernetic.WASM.Sandbox.Manifest`."
  @type fields :: %{atom => term}

  @doc "All keys, by their table."
  @spec keys() :: %{atom => [String.t()]}
  def keys, do: Map.new(@keys, fn {table, keys} -> {table, for({key, _} <- keys, do: key)} end)

  @doc "The key of a limit."
  @spec limit_key(atom) :: String.t()
  def limit_key(limit) do
    {key, _option} = List.keyfind!(@keys.limits, limit, 1)
    key
  end

  @doc "The fields of a manifest that has this tree."
  @spec read(tuple, map) :: {:ok, fields} | {:error, ManifestError.t() | DeniedError.t()}
  def read(tree, opts) do
    at = %{
      file: Map.get(opts, :file),
      key: nil,
      line: 1,
      base: Path.expand(Map.get(opts, :base, ".")),
      allow_absolute: Map.get(opts, :allow_absolute, false)
    }

    {:ok, fields(tree, at)}
  catch
    {:mistake, error} -> {:error, error}
  end

  defp fields(tree, at) do
    tables = table(tree, at, @tables)
    one_of_both(Enum.filter(tables, &match?({:module, _node, _at}, &1)))

    read =
      for {table, node, at} <- tables do
        nodes = table(node, at, @keys[table])
        {table, nodes, values(table, nodes)}
      end

    values = for {table, _nodes, values} <- read, into: %{}, do: {table, values}
    nodes = Enum.flat_map(read, fn {_table, nodes, _values} -> nodes end)
    capabilities = Map.get(values, :capabilities, [])

    Map.merge(Map.new(Map.get(values, :module, [])), %{
      file: at.file,
      memory: capabilities[:memory],
      capabilities: Keyword.drop(capabilities, [:memory, :threading]),
      limits: Map.get(values, :limits, []),
      places: for({key, _node, at} <- tables ++ nodes, into: %{}, do: {key, {at.key, at.line}})
    })
  end

  defp one_of_both([_module, {_field, node, at}]),
    do: refuse(node, at, "[module] or [component], not both")

  defp one_of_both(_one_or_none), do: :ok

  # A capability reads all of its keys at once, at the place of the first of them.
  defp values(:capabilities, nodes) do
    values =
      for {name, _module} = owner <- nodes |> Enum.map(&owner/1) |> Enum.uniq(),
          value <- [granted(owner, Enum.filter(nodes, &(owner(&1) == owner)))],
          value != nil,
          do: {name, value}

    reachable(values, List.keyfind(nodes, :wasi, 0))
  end

  defp values(table, nodes),
    do: for({key, node, at} <- nodes, do: {key, read(table, key, node, at)})

  # A guest without WASI has no way to what WASI serves.
  defp reachable(values, {:wasi, {:boolean, _line, false} = node, at}) do
    case Enum.find(values, &served?/1) do
      nil -> values
      {name, _option} -> refuse(node, at, "true, or nothing, where #{name} is granted")
    end
  end

  defp reachable(values, _wasi), do: values

  defp served?({name, option}) do
    capability = Keyword.get(Capabilities.all(), name)

    capability != nil and capability.served?() and
      capability.granted?(Capability.grant!(capability, option))
  end

  defp owner({key, _node, _at}), do: Keyword.get(@capabilities, key, {key, nil})

  defp granted({:threading, nil}, [{_key, node, at}]) do
    if boolean(node, at), do: throw({:mistake, threads(at)}), else: false
  end

  defp granted({_flag, nil}, [{_key, node, at}]), do: boolean(node, at)
  defp granted({_name, capability}, nodes), do: capability.manifest(nodes)

  defp threads(at) do
    %DeniedError{
      capability: :threading,
      denied: place(at.file, at.line, at.key),
      grant: "threads are never offered: write threading = false"
    }
  end

  defp read(:limits, limit, {_kind, _line, value} = node, at) do
    if Limits.valid?(limit, value), do: value, else: refuse(node, at, Limits.expected(limit))
  end

  defp read(:module, :version, node, at) do
    expected = ~S|a version such as "1.0.0"|
    version = text(node, at, expected)
    if Version.parse(version) == :error, do: refuse(node, at, expected), else: version
  end

  defp read(:module, :digest, node, at) do
    digest = text(node, at, Digest.expected())
    if Digest.valid?(digest), do: digest, else: refuse(node, at, Digest.expected())
  end

  defp read(:module, _name_or_entry, node, at), do: text(node, at, "a text")
end
