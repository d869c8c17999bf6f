defmodule Cybernetic.WASM.Host.Declarations do
  @moduledoc false
  # What `use Cybernetic.WASM.Host` and `defimport` make of the code that they are given: host functions with their types.

  alias Cybernetic.WASM.Host.Function

  @typedoc "A declaration, as a host module collects them: the function, its import's name, types, and options."
  @type declared :: {atom, String.t(), params :: [atom], results :: [atom], keyword}

  @doc "The options of `use`, with their defaults."
  @spec defaults!(keyword) :: keyword
  def defaults!(opts),
    do: Keyword.merge([module: "env", extra: :refuse], options!(opts, [:module, :extra], "use"))

  @doc "The options of `defimport`."
  @spec options!(term) :: keyword
  def options!(opts), do: options!(opts, [:as, :module, :async], "defimport")

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
  defp option!(:as, name) when is_binary(name), do: :ok
  defp option!(:async, async) when is_boolean(async), do: :ok
  defp option!(:extra, extra) when extra in [:refuse, :ignore], do: :ok

  defp option!(key, value) do
    expected = %{
      module: "a string",
      as: "a string",
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
    Enum.reduce(declared, %{}, fn {function, name, params, results, opts}, imports ->
      entry = %Function{
        function: Elixir.Function.capture(declared_by, function, length(params) + 1),
        signature: Function.signature(params, results),
        declared_by: declared_by,
        kind: if(opts[:async], do: :async, else: :sync),
        strict: host[:extra] == :refuse
      }

      module = Keyword.get(opts, :module, host[:module])
      Map.update(imports, module, %{name => entry}, &add(&1, module, name, entry))
    end)
  end

  # The clauses of one function are declared one by one. What is imported with several types is one function for each.
  defp add(functions, module, name, entry) do
    others = functions |> Map.get(name) |> List.wrap()

    cond do
      entry in others ->
        functions

      Enum.any?(others, &(&1.signature == entry.signature)) ->
        raise ArgumentError,
              "#{inspect(module)} #{inspect(name)} is declared twice as #{entry.signature}"

      others == [] ->
        Map.put(functions, name, entry)

      true ->
        Map.put(functions, name, others ++ [entry])
    end
  end

  @doc "The name of a declaration, its arguments without their types, and the types of its parameters and results."
  @spec parse(Macro.t()) :: {atom, [Macro.t()], params :: [atom], results :: [atom]}
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

  defp param(other),
    do: raise(ArgumentError, "a parameter is variable :: type, got: #{Macro.to_string(other)}")

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
