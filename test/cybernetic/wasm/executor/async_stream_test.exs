defmodule Cybernetic.WASM.Executor.AsyncStreamTest do
  # Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}
  import ExUnit.CaptureLog

  alias Cybernetic.WASM.{Executor, Instance}
  alias Cybernetic.WASM.{CallError, HostError, LimitError, LinkError, TrapError}

  setup :quiet_node

  defp doubled(elements, opts \\ []),
    do: Executor.async_stream(compute(), "process", elements, opts)

  defp with_f(elements, function, opts),
    do: Executor.async_stream(calling(), "run", elements, [imports: f(function)] ++ opts)

  # Lets nobody out before `most` are inside at once, and tells the most there ever were.
  defp gauge(most) do
    {:ok, gauge} = Agent.start_link(fn -> {0, 0} end)
    peak = fn -> Agent.get(gauge, &elem(&1, 1)) end

    pass = fn ->
      Agent.update(gauge, fn {now, peak} -> {now + 1, max(now + 1, peak)} end)
      eventually(fn -> peak.() >= most end)
      Agent.update(gauge, fn {now, peak} -> {now - 1, peak} end)
    end

    {pass, peak}
  end

  # So many calls, each of which goes through the gauge.
  defp assert_at_once(most, opts) do
    {pass, peak} = gauge(most)
    elements = for n <- 1..30, do: [n]
    results = elements |> with_f(fn _ctx, n -> pass.() && n end, opts) |> Enum.to_list()
    assert results == for(n <- 1..30, do: {:ok, n})
    assert peak.() == most
  end

  test "gives a result for each element, in their order" do
    assert 1..200 |> Enum.map(&[&1]) |> doubled() |> Enum.to_list() ==
             for(n <- 1..200, do: {:ok, 2 * n})

    assert [] |> doubled() |> Enum.to_list() == []
    assert mailbox() == []
  end

  test "keeps the order also where later elements are ready first" do
    # Each goes on when those after it have ended.
    ended = :counters.new(1, [])

    function = fn _ctx, n ->
      eventually(fn -> :counters.get(ended, 1) == 4 - n end)
      :counters.add(ended, 1, 1)
      n
    end

    elements = for n <- 1..4, do: [n]

    assert elements |> with_f(function, max_concurrency: 4) |> Enum.to_list() ==
             [ok: 1, ok: 2, ok: 3, ok: 4]
  end

  test "gives what is ready first where order is not asked for" do
    # The second ends, and only its element lets the first go on.
    test = self()

    function = fn
      _ctx, 1 -> send(test, {:first, self()}) && receive(do: (:go -> 1))
      _ctx, n -> n
    end

    assert [ok: 2, ok: 1] ==
             [[1], [2]]
             |> with_f(function, max_concurrency: 2, ordered: false)
             |> Enum.map(fn result ->
               if result == {:ok, 2} do
                 assert_receive {:first, first}
                 send(first, :go)
               end

               result
             end)
  end

  test "runs as many at once as max_concurrency says, and no more" do
    for most <- [1, 2, 7], do: assert_at_once(most, max_concurrency: most)
  end

  test "runs as many as there are schedulers if nothing is said" do
    assert_at_once(System.schedulers_online(), [])
  end

  describe "a call that fails is an element like any other:" do
    test "a mistake in its arguments, a trap, a limit" do
      assert [{:ok, 2}, {:error, %CallError{reason: :type}}, {:error, %CallError{reason: :arity}}] =
               [[1], [:no], []] |> doubled() |> Enum.to_list()

      assert [{:error, %TrapError{}}, {:error, %TrapError{}}] =
               compute() |> Executor.async_stream("fail", [[], []]) |> Enum.to_list()

      assert [{:error, %LimitError{limit: :fuel, allowed: 5_000}}] =
               compute() |> Executor.async_stream("spin", [[]], fuel: 5_000) |> Enum.to_list()

      assert [{:error, %CallError{reason: :no_such_export}}] =
               compute() |> Executor.async_stream("nothing", [[]]) |> Enum.to_list()
    end

    test "a missing import" do
      assert [{:error, %LinkError{}}, {:error, %LinkError{}}] =
               calling() |> Executor.async_stream("run", [[1], [2]]) |> Enum.to_list()
    end

    test "what a host function does, also to its own process" do
      function = fn
        _ctx, 1 -> raise "no"
        _ctx, 2 -> exit(:over)
        _ctx, 3 -> throw(:ball)
        _ctx, 4 -> Process.exit(self(), :kill)
        _ctx, n -> n
      end

      elements = for n <- 1..5, do: [n]

      assert [
               {:error, %HostError{kind: :error, reason: %RuntimeError{message: "no"}}},
               {:error, %HostError{kind: :exit, reason: :over}},
               {:error, %HostError{kind: :throw, reason: :ball}},
               {:error, %HostError{kind: :exit, reason: :killed, import: nil}},
               {:ok, 5}
             ] = elements |> with_f(function, []) |> Enum.to_list()
    end

    test "a deadline of its own, enforced from outside" do
      function = fn
        _ctx, 2 -> Process.sleep(:infinity)
        _ctx, 3 -> {Process.flag(:trap_exit, true), Process.sleep(:infinity)}
        _ctx, n -> n
      end

      elements = for n <- 1..4, do: [n]

      given_time(fn timeout ->
        assert [
                 first,
                 {:error, %LimitError{limit: :timeout, allowed: ^timeout}},
                 {:error, %LimitError{limit: :timeout, allowed: ^timeout}},
                 last
               ] = elements |> with_f(function, timeout: timeout) |> Enum.to_list()

        {first, last} == {{:ok, 1}, {:ok, 4}}
      end)

      quiet()
    end

    test "which is no deadline of the whole" do
      # One after the other each takes a quarter of its deadline, and all of them twice as long.
      elements = for n <- 1..8, do: [n]

      given_time(fn timeout ->
        sleep = fn _ctx, n -> Process.sleep(div(timeout, 4)) && n end
        results = with_f(elements, sleep, timeout: timeout, max_concurrency: 1) |> Enum.to_list()
        results == for(n <- 1..8, do: {:ok, n})
      end)
    end
  end

  test "an element that is no list of arguments raises where the stream is read, and nothing crashes" do
    # What a newcomer writes: the bare arguments.
    log =
      capture_log(fn ->
        for {elements, shown} <- [{[1, 2, 3], "1"}, {[[1], [2 | 3]], "a list"}, {[nil], "nil"}] do
          error = assert_raise ArgumentError, fn -> elements |> doubled() |> Enum.to_list() end
          assert error.message == "each element must be a proper list of arguments, got: #{shown}"
        end
      end)

    refute log =~ "Task"
    quiet()
    assert mailbox() == []
  end

  describe "an enumerable" do
    test "may be infinite: it is read as far as it is needed" do
      test = self()

      numbers =
        Stream.map(Stream.iterate(1, &(&1 + 1)), fn n ->
          send(test, {:asked, n})
          [n]
        end)

      stream = doubled(numbers, max_concurrency: 3)
      # Nothing is read before the first element is asked for.
      assert mailbox() == []
      assert Enum.take(stream, 4) == [ok: 2, ok: 4, ok: 6, ok: 8]

      # Results of later elements wait for those of earlier ones, as in `Task.async_stream/3`: some are read ahead.
      asked = for {:asked, n} <- mailbox(), do: n
      assert length(asked) >= 4
      assert asked == Enum.to_list(1..length(asked))
    end

    test "that raises raises where the stream is read, and what runs is ended" do
      elements = Stream.map(1..10, fn n -> if n < 3, do: [n], else: raise("no more") end)
      never = fn _ctx, _n -> Process.sleep(:infinity) end

      assert_raise RuntimeError, "no more", fn ->
        elements |> with_f(never, forever(max_concurrency: 5)) |> Enum.to_list()
      end

      quiet()
    end

    test "may be any, and may be read twice" do
      stream = doubled(MapSet.new([[1], [2]]))
      assert Enum.sort(stream) == [ok: 2, ok: 4]
      assert Enum.sort(stream) == [ok: 2, ok: 4]
      assert %{[5] => 6} |> Map.keys() |> doubled() |> Enum.to_list() == [ok: 10]
    end
  end

  describe "what still runs is gone" do
    test "when the reader stops early" do
      for trap <- [false, true] do
        inside = :counters.new(1, [])

        function = fn
          _ctx, 1 ->
            eventually(fn -> :counters.get(inside, 1) == 3 end)
            1

          _ctx, _n ->
            Process.flag(:trap_exit, trap)
            :counters.add(inside, 1, 1)
            Process.sleep(:infinity)
        end

        elements = for n <- 1..10, do: [n]
        stream = with_f(elements, function, forever(max_concurrency: 4))
        assert Enum.take(stream, 1) == [ok: 1]
        quiet()
      end
    end

    test "when the reader raises, throws or exits" do
      function = fn
        _ctx, 1 -> 1
        _ctx, _n -> Process.sleep(:infinity)
      end

      stream = with_f([[1], [2], [3]], function, forever(max_concurrency: 3))
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _ -> raise "enough" end) end
      assert catch_throw(Enum.each(stream, fn _ -> throw(:enough) end)) == :enough
      assert catch_exit(Enum.each(stream, fn _ -> exit(:enough) end)) == :enough
      quiet()
      assert mailbox() == []
    end

    test "when the reader is killed" do
      test = self()

      for trap <- [false, true], ordered <- [true, false] do
        function = fn _ctx, n ->
          Process.flag(:trap_exit, trap)
          send(test, {:inside, n})
          Process.sleep(:infinity)
        end

        elements = for n <- 1..4, do: [n]
        opts = forever(max_concurrency: 4, ordered: ordered)
        reader = spawn(fn -> elements |> with_f(function, opts) |> Enum.to_list() end)
        for n <- 1..4, do: assert_receive({:inside, ^n})
        Process.exit(reader, :kill)
        quiet()
      end
    end

    test "when the reader of endless guests is killed" do
      reader =
        spawn(fn ->
          compute()
          |> Executor.async_stream("spin", [[], []], forever(max_concurrency: 2))
          |> Enum.to_list()
        end)

      until_live(2)
      Process.exit(reader, :kill)
      quiet()
    end
  end

  test "on a live instance the calls stand in line if they may wait" do
    module =
      load!(~S"""
      (module (global $sum (mut i32) (i32.const 0))
        (func (export "add") (param i32) (result i32)
          (global.set $sum (i32.add (global.get $sum) (local.get 0))) (global.get $sum)))
      """)

    instance = Instance.new!(module)
    elements = for n <- 1..50, do: [n]

    results =
      instance
      |> Executor.async_stream("add", elements, max_concurrency: 8, wait: never())
      |> Enum.map(&elem(&1, 1))

    assert Enum.max(results) == 1_275
    assert length(Enum.uniq(results)) == 50
  end

  test "data: and imports: are there for each call" do
    function = fn ctx, n -> n * Cybernetic.WASM.Host.data(ctx) end
    assert [[1], [2]] |> with_f(function, data: 10) |> Enum.to_list() == [ok: 10, ok: 20]
  end

  test "a command is run once for each list of its arguments, and may tell all of it" do
    tool = Cybernetic.WASM.Runtime.load_module!("test/fixtures/wasi/tool.wasm")

    stream =
      &Executor.async_stream(
        tool,
        :start,
        [["args", "a"], ["exit", "3"]],
        [sandbox: :command] ++ &1
      )

    assert Enum.to_list(stream.([])) == [ok: 0, ok: 3]
    assert [ok: first, ok: second] = Enum.to_list(stream.(run: true))
    assert {first.exit_code, first.stdout, second.exit_code} == {0, "a\n", 3}
  end

  test "what is wrong with the options is raised at once, not for each element" do
    for {opts, words} <- [
          {[max_concurency: 1], "unknown call option :max_concurency"},
          {[max_concurrency: 0], "option :max_concurrency must be an integer from 1"},
          {[max_concurrency: :all], "option :max_concurrency must be an integer from 1"},
          {[ordered: 1], "option :ordered must be true or false"},
          {[on_timeout: :kill_task], "unknown call option :on_timeout"},
          {[run: 1], "option :run must be true or false"},
          {[timeout: :infinity], "option :timeout must be"},
          {:none, "must be a keyword list"}
        ] do
      error = assert_raise ArgumentError, fn -> doubled([[1]], opts) end
      assert error.message =~ words
    end

    assert_raise ArgumentError, ~r/name must be a string/, fn ->
      Executor.async_stream(compute(), :process, [[1]])
    end

    assert_raise ArgumentError, ~r/load it first/, fn ->
      Executor.async_stream(%{}, "process", [[1]])
    end
  end

  test "the reader's mailbox is as it was" do
    send(self(), :mine)
    function = fn _ctx, n -> if(n == 3, do: raise("no"), else: n) end
    elements = for n <- 1..20, do: [n]
    stream = with_f(elements, function, timeout: 50)
    Enum.to_list(stream)
    Enum.take(stream, 2)
    # What runs still is ended, and tells nobody.
    quiet()
    eventually(fn -> Task.Supervisor.children(Cybernetic.WASM.TaskSupervisor) == [] end)
    assert mailbox() == [:mine]
  end
end
