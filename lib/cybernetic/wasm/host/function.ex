defmodule Cybernetic.WASM.Host.Function do
  @moduledoc false
  # A host function with its declared type: what `Cybernetic.WASM.Host.defimport/2` makes, and the linker checks. One of an
  # interface has no type but a component's. A strict one must be imported by the module that it is given to. `:ends` is no import:
  # it ends resources of the host's.

  @enforce_keys [:function, :signature, :declared_by]
  defstruct [:function, :signature, :declared_by, kind: :sync, strict: true]

  @type t :: %__MODULE__{
          function: function,
          signature: String.t() | nil,
          declared_by: module,
          kind: :sync | :async | :ends,
          strict: boolean
        }

  @types [:i32, :i64, :f32, :f64, :v128, :funcref, :externref]

  @doc "The types that a declaration can name."
  @spec types() :: [atom]
  def types, do: @types

  # As many as `SPELT_OUT` in the core's value.rs.
  @most_named 32

  @doc "A type in the text format's words, as the core writes it."
  @spec signature([atom], [atom]) :: String.t()
  def signature(params, results),
    do: "(func#{group("param", params)}#{group("result", results)})"

  defp group(_word, []), do: ""

  defp group(word, types) do
    {named, others} = Enum.split(types, @most_named)
    more = if others == [], do: "", else: " and #{length(others)} more"
    " (#{word} #{Enum.map_join(named, " ", &to_string/1)}#{more})"
  end
end
