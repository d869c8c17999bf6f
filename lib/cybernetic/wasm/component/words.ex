defmodule Cybernetic.WASM.Component.Words do
  @moduledoc false
  # Types of components in the words of WIT, for people to read. Those that are declared under a name stand by it.

  alias Cybernetic.WASM.Shown

  # A type can come to 100,000 parts: it is spelt out so far, as Rust does it.
  @most_parts 32
  @longest 1_000

  @doc "What is imported or exported: by its declaration, where it has one."
  @spec item(%{optional(atom) => term, declared: tuple | atom, type: tuple | atom}) :: String.t()
  def item(%{declared: nil, type: type}), do: declaration(type)
  def item(%{declared: declared}), do: declaration(declared)

  @doc "A declaration, or the type of an item."
  @spec declaration(tuple | atom) :: String.t()
  def declaration({:func, params, result}) do
    returned = if result, do: " -> #{type(result)}", else: ""
    cut("func(#{listed(params, &field/1)})#{returned}")
  end

  def declaration({:type, type}), do: type(type)
  def declaration({:resource, _name}), do: "resource"
  def declaration(kind), do: Atom.to_string(kind)

  @doc "A type."
  @spec type(tuple | atom) :: String.t()
  def type(type), do: type |> word() |> cut()

  defp word({:named, path}), do: bare(path)
  defp word({:own, path}), do: bare(path)
  defp word({:borrow, path}), do: "borrow<#{bare(path)}>"
  defp word({:list, type}), do: "list<#{type(type)}>"
  defp word({:option, type}), do: "option<#{type(type)}>"
  defp word({:tuple, types}), do: "tuple<#{listed(types, &type/1)}>"
  defp word({:record, fields}), do: "record { #{listed(fields, &field/1)} }"
  defp word({:variant, cases}), do: "variant { #{listed(cases, &case_of/1)} }"
  defp word({:enum, names}), do: "enum { #{listed(names, & &1)} }"
  defp word({:flags, names}), do: "flags { #{listed(names, & &1)} }"
  defp word({:result, nil, nil}), do: "result"
  defp word({:result, ok, nil}), do: "result<#{type(ok)}>"
  defp word({:result, nil, error}), do: "result<_, #{type(error)}>"
  defp word({:result, ok, error}), do: "result<#{type(ok)}, #{type(error)}>"
  defp word(plain), do: Atom.to_string(plain)

  defp field({name, type}), do: "#{name}: #{type(type)}"

  defp case_of({name, nil}), do: name
  defp case_of({name, type}), do: "#{name}(#{type(type)})"

  # The name of what stands by its interface and its name.
  defp bare(path), do: path |> String.split("#") |> List.last()

  defp listed(parts, words) do
    {spelt, others} = Enum.split(parts, @most_parts)
    more = if others == [], do: [], else: ["…"]
    Enum.join(Enum.map(spelt, words) ++ more, ", ")
  end

  defp cut(text), do: Shown.cut(text, @longest)
end
