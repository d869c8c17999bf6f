defmodule Cybernetic.WASM.Plenty do
  @moduledoc false
  # Limits that no test waits for: what is told to end must end by itself.

  @doc "Fuel that no guest uses up."
  def plenty, do: 100_000_000_000_000

  @doc "Milliseconds that no test waits for."
  def never, do: 600_000

  @doc "Options of a call that no limit ends, unless one of `opts` is to do it."
  def forever(opts \\ []), do: Keyword.merge([fuel: plenty(), timeout: never()], opts)
end
