defmodule Cybernetic.WASM.Plugin.Contracts do
  @moduledoc false
  # The contracts by name, and which of them a module meets: the first in this order, from what only one of them would export to
  # what is common.

  alias Cybernetic.WASM.{PluginError, Shown}
  alias Cybernetic.WASM.Plugin.{Contracts, Surface}

  @named [
    component: Contracts.Component,
    extism: Contracts.Extism,
    bytes: Contracts.Bytes,
    execute: Contracts.Execute,
    process: Contracts.Process,
    assemblyscript: Contracts.AssemblyScript,
    wasi: Contracts.WASI
  ]
  @names Keyword.keys(@named)

  @typedoc "What `contract:` takes: a name or a module, with options if need be. `nil` looks for one."
  @type given :: atom | {atom, keyword} | nil

  @typedoc "A contract that a module meets: its name, itself, why, and what it remembers."
  @type met :: {atom, module, String.t(), term}

  @doc "What `contract:` takes, in words."
  @spec expected() :: String.t()
  def expected do
    "one of #{Enum.map_join(@names, ", ", &inspect/1)}, a module that is a Cybernetic.WASM.Plugin.Contract, " <>
      "or either with options as {:execute, format: :json}"
  end

  @doc "Whether it is one."
  @spec given?(term) :: boolean
  def given?({name, opts}), do: name != nil and given?(name) and Keyword.keyword?(opts)
  def given?(name), do: name == nil or name in @names or contract?(name)

  defp contract?(module) do
    is_atom(module) and Code.ensure_loaded?(module) and
      function_exported?(module, :prepare, 2) and function_exported?(module, :request, 4)
  end

  @doc "The contract that was given, or the first that the module meets."
  @spec meet(Surface.t(), given) :: {:ok, met} | {:error, PluginError.t()}
  def meet(surface, nil), do: first(@names, surface, [])

  def meet(surface, given) do
    {name, opts} = if is_tuple(given), do: given, else: {given, []}

    with {:missing, missing} <- prepare(name, surface, opts),
         do:
           {:error,
            %PluginError{reason: :no_contract, contract: name, missing: [{name, missing}]}}
  end

  defp first([], _surface, missed),
    do: {:error, %PluginError{reason: :no_contract, missing: Enum.reverse(missed)}}

  defp first([name | names], surface, missed) do
    with {:missing, missing} <- prepare(name, surface, []),
         do: first(names, surface, [{name, missing} | missed])
  end

  defp prepare(name, surface, opts) do
    module = Keyword.get(@named, name, name)

    case module.prepare(surface, opts) do
      {:ok, why, state} -> {:ok, {name, module, why, state}}
      {:missing, missing} -> {:missing, Enum.map(missing, &Shown.cut/1)}
    end
  end
end
