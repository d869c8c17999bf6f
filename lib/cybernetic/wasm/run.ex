defmodule Cybernetic.WASM.Run do
  @moduledoc """
  A finished call with what it used: see `Cybernetic.WASM.Executor.run/4`.

    * `result` - what the function returned: the bare value, a list of several, or `nil`
    * `exit_code` - of a command (`Cybernetic.WASM.Executor.run(module, :start)`): what it gave `proc_exit`, or 0 where it
      returned; `nil` otherwise
    * `stdout`, `stderr` - what the guest wrote there, binaries, where its sandbox says that it is captured
    * `output` - what host functions put out with `Cybernetic.WASM.Host.emit/2`, a binary
    * `denials` - what the guest asked for and was refused: `Cybernetic.WASM.Denial`s, the first 100 different ones
    * `usage` - a `Cybernetic.WASM.Usage`

  An error of a call that ended otherwise has one as its `run`, with what there was by then.
  """

  alias Cybernetic.WASM.{Denial, Execution}

  defstruct [:result, :exit_code, :usage, output: "", stdout: "", stderr: "", denials: []]

  @typedoc "A finished call."
  @type t :: %__MODULE__{
          result: Cybernetic.WASM.Value.result(),
          exit_code: non_neg_integer | nil,
          output: binary,
          stdout: binary,
          stderr: binary,
          denials: [Denial.t()],
          usage: Cybernetic.WASM.Usage.t()
        }

  @typedoc false
  # What a guest put out, as Rust tells it.
  @type native :: binary | {binary, binary, binary, [map]}

  @doc false
  # Of a result and a usage as Rust gives it.
  @spec new(term, tuple) :: t
  def new(result, usage) do
    {output, stdout, stderr, denials} = usage |> Execution.output() |> whole()

    %__MODULE__{
      result: result,
      output: output,
      stdout: stdout,
      stderr: stderr,
      denials: Enum.map(denials, &struct!(Denial, &1)),
      usage: Execution.usage(usage)
    }
  end

  @doc false
  # Of a command.
  @spec exited(non_neg_integer, tuple) :: t
  def exited(code, usage), do: %{new(nil, usage) | exit_code: code}

  defp whole({_output, _stdout, _stderr, _denials} = native), do: native
  defp whole(output), do: {output, "", "", []}

  @doc false
  @spec output_size(native) :: non_neg_integer
  def output_size({output, stdout, stderr, _denials}),
    do: byte_size(output) + byte_size(stdout) + byte_size(stderr)

  def output_size(output), do: byte_size(output)

  @doc false
  # What two parts of a call put out.
  @spec join(native, native) :: native
  def join(one, other) when is_binary(one) and is_binary(other), do: one <> other

  def join(one, other) do
    {{output, stdout, stderr, denials}, {more, more_stdout, more_stderr, more_denials}} =
      {whole(one), whole(other)}

    {output <> more, stdout <> more_stdout, stderr <> more_stderr, denials ++ more_denials}
  end

  @doc false
  # What a part of a call put out, and then its last.
  @spec continue(t, t) :: t
  def continue(before, last) do
    joined =
      Map.new([:output, :stdout, :stderr], &{&1, Map.fetch!(before, &1) <> Map.fetch!(last, &1)})

    struct!(%{last | denials: before.denials ++ last.denials}, joined)
  end

  @doc false
  # What is left of it once its bytes were handed over.
  @spec told(native) :: native
  def told({_output, _stdout, _stderr, denials}), do: {"", "", "", denials}
  def told(_output), do: ""

  @doc false
  # As the elements of a stream.
  @spec pieces(native) :: [binary | {:stdout | :stderr, binary}]
  def pieces(native) do
    {output, stdout, stderr, _denials} = whole(native)

    for {piece, bytes} <- [
          {output, output},
          {{:stdout, stdout}, stdout},
          {{:stderr, stderr}, stderr}
        ],
        bytes != "",
        do: piece
  end
end
