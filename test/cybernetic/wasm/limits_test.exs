defmodule Cybernetic.WASM.LimitsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Executor, Instance, LimitError, Limits, Runtime, Sandbox}
  alias Cybernetic.WASM.Loader.Compiler
  alias Cybernetic.WASM.Sandbox.Manifest

  doctest Cybernetic.WASM.Limits

  test "the documented defaults are the struct's" do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Limits)

    documented =
      for [name, value] <-
            Regex.scan(~r/^\| `(\w+)` \|[^|]*\| ([\d,]+) \|/m, doc, capture: :all_but_first),
          into: %{},
          do:
            {String.to_existing_atom(name),
             value |> String.replace(",", "") |> String.to_integer()}

    assert documented == Map.take(%Limits{}, Limits.keys())
  end

  test "narrowing gives the smaller of each, in any order, and changes nothing twice" do
    random = fn ->
      # Few values, so that many are the same.
      for by <- Enum.take_random([:call, :instance, :sandbox, :manifest, :config], 3),
          reduce: %Limits{} do
        limits ->
          keys = Enum.take_random(Limits.keys(), 4)
          Limits.put(limits, Map.new(keys, &{&1, :rand.uniform(5)}), by)
      end
    end

    for _ <- 1..100 do
      {one, other} = {random.(), random.()}
      narrowed = Limits.narrow(one, other)
      assert narrowed == Limits.narrow(other, one)
      assert narrowed == Limits.narrow(narrowed, other)
      for key <- Limits.keys(), do: assert(Map.get(narrowed, key) <= Map.get(one, key))
    end
  end

  test "narrowing by some limits leaves the others" do
    narrowed = Limits.narrow(%Limits{}, %{fuel: 3, timeout: 10_000}, :call)
    assert narrowed == %Limits{fuel: 3, set_by: %{fuel: :call}}
  end

  describe "who has set a limit" do
    test "is who gave the smaller, or the outer of two that gave the same" do
      sandbox = Limits.put(%Limits{}, %{fuel: 10, timeout: 10}, :sandbox)
      narrowed = Limits.narrow(sandbox, %{fuel: 10, timeout: 9, max_output: 5}, :call)

      for {key, by} <- [fuel: :sandbox, timeout: :call, max_output: :call, max_memory: :config],
          do: assert({key, Limits.set_by(narrowed, key)} == {key, by})
    end

    test "is whoever replaced the configured one, also by a larger" do
      replaced = Limits.put(%Limits{}, %{fuel: 5_000_000_000}, :call)
      assert Limits.set_by(replaced, :fuel) == :call
      assert replaced |> Limits.ascribe(:manifest) |> Limits.set_by(:fuel) == :manifest
      assert replaced |> Limits.ascribe(:manifest) |> Limits.set_by(:timeout) == :config
      assert Limits.put(replaced, %{fuel: 1}, :config).set_by == %{}
    end

    test "is told by every door" do
      {:ok, module} =
        Runtime.load_module({:bytes, ~S|(module (func (export "spin") (loop (br 0))))|})

      {:ok, manifest} = Manifest.parse("[limits]\nfuel = 3_000")
      held = Compiler.hold(module, manifest)
      sandbox = Sandbox.new(fuel: 2_000)
      instance = &Instance.new!(module, &1)
      spin = &Instance.call(&1, "spin", [], &2)

      for {result, allowed, by} <- [
            {Executor.call(module, "spin", [], fuel: 1_000), 1_000, :call},
            {Executor.call(module, "spin", [], sandbox: sandbox, fuel: 1_000), 1_000, :call},
            {Executor.call(module, "spin", [], sandbox: sandbox), 2_000, :sandbox},
            {Executor.call(module, "spin", [], sandbox: sandbox, fuel: 9_000), 2_000, :sandbox},
            {Executor.call(held, "spin"), 3_000, :manifest},
            {Executor.call(held, "spin", [], fuel: 9_000), 3_000, :manifest},
            {Executor.call(held, "spin", [], sandbox: sandbox), 2_000, :sandbox},
            {Executor.call(held, "spin", [], fuel: 1_000), 1_000, :call},
            {Executor.call(module, "spin", [], sandbox: :pure, timeout: 10), 10, :call},
            {spin.(instance.(fuel: 4_000), []), 4_000, :instance},
            {spin.(instance.(fuel: 4_000), fuel: 9_000), 4_000, :instance},
            {spin.(instance.(fuel: 4_000), fuel: 1_000), 1_000, :call},
            {spin.(instance.(fuel: 4_000, sandbox: sandbox), []), 2_000, :sandbox},
            {spin.(instance.(fuel: 1_000, sandbox: sandbox), []), 1_000, :instance},
            {Executor.run(module, "spin", [], fuel: 1_000), 1_000, :call},
            {module |> Executor.async("spin", [], fuel: 1_000) |> Executor.await(), 1_000, :call}
          ] do
        assert {:error, %LimitError{} = error} = result
        assert {error.allowed, error.set_by} == {allowed, by}
      end
    end

    test "is the instance also where it is being made, and one that was there before where another joins it" do
      wat = ~S|(module (func (loop (br 0))) (start 0))|
      {:ok, starting} = Runtime.load_module({:bytes, wat})
      {:ok, module} = Runtime.load_module({:bytes, "(module)"})
      assert {:error, %LimitError{set_by: :instance}} = Instance.new(starting, fuel: 1_000)

      first = Instance.new!(module, fuel: 5_000)

      assert {:error, %LimitError{allowed: 5_000, set_by: :instance}} =
               Instance.new(starting, store: first, fuel: 9_000)
    end

    test "is the configuration where nobody else has set it" do
      wat =
        ~S|(module (memory 1) (func (export "grow") (drop (memory.grow (i32.const 60000))) unreachable))|

      {:ok, module} = Runtime.load_module({:bytes, wat})

      for opts <- [[], [sandbox: :pure], [sandbox: Sandbox.new(fuel: 1_000)], [fuel: 1_000]] do
        assert {:error, %LimitError{limit: :memory, set_by: :config} = error} =
                 Executor.call(module, "grow", [], opts)

        assert Exception.message(error) =~ "option :max_memory, or config key :max_memory"
      end
    end

    test "is the load, if it asked for less than is configured" do
      source = {:bytes, "(module #{String.duplicate("(func)", 10_000)})"}

      assert {:error, %LimitError{limit: :compile_memory, set_by: :call} = error} =
               Runtime.load_module(source, max_compile_memory: 1)

      assert Exception.message(error) =~ "option :max_compile_memory of the load"
    end
  end
end
