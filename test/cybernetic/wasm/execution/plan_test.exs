defmodule Cybernetic.WASM.Execution.PlanTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{ABI, Module, Runtime}
  alias Cybernetic.WASM.Execution.Plan

  setup_all do
    {:ok, module: Runtime.load_module!("priv/wasm/compute.wasm")}
  end

  # A module that keeps no plan: each call's is made from the beginning.
  defp forgetful(module), do: Module.with_private(module, nil, nil)

  test "a plan that is made of the module's own is the one that would be made without it", %{
    module: module
  } do
    all = [
      fuel: 5,
      max_memory: 70_000,
      max_table_elements: 0,
      max_instances: 2,
      timeout: 77,
      max_output: 9,
      max_host_calls: 0,
      scheduling: :inline,
      wait: 3,
      data: {:of, :mine},
      abi: ABI.new(alloc: "malloc"),
      # This one has to be made anew.
      max_stack: 50_000
    ]

    for set_by <- [%{}, %{set_by: :instance}], _ <- 1..300 do
      given = all |> Enum.take_random(:rand.uniform(6)) |> Map.new() |> Map.merge(set_by)
      {:ok, quick} = Plan.checked(module, given)
      {:ok, whole} = Plan.checked(forgetful(module), given)
      assert %{quick | kept: nil} == whole
    end
  end

  test "a plan of nothing but limits is the one of all options", %{module: module} do
    all = [
      fuel: 5,
      max_memory: 70_000,
      max_table_elements: 0,
      max_instances: 2,
      timeout: 77,
      max_output: 9,
      max_host_calls: 0
    ]

    for _ <- 1..300 do
      # Of two that are the same the last holds.
      given = for _ <- 1..3, {key, most} = Enum.random(all), do: {key, max(most - 1, 1)}
      {:ok, whole} = Plan.checked(forgetful(module), Plan.check!(given))
      assert Plan.of_limits(module, given) == whole
    end

    for other <- [
          [scheduling: :inline],
          [max_stack: 50_000],
          [fuel: 0],
          [fuel: 5, fule: 6],
          :none
        ],
        do: assert(Plan.of_limits(module, other) == nil)

    assert Plan.of_limits(forgetful(module), fuel: 5) == nil
  end

  test "options of a call on a module that is metered by time are refused as ever" do
    module = Runtime.load_module!("priv/wasm/compute.wasm", metering: :epoch)
    message = ~r/option :fuel needs metering: :fuel/
    assert_raise ArgumentError, message, fn -> Plan.of_limits(module, fuel: 5) end
    assert Plan.of_limits(module, timeout: 5).limits.timeout == 5
  end

  test "limits that Rust keeps are those of the plan", %{module: module} do
    {:ok, default} = Plan.checked(module, %{})
    {:ok, same} = Plan.checked(module, %{scheduling: :inline, data: 1})
    assert is_reference(default.kept) and same.kept == default.kept

    for own <- [%{fuel: 5}, %{wait: 3}] do
      {:ok, plan} = Plan.checked(module, own)
      assert plan.kept == nil
    end
  end
end
