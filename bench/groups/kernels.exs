defmodule Cybernetic.WASM.Bench.Kernels do
  # What the processor does for long: the library's slices and checks against a plain loop of polls.

  alias Cybernetic.WASM.{Bench.Measure, Instance, Runtime}
  import Measure, only: [by: 2]

  # The raw side has the same lists.
  @work [{"fib", 35}, {"sha256", 16}, {"mandelbrot", 256}]
  @tiny [{"fib", 10}, {"sha256", 1}, {"mandelbrot", 8}]

  def rows(effort) do
    instances = [
      fuel: instance(:fuel, fuel: 1_000_000_000_000),
      epoch: instance(:epoch, [])
    ]

    work = by(effort, full: @work, quick: @work, tiny: @tiny)
    Enum.flat_map(work, &kernel(&1, instances, effort))
  end

  # The limits are the instance's: its calls could only narrow them.
  defp instance(metering, limits) do
    module = Runtime.load_module!("bench/guests/kernels.wasm", metering: metering)
    Instance.new!(module, [timeout: 600_000] ++ limits)
  end

  defp kernel({kernel, argument}, instances, effort) do
    subjects =
      for {metering, instance} <- instances do
        {"#{kernel}, #{metering}",
         fn -> {:ok, _} = Instance.call(instance, kernel, [argument]) end}
      end

    Measure.compare(subjects, 1, by(effort, full: 15, quick: 7, tiny: 1))
  end
end
