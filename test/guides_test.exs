defmodule Cybernetic.WASM.GuidesTest do
  use ExUnit.Case, async: true

  doctest Cybernetic.WASM.ComponentsGuide
  doctest Cybernetic.WASM.LoadingGuide
  doctest Cybernetic.WASM.TextGuide
end
