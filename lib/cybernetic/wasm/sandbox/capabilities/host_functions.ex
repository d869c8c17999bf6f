defmodule Cybernetic.WASM.Sandbox.Capabilities.HostFunctions do
  @moduledoc """
  Host functions by name: option `host_functions:` of `Cybernetic.WASM.Sandbox.new/1`.

    * `:all` - whatever the call gives as `imports:`. The default: giving a function is a grant.
    * a list of names: `"env.log"`, or `"env.*"` for all functions of a module. A name with more
      dots is given as a pair, `{"wasi:logging/logging@0.1.0", "log"}`.
    * `false`, or `[]` - none

  A module that imports a host function which is not listed is not run: the call fails with a
  `Cybernetic.WASM.DeniedError`. Narrowing gives the functions that both list.
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  @typedoc "The functions that are listed, as `{module, name}`. The name `\"*\"` stands for every name."
  @type t :: :all | [{String.t(), String.t()}]

  @impl true
  def default, do: :all

  @impl true
  def grant(:all), do: {:ok, :all}
  def grant(false), do: {:ok, []}

  def grant(list) when is_list(list) and length(list) >= 0 do
    with {:ok, patterns} <- each(list, &pattern/1), do: {:ok, canonical(patterns)}
  end

  def grant(other), do: wrong(other)

  defp pattern({module, name}) when is_binary(module) and is_binary(name),
    do: {:ok, {module, name}}

  defp pattern(text) when is_binary(text) do
    case {String.split(text, "."), String.ends_with?(text, ".*")} do
      {[_ | [_ | _]], true} -> {:ok, {binary_part(text, 0, byte_size(text) - 2), "*"}}
      {[module, name], false} -> {:ok, {module, name}}
      {[_, _ | _], false} -> ambiguous(text)
      _no_dot -> wrong(text)
    end
  end

  defp pattern(other), do: wrong(other)

  # A guest that imports "a" "b.c" must not be taken for one that imports "a.b" "c".
  defp ambiguous(text) do
    refused("option :host_functions: #{inspect(text)} has more than one dot; give {module, name}")
  end

  defp wrong(given) do
    refused(
      ~s|option :host_functions must be :all, false, or a list of "module.name", | <>
        ~s|"module.*" or {module, name}|,
      given
    )
  end

  # Sorted, and without names that a wildcard covers: one value for one grant.
  defp canonical(patterns) do
    patterns
    |> Enum.reject(fn {module, name} -> name != "*" and {module, "*"} in patterns end)
    |> Enum.uniq()
    |> Enum.sort()
  end

  @impl true
  def keys, do: [:host_functions]

  @impl true
  def manifest([{:host_functions, {:boolean, _line, false}, _at}]), do: false

  def manifest([{:host_functions, {:array, _line, _items} = node, at}]),
    do: for({node, at} <- items(node, at), do: stated(node, at))

  def manifest([{:host_functions, node, at}]),
    do: refuse(node, at, ~S|false or a list of functions such as "env.log"|)

  defp stated({:table, _line, _entries} = node, at) do
    keys = [{"module", :module}, {"name", :name}]
    parts = parts(node, at, keys, [:module, :name])
    {name(parts.module), name(parts.name)}
  end

  defp stated(node, at) do
    expected = ~S|a function such as "env.log", "env.*" or { module = "a.b", name = "log" }|
    node |> text(at, expected) |> option(&grant([&1]), {node, at}, expected)
  end

  # WebAssembly has empty names too.
  defp name({{:string, _line, text}, _at}), do: text
  defp name({node, at}), do: refuse(node, at, "a text")

  @impl true
  def narrow(:all, other), do: other
  def narrow(list, :all), do: list

  def narrow(list, other) do
    canonical(Enum.filter(list, &covered?(&1, other)) ++ Enum.filter(other, &covered?(&1, list)))
  end

  defp covered?({module, _name} = pattern, list), do: pattern in list or {module, "*"} in list

  @impl true
  def granted?(functions), do: functions != []

  @impl true
  def explain(:all), do: "all that a call gives"
  def explain(list), do: Enum.map_join(list, ", ", fn {module, name} -> "#{module}.#{name}" end)

  @impl true
  def served?, do: false

  @impl true
  def functions, do: []

  @impl true
  def hint, do: ~s|add the imports to host_functions: as "module.name"|

  @doc "What to grant for the import `name` of `module`, in words."
  @spec hint(String.t(), String.t()) :: String.t()
  def hint(module, name) do
    dots? = String.contains?(module <> name, ".")
    listed = if dots?, do: inspect({module, name}), else: inspect("#{module}.#{name}")
    "add #{listed} to host_functions:"
  end

  @doc "Whether the import `name` of `module` may be a host function."
  @spec allows?(t, String.t(), String.t()) :: boolean
  def allows?(:all, _module, _name), do: true
  def allows?(list, module, name), do: covered?({module, name}, list)
end
