defmodule Cybernetic.WASM.Loader.Expect do
  @moduledoc false
  # What a host needs of a module: `[exports: [execute: "(i32 i32) -> i32", memory: :memory]]`.

  alias Cybernetic.WASM.{Component, LoadError, Module, Options, Shown}

  @kinds [:function, :memory, :table, :global, :tag]
  @types ~w(i32 i64 f32 f64 v128 funcref externref)

  # Of what is wrong, and of types, as many are named.
  @most_named 20

  @expected ~S|the text of a function's type such as "(i32 i32) -> i32", or one of :function, :memory, :table, :global, :tag|

  @typedoc "What each export has to be."
  @type t :: [{name :: String.t(), wanted}]
  @typep wanted :: atom | {:function, [String.t()], [String.t()]}

  @doc "From options. It raises for what is none."
  @spec new!(keyword) :: t
  def new!(opts) do
    opts =
      Options.check!(
        opts,
        [exports: {"a keyword list or a map of exports", &pairs?/1}],
        "expectation",
        &misplaced/1
      )

    for {name, type} <- Map.get(opts, :exports, []), do: {name!(name), wanted!(name, type)}
  end

  defp misplaced(_name),
    do: "what is exported stands in a list of its own, expect: [exports: [memory: :memory]]"

  defp pairs?(exports) when is_list(exports),
    do: not List.improper?(exports) and Enum.all?(exports, &match?({_name, _type}, &1))

  defp pairs?(exports), do: is_map(exports) and not is_struct(exports)

  defp name!(name) when is_binary(name), do: name
  defp name!(name) when is_atom(name), do: Atom.to_string(name)

  defp name!(name),
    do:
      raise(
        ArgumentError,
        "the name of an expected export must be a text or an atom, got: #{Shown.term(name)}"
      )

  defp wanted!(_name, kind) when kind in @kinds, do: kind

  defp wanted!(_name, {:function, params, results} = type)
       when is_list(params) and is_list(results),
       do: type

  defp wanted!(name, text) when is_binary(text) do
    with [_, params | results] <-
           Regex.run(~r/\A\s*\(([^()]*)\)\s*(?:->\s*(\S.*?))?\s*\z/s, text),
         {:ok, params} <- types(params),
         {:ok, results} <- results |> List.first("") |> results() do
      {:function, params, results}
    else
      _ -> wrong!(name, text)
    end
  end

  defp wanted!(name, other), do: wrong!(name, other)

  defp results(text) do
    case Regex.run(~r/\A\(([^()]*)\)\z/, text) do
      [_, types] -> types(types)
      nil -> types(text)
    end
  end

  defp types(text) do
    types = String.split(text, [" ", ",", "\t", "\n"], trim: true)
    if Enum.all?(types, &(&1 in @types)), do: {:ok, types}, else: :error
  end

  @spec wrong!(term, term) :: no_return
  defp wrong!(name, given) do
    raise ArgumentError,
          "the expected export #{Shown.term(name)} must be #{@expected}, got: #{Shown.term(given)}; " <>
            "types are #{Enum.join(@types, ", ")}"
  end

  @doc "Holds a module to it. The error names each export that is missing or something else."
  @spec check(t, Module.loaded()) :: :ok | {:error, LoadError.t()}
  def check([], _module), do: :ok

  def check(expected, module) do
    exports = exports(module)

    problems =
      for {name, wanted} <- expected, problem = problem(name, wanted, exports[name]), do: problem

    if problems == [], do: :ok, else: {:error, %LoadError{reason: :unexpected, exports: problems}}
  end

  # A component's are called by their paths; no text says what its functions are.
  defp exports(%Component{} = component),
    do: Map.new(Component.exports(component), &{Component.path(&1), &1.type})

  defp exports(module), do: Map.new(Module.exports(module), &{&1.name, &1.type})

  defp problem(name, wanted, type) do
    unless fits?(wanted, type),
      do: %{name: Shown.cut(name), expected: words(wanted), found: type && words(type)}
  end

  defp fits?(_wanted, nil), do: false
  defp fits?(:function, {:func, _params, _result}), do: true
  defp fits?(kind, type) when is_atom(kind), do: is_tuple(type) and elem(type, 0) == kind
  defp fits?(wanted, type), do: wanted == type

  defp words(kind) when is_atom(kind), do: "a #{kind}"
  defp words({:func, _params, _result}), do: "a component's function"
  defp words({:function, params, results}), do: "(#{list(params)})" <> gives(results)
  defp words(type), do: "a #{elem(type, 0)}"

  defp gives([]), do: ""
  defp gives([type]), do: " -> #{type}"
  defp gives(types), do: " -> (#{list(types)})"

  defp list(types) do
    {named, others} = Enum.split(types, @most_named)
    Enum.join(named, " ") <> if(others == [], do: "", else: " and #{length(others)} more")
  end
end
