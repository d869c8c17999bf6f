defmodule Cybernetic.WASM.Runtime.Naming do
  @moduledoc false
  # The options of a load, and of what else is done with names, that say under which name, as which version, and who says so.

  alias Cybernetic.WASM.{Options, Reference, Shown}

  # Of what somebody says of a change.
  @longest_text 500

  @name {~S|a name such as "acme/resize": lowercase letters, digits and . _ - in parts that / separates, at most 200 bytes|,
         &__MODULE__.name?/1}
  @version {~S|a version such as "1.2.0"|, &__MODULE__.version?/1}
  @text {"a text", &__MODULE__.text?/1}
  @who [by: @text, why: @text]
  @options [name: @name, version: @version, current: :boolean] ++ @who

  @doc "Those of a load."
  @spec options() :: Options.keys()
  def options, do: @options

  @doc "Those of everything that is done with names."
  @spec who() :: Options.keys()
  def who, do: @who

  @doc false
  @spec name?(term) :: boolean
  def name?(nil), do: true
  def name?(name), do: Reference.name?(name)

  @doc false
  @spec version?(term) :: boolean
  def version?(nil), do: true
  def version?(version), do: is_binary(version) and match?({:ok, _}, Reference.version(version))

  @doc false
  @spec text?(term) :: boolean
  def text?(text), do: text == nil or (is_binary(text) and String.valid?(text))

  @doc "Who does it, and why, for the record."
  @spec said(map) :: %{by: String.t(), why: String.t() | nil}
  def said(opts) do
    %{
      by: Shown.cut(opts[:by] || inspect(self()), @longest_text),
      why: opts[:why] && Shown.cut(opts[:why], @longest_text)
    }
  end

  @doc "Refuses what are no weights by version."
  @spec weights!(term) :: %{String.t() => pos_integer}
  def weights!(weights) do
    if is_map(weights) and weights != %{} and Enum.all?(weights, &weight?/1) do
      weights
    else
      raise ArgumentError,
            "weights by version are needed, such as %{\"1.3.0\" => 10, \"1.2.0\" => 90}, of 1 to 1,000,000 each, " <>
              "got: #{Shown.term(weights)}"
    end
  end

  defp weight?({version, weight}),
    do: version != nil and version?(version) and weight in 1..1_000_000

  @doc "Refuses what is no name without a version, where one is needed."
  @spec name!(term) :: String.t()
  def name!(name) do
    if Reference.name?(name),
      do: name,
      else: raise(ArgumentError, "a name is needed, without a version, got: #{Shown.term(name)}")
  end
end
