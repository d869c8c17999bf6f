defmodule Cybernetic.WASM.Execution.Tally do
  @moduledoc false
  # What one part of a call used, and its output. Most calls have one part: see `Cybernetic.WASM.Execution.Parts`.

  alias Cybernetic.WASM.{Denial, Usage}

  defstruct fuel: nil,
            peak_memory: 0,
            wall_time: 0.0,
            slice_time: 0.0,
            slices: 0,
            host_calls: 0,
            output: "",
            stdout: "",
            stderr: "",
            denials: []

  @typedoc "Usage in the units of `Cybernetic.WASM.Usage`, and output as in a `Cybernetic.WASM.Run`."
  @type t :: %__MODULE__{
          fuel: non_neg_integer | nil,
          peak_memory: non_neg_integer,
          wall_time: float,
          slice_time: float,
          slices: non_neg_integer,
          host_calls: non_neg_integer,
          output: binary,
          stdout: binary,
          stderr: binary,
          denials: [Denial.t()]
        }

  @typedoc "Output of a host function, or what the guest wrote itself."
  @type piece :: binary | {:stdout | :stderr, binary}

  @doc "That of Rust."
  @spec from_native(tuple) :: t
  def from_native(
        {:tally, fuel, peak_memory, wall_time, slice_time, slices, host_calls, output, stdout,
         stderr, denials}
      ) do
    %__MODULE__{
      fuel: fuel,
      peak_memory: peak_memory,
      wall_time: wall_time,
      slice_time: slice_time,
      slices: slices,
      host_calls: host_calls,
      output: output,
      stdout: stdout,
      stderr: stderr,
      denials: for(denial <- denials, do: struct!(Denial, denial))
    }
  end

  @doc "The numbers alone."
  @spec usage(t) :: Usage.t()
  def usage(%__MODULE__{} = tally) do
    %Usage{
      fuel: tally.fuel,
      peak_memory: tally.peak_memory,
      wall_time: tally.wall_time,
      slice_time: tally.slice_time,
      slices: tally.slices,
      host_calls: tally.host_calls
    }
  end

  @doc "Two parts as one."
  @spec add(t, t) :: t
  def add(%__MODULE__{} = earlier, %__MODULE__{} = later) do
    %__MODULE__{
      fuel: earlier.fuel && later.fuel && earlier.fuel + later.fuel,
      peak_memory: max(earlier.peak_memory, later.peak_memory),
      wall_time: earlier.wall_time + later.wall_time,
      slice_time: earlier.slice_time + later.slice_time,
      slices: earlier.slices + later.slices,
      host_calls: earlier.host_calls + later.host_calls,
      output: earlier.output <> later.output,
      stdout: earlier.stdout <> later.stdout,
      stderr: earlier.stderr <> later.stderr,
      denials: earlier.denials ++ later.denials
    }
  end

  @doc "Bytes of all output."
  @spec output_size(t) :: non_neg_integer
  def output_size(%__MODULE__{output: output, stdout: stdout, stderr: stderr}),
    do: byte_size(output) + byte_size(stdout) + byte_size(stderr)

  @doc "The output as elements of a stream."
  @spec pieces(t) :: [piece]
  def pieces(%__MODULE__{output: output, stdout: stdout, stderr: stderr}) do
    for {piece, bytes} <- [
          {output, output},
          {{:stdout, stdout}, stdout},
          {{:stderr, stderr}, stderr}
        ],
        bytes != "",
        do: piece
  end

  @doc "What is left of it when its pieces were handed over."
  @spec without_output(t) :: t
  def without_output(%__MODULE__{} = tally), do: %{tally | output: "", stdout: "", stderr: ""}
end
