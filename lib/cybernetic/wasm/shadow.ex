defmodule Cybernetic.WASM.Shadow do
  @moduledoc false
  # A process that another one is not to outlive: its shadow kills it when that one is gone. A link would not do, since whoever
  # runs in it may trap exits.

  @doc "Has the calling process killed when `other` ends."
  @spec follow(pid) :: pid
  def follow(other) do
    process = self()

    spawn(fn ->
      {ended, gone} = {Process.monitor(process), Process.monitor(other)}

      receive do
        {:DOWN, ^ended, :process, _, _} -> :ok
        {:DOWN, ^gone, :process, _, _} -> Process.exit(process, :kill)
      end
    end)
  end
end
