defmodule Cybernetic.WASM.Deadline do
  @moduledoc false
  # When something has to be over: a point in monotonic milliseconds, or never.

  # What a `receive` waits at most.
  @longest_wait 0xFFFF_FFFF

  @type t :: integer | :infinity

  @doc "The deadline that is so many milliseconds away."
  @spec in_ms(non_neg_integer | :infinity) :: t
  def in_ms(:infinity), do: :infinity
  def in_ms(milliseconds), do: System.monotonic_time(:millisecond) + milliseconds

  @doc "The milliseconds that are left, as a `receive` takes them."
  @spec left(t) :: non_neg_integer | :infinity
  def left(:infinity), do: :infinity

  def left(deadline),
    do: (deadline - System.monotonic_time(:millisecond)) |> max(0) |> min(@longest_wait)

  @doc "The earlier of two."
  @spec earlier(t, t) :: t
  def earlier(one, other), do: min(one, other)
end
