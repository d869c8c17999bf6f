defmodule Cybernetic.WASM.Bench.Loads do
  # Loading a small program of a real language: compiled anew, and out of the cache.

  alias Cybernetic.WASM.{Bench.Measure, Runtime}

  def rows(quick) do
    wasm = File.read!("bench/guests/kernels.wasm")
    cached = Runtime.load_module!({:bytes, wasm})

    cold = fn ->
      Runtime.clear_cache()
      Runtime.load_module!({:bytes, fresh(wasm)})
    end

    rows =
      Measure.compare(
        [
          {"cold load", cold},
          {"cached load, bytes", fn -> Runtime.load_module!({:bytes, wasm}) end},
          {"cached load, path", fn -> Runtime.load_module!("bench/guests/kernels.wasm") end}
        ],
        if(quick, do: 50, else: 200),
        if(quick, do: 5, else: 9)
      )

    # Held until here, so that the cached loads find what they look for.
    _ = cached.digest
    rows
  end

  # A custom section with a number that no other load has: modules in use outlive a cleared cache.
  defp fresh(wasm), do: wasm <> <<0, 9, 0, System.unique_integer([:positive])::64>>
end
