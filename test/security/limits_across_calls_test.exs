defmodule Cybernetic.WASM.Security.LimitsAcrossCallsTest do
  # What a call may use belongs to the call: host functions in between, re-entrance to any depth, a consumer that reads
  # slowly and a guest that lives on are no way around it.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Executor, Host, HostError, Instance, LimitError, Memory, Run}

  @page 65_536

  # `run n` calls `env.f` with n; `loop` calls it for ever; `work n` counts down from n; `grow n` grows the memory by n pages.
  defp guest do
    asking(~S"""
    (memory (export "memory") 1)
    (table (export "table") 1 externref)
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "loop") (loop (drop (call $f (i32.const 1))) (br 0)))
    (func $work (export "work") (param i32) (result i32)
      (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (i32.const 7))
    (func (export "run_and_work") (param i32) (result i32)
      (drop (call $f (local.get 0)))
      (call $work (i32.const 1000)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "grow_table") (param i32) (result i32)
      (table.grow (ref.null extern) (local.get 0)))
    (func $deep (export "deep") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
        (else (call $f (i32.const 0)))))
    (func (export "spin") (loop (br 0)))
    """)
  end

  # The same call by each way that leads to a guest: its result, or its error.
  defp each_way(name, args, function, opts) do
    opts = [imports: f(function)] ++ opts

    [
      fresh: Executor.call(guest(), name, args, opts),
      live: guest() |> Instance.new!(opts) |> Instance.call(name, args),
      narrowed: guest() |> Instance.new!(imports: f(function)) |> Instance.call(name, args, opts),
      async: guest() |> Executor.async(name, args, opts) |> Executor.await(),
      stream: guest() |> Executor.stream(name, args, [tagged: true] ++ opts) |> to_result()
    ]
  end

  defp to_result(stream) do
    {:done, %Run{result: result}} = stream |> Enum.to_list() |> List.last()
    {:ok, result}
  rescue
    error -> {:error, error}
  end

  defp assert_limit(results, limit, allowed) do
    for {way, result} <- results do
      assert {^way, {:error, %LimitError{limit: ^limit, allowed: ^allowed}}} = {way, result}
    end
  end

  describe "fuel" do
    test "is one supply for a guest and all its re-entrant calls" do
      work = fn
        _ctx, 0 ->
          0

        ctx, n ->
          with {:ok, 7} <- Host.call(ctx, "work", [20_000]),
               {:ok, 0} <- Host.call(ctx, "run", [n - 1]) do
            0
          else
            {:error, error} -> raise error
          end
      end

      # Ten times 20,000 rounds are more than what is allowed, though none of them is.
      for {way, result} <- each_way("run", [10], work, fuel: 100_000) do
        assert {^way, {:error, error}} = {way, result}
        assert limit_of(error) == :fuel
      end
    end

    test "is not renewed by coming back from a host function" do
      "loop"
      |> each_way([], fn ctx, n -> Host.emit(ctx, "x") && n end, fuel: 10_000, max_output: 100_000)
      |> assert_limit(:fuel, 10_000)
    end

    test "is not used by a host function, however long it takes, nor by a slow reader" do
      quick = fn ctx, n -> Host.emit(ctx, "x") && n end

      slow = fn ctx, n ->
        Process.sleep(20)
        Enum.sum(1..100_000)
        Host.emit(ctx, "x")
        Host.read(ctx, 0, 100)
        n
      end

      used =
        for function <- [quick, slow],
            target <- [guest(), Instance.new!(guest(), imports: f(quick))] do
          opts = [imports: f(function), tagged: true]

          {:done, run} =
            target
            |> Executor.stream("run", [1], opts)
            |> Enum.map(&(Process.sleep(5) && &1))
            |> List.last()

          run.usage.fuel
        end

      assert [_one] = Enum.uniq(used)
    end

    test "is anew for each call on a live instance" do
      instance = Instance.new!(guest(), imports: f(fn _ctx, n -> n end), fuel: 100_000)
      for _ <- 1..20, do: assert(Instance.call(instance, "work", [20_000]) == {:ok, 7})
      assert {:error, %LimitError{limit: :fuel}} = Instance.call(instance, "work", [200_000])
    end
  end

  describe "time" do
    test "in host functions counts, also where each takes little" do
      "loop"
      |> each_way([], fn _ctx, n -> Process.sleep(5) && n end, timeout: 60)
      |> assert_limit(:timeout, 60)
    end

    test "in a re-entrant call counts, and in the host function that made it" do
      "run"
      |> each_way([1], fn ctx, n -> Host.call(ctx, "spin") && n end,
        timeout: 40,
        fuel: plenty()
      )
      |> assert_limit(:timeout, 40)

      "run"
      |> each_way([3], &down_slowly/2, timeout: 60)
      |> assert_limit(:timeout, 60)
    end

    test "of an inner guest is not the outer's: each has a deadline of its own" do
      inner = guest()

      function = fn _ctx, n ->
        opts = forever(imports: f(fn _, _ -> n end), timeout: 20)
        assert {:error, %LimitError{allowed: 20}} = Executor.call(inner, "spin", [], opts)
        n
      end

      for {way, result} <- each_way("run", [5], function, []) do
        assert {way, result} == {way, {:ok, 5}}
      end
    end

    test "cannot be narrowed away: a call on a live instance has no more than its instance" do
      instance = Instance.new!(guest(), forever(imports: f(fn _, n -> n end), timeout: 40))

      assert {:error, %LimitError{limit: :timeout, allowed: 40}} =
               Instance.call(instance, "spin", [], timeout: never())
    end
  end

  defp down_slowly(_ctx, 0), do: 0

  defp down_slowly(ctx, n) do
    Process.sleep(25)
    with {:ok, deeper} <- Host.call(ctx, "run", [n - 1]), do: deeper
  end

  describe "memory" do
    test "that a host function or a re-entrant call grows counts" do
      grow = fn ctx, n ->
        assert {:ok, 1} = Memory.grow(ctx, 2)
        assert {:ok, 3} = Host.call(ctx, "grow", [1])
        # Four pages are all that there may be.
        assert {:ok, -1} = Host.call(ctx, "grow", [1])
        assert {:error, %LimitError{limit: :memory}} = Memory.grow(ctx, 1)
        assert Host.memory_size(ctx) == {:ok, 4 * @page}
        n
      end

      for {way, result} <- each_way("run", [1], grow, max_memory: 5 * @page - 1) do
        assert {way, result} == {way, {:ok, 1}}
      end
    end

    test "adds up over the calls on a live instance" do
      instance = Instance.new!(guest(), imports: f(fn _ctx, n -> n end), max_memory: 10 * @page)

      grown = for _ <- 1..20, do: Instance.call(instance, "grow", [1]) |> elem(1)
      assert Enum.count(grown, &(&1 >= 0)) in 8..9
      assert Enum.count(grown, &(&1 == -1)) in 11..12
      {:ok, size} = Memory.size(instance)
      assert size <= 10 * @page
      assert {:error, %LimitError{limit: :memory}} = Memory.grow(instance, 1)

      # A reset gives it all back.
      :ok = Instance.reset(instance)
      assert Memory.size(instance) == {:ok, @page}
      assert Instance.call(instance, "grow", [5]) == {:ok, 1}
    end

    test "of tables counts as elements, too" do
      grow = fn ctx, n ->
        assert {:ok, 1} = Host.call(ctx, "grow_table", [9])
        assert {:ok, -1} = Host.call(ctx, "grow_table", [1])
        n
      end

      for {way, result} <- each_way("run", [1], grow, max_table_elements: 10) do
        assert {way, result} == {way, {:ok, 1}}
      end
    end
  end

  describe "output" do
    test "is one sum over host calls and re-entrant calls" do
      "loop"
      |> each_way([], fn ctx, n -> Host.emit(ctx, "0123456789") && n end, max_output: 55)
      |> assert_limit(:output, 55)

      nested = fn ctx, n ->
        Host.emit(ctx, "0123456789")

        with {:error, error} <- Host.call(ctx, "run", [n + 1]) do
          raise(error)
        end
      end

      for {way, result} <- each_way("run", [1], nested, max_output: 55) do
        assert {^way, {:error, error}} = {way, result}
        assert limit_of(error) == :output
      end
    end

    test "of a live instance's calls is each call's own" do
      function = fn ctx, n -> Host.emit(ctx, "0123456789") && n end
      instance = Instance.new!(guest(), imports: f(function), max_output: 10)

      for _ <- 1..5,
          do: assert({:ok, %Run{output: "0123456789"}} = Instance.run(instance, "run", [1]))
    end
  end

  describe "host calls" do
    test "are counted over re-entrant calls" do
      nested = fn ctx, n ->
        case Host.call(ctx, "run", [n + 1]) do
          {:ok, deepest} -> deepest
          {:error, %LimitError{limit: :host_calls}} -> n
          {:error, error} -> raise error
        end
      end

      for {way, result} <- each_way("run", [1], nested, max_host_calls: 5) do
        assert {way, result} == {way, {:ok, 5}}
      end
    end

    test "that put out nothing count as well" do
      "loop"
      |> each_way([], fn _ctx, n -> n end, max_host_calls: 10)
      |> assert_limit(:host_calls, 10)
    end
  end

  test "the stack is the guest's own at each level, and the levels have an end" do
    # Each re-entrant call has a stack of its own, so 200 of them may be open; none of them can be deeper than allowed.
    function = fn
      ctx, 0 -> Host.call(ctx, "deep", [1_000_000]) |> elem(1) |> limit_of() |> code()
      _ctx, n -> n
    end

    for {way, result} <- each_way("deep", [100], function, []) do
      assert {way, result} == {way, {:ok, 100 + code(:stack)}}
    end
  end

  defp code(:stack), do: 1_000
  defp code(_other), do: 0

  test "what a limit stopped stays stopped: a host function that ignores it gets no further" do
    test = self()

    function = fn ctx, n ->
      for _ <- 1..10, do: Host.call(ctx, "spin")
      send(test, :went_on)
      n
    end

    for {way, result} <- each_way("run_and_work", [1], function, fuel: 50_000) do
      # All the fuel is used up, and the guest has none for what it does after.
      assert {^way, {:error, error}} = {way, result}
      assert limit_of(error) == :fuel
    end

    for _ <- 1..5, do: assert_received(:went_on)
    assert mailbox() == []
  end

  defp limit_of(%LimitError{limit: limit}), do: limit
  defp limit_of(%HostError{reason: reason}), do: limit_of(reason)
  defp limit_of(_other), do: nil
end
