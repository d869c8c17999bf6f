defmodule Cybernetic.WASM.Bench.Loads do
  # Loading a small program of a real language: compiled anew, and out of the cache.

  alias Cybernetic.WASM.{Bench.Measure, Runtime}
  import Measure, only: [by: 2]

  @path "bench/guests/kernels.wasm"

  def rows(effort) do
    wasm = File.read!(@path)
    round = by(effort, full: 200, quick: 50, tiny: 0)
    rounds = by(effort, full: 9, quick: 5, tiny: 1)

    # By itself: it empties the cache that the others are about.
    Measure.compare([{"cold load", fn -> cold(wasm) end}], round, rounds) ++
      Measure.compare(cached(wasm), round, rounds)
  end

  defp cold(wasm) do
    Runtime.clear_cache()
    Runtime.load_module!({:bytes, fresh(wasm)})
  end

  # The warm-up fills the cache.
  defp cached(wasm) do
    [
      {"cached load, bytes", fn -> Runtime.load_module!({:bytes, wasm}) end},
      {"cached load, path", fn -> Runtime.load_module!(@path) end}
    ]
  end

  # A custom section with a number that no other load has: modules in use outlive a cleared cache.
  defp fresh(wasm), do: wasm <> <<0, 9, 0, System.unique_integer([:positive])::64>>
end
