defmodule Mix.Tasks.Wasm.ImportOptions do
  @moduledoc false
  # What becomes of imports that a shell has nothing for, as an option of a command line.

  alias Mix.Tasks.Wasm.{CommandLine, UsageError}

  @doc "Its switch."
  @spec switches() :: keyword
  def switches, do: [unknown_imports: :string]

  @doc "The option of a call, where it is given."
  @spec read(map) :: {:ok, keyword} | {:error, UsageError.t()}
  def read(%{unknown_imports: "trap"}), do: {:ok, [unknown_imports: :trap]}
  def read(%{unknown_imports: "refuse"}), do: {:ok, []}

  def read(%{unknown_imports: other}),
    do: CommandLine.usage_error("--unknown-imports must be trap or refuse, got: #{other}")

  def read(_options), do: {:ok, []}
end
