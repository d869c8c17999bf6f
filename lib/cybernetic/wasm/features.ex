defmodule Cybernetic.WASM.Features do
  @moduledoc false
  # The WebAssembly features that can be switched off: the one list of their names on this side, of which options,
  # configuration and documentation are made. Rust knows them by the same names (engine.rs).

  alias Cybernetic.WASM.Options

  @names [
    :simd,
    :relaxed_simd,
    :bulk_memory,
    :multi_value,
    :reference_types,
    :function_references,
    :gc,
    :tail_call,
    :multi_memory,
    :memory64,
    :extended_const,
    :exceptions
  ]

  @words "a keyword list of booleans with the keys #{Enum.map_join(@names, ", ", &inspect/1)}"

  @doc "The names."
  @spec names() :: [atom]
  def names, do: @names

  @doc "The names for a documentation."
  @spec in_words() :: String.t()
  def in_words, do: Enum.map_join(@names, ", ", &"`#{inspect(&1)}`")

  @doc "What an option takes: a list of switches, such as `[simd: false]`."
  @spec kind() :: Options.kind()
  def kind, do: {@words, &__MODULE__.switches?/1}

  @doc "Whether it is such a list."
  @spec switches?(term) :: boolean
  def switches?(switches) do
    Keyword.keyword?(switches) and
      Enum.all?(switches, fn {name, on} -> name in @names and is_boolean(on) end)
  end

  @doc "Those that are switched off, where the later switch counts."
  @spec off(keyword(boolean)) :: [atom]
  def off(switches) do
    off = for {name, false} <- switches, do: name
    off |> Enum.uniq() |> Enum.sort()
  end
end
