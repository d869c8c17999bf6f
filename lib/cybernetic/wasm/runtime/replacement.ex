defmodule Cybernetic.WASM.Runtime.Replacement do
  @moduledoc false
  # Whether a module may stand in the place of another: it exports what that one does, and asks for nothing that is not granted
  # already. What is granted is what the module before it imports, and what the sandbox grants that it was held to.

  alias Cybernetic.WASM.{Component, LoadError, Module, Sandbox, Shown}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Check, Interfaces}
  alias Cybernetic.WASM.Sandbox.Capabilities.HostFunctions

  import Cybernetic.WASM.Sandbox.Check, only: [is_wasi: 1]

  # Of problems that an error names.
  @most_named 20

  @doc "Checks `module`, which is to stand in the place of `old`."
  @spec check(Module.loaded(), Module.loaded(), [:widen]) :: :ok | {:error, LoadError.t()}
  def check(old, module, allowed) do
    with :ok <- refuse(:narrowed, lost(exports(old), exports(module))),
         do: if(:widen in allowed, do: :ok, else: refuse(:widened, won(old, module)))
  end

  defp refuse(_reason, []), do: :ok

  defp refuse(reason, problems),
    do: {:error, %LoadError{reason: reason, problems: Enum.take(problems, @most_named + 1)}}

  # What a component has in an interface is called by its path, and has types of its own.
  defp exports(%Component{} = component) do
    for item <- Component.exports(component),
        do: %{name: Component.path(item), type: {:wit, item.type}}
  end

  defp exports(module), do: Module.exports(module)

  defp imports(%Component{} = component) do
    for item <- Component.imports(component),
        do: %{module: item.interface || "$root", name: item.name, type: {:wit, item.type}}
  end

  defp imports(module), do: Module.imports(module)

  # Exports that are missing, or of another type.
  defp lost(exports, others) do
    there = Map.new(others, &{&1.name, &1.type})

    for %{name: name, type: type} <- exports,
        {:ok, words} <- [lacking(type, there[name])],
        do: "#{named(name)}: #{words(type)}#{words}"
  end

  defp lacking(_type, nil), do: {:ok, " is missing"}

  defp lacking(type, found) do
    unless alike?(type, found), do: {:ok, " is now #{words(found)}"}
  end

  # How much a memory or a table has is no matter of those who use it: it is another with each build.
  defp alike?({:memory, one}, {:memory, other}),
    do: {one.page_size, one.index} == {other.page_size, other.index}

  defp alike?({:table, one}, {:table, other}), do: one.element == other.element
  defp alike?(type, found), do: type == found

  # What is asked for beyond what is granted.
  defp won(old, module) do
    sandbox = Module.sandbox(old)

    imports(old, module, sandbox) ++
      needs(old, module, sandbox) ++ grants(sandbox, Module.sandbox(module))
  end

  # Imports but for those of WASI.
  defp imports(old, module, sandbox) do
    {_wasi, there} = split(imports(old))
    {_wasi, asked} = split(imports(module))

    for import <- asked -- there, not listed?(import, sandbox) do
      "the import #{named(import.module)} #{named(import.name)}: #{words(import.type)}"
    end
  end

  defp split(imports), do: Enum.split_with(imports, &wasi?/1)
  defp wasi?(%{module: module, type: {:function, _, _}}) when is_wasi(module), do: true
  defp wasi?(%{module: interface, type: {:wit, _}}), do: Interfaces.served?(interface)
  defp wasi?(_import), do: false

  # By name, that is: where any function may be given, nobody has thought of this one.
  defp listed?(%{type: {:function, _, _}} = import, %Sandbox{host_functions: [_ | _] = listed}),
    do: HostFunctions.allows?(listed, import.module, import.name)

  defp listed?(_import, _sandbox), do: false

  # A program that is built anew may call other functions of WASI for the same purposes.
  defp needs(old, module, sandbox) do
    {there, _others} = split(imports(old))
    {asked, _others} = split(imports(module))
    purposes = Enum.flat_map(there, &purposes/1)

    for import <- asked,
        not Enum.any?(purposes(import), &(&1 in purposes or granted?(&1, sandbox))),
        do: "the import #{named(import.module)} #{named(import.name)}"
  end

  # The capabilities of which one is enough.
  defp purposes(%{module: interface, name: name, type: {:wit, _}}) do
    case Check.need(interface, name) do
      {capability, _module, _effect} -> [capability]
      nil -> [:wasi]
    end
  end

  defp purposes(%{name: name}), do: Map.get(Check.functions(), name, [])

  defp granted?(_capability, nil), do: false
  defp granted?(:wasi, sandbox), do: sandbox.wasi

  defp granted?(name, sandbox) do
    {_name, capability, grant} = List.keyfind(Capabilities.grants(sandbox), name, 0)
    capability.granted?(grant)
  end

  # A sandbox that is there for the first time is a grant as well, and one that is there no more leaves the grants to the calls.
  defp grants(same, same), do: []
  defp grants(%Sandbox{}, nil), do: ["no manifest and no sandbox holds its calls any more"]
  defp grants(nil, sandbox), do: more(Sandbox.new([]), sandbox)
  defp grants(before, sandbox), do: more(before, sandbox)

  defp more(before, sandbox) do
    within = Sandbox.narrow(sandbox, before)

    grants =
      for {name, capability, grant} <- Capabilities.grants(sandbox),
          Map.fetch!(within, name) != grant,
          do: "#{name}: #{capability.explain(grant)}"

    limits =
      for {name, limit} <- Map.from_struct(sandbox.limits),
          is_integer(limit),
          limit > Map.fetch!(within.limits, name),
          do: "#{name}: #{Shown.number(limit)}"

    grants ++ limits
  end

  defp words({:function, params, results}),
    do: "(#{Enum.join(params, " ")}) -> #{results(results)}"

  defp words({:wit, {:func, _params, _result}}), do: "a component's function"
  defp words({:wit, type}) when is_tuple(type), do: "a component's #{elem(type, 0)}"
  defp words({:wit, type}), do: "a component's #{type}"
  defp words({:tag, params}), do: "a tag of (#{Enum.join(params, " ")})"
  defp words({:global, %{type: type, mutable: true}}), do: "a mutable global of #{type}"
  defp words({:global, %{type: type}}), do: "a global of #{type}"
  defp words({:table, %{element: element}}), do: "a table of #{element}"
  defp words({:memory, %{index: index}}), do: "a memory with #{index} addresses"

  defp results([one]), do: one
  defp results(several), do: "(#{Enum.join(several, " ")})"

  defp named(name), do: name |> Shown.cut() |> Shown.quoted()
end
