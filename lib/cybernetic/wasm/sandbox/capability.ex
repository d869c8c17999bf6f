defmodule Cybernetic.WASM.Sandbox.Capability do
  @moduledoc false
  # What the capabilities of a sandbox have in common. A grant is a value: what an option asks for
  # once it is checked, the same value for the same grant.
  #
  # `narrow/2` is a meet: commutative, associative, idempotent, and what it gives grants nothing
  # that either of its arguments does not. `test/security/narrowing_test.exs` holds all to it.

  @typedoc "What is granted of one capability."
  @type grant :: term

  @doc "The grant that an option asks for; an ArgumentError shows no value of the environment."
  @callback grant!(option :: term) :: grant

  @doc "What both grant."
  @callback narrow(grant, grant) :: grant

  @doc "Whether it grants anything."
  @callback granted?(grant) :: boolean

  @doc "What it grants, in words for a person; asked only where it grants something."
  @callback explain(grant) :: String.t()
end
