defmodule Cybernetic.WASM.Named do
  @moduledoc false
  # Modules under names, of which each test has its own.

  alias Cybernetic.WASM.Runtime

  @doc "A name that no other test uses. What is loaded under it goes with the test."
  def name(prefix \\ "test") do
    name = "#{prefix}/n#{System.unique_integer([:positive])}"
    ExUnit.Callbacks.on_exit(fn -> Runtime.unload(name) end)
    name
  end

  @doc "The source of a module whose `number` gives this one, with `more` beside it."
  def numbered(number, more \\ ""),
    do: {:bytes, ~s|(module #{more} (func (export "number") (result i32) i32.const #{number}))|}

  @doc "Loads one under a name."
  def load_numbered!(name, number, opts \\ []),
    do: Runtime.load_module!(numbered(number), [name: name] ++ opts)
end
