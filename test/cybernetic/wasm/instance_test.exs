defmodule Cybernetic.WASM.InstanceTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Guests, Turns}

  alias Cybernetic.WASM.{Executor, Host, Instance, Run, Sandbox}
  alias Cybernetic.WASM.{CallError, HostError, LimitError, LinkError, TrapError}

  doctest Cybernetic.WASM.Instance

  defmodule Doubling do
    use Cybernetic.WASM.Host, module: "env"
    defimport(f(_ctx, n :: i32) :: i32, do: 2 * n)
  end

  describe "an instance" do
    test "keeps its state between calls" do
      instance = live()
      assert Enum.map(1..5, fn _ -> next(instance) end) == Enum.map(1..5, &{:ok, &1})
    end

    test "is apart from another of the same module" do
      {one, other} = {live(), live()}
      assert next(one) == {:ok, 1}
      assert next(one) == {:ok, 2}
      assert next(other) == {:ok, 1}
    end

    test "is a value that any process may use" do
      instance = live()

      for n <- 1..5,
          do: assert(elsewhere(fn -> next(instance) end) == {:ok, n})
    end

    test "outlives the process that made it, as long as somebody holds it" do
      instance = elsewhere(fn -> live() end)
      :erlang.garbage_collect()
      assert next(instance) == {:ok, 1}
    end

    test "shows its module, and no reference" do
      instance = Instance.new!(compute())

      assert inspect(instance) =~
               ~r/\A#Cybernetic\.WASM\.Instance<compute.wasm, blake3:[0-9a-f]{8}>\z/

      assert instance.module.name == "compute.wasm"
    end

    test "gives function references that are good in it, and in no other" do
      module =
        load!(~S"""
        (module
          (func $self (export "self") (result funcref) (ref.func $self))
          (func (export "take") (param funcref) (result i32) (ref.is_null (local.get 0))))
        """)

      {one, other} = {Instance.new!(module), Instance.new!(module)}
      reference = Instance.call!(one, "self")
      assert Instance.call(one, "take", [reference]) == {:ok, 0}

      assert {:error, %CallError{reason: :type, index: 0}} =
               Instance.call(other, "take", [reference])

      # Nor is it in the same one made anew: it would be a function of a guest that is gone.
      :ok = Instance.reset(one)

      assert {:error, %CallError{reason: :type, index: 0}} =
               Instance.call(one, "take", [reference])
    end

    test "keeps the terms that its guest has references to" do
      module =
        load!(~S"""
        (module
          (table $kept 100 externref)
          (func (export "keep") (param i32 externref) (table.set $kept (local.get 0) (local.get 1)))
          (func (export "kept") (param i32) (result externref) (table.get $kept (local.get 0))))
        """)

      instance = Instance.new!(module)
      terms = for n <- 0..99, do: {n, self(), make_ref(), String.duplicate("#{n}", 1_000)}

      elsewhere(fn ->
        for {n, _, _, _} = term <- terms, do: Instance.call!(instance, "keep", [n, term])
      end)

      for {n, _, _, _} = term <- terms,
          do: assert(Instance.call(instance, "kept", [n]) == {:ok, term})

      for _ <- 1..5_000, do: Instance.call!(instance, "keep", [0, make_ref()])
      assert Instance.call!(instance, "kept", [99]) == List.last(terms)
    end
  end

  describe "new" do
    test "wants a loaded module" do
      for other <- [nil, {:ok, counter()}, live(), %{}] do
        error = assert_raise ArgumentError, fn -> Instance.new(other) end
        assert error.message =~ "load it first with Cybernetic.WASM.Runtime.load_module/2"
      end
    end

    test "names the options that there are when it is given another" do
      error = assert_raise ArgumentError, fn -> Instance.new(counter(), fule: 1) end
      assert error.message =~ "unknown instance option :fule (did you mean :fuel?); known are: "

      for known <- [:on_trap, :snapshottable, :store, :imports, :data, :sandbox, :wait, :fuel],
          do: assert(error.message =~ inspect(known))
    end

    test "says where a grant belongs, and what a call cannot change" do
      error = assert_raise ArgumentError, fn -> Instance.new(counter(), stdio: :captured) end

      assert error.message ==
               "unknown instance option :stdio: a grant belongs into the sandbox, sandbox: Sandbox.new(stdio: …)"

      error = assert_raise ArgumentError, fn -> next(live(), allocation: :on_demand) end

      assert error.message ==
               "unknown option of a call on an instance :allocation: it is an option of Instance.new/2, and holds for all calls"
    end

    test "says what an option takes" do
      for {opts, words} <- [
            {[fuel: 0], "option :fuel must be an integer from 1"},
            {[timeout: :infinity], "option :timeout must be an integer of milliseconds"},
            {[on_trap: :ignore], "option :on_trap must be one of :poison, :keep"},
            {[snapshottable: nil], "option :snapshottable must be true or false"},
            {[store: counter()], "option :store must be a %Cybernetic.WASM.Instance{}"},
            {[imports: [:no_such_module]], ":no_such_module has no host functions"},
            {[imports: "env"], "option :imports must be a map of maps"},
            {[sandbox: :everything],
             "unknown sandbox preset :everything; known are: :command, :none, :pure"},
            {[timeout: 1, max_execution_time: 1], "two names of one option"},
            {%{fuel: 1}, "must be a keyword list"},
            {[:fuel], "must be a keyword list"}
          ] do
        error = assert_raise ArgumentError, fn -> Instance.new(counter(), opts) end
        assert error.message =~ words
      end
    end

    test "names the imports that are missing" do
      assert {:error, %LinkError{problems: [%{module: "env", name: "f", reason: "missing"}]}} =
               Instance.new(counter())

      assert_raise LinkError, fn -> Instance.new!(counter()) end
    end

    test "runs the start function, with its host functions and data" do
      module =
        asking(~S"""
        (global $got (export "got") (mut i32) (i32.const 0))
        (func $s (global.set $got (call $f (i32.const 20))))
        (start $s)
        """)

      imports = f(fn ctx, n -> n + Host.data(ctx) end)
      instance = Instance.new!(module, imports: imports, data: 3)
      assert Instance.get_global(instance, "got") == {:ok, 23}
    end

    test "fails as the start function does" do
      trapping = load!(~S"(module (func $s unreachable) (start $s))")
      assert {:error, %TrapError{code: :unreachable}} = Instance.new(trapping)
      assert_raise TrapError, fn -> Instance.new!(trapping) end

      calling = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
          (func $s (drop (call $f (i32.const 1)))) (start $s))|)

      imports = f(fn _ctx, _n -> throw(:out) end)

      assert {:error, %HostError{kind: :throw, reason: :out}} =
               Instance.new(calling, imports: imports)

      assert catch_throw(Instance.new!(calling, imports: imports)) == :out
    end

    test "ends a start function that loops, by its limits" do
      module = load!(~S"(module (func $s (loop (br 0))) (start $s))")

      assert {:error, %LimitError{limit: :fuel, allowed: 100_000}} =
               Instance.new(module, fuel: 100_000)

      assert {:error, %LimitError{limit: :timeout, allowed: 20}} =
               Instance.new(module, timeout: 20)
    end

    test "counts memory and tables from the start" do
      module = load!(~S|(module (memory 10) (table 100 funcref))|)

      assert {:error, %LimitError{limit: :memory, allowed: 600_000}} =
               Instance.new(module, max_memory: 600_000)

      assert {:error, %LimitError{limit: :table_elements, allowed: 99}} =
               Instance.new(module, max_table_elements: 99)

      assert {:error, %LimitError{limit: :instances, allowed: 0, used: 1}} =
               Instance.new(module, max_instances: 0)

      assert {:ok, _} = Instance.new(module, max_memory: 700_000, max_table_elements: 100)
    end
  end

  # What its exports do is bounded by one limit each.
  defp hungry do
    load!(~S"""
    (module
      (import "env" "emit" (func $emit (param i32)))
      (memory (export "memory") 1)
      (table $table (export "table") 1 funcref)
      (func (export "spin") (loop (br 0)))
      (func (export "work") (param i32)
        (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
      (func (export "grow") (param i32)
        (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable)))
      (func (export "widen") (param i32)
        (if (i32.eq (table.grow $table (ref.null func) (local.get 0)) (i32.const -1))
          (then unreachable)))
      (func (export "emit") (param i32)
        (loop $l
          (call $emit (i32.const 10))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
    """)
  end

  defp emit, do: %{"env" => %{"emit" => fn ctx, n -> Host.emit(ctx, :binary.copy("x", n)) end}}

  # limit => {option, allowed, the call that strikes}
  @striking [
    fuel: {:fuel, 10_000, "work", [100_000]},
    timeout: {:timeout, 30, "spin", []},
    memory: {:max_memory, 200_000, "grow", [5]},
    table_elements: {:max_table_elements, 100, "widen", [100]},
    output: {:max_output, 95, "emit", [10]},
    host_calls: {:max_host_calls, 9, "emit", [10]}
  ]

  describe "a limit given to new" do
    for {limit, {option, allowed, function, args}} <- @striking do
      test "holds for later calls: #{option}" do
        instance =
          Instance.new!(hungry(), [{unquote(option), unquote(allowed)}] ++ [imports: emit()])

        assert {:error, %LimitError{limit: unquote(limit), allowed: unquote(allowed)}} =
                 Instance.call(instance, unquote(function), unquote(args))
      end

      test "is not widened by a call: #{option}" do
        instance =
          Instance.new!(hungry(), [{unquote(option), unquote(allowed)}] ++ [imports: emit()])

        wider = [{unquote(option), 1_000 * unquote(allowed)}]

        assert {:error, %LimitError{limit: unquote(limit), allowed: unquote(allowed)}} =
                 Instance.call(instance, unquote(function), unquote(args), wider)

        :ok = Instance.reset(instance, wider)

        assert {:error, %LimitError{limit: unquote(limit), allowed: unquote(allowed)}} =
                 Instance.run(instance, unquote(function), unquote(args), wider)
      end

      test "is narrowed by a call, for that call alone: #{option}" do
        instance = Instance.new!(hungry(), imports: emit(), on_trap: :keep)
        narrow = [{unquote(option), unquote(allowed)}]

        assert {:error, %LimitError{limit: unquote(limit), allowed: unquote(allowed)}} =
                 Instance.call(instance, unquote(function), unquote(args), narrow)

        :ok = Instance.reset(instance)

        {function, args} =
          if unquote(function) == "spin",
            do: {"work", [100_000]},
            else: {unquote(function), unquote(args)}

        assert Instance.call(instance, function, args) == {:ok, nil}
      end
    end

    test "may come by way of a sandbox" do
      sandbox = Sandbox.new(fuel: 10_000)
      instance = Instance.new!(hungry(), imports: emit(), sandbox: sandbox)

      assert {:error, %LimitError{limit: :fuel, allowed: 10_000}} =
               Instance.call(instance, "work", [100_000], fuel: 1_000_000)

      # What is given beside the sandbox only narrows it.
      instance = Instance.new!(hungry(), imports: emit(), sandbox: sandbox, fuel: 1_000_000)

      assert {:error, %LimitError{limit: :fuel, allowed: 10_000}} =
               Instance.call(instance, "work", [100_000])
    end

    test "of fuel, time, output and host calls is each call's anew" do
      instance =
        Instance.new!(hungry(),
          imports: emit(),
          fuel: 10_000,
          max_output: 100,
          max_host_calls: 10
        )

      for _ <- 1..50 do
        assert Instance.call(instance, "work", [1_000]) == {:ok, nil}
        assert %Run{output: output} = Instance.run!(instance, "emit", [10])
        assert byte_size(output) == 100
      end
    end

    test "of memory and tables is the guest's, whichever call takes them" do
      module = load!(~S|(module (memory 1) (table $t 1 funcref)
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "widen") (param i32) (result i32)
            (table.grow $t (ref.null func) (local.get 0))))|)

      # The table is counted too, so that a fifth page does not fit.
      instance = Instance.new!(module, max_memory: 5 * 65_536, max_table_elements: 5)
      for n <- 1..3, do: assert(Instance.call(instance, "grow", [1]) == {:ok, n})
      for n <- 1..4, do: assert(Instance.call(instance, "widen", [1]) == {:ok, n})

      for _ <- 1..3,
          name <- ["grow", "widen"],
          do: assert(Instance.call(instance, name, [1]) == {:ok, -1})

      refute Instance.poisoned?(instance)
    end

    test "in a call may be smaller than what the guest has already" do
      instance = Instance.new!(hungry(), imports: emit())
      :ok = instance |> Instance.call!("grow", [4]) |> Kernel.||(:ok)
      assert Instance.call(instance, "work", [10], max_memory: 65_536) == {:ok, nil}

      assert {:error, %LimitError{limit: :memory, allowed: 65_536}} =
               Instance.call(instance, "grow", [1], max_memory: 65_536)
    end
  end

  describe "options of a call" do
    test "that there are none of raise with the known ones" do
      for call <- [&Instance.call/4, &Instance.run/4, &Instance.call!/4, &Instance.run!/4] do
        error = assert_raise ArgumentError, fn -> call.(live(), "next", [], fule: 1) end

        assert error.message =~
                 "unknown option of a call on an instance :fule (did you mean :fuel?); known are: "

        for known <- [:imports, :data, :scheduling, :wait, :fuel, :timeout],
            do: assert(error.message =~ inspect(known))
      end
    end

    test "that an engine fixes cannot be changed" do
      for opt <- [metering: :epoch, deterministic: true, max_stack: 100_000, sandbox: :pure] do
        error = assert_raise ArgumentError, fn -> next(live(), [opt]) end
        assert error.message =~ "unknown option of a call on an instance"
      end
    end

    test "raise before anything runs" do
      instance = live()
      assert_raise ArgumentError, fn -> next(instance, fuel: -1) end
      assert_raise ArgumentError, fn -> next(instance, %{}) end
      assert_raise ArgumentError, fn -> next(instance, wait: :infinity) end
      assert next(instance) == {:ok, 1}
    end

    test "fuel means nothing to a guest that is metered by epochs, which is said" do
      assert_raise ArgumentError, ~r/option :fuel needs metering: :fuel/, fn ->
        Instance.new(counter(), imports: echo(), metering: :epoch, fuel: 1_000)
      end

      instance = live(metering: :epoch)

      assert_raise ArgumentError, ~r/option :fuel needs metering: :fuel/, fn ->
        next(instance, fuel: 1_000)
      end
    end
  end

  describe "metering, determinism and scheduling" do
    test "given to new are those of its calls" do
      instance = live(metering: :epoch)
      assert %Run{usage: %{fuel: nil}} = Instance.run!(instance, "next")

      assert {:error, %LimitError{limit: :timeout}} =
               Instance.call(instance, "spin", [], timeout: 20)

      :ok = Instance.reset(instance)
      assert %Run{result: 1, usage: %{fuel: nil}} = Instance.run!(instance, "next")

      assert %Run{usage: %{fuel: fuel}} = Instance.run!(live(), "next")
      assert fuel > 0
    end

    test "a deterministic instance has canonical NaNs, also of a module that was loaded without" do
      module = load!(~S|(module (func (export "f") (param f32) (result i32)
          (i32.reinterpret_f32 (f32.add (local.get 0) (f32.const 1)))))|)

      payload = {:f32_bits, 0x7FA0_0001}

      for opt <- [deterministic: true, sandbox: :pure] do
        instance = Instance.new!(module, [opt])
        assert Instance.call(instance, "f", [payload]) == {:ok, 0x7FC0_0000}
        :ok = Instance.reset(instance)
        assert Instance.call(instance, "f", [payload]) == {:ok, 0x7FC0_0000}
      end
    end

    test "any scheduling gives the same" do
      for new <- [:adaptive, :dirty, :inline], call <- [:adaptive, :dirty, :inline] do
        instance = live(scheduling: new)
        assert next(instance) == {:ok, 1}
        assert next(instance, scheduling: call) == {:ok, 2}
        assert Instance.call(instance, "run", [5], scheduling: call) == {:ok, 5}

        assert {:error, %LimitError{limit: :fuel}} =
                 Instance.call(instance, "spin", [], scheduling: call, fuel: 1_000_000)
      end
    end

    test "a stack that new is given holds for its calls" do
      module =
        load!(~S"""
        (module (func $down (export "down") (param i32) (result i32)
          (if (result i32) (i32.eqz (local.get 0))
            (then (i32.const 0))
            (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1))))))))
        """)

      instance = Instance.new!(module, max_stack: 20_000)
      assert Instance.call(instance, "down", [10]) == {:ok, 10}

      assert {:error, %LimitError{limit: :stack, allowed: 20_000}} =
               Instance.call(instance, "down", [10_000])

      assert Instance.call(Instance.new!(module), "down", [10_000]) == {:ok, 10_000}
    end
  end

  describe "host functions and data" do
    test "given to new are those of its calls" do
      instance =
        Instance.new!(counter(), imports: f(fn ctx, n -> n + Host.data(ctx) end), data: 5)

      assert Instance.call(instance, "run", [1]) == {:ok, 6}
      assert Instance.call(instance, "run", [2]) == {:ok, 7}
    end

    test "are replaced for one call" do
      instance =
        Instance.new!(counter(), imports: f(fn ctx, n -> {n, Host.data(ctx)} |> elem(0) end))

      assert Instance.call(instance, "run", [1], imports: f(fn _, _ -> 8 end)) == {:ok, 8}
      assert Instance.call(instance, "run", [1], imports: Doubling) == {:ok, 2}
      assert Instance.call(instance, "run", [1], imports: [Doubling, echo()]) == {:ok, 1}
      assert Instance.call(instance, "run", [1]) == {:ok, 1}
    end

    test "data is replaced for one call, also by nil" do
      test = self()

      imports =
        f(fn ctx, n ->
          send(test, {:data, Host.data(ctx)})
          n
        end)

      instance = Instance.new!(counter(), imports: imports, data: :own)

      for opts <- [[], [data: :other], [data: nil], []],
          do: Instance.call!(instance, "run", [1], opts)

      data = for {:data, data} <- mailbox(), do: data
      assert data == [:own, :other, nil, :own]
    end

    test "are replaced one by one: the others stay" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func $f (result i32)))
          (import "env" "g" (func $g (result i32)))
          (import "other" "f" (func $h (result i32)))
          (func (export "all") (result i32 i32 i32) (call $f) (call $g) (call $h)))
        """)

      imports = %{
        "env" => %{"f" => fn _ -> 1 end, "g" => fn _ -> 2 end},
        "other" => %{"f" => fn _ -> 3 end}
      }

      instance = Instance.new!(module, imports: imports)
      one = %{"env" => %{"g" => fn _ -> 20 end}}
      assert Instance.call(instance, "all", [], imports: one) == {:ok, [1, 20, 3]}
      assert Instance.call(instance, "all", [], imports: %{}) == {:ok, [1, 2, 3]}
      assert Instance.call(instance, "all") == {:ok, [1, 2, 3]}
    end

    test "that do not fit are refused before the guest runs" do
      instance = live()

      for wrong <- [fn _ctx -> 1 end, fn _, _, _ -> 1 end, nil, "f"] do
        assert {:error, %LinkError{problems: [%{name: "f"}]}} =
                 Instance.call(instance, "run", [1], imports: f(wrong))
      end

      assert Instance.call(instance, "run", [3]) == {:ok, 3}
    end

    test "cannot become another guest's for one call: what is linked is linked when it is made" do
      provider =
        Instance.new!(
          load!(~S|(module (func (export "f") (param i32) (result i32) i32.const 9))|)
        )

      instance = live()

      for imports <- [%{"env" => provider}, f({provider, "f"}), %{"env" => provider.module}] do
        assert {:error, %LinkError{problems: [%{module: "env", name: "f"}]}} =
                 Instance.call(instance, "run", [1], imports: imports)
      end

      assert Instance.call(instance, "run", [3]) == {:ok, 3}
    end

    test "see the guest by their context, while its handle is busy" do
      instance = live()
      test = self()

      imports =
        f(fn ctx, n ->
          assert Host.call(ctx, "next") == {:ok, 1}
          assert Host.get_global(ctx, "n") == {:ok, 1}
          for result <- uses(instance), do: assert(reason(result) == :busy)
          assert reason(Instance.close(instance)) == :busy
          assert reason(Instance.reset(instance)) == :busy
          refute Instance.poisoned?(instance)
          send(test, :seen)
          n
        end)

      assert Instance.call(instance, "run", [4], imports: imports) == {:ok, 4}
      assert_received :seen
      assert next(instance) == {:ok, 2}
    end

    test "see the guest also where it exports one again, and that export is what is called" do
      module =
        asking(~S"""
        (export "direct" (func $f))
        (memory (export "memory") 1)
        (data (i32.const 0) "here")
        (global (export "g") (mut i32) (i32.const 3))
        (func (export "double") (param i32) (result i32) (i32.mul (i32.const 2) (local.get 0)))
        """)

      for {name, see} <- [
            {"memory", fn ctx, _ -> byte_size(elem(Host.read(ctx, 0, 4), 1)) end},
            {"a global", fn ctx, _ -> elem(Host.get_global(ctx, "g"), 1) + 1 end},
            {"an export", fn ctx, n -> elem(Host.call(ctx, "double", [n]), 1) end}
          ] do
        instance = Instance.new!(module, imports: f(see))
        assert {name, Instance.call(instance, "direct", [2])} == {name, {:ok, 4}}
        assert {name, Instance.call(instance, "double", [1])} == {name, {:ok, 2}}
      end
    end

    test "may call other instances, to any depth" do
      chain =
        Enum.reduce(1..20, nil, fn _, inner ->
          imports =
            f(fn _ctx, n -> if inner, do: Instance.call!(inner, "run", [n + 1]), else: n end)

          Instance.new!(counter(), imports: imports)
        end)

      assert Instance.call(chain, "run", [0]) == {:ok, 19}
    end
  end

  describe "call, run and their twins" do
    test "give the same, bare or with what was used" do
      instance = live()
      assert Instance.call(instance, "next") == {:ok, 1}
      assert Instance.call!(instance, "next") == 2
      assert {:ok, %Run{result: 3, output: "", usage: usage}} = Instance.run(instance, "next")
      assert %Run{result: 4} = Instance.run!(instance, "next")
      assert usage.fuel > 0
      assert usage.host_calls == 0
      assert usage.peak_memory == 65_536
    end

    test "output is the call's own" do
      instance = Instance.new!(hungry(), imports: emit())
      assert %Run{output: "xxxxxxxxxxxxxxxxxxxx"} = Instance.run!(instance, "emit", [2])
      assert %Run{output: "xxxxxxxxxx", usage: usage} = Instance.run!(instance, "emit", [1])
      assert usage.host_calls == 1
      assert %Run{output: ""} = Instance.run!(instance, "work", [1])
    end

    test "raise what was raised" do
      imports = f(fn _ctx, n -> raise KeyError, key: n, term: %{} end)

      for call <- [&Instance.call!/4, &Instance.run!/4] do
        assert_raise KeyError, fn -> call.(live(), "run", [1], imports: imports) end
        assert_raise TrapError, fn -> call.(live(), "fail", [], []) end
        assert_raise LimitError, fn -> call.(live(), "spin", [], fuel: 1_000) end
        assert_raise CallError, fn -> call.(live(), "nothing", [], []) end
      end
    end

    test "want a name and a list" do
      for {name, args} <- [{:next, []}, {nil, []}, {"next", nil}, {"next", [1 | 2]}, {"next", 1}],
          call <- [&Instance.call/3, &Instance.run/3] do
        error = assert_raise ArgumentError, fn -> call.(live(), name, args) end
        assert error.message =~ "a function's name and a proper list of arguments are needed"
      end
    end

    test "name what there is when there is no such function" do
      assert {:error, %CallError{reason: :no_such_export, export: "nxet"} = error} =
               Instance.call(live(), "nxet")

      assert Enum.sort(error.known) == ["fail", "next", "run", "spin"]
      assert {:error, %CallError{reason: :wrong_export_kind}} = Instance.call(live(), "memory")
      assert {:error, %CallError{reason: :no_such_export}} = Instance.call(live(), <<255, 0>>)
    end

    test "a mistake of the caller's leaves the guest as it was" do
      instance = live()
      assert {:error, %CallError{reason: :no_such_export}} = Instance.call(instance, "nothing")
      assert {:error, %CallError{reason: :arity}} = Instance.call(instance, "next", [1])
      assert {:error, %CallError{reason: :type}} = Instance.call(instance, "run", ["1"])
      assert {:error, %CallError{reason: :type}} = Instance.call(instance, "run", [1 <<< 32])
      refute Instance.poisoned?(instance)
      assert next(instance) == {:ok, 1}
    end

    test "Executor.call says that it is not for live instances" do
      assert_raise ArgumentError, ~r/Cybernetic.WASM.Instance.call/, fn ->
        Executor.call(live(), "next")
      end
    end
  end

  describe "close" do
    test "ends the guest: whatever is asked of it later, it is closed" do
      instance = live(snapshottable: true)
      assert next(instance) == {:ok, 1}
      # A fork keeps what it needs of the snapshot, and the closed instance does not give it out.
      assert {:ok, fork} = Instance.fork(instance)
      assert Instance.close(instance) == :ok

      for result <-
            uses(instance) ++
              [
                Instance.reset(instance),
                Instance.snapshot(instance),
                Instance.fork(instance),
                next(instance, wait: 1_000)
              ] do
        assert reason(result) == :closed
        assert Exception.message(elem(result, 1)) == "the instance is closed"
      end

      refute Instance.poisoned?(instance)
      assert next(fork) == {:ok, 2}
    end

    test "a second time does nothing" do
      instance = live()
      for _ <- 1..3, do: assert(Instance.close(instance) == :ok)
    end

    test "while a call runs is refused, and the call ends as it would" do
      instance = live()
      holder = hold(instance)
      assert reason(Instance.close(instance)) == :busy
      assert release(holder) == {:ok, 7}
      assert Instance.close(instance) == :ok
    end

    test "of a poisoned one leaves it closed" do
      instance = live()
      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      assert Instance.close(instance) == :ok
      assert reason(next(instance)) == :closed
      assert reason(Instance.reset(instance)) == :closed
      refute Instance.poisoned?(instance)
    end
  end
end
