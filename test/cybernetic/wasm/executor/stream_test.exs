defmodule Cybernetic.WASM.Executor.StreamTest do
  # Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Streams}

  alias Cybernetic.WASM.{Executor, Host, Instance, Run, Runtime, Usage}
  alias Cybernetic.WASM.{CallError, CancelledError, HostError, LimitError, LinkError, TrapError}

  setup :quiet_node

  # `count n` calls `env.f` with 0, 1, … n - 1 and returns n; `flood` does so for ever; `spin` never puts out anything.
  defp counting do
    asking(~S"""
    (global $calls (mut i32) (i32.const 0))
    (func $put (param i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (drop (call $f (local.get 0))))
    (func (export "count") (param i32) (result i32) (local i32)
      (block $done
        (loop $l
          (br_if $done (i32.ge_s (local.get 1) (local.get 0)))
          (call $put (local.get 1))
          (local.set 1 (i32.add (local.get 1) (i32.const 1)))
          (br $l)))
      (local.get 1))
    (func (export "flood") (local i32)
      (loop $l
        (call $put (local.get 0))
        (local.set 0 (i32.add (local.get 0) (i32.const 1)))
        (br $l)))
    (func (export "once") (param i32) (call $put (local.get 0)))
    (func (export "then_fail") (call $put (i32.const 1)) (call $put (i32.const 2)) unreachable)
    (func (export "then_spin") (call $put (i32.const 1)) (loop (br 0)))
    (func (export "spin") (loop (br 0)))
    (func (export "calls") (result i32) (global.get $calls))
    """)
  end

  defp put(ctx, n), do: Host.emit(ctx, to_string(n)) && n

  defp stream(name, args \\ [], opts \\ []),
    do: Executor.stream(counting(), name, args, Keyword.merge([imports: f(&put/2)], opts))

  describe "a stream" do
    test "gives a binary for each output, and ends with the call" do
      assert Enum.to_list(stream("count", [5])) == ["0", "1", "2", "3", "4"]
      assert Enum.to_list(stream("count", [0])) == []

      assert stream("count", [20_000]) |> Enum.map(&String.to_integer/1) ==
               Enum.to_list(0..19_999)

      assert mailbox() == []
    end

    test "is lazy: nothing runs before its first element is asked for" do
      test = self()
      function = fn ctx, n -> send(test, {:called, n}) && put(ctx, n) end
      stream = stream("count", [3], imports: f(function))
      assert Enum.take(stream, 0) == []
      assert Runtime.stats().live_instances == 0
      assert mailbox() == []
    end

    test "advances only as more is asked for" do
      test = self()

      function = fn ctx, n ->
        send(test, {:called, n})
        put(ctx, n)
      end

      stream = stream("flood", [], imports: f(function))
      {"0", continue} = next(stream)
      assert mailbox() == [{:called, 0}]
      {"1", continue} = next(continue)
      {"2", continue} = next(continue)
      assert mailbox() == [{:called, 0}, {:called, 1}, {:called, 2}]
      continue.({:halt, nil})
      assert length(mailbox()) == 3
    end

    test "gives the pieces as they were put out: several of one host call, none of another" do
      function = fn
        ctx, 0 -> for(piece <- ["a", "bc", [?d, ["e"]]], do: Host.emit(ctx, piece)) && 0
        _ctx, 1 -> 1
        ctx, 2 -> Host.emit(ctx, <<255, 0, 254>>) && 2
        ctx, n -> Host.emit(ctx, String.duplicate("x", 1_000_000)) && n
      end

      stream = stream("count", [4], imports: f(function))
      assert ["a", "bc", "de", <<255, 0, 254>>, large] = Enum.to_list(stream)
      assert byte_size(large) == 1_000_000

      # Also where they are taken one at a time.
      assert Enum.take(stream, 2) == ["a", "bc"]
    end

    test "gives a piece of no bytes too" do
      assert stream("count", [2], imports: f(fn ctx, n -> Host.emit(ctx, "") && n end))
             |> Enum.to_list() == ["", ""]
    end

    test "gives what is put out in nested re-entrant calls, in order" do
      function = fn ctx, n ->
        Host.emit(ctx, "<#{n}")

        if n in 1..3 do
          {:ok, nil} = Host.call(ctx, "once", [n - 1])
          Host.emit(ctx, "|")
          {:ok, nil} = Host.call(ctx, "once", [n - 1])
        end

        Host.emit(ctx, ">")
        n
      end

      stream = stream("once", [2], imports: f(function))

      assert Enum.join(stream) == "<2<1<0>|<0>>|<1<0>|<0>>>"
      assert Enum.count(stream) == 7 * 2 + 3
    end

    test "gives what a start function puts out first" do
      module =
        asking(~S"""
        (func $s (drop (call $f (i32.const 1))))
        (start $s)
        (func (export "run") (drop (call $f (i32.const 2))))
        """)

      assert module |> Executor.stream("run", [], imports: f(&put/2)) |> Enum.to_list() ==
               ["1", "2"]
    end

    test "runs its host functions in the process that reads it" do
      function = fn ctx, n -> Host.emit(ctx, inspect(self())) && n end
      stream = stream("count", [1], imports: f(function))
      assert Enum.to_list(stream) == [inspect(self())]
      assert elsewhere(fn -> Enum.to_list(stream) end) != [inspect(self())]
    end

    test "runs anew each time that it is read" do
      test = self()
      function = fn ctx, n -> send(test, :called) && put(ctx, n) end
      stream = stream("count", [2], imports: f(function))
      assert Enum.to_list(stream) == ["0", "1"]
      assert Enum.to_list(stream) == ["0", "1"]
      assert Enum.take(stream, 1) == ["0"]
      assert mailbox() == List.duplicate(:called, 5)
    end

    test "works with what Enum and Stream offer" do
      assert stream("flood") |> Enum.take(3) == ["0", "1", "2"]
      assert stream("flood") |> Stream.drop(100) |> Enum.at(5) == "105"
      assert stream("flood") |> Stream.take_while(&(&1 != "4")) |> Enum.join() == "0123"
      assert stream("count", [4]) |> Stream.chunk_every(2) |> Enum.to_list() == [~w(0 1), ~w(2 3)]
      assert stream("flood") |> Stream.flat_map(fn _ -> stream("flood") end) |> Enum.at(7) == "7"
      assert "0" in stream("flood")
      assert Enum.into(stream("count", [2]), "") == "01"
      quiet()
    end

    test "is read beside others in one process" do
      double = f(fn ctx, n -> Host.emit(ctx, to_string(2 * n)) && n end)

      assert Stream.zip(stream("flood"), stream("flood", [], imports: double)) |> Enum.take(3) ==
               [{"0", "0"}, {"1", "2"}, {"2", "4"}]

      {"0", one} = next(stream("flood"))
      {"0", other} = next(stream("flood"))
      {"1", one} = next(one)
      {"1", other} = next(other)
      assert Executor.call(compute(), "process", [1]) == {:ok, 2}
      {"2", one} = next(one)
      assert Runtime.stats().live_instances == 2
      one.({:halt, nil})
      {"2", other} = next(other)
      other.({:halt, nil})
      quiet()
    end

    test "is read inside a host function of another" do
      function = fn ctx, n -> Enum.each(stream("count", [n]), &Host.emit(ctx, &1)) && n end
      assert stream("count", [4], imports: f(function)) |> Enum.join() == "0" <> "01" <> "012"
    end

    test "that is suspended may go on in another process" do
      {"0", continue} = next(stream("count", [3]))
      assert {"1", continue} = elsewhere(fn -> next(continue) end)
      assert {"2", continue} = next(continue)
      assert next(continue) == :ended
      quiet()
    end
  end

  describe "tagged" do
    test "the elements say what they are, and the last one tells the run" do
      assert [{:output, "0"}, {:output, "1"}, {:done, %Run{} = run}] =
               Enum.to_list(stream("count", [2], tagged: true))

      assert run.result == 2
      # It has been read already.
      assert run.output == ""
      assert %Usage{host_calls: 2, fuel: fuel, peak_memory: 0} = run.usage
      assert fuel > 0
    end

    test "an error raises in the place of the run" do
      {pieces, error} = read(stream("then_fail", [], tagged: true))
      assert pieces == [{:output, "1"}, {:output, "2"}]
      assert %TrapError{usage: %Usage{host_calls: 2}} = error
    end

    test "false is the default" do
      assert Enum.to_list(stream("count", [1], tagged: false)) == ["0"]
    end
  end

  # All that comes before the exception, and that.
  defp read(stream) do
    Process.put(:read, [])

    try do
      Enum.each(stream, &Process.put(:read, [&1 | Process.get(:read)]))
      flunk("nothing was raised")
    rescue
      error in ExUnit.AssertionError -> reraise error, __STACKTRACE__
      error -> {Enum.reverse(Process.delete(:read)), error}
    end
  end

  describe "an error" do
    test "raises after the output before it" do
      assert {["1", "2"], %TrapError{code: :unreachable}} = read(stream("then_fail"))
      assert {["1"], %LimitError{limit: :fuel}} = read(stream("then_spin", [], fuel: 10_000))

      given_time(fn timeout ->
        assert {pieces, %LimitError{limit: :timeout, allowed: ^timeout}} =
                 read(stream("then_spin", [], forever(timeout: timeout)))

        pieces == ["1"]
      end)

      assert {~w(0 1 2), %LimitError{limit: :host_calls}} =
               read(stream("flood", [], max_host_calls: 3))
    end

    test "that a host function raises is raised itself, after what it put out before" do
      # What it had put out in the same host call was lost.
      function = fn ctx, n ->
        Host.emit(ctx, "a#{n}")
        Host.emit(ctx, "b#{n}")
        if n == 1, do: raise(ArithmeticError, "odd"), else: n
      end

      assert {["a0", "b0", "a1", "b1"], %ArithmeticError{message: "odd"}} =
               read(stream("count", [5], imports: f(function)))
    end

    test "of a host function keeps its stack, and exits and throws are what they were" do
      try do
        Enum.to_list(stream("count", [1], imports: f(&__MODULE__.refuse/2)))
      rescue
        RuntimeError -> assert [{__MODULE__, :refuse, 2, _} | _] = __STACKTRACE__
      end

      exits = fn ctx, _n -> Host.emit(ctx, "x") && exit(:over) end
      throws = fn ctx, _n -> Host.emit(ctx, "x") && throw(:ball) end
      traps = fn ctx, _n -> Host.emit(ctx, "x") && Host.trap(ctx, :refused) end

      assert catch_exit(Enum.to_list(stream("flood", [], imports: f(exits)))) == :over
      assert catch_throw(Enum.to_list(stream("flood", [], imports: f(throws)))) == :ball

      assert {["x"], %HostError{kind: :trap, reason: :refused}} =
               read(stream("flood", [], imports: f(traps)))
    end

    test "of a wrong return comes after what was put out, too" do
      function = fn ctx, _n -> Host.emit(ctx, "x") && :wrong end

      assert {["x"], %CallError{reason: :type}} = read(stream("flood", [], imports: f(function)))
    end

    test "that ends the call inside a host function comes after what that had put out" do
      function = fn ctx, n ->
        Host.emit(ctx, "a")
        Host.emit(ctx, "b")
        oversleep(ctx)
        Host.call(ctx, "calls")
        n
      end

      given_time(fn timeout ->
        assert {pieces, %LimitError{limit: :timeout}} =
                 read(stream("count", [1], imports: f(function), timeout: timeout))

        # All of it, where the host function had its turn.
        assert Enum.join(pieces) in ["", "ab"]
        pieces != []
      end)
    end

    test "in a nested call comes after what was put out there, if the host function lets it" do
      function = fn
        ctx, 0 ->
          Host.emit(ctx, "inner")
          raise "inner"

        ctx, n ->
          Host.emit(ctx, "outer")
          {:error, error} = Host.call(ctx, "once", [n - 1])
          raise error.reason
      end

      assert {["outer", "inner"], %RuntimeError{message: "inner"}} =
               read(stream("once", [1], imports: f(function)))
    end

    test "of the caller's raises when the stream is read" do
      assert {[], %CallError{reason: :no_such_export}} = read(stream("nothing"))
      assert {[], %CallError{reason: :arity}} = read(stream("count"))
      assert {[], %CallError{reason: :type}} = read(stream("count", [:many]))
      assert {[], %LinkError{problems: [_]}} = read(stream("count", [1], imports: %{}))
    end
  end

  describe "max_output" do
    test "cuts a flood: what is within it comes first" do
      function = fn ctx, n -> Host.emit(ctx, "0123456789") && n end
      opts = [imports: f(function), max_output: 35]

      assert {["0123456789", "0123456789", "0123456789"],
              %LimitError{limit: :output, allowed: 35, used: 40}} =
               read(stream("flood", [], opts))
    end

    test "cuts a flood of one host call" do
      test = self()

      function = fn ctx, n ->
        for _ <- 1..10, do: Host.emit(ctx, "0123456789")
        send(test, :went_on)
        n
      end

      opts = [imports: f(function), max_output: 35]
      assert {pieces, %LimitError{limit: :output}} = read(stream("flood", [], opts))
      assert pieces == List.duplicate("0123456789", 3)
      refute_received :went_on
    end

    test "counts what has been read already" do
      assert {pieces, %LimitError{limit: :output}} = read(stream("flood", [], max_output: 100))
      assert pieces |> Enum.join() |> byte_size() <= 100
    end
  end

  describe "the deadline" do
    test "counts the time between two elements" do
      continue =
        given_time(fn timeout ->
          with {"0", continue} <- begin(stream("flood", [], timeout: timeout)),
               do: Process.sleep(timeout + 10) && continue
        end)

      # It is over when it comes up for air.
      assert_raise LimitError, ~r/timeout limit/, fn ->
        Stream.repeatedly(fn -> nil end) |> Enum.reduce(continue, fn _, c -> elem(next(c), 1) end)
      end
    end

    test "is the call's, not the stream's: reading it again begins anew" do
      given_time(fn timeout ->
        stream = stream("flood", [], timeout: timeout)

        # Each time to its end, and each time there is something.
        for _ <- 1..3 do
          assert {pieces, %LimitError{limit: :timeout, allowed: ^timeout}} = read(stream)
          length(pieces)
        end
        |> Enum.all?(&(&1 > 0))
      end)

      assert mailbox() == []
    end

    # Its first element, or nothing where the deadline was before that.
    defp begin(stream) do
      next(stream)
    rescue
      LimitError -> nil
    end
  end

  describe "a stream that is not read to its end" do
    test "unwinds the guest" do
      assert Enum.take(stream("flood", [], forever()), 1) == ["0"]
      quiet()

      {"0", continue} = next(stream("flood", [], forever()))
      assert Runtime.stats().live_instances == 1
      assert {:halted, _} = continue.({:halt, nil})
      quiet()
      assert mailbox() == []
    end

    test "unwinds the guest when its reader raises, throws or exits" do
      stream = stream("flood", [], forever())
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _ -> raise "enough" end) end
      assert catch_throw(Enum.each(stream, fn _ -> throw(:enough) end)) == :enough
      assert catch_exit(Enum.each(stream, fn _ -> exit(:enough) end)) == :enough
      quiet()
    end

    test "in the middle of several pieces of one host call unwinds the guest" do
      function = fn ctx, n -> for(_ <- 1..5, do: put(ctx, n)) && n end
      assert Enum.take(stream("flood", [], forever(imports: f(function))), 2) == ["0", "0"]
      quiet()
    end

    test "after the output of a host function that raised unwinds it as well" do
      function = fn ctx, _n -> Host.emit(ctx, "x") && raise("late") end
      assert Enum.take(stream("flood", [], forever(imports: f(function))), 1) == ["x"]
      quiet()
    end

    test "leaves nothing when its process is killed" do
      test = self()
      stream = stream("flood", [], forever())

      for reader <- [
            fn ->
              Enum.each(stream, fn _ -> send(test, :read) && Process.sleep(:infinity) end)
            end,
            fn ->
              Process.put(:kept, next(stream))
              send(test, :read)
              Process.sleep(:infinity)
            end
          ] do
        pid = spawn(reader)
        assert_receive :read
        assert Runtime.stats().live_instances == 1
        Process.exit(pid, :kill)
        quiet()
      end
    end

    test "leaves nothing when it is forgotten" do
      forgetful =
        spawn_link(fn ->
          {"0", _} = next(stream("flood", [], forever()))
          receive do: (:end -> :ok)
        end)

      eventually(fn ->
        :erlang.garbage_collect(forgetful)
        Process.info(forgetful, :status) == {:status, :waiting}
      end)

      eventually(fn ->
        :erlang.garbage_collect(forgetful)
        Runtime.stats().live_instances == 0
      end)

      send(forgetful, :end)
    end
  end

  describe "on a live instance" do
    # Not in the context of a test, which ExUnit keeps: the guest would live on there.
    defp live, do: Instance.new!(counting(), forever(imports: f(&put/2)))

    test "the stream's call is one of many" do
      instance = live()
      assert Enum.to_list(Executor.stream(instance, "count", [3])) == ["0", "1", "2"]
      assert Instance.call(instance, "calls") == {:ok, 3}
      assert Enum.to_list(Executor.stream(instance, "count", [2], tagged: true)) |> length() == 3
      assert Instance.call(instance, "calls") == {:ok, 5}
    end

    test "it is busy while the stream is suspended" do
      instance = live()
      {"0", continue} = next(Executor.stream(instance, "count", [2]))
      assert {:error, %CallError{reason: :busy}} = Instance.call(instance, "calls")
      assert {[], %CallError{reason: :busy}} = read(Executor.stream(instance, "count", [2]))
      {"1", continue} = next(continue)
      assert next(continue) == :ended
      assert Instance.call(instance, "calls") == {:ok, 2}
    end

    test "a stream that is not read to its end poisons it" do
      instance = live()
      assert Enum.take(Executor.stream(instance, "flood"), 2) == ["0", "1"]
      eventually(fn -> Instance.poisoned?(instance) end)
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, "calls")
      assert {[], %CallError{reason: :poisoned}} = read(Executor.stream(instance, "count", [1]))
      assert :ok = Instance.reset(instance, wait: never())
      assert Enum.to_list(Executor.stream(instance, "count", [1])) == ["0"]
    end

    test "imports:, data: and limits of the stream are for it alone" do
      instance = live()
      function = fn ctx, _n -> Host.emit(ctx, Host.data(ctx)) && 1 end
      opts = [imports: f(function), data: "own", max_host_calls: 2]

      assert {["own", "own"], %LimitError{limit: :host_calls}} =
               read(Executor.stream(instance, "count", [3], opts))

      :ok = Instance.reset(instance)
      assert Enum.to_list(Executor.stream(instance, "count", [3])) == ["0", "1", "2"]
    end
  end

  describe "on modules that import from others" do
    setup do
      user =
        load!(~S"""
        (module
          (import "counting" "count" (func $count (param i32) (result i32)))
          (import "counting" "flood" (func $flood))
          (import "env" "f" (func $f (param i32) (result i32)))
          (func (export "run") (result i32)
            (drop (call $f (i32.const 100)))
            (call $count (i32.const 2)))
          (func (export "flood") (call $flood)))
        """)

      {:ok, user: user, imports: %{"counting" => counting(), "env" => %{"f" => &put/2}}}
    end

    test "the output of all of them comes, in order", context do
      %{user: user, imports: imports} = context

      for _ <- 1..2 do
        stream = Executor.stream(user, "run", [], imports: imports, tagged: true)

        assert [{:output, "100"}, {:output, "0"}, {:output, "1"}, {:done, %Run{result: 2}}] =
                 Enum.to_list(stream)
      end

      quiet()
    end

    test "a stream that is not read to its end unwinds all of them", context do
      %{user: user, imports: imports} = context
      stream = Executor.stream(user, "flood", [], forever(imports: imports))
      assert Enum.take(stream, 2) == ["0", "1"]
      quiet()
    end

    test "sent to a process, its output comes there", context do
      %{user: user, imports: imports} = context
      {:ok, async} = Executor.stream(user, "run", [], imports: imports, into: self())
      ref = async.ref
      for piece <- ~w(100 0 1), do: assert_receive({^ref, {:output, ^piece}})
      assert_receive {^ref, {:done, %Run{result: 2}}}
      quiet()
    end
  end

  # Into a process

  defp into(name, args \\ [], opts \\ []) do
    {:ok, async} = stream(name, args, [into: self()] ++ opts)
    async
  end

  # What has come of the stream, in order, once it has said that it is over.
  defp all(%{ref: ref} = async) do
    receive do
      {^ref, {:output, piece}} -> [piece | all(async)]
      {^ref, last} -> [last]
    end
  end

  defp outputs(%{ref: ref}), do: for({^ref, {:output, piece}} <- mailbox(), do: piece)

  # This much has come, and no more: who drives the guest waits, as it does for credit.
  defp assert_still(async, pieces) do
    eventually(fn ->
      outputs(async) == pieces and standing_still?(async) and outputs(async) == pieces
    end)
  end

  describe "into a process" do
    test "the output comes as messages, and then the run" do
      async = into("count", [5])
      assert [~w(0 1 2 3 4), [{:done, run}]] = async |> all() |> Enum.chunk_by(&is_binary/1)
      assert %Run{result: 5, output: "", usage: %Usage{host_calls: 5}} = run
      dead(async.pid)
      assert mailbox() == []
    end

    test "the credit bounds the messages exactly, and demand gives more" do
      async = into("flood", [], forever(credit: 3))
      assert_still(async, ~w(0 1 2))
      assert Executor.demand(async, 2) == :ok
      assert_still(async, ~w(0 1 2 3 4))
      Executor.demand(async)
      assert_still(async, ~w(0 1 2 3 4 5))
      # Given ahead it adds up.
      for _ <- 1..10, do: Executor.demand(async)
      assert_still(async, Enum.map(0..15, &to_string/1))
      Executor.cancel(async)
    end

    test "the default is 16" do
      async = into("flood", [], forever())
      assert_still(async, Enum.map(0..15, &to_string/1))
      Executor.cancel(async)
    end

    test "the credit bounds several pieces of one host call, too" do
      function = fn ctx, n -> for(k <- 0..4, do: Host.emit(ctx, "#{n}#{k}")) && n end
      async = into("count", [2], imports: f(function), credit: 2)
      assert_still(async, ~w(00 01))
      Executor.demand(async, 4)
      assert_still(async, ~w(00 01 02 03 04 10))
      Executor.demand(async, 1_000)
      assert List.last(all(async)) |> elem(0) == :done
    end

    test "without credit the guest stands still: it is at most one output ahead" do
      {:ok, calls} = Agent.start_link(fn -> 0 end)
      function = fn ctx, n -> Agent.update(calls, &(&1 + 1)) && put(ctx, n) end
      async = into("flood", [], forever(imports: f(function), credit: 4))
      assert_still(async, ~w(0 1 2 3))
      assert Agent.get(calls, & &1) in 4..5
      Executor.cancel(async)
    end

    test "any process may demand, and any may cancel" do
      async = into("flood", [], forever(credit: 1))
      elsewhere(fn -> Executor.demand(async, 1) end)
      assert_still(async, ~w(0 1))
      assert elsewhere(fn -> Executor.cancel(async, :theirs) end) == :ok
      assert ["0", "1", {:failed, %CancelledError{reason: :theirs}}] = all(async)
    end

    test "host functions run elsewhere, with the caller among the callers" do
      test = self()
      function = fn _ctx, n -> send(test, {self(), Process.get(:"$callers")}) && n end
      into("count", [1], imports: f(function)) |> all()
      assert_received {runner, [^test]}
      assert runner != test
    end

    test "a host function may empty its mailbox: no demand is lost" do
      # Credit was a message to the process in which host functions run, and who received everything there lost it.
      function = fn ctx, n ->
        Process.sleep(2)
        flush()
        put(ctx, n)
      end

      async = into("count", [50], imports: f(function), credit: 1)
      for _ <- 1..50, do: Process.sleep(1) && Executor.demand(async)
      assert List.last(all(async)) |> elem(0) == :done
    end

    test "an error is the last message, after the output before it" do
      assert ["1", "2", {:failed, %TrapError{usage: %Usage{}}}] = all(into("then_fail"))

      assert ["1", {:failed, %LimitError{limit: :fuel}}] =
               all(into("then_spin", [], fuel: 10_000))

      function = fn ctx, n -> Host.emit(ctx, "x") && raise("no #{n}") end

      assert ["x", {:failed, %HostError{reason: %RuntimeError{message: "no 0"}}}] =
               all(into("flood", [], imports: f(function)))

      killed = fn _ctx, _n -> Process.exit(self(), :kill) end

      assert [{:failed, %HostError{kind: :exit, reason: :killed}}] =
               all(into("flood", [], imports: f(killed)))

      assert [{:failed, %CallError{reason: :no_such_export}}] = all(into("nothing"))
      assert mailbox() == []
    end

    test "imports that are missing are told at once" do
      assert {:error, %LinkError{}} = Executor.stream(counting(), "flood", [], into: self())
      assert mailbox() == []
    end

    test "output past its limit is an error after what is within it" do
      function = fn ctx, n -> Host.emit(ctx, "0123456789") && n end
      async = into("flood", [], imports: f(function), max_output: 25)
      assert ["0123456789", "0123456789", {:failed, %LimitError{limit: :output}}] = all(async)
    end

    test "it may be another than the caller, who may go" do
      test = self()

      consumer =
        spawn_link(fn ->
          receive do: ({:async, async} -> send(test, {:all, all(async)}))
        end)

      spawn(fn ->
        {:ok, async} = stream("count", [3], into: consumer)
        send(consumer, {:async, async})
      end)

      assert_receive {:all, ["0", "1", "2", {:done, %Run{result: 3}}]}
      assert mailbox() == []
    end

    test "its calls may be on a live instance" do
      instance = live()
      {:ok, async} = Executor.stream(instance, "count", [2], into: self())
      assert ["0", "1", {:done, %Run{result: 2}}] = all(async)
      assert Instance.call(instance, "calls") == {:ok, 2}

      {:ok, async} = Executor.stream(instance, "flood", [], into: self())
      assert_receive {_, {:output, "0"}}
      assert Executor.cancel(async) == :ok
      eventually(fn -> Instance.poisoned?(instance) end)
    end
  end

  describe "the guest of a stream into a process is gone" do
    test "when that process ends, whatever the guest does" do
      stuck = fn _ctx, _n -> Process.sleep(:infinity) end
      trapping = fn _ctx, _n -> {Process.flag(:trap_exit, true), Process.sleep(:infinity)} end

      for {name, opts} <- [
            # It waits for credit, it never puts out anything, it is in a host function.
            {"flood", [credit: 1]},
            {"spin", []},
            {"then_spin", []},
            {"flood", [imports: f(stuck)]},
            {"flood", [imports: f(trapping)]}
          ],
          how <- [:kill, :shutdown] do
        consumer = spawn(fn -> Process.sleep(:infinity) end)
        {:ok, async} = stream(name, [], forever([into: consumer] ++ opts))
        until_live(1)
        Process.exit(consumer, how)
        quiet()
        dead(async.pid)
      end
    end

    test "when that process was gone before" do
      consumer = spawn(fn -> :ok end)
      dead(consumer)
      {:ok, async} = stream("spin", [], forever(into: consumer))
      dead(async.pid)
      quiet()
    end

    test "when its own process is killed" do
      async = into("flood", [], forever(credit: 1))
      assert_receive {_, {:output, "0"}}
      monitor = Process.monitor(async.pid)
      Process.exit(async.pid, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, :killed}
      quiet()
      assert mailbox() == []
    end

    test "when it is cancelled while it waits for credit, at once" do
      async = into("flood", [], forever(credit: 2))
      assert_still(async, ~w(0 1))
      assert Executor.cancel(async, :enough, grace: never()) == :ok

      assert ["0", "1", {:failed, %CancelledError{reason: :enough, usage: %Usage{}}}] = all(async)
      quiet()
      assert Executor.cancel(async) == :ok
      assert mailbox() == []
    end

    test "when it is cancelled while it waits for credit and its host function had emptied its mailbox" do
      test = self()

      function = fn ctx, n ->
        put(ctx, n)
        send(test, {:inside, self()})
        receive do: (:go -> flush())
        n
      end

      async = into("flood", [], forever(imports: f(function), credit: 1))
      # The first output has used up the credit when the second is put out.
      assert_receive {:inside, runner}
      send(runner, :go)
      assert_receive {:inside, ^runner}
      canceller = Task.async(fn -> Executor.cancel(async, :x, grace: never()) end)
      eventually(fn -> Process.info(runner, :message_queue_len) == {:message_queue_len, 1} end)
      send(runner, :go)
      assert await(canceller) == :ok
      assert ["0" | _] = pieces = all(async)
      assert {:failed, %CancelledError{reason: :x}} = List.last(pieces)
      quiet()
    end

    test "when its deadline passes while it waits for credit" do
      given_time(fn timeout ->
        async = into("flood", [], credit: 1, timeout: timeout)

        assert {pieces, [{:failed, %LimitError{limit: :timeout, allowed: ^timeout}}]} =
                 async |> all() |> Enum.split_while(&is_binary/1)

        pieces == ["0"]
      end)

      quiet()
    end

    test "when it is cancelled in any other place" do
      for name <- ["spin", "then_spin"] do
        async = into(name, [], forever())
        until_live(1)
        assert Executor.cancel(async, :x, grace: never()) == :ok
        assert {:failed, %CancelledError{reason: :x}} = List.last(all(async))
        quiet()
      end

      async = into("count", [1])
      assert ["0", {:done, _}] = all(async)
      assert Executor.cancel(async) == :ok
      assert mailbox() == []
    end
  end

  test "what is wrong with the options is raised at once" do
    for {opts, words} <- [
          {[taged: true], "unknown call option :taged"},
          {[tagged: 1], "option :tagged must be true or false"},
          {[into: :me], "option :into must be a pid"},
          {[into: self(), credit: 0], "option :credit must be an integer from 1"},
          {[credit: 5], "option :credit needs :into"},
          {[run: true], "unknown call option :run"},
          {[timeout: 0], "option :timeout must be"},
          {:none, "must be a keyword list"}
        ] do
      error = assert_raise ArgumentError, fn -> Executor.stream(compute(), "spin", [], opts) end
      assert error.message =~ words
    end

    assert_raise ArgumentError, ~r/name must be a string/, fn ->
      Executor.stream(compute(), :spin)
    end

    assert_raise ArgumentError, ~r/load it first/, fn -> Executor.stream(%{}, "spin") end

    async = into("flood", [], forever())

    for wrong <- [0, -1, 1.0, :all] do
      assert_raise FunctionClauseError, fn -> Executor.demand(async, wrong) end
    end

    Executor.cancel(async)
  end

  def refuse(_ctx, _n), do: raise("refused")
end
