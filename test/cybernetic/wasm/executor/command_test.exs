defmodule Cybernetic.WASM.Executor.CommandTest do
  # Not async: it counts the node's live guests, and captures the VM's standard error.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Programs, Streams}
  import ExUnit.CaptureIO, only: [with_io: 2]

  alias Cybernetic.WASM.{Denial, Executor, Host, Instance, Run, Sandbox}
  alias Cybernetic.WASM.{CallError, CancelledError, DeniedError, HostError, LimitError, TrapError}

  # Each export does one thing at a time with the standard streams, so that what the guest has done can be told from outside.
  # `take SIZE TIMES` reads so often into a buffer of that size and gives the sum of what it read. `put FD BYTE` writes one
  # byte. `env.f` is called as the names say.
  @wat ~S"""
  (module
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "env" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 4)

    (func $read (param $size i32) (result i32)
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (local.get $size))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return (i32.const -1))))
      (i32.load (i32.const 8)))

    (func $write (param $fd i32) (param $at i32) (param $len i32) (result i32)
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $len))
      (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))

    (func $put (export "put") (param $fd i32) (param $byte i32) (result i32)
      (i32.store8 (i32.const 16) (local.get $byte))
      (call $write (local.get $fd) (i32.const 16) (i32.const 1)))

    (func (export "take") (param $size i32) (param $times i32) (result i32) (local $sum i32)
      (block $done
        (loop $again
          (br_if $done (i32.eqz (local.get $times)))
          (local.set $sum (i32.add (local.get $sum) (call $read (local.get $size))))
          (local.set $times (i32.sub (local.get $times) (i32.const 1)))
          (br $again)))
      (local.get $sum))

    (func (export "take_then_spin") (drop (call $read (i32.const 1))) (loop (br 0)))
    (func (export "take_then_trap") (drop (call $read (i32.const 1))) unreachable)
    (func (export "take_then_call") (param i32) (result i32) (drop (call $read (i32.const 1))) (call $f (local.get 0)))

    ;; Writes what it reads, `f` before each read and between.
    (func (export "echo") (result i32) (local $len i32)
      (loop $again
        (drop (call $f (i32.const 0)))
        (local.set $len (call $read (i32.const 1024)))
        (if (local.get $len)
          (then
            (drop (call $write (i32.const 1) (i32.const 1024) (local.get $len)))
            (br $again))))
      (local.get $len))

    ;; Output of all three kinds, in turn: `f` emits.
    (func (export "mix")
      (drop (call $put (i32.const 1) (i32.const 97)))
      (drop (call $put (i32.const 2) (i32.const 98)))
      (drop (call $f (i32.const 99)))
      (drop (call $put (i32.const 1) (i32.const 100)))
      (drop (call $put (i32.const 1) (i32.const 101)))
      (drop (call $f (i32.const 102)))
      (drop (call $put (i32.const 2) (i32.const 103))))

    (func (export "mix_then_trap")
      (drop (call $put (i32.const 1) (i32.const 111)))
      (drop (call $put (i32.const 2) (i32.const 101)))
      (drop (call $f (i32.const 42)))
      unreachable)

    (func (export "mix_then_spin")
      (drop (call $put (i32.const 1) (i32.const 111)))
      (drop (call $put (i32.const 2) (i32.const 101)))
      (drop (call $f (i32.const 42)))
      (loop (br 0)))

    (func (export "mix_then_sleep")
      (drop (call $put (i32.const 1) (i32.const 111)))
      (drop (call $put (i32.const 2) (i32.const 101)))
      (drop (call $f (i32.const 42)))
      ;; a relative monotonic clock, due in a hundred days
      (i32.store8 (i32.const 40) (i32.const 0))
      (i32.store (i32.const 48) (i32.const 1))
      (i64.store (i32.const 56) (i64.const 8640000000000000))
      (drop (call $poll (i32.const 32) (i32.const 128) (i32.const 1) (i32.const 8))))

    (func (export "flood") (loop $again (drop (call $f (i32.const 0))) (drop (call $put (i32.const 1) (i32.const 120))) (br $again)))
    (func (export "quit") (param i32) (drop (call $put (i32.const 1) (i32.const 113))) (call $exit (local.get 0)))
    (func (export "ask") (param i32) (result i32) (call $f (local.get 0)))

    ;; Writes its arguments, each ended by a zero byte, then asks `f` for its exit code.
    (func (export "_start")
      (drop (call $args_sizes (i32.const 64) (i32.const 68)))
      (drop (call $args (i32.const 1024) (i32.const 4096)))
      (drop (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 68))))
      (call $exit (call $f (i32.const 0)))))
  """

  setup :quiet_node

  defp guest, do: load!(@wat)

  defp options(opts),
    do: Keyword.merge([imports: f(fn _ctx, n -> n end), sandbox: sandbox()], opts)

  defp call(name, args, opts), do: Executor.call(guest(), name, args, options(opts))
  defp take(size, times, stdin), do: call("take", [size, times], stdin: stdin)

  defp cat(stdin, opts \\ []),
    do: run("tool", ["cat"], [stdin: stdin] ++ opts)

  defp run_async(guest, args, opts) do
    "test/fixtures/wasi/#{guest}.wasm"
    |> Cybernetic.WASM.Runtime.load_module!()
    |> Executor.async(:start, [args: args] ++ opts)
  end

  defp cat!(stdin, opts \\ []) do
    {:ok, %Run{exit_code: 0, stderr: ""} = run} = cat(stdin, opts)
    run.stdout
  end

  defp emit(ctx, byte), do: Host.emit(ctx, <<byte>>) && 0

  describe "a command's arguments" do
    test "come after the program's name" do
      options =
        options(args: ["one", "", "zwei drei", "čtyři", "-x=\"y\""], imports: f(fn _, _ -> 0 end))

      assert {:ok, run} = Executor.run(guest(), :start, options)

      assert run.stdout == "main.wasm\0one\0\0zwei drei\0čtyři\0-x=\"y\"\0"
      assert {:ok, %Run{stdout: "main.wasm\0"}} = Executor.run(guest(), :start, options(args: []))

      assert {:ok, %Run{stdout: "main.wasm\0"}} =
               Executor.run(guest(), :start, options([]) |> Keyword.delete(:args))
    end

    test "have the file's name before them where the module is from one" do
      path = Path.join(directory(), "named.wat")
      File.write!(path, @wat)
      module = Cybernetic.WASM.Runtime.load_module!(path)
      {:ok, run} = Executor.run(module, :start, options(args: ["x"]))
      assert [name, "x", ""] = String.split(run.stdout, <<0>>)
      assert name == module.name
    end

    test "may be given as the third argument or the fourth" do
      for call <- [
            fn ->
              Executor.run(program("tool"), :start, args: ["args", "x"], sandbox: sandbox())
            end,
            fn ->
              Executor.run(program("tool"), :start, [args: ["args", "x"]], sandbox: sandbox())
            end,
            fn ->
              Executor.run(program("tool"), :start, [], args: ["args", "x"], sandbox: sandbox())
            end
          ] do
        assert {:ok, %Run{stdout: "x\n", exit_code: 0, result: nil}} = call.()
      end
    end

    test "reach a function that is no command, too" do
      module =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "count") (result i32)
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (i32.load (i32.const 0))))
        """)

      assert Executor.call(module, "count", [], sandbox: :command, args: ["a", "b"]) == {:ok, 3}
      assert Executor.call(module, "count", [], sandbox: :command) == {:ok, 1}
    end

    test "are many, within the bound" do
      args = for n <- 1..2_000, do: "argument #{n}"
      assert run!("tool", ["args" | args]).stdout == Enum.map_join(args, &"#{&1}\n")
    end

    test "must be proper text" do
      for args <- ["x", ["x" | "y"], [:x], [?x], [["x"]], ["a\0b"], [<<255>>], nil, %{}] do
        assert_raise ArgumentError, ~r/option :args must be a list of UTF-8 strings/, fn ->
          run("tool", args)
        end
      end

      assert_raise ArgumentError, ~r/131072 bytes/, fn ->
        run("tool", [String.duplicate("x", 131_072)])
      end
    end
  end

  describe "a command's environment" do
    test "is what the call gives, and nothing of the VM's" do
      System.put_env("CYBERNETIC_WASM_TEST", "the VM's")
      env = %{"LANG" => "C", "EMPTY" => "", "MODE" => "a=b ö"}
      options = [sandbox: sandbox(env: :any), env: env]
      assert run!("tool", ["env"], options).stdout == "EMPTY=\nLANG=C\nMODE=a=b ö\n"
      assert run!("tool", ["env"], sandbox: sandbox(env: :any)).stdout == ""
      assert run!("tool", ["env"]).stdout == ""
      assert run!("tool", ["env"], sandbox: :command, env: [{"A", "1"}]).stdout == "A=1\n"
    end

    test "joins the sandbox's own" do
      sandbox = sandbox(env: [{"A", "1"}, {"B", "2"}])
      assert run!("tool", ["env"], sandbox: sandbox).stdout == "A=1\nB=2\n"
      # The very value that is granted may be given.
      assert run!("tool", ["env"], sandbox: sandbox, env: %{"A" => "1"}).stdout == "A=1\nB=2\n"
    end

    test "holds no more than the sandbox grants, and the refusal shows no value" do
      for {sandbox, names} <- [
            {sandbox(), "A, B"},
            {sandbox(env: [{"A", "hunter2"}]), "B"},
            {sandbox(env: [{"A", "other"}]), "A, B"}
          ] do
        assert {:error, %DeniedError{capability: :env} = error} =
                 run("tool", ["env"], sandbox: sandbox, env: %{"A" => "hunter2", "B" => "hunter3"})

        assert Exception.message(error) =~ "the call gives #{names};"
        refute Exception.message(error) =~ "hunter"
      end
    end

    test "must be names and values" do
      for env <- [
            %{"A" => 1},
            %{"A=B" => "1"},
            %{"" => "1"},
            %{"A" => "1\0"},
            "A=1",
            [A: 1]
          ] do
        error =
          assert_raise ArgumentError, fn -> run("tool", ["env"], sandbox: :command, env: env) end

        assert Exception.message(error) =~ "env"
      end
    end
  end

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

  describe "an exit code" do
    test "is any of 32 bits" do
      for code <- [
            0,
            1,
            2,
            126,
            127,
            128,
            255,
            256,
            65_535,
            0x7FFF_FFFF,
            0x8000_0000,
            0xFFFF_FFFE,
            0xFFFF_FFFF
          ] do
        imports = f(fn _ctx, _n -> signed(code) end)

        assert {:ok, %Run{exit_code: ^code, result: nil}} =
                 Executor.run(guest(), :start, options(imports: imports))

        assert Executor.call(guest(), :start, options(imports: imports)) == {:ok, code}
        assert Executor.call!(guest(), :start, options(imports: imports)) == code
      end

      assert run!("tool", ["exit", "3"]).exit_code == 3
      assert run!("tool", ["exit", "-1"]).exit_code == 0xFFFF_FFFF
    end

    test "is 0 where the command returns" do
      assert {:ok, %Run{exit_code: 0, result: nil, stdout: "hello, world\n"}} =
               Executor.run(program("hello"), :start, sandbox: :command)

      module = load!(~S|(module (func (export "_start")))|)
      assert {:ok, %Run{exit_code: 0, stdout: ""}} = Executor.run(module, :start)
      assert Executor.call(module, :start) == {:ok, 0}
    end

    test "is none of a function's" do
      assert {:ok, %Run{exit_code: nil, result: 0}} =
               Executor.run(guest(), "take", [1, 1], options([]))
    end

    test "of a function is an error: it should have returned" do
      reactor = program("reactor")

      for code <- [0, 3, 0xFFFF_FFFF] do
        assert {:error, %TrapError{code: :exit, exit_code: ^code, blame: :guest} = error} =
                 Executor.run(reactor, "quit", [signed(code)], sandbox: sandbox())

        assert Exception.message(error) == "the guest exited with #{code}"
      end

      assert {:error, %TrapError{code: :exit, exit_code: 9, run: run}} = call("quit", [9], [])
      assert {run.stdout, run.exit_code} == {"q", nil}

      assert_raise TrapError, "the guest exited with 2", fn ->
        Executor.call!(reactor, "quit", [2], sandbox: sandbox())
      end
    end

    test "in a re-entrant call is told to the host function that made it, and ends the guest whatever that does" do
      quit = fn ctx ->
        {:error, %TrapError{code: :exit, exit_code: 7} = error} = Host.call(ctx, "quit", [7])
        error
      end

      for function <- [fn ctx, _n -> raise quit.(ctx) end, fn ctx, n -> quit.(ctx) && n end] do
        assert {:error, %TrapError{code: :exit, exit_code: 7} = error} =
                 call("ask", [0], imports: f(function))

        assert error.run.stdout == "q"
      end
    end

    test "may come from a module that it is linked with" do
      lib =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func (export "quit") (param i32) (call $exit (local.get 0))))
        """)

      main =
        load!(~S"""
        (module
          (import "lib" "quit" (func $quit (param i32)))
          (func (export "_start") (call $quit (i32.const 5)) unreachable))
        """)

      options = [imports: %{"lib" => lib}, sandbox: sandbox()]
      assert {:ok, %Run{exit_code: 5}} = Executor.run(main, :start, options)
      assert Executor.call(main, :start, options) == {:ok, 5}
    end

    test "may come from a start section; of one that is linked first it is no command's end" do
      module = fn import, code ->
        load!("""
        (module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          #{import}
          (memory (export "memory") 1)
          (func $go (call $exit (i32.const #{code})))
          (start $go)
          (func (export "_start") unreachable))
        """)
      end

      lib = load!(~S|(module (func (export "f")))|)

      # Of the numbers one is that of its place among the linked modules.
      for code <- [0, 1, 7] do
        assert {:ok, %Run{exit_code: ^code}} =
                 Executor.run(module.("", code), :start, sandbox: sandbox())

        linked = module.(~S|(import "lib" "f" (func))|, code)
        options = [imports: %{"lib" => lib}, sandbox: sandbox()]

        assert {:error, %TrapError{code: :exit, exit_code: ^code}} =
                 Executor.run(linked, :start, options)

        assert_raise TrapError, fn ->
          Executor.stream(linked, :start, options) |> Enum.to_list()
        end
      end
    end
  end

  defp signed(code), do: if(code > 0x7FFF_FFFF, do: code - 0x1_0000_0000, else: code)

  describe "what cannot be run" do
    test "a module without _start" do
      assert {:error, %CallError{reason: :no_such_export, export: "_start"} = error} =
               Executor.run(compute(), :start)

      assert Exception.message(error) =~ ~s|no function is exported as "_start"|
      assert Exception.message(error) =~ "exported are: process"

      module = load!(~S|(module (memory (export "_start") 1))|)
      assert {:error, %CallError{export: "_start"}} = Executor.run(module, :start)
    end

    test "a _start of another type than the interface's" do
      for type <- ["(param i32)", "(result i32) i32.const -5", "(result f64) f64.const 1"] do
        module = load!(~s|(module (func (export "_start") #{type}))|)
        assert {:error, %CallError{}} = Executor.run(module, :start)
      end
    end

    test "a command with a function's arguments" do
      for args <- [[1], ["x"], :x, "x", %{}, nil] do
        for call <- [&Executor.run/4, &Executor.call/4, &Executor.async/4, &Executor.stream/4] do
          error =
            assert_raise ArgumentError, fn ->
              call.(program("tool"), :start, args, sandbox: sandbox())
            end

          assert Exception.message(error) =~
                   "a command takes its arguments as an option: run(module, :start, args: [...])"
        end
      end
    end

    test "a live instance" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())

      assert_raise ArgumentError,
                   ~r/a command runs once, in a fresh instance: give its module/,
                   fn ->
                     Executor.async(instance, :start)
                   end

      assert_raise ArgumentError,
                   ~r/a command runs once, in a fresh instance: give its module/,
                   fn ->
                     Executor.stream(instance, :start)
                   end

      assert_raise ArgumentError, ~r/a live instance is called with/, fn ->
        Executor.run(instance, :start)
      end

      assert_raise ArgumentError, fn -> Instance.call(instance, :start) end
      assert_raise ArgumentError, fn -> Instance.run(instance, :start, args: []) end
    end

    test "an atom that is not :start" do
      assert_raise ArgumentError,
                   ~r/must be a string, or :start for a command, got: :_start/,
                   fn ->
                     Executor.run(program("tool"), :_start)
                   end
    end

    test "with options that there are not" do
      assert_raise ArgumentError,
                   ~r/unknown call option :arguments; known are: .*:args, :env, :stdin/,
                   fn ->
                     Executor.run(program("tool"), :start, arguments: [])
                   end

      assert_raise ArgumentError, ~r/unknown call option :clocks/, fn ->
        Executor.run(program("tool"), :start, clocks: :real)
      end
    end

    test "without a sandbox: the refusal says what to add" do
      assert {:error, %DeniedError{capability: :wasi} = error} =
               Executor.run(program("hello"), :start)

      assert Exception.message(error) =~ "sandbox: :command"

      # Also where the module asks for nothing, but the call gives something.
      for {option, given} <- [args: ["x"], env: %{"A" => "1"}, stdin: "x"] do
        module = load!(~S|(module (func (export "_start")))|)

        assert {:error, %DeniedError{capability: :wasi} = error} =
                 Executor.run(module, :start, [{option, given}])

        assert Exception.message(error) =~ "the call gives #{option}:"
      end
    end
  end

  describe "a run" do
    test "has each kind of output for itself, as a whole" do
      assert {:ok, run} = Executor.run(guest(), "mix", [], options(imports: f(&emit/2)))
      assert {run.stdout, run.stderr, run.output} == {"ade", "bg", "cf"}
      assert run.denials == []
      # Seven calls of imported functions, whoever answers them.
      assert run.usage.host_calls == 7
    end

    test "tells what was refused, with how often" do
      sandbox = sandbox(stdio: [stderr: :captured], random: :none)

      assert {:ok, run} =
               run("tool", ["closed", "3"], sandbox: sandbox(stdio: [stderr: :captured]))

      assert run.stderr == "errors 3 badf\n"

      assert {:ok, %Run{exit_code: 1, denials: [denial | _]}} =
               run("tool", ["random", "8"], sandbox: sandbox)

      assert %Denial{
               capability: :random,
               operation: "random_get",
               errno: :notcapable,
               count: 1,
               detail: nil
             } = denial
    end

    test "is in the error of a call that ended otherwise, with what there was by then" do
      put = f(&emit/2)

      for {name, opts, error} <- [
            {"mix_then_trap", [], TrapError},
            {"mix_then_spin", [fuel: 1_000_000], LimitError},
            {"flood", [max_output: 10, imports: f(fn _, n -> n end)], LimitError}
          ] do
        assert {:error, %^error{run: %Run{} = run, usage: usage}} =
                 Executor.run(
                   guest(),
                   name,
                   [],
                   options([imports: put] ++ opts) |> Keyword.merge(opts)
                 )

        expected = if name == "flood", do: {"xxxxxxxxxx", "", ""}, else: {"o", "e", "*"}
        assert {run.stdout, run.stderr, run.output} == expected
        assert {run.result, run.exit_code} == {nil, nil}
        assert run.usage == usage
      end

      for name <- ["mix_then_spin", "mix_then_sleep"] do
        given_time(fn timeout ->
          opts = [imports: put, timeout: timeout, sandbox: sandbox(fuel: plenty())]

          assert {:error,
                  %LimitError{limit: :timeout, run: %Run{usage: usage} = run, usage: usage}} =
                   Executor.run(guest(), name, [], options(opts))

          {run.stdout, run.stderr, run.output} == {"o", "e", "*"}
        end)
      end
    end

    test "is in the error of a host function that failed" do
      function = fn
        ctx, 42 -> emit(ctx, 42) && raise "no"
        _ctx, n -> n
      end

      assert {:error, %HostError{run: run}} =
               Executor.run(guest(), "mix_then_trap", [], options(imports: f(function)))

      assert {run.stdout, run.stderr, run.output} == {"o", "e", "*"}
    end

    test "is in the error of an input that failed" do
      stdin =
        Stream.map(["a", "b"], fn piece -> if piece == "b", do: raise("no"), else: piece end)

      assert {:error, %HostError{run: %Run{} = run, usage: usage}} = cat(stdin)
      assert run.stdout == "a"
      assert run.usage == usage
      assert usage.host_calls > 0
    end

    test "is in the error of a cancelled one" do
      test = self()
      function = fn ctx, n -> send(test, :inside) && emit(ctx, n) end

      call =
        Executor.async(
          guest(),
          "mix_then_sleep",
          [],
          options(run: true, imports: f(function), timeout: never())
        )

      assert_receive :inside

      assert {:error, %CancelledError{reason: :enough, run: run}} =
               Executor.cancel(call, :enough, grace: never())

      assert {run.stdout, run.stderr, run.output} == {"o", "e", "*"}
    end

    test "of linked modules has what all of them put out, also in an error" do
      wasi = ~S"""
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\08\00\00\00\01\00\00\00")
      (func $put (param $byte i32)
        (i32.store8 (i32.const 8) (local.get $byte))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
      """

      lib =
        load!(
          ~s|(module #{wasi}
        (func $go (call $put (i32.const 97))) (start $go) (func (export "put") (param i32) (call $put (local.get 0))))|
        )

      main = load!(~S|(module
        (import "lib" "put" (func $put (param i32)))
        (func (export "_start") (call $put (i32.const 98)))
        (func (export "trap") (call $put (i32.const 98)) unreachable))|)

      options = [imports: %{"lib" => lib}, sandbox: sandbox()]
      assert {:ok, %Run{stdout: "ab", exit_code: 0}} = Executor.run(main, :start, options)

      assert {:error, %TrapError{run: run, usage: usage}} =
               Executor.run(main, "trap", [], options)

      assert run.stdout == "ab"
      assert run.usage == usage

      # A module that has no output of its own hands over that of the one it calls.
      assert Executor.stream(main, :start, options) |> Enum.to_list() == ["a", "b"]
    end
  end

  describe "options in the place of arguments" do
    test "are told where they belong" do
      for call <- [
            fn -> Executor.call(guest(), "ask", sandbox: :command, fuel: 5) end,
            fn -> Executor.run(guest(), "ask", timeout: 5) end,
            fn -> Instance.call(Instance.new!(guest(), options([])), "ask", timeout: 5) end
          ] do
        error = assert_raise ArgumentError, call
        assert error.message =~ "options come after the list of arguments"
      end

      # Any other list may be one of arguments.
      assert {:error, %CallError{reason: :type}} = call("ask", [other: 1], [])
    end

    test "may be grants, which belong into the sandbox" do
      error = assert_raise ArgumentError, fn -> call("ask", [1], filesystem: []) end
      assert error.message =~ "a grant belongs into the sandbox"
    end
  end

  describe "a host function" do
    test "sees the sandbox that the call really has" do
      test = self()
      network = &Sandbox.new(stdio: :captured, network: &1)
      look = fn ctx, n -> send(test, {:sandbox, Host.sandbox(ctx)}) && n end
      opts = [imports: f(look), sandbox: network.(["a.example:1", "b.example:2"])]
      assert {:ok, 1} = call("ask", [1], opts)
      assert_receive {:sandbox, sandbox}
      assert Sandbox.Capabilities.Network.allowed?(sandbox, {"a.example", 1})
      refute Sandbox.Capabilities.Network.allowed?(sandbox, {"c.example", 1})

      ask = fn ctx, _n ->
        if Sandbox.Capabilities.Network.allowed?(ctx, {"b.example", 2}), do: 1, else: 0
      end

      assert {:ok, 1} = call("ask", [1], Keyword.put(opts, :imports, f(ask)))
      narrow = Sandbox.narrow(opts[:sandbox], network.(["a.example:1"]))
      assert {:ok, 0} = call("ask", [1], imports: f(ask), sandbox: narrow)
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

  describe "the output limit" do
    test "is one for standard output, standard error and what host functions emit" do
      assert {:ok, run} =
               Executor.run(guest(), "mix", [], options(imports: f(&emit/2), max_output: 7))

      assert {run.stdout, run.stderr, run.output} == {"ade", "bg", "cf"}

      assert {:error, %LimitError{limit: :output, allowed: 6, used: 7, run: run}} =
               Executor.run(guest(), "mix", [], options(imports: f(&emit/2), max_output: 6))

      assert {run.stdout, run.stderr, run.output} == {"ade", "b", "cf"}

      # It may strike in a host function as well.
      assert {:error, %LimitError{limit: :output, allowed: 2, run: run}} =
               Executor.run(guest(), "mix", [], options(imports: f(&emit/2), max_output: 2))

      assert {run.stdout, run.stderr, run.output} == {"a", "b", ""}
    end

    test "counts what has been taken already" do
      stream = Executor.stream(guest(), "mix", [], options(imports: f(&emit/2), max_output: 6))
      {:ok, seen} = Agent.start_link(fn -> [] end)

      assert_raise LimitError, fn ->
        Enum.each(stream, fn piece -> Agent.update(seen, &[piece | &1]) end)
      end

      assert Agent.get(seen, &Enum.reverse/1) == ~w(a b c d e f)
    end

    test "of nothing lets a guest run that writes nothing" do
      assert {:ok, 0} = call("take", [1, 1], max_output: 0)
      assert {:error, %LimitError{limit: :output, allowed: 0}} = run("hello", [], max_output: 0)
    end
  end

  describe "a stream" do
    test "gives each write, bare or tagged, in the order in which things were put out" do
      stream = fn opts ->
        Executor.stream(guest(), "mix", [], options([imports: f(&emit/2)] ++ opts))
      end

      assert Enum.to_list(stream.([])) == ~w(a b c d e f g)

      assert [
               stdout: "a",
               stderr: "b",
               output: "c",
               stdout: "d",
               stdout: "e",
               output: "f",
               stderr: "g",
               done: %Run{result: nil, exit_code: nil, stdout: "", stderr: "", output: ""}
             ] = Enum.to_list(stream.(tagged: true))
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
      assert Cybernetic.WASM.Runtime.stats().live_instances == 0
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

    # Tells of each call of the host function.
    defp told do
      test = self()
      f(fn _ctx, n -> send(test, :called) && n end)
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

      for piece <- [
            stdout: "a",
            stderr: "b",
            output: "c",
            stdout: "d",
            stdout: "e",
            output: "f",
            stderr: "g"
          ] do
        assert_receive {^ref, ^piece}
      end

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

  describe "an asynchronous command" do
    test "that inherits the VM's streams has those of the process that started it" do
      {:ok, device} = StringIO.open("in")
      sandbox = Sandbox.new(stdio: :inherited)

      started =
        led_by(device, fn ->
          run_async("tool", ["cat"], sandbox: sandbox)
        end)

      assert {:ok, 0} = Executor.await(started)
      assert StringIO.contents(device) == {"", "in"}
    end

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

  describe "standard streams that are granted one by one" do
    test "are there or not" do
      for {granted, exit_code, stdout, stderr} <- [
            {[stdout: :captured, stderr: :captured], 0, "xx", ""},
            {[stderr: :captured], 1, "", "flood badf\n"},
            {[stdout: :captured], 0, "xx", ""},
            {[stdin: :captured], 1, "", ""},
            {:none, 1, "", ""},
            {:streamed, 0, "xx", ""}
          ] do
        run = run!("tool", ["flood", "2"], sandbox: sandbox(stdio: granted))
        assert {run.exit_code, run.stdout, run.stderr} == {exit_code, stdout, stderr}
      end
    end

    test "are refused each for itself" do
      sandbox = sandbox(stdio: [stdout: :captured])
      run = run!("tool", ["stderr", "lost"], sandbox: sandbox)
      assert {run.stdout, run.stderr} == {"", ""}

      assert [%Denial{capability: :stdio, operation: "fd_write", detail: "stderr", errno: :badf}] =
               run.denials

      # The command then wants to say so.
      assert [%Denial{operation: "fd_read", detail: "stdin"}, %Denial{detail: "stderr"}] =
               run!("tool", ["cat"], sandbox: sandbox).denials
    end

    test "may be some captured and some the VM's" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited, stderr: :captured])

      run =
        led_by(device, fn -> run!("tool", ["cat"], stdin: "to the device", sandbox: sandbox) end)

      assert {run.stdout, run.stderr} == {"", ""}
      assert StringIO.contents(device) == {"", "to the device"}

      run = led_by(device, fn -> run!("tool", ["stderr", "captured"], sandbox: sandbox) end)
      assert {run.stdout, run.stderr} == {"", "captured\n"}
      assert StringIO.contents(device) == {"", "to the device"}
    end
  end

  describe "the VM's own standard streams" do
    test "are those of the calling process's group leader" do
      {:ok, device} = StringIO.open("erste Zeile äöü\nzweite → 語\nno end of line")
      run = led_by(device, fn -> run!("tool", ["upper"], sandbox: sandbox(stdio: :inherited)) end)
      assert {run.exit_code, run.stdout, run.stderr} == {0, "", ""}

      assert StringIO.contents(device) ==
               {"", "ERSTE ZEILE äöü\nZWEITE → 語\nNO END OF LINE"}
    end

    test "are read a line at a time, and no further than the guest reads" do
      {:ok, device} = StringIO.open("one\ntwo\nthree\n")
      sandbox = sandbox(stdio: :inherited)
      assert led_by(device, fn -> call("take", [100, 2], sandbox: sandbox) end) == {:ok, 8}
      assert StringIO.contents(device) == {"three\n", ""}
      # What the guest did not want of a line is gone with it.
      assert led_by(device, fn -> call("take", [1, 1], sandbox: sandbox) end) == {:ok, 1}
      assert StringIO.contents(device) == {"", ""}
      assert led_by(device, fn -> call("take", [1, 1], sandbox: sandbox) end) == {:ok, 0}
    end

    test "are not read where the call gives an input" do
      {:ok, device} = StringIO.open("unread\n")

      assert led_by(device, fn ->
               call("take", [9, 1], stdin: "given", sandbox: sandbox(stdio: :inherited))
             end) == {:ok, 5}

      assert StringIO.contents(device) == {"unread\n", ""}
    end

    test "may take bytes" do
      bytes = <<228, 246, 10, 0, 255>>
      {:ok, device} = StringIO.open(bytes, encoding: :latin1)
      run = led_by(device, fn -> run!("tool", ["cat"], sandbox: sandbox(stdio: :inherited)) end)
      assert run.exit_code == 0
      assert StringIO.contents(device) == {"", bytes}

      {:ok, device} = StringIO.open("", encoding: :latin1)
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])
      led_by(device, fn -> run!("tool", ["cat"], stdin: "ä → 語", sandbox: sandbox) end)
      assert StringIO.contents(device) == {"", "ä → 語"}
    end

    test "take bytes that are no text as Latin-1, where they take text" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])
      led_by(device, fn -> run!("tool", ["cat"], stdin: <<"a", 255, 228>>, sandbox: sandbox) end)
      assert StringIO.contents(device) == {"", "aÿä"}
    end

    test "take a character whose bytes come in two writes" do
      # A program writes its buffer when that is full, wherever in the text that is.
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])
      text = "x" <> String.duplicate("é語", 30_000)
      led_by(device, fn -> run!("tool", ["cat"], stdin: text, sandbox: sandbox) end)
      {"", written} = StringIO.contents(device)
      assert String.length(written) == String.length(text)
      assert written == text
    end

    test "are asked for one thing after the other, in the order of the guest's doing" do
      device = device(["one\n", "two\n"])

      stdin =
        led_by(device, fn ->
          call("echo", [], sandbox: sandbox(stdio: :inherited), imports: told())
        end)

      assert stdin == {:ok, 0}

      assert requests() |> Enum.reject(&(&1 == :getopts)) ==
               [
                 :called,
                 :get,
                 {:put, "one\n"},
                 :called,
                 :get,
                 {:put, "two\n"},
                 :called,
                 :get
               ]
    end

    test "are at their end where the device is" do
      device = device(["one\n"])

      assert led_by(device, fn -> call("take", [100, 3], sandbox: sandbox(stdio: :inherited)) end) ==
               {:ok, 4}
    end

    test "end the guest where the device fails, with what it said" do
      device = device(["one\n", {:error, :eio}])

      assert {:error, %HostError{reason: %IO.StreamError{reason: :eio}, run: run} = error} =
               led_by(device, fn ->
                 run("tool", ["upper"], sandbox: sandbox(stdio: :inherited))
               end)

      assert error.import == {"wasi_snapshot_preview1", "fd_read"}
      assert {:asked, {:put, "ONE\n"}} in mailbox()
      assert %Run{stdout: ""} = run
    end

    test "end the guest where the device takes nothing more, and close its input" do
      {gone, monitor} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^monitor, :process, _, _}
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])

      assert {:error, %HostError{reason: %IO.StreamError{reason: :terminated}} = error} =
               led_by(gone, fn -> cat(source(["a", "b"]), sandbox: sandbox) end)

      assert error.import == {"wasi_snapshot_preview1", "fd_write"}
      assert mailbox() == [:opened, {:pulled, "a"}, :closed]
    end

    test "count against the output limit" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: :inherited, max_output: 100_000)

      assert {:error, %LimitError{limit: :output, allowed: 100_000, run: run}} =
               led_by(device, fn -> run("tool", ["flood-forever"], sandbox: sandbox) end)

      assert run.stdout == ""
      {"", written} = StringIO.contents(device)
      assert byte_size(written) in 65_536..100_000
    end

    test "have standard error, too" do
      {run, written} =
        with_io(:stderr, fn ->
          run!("tool", ["stderr", "grüße"], sandbox: sandbox(stdio: :inherited))
        end)

      assert written =~ "grüße\n"
      assert {run.stdout, run.stderr} == {"", ""}
    end

    test "are no part of a stream, which has the others" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdout: :inherited, stderr: :captured])

      elements =
        led_by(device, fn ->
          Executor.stream(
            guest(),
            "mix",
            [],
            options(imports: f(&emit/2), sandbox: sandbox, tagged: true)
          )
          |> Enum.to_list()
        end)

      assert [stderr: "b", output: "c", output: "f", stderr: "g", done: %Run{stdout: ""}] =
               elements

      assert StringIO.contents(device) == {"", "ade"}
    end

    test "are used by linked modules, too" do
      lib =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\08\00\00\00\03\00\00\00lib")
          (func (export "say") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
        """)

      main =
        load!(~S|(module (import "lib" "say" (func $say)) (func (export "_start") (call $say)))|)

      {:ok, device} = StringIO.open("")

      {:ok, run} =
        led_by(device, fn ->
          Executor.run(main, :start,
            imports: %{"lib" => lib},
            sandbox: Sandbox.new(stdio: :inherited)
          )
        end)

      assert StringIO.contents(device) == {"", "lib"}
      assert run.stdout == ""
    end

    defp led_by(device, function) do
      before = Process.group_leader()
      Process.group_leader(self(), device)

      try do
        function.()
      after
        Process.group_leader(self(), before)
      end
    end

    # A device that takes characters, gives these lines, and tells the test what it is asked for.
    defp device(lines) do
      test = self()
      spawn_link(fn -> serve(lines, test) end)
    end

    defp serve(lines, test) do
      receive do
        {:io_request, from, reference, request} ->
          {told, reply, lines} = answer(request, lines)
          send(test, {:asked, told})
          send(from, {:io_reply, reference, reply})
          serve(lines, test)
      end
    end

    # It reads lines, and hands over as much of them as it is asked for.
    defp answer(:getopts, lines), do: {:getopts, [encoding: :unicode, binary: true], lines}

    defp answer({:get_until, :unicode, _, _, _, _}, [{:error, _} = no | rest]),
      do: {:get, no, rest}

    defp answer({:get_until, :unicode, _prompt, module, function, args}, lines) do
      {characters, lines} =
        case lines do
          [line | lines] -> {String.to_charlist(line), lines}
          [] -> {:eof, []}
        end

      {:done, result, rest} = apply(module, function, [[], characters | args])
      true = rest in [[], :eof]
      {:get, result, lines}
    end

    defp answer({:put_chars, :unicode, chars}, lines),
      do: {{:put, IO.chardata_to_string(chars)}, :ok, lines}

    defp requests do
      for message <- mailbox() do
        case message do
          {:asked, what} -> what
          other -> other
        end
      end
    end
  end
end
