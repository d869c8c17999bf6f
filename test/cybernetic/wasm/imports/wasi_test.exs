defmodule Cybernetic.WASM.Imports.WasiTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Guests, Programs}

  alias Cybernetic.WASM.{Executor, Host, Instance, Run, Sandbox}
  alias Cybernetic.WASM.{DeniedError, HostError, LinkError, TrapError}

  @wasi "wasi_snapshot_preview1"

  # Every function of the interface, with its parameters, and arguments with which it does its work where it is granted. A
  # guest of them has: an iovec at 0, to 16 bytes at 64; "file" at 32, "new" at 40, "link" at 48; an endless monotonic
  # clock's subscription at 256 that is due at once; room from 512 on. Descriptor 3 is a directory, 4 its file.
  @functions [
    {"args_get", "i32 i32", [512, 1024]},
    {"args_sizes_get", "i32 i32", [512, 516]},
    {"clock_res_get", "i32 i32", [0, 512]},
    {"clock_time_get", "i32 i64 i32", [0, 0, 512]},
    {"environ_get", "i32 i32", [512, 1024]},
    {"environ_sizes_get", "i32 i32", [512, 516]},
    {"fd_advise", "i32 i64 i64 i32", [4, 0, 1, 0]},
    {"fd_allocate", "i32 i64 i64", [4, 0, 1]},
    {"fd_close", "i32", [0]},
    {"fd_datasync", "i32", [4]},
    {"fd_fdstat_get", "i32 i32", [1, 512]},
    {"fd_fdstat_set_flags", "i32 i32", [1, 0]},
    {"fd_fdstat_set_rights", "i32 i64 i64", [1, 0, 0]},
    {"fd_filestat_get", "i32 i32", [1, 512]},
    {"fd_filestat_set_size", "i32 i64", [4, 1]},
    {"fd_filestat_set_times", "i32 i64 i64 i32", [4, 1, 1, 5]},
    {"fd_pread", "i32 i32 i32 i64 i32", [4, 0, 1, 0, 512]},
    {"fd_prestat_dir_name", "i32 i32 i32", [3, 512, 5]},
    {"fd_prestat_get", "i32 i32", [3, 512]},
    {"fd_pwrite", "i32 i32 i32 i64 i32", [4, 0, 1, 0, 512]},
    {"fd_read", "i32 i32 i32 i32", [0, 0, 1, 512]},
    {"fd_read", "i32 i32 i32 i32", [4, 0, 1, 512]},
    {"fd_readdir", "i32 i32 i32 i64 i32", [3, 1024, 100, 0, 512]},
    {"fd_renumber", "i32 i32", [1, 2]},
    {"fd_seek", "i32 i64 i32 i32", [1, 0, 0, 512]},
    {"fd_sync", "i32", [4]},
    {"fd_tell", "i32 i32", [1, 512]},
    {"fd_write", "i32 i32 i32 i32", [1, 0, 1, 512]},
    {"fd_write", "i32 i32 i32 i32", [4, 0, 1, 512]},
    {"path_create_directory", "i32 i32 i32", [3, 40, 3]},
    {"path_filestat_get", "i32 i32 i32 i32 i32", [3, 0, 32, 4, 512]},
    {"path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32", [3, 0, 32, 4, 1, 1, 5]},
    {"path_link", "i32 i32 i32 i32 i32 i32 i32", [3, 0, 32, 4, 3, 40, 3]},
    {"path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32", [3, 0, 32, 4, 0, 2, 0, 0, 512]},
    {"path_readlink", "i32 i32 i32 i32 i32 i32", [3, 48, 4, 1024, 100, 512]},
    {"path_remove_directory", "i32 i32 i32", [3, 56, 5]},
    {"path_rename", "i32 i32 i32 i32 i32 i32", [3, 32, 4, 3, 40, 3]},
    {"path_symlink", "i32 i32 i32 i32 i32", [32, 4, 3, 40, 3]},
    {"path_unlink_file", "i32 i32 i32", [3, 32, 4]},
    {"poll_oneoff", "i32 i32 i32 i32", [256, 1024, 1, 512]},
    {"proc_exit", "i32", [0]},
    {"proc_raise", "i32", [1]},
    {"random_get", "i32 i32", [512, 8]},
    {"sched_yield", "", []},
    {"sock_accept", "i32 i32 i32", [1, 0, 512]},
    {"sock_recv", "i32 i32 i32 i32 i32 i32", [1, 0, 1, 0, 512, 516]},
    {"sock_send", "i32 i32 i32 i32 i32", [1, 0, 1, 0, 512]},
    {"sock_shutdown", "i32 i32", [1, 3]}
  ]
  @names @functions |> Enum.map(&elem(&1, 0)) |> Enum.uniq()
  @data ~S"""
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\10\00\00\00")
  (data (i32.const 32) "file\00\00\00\00new\00\00\00\00\00link\00\00\00\00empty")
  (data (i32.const 272) "\01")
  """

  defp results("proc_exit"), do: ""
  defp results(_name), do: "(result i32)"

  defp import_of(name, params, from \\ @wasi),
    do: ~s|(import "#{from}" "#{name}" (func $#{name} (param #{params}) #{results(name)}))|

  # `call` gives the errno, and `seen` the number at 512 afterwards. A file is opened first where one is needed.
  defp calling(name, params, args, from \\ @wasi) do
    types = String.split(params)
    values = Enum.zip_with(types, args, fn type, arg -> "(#{type}.const #{arg})" end)
    opening = {"path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"}
    file? = hd(args ++ [nil]) == 4

    open =
      "(drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 0) " <>
        "(i64.const 0x5021c3) (i64.const 0) (i32.const 0) (i32.const 512)))"

    load!("""
    (module
      #{import_of(name, params, from)}
      #{if file?, do: import_of(elem(opening, 0), elem(opening, 1), from)}
      #{@data}
      (func (export "call") (result i32)
        #{if file?, do: open}
        (i32.store (i32.const 512) (i32.const 0))
        (call $#{name} #{Enum.join(values, " ")})
        #{if name == "proc_exit", do: "(i32.const 0)"})
      (func (export "_start")))
    """)
  end

  # A directory in which every function finds what it wants.
  defp prepared do
    dir = directory()
    File.write!(Path.join(dir, "file"), "0123456789abcdef")
    File.ln_s!("file", Path.join(dir, "link"))
    File.mkdir!(Path.join(dir, "empty"))
    dir
  end

  @grants [
    filesystem: nil,
    env: [{"A", "1"}],
    clocks: :real,
    random: :system,
    stdio: :captured
  ]

  defp granting(names) do
    grants =
      for name <- names do
        if name == :filesystem,
          do: {name, [{prepared(), "/data", :rw}]},
          else: {name, Keyword.fetch!(@grants, name)}
      end

    Sandbox.new([wasi: true] ++ grants)
  end

  # What comes of a call: the errno, or how it ended, and whether the guest found an environment.
  defp outcome({name, params, args}, sandbox, from \\ @wasi) do
    module = calling(name, params, args, from)

    case Executor.run(module, "call", [], sandbox: sandbox) do
      {:ok, run} -> {run.result, name in ["environ_sizes_get"] and variables(module, sandbox)}
      {:error, %TrapError{code: :exit, exit_code: code}} -> {:exit, code}
    end
  end

  defp variables(module, sandbox) do
    instance = Instance.new!(module, sandbox: sandbox)
    {:ok, 0} = Instance.call(instance, "call")
    {:ok, <<count::32-little>>} = Cybernetic.WASM.Memory.read(instance, 512, 4)
    count
  end

  defp denied(entries, sandbox) do
    {name, params, args} = hd(entries)

    for denied <- Sandbox.check(calling(name, params, args), sandbox),
        denied.name == name,
        do: denied
  end

  defp entries(name), do: Enum.filter(@functions, &(elem(&1, 0) == name))

  # Of what is never done, whatever is granted.
  @badf 8
  @notsup 58
  @spipe 70

  describe "what Sandbox.check/2 says of a function is what a guest meets:" do
    # Of all capabilities together, of none, and of each by itself and each left out.
    @sandboxes [Keyword.keys(@grants), []] ++
                 Enum.map(Keyword.keys(@grants), &[&1]) ++
                 Enum.map(Keyword.keys(@grants), &(Keyword.keys(@grants) -- [&1]))

    for name <- @names do
      test name do
        entries = entries(unquote(name))
        granted = Enum.map(entries, &outcome(&1, granting(Keyword.keys(@grants))))

        for names <- @sandboxes do
          found = Enum.map(entries, &outcome(&1, granting(names)))
          # Where there are two ways, a file and a stream, one is enough.
          works = Enum.any?(Enum.zip(found, granted), fn {found, granted} -> found == granted end)

          case denied(entries, granting(names)) do
            [] ->
              assert works, "#{unquote(name)} with #{inspect(names)}: #{inspect(found)}"

            [%{effect: :errno}] ->
              assert Enum.all?(found, &match?({errno, _} when errno > 0, &1))
              # Nothing grants a socket.
              refute works and not String.starts_with?(unquote(name), "sock_")

            [%{effect: :empty}] ->
              assert Enum.all?(found, &match?({0, _}, &1))
          end
        end
      end

      test "#{name}, which does not link without the interface" do
        for entry <- entries(unquote(name)),
            opts <- [[], [host_functions: :all], [deterministic: true]] do
          {name, params, args} = entry
          module = calling(name, params, args)
          sandbox = Sandbox.new(opts)
          check = Sandbox.check(module, sandbox)

          assert %{capability: :wasi, effect: :link, grant: grant} =
                   Enum.find(check, &(&1.name == name))

          assert {:error, %DeniedError{capability: :wasi} = error} =
                   Executor.call(module, "call", [], sandbox: sandbox)

          assert error.denied == Enum.map(check, &Map.take(&1, [:module, :name]))
          assert error.grant == grant
          assert Exception.message(error) =~ name
        end
      end
    end

    test "and where everything is granted, each does its work" do
      for {name, _, _} = entry <- @functions do
        expected =
          case name do
            "proc_exit" -> {:exit, 0}
            "proc_raise" -> {@notsup, false}
            "environ_sizes_get" -> {0, 1}
            seeks when seeks in ["fd_seek", "fd_tell"] -> {@spipe, false}
            # A stream has none to set.
            "fd_fdstat_set_" <> _ -> {@badf, false}
            "sock_" <> _ -> :refused
            # Which file systems have it differs.
            "fd_allocate" -> :either
            _ -> {0, false}
          end

        # Each in a directory of its own: some take something away.
        case {expected, outcome(entry, granting(Keyword.keys(@grants)))} do
          {:refused, {errno, false}} -> assert errno > 0
          {:either, {errno, false}} -> assert errno in [0, @notsup]
          {expected, found} -> assert {name, found} == {name, expected}
        end
      end
    end

    test "and all of it in one module" do
      imports =
        Enum.map_join(Enum.uniq_by(@functions, &elem(&1, 0)), "\n", fn {name, params, _} ->
          import_of(name, params)
        end)

      module =
        load!(~s|(module #{imports} #{@data} (func (export "f") (result i32) i32.const 7))|)

      assert length(@names) == 46

      for sandbox <- [Sandbox.new(wasi: true), granting(Keyword.keys(@grants))] do
        assert Executor.call(module, "f", [], sandbox: sandbox) == {:ok, 7}
        assert Enum.all?(Sandbox.check(module, sandbox), &(&1.effect in [:errno, :empty]))
      end

      assert Sandbox.check(module, granting(Keyword.keys(@grants))) |> Enum.map(& &1.name) ==
               ~w(sock_accept sock_recv sock_send sock_shutdown)

      denied = Sandbox.check(module, :none)
      assert Enum.map(denied, & &1.name) == @names
      assert Enum.all?(denied, &match?(%{module: @wasi, capability: :wasi, effect: :link}, &1))

      assert {:error, %DeniedError{denied: named} = error} = Executor.call(module, "f")
      assert length(named) == 46
      assert Exception.message(error) =~ "and 41 more"
    end
  end

  describe "wasi: true alone" do
    test "gives a guest its arguments, its end and what yields, and nothing else" do
      sandbox = Sandbox.new(wasi: true)
      run = run!("tool", ["args", "x"], sandbox: sandbox)
      assert {run.exit_code, run.stdout} == {0, ""}
      assert [{:stdio, "fd_write", :badf}] = refusals(run)
      assert run!("tool", ["exit", "5"], sandbox: sandbox).exit_code == 5

      assert refusals(run!("tool", ["random", "1"], sandbox: sandbox)) |> hd() ==
               {:random, "random_get", :notcapable}

      assert refusals(run!("tool", ["sleep", "1"], sandbox: sandbox)) |> hd() ==
               {:clocks, "poll_oneoff", :notcapable}

      assert {:clocks, "clock_time_get", :notcapable} in refusals(
               run!("tool", ["now"], sandbox: sandbox)
             )
    end
  end

  describe "a function that there is not" do
    defp importing(imports),
      do: load!(~s|(module #{imports} (memory (export "memory") 1) (func (export "f")))|)

    test "is told, whatever is granted" do
      module = importing(~s|(import "#{@wasi}" "fd_wriet" (func (param i32) (result i32)))|)

      assert {:error, %LinkError{problems: [problem]} = error} =
               Executor.call(module, "f", [], sandbox: :command)

      assert %{module: @wasi, name: "fd_wriet", wanted: "(func (param i32) (result i32))"} =
               problem

      assert problem.reason == "WASI preview 1 has no such function"
      assert Exception.message(error) =~ "fd_wriet"

      for sandbox <- [:none, :command, Sandbox.new(wasi: true)] do
        assert [
                 %{
                   name: "fd_wriet",
                   capability: :wasi,
                   effect: :link,
                   grant: "nothing grants it" <> _
                 }
               ] = Sandbox.check(module, sandbox)
      end

      assert {:error, %DeniedError{capability: :wasi}} = Executor.call(module, "f")

      # The host may have one.
      imports = %{@wasi => %{"fd_wriet" => fn _ctx, _fd -> 0 end}}
      assert Executor.call(module, "f", [], imports: imports) == {:ok, nil}
      assert Executor.call(module, "f", [], imports: imports, sandbox: :command) == {:ok, nil}
    end

    test "of another interface is an ordinary import" do
      for {other, words} <- [
            {"wasi:cli/run@0.2.0", "WASI 0.2"},
            {"wasi_snapshot_preview2", "missing"},
            {"WASI_SNAPSHOT_PREVIEW1", "missing"}
          ] do
        module = importing(~s|(import "#{other}" "sched_yield" (func (result i32)))|)
        assert Sandbox.check(module, :none) == []

        assert {:error, %LinkError{problems: [%{module: ^other, reason: reason}]}} =
                 Executor.call(module, "f", [], sandbox: :command)

        assert reason =~ words
      end
    end

    test "but is no function is not WASI's" do
      for import <- [
            ~S|"memory" (memory 1)|,
            ~S|"table" (table 1 funcref)|,
            ~S|"global" (global i32)|
          ] do
        module = load!(~s|(module (import "#{@wasi}" #{import}) (func (export "f")))|)

        assert {:error, %LinkError{problems: [%{module: @wasi}]}} =
                 Executor.call(module, "f", [], sandbox: :command)
      end
    end
  end

  describe "a function of another type than WASI's" do
    test "does not link, for every function" do
      for name <- @names do
        module = importing(~s|(import "#{@wasi}" "#{name}" (func (param f32) (result f64)))|)

        assert {:error, %LinkError{problems: [problem]}} =
                 Executor.call(module, "f", [], sandbox: :command)

        assert %{
                 name: ^name,
                 wanted: "(func (param f32) (result f64))",
                 reason: "WASI's has another type"
               } = problem
      end
    end

    test "is told beside all that is wrong" do
      module =
        importing("""
        (import "#{@wasi}" "proc_exit" (func (param i64)))
        (import "#{@wasi}" "sched_yield" (func (result i32)))
        (import "#{@wasi}" "nothing" (func))
        (import "#{@wasi}" "random_get" (func (param i32 i32)))
        """)

      assert {:error, %LinkError{problems: problems}} =
               Executor.call(module, "f", [], sandbox: :command)

      assert for(problem <- problems, do: {problem.name, problem.reason}) == [
               {"proc_exit", "WASI's has another type"},
               {"nothing", "WASI preview 1 has no such function"},
               {"random_get", "WASI's has another type"}
             ]
    end

    test "may be imported twice only with one type" do
      twice = fn type ->
        importing(
          ~s|(import "#{@wasi}" "sched_yield" (func (result i32))) (import "#{@wasi}" "sched_yield" (func #{type}))|
        )
      end

      assert Executor.call(twice.("(result i32)"), "f", [], sandbox: :command) == {:ok, nil}
      assert {:error, %LinkError{}} = Executor.call(twice.(""), "f", [], sandbox: :command)
    end
  end

  # What was before preview 1.
  describe "preview 0" do
    @before "wasi_unstable"

    test "is granted, refused and served as preview 1 is" do
      for {name, params, args} = entry <- @functions, name != "sock_accept" do
        module = calling(name, params, args, @before)

        for sandbox <- [:none, Sandbox.new(wasi: true), granting(Keyword.keys(@grants))] do
          same = Sandbox.check(calling(name, params, args), sandbox)

          assert Sandbox.check(module, sandbox) == Enum.map(same, &%{&1 | module: @before})
        end

        for granted <- [[], Keyword.keys(@grants)] do
          expected = outcome(entry, granting(granted))
          assert {name, outcome(entry, granting(granted), @before)} == {name, expected}
        end

        assert {:error, %DeniedError{capability: :wasi, denied: [%{module: @before} | _]}} =
                 Executor.call(module, "call")
      end
    end

    test "has no function to accept a connection" do
      {name, params, args} = List.keyfind!(@functions, "sock_accept", 0)
      module = calling(name, params, args, @before)

      assert {:error, %LinkError{problems: [%{module: @before, reason: reason}]}} =
               Executor.call(module, "call", [], sandbox: :command)

      assert reason == "WASI preview 0 has no such function"

      assert [%{effect: :link, grant: "nothing grants it: WASI preview 0" <> _}] =
               Sandbox.check(module, :command)
    end

    test "may be answered by the host, in part and with another's functions beside it" do
      module =
        importing("""
        (import "#{@before}" "sched_yield" (func $yield (result i32)))
        (import "#{@before}" "random_get" (func $random (param i32 i32) (result i32)))
        (import "#{@wasi}" "random_get" (func $new (param i32 i32) (result i32)))
        """)

      imports = %{@before => %{"random_get" => fn _ctx, _at, _length -> 0 end}}
      assert Executor.call(module, "f", [], sandbox: :command) == {:ok, nil}
      assert Executor.call(module, "f", [], sandbox: :command, imports: imports) == {:ok, nil}
      sandbox = sandbox(host_functions: [])

      assert {:error, %DeniedError{capability: :host_functions}} =
               Executor.call(module, "f", [], sandbox: sandbox, imports: imports)
    end
  end

  test "a module that exports no memory is told so when it calls" do
    module =
      load!("""
      (module
        (import "#{@wasi}" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "mem") 1)
        (func (export "f") (result i32) (call $random (i32.const 0) (i32.const 1))))
      """)

    assert {:error, %TrapError{code: :wasi} = error} =
             Executor.call(module, "f", [], sandbox: :command)

    assert Exception.message(error) =~ ~s|exports its memory as "memory"|
  end

  describe "a function that the host answers itself" do
    # Two bytes of randomness, and a write of them.
    defp random do
      load!("""
      (module
        (import "#{@wasi}" "random_get" (func $random (param i32 i32) (result i32)))
        (import "#{@wasi}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\\10\\00\\00\\00\\02\\00\\00\\00")
        (func (export "run") (result i32)
          (drop (call $random (i32.const 16) (i32.const 2)))
          (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (func (export "_start") (drop (call $random (i32.const 16) (i32.const 2)))))
      """)
    end

    defp dice(answer \\ 0), do: fn ctx, at, 2 -> Host.write(ctx, at, "42") && answer end
    defp random_by(function), do: %{@wasi => %{"random_get" => function}}

    test "is the host's, and the others are WASI's" do
      assert {:ok, %Run{result: 0, stdout: "42"} = run} =
               Executor.run(random(), "run", [], imports: random_by(dice()), sandbox: sandbox())

      assert run.usage.host_calls == 2
      # What is not granted is the host's to give.
      assert {:ok, %Run{stdout: "42", denials: []}} =
               Executor.run(random(), "run", [],
                 imports: random_by(dice()),
                 sandbox: sandbox(random: :none)
               )
    end

    test "may be any, and all" do
      test = self()

      write = fn ctx, fd, iovs, 1, out ->
        {:ok, <<at::32-little, len::32-little>>} = Host.read(ctx, iovs, 8)
        {:ok, bytes} = Host.read(ctx, at, len)
        :ok = Host.write(ctx, out, <<len::32-little>>)
        send(test, {:written, fd, bytes})
        0
      end

      imports = %{@wasi => %{"random_get" => dice(), "fd_write" => write}}
      # No system interface is needed then.
      for opts <- [
            [],
            [sandbox: :none],
            [sandbox: :pure],
            [sandbox: :command],
            [sandbox: Sandbox.new(wasi: true)]
          ] do
        assert {:ok, %Run{result: 0, stdout: ""}} =
                 Executor.run(random(), "run", [], [imports: imports] ++ opts)

        assert_received {:written, 1, "42"}
      end

      assert Executor.call(random(), :start, imports: imports) == {:ok, 0}
    end

    test "leaves the others to be granted" do
      assert {:error, %DeniedError{capability: :wasi, denied: denied}} =
               Executor.call(random(), "run", [], imports: random_by(dice()))

      assert denied == [%{module: @wasi, name: "fd_write"}]
    end

    test "is declared with its type" do
      defmodule Random do
        use Host, module: "wasi_snapshot_preview1"

        defimport random_get(ctx, at :: i32, length :: i32) :: i32 do
          Host.write(ctx, at, String.duplicate("7", length))
          0
        end
      end

      defmodule Wrong do
        use Host, module: "wasi_snapshot_preview1"
        defimport(random_get(_ctx, _at :: i64) :: i32, do: 0)
      end

      defmodule More do
        use Host, module: "wasi_snapshot_preview1"
        defimport(random_get(_ctx, _at :: i32, _length :: i32) :: i32, do: 0)
        defimport(fd_close(_ctx, _fd :: i32) :: i32, do: 0)
      end

      assert {:ok, %Run{stdout: "77"}} =
               Executor.run(random(), "run", [], imports: Random, sandbox: :command)

      # The later of several wins.
      assert {:ok, %Run{stdout: "42"}} =
               Executor.run(random(), "run", [],
                 imports: [Random, random_by(dice())],
                 sandbox: :command
               )

      assert {:error, %LinkError{problems: [%{name: "random_get", reason: reason}]}} =
               Executor.call(random(), "run", [], imports: Wrong, sandbox: :command)

      assert reason =~ "Wrong declares it as (func (param i64) (result i32))"

      assert {:error, %LinkError{problems: [%{name: "fd_close", reason: reason}]}} =
               Executor.call(random(), "run", [], imports: More, sandbox: :command)

      assert reason =~ "the module does not import it"
    end

    test "must take what the module gives" do
      for function <- [fn _ctx -> 0 end, fn _a, _b -> 0 end, :no, {dice(), async: :maybe}] do
        assert {:error, %LinkError{problems: [%{module: @wasi, name: "random_get"}]}} =
                 Executor.call(random(), "run", [],
                   imports: random_by(function),
                   sandbox: :command
                 )
      end

      assert {:error, %LinkError{problems: problems}} =
               Executor.call(random(), "run", [], imports: %{@wasi => :no}, sandbox: :command)

      assert Enum.map(problems, & &1.name) == ["random_get", "fd_write"]
    end

    test "may be given and not imported" do
      imports = %{@wasi => %{"fd_wriet" => dice(), "fd_close" => dice()}}

      assert {:ok, %Run{stdout: <<_, _>>}} =
               Executor.run(random(), "run", [], imports: imports, sandbox: :command)

      assert {:ok, %Run{stdout: <<_, _>>}} =
               Executor.run(random(), "run", [], imports: %{@wasi => %{}}, sandbox: :command)
    end

    test "may be asynchronous, and fail" do
      slow = {fn _ctx, _at, _length -> Task.async(fn -> 0 end) end, async: true}

      assert Executor.call(random(), "run", [], imports: random_by(slow), sandbox: :command) ==
               {:ok, 0}

      assert {:error,
              %HostError{reason: %RuntimeError{message: "no"}, import: {@wasi, "random_get"}}} =
               Executor.call(random(), "run", [],
                 imports: random_by(fn _, _, _ -> raise "no" end),
                 sandbox: :command
               )
    end

    test "is a host function to the sandbox" do
      denied =
        &Executor.call(random(), "run", [],
          imports: random_by(dice()),
          sandbox: sandbox(host_functions: &1)
        )

      for list <- [[], ["env.*"], ["#{@wasi}.fd_write"], ["#{@wasi}.random"]] do
        assert {:error, %DeniedError{capability: :host_functions} = error} = denied.(list)
        assert error.denied == [%{module: @wasi, name: "random_get"}]
        assert error.grant == ~s|add "#{@wasi}.random_get" to host_functions:|
      end

      for list <- [["#{@wasi}.random_get"], ["#{@wasi}.*"], [{@wasi, "random_get"}]],
          do: assert(denied.(list) == {:ok, 0})

      # WASI's own is none.
      assert Executor.call(random(), "run", [], sandbox: sandbox(host_functions: [])) == {:ok, 0}
    end

    test "may end the command in its own way" do
      exiting = fn function -> %{@wasi => %{"proc_exit" => function}} end
      options = [args: ["exit", "3"], sandbox: sandbox()]
      assert run!("tool", ["exit", "3"]).exit_code == 3
      test = self()

      # proc_exit does not return: the C library has nothing behind it.
      assert {:error, %TrapError{code: :unreachable}} =
               Executor.run(
                 program("tool"),
                 :start,
                 [imports: exiting.(fn _ctx, code -> send(test, {:exit, code}) end)] ++ options
               )

      assert_received {:exit, 3}

      assert {:error, %HostError{kind: :trap, reason: {:exit, 3}}} =
               Executor.run(
                 program("tool"),
                 :start,
                 [imports: exiting.(&Host.trap(&1, {:exit, &2}))] ++ options
               )
    end

    test "may be another guest's" do
      fixed =
        load!(~S"""
        (module
          (func (export "random_get") (param i32 i32) (result i32) (i32.const 0))
          (func (export "other") (param i32 i32) (result i32) (i32.const 1)))
        """)

      for source <- [
            {fixed, "random_get"},
            {fixed, "other"},
            {Instance.new!(fixed), "random_get"}
          ] do
        # That is no host function, so that nothing has to be listed.
        assert {:ok, %Run{result: 0, stdout: "\0\0"}} =
                 Executor.run(random(), "run", [],
                   imports: %{@wasi => %{"random_get" => source}},
                   sandbox: sandbox(host_functions: [])
                 )
      end

      # A whole one must have all that is wanted.
      assert {:error, %LinkError{problems: [%{name: "fd_write", reason: "missing" <> _}]}} =
               Executor.call(random(), "run", [], imports: %{@wasi => fixed}, sandbox: :command)

      whole =
        load!(~S"""
        (module
          (func (export "random_get") (param i32 i32) (result i32) (i32.const 0))
          (func (export "fd_write") (param i32 i32 i32 i32) (result i32) (i32.const 52)))
        """)

      # Nothing of WASI's is left.
      assert Executor.call(random(), "run", [], imports: %{@wasi => whole}) == {:ok, 52}
    end

    test "is so for every module that is linked" do
      main =
        load!(
          ~S|(module (import "lib" "run" (func $run (result i32))) (func (export "run") (result i32) (call $run)))|
        )

      imports = Map.put(random_by(dice()), "lib", random())

      assert {:ok, %Run{stdout: "42"}} =
               Executor.run(main, "run", [], imports: imports, sandbox: :command)

      assert {:error, %DeniedError{capability: :host_functions}} =
               Executor.run(main, "run", [],
                 imports: imports,
                 sandbox: sandbox(host_functions: [])
               )
    end

    test "stays so on a live instance" do
      instance = Instance.new!(random(), imports: random_by(dice()), sandbox: sandbox())
      for _ <- 1..2, do: assert({:ok, %Run{stdout: "42"}} = Instance.run(instance, "run"))
      assert Instance.reset(instance) == :ok
      assert {:ok, %Run{stdout: "42"}} = Instance.run(instance, "run")

      # For one call it may be another.
      other = fn ctx, at, 2 -> Host.write(ctx, at, "ab") && 0 end

      assert {:ok, %Run{stdout: "ab"}} =
               Instance.run(instance, "run", [], imports: random_by(other))

      assert {:ok, %Run{stdout: "42"}} = Instance.run(instance, "run")
    end

    test "is so from the beginning: what WASI answers is not replaced for one call" do
      instance = Instance.new!(random(), sandbox: sandbox(random: {:seeded, 1}))

      assert {:error, %LinkError{problems: [%{module: @wasi, name: "random_get"}]}} =
               Instance.run(instance, "run", [], imports: random_by(dice()))

      assert {:ok, %Run{result: 0}} = Instance.run(instance, "run")
    end
  end
end
