defmodule Cybernetic.WASM.Options do
  @moduledoc false
  # Checks options once, at the door where they are given: an unknown key or a wrong value raises an ArgumentError that names
  # it. Each door declares its keys beside its documentation, with the kind of value that each takes. The kinds that several
  # doors have in common are here; one that a door has for itself brings its words and its check.

  alias Cybernetic.WASM.Shown

  @typedoc """
  What a key takes. `:also` is another name of a key, `:unshown` what no message may show: an environment's values may be in
  it.
  """
  @type kind ::
          :any
          | :boolean
          | :count
          | :positive
          | :path
          | {:milliseconds, least :: 0 | 1}
          | {:bytes, Range.t()}
          | {:one_of, [term]}
          | {:struct, module}
          | {words :: String.t(), (term -> boolean)}
          | {:unshown, kind}
          | {:also, atom}

  @typedoc "The keys that a door takes."
  @type keys :: [{atom, kind}]

  @most 0xFFFF_FFFF_FFFF
  # What a `receive` waits.
  @longest_wait 0xFFFF_FFFF

  @doc """
  Checks `opts` against the keys that are `known`, and gives them as a map. `misplaced` has the words for a key that belongs
  elsewhere, or `nil`.
  """
  @spec check!(keyword, keys, String.t(), (atom -> String.t() | nil)) :: map
  def check!(opts, known, whose, misplaced \\ fn _key -> nil end) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError,
            "#{plural(whose)} must be a keyword list, got: #{shown(:unshown, opts)}"
    end

    Map.new(opts, fn {key, value} ->
      case List.keyfind(known, key, 0) do
        {_key, {:also, other}} ->
          check_value!(key, Keyword.fetch!(known, other), value)
          once!(key, other, opts)
          {other, value}

        {_key, kind} ->
          check_value!(key, kind, value)
          {key, value}

        nil ->
          raise ArgumentError, unknown(key, known, whose, misplaced.(key))
      end
    end)
  end

  defp plural(whose) do
    [one | of] = String.split(whose, " of ", parts: 2)
    Enum.join([one <> "s" | of], " of ")
  end

  @doc "Raises for a key that none of several checks would know. Each of them lists its own keys alone."
  @spec known!(keyword, keys, String.t(), (atom -> String.t() | nil)) :: keyword
  def known!(opts, known, whose, misplaced \\ fn _key -> nil end) do
    unless Keyword.keyword?(opts), do: check!(opts, [], whose)
    known = Enum.uniq_by(known, &elem(&1, 0))

    for {key, _value} <- opts, not Keyword.has_key?(known, key) do
      raise ArgumentError, unknown(key, known, whose, misplaced.(key))
    end

    opts
  end

  @doc "The name that an option goes by inside."
  @spec canonical(atom, keys) :: atom
  def canonical(key, known) do
    case List.keyfind(known, key, 0) do
      {_key, {:also, other}} -> other
      _own_name -> key
    end
  end

  defp check_value!(key, kind, value) do
    unless valid?(kind, value) do
      raise ArgumentError,
            "option #{inspect(key)} must be #{expected(kind)}, got: #{shown(kind, value)}"
    end
  end

  # What is no list of options may be anything, too.
  defp shown({:unshown, _kind}, value), do: shown(:unshown, value)
  defp shown(:unshown, value), do: Shown.kind(value)
  defp shown(_kind, value), do: Shown.term(value)

  defp unknown(key, [], whose, nil), do: "unknown #{whose} #{inspect(key)}: there are none"

  defp unknown(key, known, whose, nil) do
    nearest = Shown.nearest(key, Keyword.keys(known))
    hint = if nearest, do: " (did you mean #{inspect(nearest)}?)", else: ""
    "unknown #{whose} #{inspect(key)}#{hint}; known are: #{list(Keyword.keys(known))}"
  end

  defp unknown(key, _known, whose, where), do: "unknown #{whose} #{inspect(key)}: #{where}"

  defp once!(key, other, opts) do
    if Keyword.has_key?(opts, other) do
      raise ArgumentError,
            "#{inspect(other)} and #{inspect(key)} are two names of one option: give one of them"
    end
  end

  @doc "Raises for what a function takes no such thing as: `wanted` says what it takes. What was given is named, and not shown."
  @spec refuse!(String.t(), term) :: no_return
  def refuse!(wanted, given), do: raise(ArgumentError, "#{wanted}, got: #{Shown.kind(given)}")

  @doc "Keys as a message lists them."
  @spec list([term]) :: String.t()
  def list(keys), do: Enum.map_join(keys, ", ", &inspect/1)

  @doc "What the kind takes, in words."
  @spec expected(kind) :: String.t()
  def expected(:any), do: "any term"
  def expected(:boolean), do: "true or false"
  def expected(:count), do: "an integer from 0 to #{@most}"
  def expected(:positive), do: "an integer from 1 to #{@most}"
  def expected(:path), do: "a path"

  def expected({:milliseconds, least}),
    do: "an integer of milliseconds from #{least} to #{@longest_wait}"

  def expected({:bytes, range}), do: "an integer of bytes from #{range.first} to #{range.last}"
  def expected({:one_of, values}), do: "one of #{list(values)}"
  def expected({:struct, module}), do: "a %#{inspect(module)}{}"
  def expected({:unshown, kind}), do: expected(kind)
  def expected({words, _valid?}), do: words

  @doc "Whether the kind takes `value`."
  @spec valid?(kind, term) :: boolean
  def valid?(:any, _value), do: true
  def valid?(:boolean, value), do: is_boolean(value)
  def valid?(:count, value), do: is_integer(value) and value in 0..@most
  def valid?(:positive, value), do: is_integer(value) and value in 1..@most
  def valid?(:path, value), do: is_binary(value)

  def valid?({:milliseconds, least}, value),
    do: is_integer(value) and value >= least and value <= @longest_wait

  def valid?({:bytes, range}, value), do: is_integer(value) and value in range
  def valid?({:one_of, values}, value), do: value in values
  def valid?({:struct, module}, value), do: is_struct(value, module)
  def valid?({:unshown, kind}, value), do: valid?(kind, value)
  def valid?({_words, valid?}, value), do: valid?.(value)
end
