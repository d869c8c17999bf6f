defmodule Cybernetic.WASM.Instance.ServerTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Cybernetic.WASM.{Eventually, Guests, Plenty}
  import Cybernetic.WASM.Turns, except: [next: 1, next: 2]

  alias Cybernetic.WASM.{Host, Instance, Memory, Run, Turns, Usage}
  alias Cybernetic.WASM.{CallError, HostError, LimitError, LinkError, LoadError, TrapError}

  defp start(opts \\ []) do
    opts = Keyword.merge(forever(module: counter(), imports: echo()), opts)
    start_supervised!({Instance, opts}, id: make_ref(), restart: :temporary)
  end

  # What is waited for if nothing is said is less than a busy machine may take.
  defp next(server, opts \\ []), do: Turns.next(server, Keyword.put_new(opts, :wait, never()))

  # Servers that end with an error say so in the log.
  @moduletag :capture_log

  # Why a server ends.
  defp down(server) do
    monitor = Process.monitor(server)
    receive(do: ({:DOWN, ^monitor, :process, _, reason} -> reason))
  end

  describe "a server" do
    test "has an instance that anybody may use by its pid or name" do
      name = :"#{__MODULE__}.named"
      pid = start(name: name)
      assert next(pid) == {:ok, 1}
      assert next(name) == {:ok, 2}
      assert Instance.call!(name, "next") == 3
      assert {:ok, %Run{result: 4, output: ""}} = Instance.run(name, "next")
      assert %Run{result: 5} = Instance.run!(pid, "next")
      assert elsewhere(fn -> next(name) end) == {:ok, 6}
    end

    test "may be given the module's source, and loads it itself" do
      for {source, opts} <- [
            {"priv/wasm/compute.wasm", []},
            {{:bytes, File.read!("priv/wasm/compute.wat")}, [load: [metering: :epoch]]}
          ] do
        server = start_supervised!({Instance, [module: source] ++ opts}, id: make_ref())
        assert Instance.call(server, "process", [4], wait: never(), timeout: never()) == {:ok, 8}
        refute Instance.poisoned?(server)
      end
    end

    @tag :tmp_dir
    test "with a broken source fails its callers, and no supervisor", %{tmp_dir: folder} do
      [broken, sound] = for name <- ["broken", "sound"], do: :"#{__MODULE__}.#{name}"
      path = Path.join(folder, "late.wasm")

      children = [
        Supervisor.child_spec({Instance, name: broken, module: path}, id: broken),
        Supervisor.child_spec({Instance, name: sound, module: "priv/wasm/compute.wasm"}, id: sound)
      ]

      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_all)

      process = fn name ->
        Instance.call(name, "process", [4], wait: never(), timeout: never())
      end

      assert {:error, %LoadError{reason: :not_found}} = process.(broken)
      assert process.(sound) == {:ok, 8}
      refute Instance.poisoned?(broken)
      assert Instance.usage(broken) == nil
      assert %Usage{fuel: fuel} = Instance.usage(sound)
      assert fuel > 0

      # All who stand in line get the error.
      callers = for _ <- 1..10, do: Task.async(fn -> process.(broken) end)
      for result <- await(callers), do: assert({:error, %LoadError{}} = result)

      File.cp!("priv/wasm/compute.wasm", path)
      assert process.(broken) == {:ok, 8}
      assert %{active: 2} = Supervisor.count_children(supervisor)
      :ok = Supervisor.stop(supervisor)
    end

    test "with a broken source is named in the log, by its pid where it has no name" do
      log =
        capture_log(fn ->
          server = start_supervised!({Instance, module: "no/such.wasm"}, restart: :temporary)
          assert {:error, %LoadError{}} = Instance.call(server, "process", [4], wait: never())
          send(self(), {:server, server})
        end)

      assert_received {:server, server}
      assert log =~ "#{inspect(server)} has no instance: cannot load no/such.wasm: no such file"
    end

    test "with a source and a mistake in its options ends by that" do
      Process.flag(:trap_exit, true)
      {:ok, server} = Instance.start_link(module: "priv/wasm/compute.wasm", load: [colour: :red])
      assert_receive {:EXIT, ^server, {%ArgumentError{message: message}, _stack}}
      assert message =~ "unknown load option :colour"
    end

    test "with a source says busy to one who does not wait while it loads" do
      source = {:bytes, plain(4_000, System.unique_integer([:positive]))}
      {:ok, server} = Instance.start_link(module: source)
      assert {:error, %CallError{reason: :busy}} = Instance.call(server, "f", [], wait: 0)
      assert Instance.call(server, "f", [], wait: never(), timeout: never()) == {:ok, 1}
    end

    @tag :tmp_dir
    test "with a source that could not be loaded before keeps nobody longer in line than they wait",
         %{tmp_dir: dir} do
      path = Path.join(dir, "spins.wat")

      {:ok, server} =
        Instance.start_link(module: path, timeout: 20_000, fuel: 100_000_000_000_000)

      assert {:error, %LoadError{}} =
               Instance.call(server, "f", [], wait: never(), timeout: never())

      File.write!(path, ~S|(module (func $spin (loop (br 0))) (start $spin) (func (export "f")))|)
      assert reason(Instance.call(server, "f", [], wait: 1)) == :busy
      assert reason(Instance.call(server, "f", [], wait: 0)) == :busy
      {:monitors, [process: maker]} = Process.info(server, :monitors)
      gone = Process.monitor(maker)
      :ok = Instance.close(server)
      # What is being made ends with the server, however long it would take.
      assert_receive {:DOWN, ^gone, :process, ^maker, :killed}
    end

    test "may be named as any GenServer" do
      registry = :"#{__MODULE__}.registry"
      start_supervised!({Registry, keys: :unique, name: registry})

      for name <- [
            {:via, Registry, {registry, "counter"}},
            {:global, {__MODULE__, make_ref()}}
          ] do
        start(name: name)
        assert next(name) == {:ok, 1}
        assert Memory.size(name) == {:ok, 65_536}
        refute Instance.poisoned?(name)
      end
    end

    test "is called in the process of the caller" do
      server = start()
      test = self()
      Process.put(:mine, :own)

      imports =
        f(fn _ctx, n ->
          assert self() == test
          assert Process.get(:mine) == :own
          n
        end)

      assert Instance.call!(server, "run", [5], imports: imports) == 5
    end

    test "gives all that an instance gives" do
      module =
        load!(~S"""
        (module
          (memory (export "memory") 1)
          (global (export "g") (mut i64) (i64.const 3))
          (table (export "t") 2 externref)
          (func (export "fail") unreachable))
        """)

      server = start(module: module, imports: %{}, snapshottable: true)
      assert Instance.get_global(server, "g") == {:ok, 3}
      assert Instance.set_global(server, "g", -1) == :ok
      assert Instance.get_global(server, "g") == {:ok, -1}
      assert Instance.table_size(server, "t") == {:ok, 2}
      assert Instance.table_get(server, "t", 1) == {:ok, nil}
      assert reason(Instance.table_get(server, "t", 2)) == :no_such_element
      assert Memory.write(server, 0, "memory") == :ok
      assert Memory.read(server, 0, 6) == {:ok, "memory"}

      assert {:ok, fork} = Instance.fork(server)
      assert {:ok, wasm} = Instance.snapshot(server)
      assert Instance.reset(server) == :ok
      assert Instance.get_global(server, "g") == {:ok, 3}

      # A fork is an instance without a server.
      for instance <- [fork, Instance.new!(load!(wasm))] do
        assert Instance.get_global(instance, "g") == {:ok, -1}
        assert Memory.read(instance, 0, 6) == {:ok, "memory"}
      end
    end

    test "holds the limits, host functions and data that it was started with" do
      server = start(fuel: 1_000, imports: f(fn ctx, n -> n + Host.data(ctx) end), data: 4)
      assert Instance.call(server, "run", [1]) == {:ok, 5}
      assert Instance.call(server, "run", [1], data: 10) == {:ok, 11}
      assert Instance.call(server, "run", [1], imports: echo()) == {:ok, 1}

      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
               Instance.call(server, "spin", [], fuel: 1_000_000)
    end

    test "may have an instance that is linked, which is made anew with all it is linked to" do
      lib = load!(~S|(module (global $n (mut i32) (i32.const 0))
        (func (export "f") (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))|)

      module = load!(~S|(module (import "lib" "f" (func $f (result i32)))
        (func (export "next") (result i32) (call $f)) (func (export "fail") unreachable))|)

      server = start(module: module, imports: %{"lib" => lib})
      assert {next(server), next(server)} == {{:ok, 1}, {:ok, 2}}
      assert {:error, %TrapError{}} = Instance.call(server, "fail")
      assert next(server) == {:ok, 1}
    end

    test "raises what was raised, and wants what an instance wants" do
      server = start()
      imports = f(fn _, _ -> raise KeyError, key: 1, term: 2 end)
      assert_raise KeyError, fn -> Instance.call!(server, "run", [1], imports: imports) end
      assert_raise TrapError, fn -> Instance.run!(server, "fail") end
      assert_raise ArgumentError, fn -> Instance.call(server, :next) end
      assert_raise ArgumentError, fn -> Instance.call(server, "next", [1 | 2]) end
      assert reason(Instance.call(server, "nothing")) == :no_such_export

      error = assert_raise ArgumentError, fn -> next(server, fule: 1) end

      assert error.message =~
               "unknown option of a call on an instance :fule (did you mean :fuel?); known are: "

      assert next(server) == {:ok, 1}
    end
  end

  describe "start_link" do
    test "is in a child's specification, whose id is the name" do
      opts = [module: counter(), name: :some_name]

      assert Instance.child_spec(opts) == %{
               id: :some_name,
               start: {Instance, :start_link, [opts]}
             }

      assert Instance.child_spec(module: counter()).id == Instance
    end

    test "fails as new does" do
      Process.flag(:trap_exit, true)
      trapping = load!(~S"(module (func $s unreachable) (start $s))")

      for {opts, kind} <- [
            {[module: counter()], LinkError},
            {[module: trapping], TrapError},
            {[module: counter(), imports: echo(), max_memory: 1], LimitError},
            {[module: stateless(), snapshottable: true], CallError}
          ] do
        assert {:error, %^kind{} = error} = Instance.start_link(opts)
        assert_receive {:EXIT, _pid, ^error}
      end
    end

    defp stateless do
      load!("(module (table $t 1 funcref) (func (table.set $t (i32.const 0) (ref.null func))))")
    end

    test "raises for a module that was not loaded, and for options that there are none of" do
      for module <- [:counter, nil, {:ok, counter()}, live()] do
        error = assert_raise ArgumentError, fn -> Instance.start_link(module: module) end
        assert error.message =~ "option :module must be a %Cybernetic.WASM.Module{}"
      end

      error = assert_raise ArgumentError, fn -> Instance.start_link(name: :x) end
      assert error.message =~ "option :module must be a %Cybernetic.WASM.Module{}"

      error =
        assert_raise ArgumentError, fn -> Instance.start_link(module: counter(), nmae: :x) end

      assert error.message =~
               "unknown option of an instance's server :nmae (did you mean :name?); known are: :module, :name, :on_poison"

      error =
        assert_raise ArgumentError, fn ->
          Instance.start_link(module: counter(), imports: echo(), on_poison: :ignore)
        end

      assert error.message =~ "option :on_poison must be one of :reset, :stop"
    end

    test "with a name that is taken says who has it" do
      pid = start(name: :"#{__MODULE__}.taken")

      assert Instance.start_link(
               module: counter(),
               imports: echo(),
               name: :"#{__MODULE__}.taken"
             ) == {:error, {:already_started, pid}}
    end
  end

  describe "turns" do
    test "are taken in line, first come, first served", do: assert_served_in_order(start())

    test "are waited for if nothing else is said" do
      server = start()

      waiting =
        while_held(server, fn ->
          [in_line(fn -> Turns.next(server) end), in_line(fn -> Memory.size(server) end)]
        end)

      assert await(waiting) == [ok: 1, ok: 65_536]
    end

    test "that may not be waited for are refused at once with wait: 0" do
      server = start()

      refused =
        while_held(server, fn ->
          [
            next(server, wait: 0),
            Instance.run(server, "next", [], wait: 0),
            Instance.reset(server, wait: 0),
            Instance.snapshot(server, wait: 0),
            Instance.borrow(server, fn _ -> :mine end, wait: 0)
          ]
        end)

      for result <- refused, do: assert(reason(result) == :busy)
      assert next(server, wait: 0) == {:ok, 1}
    end

    test "that take too long are given up, as busy, and nothing comes late" do
      server = start()

      last =
        while_held(server, fn ->
          for _ <- 1..10, do: assert(reason(next(server, wait: 3)) == :busy)
          # A call that has less time than it might wait does not wait longer than that.
          for key <- [:timeout, :max_execution_time],
              do: assert(reason(Turns.next(server, [{key, 10}])) == :busy)

          next_in_line(server)
        end)

      assert await(last) == {:ok, 1}
      assert mailbox() == []
    end

    test "that cannot be waited for so long raise in the one who asked, and nowhere else" do
      server = start()
      holder = hold(server)

      for opts <- [
            [wait: -1],
            [wait: :infinity],
            [wait: nil],
            [wait: 1.5],
            [wait: 1_000_000_000_000],
            [timeout: -1],
            [timeout: "1"],
            %{wait: 1},
            [:wait]
          ],
          call <- [
            &Turns.next(server, &1),
            &Instance.run(server, "next", [], &1),
            &Instance.reset(server, &1),
            &Instance.fork(server, &1),
            &Instance.borrow(server, fn _ -> :mine end, &1)
          ] do
        assert_raise ArgumentError, fn -> call.(opts) end
      end

      assert_raise ArgumentError, ~r/unknown option of a turn on an instance :wiat/, fn ->
        Instance.borrow(server, fn _ -> :mine end, wiat: 1)
      end

      assert release(holder) == {:ok, 7}
      assert next(server) == {:ok, 1}
    end

    test "of one who is killed in line go to the next",
      do: assert_served_past_one_killed_in_line(start())

    test "of one who is killed when it has its turn, before it knows, go to the next",
      do: assert_served_past_one_killed_unknowing(start())

    test "of a host function that calls its own server never come, and it is told" do
      server = start()
      test = self()

      imports =
        f(fn _ctx, n ->
          send(test, {:inside, next(server, wait: 10)})
          n
        end)

      assert Instance.call(server, "run", [3], imports: imports) == {:ok, 3}
      assert_received {:inside, {:error, %CallError{reason: :busy}}}
      assert next(server) == {:ok, 1}
    end

    test "are had by 200 processes, ten times each" do
      server = start()
      # Some look at the guest besides, for which they stand in line as well.
      read = &Memory.read(&1, 0, 8)

      look = fn n ->
        if rem(n, 5) == 0, do: {:ok, _} = Instance.borrow(server, read, wait: never())
      end

      assert_all_have_turns(server, 200, look)
    end

    test "are had by whoever is left of 200 processes that are killed at any moment" do
      server = start()
      turns = survivors(fn -> for _ <- 1..10, do: {:ok, _} = next(server) end)
      # The guest may have been made anew in between, and nobody has seen anything of it.
      assert Enum.map(turns, &length/1) == List.duplicate(10, 100)
      assert {:ok, _} = next(server)
    end
  end

  describe "a caller that goes while it has its turn" do
    test "because it is killed in a host call frees the instance, which is made anew" do
      server = start()
      assert next(server) == {:ok, 1}
      holder = hold(server)
      waiting = next_in_line(server)
      kill(holder)
      assert await(waiting) == {:ok, 1}
    end

    test "because it is killed while the guest runs frees it too" do
      server = start()
      assert next(server) == {:ok, 1}

      spinning = spawn(fn -> Instance.call(server, "spin", [], forever()) end)
      # It has its turn a moment before the guest runs, and nothing is lost if it goes then.
      until_running(Instance.Server.peek(server))
      waiting = next_in_line(server)
      Process.exit(spinning, :kill)
      assert await(waiting) == {:ok, 1}
    end

    test "because its time is over frees it" do
      server = start()
      assert next(server) == {:ok, 1}

      assert {:error, %LimitError{limit: :timeout, allowed: 20}} =
               Instance.call(server, "spin", [], timeout: 20)

      assert next(server) == {:ok, 1}
      refute Instance.poisoned?(server)
    end

    test "because it raises, throws or exits frees it" do
      server = start()
      assert_raise RuntimeError, fn -> Instance.borrow(server, fn _ -> raise "out" end) end
      assert catch_throw(Instance.borrow(server, fn _ -> throw(:out) end)) == :out
      assert catch_exit(Instance.borrow(server, fn _ -> exit(:out) end)) == :out
      # Nothing was going on in the guest.
      assert next(server) == {:ok, 1}
      assert next(server) == {:ok, 2}
    end

    test "between two calls leaves the guest as it is" do
      server = start()
      test = self()

      pid =
        spawn(fn ->
          Instance.borrow(server, fn instance ->
            Instance.call!(instance, "next")
            send(test, :between)
            Process.sleep(:infinity)
          end)
        end)

      assert_receive :between
      Process.exit(pid, :kill)
      assert next(server) == {:ok, 2}
    end
  end

  describe "on_poison" do
    test ":reset makes the guest anew, before the next has it" do
      for {name, args, opts, kind} <- [
            {"fail", [], [], TrapError},
            {"spin", [], [fuel: 1_000], LimitError},
            {"run", [1], [imports: f(fn _, _ -> raise "no" end)], HostError}
          ] do
        server = start()
        assert next(server) == {:ok, 1}
        assert {:error, %^kind{}} = Instance.call(server, name, args, opts)
        assert next(server) == {:ok, 1}
        refute Instance.poisoned?(server)
      end
    end

    test ":reset runs the start function in the server, with its host functions" do
      module = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
          (func $s (drop (call $f (i32.const 1)))) (start $s)
          (func (export "fail") unreachable) (func (export "next") (result i32) i32.const 1))|)

      test = self()

      server =
        start(
          module: module,
          imports: f(fn _ctx, n -> send(test, {:started_in, self()}) && n end)
        )

      assert_receive {:started_in, ^server}
      assert {:error, %TrapError{}} = Instance.call(server, "fail")
      assert next(server) == {:ok, 1}
      assert_receive {:started_in, ^server}
    end

    test ":reset that fails ends the server with the error" do
      module = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
          (func $s (drop (call $f (i32.const 1)))) (start $s)
          (func (export "fail") unreachable))|)

      times = :counters.new(1, [])

      imports =
        f(fn _ctx, n ->
          :counters.add(times, 1, 1)
          if :counters.get(times, 1) > 1, do: raise("once is enough"), else: n
        end)

      server = start(module: module, imports: imports)
      assert {:error, %TrapError{}} = Instance.call(server, "fail")
      assert %HostError{reason: %RuntimeError{message: "once is enough"}} = down(server)
    end

    test ":stop leaves it to the supervisor" do
      name = :"#{__MODULE__}.stopping"

      opts = [module: counter(), imports: echo(), name: name, on_poison: :stop]
      first = start_supervised!({Instance, opts})
      assert next(name) == {:ok, 1}
      assert {:error, %TrapError{}} = Instance.call(name, "fail")
      assert down(first) in [{:shutdown, :poisoned}, :noproc]

      eventually(fn -> Process.whereis(name) not in [nil, first] end)
      assert next(name) == {:ok, 1}
    end

    test ":stop ends those who stand in line as a server's end does" do
      server = start(on_poison: :stop)
      holder = hold(server)

      waiting = in_line(fn -> catch_exit(Instance.call(server, "next", [], wait: never())) end)

      kill(holder)
      assert {{:shutdown, :poisoned}, {GenServer, :call, _}} = await(waiting)
    end

    test "is nothing to a guest that survives its traps" do
      server = start(on_trap: :keep, on_poison: :stop)
      assert next(server) == {:ok, 1}
      assert {:error, %TrapError{}} = Instance.call(server, "fail")
      assert next(server) == {:ok, 2}
    end
  end

  describe "borrow" do
    test "has the instance to oneself for several calls" do
      server = start()
      test = self()

      borrowing =
        Task.async(fn ->
          Instance.borrow(server, fn instance ->
            one = Instance.call!(instance, "next")
            send(test, :borrowed)
            receive(do: (:go_on -> :ok))
            :ok = Memory.write(instance, 0, "mine")
            {one, Instance.call!(instance, "next"), Memory.read(instance, 0, 4)}
          end)
        end)

      assert_receive :borrowed
      # Nothing runs in the guest, and still it is not one's turn.
      assert reason(next(server, wait: 0)) == :busy
      waiting = next_in_line(server)
      send(borrowing.pid, :go_on)
      assert await(borrowing) == {1, 2, {:ok, "mine"}}
      assert await(waiting) == {:ok, 3}
    end

    test "gives what the function gives" do
      server = start()

      for value <- [nil, :ok, {:error, :mine}, 7],
          do: assert(Instance.borrow(server, fn _ -> value end) == value)
    end

    test "of an instance that was left poisoned gives the next a sound one" do
      server = start()

      Instance.borrow(server, fn instance ->
        assert {:error, %TrapError{}} = Instance.call(instance, "fail")
        assert Instance.poisoned?(instance)
        # One may make it anew oneself.
        assert Instance.reset(instance) == :ok
        assert Instance.call(instance, "next") == {:ok, 1}
        assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      end)

      assert next(server) == {:ok, 1}
    end

    test "of an instance that is closed ends the server" do
      server = start()
      assert Instance.borrow(server, &Instance.close/1) == :ok
      assert down(server) in [:normal, :noproc]
    end
  end

  describe "the end" do
    test "is there with close/1" do
      server = start()
      assert next(server) == {:ok, 1}
      assert Instance.close(server) == :ok
      refute Process.alive?(server)
      assert {:noproc, _} = catch_exit(next(server))
    end

    test "of a server while a call runs lets the caller finish" do
      server = start()
      holder = hold(server)
      assert Instance.close(server) == :ok
      assert release(holder) == {:ok, 7}
    end

    test "of a server that is not there is told as with any GenServer" do
      assert {:noproc, _} = catch_exit(next(:"#{__MODULE__}.nobody"))
    end

    test "is not brought about by messages that are none of its own" do
      server = start()

      for message <- [
            :hello,
            {:DOWN, make_ref(), :process, self(), :normal},
            {:too_late, make_ref()},
            {make_ref(), :late_reply},
            {:EXIT, self(), :normal}
          ],
          do: send(server, message)

      GenServer.cast(server, {:check_in, make_ref()})
      assert next(server) == {:ok, 1}
    end

    test "of somebody's turn is not brought about by another's ticket" do
      server = start()

      refused =
        while_held(server, fn ->
          GenServer.cast(server, {:check_in, make_ref()})
          send(server, {:too_late, make_ref()})
          next(server, wait: 0)
        end)

      assert reason(refused) == :busy
    end
  end

  test "poisoned? asks nobody's turn" do
    server = start()
    refute while_held(server, fn -> Instance.poisoned?(server) end)
  end

  test "a target that is none raises with what is needed, a module above all" do
    for target <- [counter(), nil, "counter", %{}] do
      for call <- [
            &Instance.call(&1, "next"),
            &Instance.run(&1, "next"),
            &Instance.reset/1,
            &Instance.poisoned?/1,
            &Instance.close/1,
            &Instance.get_global(&1, "n"),
            &Instance.snapshot/1,
            &Instance.borrow(&1, fn _ -> :ok end)
          ] do
        error = assert_raise ArgumentError, fn -> call.(target) end
        assert error.message =~ "a live instance is needed, from Cybernetic.WASM.Instance.new/2"
      end
    end
  end
end
