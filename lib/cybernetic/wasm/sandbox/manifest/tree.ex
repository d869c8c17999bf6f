defmodule Cybernetic.WASM.Sandbox.Manifest.Tree do
  @moduledoc false
  # The nodes of a manifest's text, each read as the kind that it should be. An `at` is the place of a node: its file, line and
  # key. The first mistake is thrown, as `{:mistake, exception}`.

  alias Cybernetic.WASM.{ManifestError, Shown}

  @type tree :: {atom, pos_integer, term}

  @type at :: %{
          file: String.t() | nil,
          key: String.t() | nil,
          line: pos_integer,
          base: String.t(),
          allow_absolute: boolean
        }

  @shown 80

  @doc "The entries of a table as `{field, node, at}`; `known` has the field of each key."
  @spec table(tree, at, [{String.t(), atom}]) :: [{atom, tree, at}]
  def table({:table, _line, entries}, at, known) do
    for {key, line, {_kind, value_line, _value} = node} <- entries do
      case List.keyfind(known, key, 0) do
        {_key, field} -> {field, node, inside(at, key, value_line)}
        nil -> at |> inside(key, line) |> unknown(key, Enum.map(known, &elem(&1, 0)))
      end
    end
  end

  def table(node, at, _known), do: refuse(node, at, "a table")

  @doc "The entries of a table as a map of `{node, at}`. The fields `required`, which are texts, must be among them."
  @spec parts(tree, at, [{String.t(), atom}], [atom]) :: %{atom => {tree, at}}
  def parts({_kind, line, _value} = node, at, known, required) do
    parts = for {field, node, at} <- table(node, at, known), into: %{}, do: {field, {node, at}}

    for field <- required, not is_map_key(parts, field) do
      at |> inside(to_string(field), line) |> throw_mistake(:missing, expected: "a text")
    end

    parts
  end

  @doc "The items of a list."
  @spec items(tree, at) :: [{tree, at}]
  def items({:array, _line, nodes}, at) do
    for {{_kind, line, _value} = node, index} <- Enum.with_index(nodes),
        do: {node, %{at | key: "#{at.key}[#{index}]", line: line}}
  end

  def items(node, at), do: refuse(node, at, "a list")

  @doc "True or false."
  @spec boolean(tree, at) :: boolean
  def boolean({:boolean, _line, value}, _at), do: value
  def boolean(node, at), do: refuse(node, at, "true or false")

  @doc "An integer."
  @spec integer(tree, at, String.t()) :: integer
  def integer({:integer, _line, value}, _at, _expected), do: value
  def integer(node, at, expected), do: refuse(node, at, expected)

  @doc "A text that is not empty."
  @spec text(tree, at, String.t()) :: String.t()
  def text({:string, _line, text}, _at, _expected) when text != "", do: text
  def text(node, at, expected), do: refuse(node, at, expected)

  @doc "The choice that a word stands for. `false` stands for the same as `\"none\"`."
  @spec choice(tree, at, [{String.t(), atom}], String.t()) :: atom
  def choice({:boolean, _line, false}, at, choices, expected),
    do: choice({:string, at.line, "none"}, at, choices, expected)

  def choice({kind, _line, word} = node, at, choices, expected) do
    with :string <- kind, {_word, choice} <- List.keyfind(choices, word, 0) do
      choice
    else
      _ -> refuse(node, at, expected)
    end
  end

  @doc "The option, if `check` takes it. If not, the node is refused for the reason that `check` gives."
  @spec option(
          option,
          (option -> {:ok, term} | {:error, {String.t(), term}}),
          {tree, at},
          String.t()
        ) ::
          option
        when option: term
  def option(option, check, {node, at}, expected) do
    case check.(option) do
      {:ok, _grant} -> option
      {:error, {why, _given}} -> mistake(at, expected, shown(node), why)
    end
  end

  @doc "The place of `key` in the table at `at`."
  @spec inside(at, String.t(), pos_integer) :: at
  def inside(at, key, line) do
    bare? = byte_size(key) <= @shown and key =~ ~r/\A[A-Za-z0-9_-]+\z/
    key = if bare?, do: key, else: inspect(key, printable_limit: @shown)
    %{at | key: Enum.join(List.wrap(at.key) ++ [key], "."), line: line}
  end

  @doc "A place in words."
  @spec place(String.t() | nil, pos_integer, String.t()) :: String.t()
  def place(file, line, key), do: "#{file || "manifest"}:#{line}: #{key}"

  @doc "Refuses a node that stands in the place of `expected`."
  @spec refuse(tree, at, String.t()) :: no_return
  def refuse(node, at, expected), do: mistake(at, expected, shown(node))

  @doc "Refuses the node at `at`, in these words."
  @spec mistake(at, String.t(), String.t()) :: no_return
  @spec mistake(at, String.t(), String.t(), String.t() | nil) :: no_return
  def mistake(at, expected, got, detail \\ nil),
    do: throw_mistake(at, :value, expected: expected, got: got, detail: detail)

  @spec unknown(at, String.t(), [String.t()]) :: no_return
  defp unknown(at, key, known) do
    throw_mistake(at, :unknown_key, known: known, suggestion: Shown.nearest(key, known))
  end

  @spec throw_mistake(at, atom, keyword) :: no_return
  defp throw_mistake(at, reason, facts) do
    facts = [reason: reason, file: at.file, line: at.line, key: at.key] ++ facts
    throw({:mistake, struct!(ManifestError, facts)})
  end

  @doc "A node as an error shows it."
  @spec shown(tree | String.t()) :: String.t()
  def shown({:string, _line, text}), do: inspect(text, printable_limit: @shown)

  def shown({kind, _line, value}) when kind in [:integer, :float, :boolean, :datetime],
    do: to_string(value)

  def shown({:table, _line, []}), do: "an empty table"

  def shown({:table, _line, entries}) do
    {named, others} = Enum.split(entries, 5)
    keys = Enum.map_join(named, ", ", fn {key, _, _} -> inspect(key, printable_limit: @shown) end)
    "a table with #{keys}#{if others != [], do: ", …"}"
  end

  def shown(node), do: kind(node)

  @doc "A node as an error shows it where its value may be a secret: only its kind."
  @spec kind(tree) :: String.t()
  def kind({:array, _line, _value}), do: "a list"
  def kind({:integer, _line, _value}), do: "an integer"
  def kind({:string, _line, _value}), do: "a text"
  def kind({kind, _line, _value}), do: "a #{kind}"
end
