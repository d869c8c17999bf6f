defmodule Cybernetic.WASM.Run do
  @moduledoc """
  A finished call with what it used: see `Cybernetic.WASM.Executor.run/4`.

    * `result` - what the function returned: the bare value, a list of several, or `nil`
    * `exit_code` - of a command (`Cybernetic.WASM.Executor.run(module, :start)`): what it gave `proc_exit`, or 0 where it
      returned; of a component what it gave `exit`, or 0 where it returned well and 1 where not; `nil` otherwise
    * `stdout`, `stderr` - what the guest wrote there, binaries; empty unless its sandbox captures it
    * `output` - what host functions gave to `Cybernetic.WASM.Host.emit/2`, a binary
    * `denials` - what the guest asked for and was refused: `Cybernetic.WASM.Denial`s, the first 100 different ones
    * `usage` - a `Cybernetic.WASM.Usage`
    * `metadata` - of a plugin's run, a map of what was run: see `Cybernetic.WASM.Plugin.run/4`; `nil` otherwise

  A call that fails has one as the `run` of its error, with what there was by then.
  """

  alias Cybernetic.WASM.{Denial, Error}
  alias Cybernetic.WASM.Execution.Tally

  defstruct [
    :result,
    :exit_code,
    :usage,
    :metadata,
    output: "",
    stdout: "",
    stderr: "",
    denials: []
  ]

  @typedoc "A finished call."
  @type t :: %__MODULE__{
          result: Cybernetic.WASM.Value.result(),
          exit_code: non_neg_integer | nil,
          output: binary,
          stdout: binary,
          stderr: binary,
          denials: [Denial.t()],
          usage: Cybernetic.WASM.Usage.t(),
          metadata: map | nil
        }

  @doc false
  # Of a function's result.
  @spec new(term, Tally.t()) :: t
  def new(result, tally) do
    %__MODULE__{
      result: result,
      output: tally.output,
      stdout: tally.stdout,
      stderr: tally.stderr,
      denials: tally.denials,
      usage: Tally.usage(tally)
    }
  end

  @doc false
  # Of a command.
  @spec exited(non_neg_integer, Tally.t()) :: t
  def exited(code, tally), do: %{new(nil, tally) | exit_code: code}

  @doc false
  # What it was made of.
  @spec tally(t) :: Tally.t()
  def tally(%__MODULE__{usage: usage} = run) do
    output = Map.take(run, [:output, :stdout, :stderr, :denials])
    struct!(Tally, Map.merge(output, Map.from_struct(usage)))
  end

  @doc false
  # An error with what there was by then: the last words of a command to standard error, above all.
  @spec attach(Error.t(), Tally.t() | nil) :: Error.t()
  def attach(%{usage: _, run: _} = error, %Tally{} = tally) do
    run = new(nil, tally)
    %{error | usage: run.usage, run: run}
  end

  def attach(error, _tally), do: error
end
