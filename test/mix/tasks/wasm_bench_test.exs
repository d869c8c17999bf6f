defmodule Mix.Tasks.Wasm.BenchTest do
  # Not async: the bench's own modules are compiled here, and standard output is captured.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  @moduletag :tmp_dir

  setup_all do
    for file <- ~w(report comparison), do: Code.require_file("bench/#{file}.exs")
    :ok
  end

  @rows [
    {"calls", "warm call", [median_ns: 1_300.0, min_ns: 1_000.0]},
    {"calls", "host call", [median_ns: 900.0, min_ns: 800.0]},
    {"fairness", "short call", [p50_ns: 5_000, p99_ns: 6_000_000, max_ns: 9_000_000]},
    {"instances", "one of 10", [min_ns: 29_000.0, bytes: 9_200]},
    {"idle", "epoch ticks", [count: 0]}
  ]

  defp file(rows, %{tmp_dir: tmp_dir}, more \\ []) do
    rows = for {group, name, figures} <- rows, do: [group: group, name: name] ++ figures
    run = [time: "20260101T000000Z", effort: "quick", rows: rows] ++ more
    path = Path.join(tmp_dir, "old.json")
    File.write!(path, Cybernetic.WASM.JSON.encode(run))
    path
  end

  defp compare(path, rows, effort \\ :quick) do
    # Not a module of the library, so the compiler does not know it.
    comparison = Module.concat(["Cybernetic.WASM.Bench.Comparison"])
    capture_io(fn -> path |> comparison.read!() |> comparison.print(rows, effort) end)
  end

  test "nothing has changed since the same run", context do
    output = @rows |> file(context) |> compare(@rows)
    assert output =~ ~r/^CHANGES SINCE 20260101T000000Z +old +new +new \/ old$/m
    assert output =~ "7 other figures differ by less than a tenth"
    refute output =~ "Only in"
    refute output =~ "effort"
  end

  test "a figure that differs by a tenth is shown with its ratio, in the unit that it is read in",
       context do
    now = [
      {"calls", "warm call", [median_ns: 1_300.0, min_ns: 500.0]},
      {"calls", "host call", [median_ns: 900.0, min_ns: 850.0]},
      {"fairness", "short call", [p50_ns: 5_000, p99_ns: 21_000_000, max_ns: 9_000_000]},
      {"instances", "one of 10", [min_ns: 29_000.0, bytes: 4_600]},
      {"idle", "epoch ticks", [count: 3]}
    ]

    output = @rows |> file(context) |> compare(now)
    assert output =~ ~r/^calls: warm call, least +1\.00 µs +0\.50 µs +0\.50$/m
    assert output =~ ~r/^fairness: short call, p99 +6\.00 ms +21\.00 ms +3\.50$/m
    assert output =~ ~r/^instances: one of 10, bytes +9,200 +4,600 +0\.50$/m
    # Of nothing there is no ratio.
    assert output =~ ~r/^idle: epoch ticks, count +0 +3$/m
    assert output =~ "3 other figures differ by less than a tenth"
  end

  test "rows of one run only are named, and those of groups that were not measured are not",
       context do
    now = [
      {"calls", "warm call", [min_ns: 1_000.0]},
      {"calls", "cold call", [min_ns: 1.0]},
      {"loads", "cold load", [min_ns: 1.0]}
    ]

    output = @rows |> file(context) |> compare(now)
    assert output =~ "Only in this run:\n  calls: cold call\n"
    assert output =~ "Only in the earlier run:\n  calls: host call\n"
    refute output =~ "fairness"
    refute output =~ "loads"
  end

  test "says when the earlier run was of another effort", context do
    assert @rows |> file(context) |> compare(@rows, :full) =~
             "The earlier run was of another effort: quick"
  end

  test "what cannot be compared with is refused by its reason, before anything is measured",
       %{tmp_dir: tmp_dir} do
    missing = Path.join(tmp_dir, "none.json")

    for {path, text, why} <- [
          {missing, nil, "no such file or directory"},
          {Path.join(tmp_dir, "cut.json"), ~S({"rows":[{"group"),
           "it has no figures of mix wasm.bench"},
          {Path.join(tmp_dir, "other.json"), ~S({"rows":[1]}),
           "it has no figures of mix wasm.bench"},
          {Path.join(tmp_dir, "empty.json"), "", "it has no figures of mix wasm.bench"}
        ] do
      if text, do: File.write!(path, text)
      error = assert_raise Mix.Error, fn -> Mix.Tasks.Wasm.Bench.run(["--compare", path]) end
      assert error.message == "Cannot compare with #{path}: #{why}"
    end
  end

  test "unknown groups and switches are refused" do
    assert_raise Mix.Error, ~r/No group call; known are: calls, /, fn ->
      Mix.Tasks.Wasm.Bench.run(["--only", "call"])
    end

    assert_raise OptionParser.ParseError, fn -> Mix.Tasks.Wasm.Bench.run(["--fast"]) end
  end
end
