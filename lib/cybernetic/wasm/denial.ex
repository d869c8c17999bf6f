defmodule Cybernetic.WASM.Denial do
  @moduledoc """
  Something that a guest asked for while it ran, and its sandbox refused. The guest was given an
  errno, as a command is by its operating system, and went on.

    * `capability` - what would have to be granted: `:filesystem`, `:env`, `:network`, `:clocks`,
      `:random`, `:stdio`
    * `operation` - the function that the guest called, such as `"path_open"`, or of a component
      `"wasi:sockets/tcp#start-connect"`
    * `detail` - what it was about, such as `"../secret"`; `nil` where there is nothing to tell
    * `errno` - what the guest was given, such as `:notcapable`, `:badf`, `:perm`, `:dquot`, or of a component a case of its
      interface's errors, such as `:access_denied`; `:trap` where that has none
    * `count` - how often

  A path is the guest's own word: show it with `inspect/1`.
  """

  @enforce_keys [:capability, :operation, :errno]
  defstruct [:capability, :operation, :detail, :errno, count: 1]

  @typedoc "Something that a guest was refused while it ran."
  @type t :: %__MODULE__{
          capability: atom,
          operation: String.t(),
          detail: String.t() | nil,
          errno: atom,
          count: pos_integer
        }
end
