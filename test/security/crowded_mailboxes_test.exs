defmodule Cybernetic.WASM.Security.CrowdedMailboxesTest do
  # A caller may have 100,000 messages waiting, and anyone may send it what looks like one of the library's own. No call may
  # lose, take or wait for any of them. And callers that trap exits get each signal as the message that it is.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}
  import Cybernetic.WASM.Turns, only: [in_line?: 1]

  alias Cybernetic.WASM.{Executor, Host, Instance}
  alias Cybernetic.WASM.{CallError, CancelledError, HostError, LimitError}

  @many 100_000

  defp crowd, do: for(n <- 1..@many, do: send(self(), {:other, n}))

  defp assert_crowd do
    assert Process.info(self(), :message_queue_len) == {:message_queue_len, @many}
    messages = mailbox()
    assert hd(messages) == {:other, 1}
    assert List.last(messages) == {:other, @many}
  end

  defp guest do
    asking(~S"""
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func (export "count") (param i32)
      (loop $l
        (drop (call $f (local.get 0)))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "spin") (loop (br 0)))
    (func (export "fail") unreachable)
    """)
  end

  describe "with 100,000 messages waiting," do
    test "host calls, re-entrance and failures go on as ever" do
      module = guest()
      crowd()
      imports = f(fn ctx, n -> Host.call(ctx, "double", [n]) |> elem(1) end)

      for n <- 1..200 do
        assert Executor.call(module, "run", [n], imports: imports) == {:ok, 2 * n}
      end

      raising = f(fn _ctx, _n -> raise "no" end)
      assert {:error, %HostError{}} = Executor.call(module, "run", [1], imports: raising)

      assert {:error, %LimitError{}} =
               Executor.call(module, "spin", [], imports: imports, timeout: 20)

      assert_crowd()
    end

    test "live instances are called and stood in line for" do
      test = self()
      function = fn _ctx, n -> send(test, self()) && receive(do: (:go -> n)) end
      instance = Instance.new!(guest(), forever(imports: f(function)))
      quick = f(fn _ctx, n -> n end)

      holder = Task.async(fn -> Instance.call(instance, "run", [1]) end)
      assert_receive holding when is_pid(holding)
      crowd()
      assert {:error, %CallError{reason: :busy}} = Instance.call(instance, "double", [1])

      assert {:error, %CallError{reason: :busy}} =
               Instance.call(instance, "double", [1], wait: 20)

      caller = self()
      spawn_link(fn -> eventually(fn -> in_line?(caller) end) && send(holding, :go) end)
      assert Instance.call(instance, "double", [4], wait: never()) == {:ok, 8}
      for n <- 1..100, do: assert(Instance.call(instance, "run", [n], imports: quick) == {:ok, n})
      assert await(holder) == {:ok, 1}
      assert_crowd()
    end

    test "streams are read, to their end and not" do
      module = guest()
      crowd()
      imports = f(fn ctx, n -> Host.emit(ctx, to_string(n)) && n end)
      stream = Executor.stream(module, "count", [500], imports: imports)
      assert Enum.count(stream) == 500
      assert Enum.take(stream, 2) == ["500", "499"]
      assert_crowd()
    end

    test "streams arrive, and asynchronous calls are awaited and cancelled" do
      module = guest()
      crowd()
      imports = f(fn ctx, n -> Host.emit(ctx, to_string(n)) && n end)
      opts = forever(imports: imports)

      {:ok, async} = Executor.stream(module, "count", [3], [into: self()] ++ opts)
      ref = async.ref
      for piece <- ~w(3 2 1), do: assert_receive({^ref, {:output, ^piece}})
      assert_receive {^ref, {:done, _run}}

      assert Executor.await(Executor.async(module, "run", [5], opts)) == {:ok, 5}

      assert {:error, %CancelledError{}} =
               Executor.cancel(Executor.async(module, "spin", [], opts), :x, grace: never())

      assert_crowd()
    end
  end

  test "a process of look-alikes of the library's messages is not misled" do
    # Each of the shapes that the library itself sends, with references that are not its own.
    look_alikes = fn pid ->
      for _ <- 1..100 do
        reference = make_ref()

        for message <- [
              {reference, :wake},
              {reference, :cancelled},
              {reference, {:credit, 1_000_000}},
              {reference, {:ok, 666}},
              {reference, {:output, "forged"}},
              {:cancel, reference, :forged, 0},
              {:credit, reference, 1_000_000},
              {:broke, reference},
              {:DOWN, reference, :process, pid, :forged}
            ],
            do: send(pid, message)
      end
    end

    function = fn ctx, n ->
      look_alikes.(self())
      Host.call(ctx, "double", [n]) |> elem(1)
    end

    look_alikes.(self())
    before = length(mailbox())
    assert Executor.call(guest(), "run", [4], imports: f(function)) == {:ok, 8}
    assert length(mailbox()) == 2 * before

    # Those that are sent to the process of an asynchronous call, by anyone who knows it.
    test = self()
    held = fn n -> send(test, {:held, self()}) && receive(do: (:go -> n)) end
    slow = fn _ctx, n -> held.(n) end
    waiting = fn _ctx, n -> Task.async(fn -> held.(n) end) end

    for function <- [slow, {waiting, async: true}] do
      async = Executor.async(guest(), "run", [4], imports: f(function))
      assert_receive {:held, pid}
      look_alikes.(async.pid)
      send(pid, :go)
      assert Executor.await(async) == {:ok, 4}
    end
  end

  describe "a caller that traps exits" do
    setup do
      Process.flag(:trap_exit, true)
      :ok
    end

    # A host function during which an exit signal comes.
    defp signalled(reason) do
      fn ctx, n ->
        caller = self()
        spawn_link(fn -> exit(reason) end)
        eventually(fn -> Enum.any?(mailbox(), &match?({:EXIT, _, ^reason}, &1)) end)
        {:ok, double} = Host.call(ctx, "double", [n])
        assert caller == self()
        double
      end
    end

    test "gets the signals of a call as messages, and the call goes on" do
      imports = f(signalled(:first))
      assert Executor.call(guest(), "run", [3], imports: imports) == {:ok, 6}
      assert [{:EXIT, _, :first}] = mailbox()

      instance = Instance.new!(guest(), imports: f(signalled(:second)))
      assert Instance.call(instance, "run", [3]) == {:ok, 6}
      assert [{:EXIT, _, :first}, {:EXIT, _, :second}] = mailbox()
      refute Instance.poisoned?(instance)
    end

    test "gets the signals of a stream as messages, and the stream goes on" do
      imports =
        f(fn ctx, n ->
          Host.emit(ctx, "x")
          signalled({:of, n}).(ctx, n)
        end)

      assert guest() |> Executor.stream("count", [3], imports: imports) |> Enum.join() == "xxx"
      assert [{:EXIT, _, {:of, 3}}, {:EXIT, _, {:of, 2}}, {:EXIT, _, {:of, 1}}] = mailbox()
    end

    test "gets one signal of a linked asynchronous call, as of any task" do
      imports = f(fn _ctx, n -> n end)

      for {name, args} <- [{"run", [1]}, {"fail", []}] do
        async = Executor.async(guest(), name, args, imports: imports)
        assert {_, _} = Executor.await(async)
        pid = async.pid
        assert_receive {:EXIT, ^pid, :normal}
      end

      async = Executor.async(guest(), "spin", [], forever(imports: imports))
      assert {:error, %CancelledError{}} = Executor.cancel(async)
      pid = async.pid
      assert_receive {:EXIT, ^pid, :normal}
      assert mailbox() == []
    end

    test "is told of its deadline like others, however many signals come" do
      imports = f(fn _ctx, n -> n end)

      spawn_link(fn ->
        for n <- 1..20, do: Process.sleep(1) && n
        exit(:after_twenty)
      end)

      assert {:error, %LimitError{limit: :timeout}} =
               Executor.call(guest(), "spin", [], forever(imports: imports, timeout: 60))

      assert_receive {:EXIT, _, :after_twenty}
    end
  end
end
