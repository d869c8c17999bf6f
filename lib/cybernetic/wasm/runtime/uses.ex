defmodule Cybernetic.WASM.Runtime.Uses do
  @moduledoc false
  # How often a module that has a name is called, and when it last was. Whoever calls counts: each scheduler has a cell of its
  # own to count in, and the time is only written where the second has changed, or calls on many cores would meet at one cell.
  # Of the clocks the system's own is the cheapest.

  @opaque t :: {:counters.counters_ref(), :atomics.atomics_ref()}

  @doc "Of a module that has not been called yet."
  @spec new() :: t
  def new, do: {:counters.new(1, [:write_concurrency]), :atomics.new(1, [])}

  @doc "Counts a call."
  @spec count(t) :: :ok
  def count({calls, last}) do
    :counters.add(calls, 1, 1)
    now = :os.system_time(:second)
    if :atomics.get(last, 1) != now, do: :atomics.put(last, 1, now), else: :ok
  end

  @doc "Calls so far."
  @spec calls(t) :: non_neg_integer
  def calls({calls, _last}), do: :counters.get(calls, 1)

  @doc "When the last of them began, to the second; `nil` where there was none."
  @spec last(t) :: DateTime.t() | nil
  def last({_calls, last}) do
    case :atomics.get(last, 1) do
      0 -> nil
      second -> DateTime.from_unix!(second)
    end
  end
end
