defmodule Cybernetic.WASM.Sandbox.Manifest.Reader do
  @moduledoc false
  # From the tree of a manifest's text to its fields. Which keys there are stands here; `Grants` reads the capabilities.

  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.{DeniedError, Limits, ManifestError}
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Cybernetic.WASM.Sandbox.Manifest.Grants

  # In the order in which an error lists them. A key becomes a field of the name of an option where it is one.
  @tables [{"module", :module}, {"capabilities", :capabilities}, {"limits", :limits}]

  @module [{"name", :name}, {"version", :version}, {"entry", :entry}, {"digest", :digest}]

  @capabilities [
    {"memory", :memory},
    {"threading", :threading},
    {"wasi", :wasi},
    {"filesystem", :filesystem},
    {"scratch", :scratch},
    {"quota", :quota},
    {"max_open", :max_open},
    {"network", :network},
    {"env", :env},
    {"clocks", :clocks},
    {"random", :random},
    {"stdio", :stdio},
    {"host_functions", :host_functions}
  ]

  @limits [
    {"memory", :max_memory},
    {"stack", :max_stack},
    {"fuel", :fuel},
    {"time_ms", :timeout},
    {"output", :max_output},
    {"host_calls", :max_host_calls},
    {"table_elements", :max_table_elements},
    {"instances", :max_instances}
  ]

  @keys %{module: @module, capabilities: @capabilities, limits: @limits}
  @options [:wasi, :network, :env, :clocks, :random, :stdio, :host_functions]
  @limit_options for {_key, option} <- @limits, do: option

  @doc "All keys, by their table."
  @spec keys() :: %{atom => [String.t()]}
  def keys, do: Map.new(@keys, fn {table, keys} -> {table, for({key, _} <- keys, do: key)} end)

  @doc "What a limit is called in a manifest."
  @spec limit_key(atom) :: String.t()
  def limit_key(limit) do
    {key, _option} = List.keyfind!(@limits, limit, 1)
    key
  end

  @doc "The manifest of a tree."
  @spec read(tuple, map) :: {:ok, Manifest.t()} | {:error, ManifestError.t() | DeniedError.t()}
  def read(tree, opts) do
    at = %{
      file: Map.get(opts, :file),
      key: nil,
      line: 1,
      base: Path.expand(Map.get(opts, :base, ".")),
      allow_absolute: Map.get(opts, :allow_absolute, false)
    }

    {:ok, manifest(tree, at)}
  catch
    {:mistake, error} -> {:error, error}
  end

  defp manifest(tree, at) do
    tables = table(tree, at, @tables)

    fields =
      for {table, node, at} <- tables,
          {field, node, at} <- table(node, at, @keys[table]),
          do: {field, read(table, field, node, at), at}

    values = for {field, value, _at} <- fields, do: {field, value}
    places = for {field, _, at} <- tables ++ fields, into: %{}, do: {field, at}

    %Manifest{
      name: values[:name],
      version: values[:version],
      entry: values[:entry],
      digest: values[:digest],
      memory: values[:memory],
      file: at.file,
      capabilities: capabilities(values, places),
      limits: Keyword.take(values, @limit_options),
      places: for({field, at} <- places, into: %{}, do: {field, {at.key, at.line}})
    }
  end

  defp capabilities(values, places) do
    at = places[:scratch] || places[:filesystem]

    case at && Grants.files(values, at) do
      files when files in [nil, false] -> Keyword.take(values, @options)
      files -> [filesystem: files] ++ Keyword.take(values, @options)
    end
  end

  defp read(:capabilities, key, node, at), do: Grants.read(key, node, at)

  defp read(:limits, limit, {_kind, _line, value} = node, at) do
    if Limits.valid?(limit, value), do: value, else: refuse(node, at, Limits.expected(limit))
  end

  defp read(:module, :version, node, at) do
    expected = ~S|a version such as "1.0.0"|
    version = text(node, at, expected)
    if Version.parse(version) == :error, do: refuse(node, at, expected), else: version
  end

  defp read(:module, :digest, node, at) do
    expected = ~S|"blake3:" and 64 lowercase hexadecimal digits|
    digest = text(node, at, expected)
    if digest =~ ~r/\Ablake3:[0-9a-f]{64}\z/, do: digest, else: refuse(node, at, expected)
  end

  defp read(:module, _name_or_entry, node, at), do: text(node, at, "a text")
end
