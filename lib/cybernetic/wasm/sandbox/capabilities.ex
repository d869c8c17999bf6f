defmodule Cybernetic.WASM.Sandbox.Capabilities do
  @moduledoc false
  # The list of all capabilities, and the questions to all of them. A new capability is a module in the folder beside, a line
  # here, and a field in the type of `Cybernetic.WASM.Sandbox`.

  alias Cybernetic.WASM.Sandbox.Capabilities.{
    Clocks,
    Env,
    Filesystem,
    HostFunctions,
    Network,
    Random,
    Stdio
  }

  alias Cybernetic.WASM.Sandbox.Capability

  # In the order in which they are explained.
  @all [
    filesystem: Filesystem,
    env: Env,
    network: Network,
    clocks: Clocks,
    random: Random,
    stdio: Stdio,
    host_functions: HostFunctions
  ]

  @doc "Each capability's module, by the name of its option."
  @spec all() :: [{atom, module}]
  def all, do: @all

  @doc "The names of their options."
  @spec names() :: [atom]
  def names, do: Keyword.keys(@all)

  @doc "The grant of each where its option is not given."
  @spec defaults() :: [{atom, Capability.grant()}]
  def defaults, do: for({name, capability} <- @all, do: {name, capability.default()})

  @doc "The grants that these options ask for. A refusal is raised as an `ArgumentError`."
  @spec from_options!(Enumerable.t()) :: [{atom, Capability.grant()}]
  def from_options!(opts) do
    for {name, option} <- opts,
        {:ok, capability} <- [Keyword.fetch(@all, name)],
        do: {name, Capability.grant!(capability, option)}
  end

  @doc "Their keys in a manifest, each with its capability."
  @spec keys() :: [{key :: atom, {atom, module}}]
  def keys,
    do: for({_name, module} = capability <- @all, key <- module.keys(), do: {key, capability})

  @doc "The grants of a sandbox."
  @spec grants(map) :: [{atom, module, Capability.grant()}]
  def grants(sandbox),
    do: for({name, capability} <- @all, do: {name, capability, Map.fetch!(sandbox, name)})

  @doc "The names of those that WASI serves and that a sandbox grants something of."
  @spec served(map) :: [atom]
  def served(sandbox) do
    for {name, capability, grant} <- grants(sandbox),
        capability.served?() and capability.granted?(grant),
        do: name
  end

  @doc """
  The functions of WASI preview 1 that need a grant, each with the capabilities of which one is enough. The first of these is
  the smallest: it brings the fewest functions.
  """
  @spec functions() :: %{String.t() => [{atom, module}]}
  def functions do
    by_size = Enum.sort_by(@all, fn {_name, capability} -> length(capability.functions()) end)

    Enum.group_by(
      for(
        {_, module} = capability <- by_size,
        name <- module.functions(),
        do: {name, capability}
      ),
      &elem(&1, 0),
      &elem(&1, 1)
    )
  end

  @doc """
  The interfaces of WASI 0.2 that need a grant, or functions of one, as `interface#function`, each with the capability and the
  effect of a call without it.
  """
  @spec interfaces() :: %{String.t() => {atom, module, :errno | :empty | :trap}}
  def interfaces do
    for {name, module} <- @all, {interface, effect} <- module.interfaces(), into: %{} do
      {interface, {name, module, effect}}
    end
  end
end
