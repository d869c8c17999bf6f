defmodule Cybernetic.WASM.Store.Entry do
  @moduledoc """
  What a store knows of what it has.

    * `name`, `version` - `nil` for bytes that no name points at
    * `digest` - of the bytes: `"blake3:…"`
    * `sha256` - the other digest: `"sha256:…"`, or `nil` where bytes were asked for by their `digest` alone
    * `size` - in bytes
    * `at` - when they were put there, a `DateTime`
    * `by` - who put them there
    * `note` - what that one said about it
  """

  defstruct [:name, :version, :digest, :sha256, :size, :at, :by, :note]

  @typedoc "What a store knows of what it has."
  @type t :: %__MODULE__{
          name: String.t() | nil,
          version: String.t() | nil,
          digest: String.t(),
          sha256: String.t() | nil,
          size: non_neg_integer,
          at: DateTime.t() | nil,
          by: String.t() | nil,
          note: String.t() | nil
        }
end
