defmodule Cybernetic.WASM.Imports do
  @moduledoc false
  # What a call gives as `imports:`, and what of it an import of a module finds there. See `Cybernetic.WASM.Imports.Bindings`
  # for all imports of a module together.

  alias Cybernetic.WASM.{Instance, Module, Options}
  alias Cybernetic.WASM.Host.Function
  alias Cybernetic.WASM.Imports.Words
  alias Cybernetic.WASM.Sandbox.Check

  @typedoc "`imports:` once it is a map of what was given for each module name."
  @type given :: %{term => term}

  @typedoc "An imported function, as a module has it."
  @type imported ::
          {module :: String.t(), name :: String.t(), arity :: non_neg_integer,
           results :: non_neg_integer, signature :: String.t()}

  @typedoc "A function of the host: what it is, how many results it gives, and whether it is waited for."
  @type host_function :: {function, non_neg_integer, :sync | :async}

  @typedoc "What an import is bound to, or why to nothing."
  @type found :: host_function | :wasi | found_elsewhere

  @typedoc "What another guest or module exports, or why nothing does."
  @type found_elsewhere ::
          {:export, Instance.t() | Module.t(), String.t()} | {:nothing, String.t()}

  @wasi Check.wasi()

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

  @doc "`imports:` as one map: of a map, a module with `use Cybernetic.WASM.Host`, or a list of these."
  @spec given(term) :: given
  def given(given) when is_functions(given), do: given

  def given(given) when is_list(given) do
    Enum.reduce(given, %{}, fn one, all ->
      Map.merge(all, given(one), fn _name, left, right -> both(left, right) end)
    end)
  end

  def given(module) when is_atom(module) do
    unless Code.ensure_loaded?(module) and function_exported?(module, :__wasm_imports__, 0) do
      raise ArgumentError,
            "#{inspect(module)} has no host functions: it needs `use Cybernetic.WASM.Host`"
    end

    module.__wasm_imports__()
  end

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
        Enum.any?(items, &match?({_name, {%Instance{ref: ^ref}, _export}}, &1))

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
  defp lenient_function(other), do: other

  @doc "The functions that host modules declare and that have to be imported, by module and name."
  @spec declared(given) :: [{term, term, Function.t()}]
  def declared(given) do
    for {from, functions} when is_functions(functions) <- given,
        {name, %Function{strict: true} = function} <- functions,
        do: {from, name, function}
  end

  @doc "What an imported function finds. What of WASI is not given is WASI's."
  @spec find(imported, given) :: found
  def find({module, name, arity, results, signature}, given) do
    case given do
      %{^module => %{^name => function}} when is_function(function, arity + 1) ->
        {function, results, :sync}

      %{^module => %{^name => item}} ->
        function(item, {arity, results, signature})

      %{^module => from} when is_guest(from) ->
        {:export, from, name}

      %{^module => functions} when not is_map(functions) ->
        {:nothing, Words.no_map()}

      %{} when module == @wasi ->
        :wasi

      %{} ->
        {:nothing, Words.missing(module)}
    end
  end

  defp function({from, export}, _type) when is_binary(export) and is_guest(from),
    do: {:export, from, export}

  defp function({function, [async: async]}, {arity, results, _})
       when is_function(function, arity + 1) and is_boolean(async),
       do: {function, results, if(async, do: :async, else: :sync)}

  defp function({function, [async: _]}, {arity, _, _}),
    do: {:nothing, Words.wrong(function, arity)}

  defp function(%Function{signature: same} = function, {_, results, same}),
    do: {function.function, results, function.kind}

  defp function(%Function{} = function, _type), do: {:nothing, Words.declared_as(function)}
  defp function(other, {arity, _, _}), do: {:nothing, Words.wrong(other, arity)}

  @doc "What an imported memory, table, global or tag finds."
  @spec find_other(%{module: String.t(), name: String.t()}, given) :: found_elsewhere
  def find_other(%{module: module, name: name}, given) do
    case given do
      %{^module => from} when is_guest(from) ->
        {:export, from, name}

      %{^module => %{^name => {from, export}}} when is_binary(export) and is_guest(from) ->
        {:export, from, export}

      %{^module => %{^name => other}} ->
        {:nothing, Words.no_guest(other)}

      %{} ->
        {:nothing, Words.missing()}
    end
  end
end
