defmodule Cybernetic.WASM.Imports.Destructors do
  @moduledoc false
  # What ends resources of the host's: a function of one argument that is given under the name of their type, beside the functions
  # of its interface.

  alias Cybernetic.WASM.{Component, Imports, LinkError, Module}
  alias Cybernetic.WASM.Host.Function
  alias Cybernetic.WASM.Imports.Words

  @typedoc "The type of the resources, by its interface and name, and what ends them."
  @type found :: {String.t(), (term -> term)}

  # What functions of the world's own, and types, are given under.
  @world "$root"

  @doc "What is given for the types of resources that a component imports, and what is wrong with it."
  @spec find(Component.t(), Imports.given()) :: {[found], [LinkError.problem()]}
  def find(component, given) do
    if besides_functions?(component, given),
      do: component |> resources() |> find_all(given),
      else: {[], []}
  end

  @doc "The names that something may be given under to end resources."
  @spec names(Component.t()) :: [{interface :: String.t(), name :: String.t()}]
  def names(component) do
    for {from, name, _type} <- resources(component), do: {from, name}
  end

  # To ask for them takes longer than to look whether that may be of use.
  defp besides_functions?(component, given) do
    names = MapSet.new(Module.functions(component), &elem(&1, 1))

    Enum.any?(given, fn {_from, items} ->
      is_map(items) and not is_struct(items) and
        Enum.any?(items, fn {name, _item} -> not MapSet.member?(names, name) end)
    end)
  end

  defp resources(component) do
    for {interface, name, type} <- Component.resources(component),
        do: {interface || @world, name, type}
  end

  defp find_all(resources, given) do
    given = Imports.versioned(given, resources)

    {found, wrong} =
      resources
      |> Enum.flat_map(&List.wrap(find_one(&1, given)))
      |> Enum.split_with(&match?({_type, _function}, &1))

    {Enum.uniq_by(found, &elem(&1, 0)), wrong}
  end

  defp find_one({from, name, type}, given) do
    case given do
      %{^from => %{^name => function}} when is_function(function, 1) ->
        {type, function}

      %{^from => %{^name => %Function{kind: :ends, function: function}}} ->
        {type, function}

      %{^from => %{^name => other}} ->
        %{module: from, name: name, wanted: "resource", reason: Words.no_destructor(other)}

      %{} ->
        nil
    end
  end
end
