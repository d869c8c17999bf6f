defmodule Cybernetic.WASM.Host.Declarations do
  @moduledoc false
  # What `use Cybernetic.WASM.Host` and `defimport` make of the code that they are given: host functions with their types.

  alias Cybernetic.WASM.Host.Function

  @typedoc """
  A declaration, as a host module collects them: the function, its import's name where that is said, types, and options. In the place
  of a type stands what a parameter without one is.
  """
  @type declared :: {atom, String.t() | nil, [param], results :: [atom], keyword}

  @typedoc "The type of a parameter, or the parameter without a type, in words."
  @type param :: atom | {:untyped, String.t()}

  @doc "The options of `use`, with their defaults."
  @spec defaults!(keyword) :: keyword
  def defaults!(opts) do
    opts = options!(opts, [:module, :interface, :extra], "use")

    if opts[:module] && opts[:interface],
      do: raise(ArgumentError, "functions are of a module: or of an interface:, not of both")

    Keyword.merge([module: "env", extra: :refuse], opts)
  end

  @doc "The options of `defimport`."
  @spec options!(term) :: keyword
  def options!(opts), do: options!(opts, [:as, :module, :async, :ends], "defimport")

  defp options!(opts, known, whose) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError,
            "options of #{whose} must be a keyword list, got: #{Macro.to_string(opts)}"
    end

    Enum.each(opts, fn {key, value} ->
      unless key in known do
        raise ArgumentError,
              "unknown option of #{whose} #{inspect(key)}; known are: #{Enum.map_join(known, ", ", &inspect/1)}"
      end

      option!(key, value)
    end)

    opts
  end

  # What is no literal is an expression, whose value is not known yet.
  defp option!(_key, {_, _, _}), do: :ok
  defp option!(:module, name) when is_binary(name), do: :ok
  defp option!(key, name) when key in [:as, :interface, :ends] and is_binary(name), do: :ok
  defp option!(:async, async) when is_boolean(async), do: :ok
  defp option!(:extra, extra) when extra in [:refuse, :ignore], do: :ok

  defp option!(key, value) do
    expected = %{
      module: "a string",
      interface: "a string",
      as: "a string",
      ends: "a string",
      async: "true or false",
      extra: ":refuse or :ignore"
    }

    raise ArgumentError,
          "option #{inspect(key)} must be #{expected[key]}, got: #{Macro.to_string(value)}"
  end

  @doc "The host functions of a module, by the names of their imports."
  @spec imports(module, [declared], keyword) ::
          %{String.t() => %{String.t() => Function.t() | [Function.t()]}}
  def imports(declared_by, declared, host) do
    Enum.reduce(declared, %{}, fn {function, as, params, results, opts}, imports ->
      entry = %Function{
        function: Elixir.Function.capture(declared_by, function, length(params) + 1),
        signature: typed(host[:interface], params, results),
        declared_by: declared_by,
        kind: kind(opts, host[:interface], params),
        strict: host[:extra] == :refuse
      }

      name = opts[:ends] || as || import_name(function, host[:interface])
      module = Keyword.get(opts, :module, host[:interface] || host[:module])
      Map.update(imports, module, %{name => entry}, &add(&1, module, name, entry))
    end)
  end

  defp typed(nil, params, results) do
    with {:untyped, param} <- Enum.find(params, &is_tuple/1) do
      raise ArgumentError, "a parameter is variable :: type, got: #{param}"
    end

    Function.signature(params, results)
  end

  # The types are the component's.
  defp typed(interface, params, results) do
    if results != [] or Enum.any?(params, &is_atom/1) do
      raise ArgumentError,
            "the types of the interface #{inspect(interface)} are in the component: leave them out of the declaration"
    end
  end

  defp kind(opts, interface, params) do
    cond do
      opts[:ends] == nil -> if(opts[:async], do: :async, else: :sync)
      interface && params == [] && opts[:async] != true -> :ends
      true -> raise ArgumentError, "what ends a resource of an interface takes that alone"
    end
  end

  defp import_name(function, nil), do: Atom.to_string(function)
  # As WIT has them.
  defp import_name(function, _interface),
    do: function |> Atom.to_string() |> String.replace("_", "-")

  # The clauses of one function are declared one by one. What is imported with several types is one function for each.
  defp add(functions, module, name, entry) do
    others = functions |> Map.get(name) |> List.wrap()

    cond do
      entry in others ->
        functions

      Enum.any?(others, &(&1.signature == entry.signature)) ->
        raise ArgumentError,
              "#{inspect(module)} #{inspect(name)} is declared twice as #{entry.signature || "a function of another arity"}"

      others == [] ->
        Map.put(functions, name, entry)

      true ->
        Map.put(functions, name, others ++ [entry])
    end
  end

  @doc "The name of a declaration, its arguments without their types, and the types of its parameters and results."
  @spec parse(Macro.t()) :: {atom, [Macro.t()], [param], results :: [atom]}
  def parse(declaration) do
    {head, results} = results(declaration)
    {name, _meta, [context | params]} = head(head)
    {variables, types} = params |> Enum.map(&param/1) |> Enum.unzip()
    {name, [context | variables], types, results}
  end

  defp results({:"::", _, [head, {:{}, _, results}]}), do: {head, Enum.map(results, &type!/1)}
  defp results({:"::", _, [head, {one, other}]}), do: {head, [type!(one), type!(other)]}
  defp results({:"::", _, [head, result]}), do: {head, [type!(result)]}
  defp results(head), do: {head, []}

  defp head({name, _, [_context | _]} = head) when is_atom(name) and name != :when, do: head

  defp head(other) do
    raise ArgumentError,
          "a declaration is name(context, parameter :: type, …) :: result, got: #{Macro.to_string(other)}"
  end

  defp param({:"::", _, [variable, type]}), do: {variable, type!(type)}

  defp param({:\\, _, _} = default),
    do: raise(ArgumentError, "a parameter is variable :: type, got: #{Macro.to_string(default)}")

  # Good in an interface alone: which it is for is not known yet.
  defp param(pattern), do: {pattern, {:untyped, Macro.to_string(pattern)}}

  defp type!({type, _, context}) when is_atom(context), do: type!(type)

  defp type!(type) do
    if type in Function.types() do
      type
    else
      raise ArgumentError,
            "unknown type #{Macro.to_string(type)}; known are: #{Enum.join(Function.types(), ", ")}"
    end
  end
end
