defmodule Cybernetic.WASM.Run do
  @moduledoc """
  A finished call with what it used: see `Cybernetic.WASM.Executor.run/4`.

    * `result` - what the function returned: the bare value, a list of several, or `nil`
    * `output` - what host functions put out with `Cybernetic.WASM.Host.emit/2`, a binary
    * `usage` - a `Cybernetic.WASM.Usage`
  """

  defstruct [:result, :usage, output: ""]

  @typedoc "A finished call."
  @type t :: %__MODULE__{
          result: Cybernetic.WASM.Value.result(),
          output: binary,
          usage: Cybernetic.WASM.Usage.t()
        }

  @doc false
  # Of a result and a usage as Rust gives it.
  def new(result, usage) do
    %__MODULE__{
      result: result,
      output: Cybernetic.WASM.Execution.output(usage),
      usage: Cybernetic.WASM.Execution.usage(usage)
    }
  end
end
