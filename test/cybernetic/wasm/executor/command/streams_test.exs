defmodule Cybernetic.WASM.Executor.Command.StreamsTest do
  # Commands that are read while they run. Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Commands, Eventually, Guests, Plenty, Programs, Streams}

  alias Cybernetic.WASM.{Denial, Executor, Host, Run, Runtime, Sandbox}
  alias Cybernetic.WASM.{CancelledError, DeniedError, HostError, LimitError}

  setup :quiet_node

  # What `mix` puts out.
  @mixed [
    stdout: "a",
    stderr: "b",
    output: "c",
    stdout: "d",
    stdout: "e",
    output: "f",
    stderr: "g"
  ]

  describe "a stream" do
    test "gives each write, bare or tagged, in the order in which things were put out" do
      stream = fn opts ->
        Executor.stream(guest(), "mix", [], options([imports: f(&emit/2)] ++ opts))
      end

      assert Enum.to_list(stream.([])) == ~w(a b c d e f g)

      assert {@mixed, [done: run]} = Enum.split(Enum.to_list(stream.(tagged: true)), 7)
      assert %Run{result: nil, exit_code: nil, stdout: "", stderr: "", output: ""} = run
    end

    test "of a command ends with its run" do
      assert [stdout: "x", stdout: "\n", done: %Run{exit_code: 0} = run] =
               Executor.stream(program("tool"), :start, [],
                 args: ["args", "x"],
                 tagged: true,
                 sandbox: sandbox()
               )
               |> Enum.to_list()

      assert run.usage.host_calls > 2

      assert [done: %Run{exit_code: 9}] =
               Executor.stream(program("tool"), :start, [],
                 args: ["exit", "9"],
                 tagged: true,
                 sandbox: sandbox()
               )
               |> Enum.to_list()

      assert Executor.stream(program("tool"), :start, [], args: ["exit", "9"], sandbox: sandbox())
             |> Enum.to_list() == []
    end

    test "takes its own options beside the command's arguments" do
      assert [_, _, {:done, %Run{}}] =
               Executor.stream(program("tool"), :start,
                 args: ["args", "x"],
                 sandbox: sandbox(),
                 tagged: true
               )
               |> Enum.to_list()

      assert {:ok, %Run{stdout: "x\n"}} =
               Executor.async(program("tool"), :start,
                 args: ["args", "x"],
                 sandbox: sandbox(),
                 run: true
               )
               |> Executor.await()

      {:ok, %{ref: ref}} =
        Executor.stream(program("tool"), :start,
          args: ["args", "x"],
          sandbox: sandbox(),
          into: self(),
          credit: 5
        )

      assert_receive {^ref, {:done, %Run{exit_code: 0}}}
    end

    test "puts what re-entrant calls write between what the host function emits" do
      function = fn ctx, n ->
        Host.emit(ctx, "<")
        {:ok, 0} = Host.call(ctx, "put", [1, n])
        {:ok, 0} = Host.call(ctx, "put", [2, n])
        Host.emit(ctx, ">")
        n
      end

      assert [output: "<", stdout: "*", stderr: "*", output: ">", done: %Run{result: 42}] =
               Executor.stream(guest(), "ask", [42], options(imports: f(function), tagged: true))
               |> Enum.to_list()
    end

    test "is told apart from the run of a guest that was refused something" do
      sandbox = sandbox(stdio: [stderr: :captured])

      assert [{:stderr, "flood badf\n"} | rest] =
               Executor.stream(program("tool"), :start, [],
                 args: ["flood", "10"],
                 tagged: true,
                 sandbox: sandbox
               )
               |> Enum.to_list()
               |> joined()

      assert [done: %Run{exit_code: 1, denials: [%Denial{operation: "fd_write", errno: :badf}]}] =
               rest
    end

    test "is lazy: nothing runs before the first element is asked for" do
      stream =
        Executor.stream(guest(), "echo", [], options(stdin: source(["a"]), imports: told()))

      assert Enum.take(stream, 0) == []
      assert mailbox() == []
      assert Runtime.stats().live_instances == 0
    end

    test "never lets the guest run ahead of its reader" do
      stream =
        Executor.stream(
          guest(),
          "echo",
          [],
          options(stdin: source(["a", "b", "c"]), imports: told())
        )

      {"a", continue} = next(stream)
      assert mailbox() == [:called, :opened, {:pulled, "a"}]
      flush()
      {"b", continue} = next(continue)
      assert mailbox() == [:called, {:pulled, "b"}]
      flush()
      {"c", continue} = next(continue)
      assert mailbox() == [:called, {:pulled, "c"}]
      flush()
      assert next(continue) == :ended
      assert mailbox() == [:called, :closed]
    end

    test "of ever more output is as long as its reader likes, who then unwinds the guest" do
      stream = Executor.stream(guest(), "flood", [], options(imports: told()))
      assert Enum.take(stream, 5) == ~w(x x x x x)
      assert length(mailbox()) == 5
      quiet()

      assert Executor.stream(program("tool"), :start, args: ["flood-forever"], sandbox: sandbox())
             |> Stream.map(&byte_size/1)
             |> Enum.take(3) == [65_536, 65_536, 65_536]

      quiet()
    end

    test "closes the input when its reader has enough" do
      stream = Executor.stream(guest(), "echo", [], options(stdin: endless("x")))
      assert Enum.take(stream, 2) == ["x", "x"]
      assert mailbox() == [:opened, {:pulled, 0}, {:pulled, 1}, :closed]
      flush()

      # Also where it stops in the middle of something else.
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _ -> raise "enough" end) end
      assert mailbox() == [:opened, {:pulled, 0}, :closed]
    end

    test "raises what went wrong with the input, after what came before" do
      stdin =
        Stream.map(source(["a", "b", "c"]), fn piece ->
          if piece == "c", do: raise("no"), else: piece
        end)

      stream = Executor.stream(guest(), "echo", [], options(stdin: stdin))
      {"a", continue} = next(stream)
      {"b", continue} = next(continue)
      assert_raise RuntimeError, "no", fn -> next(continue) end
      assert List.last(mailbox()) == :closed
    end

    test "can be read more than once, and twice at the same time" do
      stream =
        Executor.stream(program("tool"), :start,
          args: ["upper"],
          stdin: Stream.map(["a\n", "b\n", "c\n"], & &1),
          sandbox: sandbox()
        )

      for _ <- 1..2, do: assert(Enum.to_list(stream) == ["A\n", "B\n", "C\n"])
      assert Enum.zip(stream, stream) == [{"A\n", "A\n"}, {"B\n", "B\n"}, {"C\n", "C\n"}]
    end

    test "that nothing can come of raises when it is read, not before" do
      stream = Executor.stream(program("tool"), :start, args: ["args"])
      assert_raise DeniedError, fn -> Enum.to_list(stream) end
    end

    # A C library may write in pieces.
    defp joined([{kind, one}, {kind, other} | rest]) when is_binary(one),
      do: joined([{kind, one <> other} | rest])

    defp joined(pieces), do: pieces
  end

  describe "a stream to a process" do
    test "sends each write, tagged, and the run" do
      options = options(imports: f(&emit/2), into: self(), credit: 100)
      {:ok, %{ref: ref}} = Executor.stream(guest(), "mix", [], options)

      for piece <- @mixed, do: assert_receive({^ref, ^piece})
      assert_receive {^ref, {:done, %Run{}}}
    end

    test "lets the guest go no further than the credit reaches" do
      options = options(imports: told(), stdin: endless("x"), into: self(), credit: 2)
      {:ok, %{ref: ref} = async} = Executor.stream(guest(), "echo", [], options)
      for _ <- 1..2, do: assert_receive({^ref, {:stdout, "x"}})
      # The third is written, and waits for credit: it was read for before.
      eventually(fn -> pulled() == 3 and standing_still?(async) end)
      refute_received {^ref, _}
      assert pulled() == 3

      Executor.demand(async, 3)
      for _ <- 1..3, do: assert_receive({^ref, {:stdout, "x"}})
      eventually(fn -> pulled() == 6 and standing_still?(async) end)
      refute_received {^ref, _}
      assert Executor.cancel(async) == :ok
      assert_receive {^ref, {:failed, %CancelledError{}}}
      assert_receive :closed
    end

    test "sends what went wrong, after what came before" do
      stdin =
        Stream.map(["a", "b"], fn piece -> if piece == "b", do: raise("no"), else: piece end)

      {:ok, %{ref: ref}} =
        Executor.stream(guest(), "echo", [], options(stdin: stdin, into: self()))

      assert_receive {^ref, {:stdout, "a"}}
      assert_receive {^ref, {:failed, %HostError{reason: %RuntimeError{message: "no"}}}}
    end

    test "ends with its consumer" do
      test = self()

      {consumer, monitor} =
        spawn_monitor(fn ->
          {:ok, async} =
            Executor.stream(
              guest(),
              "flood",
              [],
              options(into: self(), credit: 1, timeout: never())
            )

          send(test, async)
          receive do: (:stop -> :ok)
        end)

      assert_receive %{pid: pid}
      ended = Process.monitor(pid)
      send(consumer, :stop)
      assert_receive {:DOWN, ^monitor, :process, _, :normal}
      assert_receive {:DOWN, ^ended, :process, _, _}
      quiet()
    end

    defp pulled do
      {:messages, messages} = Process.info(self(), :messages)
      Enum.count(messages, &match?({:pulled, _}, &1))
    end
  end

  describe "a stream of linked modules" do
    test "tells at its end what their start functions were refused" do
      lib =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func $go (drop (call $random (i32.const 0) (i32.const 8))))
          (start $go)
          (func (export "f")))
        """)

      main = load!(~S|(module (import "lib" "f" (func)) (func (export "_start")))|)
      options = [imports: %{"lib" => lib}, sandbox: Sandbox.new(stdio: :captured), tagged: true]

      assert [{:done, %Run{denials: [%Denial{operation: "random_get", capability: :random}]}}] =
               main |> Executor.stream(:start, options) |> Enum.to_list()
    end
  end

  describe "an asynchronous command" do
    test "gives its exit code, or its run" do
      start =
        &Executor.async(
          program("tool"),
          :start,
          [],
          [args: ["exit", "3"], sandbox: sandbox()] ++ &1
        )

      assert Executor.await(start.([])) == {:ok, 3}
      assert {:ok, %Run{exit_code: 3}} = Executor.await(start.(run: true))
    end

    test "is cancelled while it sleeps" do
      options = [args: ["sleep", "3600000"], sandbox: sandbox(timeout: never())]
      call = Executor.async(program("tool"), :start, options)
      until_live(1)
      assert Executor.yield(call, 0) == nil
      assert {:error, %CancelledError{reason: :cancelled}} = Executor.cancel(call)
      quiet()
    end

    test "is ended by its deadline while its input does not come" do
      options = [
        args: ["cat"],
        stdin: Stream.map([1], fn _ -> Process.sleep(:infinity) end),
        sandbox: sandbox(),
        timeout: 100
      ]

      call = Executor.async(program("tool"), :start, options)
      assert {:error, %LimitError{limit: :timeout, allowed: 100}} = Executor.await(call)
      quiet()
    end

    test "is one of many, each with its own arguments" do
      codes =
        program("tool")
        |> Executor.async_stream(:start, for(n <- 1..10, do: ["exit", to_string(n)]),
          sandbox: sandbox()
        )

      assert Enum.to_list(codes) == for(n <- 1..10, do: {:ok, n})

      # Each pulls an input of its own.
      options = [stdin: Stream.map(1..3, &to_string/1), sandbox: sandbox()]

      assert program("tool")
             |> Executor.async_stream(:start, [["cat"], ["upper"]], options)
             |> Enum.to_list() == [{:ok, 0}, {:ok, 0}]

      for element <- ["exit", :exit, [:exit], ["a\0b"]] do
        assert_raise ArgumentError, fn ->
          program("tool")
          |> Executor.async_stream(:start, [element], sandbox: sandbox())
          |> Enum.to_list()
        end
      end
    end
  end
end
