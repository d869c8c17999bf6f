defmodule Cybernetic.WASM.Bench.Idle do
  # What a node costs that has run guests of both kinds and runs none now.

  alias Cybernetic.WASM.{Executor, Instance, Runtime}
  import Cybernetic.WASM.Bench.Measure, only: [by: 2]

  @guests 100

  def rows(effort) do
    seconds = by(effort, full: 5, quick: 1, tiny: 0.01)
    module = Runtime.load_module!("priv/wasm/compute.wasm", metering: :epoch)
    {:ok, 5} = Executor.call(module, "add", [2, 3])
    instances = for _ <- 1..@guests, do: module |> Instance.new() |> elem(1)

    # The ticker lingers for some ticks after the last guest.
    Process.sleep(200)
    {ticks, cpu} = now()
    Process.sleep(round(seconds * 1000))
    {later_ticks, later_cpu} = now()
    _ = length(instances)

    [
      {"epoch ticks in #{seconds} s with #{@guests} idle guests", [count: later_ticks - ticks]},
      {"processor time of the VM per second",
       [median_ns: (later_cpu - cpu) * 1_000_000 / seconds]}
    ]
  end

  defp now do
    {cpu, _} = :erlang.statistics(:runtime)
    {Runtime.stats().epoch_ticks, cpu}
  end
end
