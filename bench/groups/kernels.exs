defmodule Cybernetic.WASM.Bench.Kernels do
  # What the processor does for long: the library's slices and checks against a plain loop of polls.

  alias Cybernetic.WASM.{Bench.Measure, Instance, Runtime}

  # The raw side has the same list.
  @work [{"fib", 35}, {"sha256", 16}, {"mandelbrot", 256}]
  @limits [timeout: 600_000]

  def rows(quick) do
    instances =
      for metering <- [:fuel, :epoch] do
        module = Runtime.load_module!("bench/guests/kernels.wasm", metering: metering)
        {:ok, instance} = Instance.new(module)
        {metering, instance}
      end

    Enum.flat_map(@work, fn {kernel, argument} ->
      subjects =
        for {metering, instance} <- instances do
          opts = if metering == :fuel, do: [fuel: 1_000_000_000_000] ++ @limits, else: @limits

          {"#{kernel}, #{metering}",
           fn -> {:ok, _} = Instance.call(instance, kernel, [argument], opts) end}
        end

      Measure.compare(subjects, 1, if(quick, do: 7, else: 15))
    end)
  end
end
