defmodule Cybernetic.WASM.TextGuide do
  # The guide as a documentation, so that its example runs as a doctest.
  @external_resource "guides/text.md"
  @moduledoc File.read!(@external_resource)
end
