defmodule Cybernetic.WASM.Imports do
  @moduledoc false
  # What a call gives as `imports:`, and what of it an import of a module finds there. See `Cybernetic.WASM.Imports.Bindings`
  # for all imports of a module together.

  import Cybernetic.WASM.Sandbox.Check, only: [is_wasi: 1]

  alias Cybernetic.WASM.{CallError, Instance, Module, Options}
  alias Cybernetic.WASM.Host.Function
  alias Cybernetic.WASM.Imports.{Linked, Words}
  alias Cybernetic.WASM.Sandbox.Check

  @typedoc "`imports:` once it is a map of what was given for each module name."
  @type given :: %{term => term}

  @typedoc "An imported function, as a module has it."
  @type imported ::
          {module :: String.t(), name :: String.t(), arity :: non_neg_integer,
           results :: non_neg_integer, signature :: String.t()}

  @typedoc """
  A function of the host: what it is, whether it takes its arguments one by one or in a list, how many results it gives, and
  whether it is waited for.
  """
  @type host_function :: {function, :each | :list, non_neg_integer, :sync | :async}

  @typedoc "What an imported function is bound to, or why to nothing. `:unknown` traps."
  @type found :: host_function | :wasi | :unknown | found_elsewhere

  @typedoc "What another guest or module exports, or why nothing does."
  @type found_elsewhere ::
          {:export, Instance.t() | Module.t(), String.t()} | {:nothing, String.t()}

  @typedoc "A global that is given: its type, whether it can be changed, and its value."
  @type global :: {:global, atom, boolean, term}

  @typedoc "What becomes of a function that nothing is given for."
  @type unknown :: :refuse | :trap

  @types Function.types() ++ [:anyref]

  defguardp is_guest(from) when is_struct(from, Instance) or is_struct(from, Module)
  defguardp is_functions(given) when is_map(given) and not is_struct(given)

  @doc "What the option takes."
  @spec kind() :: Options.kind()
  def kind do
    {~S|a map of maps with strings as keys, such as %{"env" => %{"log" => fn ctx, … end}}, | <>
       "a module with `use Cybernetic.WASM.Host`, or a list of these", &__MODULE__.given?/1}
  end

  @doc "Whether it can be `imports:`."
  @spec given?(term) :: boolean
  def given?(given) when is_list(given),
    do: not List.improper?(given) and Enum.all?(given, &given?/1)

  def given?(given) when is_atom(given), do: given not in [nil, true, false]
  def given?(given), do: is_functions(given)

  @doc """
  `imports:` as one map: of a map, a module with `use Cybernetic.WASM.Host`, or a list of these. In the place of names that
  modules are loaded under are these modules.
  """
  @spec given(term) :: given
  def given(given) when is_list(given), do: given |> merged() |> Linked.modules()
  def given(given) when is_functions(given), do: Linked.modules(given)
  def given(module), do: merged(module)

  defp merged(given) when is_functions(given), do: given

  defp merged(given) when is_list(given) do
    Enum.reduce(given, %{}, fn one, all ->
      Map.merge(all, merged(one), fn _name, left, right -> both(left, right) end)
    end)
  end

  defp merged(module) when is_atom(module) do
    unless Code.ensure_loaded?(module) and function_exported?(module, :__wasm_imports__, 0) do
      raise ArgumentError,
            "#{inspect(module)} has no host functions: it needs `use Cybernetic.WASM.Host`"
    end

    module.__wasm_imports__()
  end

  @doc """
  With what is given for an interface without its version also under the versions that are imported of it, where nothing is given
  for these.
  """
  @spec versioned(given, [imported]) :: given
  def versioned(given, _imports) when given == %{}, do: given

  def versioned(given, imports) do
    Enum.reduce(imports, given, fn import, given ->
      module = elem(import, 0)

      with interface when interface != module <- unversioned(module),
           %{^interface => functions} <- given,
           do: Map.put_new(given, module, functions),
           else: (_not_given -> given)
    end)
  end

  @doc "The name of an interface without its version."
  @spec unversioned(String.t()) :: String.t()
  def unversioned(interface), do: interface |> String.split("@", parts: 2) |> hd()

  defp both(left, right) when is_functions(left) and is_functions(right),
    do: Map.merge(left, right)

  defp both(_left, right), do: right

  @doc "Whether any of it is an instance's that lives in the guest `ref`."
  @spec from?(given, reference) :: boolean
  def from?(given, ref) do
    Enum.any?(given, fn
      {_from, %Instance{ref: guest}} ->
        guest == ref

      {_from, items} when is_functions(items) ->
        items |> Map.values() |> several() |> Enum.any?(&match?({%Instance{ref: ^ref}, _}, &1))

      _other ->
        false
    end)
  end

  @doc "As given, but nothing that host modules declare has to be imported."
  @spec lenient(given) :: given
  def lenient(given) do
    Map.new(given, fn
      {from, functions} when is_functions(functions) ->
        {from, Map.new(functions, fn {name, function} -> {name, lenient_function(function)} end)}

      other ->
        other
    end)
  end

  defp lenient_function(%Function{} = function), do: %{function | strict: false}
  defp lenient_function(items) when is_list(items), do: Enum.map(items, &lenient_function/1)
  defp lenient_function(other), do: other

  # What is given for some names, of which each may have several.
  defp several(given), do: Enum.flat_map(given, &if(proper?(&1), do: &1, else: [&1]))

  defp proper?(items), do: is_list(items) and not List.improper?(items)

  # What may stand beside others for one name: a list of anything else is a mistake, whatever is in it.
  defp item?({:global, _type, _value}), do: true
  defp item?({{:not_loaded, %CallError{}}, _name}), do: true
  defp item?({what, _name_or_options}), do: is_function(what) or is_guest(what)
  defp item?(item), do: is_function(item) or is_struct(item, Function)

  @doc "The functions that host modules declare and that have to be imported, by module and name."
  @spec declared(given) :: [{term, term, Function.t()}]
  def declared(given) do
    for {from, functions} when is_functions(functions) <- given,
        {name, given} <- functions,
        %Function{strict: true} = function <- several([given]),
        do: {from, name, function}
  end

  @doc """
  What an imported function finds. What of WASI is not given is WASI's; of a component's functions the caller says whether they
  are of it.
  """
  @spec find(imported, given, unknown | :wasi) :: found
  def find({module, name, arity, results, signature}, given, unknown) do
    case given do
      %{^module => %{^name => function}} when is_function(function, arity + 1) ->
        {function, :each, results, :sync}

      %{^module => %{^name => item}} ->
        function(item, {arity, results, signature})

      %{^module => from} when is_guest(from) ->
        {:export, from, name}

      %{^module => {:not_loaded, %CallError{} = error}} ->
        {:nothing, Words.not_loaded(error)}

      %{^module => functions} when not is_functions(functions) ->
        {:nothing, Words.no_map()}

      %{} when is_wasi(module) ->
        if unknown == :trap and not Check.known?(module, name), do: :unknown, else: :wasi

      %{} when unknown in [:trap, :wasi] ->
        if unknown == :trap, do: :unknown, else: :wasi

      %{} ->
        {:nothing, Words.missing(module)}
    end
  end

  defp function({from, export}, _type) when is_binary(export) and is_guest(from),
    do: {:export, from, export}

  defp function(function, {arity, results, _}) when is_function(function, arity + 1),
    do: {function, :each, results, :sync}

  defp function({{:not_loaded, %CallError{} = error}, _export}, _type),
    do: {:nothing, Words.not_loaded(error)}

  defp function({function, options}, type) when is_function(function) and is_list(options),
    do: with_options(function, options(options), type)

  defp function(%Function{signature: nil, kind: kind, function: function}, {arity, results, _}) do
    if kind != :ends and is_function(function, arity + 1),
      do: {function, :each, results, kind},
      else: {:nothing, Words.wrong(function, arity)}
  end

  defp function(%Function{signature: same} = function, {_, results, same}),
    do: {function.function, :each, results, function.kind}

  defp function(%Function{} = function, _type), do: {:nothing, Words.declared_as(function)}

  # The first of several that fits.
  defp function([_ | _] = items, {arity, _, _} = type) do
    if proper?(items) and Enum.all?(items, &item?/1) do
      found = Enum.map(items, &function(&1, type))
      Enum.find(found, &(not match?({:nothing, _}, &1))) || {:nothing, Words.none(found)}
    else
      {:nothing, Words.wrong(items, arity)}
    end
  end

  defp function(other, {arity, _, _}), do: {:nothing, Words.wrong(other, arity)}

  # `:invalid`, or the options of one host function with their defaults.
  defp options(options) do
    if Keyword.keyword?(options) and Enum.all?(options, &option?/1),
      do: Map.merge(%{async: false, args: :each, type: nil}, Map.new(options)),
      else: :invalid
  end

  defp option?({:async, async}), do: is_boolean(async)
  defp option?({:args, args}), do: args in [:each, :list]
  defp option?({:type, {params, results}}), do: types?(params) and types?(results)
  defp option?(_other), do: false

  defp types?(types), do: proper?(types) and Enum.all?(types, &(&1 in @types))

  defp with_options(_function, :invalid, _type), do: {:nothing, Words.wrong_options()}

  defp with_options(function, options, {arity, results, signature}) do
    declared = options.type && typed(options.type)
    taken = if options.args == :list, do: 1, else: arity

    cond do
      declared not in [nil, signature] -> {:nothing, Words.typed_as(declared)}
      not is_function(function, taken + 1) -> {:nothing, Words.wrong(function, taken)}
      true -> {function, options.args, results, if(options.async, do: :async, else: :sync)}
    end
  end

  defp typed({params, results}), do: Function.signature(params, results)

  @doc "What an imported memory, table, global or tag finds."
  @spec find_other(%{module: String.t(), name: String.t()}, given) :: found_elsewhere | global
  def find_other(%{module: module, name: name}, given) do
    case given do
      %{^module => from} when is_guest(from) -> {:export, from, name}
      %{^module => {:not_loaded, %CallError{} = error}} -> {:nothing, Words.not_loaded(error)}
      %{^module => %{^name => item}} -> other(item)
      %{} -> {:nothing, Words.missing()}
    end
  end

  defp other({from, export}) when is_binary(export) and is_guest(from),
    do: {:export, from, export}

  defp other({{:not_loaded, %CallError{} = error}, _export}),
    do: {:nothing, Words.not_loaded(error)}

  defp other({:global, {:mut, type}, value}) when type in @types,
    do: {:global, type, true, value}

  defp other({:global, type, value}) when type in @types, do: {:global, type, false, value}
  defp other({:global, type, _value}), do: {:nothing, Words.wrong_global(type, @types)}

  # Functions may be given under the same name.
  defp other([_ | _] = items) do
    items? = proper?(items) and Enum.all?(items, &item?/1)
    found = if items?, do: Enum.map(items, &other/1), else: []
    Enum.find(found, {:nothing, Words.no_guest(items)}, &(not match?({:nothing, _}, &1)))
  end

  defp other(other), do: {:nothing, Words.no_guest(other)}
end
