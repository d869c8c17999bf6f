defmodule Cybernetic.WASM.Runtime.Change do
  @moduledoc """
  Something that happened to a name: see `Cybernetic.WASM.Runtime.changes/1` and `Cybernetic.WASM.Runtime.subscribe/1`.

    * `name` - whose versions they are
    * `action` - `:loaded`, `:reloaded`, `:promoted`, `:rolled_back`, `:split`, `:unloaded`, or `:dropped` of a version that was
      replaced, by a later reload or after its `drain:`
    * `from`, `to` - the current version before and after; of `:unloaded` and `:dropped`, `from` is the version that went and
      `to` is `nil`. A version that was loaded beside the current one is `to` of its change, too.
    * `shares` - of a split, the weights by version
    * `digest` - of the module that `to` is
    * `by`, `why` - texts, as they were given; `by` is the calling process otherwise
    * `at` - when, by the system's clock
  """

  @enforce_keys [:name, :action, :by, :at]
  defstruct [:name, :action, :from, :to, :shares, :digest, :by, :why, :at]

  @typedoc "What happened to a name."
  @type t :: %__MODULE__{
          name: String.t(),
          action: :loaded | :reloaded | :promoted | :rolled_back | :split | :unloaded | :dropped,
          from: String.t() | nil,
          to: String.t() | nil,
          shares: %{String.t() => pos_integer} | nil,
          digest: String.t() | nil,
          by: String.t(),
          why: String.t() | nil,
          at: DateTime.t()
        }
end
