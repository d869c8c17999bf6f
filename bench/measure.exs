defmodule Cybernetic.WASM.Bench.Measure do
  # Timing: several subjects, measured in turns so that a disturbance of the machine meets them all. The same method as on
  # the raw side, in raw/measure.rs.

  @doc "One of `full:`, `quick:` and `tiny:`. Tiny does everything once, as small as can be: its figures mean nothing."
  def by(effort, choices), do: Keyword.fetch!(choices, effort)

  @doc """
  Figures for each `{name, work}`. `work` is a function that does one piece of work, or of one argument, which does that many.
  """
  def compare(subjects, round_ms, rounds) do
    subjects =
      for {name, work} <- subjects, do: {name, work, calibrate(work, round_ms * 1_000_000)}

    samples =
      for _ <- 1..rounds, {name, work, times} <- subjects, do: {name, time(work, times) / times}

    samples = Enum.group_by(samples, &elem(&1, 0), &elem(&1, 1))
    for {name, _, _} <- subjects, do: {name, figures(samples[name])}
  end

  defp figures(samples) do
    sorted = Enum.sort(samples)
    [median_ns: Enum.at(sorted, div(length(sorted), 2)), min_ns: hd(sorted)]
  end

  # How often the work fits into a round. What this takes is the warm-up. The first time is not like any other.
  defp calibrate(work, round) do
    _ = time(work, 1)
    calibrate(work, round, 1)
  end

  defp calibrate(work, round, times) do
    elapsed = max(time(work, times), 1)
    wanted = max(round(round / elapsed * times), 1)

    if elapsed * 2 >= round,
      do: wanted,
      else: calibrate(work, round, wanted |> max(times * 2) |> min(times * 64))
  end

  # A fresh process each time: nobody's garbage but its own.
  defp time(work, times) do
    task =
      Task.async(fn ->
        began = System.monotonic_time()
        repeat(work, times)
        System.convert_time_unit(System.monotonic_time() - began, :native, :nanosecond)
      end)

    Task.await(task, :infinity)
  end

  defp repeat(work, times) when is_function(work, 1), do: work.(times)
  defp repeat(_work, 0), do: :ok

  defp repeat(work, times) do
    work.()
    repeat(work, times - 1)
  end

  @doc "Percentiles of so many pieces of work that are timed one by one."
  def singly(work, samples) do
    for _ <- 1..10, do: work.()

    percentiles(
      for _ <- 1..samples do
        began = System.monotonic_time()
        work.()
        System.convert_time_unit(System.monotonic_time() - began, :native, :nanosecond)
      end
    )
  end

  @doc "Percentiles of times in nanoseconds."
  def percentiles(samples) do
    sorted = samples |> Enum.sort() |> List.to_tuple()

    at = fn share ->
      elem(sorted, min(trunc(tuple_size(sorted) * share), tuple_size(sorted) - 1))
    end

    [p50_ns: at.(0.5), p90_ns: at.(0.9), p99_ns: at.(0.99), max_ns: at.(1)]
  end
end
