defmodule Cybernetic.WASM.Runtime.CacheTest do
  # Not async: it counts what the whole node compiles.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, Runtime}

  defp counted(keys, work) do
    before = Runtime.stats()
    result = work.()
    present = Runtime.stats()
    {result, Enum.map(keys, &(present[&1] - before[&1]))}
  end

  test "the same bytes are compiled once and found from then on" do
    source = unique()
    keys = [:cache_misses, :cache_hits, :cache_entries]

    {first, counts} = counted(keys, fn -> load!(source) end)
    assert counts == [1, 0, 1]

    {second, counts} = counted(keys, fn -> load!(source) end)
    assert counts == [0, 1, 0]
    assert first.digest == second.digest
  end

  test "other bytes and other engine options are other modules" do
    source = unique()
    load!(source)

    for opts <- [[metering: :epoch], [deterministic: true], [features: [simd: false]]] do
      {_, counts} = counted([:cache_misses, :cache_hits], fn -> load!(source, opts) end)
      assert counts == [1, 0], "with #{inspect(opts)}"
    end

    {_, counts} = counted([:cache_misses], fn -> load!(source <> " ") end)
    assert counts == [1]
  end

  test "a hundred processes that load a new module at once share one compilation" do
    functions =
      for n <- 1..2_000, do: "(func (result i32) (i32.add (i32.const #{n}) (i32.const 1)))"

    # On a fast machine they might not meet.
    eventually(fn ->
      source = unique(functions)

      {modules, [misses, others]} =
        counted([:cache_misses, :cache_joined], fn ->
          1..100
          |> Enum.map(fn _ -> Task.async(fn -> load!(source) end) end)
          |> await()
        end)

      assert misses == 1
      assert modules |> Enum.map(& &1.digest) |> Enum.uniq() |> length() == 1
      assert Enum.all?(modules, &match?({:ok, _}, Executor.call(&1, "number")))
      others > 0
    end)
  end

  test "a refused module is not kept: it is looked at anew" do
    source = "(module (func (export \"x\") (result i32)))"
    assert {:error, first} = Runtime.load_module({:bytes, source})

    {second, counts} =
      counted([:cache_misses, :cache_entries], fn -> Runtime.load_module({:bytes, source}) end)

    assert {:error, ^first} = second
    assert counts == [1, 0]
  end

  test "clearing the cache leaves modules in use alone" do
    # A recursion long enough to be in the middle of it when the cache goes.
    module = compute()
    caller = Task.async(fn -> Executor.call(module, "fib", [27]) end)
    Runtime.clear_cache()

    assert %{cache_entries: 0, cache_bytes: 0} = Runtime.stats()
    assert await(caller) == {:ok, 196_418}
    assert Executor.call(module, "process", [3]) == {:ok, 6}
  end

  test "the code of a module that nobody holds any more is given back" do
    Runtime.clear_cache()
    # Whatever the other tests still held is gone once their processes are.
    :erlang.garbage_collect()
    before = settled(fn -> Runtime.stats().code_memory end)

    elsewhere(fn ->
      load!(unique())
      assert Runtime.stats().code_memory > before
      Runtime.clear_cache()
    end)

    eventually(fn -> Runtime.stats().code_memory <= before end)
  end

  test "a caller that dies while its module compiles leaves the compilation to others" do
    functions = for n <- 1..2_000, do: "(func (result i32) (i32.const #{n}))"
    source = unique(functions)

    {_, [misses]} =
      counted([:cache_misses], fn ->
        %{cache_misses: misses, cache_joined: joined, cache_hits: hits} = Runtime.stats()
        {pid, monitor} = spawn_monitor(fn -> load!(source) end)
        eventually(fn -> Runtime.stats().cache_misses > misses end)
        # It waits for the same, or finds that done.
        other = Task.async(fn -> load!(source) end)

        eventually(fn ->
          %{cache_joined: now_joined, cache_hits: now_hits} = Runtime.stats()
          now_joined > joined or now_hits > hits
        end)

        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _}
        await(other)
      end)

    assert misses == 1
    assert mailbox() == []
  end
end
