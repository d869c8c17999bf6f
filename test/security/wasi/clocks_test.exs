defmodule Cybernetic.WASM.Security.WASI.ClocksTest do
  # Who has no clock cannot measure, and who has a made-up one sees nothing of the real one: not by looking, not by
  # sleeping, not by what each clock is called.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.RawCalls

  @start 1_000_000_000_000_000_000

  test "without a clock, looking and sleeping are refused" do
    sandbox = sandbox(clocks: :none)
    run = run!("tool", ["now"], sandbox: sandbox)
    assert answers(run) == %{"realtime" => "notcapable", "monotonic" => "notcapable"}
    assert refusals(run) == [{:clocks, "clock_time_get", :notcapable}]
    assert [%{count: 2}] = run.denials

    # The C library has a word of its own for what it could not do.
    slept = run!("tool", ["sleep", "10000"], sandbox: sandbox)
    assert slept.stdout =~ ~r/\Aslept 0 (notcapable|notsup)\n\z/
    assert refusals(slept) == [{:clocks, "poll_oneoff", :notcapable}]
    assert run!("tool", ["polls", "3"], sandbox: sandbox).stdout == "polls notcapable\n"

    for {_clock, shown} <- answers(run!("wild", ["clocks"], sandbox: sandbox)) do
      assert shown == "notcapable 0 notcapable 0"
    end
  end

  test "a real clock is the machine's, and processor time is nobody's" do
    before = System.os_time(:nanosecond)
    answers = answers(run!("tool", ["now"]))
    assert String.to_integer(answers["realtime"]) in before..System.os_time(:nanosecond)

    clocks = answers(run!("wild", ["clocks"]))
    assert clocks["process"] =~ ~r/\A(badf|inval|notsup|nosys) 0 /
    assert clocks["thread"] =~ ~r/\A(badf|inval|notsup|nosys) 0 /
  end

  test "a fixed clock stands still, as long as the guest does not sleep" do
    sandbox = sandbox(clocks: {:fixed, @start})

    lines = fn ->
      run!("tool", ["now", "3"], sandbox: sandbox).stdout |> String.split("\n", trim: true)
    end

    assert [realtime, monotonic | _] = shown = lines.()
    assert realtime == "realtime #{@start}"
    assert Enum.uniq(shown) == [realtime, monotonic]
    # Programs take 0 for a clock that does not run.
    assert monotonic == "monotonic 1000000000"
    Process.sleep(5)
    assert lines.() == shown

    # Whoever slept for ten hours would meet the deadline.
    run = run!("tool", ["sleeps", "10", "3600000"], sandbox: sandbox)
    assert run.stdout == "slept 10 ok\n"
  end

  test "a stepped clock moves by the looks alone, the same on each run" do
    sandbox = sandbox(clocks: {:stepped, @start, 1_000})
    look = fn -> run!("tool", ["now", "3"], sandbox: sandbox).stdout end
    assert ["realtime " <> first, _, "realtime " <> second | _] = String.split(look.(), "\n")
    assert String.to_integer(first) in @start..(@start + 100_000)
    assert String.to_integer(second) - String.to_integer(first) == 2_000
    assert look.() == look.()
  end

  test "on a stepped clock sleeping takes the guest's time and nobody else's" do
    sandbox = sandbox(clocks: {:stepped, @start, 1_000})

    # Whoever slept for an hour would meet the deadline.
    run = run!("rust_report", ["--sleep", "3600000"], sandbox: sandbox)
    assert %{"slept" => "true", "year" => "2001"} = answers(run)
  end

  # Whoever waits like this does not stop before the clock shows it.
  for clocks <- [{:fixed, 0}, {:fixed, @start}, {:stepped, @start, 1}], clock <- [0, 1] do
    test "sleeping until clock #{clock} shows a time ends where the clock is #{inspect(clocks)}" do
      guest = RawCalls.guest(sandbox(clocks: unquote(Macro.escape(clocks))))
      look = fn -> RawCalls.look(guest, unquote(clock)) end
      until = look.() + 3_600_000_500_000

      naps =
        Stream.repeatedly(look)
        |> Stream.take_while(&(&1 < until))
        |> Enum.map(&RawCalls.sleep(guest, div(until - &1, 1_000_000) * 1_000_000))

      assert naps != [] and Enum.uniq(naps) == [:ok]
      assert look.() in until..(until + 1_000_000)
    end
  end

  test "real times of files are the host's" do
    guest = RawCalls.guest(sandbox(filesystem: [scratch: "/tmp"], clocks: :none))
    before = System.os_time(:nanosecond) - 2_000_000_000
    {:ok, _fd} = RawCalls.open(guest, "f", [:create])

    assert RawCalls.stat(guest, "f").modified in before..(System.os_time(:nanosecond) +
                                                            2_000_000_000)
  end

  # A file's times are a clock, too: who writes one and looks at it has measured.
  for clocks <- [:none, {:fixed, 0}, {:fixed, @start}, {:stepped, @start, 1_000}] do
    test "files do not tell the time where their times are fixed and the clock is #{inspect(clocks)}" do
      files = [
        filesystem: [scratch: "/tmp", times: :fixed],
        clocks: unquote(Macro.escape(clocks))
      ]

      before = System.os_time(:nanosecond) - 2_000_000_000
      guest = RawCalls.guest(sandbox(files))
      {:ok, fd} = RawCalls.open(guest, "f", [:create])
      {:ok, 1} = RawCalls.write(guest, fd, "x")

      # "Now", by the host's clock.
      now = [fd, 0, 0, 0b1010]
      assert RawCalls.raw(guest, "fd_filestat_set_times", now) in [:ok, :notcapable, :perm]

      for path <- ["f", "."] do
        times = guest |> RawCalls.stat(path) |> Map.delete(:size)
        for {_which, time} <- times, do: assert(time not in before..System.os_time(:nanosecond))
        # Archives take it.
        assert Enum.all?(times, fn {_which, time} -> time > 315_532_800_000_000_000 end)
      end
    end
  end

  test "a deterministic sandbox shows no real times of files" do
    opts = [deterministic: true, clocks: {:fixed, @start}, random: {:seeded, 1}]
    guest = RawCalls.guest(sandbox(opts ++ [filesystem: [scratch: "/tmp"]]))
    {:ok, _fd} = RawCalls.open(guest, "f", [:create])
    assert %{modified: @start, changed: @start, accessed: @start} = RawCalls.stat(guest, "f")
  end

  test "a deterministic sandbox has no real clock" do
    assert_raise ArgumentError, fn -> sandbox(deterministic: true) end
    sandbox = sandbox(deterministic: true, clocks: {:fixed, @start}, random: {:seeded, 1})
    assert %{"year" => "2001"} = answers(run!("rust_report", [], sandbox: sandbox))
  end
end
