defmodule Cybernetic.WASM.Interface.World do
  @moduledoc false
  # What a component exports and imports, as functions and callbacks of Elixir, interface by interface. What is in none is of the
  # generated module's own; each interface gets a module inside of that.

  alias Cybernetic.WASM.Component
  alias Cybernetic.WASM.Component.Words
  alias Cybernetic.WASM.Interface.{Function, Names, Types}
  alias Cybernetic.WASM.Sandbox.Interfaces

  @enforce_keys [:interface, :module]
  defstruct [:interface, :module, functions: [], callbacks: [], types: []]

  @typedoc "An interface, or the world itself: what it is called in Elixir, and the definitions in it."
  @type t :: %__MODULE__{
          interface: String.t() | nil,
          module: String.t() | nil,
          functions: [Function.t()],
          callbacks: [Macro.t()],
          types: [Macro.t()]
        }

  @doc "The functions that these items are, in order."
  @spec functions([map], [map]) :: [Function.t()]
  def functions(imports, exports) do
    known = Types.known(imports, exports)

    for {interface, items} <- by_interface(exports),
        known = Types.named(known, spelt(items ++ imported(imports, interface))),
        {item, params, result} <- funcs(items) do
      %Function{
        export: Component.path(item),
        params: [],
        results: [],
        wit: %{
          interface: interface,
          word: word(item.name),
          signature: Words.item(item),
          docs: item.docs,
          names: Enum.map(params, &elem(&1, 0)),
          params: Enum.map(params, &Types.into(elem(&1, 1), known)),
          result: Types.out(result, known)
        }
      }
    end
  end

  @doc "The modules of these functions, with the types and callbacks in them. Those of WASI are nobody's to call back."
  @spec groups([Function.t()], [map], [map]) :: [t]
  def groups(functions, imports, exports) do
    known = Types.known(imports, exports)
    interfaces = interfaces(functions, imports)
    modules = Names.modules(List.delete(interfaces, nil))

    for interface <- interfaces do
      functions = Enum.filter(functions, &(&1.wit.interface == interface))
      imported = imported(imports, interface)

      exported =
        if functions == [], do: [], else: Enum.filter(exports, &(&1.interface == interface))

      known = Types.named(known, spelt(exported ++ imported))

      %__MODULE__{
        interface: interface,
        module: modules[interface],
        functions: functions,
        callbacks: for(item <- funcs(imported), do: callback(item, known)),
        types: Types.definitions(known)
      }
    end
  end

  defp interfaces(functions, imports) do
    imported = for item <- imports, func?(item), not wasi?(item), do: item.interface

    Enum.uniq(Enum.map(functions, & &1.wit.interface) ++ imported)
  end

  defp imported(imports, interface),
    do: Enum.filter(imports, &(&1.interface == interface and not wasi?(&1)))

  defp wasi?(%{interface: interface}), do: interface != nil and Interfaces.served?(interface)

  defp by_interface(items),
    do: items |> Enum.chunk_by(& &1.interface) |> Enum.map(&{hd(&1).interface, &1})

  defp func?(item), do: match?({:func, _params, _result}, shape(item))

  defp funcs(items) do
    for item <- items, {:func, params, result} <- [shape(item)], do: {item, params, result}
  end

  # All types in them.
  defp spelt(items) do
    for {_item, params, result} <- funcs(items),
        type <- [result | Enum.map(params, &elem(&1, 1))],
        do: type
  end

  # As WIT has it, or as it is.
  defp shape(%{declared: nil, type: type}), do: type
  defp shape(%{declared: declared}), do: declared

  # `[method]cart.add` is `cart_add` then, and `[constructor]cart` is `new_cart`.
  defp word("[constructor]" <> resource), do: "new-" <> resource
  defp word("[method]" <> name), do: name
  defp word("[static]" <> name), do: name
  defp word(name), do: name

  defp callback({item, params, result}, known) do
    name = item.name |> word() |> Names.snake_case() |> String.to_atom()
    context = quote(do: Cybernetic.WASM.Host.ctx())
    types = [context | Enum.map(params, &Types.out(elem(&1, 1), known))]
    docs = item.docs || "The host function `#{item.name}`: `#{Words.item(item)}`."

    quote do
      @doc unquote(docs)
      @callback unquote(name)(unquote_splicing(types)) :: unquote(Types.into(result, known))
    end
  end
end
