defmodule Cybernetic.WASM.Executor.Command.StdinTest do
  # Not async: it counts the node's live guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Commands, Eventually, Guests, Plenty, Programs, Streams}

  alias Cybernetic.WASM.{Denial, Executor, Host, Run}
  alias Cybernetic.WASM.{CancelledError, DeniedError, HostError, LimitError, TrapError}

  setup :quiet_node

  describe "standard input" do
    test "is a binary" do
      assert cat!("some\0bytes" <> <<255, 254>>) == "some\0bytes" <> <<255, 254>>
      assert cat!("") == ""
    end

    test "is empty where none is given" do
      assert run!("tool", ["cat"]).stdout == ""
      assert call("take", [10, 3], []) == {:ok, 0}
    end

    test "is iodata" do
      assert cat!([?a, ["b", [<<"c">> | "d"]], [], 'ef']) == "abcdef"
      assert cat!(["one\n", "two\n"]) == "one\ntwo\n"
      assert cat!(["improper" | "tail"]) == "impropertail"
      assert cat!([]) == ""
    end

    test "is large" do
      large = :binary.copy(<<0, 1, 2, 250>>, 2_000_000)
      opts = [sandbox: sandbox(max_output: 10_000_000)]
      assert cat!(large, opts) == large
      # In one piece of an enumerable, and in many.
      assert cat!(Stream.map([large], & &1), opts) == large
      assert cat!(Stream.map(1..800, fn _ -> :binary.part(large, 0, 10_000) end), opts) == large
    end

    test "is an enumerable of iodata" do
      assert cat!(Stream.map(1..1_000, &["line ", to_string(&1), ?\n])) ==
               Enum.map_join(1..1_000, &"line #{&1}\n")

      assert cat!(MapSet.new(["only"])) == "only"
      assert cat!(Stream.map([], & &1)) == ""

      assert cat!(fn acc, reducer -> Enumerable.reduce(["from a ", "function"], acc, reducer) end) ==
               "from a function"
    end

    test "is a file, by lines or by pieces" do
      path = Path.join(directory(), "input")
      text = Enum.map_join(1..5_000, &"zeile #{&1} äöü\n")
      File.write!(path, text)
      assert cat!(File.stream!(path)) == text
      assert cat!(File.stream!(path, [], 1_000)) == text

      assert run!("tool", ["upper"], stdin: File.stream!(path)).stdout ==
               String.upcase(text, :ascii)
    end

    test "is what another command puts out" do
      shouted =
        Executor.stream(program("tool"), :start,
          args: ["upper"],
          stdin: source(["a\n", "b\n"]),
          sandbox: sandbox()
        )

      assert cat!(shouted) == "A\nB\n"
      assert_received :closed
    end

    test "is given to a function that is no command" do
      assert take(100, 1, "abc") == {:ok, 3}
      assert take(2, 1, "abc") == {:ok, 2}
      assert take(2, 5, "abc") == {:ok, 3}
    end

    test "is not there without the grant: who gives it is told" do
      sandbox = sandbox(stdio: [stdout: :captured, stderr: :captured])

      for stdin <- ["x", ["x"], source(["x"])] do
        assert {:error, %DeniedError{capability: :stdio} = error} = cat(stdin, sandbox: sandbox)
        assert Exception.message(error) =~ "stdin:"
      end

      assert mailbox() == []

      assert {:ok, %Run{exit_code: 1, stdout: "", stderr: "cat badf\n", denials: denials}} =
               run("tool", ["cat"], sandbox: sandbox)

      assert [%Denial{capability: :stdio, operation: "fd_read", detail: "stdin", errno: :badf}] =
               denials
    end

    test "must be something that can be read" do
      for stdin <- [
            42,
            1.5,
            :eof,
            {"x"},
            self(),
            %{},
            %{"a" => "b"},
            [1.5],
            [256],
            ["a", :b],
            fn -> "x" end
          ] do
        assert_raise ArgumentError,
                     ~r/option :stdin must be iodata, an Enumerable of it/,
                     fn ->
                       cat(stdin)
                     end
      end
    end
  end

  describe "an enumerable as standard input" do
    test "is not opened before the guest reads" do
      assert run!("tool", ["args", "x"], stdin: source(["never"])).stdout == "x\n"
      assert take(10, 0, source(["never"])) == {:ok, 0}
      assert mailbox() == []
    end

    test "is pulled exactly as far as the guest reads, and then closed" do
      for {size, times, sum, pulled} <- [
            {2, 1, 2, ["ab"]},
            # A read gives what there is, as on a pipe.
            {100, 1, 2, ["ab"]},
            {1, 1, 1, ["ab"]},
            {1, 2, 2, ["ab"]},
            {1, 3, 3, ["ab", "cd"]},
            {2, 2, 4, ["ab", "cd"]},
            {3, 2, 4, ["ab", "cd"]}
          ] do
        assert take(size, times, source(["ab", "cd", "ef", "gh"])) == {:ok, sum}
        assert mailbox() == [:opened] ++ Enum.map(pulled, &{:pulled, &1}) ++ [:closed]
        flush()
      end
    end

    test "comes to its end once, however often the guest reads on" do
      assert take(10, 20, source(["ab", "c"])) == {:ok, 3}
      assert mailbox() == [:opened, {:pulled, "ab"}, {:pulled, "c"}, :closed]
    end

    test "may be without an end: the guest need not read to it" do
      assert take(1, 5, endless("xy")) == {:ok, 5}
      assert mailbox() == [:opened, {:pulled, 0}, {:pulled, 1}, {:pulled, 2}, :closed]
    end

    test "may give pieces of nothing, which are no end" do
      assert cat!(source(["", "a", "", [], "", "b", ""])) == "ab"
      # As many as it takes until there is something.
      assert take(1, 1, Stream.concat(Stream.map(1..5_000, fn _ -> "" end), source(["x"]))) ==
               {:ok, 1}
    end

    test "of nothing but pieces of nothing is ended by the deadline" do
      given_time(fn timeout ->
        assert {:error, %LimitError{limit: :timeout}} =
                 call("take", [1, 1], stdin: endless(""), timeout: timeout)

        told = mailbox()
        flush()
        :opened in told and List.last(told) == :closed
      end)

      quiet()
    end

    test "is read by the process that makes the call" do
      reader = fn -> Stream.map([1], fn _ -> inspect(self()) end) end
      assert cat!(reader.()) == inspect(self())

      options = [run: true, args: ["cat"], stdin: reader.(), sandbox: sandbox()]
      {:ok, run} = program("tool") |> Executor.async(:start, [], options) |> Executor.await()
      assert run.stdout =~ "#PID<" and run.stdout != inspect(self())
    end

    test "is shared by the guest and its re-entrant calls" do
      function = fn ctx, times ->
        {:ok, sum} = Host.call(ctx, "take", [2, times])
        sum
      end

      # One byte is read before the host function, so the rest of that piece is read inside it.
      assert call("take_then_call", [3],
               imports: f(function),
               stdin: source(["ab", "cd", "ef", "gh"])
             ) == {:ok, 5}

      assert mailbox() == [:opened, {:pulled, "ab"}, {:pulled, "cd"}, {:pulled, "ef"}, :closed]
    end

    test "belongs to one call, also where a host function makes another" do
      function = fn _ctx, _n ->
        {:ok, 4} = take(2, 2, source(["12", "34", "56"]))
        4
      end

      assert call("take_then_call", [0], imports: f(function), stdin: source(["ab", "cd"])) ==
               {:ok, 4}

      assert mailbox() ==
               [
                 :opened,
                 {:pulled, "ab"},
                 :opened,
                 {:pulled, "12"},
                 {:pulled, "34"},
                 :closed,
                 :closed
               ]
    end

    test "is begun anew by each call that is given it" do
      stdin = source(["a", "b"])
      assert cat!(stdin) == "ab"
      assert cat!(stdin) == "ab"
    end

    test "that raises, exits or throws ends the guest, and is told as it was" do
      for {kind, reason, fail} <- [
            {:error, %RuntimeError{message: "no more"}, fn -> raise "no more" end},
            {:exit, :gone, fn -> exit(:gone) end},
            {:throw, :away, fn -> throw(:away) end}
          ] do
        stdin =
          Stream.map(source(["a", "b", "c"]), fn piece ->
            if piece == "b", do: fail.(), else: piece
          end)

        assert {:error, %HostError{kind: ^kind, reason: ^reason, blame: :host} = error} =
                 cat(stdin)

        assert error.import == {"wasi_snapshot_preview1", "fd_read"}
        assert Enum.any?(error.stacktrace, &match?({__MODULE__, _, _, _}, &1))
        assert Exception.message(error) =~ "standard input (option :stdin) failed: "
        assert mailbox() == [:opened, {:pulled, "a"}, {:pulled, "b"}, :closed]
        flush()
      end

      assert_raise RuntimeError, "at once", fn ->
        Executor.run!(program("tool"), :start,
          args: ["cat"],
          sandbox: sandbox(),
          stdin: Stream.map([1], fn _ -> raise "at once" end)
        )
      end

      quiet()
    end

    test "that cannot be opened is told" do
      stdin = Stream.resource(fn -> raise "locked" end, & &1, & &1)
      assert {:error, %HostError{reason: %RuntimeError{message: "locked"}}} = cat(stdin)

      assert {:error, %HostError{reason: %File.Error{reason: :enoent}}} =
               cat(File.stream!("/no/such/file"))
    end

    test "that fails in a re-entrant call ends the whole" do
      test = self()

      function = fn ctx, _n ->
        try do
          Host.call(ctx, "take", [1, 1])
          send(test, :went_on)
        after
          send(test, :left)
        end
      end

      stdin = Stream.map([1], fn _ -> raise "no" end)

      assert {:error, %HostError{reason: %RuntimeError{message: "no"}}} =
               call("ask", [0], imports: f(function), stdin: stdin)

      assert mailbox() == [:left]
    end

    test "that gives what is no iodata is closed, and the element is named" do
      for wrong <- [:no, 42, ["a", :b], {"a"}, nil] do
        assert {:error, %HostError{kind: :error} = error} = cat(source(["a", wrong, "c"]))
        assert error.import == {"wasi_snapshot_preview1", "fd_read"}
        assert mailbox() == [:opened, {:pulled, "a"}, {:pulled, wrong}, :closed]
        flush()
      end

      quiet()
    end

    test "that fails when it is closed is told, unless something else ended the call" do
      stdin = fn -> Stream.resource(fn -> nil end, &{["x"], &1}, fn _ -> raise "closing" end) end

      assert {:error, %HostError{reason: %RuntimeError{message: "closing"}}} =
               call("take", [1, 1], stdin: stdin.())

      assert {:error, %TrapError{code: :unreachable}} =
               call("take_then_trap", [], stdin: stdin.())
    end

    test "is one for all parts of a call that links modules" do
      take = ~S"""
      (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\10\00\00\00\01\00\00\00")
      (func $take (result i32)
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.load8_u (i32.const 16)))
      """

      lib =
        load!("(module #{take} (func $go (drop (call $take))) (start $go) (func (export \"f\")))")

      main =
        load!(
          ~s|(module (import "lib" "f" (func)) #{take} (func (export "take") (result i32) (call $take)))|
        )

      assert {:ok, ?b} =
               Executor.call(main, "take", [],
                 imports: %{"lib" => lib},
                 stdin: Stream.map(["a", "b", "c"], & &1),
                 sandbox: sandbox()
               )
    end

    test "is closed when the guest ends, however it does" do
      for {name, opts, expected} <- [
            {"take_then_trap", [], %TrapError{code: :unreachable}},
            {"take_then_spin", [fuel: 1_000_000], %LimitError{limit: :fuel}}
          ] do
        assert {:error, error} = call(name, [], [stdin: endless("x")] ++ opts)
        assert Map.take(error, [:code, :limit]) == Map.take(expected, [:code, :limit])
        assert mailbox() == [:opened, {:pulled, 0}, :closed]
        flush()
      end

      given_time(fn timeout ->
        opts = [stdin: endless("x"), timeout: timeout, sandbox: sandbox(fuel: plenty())]
        assert {:error, %LimitError{limit: :timeout}} = call("take_then_spin", [], opts)
        told = mailbox()
        flush()
        told == [:opened, {:pulled, 0}, :closed]
      end)

      assert {:error, %HostError{}} =
               call("take_then_call", [1],
                 stdin: endless("x"),
                 imports: f(fn _, _ -> raise "no" end)
               )

      assert mailbox() == [:opened, {:pulled, 0}, :closed]
      flush()

      # An endless input ends with the room for output.
      assert {:error, %LimitError{limit: :output}} =
               cat(endless(String.duplicate("x", 10_000)), max_output: 55_000)

      assert List.last(mailbox()) == :closed
      assert Enum.count(mailbox(), &match?({:pulled, _}, &1)) == 6
      quiet()
    end

    test "is closed when an asynchronous call is cancelled" do
      # Slow enough that no limit ends it before.
      function = fn _ctx, n -> Process.sleep(1) && n end

      options =
        options(
          stdin: endless("x"),
          imports: f(function),
          sandbox: sandbox(timeout: never(), fuel: plenty())
        )

      call = Executor.async(guest(), "echo", [], options)
      assert_receive {:pulled, 1}

      assert {:error, %CancelledError{reason: :enough}} =
               Executor.cancel(call, :enough, grace: never())

      assert_received :closed
    end
  end
end
