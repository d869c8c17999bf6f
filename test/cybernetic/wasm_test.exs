defmodule Cybernetic.WASMTest do
  use ExUnit.Case, async: true

  # The README is this module's documentation: its tour runs here.
  doctest Cybernetic.WASM

  test "the README's tour is there to be run" do
    {:docs_v1, _, _, _, %{"en" => moduledoc}, _, _} = Code.fetch_docs(Cybernetic.WASM)
    assert moduledoc =~ ~s|iex> Executor.call(module, "process", [42])|
  end
end
