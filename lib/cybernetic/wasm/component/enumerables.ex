defmodule Cybernetic.WASM.Component.Enumerables do
  @moduledoc false
  # Arguments of a component that hold enumerables: only Elixir can look into a set, a range or a stream. Rust asks for this
  # where it finds one, and says of which types the terms are: what is a resource of the host's stays as it is, whatever it is.

  alias Cybernetic.WASM.Component

  @doc "The terms, with lists in the place of the enumerables that stand where their types have lists or flags."
  @spec listed([term], [Component.wit_type()]) :: [term]
  def listed(terms, types), do: Enum.zip_with(terms, types, &of/2)

  defp of(term, {:list, type}) do
    case term |> items() do
      list when is_list(list) -> each(list, type)
      # Pairs: a map stays one.
      map when is_map(map) and not is_struct(map) -> pairs(map, type)
      other -> other
    end
  end

  defp of(term, {:flags, _names}), do: items(term)
  defp of({:some, term}, {:option, type}), do: {:some, of(term, type)}
  defp of({:ok, term}, {:result, type, _error}), do: {:ok, of(term, type)}
  defp of({:error, term}, {:result, _ok, type}), do: {:error, of(term, type)}

  defp of(tuple, {:tuple, types}) when is_tuple(tuple) and tuple_size(tuple) == length(types),
    do: tuple |> Tuple.to_list() |> listed(types) |> List.to_tuple()

  defp of(map, {:record, fields}) when is_map(map) and not is_struct(map),
    do: Map.new(map, fn {key, term} -> {key, part(term, key, fields)} end)

  defp of({name, term}, {:variant, cases}), do: {name, part(term, name, cases)}
  defp of(term, _type), do: term

  defp each([head | tail], type), do: [of(head, type) | each(tail, type)]
  defp each(end_of_list, _type), do: end_of_list

  defp pairs(map, {:tuple, [key, value]}),
    do: Map.new(map, fn {k, v} -> {of(k, key), of(v, value)} end)

  defp pairs(map, _type), do: map

  # By its name in WIT, or in snake case.
  defp part(term, name, parts) do
    case Enum.find(parts, fn {known, _type} -> name?(name, known) end) do
      {_known, type} -> of(term, type)
      nil -> term
    end
  end

  defp name?(name, known) when is_atom(name), do: name?(Atom.to_string(name), known)
  defp name?(name, known), do: name == known or name == String.replace(known, "-", "_")

  defp items(%_kind{} = struct),
    do: if(Enumerable.impl_for(struct), do: Enum.to_list(struct), else: struct)

  defp items(stream) when is_function(stream, 2), do: Enum.to_list(stream)
  defp items(other), do: other
end
