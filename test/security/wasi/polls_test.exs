defmodule Cybernetic.WASM.Security.WASI.PollsTest do
  # `poll_oneoff` takes as many subscriptions as the guest likes to name: each must cost the guest, not the host.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.LimitError

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

  test "more than any program has are refused at once" do
    for count <- ["4097", "10000", "500000"] do
      {time, run} = :timer.tc(fn -> run!("tool", ["polls", count]) end)
      assert run.stdout == "polls inval\n"
      assert time < 10_000_000
    end
  end

  test "thousands of subscriptions many times over are within the deadline" do
    tasks =
      for _ <- 1..20,
          do: Task.async(fn -> run("tool", ["polls", "4096", "3600000"], timeout: 200) end)

    for result <- Task.await_many(tasks, 60_000) do
      assert {:error, %LimitError{limit: :timeout, used: used}} = result
      assert used < 10_000
    end
  end

  test "the first of several wakes the guest, and input before a clock" do
    assert run!("tool", ["stdin-poll", "60000"], stdin: "x").stdout =~ "ready stdin"
  end
end
