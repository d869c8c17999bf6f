defmodule Cybernetic.WASM.Component.Enumerables do
  @moduledoc false
  # Arguments of a component that hold enumerables: only Elixir can look into a set, a range or a stream. Rust asks for this
  # where it finds one.

  @doc "The term with lists in the place of the enumerables in it. A map stays a map."
  @spec listed(term) :: term
  def listed([head | tail]), do: [listed(head) | listed(tail)]

  def listed(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> listed() |> List.to_tuple()

  def listed(%_kind{} = struct) do
    if Enumerable.impl_for(struct), do: struct |> Enum.to_list() |> listed(), else: struct
  end

  def listed(map) when is_map(map), do: Map.new(map, fn {key, value} -> {key, listed(value)} end)
  def listed(stream) when is_function(stream, 2), do: stream |> Enum.to_list() |> listed()
  def listed(other), do: other
end
