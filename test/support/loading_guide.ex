defmodule Cybernetic.WASM.LoadingGuide do
  # The guide as a documentation, so that its examples run as doctests.
  @external_resource "guides/loading.md"
  @moduledoc File.read!(@external_resource)
end
