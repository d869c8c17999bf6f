defmodule Cybernetic.WASM.Instance.WasiTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Programs, Streams}

  alias Cybernetic.WASM.{Executor, Instance, Memory, Runtime}
  alias Cybernetic.WASM.{CallError, DeniedError, LimitError, TrapError}

  # As WASI numbers them.
  @badf 8
  @dquot 19
  @mfile 33

  # One call of WASI for each export. What gives an errno gives it below zero.
  @wat ~S"""
  (module
    (import "wasi_snapshot_preview1" "path_open"
      (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 4)
    (data (i32.const 512) "file")

    (func $vector (param $len i32)
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (local.get $len)))
    (func $or_errno (param $errno i32) (param $at i32) (result i32)
      (if (local.get $errno) (then (return (i32.sub (i32.const 0) (local.get $errno)))))
      (i32.load (local.get $at)))

    ;; Opens /data/fileN, made if it is not there, to read and write.
    (func (export "open") (param $n i32) (result i32)
      (i32.store8 (i32.const 516) (i32.add (i32.const 48) (local.get $n)))
      (call $or_errno
        (call $path_open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 5) (i32.const 1)
          (i64.const 0x42) (i64.const 0) (i32.const 0) (i32.const 8))
        (i32.const 8)))
    (func (export "close") (param $fd i32) (result i32)
      (i32.sub (i32.const 0) (call $fd_close (local.get $fd))))
    (func $put (export "put") (param $fd i32) (param $byte i32) (param $times i32) (result i32)
      (memory.fill (i32.const 1024) (local.get $byte) (local.get $times))
      (call $vector (local.get $times))
      (call $or_errno (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8)))
    (func (export "take") (param $fd i32) (param $size i32) (result i32)
      (call $vector (local.get $size))
      (call $or_errno (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8)))
    (func (export "random") (result i32)
      (call $or_errno (call $random_get (i32.const 8) (i32.const 4)) (i32.const 8)))
    (func (export "now") (result i64)
      (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 8)))
      (i64.load (i32.const 8)))
    (func (export "args") (result i32)
      (call $or_errno (call $args_sizes_get (i32.const 8) (i32.const 12)) (i32.const 8)))
    (func (export "env") (result i32)
      (call $or_errno (call $environ_sizes_get (i32.const 8) (i32.const 12)) (i32.const 8)))
    (func (export "quit") (param i32)
      (drop (call $put (i32.const 1) (i32.const 113) (i32.const 1)))
      (call $proc_exit (local.get 0)))
    (func (export "spin") (drop (call $put (i32.const 1) (i32.const 115) (i32.const 1))) (loop (br 0)))
    (func (export "flood") (loop (drop (call $put (i32.const 1) (i32.const 120) (i32.const 1))) (br 0))))
  """

  defp guest, do: load!(@wat)
  defp live(opts \\ []), do: Instance.new!(guest(), [sandbox: sandbox()] ++ opts)
  defp live_in(dir, opts \\ []), do: live(sandbox: sandbox_of(dir, :rw, opts))

  defp call!(instance, name, args \\ [], opts \\ []),
    do: Instance.call!(instance, name, args, opts)

  defp read!(instance, offset, length) do
    {:ok, bytes} = Memory.read(instance, offset, length)
    bytes
  end

  # What a guest writes, byte by byte.
  defp put!(instance, fd, byte, times \\ 1), do: call!(instance, "put", [fd, byte, times])

  defp output({:ok, run}), do: run.stdout
  defp output({:error, %{run: run}}), do: run.stdout

  describe "between the calls of a live instance" do
    test "files stay open, and where they are stays" do
      dir = directory()
      instance = live_in(dir)
      fd = call!(instance, "open", [1])
      for byte <- 'abc', do: assert(put!(instance, fd, byte) == 1)
      assert File.read!(Path.join(dir, "file1")) == "abc"

      File.write!(Path.join(dir, "file2"), "0123456789")
      other = call!(instance, "open", [2])
      assert other != fd
      assert for(_ <- 1..4, do: call!(instance, "take", [other, 4])) == [4, 4, 2, 0]
      assert read!(instance, 1024, 2) == "89"

      assert call!(instance, "close", [fd]) == 0
      assert put!(instance, fd, ?d) == -@badf
      assert call!(instance, "close", [other]) == 0
    end

    test "a scratch directory stays, and goes with the instance" do
      number = System.unique_integer([:positive])
      name = "scratch_#{number}"
      files = program("files")
      # A command's own is gone by the time that its run is there.
      sandbox = sandbox(filesystem: [scratch: "/data"])

      {:ok, run} =
        Executor.run(files, :start, args: ["write", "/data/#{name}", "x"], sandbox: sandbox)

      assert run.stdout == "write ok\n"
      eventually(fn -> found(name) == [] end)

      # Found by what it holds: other tests may have theirs there.
      instance = live(sandbox: sandbox)
      size = 10_000 + rem(number, 10_000)
      fd = call!(instance, "open", [7])
      put!(instance, fd, ?x, size)

      assert [path] =
               for(
                 path <- found("file7"),
                 match?({:ok, %{size: ^size}}, File.stat(path)),
                 do: path
               )

      put!(instance, fd, ?y)
      assert File.stat!(path).size == size + 1
      assert Instance.close(instance) == :ok
      eventually(fn -> not File.exists?(Path.dirname(path)) end)
    end

    defp found(name), do: Path.wildcard(Path.join(System.tmp_dir!(), "cybernetic-wasm-*/#{name}"))

    test "clocks and random numbers go on" do
      instance = live(sandbox: sandbox(clocks: {:stepped, 1_000, 10}, random: {:seeded, 7}))
      assert for(_ <- 1..3, do: call!(instance, "now")) == [1_000, 1_010, 1_020]
      drawn = for _ <- 1..3, do: call!(instance, "random")
      assert length(Enum.uniq(drawn)) == 3

      # As they are in one call of another.
      again = live(sandbox: sandbox(random: {:seeded, 7}))
      assert for(_ <- 1..3, do: call!(again, "random")) == drawn
    end

    test "what was given when it was made stays" do
      instance = live(args: ["a", "b"], env: %{"A" => "1"}, sandbox: sandbox(env: :any))
      for _ <- 1..2, do: assert({call!(instance, "args"), call!(instance, "env")} == {3, 1})
      assert {call!(live(), "args"), call!(live(), "env")} == {1, 0}
    end

    test "a library's own buffers stay" do
      rust =
        Instance.new!(program("rust_reactor"), sandbox: sandbox(env: :any), env: %{"LEVEL" => "4"})

      assert call!(rust, "level") == 4
      assert Instance.run(rust, "see", [7]) |> output() == "7 seen 1\n"
      assert Instance.run(rust, "see", [8]) |> output() == "8 seen 1\n"
      assert Instance.run(rust, "see", [7]) |> output() == "7 seen 2\n"
    end
  end

  describe "standard output" do
    test "is each call's own" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())
      assert Instance.run(instance, "say", [1]) |> output() == "said 1\n"
      assert Instance.run(instance, "say", [2]) |> output() == "said 2\n"
      # A call that does not ask for it leaves none behind.
      assert Instance.call(instance, "say", [3]) == {:ok, nil}
      assert Instance.run(instance, "count", []) |> output() == ""
    end

    # What is no terminal C buffers whole, as everywhere. The guide says so.
    test "of a C library that keeps it back comes with a later call, and line by line once it is told to" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())
      assert Instance.run(instance, "tell", [3]) |> output() == "line 1\n"
      assert Instance.run(instance, "say", [1]) |> output() == "line 2\nline 3\nsaid 1\n"

      instance = Instance.new!(program("reactor"), sandbox: sandbox())
      assert Instance.call(instance, "line_by_line") == {:ok, 0}
      assert Instance.run(instance, "tell", [3]) |> output() == "line 1\nline 2\nline 3\n"
      assert Instance.run(instance, "tell", [1]) |> output() == "line 1\n"
    end

    test "is the caller's, whoever that is" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())

      said =
        1..20
        |> Enum.map(fn n ->
          Task.async(fn -> Instance.run(instance, "say", [n], wait: never()) |> output() end)
        end)
        |> await()

      assert said == for(n <- 1..20, do: "said #{n}\n")
    end

    test "that is the VM's goes to the caller's group leader" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox(stdio: :inherited))

      written =
        for n <- 1..3 do
          Task.async(fn ->
            {:ok, device} = StringIO.open("")
            Process.group_leader(self(), device)
            {:ok, run} = Instance.run(instance, "say", [n], wait: never())
            assert run.stdout == ""
            {"", written} = StringIO.contents(device)
            written
          end)
        end

      assert await(written) == ["said 1\n", "said 2\n", "said 3\n"]
    end

    test "is limited for each call" do
      instance = live()
      for _ <- 1..3, do: assert(call!(instance, "put", [1, ?x, 10], max_output: 10) == 10)

      assert {:error, %LimitError{limit: :output, allowed: 9}} =
               Instance.call(instance, "put", [1, ?x, 10], max_output: 9)
    end

    test "is told with the error of a call that ended otherwise" do
      for {name, opts, written} <- [
            {"spin", [fuel: 1_000_000], "s"},
            {"flood", [max_output: 5], "xxxxx"}
          ],
          do: assert(cut_off(name, opts) == written)

      given_time(fn timeout -> cut_off("spin", timeout: timeout) == "s" end)
    end

    # What it had written by then.
    defp cut_off(name, opts) do
      instance = live(sandbox: sandbox(fuel: plenty()))
      assert {:error, %LimitError{run: run}} = Instance.run(instance, name, [], opts)
      assert Instance.poisoned?(instance)
      assert Instance.reset(instance) == :ok
      assert Instance.run(instance, "put", [1, ?y, 2]) |> output() == "yy"
      run.stdout
    end

    test "can be read as a stream, while the guest waits" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())
      assert Executor.stream(instance, "say", [5]) |> Enum.join() == "said 5\n"

      assert [{:stdout, "said 6\n"}, {:done, %{stdout: ""}}] =
               Executor.stream(instance, "say", [6], tagged: true) |> Enum.to_list()

      assert Instance.call(instance, "count") == {:ok, 1}

      # Who reads less than all of it has cut the guest off.
      instance = live()
      assert Executor.stream(instance, "flood") |> Enum.take(3) == ["x", "x", "x"]
      assert Instance.poisoned?(instance)
    end
  end

  describe "standard input" do
    test "is each call's own" do
      instance = live()
      assert call!(instance, "take", [0, 100], stdin: "abc") == 3
      assert read!(instance, 1024, 3) == "abc"
      assert call!(instance, "take", [0, 100], stdin: ["d", ?e]) == 2
      # None is at its end.
      assert call!(instance, "take", [0, 100]) == 0
    end

    test "of one call is not the next one's, however much was left of it" do
      instance = live()
      assert call!(instance, "take", [0, 1], stdin: "abc") == 1
      assert call!(instance, "take", [0, 100]) == 0
      assert call!(instance, "take", [0, 1], stdin: source(["abc", "def"])) == 1
      assert mailbox() == [:opened, {:pulled, "abc"}, :closed]
      assert call!(instance, "take", [0, 100]) == 0
    end

    test "that it was made with is not its calls'" do
      instance = live(stdin: "for nobody")
      assert call!(instance, "take", [0, 100]) == 0

      instance = live(stdin: source(["for nobody"]))
      assert call!(instance, "take", [0, 100]) == 0
      assert mailbox() == []
    end

    test "that it was made with is its initialiser's" do
      reader =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00\08\00\00\00")
          (func (export "_initialize")
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))
        """)

      instance = Instance.new!(reader, sandbox: sandbox(), stdin: source(["seed", "more"]))
      assert read!(instance, 16, 5) == "seed\0"
      assert mailbox() == [:opened, {:pulled, "seed"}, :closed]
    end

    test "is closed when a call is cut off" do
      instance = live()
      stdin = Stream.concat(source(["x"]), Stream.map([1], fn _ -> raise "no" end))

      assert {:error, %{reason: %RuntimeError{}}} =
               Instance.call(instance, "take", [0, 1], stdin: Stream.drop(stdin, 1))

      assert List.last(mailbox()) == :closed
      assert Instance.poisoned?(instance)
    end

    test "is not there without the grant: who gives it is told" do
      instances = [
        live(sandbox: sandbox(stdio: [stdout: :captured])),
        # Without any system interface.
        Instance.new!(compute())
      ]

      for instance <- instances, stdin <- ["x", source(["x"])] do
        name = if Cybernetic.WASM.Module.imports(instance.module) == [], do: "add", else: "take"

        assert {:error, %DeniedError{capability: capability}} =
                 Instance.call(instance, name, [0, 1], stdin: stdin)

        assert capability in [:stdio, :wasi]
      end

      assert mailbox() == []
    end

    test "that is the VM's is that of the caller's group leader" do
      instance = live(sandbox: sandbox(stdio: :inherited))

      read =
        Task.async(fn ->
          {:ok, device} = StringIO.open("one\ntwo\n")
          Process.group_leader(self(), device)
          for _ <- 1..3, do: call!(instance, "take", [0, 100])
        end)

      assert await(read) == [4, 4, 0]
    end
  end

  describe "the options of a call" do
    test "are not those that a guest is made with" do
      for option <- [args: ["x"], env: %{"A" => "1"}, sandbox: :command] do
        {key, _} = option

        for call <- [&Instance.call/4, &Instance.run/4, &Executor.async/4] do
          error = assert_raise ArgumentError, fn -> call.(live(), "args", [], [option]) end

          assert Exception.message(error) ==
                   "unknown option of a call on an instance #{inspect(key)}: " <>
                     "it is an option of Instance.new/2, and holds for all calls"
        end

        assert_raise ArgumentError, ~r/unknown option of a call on an instance/, fn ->
          Instance.reset(live(), [option])
        end
      end
    end

    test "of the standard input are checked as elsewhere" do
      assert_raise ArgumentError, ~r/option :stdin must be iodata/, fn ->
        Instance.call(live(), "args", [], stdin: %{})
      end
    end

    test "that a guest is made with are checked then" do
      assert_raise ArgumentError, ~r/option :args/, fn -> live(args: "x") end
      assert {:error, %DeniedError{capability: :wasi}} = Instance.new(guest())

      assert {:error, %DeniedError{capability: :env}} =
               Instance.new(guest(), sandbox: sandbox(), env: %{"A" => "1"})

      assert {:error, %DeniedError{capability: :stdio}} =
               Instance.new(guest(), sandbox: sandbox(stdio: :none), stdin: "x")
    end

    test "that a directory is not there is told when the guest is made" do
      dir = directory()
      sandbox = sandbox_of(dir, :ro)
      File.rmdir!(dir)

      assert {:error, %CallError{reason: :no_directory} = error} =
               Instance.new(guest(), sandbox: sandbox)

      assert {error.host_path, error.guest_path} == {dir, "/data"}
      assert Exception.message(error) =~ "No such file or directory"
    end
  end

  describe "the quota" do
    test "is one for the instance's life" do
      dir = directory()
      instance = live_in(dir, quota: 4_096 + 10_000)
      fd = call!(instance, "open", [1])
      for _ <- 1..10, do: assert(put!(instance, fd, ?x, 1_000) == 1_000)
      {:ok, run} = Instance.run(instance, "put", [fd, ?x, 1])
      assert run.result == -@dquot
      assert refusals(run) == [{:filesystem, "fd_write", :dquot}]
      # A refusal is told with the call that it was in.
      {:ok, run} = Instance.run(instance, "args")
      assert run.denials == []
      assert File.stat!(Path.join(dir, "file1")).size == 10_000

      assert call!(instance, "open", [2]) == -@dquot
      # Opening what is there is free.
      assert call!(instance, "open", [1]) > 0
    end

    test "is another one's own, and anew after a reset" do
      dir = directory()

      for n <- 1..2 do
        instance = live_in(dir, quota: 4_096 + 10)
        fd = call!(instance, "open", [n])
        assert {put!(instance, fd, ?x, 10), put!(instance, fd, ?x)} == {10, -@dquot}
        assert Instance.reset(instance) == :ok
        fd = call!(instance, "open", [n])
        assert {put!(instance, fd, ?x, 10), put!(instance, fd, ?x, 5_000)} == {10, -@dquot}
      end
    end

    test "of open files counts those that earlier calls have left open" do
      instance = live_in(directory(), max_open: 3)
      [a, _b, _c] = for n <- 1..3, do: call!(instance, "open", [n])
      assert call!(instance, "open", [4]) == -@mfile
      assert call!(instance, "close", [a]) == 0
      assert call!(instance, "open", [4]) > 0
      assert call!(instance, "open", [1]) == -@mfile
    end
  end

  describe "a reset" do
    test "makes the system anew: descriptors, scratch, clocks, random numbers" do
      sandbox =
        sandbox(filesystem: [scratch: "/tmp"], clocks: {:stepped, 0, 1}, random: {:seeded, 3})

      instance = live(sandbox: sandbox, args: ["x"], env: %{}, on_trap: :keep)

      seen = fn ->
        {call!(instance, "now"), call!(instance, "random"), call!(instance, "args"),
         call!(instance, "open", [1])}
      end

      {0, random, 2, fd} = first = seen.()
      assert {1, other, 2, _} = seen.()
      assert other != random
      put!(instance, fd, ?x, 7)

      assert Instance.reset(instance) == :ok
      assert put!(instance, fd, ?x) == -@badf
      assert seen.() == first
      # The file is another, empty one.
      assert call!(instance, "take", [fd, 100]) == 0
    end

    test "keeps what may be used, and closes what was open" do
      dir = directory()
      File.write!(Path.join(dir, "file1"), "content")
      instance = live_in(dir)
      before = Runtime.stats()
      fd = call!(instance, "open", [1])
      assert Instance.reset(instance) == :ok
      assert call!(instance, "close", [fd]) == -@badf
      assert call!(instance, "open", [1]) == fd
      assert call!(instance, "take", [fd, 100]) == 7
      assert is_integer(before.open_files)
    end

    test "that cannot open a directory any more fails, and succeeds once it is there again" do
      dir = directory()
      instance = live_in(dir)
      File.rmdir!(dir)
      assert {:error, %CallError{reason: :no_directory}} = Instance.reset(instance)
      assert Instance.poisoned?(instance)
      File.mkdir!(dir)
      assert Instance.reset(instance) == :ok
      assert call!(instance, "open", [1]) > 0
    end
  end

  describe "an exit" do
    test "poisons, whatever its code, and is told with what was written" do
      for code <- [0, 3], on_trap <- [:poison, :keep] do
        instance = live(on_trap: on_trap)

        assert {:error, %TrapError{code: :exit, exit_code: ^code, run: run}} =
                 Instance.run(instance, "quit", [code])

        assert {run.stdout, run.exit_code} == {"q", nil}
        assert Instance.poisoned?(instance)
        assert {:error, %CallError{reason: :poisoned}} = Instance.call(instance, "args")
        assert Instance.reset(instance) == :ok
        assert call!(instance, "args") == 1
      end
    end

    test "of a C library runs its own end" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())

      assert {:error, %TrapError{code: :exit, exit_code: 7}} =
               Instance.call(instance, "quit", [7])

      assert Instance.poisoned?(instance)
      assert Instance.reset(instance) == :ok
      assert {call!(instance, "initialized"), call!(instance, "count")} == {1, 1}
    end

    test "while it is made is told, and there is no instance" do
      for export <- [~S|(export "_initialize")|, ""] do
        module =
          load!("""
          (module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func $go #{export} (call $exit (i32.const 5)))
            #{if export == "", do: "(start $go)"})
          """)

        assert {:error, %TrapError{code: :exit, exit_code: 5}} =
                 Instance.new(module, sandbox: sandbox())
      end
    end
  end

  describe "a reactor" do
    # Tells `env.f` of what is called.
    defp told_reactor(initialize) do
      load!("""
      (module
        (import "env" "f" (func $f (param i32) (result i32)))
        (memory (export "memory") 1)
        (func $begin (drop (call $f (i32.const 1))))
        (start $begin)
        (func (export "_initialize") #{initialize})
        (func (export "work") (result i32) (call $f (i32.const 3))))
      """)
    end

    defp told do
      test = self()
      f(fn _ctx, n -> send(test, {:called, n}) && n end)
    end

    test "is initialised once, after its start section and before everything else" do
      module = told_reactor("(drop (call $f (i32.const 2)))")
      instance = Instance.new!(module, imports: told())
      assert mailbox() == [called: 1, called: 2]
      assert call!(instance, "work") == 3
      assert call!(instance, "work") == 3
      assert mailbox() == [called: 1, called: 2, called: 3, called: 3]
    end

    test "is initialised anew with each reset, and with each call of its module" do
      module = told_reactor("(drop (call $f (i32.const 2)))")
      instance = Instance.new!(module, imports: told())
      assert Instance.reset(instance) == :ok
      assert mailbox() == [called: 1, called: 2, called: 1, called: 2]
      flush()
      for _ <- 1..2, do: assert(Executor.call(module, "work", [], imports: told()) == {:ok, 3})
      assert mailbox() == [called: 1, called: 2, called: 3, called: 1, called: 2, called: 3]
    end

    test "of another type is no reactor" do
      module = told_reactor("(param i32) (drop (call $f (i32.const 2)))")
      Instance.new!(module, imports: told())
      assert mailbox() == [called: 1]
    end

    test "whose initialiser fails is not made" do
      assert {:error, %TrapError{code: :unreachable}} =
               Instance.new(told_reactor("unreachable"), imports: told())

      assert {:error, %LimitError{limit: :fuel}} =
               Instance.new(told_reactor("(loop (br 0))"), imports: told(), fuel: 1_000_000)

      assert {:error, %LimitError{limit: :timeout}} =
               Instance.new(told_reactor("(loop (br 0))"), imports: told(), timeout: 50)

      raising = f(fn _ctx, n -> if n == 2, do: raise("no"), else: n end)
      module = told_reactor("(drop (call $f (i32.const 2)))")

      assert {:error, %{reason: %RuntimeError{message: "no"}}} =
               Instance.new(module, imports: raising)

      assert {:error, %{reason: %RuntimeError{message: "no"}}} =
               Executor.call(module, "work", [], imports: raising)
    end

    test "written in C or Rust has run its constructors" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())
      assert call!(instance, "initialized") == 1
      assert for(_ <- 1..3, do: call!(instance, "count")) == [1, 2, 3]
      assert call!(instance, "add", [2, 3]) == 5
      assert Executor.call(program("reactor"), "initialized", [], sandbox: sandbox()) == {:ok, 1}
      assert Executor.call(program("rust_reactor"), "level", [], sandbox: sandbox()) == {:ok, -1}
    end
  end

  describe "a snapshot" do
    test "has the guest's state and no open file; it is not initialised again" do
      dir = directory()

      instance =
        live_in(dir)
        |> Map.get(:module)
        |> Instance.new!(sandbox: sandbox_of(dir, :rw), snapshottable: true)

      fd = call!(instance, "open", [1])
      put!(instance, fd, ?x, 3)
      {:ok, wasm} = Instance.snapshot(instance)
      # The instance goes on with its file.
      assert put!(instance, fd, ?y) == 1

      restored = Instance.new!(load!(wasm), sandbox: sandbox_of(dir, :rw))
      assert read!(restored, 1024, 4) == "xxx\0"
      assert put!(restored, fd, ?z) == -@badf
      assert File.read!(Path.join(dir, "file1")) == "xxxy"

      reactor = Instance.new!(program("reactor"), sandbox: sandbox(), snapshottable: true)
      assert call!(reactor, "count") == 1
      {:ok, wasm} = Instance.snapshot(reactor)
      restored = Instance.new!(load!(wasm), sandbox: sandbox())
      assert {call!(restored, "initialized"), call!(restored, "count")} == {1, 2}
      assert Instance.run(restored, "say", [1]) |> output() == "said 1\n"
      assert Executor.call(load!(wasm), "count", [], sandbox: sandbox()) == {:ok, 2}
    end

    test "needs its grants again" do
      reactor = Instance.new!(program("reactor"), sandbox: sandbox(), snapshottable: true)
      {:ok, wasm} = Instance.snapshot(reactor)
      assert {:error, %DeniedError{capability: :wasi}} = Instance.new(load!(wasm))
    end
  end

  describe "a fork" do
    test "has a system of its own, with the same grants" do
      dir = directory()
      sandbox = sandbox_of(dir, :rw, quota: 4_096 + 10, random: {:seeded, 5}, env: :any)
      options = [sandbox: sandbox, args: ["a"], env: %{"A" => "1"}, snapshottable: true]
      instance = Instance.new!(guest(), options)
      random = call!(instance, "random")
      fd = call!(instance, "open", [1])
      assert put!(instance, fd, ?x, 10) == 10

      for n <- 2..3 do
        {:ok, fork} = Instance.fork(instance)
        assert read!(fork, 1024, 10) == "xxxxxxxxxx"
        assert {call!(fork, "args"), call!(fork, "env")} == {2, 1}
        assert put!(fork, fd, ?y) == -@badf
        assert call!(fork, "random") == random
        own = call!(fork, "open", [n])
        assert {put!(fork, own, ?z, 10), put!(fork, own, ?z)} == {10, -@dquot}
        assert Instance.run(fork, "put", [1, ?o, 2]) |> output() == "oo"
        assert call!(fork, "take", [0, 10], stdin: "abc") == 3
        assert Instance.reset(fork) == :ok
        assert call!(fork, "random") == random
      end

      assert put!(instance, fd, ?x) == -@dquot
    end

    test "of a reactor goes on from where it was" do
      reactor = Instance.new!(program("reactor"), sandbox: sandbox(), snapshottable: true)
      assert call!(reactor, "count") == 1
      {:ok, fork} = Instance.fork(reactor)
      assert {call!(fork, "initialized"), call!(fork, "count")} == {1, 2}
      assert Instance.run(fork, "say", [4]) |> output() == "said 4\n"
      assert call!(reactor, "count") == 2
    end
  end

  describe "an instance's server" do
    test "has its system, too" do
      server =
        start_supervised!(
          {Instance,
           module: guest(),
           sandbox: sandbox(random: {:seeded, 1}, env: :any),
           args: ["x"],
           env: %{"A" => "1"}}
        )

      assert {call!(server, "args"), call!(server, "env")} == {2, 1}
      assert Instance.run(server, "put", [1, ?x, 3]) |> output() == "xxx"
      assert call!(server, "take", [0, 9], stdin: "abc") == 3
      random = call!(server, "random")
      assert call!(server, "random") != random

      # One that ends itself is made anew.
      assert {:error, %TrapError{code: :exit}} = Instance.call(server, "quit", [1])
      assert call!(server, "random") == random

      assert Instance.borrow(server, fn instance ->
               {call!(instance, "random") != random,
                Instance.run(instance, "put", [1, ?y, 1]) |> output()}
             end) == {true, "y"}
    end

    test "shows its callers what is wrong" do
      server = start_supervised!({Instance, module: guest(), sandbox: sandbox()})

      assert_raise ArgumentError, ~r/unknown option of a call on an instance :args/, fn ->
        Instance.call(server, "args", [], args: [])
      end

      Process.flag(:trap_exit, true)
      assert {:error, %DeniedError{capability: :wasi}} = Instance.start_link(module: guest())
    end
  end

  describe "linked modules" do
    # Uses what `guest/0` does as a library, and the system itself.
    defp user do
      load!(~S"""
      (module
        (import "lib" "open" (func $open (param i32) (result i32)))
        (import "lib" "put" (func $lib_put (param i32 i32 i32) (result i32)))
        (import "lib" "random" (func $random (result i32)))
        (import "lib" "args" (func $args (result i32)))
        (import "lib" "quit" (func $quit (param i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $put (export "put") (param $fd i32) (param $byte i32) (result i32)
          (i32.store (i32.const 0) (i32.const 16))
          (i32.store (i32.const 4) (i32.const 1))
          (i32.store8 (i32.const 16) (local.get $byte))
          (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
        (func (export "open") (param i32) (result i32) (call $open (local.get 0)))
        (func (export "both") (param $fd i32) (result i32)
          (drop (call $put (local.get $fd) (i32.const 97)))
          (drop (call $lib_put (local.get $fd) (i32.const 98) (i32.const 2)))
          (call $put (local.get $fd) (i32.const 99)))
        (func (export "own_random") (result i32)
          (drop (call $random_get (i32.const 8) (i32.const 4)))
          (i32.load (i32.const 8)))
        (func (export "lib_random") (result i32) (call $random))
        (func (export "args") (result i32) (call $args))
        (func (export "quit") (param i32) (call $quit (local.get 0))))
      """)
    end

    test "share one system: descriptors, output, random numbers, quota" do
      dir = directory()
      sandbox = sandbox_of(dir, :rw, random: {:seeded, 9}, quota: 4_096 + 4)

      instance =
        Instance.new!(user(), imports: %{"lib" => guest()}, sandbox: sandbox, args: ["x"])

      alone = live(sandbox: sandbox(random: {:seeded, 9}))
      expected = for _ <- 1..3, do: call!(alone, "random")

      assert [
               call!(instance, "lib_random"),
               call!(instance, "own_random"),
               call!(instance, "lib_random")
             ] == expected

      # Opened by the one, written to by both.
      fd = call!(instance, "open", [1])
      assert call!(instance, "both", [fd]) == 0
      assert File.read!(Path.join(dir, "file1")) == "abbc"
      assert call!(instance, "both", [fd]) == @dquot

      assert Instance.run(instance, "both", [1]) |> output() == "abbc"
      assert call!(instance, "args") == 2
    end

    test "that join an instance use its system" do
      lib = live(sandbox: sandbox(random: {:seeded, 9}))
      first = call!(lib, "random")

      user =
        Instance.new!(user(), imports: %{"lib" => lib}, sandbox: sandbox(random: {:seeded, 9}))

      second = call!(user, "own_random")
      assert second != first
      assert Instance.reset(lib) == :ok
      assert {call!(user, "own_random"), call!(lib, "random")} == {first, second}

      # Output and input are those of the call, whichever member it is on.
      assert Instance.run(user, "both", [1]) |> output() == "abbc"
      assert Instance.run(lib, "put", [1, ?x, 1]) |> output() == "x"
      assert call!(lib, "take", [0, 5], stdin: "abc") == 3
    end

    test "cannot have different ones" do
      lib = live(sandbox: sandbox(random: {:seeded, 9}))

      for sandbox <- [
            sandbox(),
            sandbox(random: {:seeded, 8}),
            sandbox(random: {:seeded, 9}, clocks: :none)
          ] do
        assert {:error, %CallError{reason: :other_grants} = error} =
                 Instance.new(user(), imports: %{"lib" => lib}, sandbox: sandbox)

        assert Exception.message(error) =~ "share one WASI"
      end

      assert call!(lib, "args") == 1
    end

    test "end together" do
      instance = Instance.new!(user(), imports: %{"lib" => guest()}, sandbox: sandbox())

      assert {:error, %TrapError{code: :exit, exit_code: 4, run: run}} =
               Instance.run(instance, "quit", [4])

      assert run.stdout == "q"
      assert Instance.poisoned?(instance)
    end

    test "may have a system that only a later one brings" do
      plain = Instance.new!(load!(~S|(module (func (export "f") (result i32) i32.const 7))|))
      joined = Instance.new!(guest(), store: plain, sandbox: sandbox(random: {:seeded, 2}))
      random = call!(joined, "random")
      assert Instance.run(joined, "put", [1, ?x, 1]) |> output() == "x"
      assert Instance.reset(plain) == :ok
      assert call!(joined, "random") == random
      assert call!(plain, "f") == 7
    end

    test "keep the host's answer to what another one asks the system for" do
      asking = fn answer ->
        Instance.new!(
          load!(~S"""
          (module
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (memory (export "memory") 1)
            (func (export "ask") (result i32) (call $yield)))
          """),
          imports: %{"wasi_snapshot_preview1" => %{"sched_yield" => fn _ctx -> answer end}}
        )
      end

      own = asking.(77)
      joined = Instance.new!(guest(), store: own, sandbox: sandbox())
      assert {call!(own, "ask"), call!(joined, "args")} == {77, 1}
      assert Instance.reset(own) == :ok
      assert {call!(own, "ask"), call!(joined, "args")} == {77, 1}
    end
  end

  test "a sleeping call on an instance is cancelled, and leaves it poisoned" do
    sleeper =
      load!(~S"""
      (module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "env" "f" (func $f (param i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "sleep")
          (drop (call $f (i32.const 0)))
          (i32.store (i32.const 16) (i32.const 1))
          (i64.store (i32.const 24) (i64.const 8640000000000000))
          (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))
      """)

    instance = Instance.new!(sleeper, sandbox: sandbox(timeout: never()), imports: told())
    call = Executor.async(instance, "sleep", [])
    assert_receive {:called, 0}
    assert {:error, %{reason: :enough}} = Executor.cancel(call, :enough, grace: never())
    assert Instance.poisoned?(instance)
  end

  test "metering by epochs changes nothing" do
    instance = Instance.new!(program("reactor"), sandbox: sandbox(), metering: :epoch)
    assert for(_ <- 1..3, do: call!(instance, "count")) == [1, 2, 3]
    assert Instance.run(instance, "say", [1]) |> output() == "said 1\n"
    assert {:error, %TrapError{code: :exit}} = Instance.call(instance, "quit", [1])
    assert Instance.reset(instance) == :ok
    assert call!(instance, "count") == 1
  end
end
