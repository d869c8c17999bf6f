defmodule Cybernetic.WASM.Security.WASI.PollsTest do
  # `poll_oneoff` takes as many subscriptions as the guest likes to name: each must cost the guest, not the host.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Programs}

  alias Cybernetic.WASM.{Executor, Instance, LimitError, Memory, RawCalls}

  test "a poll of nothing is refused, or it would wait for ever" do
    assert run!("tool", ["polls", "0"]).stdout == "polls inval\n"
    assert run!("wild", ["pointers", "polls-none"]).stdout == "polls-none inval\n"
  end

  test "a few and a few thousand are served" do
    for count <- ["1", "10", "4096"] do
      assert ["polls", events] = run!("tool", ["polls", count]).stdout |> String.split()
      assert String.to_integer(events) in 1..String.to_integer(count)
    end
  end

  test "more than any program has are refused at once, without a wait" do
    for count <- ["4097", "10000", "500000"] do
      run = run!("tool", ["polls", count, "3600000"])
      assert run.stdout == "polls inval\n"
    end
  end

  test "thousands of subscriptions many times over are within the deadline" do
    tasks =
      for _ <- 1..20,
          do: Task.async(fn -> run("tool", ["polls", "4096", "3600000"], timeout: 200) end)

    for result <- await(tasks) do
      assert {:error, %LimitError{limit: :timeout, usage: usage}} = result
      # It waits: it does not look at one after the other until the deadline.
      assert usage.slice_time < usage.wall_time / 2
    end
  end

  # A subscription is 48 bytes, an event 32.
  @most 4_096
  @out 40_000

  test "all kinds of subscriptions together, and each that is ready is told" do
    guest = RawCalls.guest(sandbox(), stdin: "x")

    subscriptions = [
      clock(1, 3_600_000_000_000),
      on(2, 1, 0),
      on(3, 2, 1),
      on(4, 2, 2),
      clock(5, 3_600_000_000_000)
    ]

    assert poll(guest, subscriptions) == {:ok, [2, 3, 4]}
  end

  test "one that is wrong among thousands is an error, not a wait" do
    guest = RawCalls.guest(sandbox(max_memory: 10_000_000))
    long = for n <- 1..500, do: clock(n, 3_600_000_000_000)

    for wrong <- [
          on(0, 1, 77),
          on(0, 2, 77),
          on(0, 1, 1),
          <<0::64, 9, 0::312>>,
          <<0::128, 9, 0::248>>
        ] do
      assert {_, {errno, []}} = {wrong, poll(guest, long ++ [wrong])}
      assert errno in [:badf, :inval]
    end
  end

  test "events over the subscriptions, and beyond the memory, are the guest's own loss" do
    guest = RawCalls.guest(sandbox(), on_trap: :keep)
    subscriptions = for n <- 1..100, do: clock(n, 0)
    RawCalls.put(guest, 0, Enum.join(subscriptions))
    assert RawCalls.raw(guest, "poll_oneoff", [0, 0, 100, @out]) == :ok
    RawCalls.put(guest, 0, Enum.join(subscriptions))
    assert {:error, %{code: :wasi}} = Instance.call(guest, "poll_oneoff", [0, 65_528, 100, @out])
  end

  test "polls without end are within the limits" do
    module =
      RawCalls.module(
        """
        (func (export "poll") (loop
          (drop (call $poll_oneoff (i32.const 0) (i32.const 0x40000) (i32.const #{@most}) (i32.const 0x80000)))
          (br 0)))
        """,
        ~S|(memory (export "memory") 16)|
      )

    # All zeroes: #{@most} times a clock that is due.
    assert {:error, %LimitError{limit: limit}} =
             Executor.call(module, "poll", [],
               sandbox: sandbox(timeout: 1_000, max_host_calls: 1_000_000)
             )

    assert limit in [:timeout, :fuel, :host_calls]
  end

  defp clock(name, nanoseconds),
    do: <<name::little-64, 0::64, 1::little-64, nanoseconds::little-64, 0::64, 0::64>>

  # 1 to read, 2 to write.
  defp on(name, kind, fd), do: <<name::little-64, kind, 0::56, fd::little-32, 0::224>>

  defp poll(guest, subscriptions) do
    RawCalls.put(guest, 0, Enum.join(subscriptions))
    count = length(subscriptions)

    case RawCalls.raw(guest, "poll_oneoff", [0, 24_576, count, @out]) do
      :ok ->
        {:ok, <<ready::little-32>>} = Memory.read(guest, @out, 4)
        {:ok, events} = Memory.read(guest, 24_576, ready * 32)
        {:ok, for(<<name::little-64, _::binary-24 <- events>>, do: name)}

      errno ->
        {errno, []}
    end
  end

  test "the first of several wakes the guest, and input before a clock" do
    assert run!("tool", ["stdin-poll", "60000"], stdin: "x").stdout =~ "ready stdin"
  end
end
