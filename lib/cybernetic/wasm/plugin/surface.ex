defmodule Cybernetic.WASM.Plugin.Surface do
  @moduledoc """
  What a `Cybernetic.WASM.Plugin.Contract` looks at to see whether a module meets it: its functions, whether it has a memory, and
  what it imports. Names are a stranger's, so they are looked up and never listed.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|
      ...>   (module (memory (export "memory") 1) (func (export "run") (param i32) (result i32) (local.get 0)))|})
      iex> alias Cybernetic.WASM.Plugin.Surface
      iex> surface = Surface.of(module)
      iex> Surface.function(surface, "run")
      {["i32"], ["i32"]}
      iex> Surface.lacks(surface, [{"run", ["i32"], ["i32"]}, {"alloc", ["i32"], ["i32"]}, :memory])
      [~S|the function "alloc" (i32) -> i32|]
  """

  alias Cybernetic.WASM.{Component, Module, Shown}

  @enforce_keys [:kind]
  defstruct [:kind, command: false, memory: false, functions: %{}, imports: MapSet.new()]

  @typedoc """
  A module's functions by name, each with the types of its parameters and results; of a component by path, each with its
  type (`t:Cybernetic.WASM.Component.item_type/0`). `imports` are pairs of module and name, `command` whether it is a program.
  """
  @type t :: %__MODULE__{
          kind: :module | :component,
          command: boolean,
          memory: boolean,
          functions: %{String.t() => {[String.t()], [String.t()]} | Component.item_type()},
          imports: MapSet.t({String.t() | nil, String.t()})
        }

  @typedoc "A function with this name and type, or a memory; anything that is exported."
  @type wanted :: {String.t(), params :: [String.t()], results :: [String.t()]} | :memory

  @doc "That of a module or a component."
  @spec of(Module.loaded()) :: t
  def of(%Component{} = component) do
    functions =
      for %{type: {:func, _, _} = type} = item <- Component.exports(component),
          into: %{},
          do: {Component.path(item), type}

    imports = for item <- Component.imports(component), do: {item.interface, item.name}
    %__MODULE__{kind: :component, functions: functions, imports: MapSet.new(imports)}
  end

  def of(%Module{} = module) do
    exports = Module.exports(module)

    functions =
      for %{name: name, type: {:function, params, results}} <- exports,
          into: %{},
          do: {name, {params, results}}

    %__MODULE__{
      kind: :module,
      command: module.command,
      memory: Enum.any?(exports, &match?(%{type: {:memory, _}}, &1)),
      functions: functions,
      imports: MapSet.new(Module.imports(module), &{&1.module, &1.name})
    }
  end

  @doc "Whether a function without parameters is given no input."
  @spec calls_for_nothing?(t, String.t(), term) :: boolean
  def calls_for_nothing?(surface, function, input),
    do: input in [nil, ""] and match?({[], _results}, function(surface, function))

  @doc "The type of a function, or `nil`."
  @spec function(t, String.t()) :: {[String.t()], [String.t()]} | Component.item_type() | nil
  def function(%__MODULE__{functions: functions}, name), do: Map.get(functions, name)

  @doc "Whether it imports that."
  @spec imports?(t, String.t(), String.t()) :: boolean
  def imports?(%__MODULE__{imports: imports}, module, name),
    do: MapSet.member?(imports, {module, name})

  @doc "The one function that has this type beside those with these names, or `nil`."
  @spec only(t, term, [String.t()]) :: String.t() | nil
  def only(%__MODULE__{functions: functions}, type, others \\ []) do
    case for {name, ^type} <- functions, name not in others, do: name do
      [name] -> name
      _none_or_several -> nil
    end
  end

  @doc "What of these it lacks, in words."
  @spec lacks(t, [wanted]) :: [String.t()]
  def lacks(%__MODULE__{kind: :component}, _wanted), do: ["a module: it is a component"]
  def lacks(surface, wanted), do: Enum.flat_map(wanted, &lack(surface, &1))

  defp lack(%{memory: true}, :memory), do: []
  defp lack(_surface, :memory), do: ["a memory"]

  defp lack(surface, {name, params, results}) do
    wanted = "the function #{Shown.quoted(name)} #{signature(params, results)}"

    case function(surface, name) do
      {^params, ^results} -> []
      nil -> [wanted]
      {params, results} -> ["#{wanted}: its own is #{Shown.cut(signature(params, results))}"]
    end
  end

  defp signature(params, []), do: "(#{Enum.join(params, ", ")})"
  defp signature(params, results), do: "#{signature(params, [])} -> #{Enum.join(results, ", ")}"
end
