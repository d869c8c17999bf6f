defmodule Cybernetic.WASM.Security.KilledCallersTest do
  # A guest whose caller was killed or gave up burned a core on elsewhere, and its instance stayed blocked.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{CallError, Executor, Instance, Runtime}

  test "a killed caller's guest is gone, with its memory, and burns no CPU" do
    quiet_node()
    module = compute()
    callers = for _ <- 1..8, do: spawn(fn -> Executor.call(module, "spin", [], forever()) end)
    until_live(8)
    assert Runtime.stats().total_memory == 8 * 65_536

    Enum.each(callers, &Process.exit(&1, :kill))
    quiet()
    until_idle()
  end

  test "a live instance whose caller was killed is not blocked: it says that it is poisoned" do
    module =
      asking(~S"""
      (func (export "spin") (drop (call $f (i32.const 1))) (loop (br 0)))
      (func (export "next") (result i32) (i32.const 1))
      """)

    test = self()
    opts = [imports: f(fn _ctx, n -> send(test, :inside) && n end)]
    {:ok, instance} = Instance.new(module, opts)
    caller = spawn(fn -> Instance.call(instance, "spin", [], forever(opts)) end)
    assert_receive :inside
    assert {:error, %CallError{reason: :busy}} = Instance.call(instance, "next", [], opts)
    Process.exit(caller, :kill)

    eventually(fn ->
      match?({:error, %CallError{reason: :poisoned}}, Instance.call(instance, "next", [], opts))
    end)
  end

  test "callers killed at any moment leave nothing behind" do
    quiet()
    :rand.seed(:exsss, 7)
    modules = [compute(), calling()]
    imports = f(fn ctx, n -> Cybernetic.WASM.Host.call(ctx, "double", [n]) |> elem(1) end)

    for _ <- 1..300 do
      module = Enum.random(modules)

      caller =
        spawn(fn ->
          Executor.call(module, "run", [1], imports: imports)
          Executor.call(module, "spin", [], forever(imports: imports))
        end)

      if :rand.uniform(2) == 1, do: :timer.sleep(:rand.uniform(3) - 1)
      Process.exit(caller, :kill)
    end

    quiet()
    assert Executor.call(compute(), "process", [1]) == {:ok, 2}
  end
end
