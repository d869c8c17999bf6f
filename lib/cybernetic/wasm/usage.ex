defmodule Cybernetic.WASM.Usage do
  @moduledoc """
  What a call used, or a live instance in its life (`Cybernetic.WASM.Instance.usage/1`).

    * `fuel` - fuel consumed; `nil` where metering is by epochs. After a trap or a deadline it is
      rounded down: what ran since the guest's last call of a function or yield may be missing.
    * `peak_memory` - the most bytes that the guest's memories and tables had together
    * `wall_time` - microseconds from start to end, waiting and host functions included
    * `slice_time` - microseconds on a scheduler
    * `slices` - time slices used; at least 1
    * `host_calls` - calls of imported functions, those of WASI included
  """

  defstruct [:fuel, :peak_memory, :wall_time, :slice_time, :slices, :host_calls]

  @typedoc "What a call used, or a live instance."
  @type t :: %__MODULE__{
          fuel: non_neg_integer | nil,
          peak_memory: non_neg_integer,
          wall_time: float,
          slice_time: float,
          slices: pos_integer,
          host_calls: non_neg_integer
        }
end
