defmodule Cybernetic.WASM.Shown do
  @moduledoc false
  # How terms, paths and the names that a guest chose stand in messages: bounded, whatever their size, and with control
  # characters escaped, which would steer the terminal that a message ends up on.

  @longest 1_000
  @longest_name 200
  # Of an error that is inspected: its first line, and each of its facts.
  @longest_line 400
  @longest_fact 200
  # What an error has beside its facts: they are long, and hold what the guest said.
  @beside [:usage, :run, :stacktrace]
  # Printing takes as long as the square of an integer's digits.
  @large Integer.pow(2, 128)
  # So alike are two names if a letter is wrong, missing or in the wrong place.
  @alike 0.8
  # Byte for byte, since text may be no UTF-8: within a longer character no byte but the first is C2.
  @control ~r/[\x00-\x1f\x7f]|\xc2[\x80-\x9f]/

  @doc "A term: its beginning, as `inspect/2` writes it."
  @spec term(term) :: String.t()
  def term(term), do: term |> inspect(limit: 5, printable_limit: 80) |> escaped() |> bounded()

  @doc "What a term is, where its contents are nobody's business: numbers and atoms are shown, all else is named."
  @spec kind(term) :: String.t()
  def kind(bytes) when is_binary(bytes), do: "a binary of #{byte_size(bytes)} bytes"
  def kind(number) when is_float(number), do: inspect(number)
  def kind(number) when is_integer(number) and abs(number) < @large, do: "#{number}"
  def kind(number) when is_integer(number), do: "an integer of more than 128 bits"
  def kind(atom) when is_atom(atom), do: term(atom)
  def kind(list) when is_list(list), do: "a list"
  def kind(tuple) when is_tuple(tuple), do: "a tuple"
  def kind(%struct{}), do: "a %#{inspect(struct)}{}"
  def kind(map) when is_map(map), do: "a map"
  def kind(function) when is_function(function), do: "a function"
  def kind(_other), do: "another term"

  @doc "A number, with its digits in groups."
  @spec number(integer) :: String.t()
  def number(number), do: Regex.replace(~r/\B(?=(\d{3})+$)/, to_string(number), ",")

  @doc "An error on one line: the first of its message, and those of its facts that are not the usual ones."
  @spec error(Exception.t()) :: String.t()
  def error(%kind{} = error) do
    [line | _] = error |> message() |> String.split("\n", parts: 2)
    usual = kind.__struct__()

    facts =
      for %{field: key} <- kind.__info__(:struct),
          value = Map.fetch!(error, key),
          value != Map.fetch!(usual, key),
          do: "; #{key}: #{fact(key, value)}"

    "##{inspect(kind)}<#{line |> escaped() |> bounded(@longest_line)}#{facts}>"
  end

  # `Exception.message/1` would inspect one that lacks what its message needs.
  defp message(%kind{} = error) do
    kind.message(error)
  rescue
    _ -> "an error that lacks facts"
  end

  defp fact(key, _value) when key in @beside, do: "…"

  defp fact(_key, value) do
    value
    |> inspect(limit: 20, printable_limit: 100)
    |> escaped()
    |> bounded(@longest_fact)
  end

  # An `Inspect` implementation may write what it likes.
  defp escaped(text) do
    if text =~ @control,
      do:
        Regex.replace(
          @control,
          text,
          &for(<<code <- &1>>, do: "\\x" <> Base.encode16(<<code>>), into: "")
        ),
      else: text
  end

  defp bounded(text, longest \\ @longest)
  defp bounded(text, longest) when byte_size(text) <= longest, do: text
  defp bounded(text, longest), do: String.slice(text, 0, longest) <> "…"

  @doc "A name as a fact of an error, as Rust cuts it: of what is too long its beginning, and a sign that there is more."
  @spec cut(String.t(), pos_integer) :: String.t()
  def cut(name, longest \\ @longest_name)
  def cut(name, longest) when byte_size(name) <= longest, do: name
  def cut(name, longest), do: whole(binary_part(name, 0, longest), 0) <> "…"

  # Without the beginning of a character at its end. What is no text at all stays as it is.
  defp whole(bytes, 4), do: bytes

  defp whole(bytes, dropped) do
    beginning = binary_part(bytes, 0, byte_size(bytes) - dropped)
    if String.valid?(beginning), do: beginning, else: whole(bytes, dropped + 1)
  end

  @doc "A name: bare where it is one plain word, in quotes otherwise."
  @spec name(String.t()) :: String.t()
  def name(name) when byte_size(name) > @longest_name, do: quoted(name)
  def name(name), do: if(name =~ ~r/\A[\x21-\x7e]+\z/, do: name, else: quoted(name))

  @doc "A name in quotes."
  @spec quoted(String.t()) :: String.t()
  def quoted(name), do: inspect(name, printable_limit: @longest_name)

  @doc "The name of `known` that was probably meant by one that is not there."
  @spec nearest(name, [name]) :: name | nil when name: atom | String.t()
  def nearest(_name, []), do: nil

  def nearest(name, known) do
    {alike, nearest} =
      known
      |> Enum.map(&{String.jaro_distance(to_string(&1), to_string(name)), &1})
      |> Enum.max()

    if alike >= @alike, do: nearest
  end

  @doc "A path: bare where it is text, in quotes otherwise."
  @spec path(String.t()) :: String.t()
  def path(path) do
    if byte_size(path) <= @longest and String.printable?(path) and not (path =~ @control),
      do: path,
      else: inspect(path, binaries: :as_strings, printable_limit: 80)
  end

  @doc "The first line of what an error says."
  @spec first_line(Exception.t()) :: String.t()
  def first_line(error), do: error |> Exception.message() |> String.split("\n", parts: 2) |> hd()
end
