defmodule Cybernetic.WASM.ComponentsGuide do
  # The guide as a documentation, so that its examples run as doctests.
  @external_resource "guides/components.md"
  @moduledoc File.read!(@external_resource)
end
