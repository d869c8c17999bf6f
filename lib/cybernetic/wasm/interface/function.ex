defmodule Cybernetic.WASM.Interface.Function do
  @moduledoc false
  # An export as a function of Elixir: what it takes and gives, and the parts of its definition as code.

  alias Cybernetic.WASM.Shown

  @enforce_keys [:export, :params, :results]
  # `passes` is how it takes its arguments by an ABI, and `gives` what it gives then: `:values` or `:bytes`. Of a component's function
  # `wit` has all that there is to say.
  defstruct [:export, :params, :results, :name, :passes, :wit, gives: :values]

  @typedoc "How an argument is passed by an ABI: see `Cybernetic.WASM.ABI`. Room is no argument of the function in Elixir."
  @type kind :: :bytes | :pointer | :cstring | :value | {:room, non_neg_integer}

  @type t :: %__MODULE__{
          export: String.t(),
          params: [String.t()],
          results: [String.t()],
          name: atom,
          passes: [kind] | nil,
          wit: wit | nil,
          gives: :values | :bytes
        }

  @typedoc "A component's function: what its name is made of, its type in WIT's words, and its types and names in Elixir."
  @type wit :: %{
          interface: String.t() | nil,
          word: String.t(),
          signature: String.t(),
          docs: String.t() | nil,
          names: [String.t()],
          params: [Macro.t()],
          result: Macro.t()
        }

  # The types that `Cybernetic.WASM.Value` has names for.
  @types Map.new([:i32, :i64, :f32, :f64, :v128, :funcref, :externref], &{Atom.to_string(&1), &1})

  @doc false
  @spec kind?(term) :: boolean
  def kind?({:room, size}), do: is_integer(size) and size >= 0
  def kind?(kind), do: kind in [:bytes, :pointer, :cstring, :value]

  @doc "The function, called by an ABI. `:error` where its parameters are no such arguments."
  @spec by_abi(t, [kind], :values | :bytes) :: {:ok, t} | :error
  def by_abi(function, kinds, gives) do
    if fit?(kinds, function.params),
      do: {:ok, %{function | passes: kinds, gives: gives}},
      else: :error
  end

  # Each kind is for one parameter, bytes for two.
  defp fit?(kinds, params) do
    widths = Enum.map(kinds, &if(&1 == :bytes, do: 2, else: 1))

    Enum.sum(widths) == length(params) and
      kinds |> Enum.zip(chunks(params, widths)) |> Enum.all?(&fits?/1)
  end

  defp chunks([], []), do: []

  defp chunks(params, [width | widths]) do
    {own, others} = Enum.split(params, width)
    [own | chunks(others, widths)]
  end

  defp fits?({:value, _types}), do: true
  defp fits?({_bytes, types}), do: Enum.all?(types, &(&1 in ["i32", "i64"]))

  @doc "How many arguments it takes in Elixir, without the options."
  @spec arity(t) :: non_neg_integer
  def arity(function), do: length(types(function))

  # Of its arguments in Elixir.
  defp types(%__MODULE__{wit: %{params: types}}), do: types
  defp types(%__MODULE__{passes: nil, params: params}), do: Enum.map(params, &type/1)
  defp types(%__MODULE__{passes: kinds, params: params}), do: types(kinds, params)

  defp types([], []), do: []
  defp types([{:room, _size} | kinds], [_at | params]), do: types(kinds, params)
  defp types([:value | kinds], [type | params]), do: [type(type) | types(kinds, params)]
  defp types([:bytes | kinds], [_, _ | params]), do: [quote(do: iodata) | types(kinds, params)]
  defp types([_pointer | kinds], [_at | params]), do: [quote(do: iodata) | types(kinds, params)]

  defp type(type) do
    name = Map.get(@types, type, :t)
    quote do: Cybernetic.WASM.Value.unquote(name)()
  end

  # Its definition

  @doc "The name of its twin that raises."
  @spec bang(t) :: atom
  def bang(function), do: :"#{function.name}!"

  @doc "The function and its twin that raises, of a module that was generated as `owner`."
  @spec definition(t, module) :: Macro.t()
  def definition(function, owner) do
    {arguments, by_abi?} = {arguments(function), function.passes != nil}

    quote do
      @doc unquote(doc(function))
      unquote_splicing(for spec <- specs(function), do: quote(do: @spec(unquote(spec))))

      def unquote(function.name)(unquote_splicing(arguments), opts \\ []) do
        Cybernetic.WASM.Interface.Calls.call(
          {unquote(owner), unquote(by_abi?)},
          unquote(function.export),
          unquote(passed(function)),
          opts
        )
      end

      @doc unquote(bang_doc(function))
      unquote_splicing(for spec <- bang_specs(function), do: quote(do: @spec(unquote(spec))))

      def unquote(bang(function))(unquote_splicing(arguments), opts \\ []) do
        Cybernetic.WASM.Error.unwrap!(unquote(function.name)(unquote_splicing(arguments), opts))
      end
    end
  end

  @doc "Its parameters, without the options."
  @spec arguments(t) :: [Macro.t()]
  def arguments(%__MODULE__{wit: %{names: names}}),
    do: for({name, index} <- Enum.with_index(names, 1), do: argument(name, index))

  def arguments(function), do: function |> arity() |> Macro.generate_arguments(__MODULE__)

  # As WIT calls it, where that is a variable of its own in Elixir.
  defp argument(name, index) do
    name = String.replace(name, "-", "_")

    plain? =
      name =~ ~r/\A[a-z][a-z0-9_]*\z/ and
        Code.string_to_quoted(name) == {:ok, {String.to_atom(name), [line: 1], nil}}

    name = if plain?, do: name, else: "arg#{index}"
    Macro.var(String.to_atom(name), __MODULE__.Arguments)
  end

  @doc "What it passes on of them."
  @spec passed(t) :: [Macro.t()]
  def passed(%__MODULE__{passes: nil} = function), do: arguments(function)
  def passed(%__MODULE__{passes: kinds} = function), do: passed(kinds, arguments(function))

  defp passed([], []), do: []
  defp passed([{:room, _size} = room | kinds], arguments), do: [room | passed(kinds, arguments)]

  defp passed([kind | kinds], [argument | arguments]),
    do: [{kind, argument} | passed(kinds, arguments)]

  @doc "What it is and takes, for a reader."
  @spec doc(t) :: String.t()
  def doc(function) do
    """
    #{said(function)}Calls the export `#{Shown.name(function.export)}`, of the type `#{signature(function)}`#{way(function)}.

    The call has a fresh instance, or that of the option `:instance`. Other options are those of
    `Cybernetic.WASM.Executor.call/4`; with `:instance` those of `Cybernetic.WASM.Instance.call/4`.
    """
  end

  defp said(%__MODULE__{wit: %{docs: docs}}) when docs != nil, do: docs <> "\n\n"
  defp said(_function), do: ""

  defp way(%__MODULE__{passes: nil}), do: ""
  defp way(%__MODULE__{passes: kinds}), do: ", by an ABI, with #{inspect(kinds)}"

  @doc "What its twin is, for a reader."
  @spec bang_doc(t) :: String.t()
  def bang_doc(function),
    do: "As `#{function.name}/#{arity(function) + 1}`, but raises the error."

  @doc "Its type in the text format's words, or in WIT's."
  @spec signature(t) :: String.t()
  def signature(%__MODULE__{wit: %{signature: signature}}), do: signature

  def signature(%__MODULE__{params: params, results: results}),
    do: "(#{Enum.join(params, " ")}) -> (#{Enum.join(results, " ")})"

  @doc "Its types, with and without options."
  @spec specs(t) :: [Macro.t()]
  def specs(function) do
    result = quote do: {:ok, unquote(result(function))} | {:error, Cybernetic.WASM.Error.t()}
    both(function, function.name, result)
  end

  @doc "The types of its twin."
  @spec bang_specs(t) :: [Macro.t()]
  def bang_specs(function), do: both(function, bang(function), result(function))

  defp both(function, name, result) do
    types = types(function)
    options = quote do: [Cybernetic.WASM.call_option()]

    for types <- [types, types ++ [options]],
        do: quote(do: unquote(name)(unquote_splicing(types)) :: unquote(result))
  end

  defp result(%__MODULE__{wit: %{result: result}}), do: result
  defp result(%__MODULE__{gives: :bytes}), do: quote(do: binary | nil)
  defp result(%__MODULE__{results: []}), do: nil
  defp result(%__MODULE__{results: [one]}), do: type(one)

  defp result(%__MODULE__{results: several}) do
    [first | others] = several |> Enum.uniq() |> Enum.map(&type/1)
    [Enum.reduce(others, first, &quote(do: unquote(&2) | unquote(&1)))]
  end
end
