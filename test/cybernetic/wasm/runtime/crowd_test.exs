defmodule Cybernetic.WASM.Runtime.CrowdTest do
  # Who wants a dirty scheduler, in VMs that have one of them. What is judged are counts.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.FreshNode

  @compute ~S"""
  module = Runtime.load_module!("priv/wasm/compute.wasm")
  call = fn -> {:ok, 2} = Executor.call(module, "process", [1], scheduling: :dirty) end
  spin = fn opts -> Executor.async_nolink(module, "spin", [], [scheduling: :dirty, timeout: 600_000] ++ opts) end
  endless = fn -> spin.(fuel: 100_000_000_000_000) end
  """

  defp eval(code),
    do: FreshNode.eval([], @compute <> code, env: [{"ELIXIR_ERL_OPTIONS", "+S 2:2 +SDcpu 1:1"}])

  test "calls on their way to a dirty scheduler are counted until they are there" do
    assert eval(~S"""
           before = Runtime.stats().crowd
           for _ <- 1..20, do: call.()
           # All of them have come.
           later = Runtime.stats().crowd

           # One runs or wants its next slice, and of five others one can be there at a time.
           holder = endless.()
           callers = for _ <- 1..5, do: spawn(fn -> call |> Stream.repeatedly() |> Stream.run() end)
           seen = eventually(fn -> Runtime.stats().crowd >= 5 end)

           Enum.each(callers, &Process.exit(&1, :kill))
           Executor.cancel(holder)
           {before, later, seen, eventually(fn -> Runtime.stats().crowd == 0 end)}
           """) == {0, 0, true, true}
  end

  test "slices are short while others want a scheduler or are on their way to one" do
    assert eval(~S"""
           # So much fuel lasts for many slices.
           slices = fn ->
             {:error, %LimitError{limit: :fuel} = error} = Executor.await(spin.(fuel: 100_000_000))
             error.usage.slices
           end

           beside = fn others ->
             holders = for _ <- 1..others, do: endless.()
             eventually(fn -> Runtime.stats().crowd == others end)
             slices = slices.()
             Enum.each(holders, &Executor.cancel/1)
             eventually(fn -> Runtime.stats().crowd == 0 end)
             slices
           end

           beside_calls = fn ->
             caller = spawn(fn -> call |> Stream.repeatedly() |> Stream.run() end)
             slices = slices.()
             Process.exit(caller, :kill)
             eventually(fn -> Runtime.stats().crowd == 0 end)
             slices
           end

           # A slice is a tenth as long then. A machine with other things to do may cut the long ones short as well.
           more? = fn others -> Enum.any?(1..20, fn _round -> 2 * slices.() < others.() end) end
           {more?.(fn -> beside.(3) end), more?.(beside_calls)}
           """) == {true, true}
  end
end
