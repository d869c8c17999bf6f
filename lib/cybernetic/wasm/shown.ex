defmodule Cybernetic.WASM.Shown do
  @moduledoc false
  # How terms, paths and the names that a guest chose stand in messages: bounded, whatever their size, and with control
  # characters escaped, which would steer the terminal that a message ends up on.

  @longest 1_000
  @longest_name 200
  # So alike are two names if a letter is wrong, missing or in the wrong place.
  @alike 0.8
  @control ~r/[[:cntrl:]]/

  @doc "A term: its beginning, as `inspect/2` writes it."
  @spec term(term) :: String.t()
  def term(term), do: term |> inspect(limit: 5, printable_limit: 80) |> escaped() |> bounded()

  # An `Inspect` implementation may write what it likes.
  defp escaped(text) do
    if text =~ @control,
      do: Regex.replace(@control, text, fn <<code>> -> "\\x" <> Base.encode16(<<code>>) end),
      else: text
  end

  defp bounded(text) when byte_size(text) <= @longest, do: text
  defp bounded(text), do: String.slice(text, 0, @longest) <> "…"

  @doc "A name: bare where it is one plain word, in quotes otherwise."
  @spec name(String.t()) :: String.t()
  def name(name) when byte_size(name) > @longest_name, do: quoted(name)
  def name(name), do: if(name =~ ~r/\A[\x21-\x7e]+\z/, do: name, else: quoted(name))

  @doc "A name in quotes."
  @spec quoted(String.t()) :: String.t()
  def quoted(name), do: inspect(name, printable_limit: @longest_name)

  @doc "The name of `known` that was probably meant by one that is not there."
  @spec nearest(name, [name, ...]) :: name | nil when name: atom | String.t()
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
end
