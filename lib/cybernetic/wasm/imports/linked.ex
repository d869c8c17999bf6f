defmodule Cybernetic.WASM.Imports.Linked do
  @moduledoc false
  # Names in `imports:` that modules are loaded under, where a module to link with may stand: `"math" => "mathlib"`, and
  # `"env" => %{"sin" => {"mathlib@1.2", "sin"}}`. Each is looked up once, however it is written, so that all that a call imports
  # under it is of one version.

  import Cybernetic.WASM.Runtime.Names, only: [is_name: 1]

  alias Cybernetic.WASM.Runtime.Names

  defguardp is_named(given) when is_binary(given) or is_name(given)
  defguardp is_functions(given) when is_map(given) and not is_struct(given)

  @doc "With the modules in the place of their names, or with why there is none: `{:not_loaded, error}`."
  @spec modules(map) :: map
  def modules(given) do
    case given |> Map.values() |> of_modules() do
      [] -> given
      names -> replace(given, names |> Enum.uniq() |> Map.new(&{&1, found(Names.fetch(&1))}))
    end
  end

  defp text({:name, text}), do: text
  defp text(text), do: text

  defp found({:ok, module}), do: module
  defp found({:error, error}), do: {:not_loaded, error}

  # Every call that brings host functions comes by here, and most bring nothing else.
  defp of_modules([items | others]) when is_functions(items),
    do: items |> Map.values() |> of_items(of_modules(others))

  defp of_modules([name | others]) when is_named(name), do: [text(name) | of_modules(others)]
  defp of_modules([_guest | others]), do: of_modules(others)
  defp of_modules([]), do: []

  defp of_items([item | items], names) when is_function(item), do: of_items(items, names)
  defp of_items([item | items], names), do: named(item) ++ of_items(items, names)
  defp of_items([], names), do: names

  defp named({name, export}) when is_named(name) and is_binary(export), do: [text(name)]

  defp named([_ | _] = items),
    do: if(List.improper?(items), do: [], else: Enum.flat_map(items, &named/1))

  defp named(_other), do: []

  defp replace(given, modules),
    do: Map.new(given, fn {from, item} -> {from, put(item, modules)} end)

  defp put(name, modules) when is_named(name), do: Map.fetch!(modules, text(name))

  defp put(items, modules) when is_functions(items),
    do: Map.new(items, fn {name, item} -> {name, put_export(item, modules)} end)

  defp put(guest, _modules), do: guest

  defp put_export({name, export}, modules) when is_named(name) and is_binary(export),
    do: {Map.fetch!(modules, text(name)), export}

  defp put_export([_ | _] = items, modules),
    do: if(List.improper?(items), do: items, else: Enum.map(items, &put_export(&1, modules)))

  defp put_export(item, _modules), do: item
end
