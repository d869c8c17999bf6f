defmodule Cybernetic.WASM.Sandbox.Capabilities.Clocks do
  @moduledoc """
  Clocks and sleeping: option `clocks:` of `Cybernetic.WASM.Sandbox.new/1`.

    * `:none`, or `false` - no clock. The guest gets the errno `notcapable`; a component, whose functions have no error to
      give, traps. The default.
    * `:real` - the machine's clocks
    * `{:fixed, unix_nanoseconds}` - it is this time. Only sleeping moves the clock on, by the time
      slept, without waiting: whoever sleeps until a time gets there at once.
    * `{:stepped, unix_nanoseconds, step}` - the clock begins at this time. Each look at it moves it
      on by `step` nanoseconds, and sleeping by the time slept, without waiting. A guest that looks
      at the clock until time has passed, without sleeping, needs this one.

  The monotonic clock goes with it. It begins at a second and so never shows 0, which the runtimes
  of some languages take for a clock that does not run. Waiting for a time that has come moves a
  fixed or stepped clock on by a microsecond.

  The times of files are a grant of their own: see
  `Cybernetic.WASM.Sandbox.Capabilities.Filesystem`.

  Narrowing two grants gives the lesser one. Two different clocks that are not `:real` have nothing
  in common: they narrow to `:none`.
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  @typedoc "The clock that a guest may look at."
  @type t ::
          :none
          | :real
          | {:fixed, non_neg_integer}
          | {:stepped, non_neg_integer, pos_integer}

  # WASI has 64 bits for nanoseconds. With one of them to spare this is the year 2262.
  @latest 0x7FFF_FFFF_FFFF_FFFF
  @times [{"fixed", :fixed}, {"start", :start}, {"step", :step}]

  @impl true
  def default, do: :none

  @impl true
  def grant(none) when none in [:none, false], do: {:ok, :none}
  def grant(:real), do: {:ok, :real}
  def grant({:fixed, time} = fixed) when time in 0..@latest, do: {:ok, fixed}

  def grant({:stepped, time, step} = stepped) when time in 0..@latest and step in 1..@latest,
    do: {:ok, stepped}

  def grant(other) do
    refused(
      "option :clocks must be :none, :real, {:fixed, unix_nanoseconds} or " <>
        "{:stepped, unix_nanoseconds, step} with integers to #{@latest}",
      other
    )
  end

  @impl true
  def keys, do: [:clocks]

  @impl true
  def manifest([{:clocks, {:table, _line, _entries} = node, at}]) do
    expected = "{ fixed = … } or { start = …, step = … }, in nanoseconds"

    times =
      for {time, node, at} <- table(node, at, @times),
          do: {time, integer(node, at, "an integer of nanoseconds")}

    case Enum.sort(times) do
      [fixed: time] ->
        option({:fixed, time}, &grant/1, {node, at}, expected)

      [start: start, step: step] ->
        option({:stepped, start, step}, &grant/1, {node, at}, expected)

      _ ->
        refuse(node, at, expected)
    end
  end

  def manifest([{:clocks, node, at}]) do
    expected = ~S|"none", "real", { fixed = … } or { start = …, step = … }|
    choice(node, at, [{"none", :none}, {"real", :real}], expected)
  end

  @impl true
  def suggestion do
    """
    # The time of day, and sleeping. { fixed = 0 } would always be the same time.
    clocks = "real"
    """
  end

  @impl true
  def narrow(same, same), do: same
  def narrow(:real, lesser), do: lesser
  def narrow(lesser, :real), do: lesser
  def narrow(_one, _other), do: :none

  @impl true
  def granted?(clocks), do: clocks != :none

  @impl true
  def explain(:real), do: "real"
  def explain({:fixed, time}), do: "fixed at #{time} ns since 1970"

  def explain({:stepped, time, step}),
    do: "from #{time} ns since 1970 in steps of #{step} ns"

  @impl true
  def deterministic(:real),
    do: {:none, "clocks: :real is not deterministic: give a fixed or stepped clock"}

  def deterministic(_clocks), do: :ok

  @impl true
  def native(clocks, _data), do: {:ok, %{clocks: clocks}}

  @impl true
  def functions, do: ~w(clock_res_get clock_time_get poll_oneoff)

  @impl true
  def interfaces,
    do: [{"wasi:clocks/monotonic-clock", :trap}, {"wasi:clocks/wall-clock", :trap}]

  @impl true
  def hint, do: "add clocks: :real, or a fixed or stepped clock"
end
