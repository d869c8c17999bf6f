defmodule Cybernetic.WASM.InstanceTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Guests, Shapes, Turns}

  alias Cybernetic.WASM.{
    CallError,
    CancelledError,
    Executor,
    Host,
    HostError,
    Instance,
    LimitError,
    LinkError,
    Memory,
    Run,
    Sandbox,
    TrapError
  }

  doctest Cybernetic.WASM.Instance

  defmodule Doubling do
    use Cybernetic.WASM.Host, module: "env"
    defimport(f(_ctx, n :: i32) :: i32, do: 2 * n)
  end

  defp next(instance, opts \\ []), do: Instance.call(instance, "next", [], opts)
  defp reason({:error, %CallError{reason: reason}}), do: reason

  # Everything that needs the guest, and would change or show it.
  defp uses(instance) do
    [
      Instance.call(instance, "next"),
      Instance.run(instance, "next"),
      Instance.get_global(instance, "n"),
      Instance.set_global(instance, "n", 1),
      Memory.size(instance),
      Memory.grow(instance, 0),
      Memory.read(instance, 0, 1),
      Memory.read(instance, 0, 300_000),
      Memory.write(instance, 0, "x"),
      Memory.write(instance, 0, String.duplicate("x", 300_000))
    ]
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
          do: assert(Task.await(Task.async(fn -> next(instance) end)) == {:ok, n})
    end

    test "outlives the process that made it, as long as somebody holds it" do
      instance = Task.await(Task.async(fn -> live() end))
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

      Task.await(
        Task.async(fn ->
          for {n, _, _, _} = term <- terms, do: Instance.call!(instance, "keep", [n, term])
        end)
      )

      for {n, _, _, _} = term <- terms,
          do: assert(Instance.call(instance, "kept", [n]) == {:ok, term})

      for _ <- 1..5_000, do: Instance.call!(instance, "keep", [0, make_ref()])
      assert Instance.call!(instance, "kept", [99]) == List.last(terms)
    end
  end

  describe "new" do
    test "wants a loaded module" do
      for other <- ["counter.wasm", nil, {:ok, counter()}, live(), %{}] do
        error = assert_raise ArgumentError, fn -> Instance.new(other) end
        assert error.message =~ "load it first with Cybernetic.WASM.Runtime.load_module/2"
      end
    end

    test "names the options that there are when it is given another" do
      error = assert_raise ArgumentError, fn -> Instance.new(counter(), fule: 1) end
      assert error.message =~ "unknown instance option :fule; known are: "

      for known <- [:on_trap, :snapshottable, :store, :imports, :data, :sandbox, :wait, :fuel],
          do: assert(error.message =~ inspect(known))
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
             "unknown sandbox preset :everything; known are: :none, :pure"},
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
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i32) (result i32)))
          (global $got (export "got") (mut i32) (i32.const 0))
          (func $s (global.set $got (call $f (i32.const 20))))
          (start $s))
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
        assert error.message =~ "unknown option of a call on an instance :fule; known are: "

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
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i32) (result i32)))
          (export "direct" (func $f))
          (memory (export "memory") 1)
          (data (i32.const 0) "here")
          (global (export "g") (mut i32) (i32.const 3))
          (func (export "double") (param i32) (result i32) (i32.mul (i32.const 2) (local.get 0))))
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

  @all ~w(i32 i64 f32 f64 v128 externref funcref)

  # A global of each type, and functions by which the guest reads and writes them.
  defp globals do
    parts =
      for type <- @all do
        init =
          case type do
            "v128" -> "(v128.const i64x2 0 0)"
            "externref" -> "(ref.null extern)"
            "funcref" -> "(ref.null func)"
            number -> "(#{number}.const 0)"
          end

        """
        (global $#{type} (export "#{type}") (mut #{type}) #{init})
        (func (export "get_#{type}") (result #{type}) (global.get $#{type}))
        (func (export "set_#{type}") (param #{type}) (global.set $#{type} (local.get 0)))
        """
      end

    load!("""
    (module #{parts}
      (global (export "constant") i64 (i64.const -5))
      (global (export "") (mut i32) (i32.const 3))
      (global (export "größe 長さ") (mut i32) (i32.const 4))
      (func $id (export "id") (param i32) (result i32) (local.get 0))
      (table (export "table") 3 funcref)
      (elem (i32.const 1) $id)
      (memory (export "memory") 1))
    """)
  end

  describe "globals" do
    @values [
      {"i32", [0, 1, -1, 0x7FFF_FFFF, -0x8000_0000]},
      {"i64", [0, -1, 0x7FFF_FFFF_FFFF_FFFF, -0x8000_0000_0000_0000, 1 <<< 59, 1 <<< 60]},
      {"f32", [0.0, -0.0, 1.5, :nan, :infinity, :neg_infinity, 3.4028234663852886e38]},
      {"f32", [{:f32_bits, 0x7FA0_0001}, {:f32_bits, 0xFFFF_FFFF}, {:f32_bits, 0x7F80_0001}]},
      {"f64", [0.0, -0.0, 0.1, :nan, :infinity, :neg_infinity, 5.0e-324]},
      {"f64", [{:f64_bits, 0x7FF0_0000_0000_0001}, {:f64_bits, 0xFFFF_FFFF_FFFF_FFFF}]},
      {"v128",
       [<<0::128>>, <<-1::128>>, <<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16>>]},
      {"externref", [nil, false, :atom, %{a: [1]}, {:ok, "term"}, 1 <<< 200]}
    ]

    test "of every type are set and read, by host and guest alike" do
      instance = Instance.new!(globals())

      for {type, values} <- @values, value <- values do
        assert Instance.set_global(instance, type, value) == :ok
        # `===` and the bits of zero: -0.0 is not 0.0.
        assert {:ok, read} = Instance.get_global(instance, type)
        assert :erlang.term_to_binary(read) == :erlang.term_to_binary(value)
        assert Instance.call(instance, "get_" <> type) == {:ok, read}

        assert Instance.call(instance, "set_" <> type, [value]) == {:ok, nil}
        assert Instance.get_global(instance, type) == {:ok, read}
      end
    end

    test "take what arguments take: unsigned integers, whole numbers for floats" do
      instance = Instance.new!(globals())

      for {type, given, read} <- [
            {"i32", 0xFFFF_FFFF, -1},
            {"i64", 0xFFFF_FFFF_FFFF_FFFF, -1},
            {"i64", 1 <<< 63, -(1 <<< 63)},
            {"f32", 7, 7.0},
            {"f64", -(1 <<< 53), -9_007_199_254_740_992.0},
            {"f32", 0.1, 0.10000000149011612},
            {"f64", {:f64_bits, 0}, 0.0}
          ] do
        assert Instance.set_global(instance, type, given) == :ok
        assert Instance.get_global(instance, type) == {:ok, read}
      end
    end

    test "keep any bits" do
      instance = Instance.new!(globals())

      check_all(500, fn ->
        {i32, i64} = {bits(32), bits(64)}
        v128 = <<bits(64)::64, bits(64)::64>>
        :ok = Instance.set_global(instance, "i32", i32)
        :ok = Instance.set_global(instance, "i64", i64)
        :ok = Instance.set_global(instance, "v128", v128)
        assert Instance.get_global(instance, "i32") == {:ok, signed(i32, 32)}
        assert Instance.get_global(instance, "i64") == {:ok, signed(i64, 64)}
        assert Instance.get_global(instance, "v128") == {:ok, v128}

        for {type, tag, bits} <- [{"f32", :f32_bits, i32}, {"f64", :f64_bits, i64}] do
          :ok = Instance.set_global(instance, type, {tag, bits})
          {:ok, read} = Instance.get_global(instance, type)
          :ok = Instance.set_global(instance, type, read)
          assert Instance.get_global(instance, type) == {:ok, read}
        end
      end)
    end

    test "refuse what their type does not hold, and stay as they were" do
      instance = Instance.new!(globals())
      :ok = Instance.set_global(instance, "i32", 7)

      for {type, wrong} <- [
            {"i32", [1 <<< 32, -(1 <<< 31) - 1, 1.0, "1", nil, :nan, [1]]},
            {"i64", [1 <<< 64, 1.0, nil]},
            {"f32", [1.0e39, {:f64_bits, 0}, {:f32_bits, 1 <<< 32}, {:f32_bits, -1}, nil]},
            {"f64", [(1 <<< 53) + 1, {:f32_bits, 0}, "1.0", :inf]},
            {"v128", [<<0::120>>, <<0::136>>, 0, <<0::127>>]},
            {"funcref", [&Kernel.+/2, make_ref(), 0, "id"]}
          ],
          value <- wrong do
        assert {:error, %CallError{reason: :type, index: 0, blame: :caller} = error} =
                 Instance.set_global(instance, type, value)

        assert Exception.message(error) =~ type
      end

      assert Instance.get_global(instance, "i32") == {:ok, 7}
      refute Instance.poisoned?(instance)
    end

    test "that are constant are read, and not set" do
      instance = Instance.new!(globals())
      assert Instance.get_global(instance, "constant") == {:ok, -5}

      assert {:error, %CallError{reason: :wrong_export_kind} = error} =
               Instance.set_global(instance, "constant", 1)

      assert Exception.message(error) ==
               ~s|the export "constant" is a constant global, not a mutable global|

      assert Instance.get_global(instance, "constant") == {:ok, -5}
    end

    test "of any name are found" do
      instance = Instance.new!(globals())

      for {name, value} <- [{"", 3}, {"größe 長さ", 4}] do
        assert Instance.get_global(instance, name) == {:ok, value}
        assert Instance.set_global(instance, name, 10) == :ok
        assert Instance.get_global(instance, name) == {:ok, 10}
      end
    end

    test "that are not there, or are something else, are told apart" do
      instance = Instance.new!(globals())

      for access <- [&Instance.get_global(&1, &2), &Instance.set_global(&1, &2, 1)] do
        for missing <- ["no", <<255>>, "i32\0", String.duplicate("x", 100_000)] do
          assert {:error, %CallError{reason: :no_such_export} = error} =
                   access.(instance, missing)

          assert "constant" in error.known
          refute "id" in error.known
          assert Exception.message(error) =~ "no global is exported as"
          assert byte_size(Exception.message(error)) < 2_000
        end

        for {name, kind} <- [{"id", "function"}, {"table", "table"}, {"memory", "memory"}] do
          assert {:error, %CallError{reason: :wrong_export_kind, given: ^kind}} =
                   access.(instance, name)
        end
      end
    end

    test "hold function references of their own instance only" do
      {one, other} = {Instance.new!(globals()), Instance.new!(globals())}
      {:ok, id} = Instance.table_get(one, "table", 1)
      assert Instance.set_global(one, "funcref", id) == :ok
      assert {:ok, reference} = Instance.get_global(one, "funcref")
      assert reference != nil
      assert Instance.set_global(one, "funcref", nil) == :ok
      assert Instance.get_global(one, "funcref") == {:ok, nil}

      assert {:error, %CallError{reason: :type}} = Instance.set_global(other, "funcref", id)
    end
  end

  describe "tables" do
    defp tables do
      load!(~S"""
      (module
        (table $f (export "f") 3 10 funcref)
        (table $e (export "e") 0 externref)
        (table $wide (export "wide") i64 5 funcref)
        (func $seven (export "seven") (result i32) (i32.const 7))
        (elem (table $f) (i32.const 1) func $seven)
        (global (export "g") i32 (i32.const 0))
        (type $t (func (result i32)))
        (func (export "invoke") (param funcref) (result i32)
          (table.set $f (i32.const 0) (local.get 0))
          (call_indirect $f (type $t) (i32.const 0)))
        (func (export "push") (param externref) (result i32)
          (table.grow $e (local.get 0) (i32.const 1))))
      """)
    end

    test "tell their size and elements" do
      instance = Instance.new!(tables())
      assert Instance.table_size(instance, "f") == {:ok, 3}
      assert Instance.table_get(instance, "f", 0) == {:ok, nil}
      assert {:ok, seven} = Instance.table_get(instance, "f", 1)
      assert Instance.call(instance, "invoke", [seven]) == {:ok, 7}
      assert Instance.table_size(instance, "e") == {:ok, 0}
      assert Instance.table_size(instance, "wide") == {:ok, 5}
      assert Instance.table_get(instance, "wide", 4) == {:ok, nil}
    end

    test "show what the guest put there" do
      instance = Instance.new!(tables())

      for {term, index} <- Enum.with_index([self(), {:a, 1}, nil, "b", %{}]) do
        assert Instance.call(instance, "push", [term]) == {:ok, index}
        assert Instance.table_size(instance, "e") == {:ok, index + 1}
        assert Instance.table_get(instance, "e", index) == {:ok, term}
      end
    end

    test "have no elements beyond their end, whatever the number" do
      instance = Instance.new!(tables())

      for {table, size} <- [{"f", 3}, {"e", 0}, {"wide", 5}],
          index <- [size, 1 <<< 31, 1 <<< 32, (1 <<< 32) + 1, (1 <<< 64) - 1] do
        assert {:error, %CallError{reason: :no_such_element} = error} =
                 Instance.table_get(instance, table, index)

        assert {error.export, error.index, error.size} == {table, index, size}
        assert Exception.message(error) =~ "has #{size} elements, and none at #{index}"
      end
    end

    test "that are not there, or are something else, are told apart" do
      instance = Instance.new!(tables())

      for access <- [&Instance.table_size(&1, &2), &Instance.table_get(&1, &2, 0)] do
        assert {:error, %CallError{reason: :no_such_export, known: ["f", "e", "wide"]}} =
                 access.(instance, "no")

        assert {:error, %CallError{reason: :wrong_export_kind, given: "global"}} =
                 access.(instance, "g")

        assert {:error, %CallError{reason: :wrong_export_kind, given: "function"}} =
                 access.(instance, "seven")
      end
    end
  end

  # Ways for a call to be cut off, each with the error that it has.
  defp cut_offs do
    raising = f(fn _ctx, _n -> raise "no" end)
    trapping = f(fn ctx, _n -> Host.trap(ctx, :no) end)
    wrong = f(fn _ctx, _n -> :not_a_number end)

    [
      {"fail", [], [], TrapError},
      {"spin", [], [fuel: 1_000], LimitError},
      {"spin", [], [timeout: 10], LimitError},
      {"run", [1], [imports: raising], HostError},
      {"run", [1], [imports: trapping], HostError},
      {"run", [1], [imports: wrong], HostError},
      {"run", [1], [max_host_calls: 0], LimitError}
    ]
  end

  describe "a call that did not end well" do
    test "leaves the instance poisoned, until it is reset" do
      for {name, args, opts, kind} <- cut_offs() do
        instance = live()
        assert next(instance) == {:ok, 1}
        refute Instance.poisoned?(instance)
        assert {:error, %^kind{}} = Instance.call(instance, name, args, opts)

        assert Instance.poisoned?(instance)
        for result <- uses(instance), do: assert(reason(result) == :poisoned)
        assert Exception.message(elem(next(instance), 1)) =~ "Instance.reset/2 makes it anew"

        assert Instance.reset(instance) == :ok
        refute Instance.poisoned?(instance)
        assert next(instance) == {:ok, 1}
      end
    end

    test "because its caller was killed: while the guest ran, and in a host call" do
      spinning = live()
      pid = spawn(fn -> Instance.call(spinning, "spin", [], timeout: 60_000) end)
      eventually(fn -> reason_or_ok(next(spinning)) == :busy end)
      Process.exit(pid, :kill)

      held = live()
      held |> hold() |> kill()

      for instance <- [spinning, held] do
        # It is busy until what was left of the call has been unwound.
        eventually(fn -> Instance.poisoned?(instance) end)
        assert reason(next(instance)) == :poisoned
        assert Instance.reset(instance) == :ok
        assert Instance.call(instance, "run", [5]) == {:ok, 5}
      end
    end

    test "because it was cancelled" do
      instance = live()
      call = Executor.async(instance, "spin", [], timeout: 60_000)
      eventually(fn -> reason_or_ok(next(instance)) == :busy end)
      assert {:error, %CancelledError{reason: :enough}} = Executor.cancel(call, :enough)
      eventually(fn -> Instance.poisoned?(instance) end)
      assert Instance.reset(instance) == :ok
    end

    test "inside a host function's own call counts too, whatever the host function makes of it" do
      instance = live()

      swallowing =
        f(fn ctx, n ->
          assert {:error, %TrapError{}} = Host.call(ctx, "fail")
          n
        end)

      assert Instance.call(instance, "run", [3], imports: swallowing) == {:ok, 3}
      assert Instance.poisoned?(instance)
    end

    defp reason_or_ok({:error, %CallError{reason: reason}}), do: reason
    defp reason_or_ok({:ok, _}), do: :ok

    test "is not one that was refused" do
      instance = live()
      holder = hold(instance)
      assert reason(next(instance)) == :busy
      assert reason(next(instance, wait: 1)) == :busy
      assert release(holder) == {:ok, 7}
      assert {:error, %CallError{}} = Memory.read(instance, 65_536, 1)
      assert {:error, %CallError{}} = Memory.grow(instance, 65_536)
      assert {:error, %CallError{}} = Instance.set_global(instance, "n", "text")
      assert {:error, %LinkError{}} = next(instance, imports: f(nil))
      refute Instance.poisoned?(instance)
      assert next(instance) == {:ok, 1}
    end

    test "is not one whose guest was refused memory and went on" do
      module = load!(~S|(module (memory 1) (func (export "grow") (param i32) (result i32)
          (memory.grow (local.get 0))))|)

      instance = Instance.new!(module, max_memory: 131_072)
      assert Instance.call(instance, "grow", [5]) == {:ok, -1}
      assert Instance.call(instance, "grow", [1]) == {:ok, 1}
    end
  end

  describe "on_trap: :keep" do
    defp trapping do
      load!(~S"""
      (module
        (import "env" "f" (func $f (param i32) (result i32)))
        (tag $e)
        (memory (export "memory") 1)
        (global $n (export "n") (mut i32) (i32.const 0))
        (func $count (global.set $n (i32.add (global.get $n) (i32.const 1))))
        (func (export "fail") (call $count) unreachable)
        (func (export "divide") (result i32) (call $count)
          (i32.div_s (i32.const 1) (i32.const 0)))
        (func (export "beyond") (result i32) (call $count) (i32.load (i32.const 65536)))
        (func (export "throw") (call $count) (throw $e))
        (func $deep (export "deep") (call $count) (call $deep))
        (func (export "run") (call $count) (drop (call $f (i32.const 0))))
        (func (export "spin") (call $count) (loop (br 0))))
      """)
    end

    test "leaves the guest usable after a trap, with what the call had done" do
      instance = Instance.new!(trapping(), imports: echo(), on_trap: :keep)

      for {name, n} <- Enum.with_index(~w(fail divide beyond throw), 1) do
        assert {:error, %TrapError{}} = Instance.call(instance, name)
        refute Instance.poisoned?(instance)
        assert Instance.get_global(instance, "n") == {:ok, n}
      end

      assert {:error, %LimitError{limit: :stack}} = Instance.call(instance, "deep")
      assert {:ok, n} = Instance.get_global(instance, "n")
      assert n > 100
      assert Instance.call(instance, "run") == {:ok, nil}
    end

    test "holds also where the guest trapped because it was refused memory" do
      instance = Instance.new!(hungry(), imports: emit(), max_memory: 131_072, on_trap: :keep)
      assert {:error, %LimitError{limit: :memory}} = Instance.call(instance, "grow", [5])
      refute Instance.poisoned?(instance)
      assert Memory.size(instance) == {:ok, 65_536}
    end

    test "does not hold for a call that was cut off from outside" do
      for {name, opts} <- [
            {"spin", [fuel: 1_000]},
            {"spin", [timeout: 10]},
            {"run", [max_host_calls: 0]},
            {"run", [imports: f(fn _, _ -> raise "no" end)]}
          ] do
        instance = Instance.new!(trapping(), imports: echo(), on_trap: :keep)
        assert {:error, _} = Instance.call(instance, name, [], opts)
        assert Instance.poisoned?(instance)
      end
    end

    test "holds after a reset too" do
      instance = Instance.new!(trapping(), imports: echo(), on_trap: :keep)
      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      :ok = Instance.reset(instance)
      assert Instance.get_global(instance, "n") == {:ok, 0}
      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      assert Instance.get_global(instance, "n") == {:ok, 1}
    end

    test "is not the default" do
      instance = Instance.new!(trapping(), imports: echo())
      assert {:error, %TrapError{}} = Instance.call(instance, "throw")
      assert Instance.poisoned?(instance)
    end
  end

  describe "reset" do
    defp stateful do
      load!(~S"""
      (module
        (import "env" "f" (func $f (param i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "fresh")
        (table $t (export "t") 1 externref)
        (global $n (export "n") (mut i32) (i32.const 10))
        (func $start (global.set $n (call $f (global.get $n))))
        (start $start)
        (func (export "push") (param externref)
          (drop (table.grow $t (local.get 0) (i32.const 1))))
        (func (export "fail") unreachable))
      """)
    end

    test "brings everything back to the module's initial state, and runs the start function" do
      test = self()

      imports =
        f(fn ctx, n ->
          send(test, {:started, Host.data(ctx)})
          n + 1
        end)

      instance = Instance.new!(stateful(), imports: imports, data: :mine)
      assert_received {:started, :mine}
      :ok = Instance.set_global(instance, "n", 99)
      :ok = Memory.write(instance, 0, "stale")
      {:ok, 1} = Memory.grow(instance, 3)
      Instance.call!(instance, "push", [:term])

      assert Instance.reset(instance) == :ok
      assert_received {:started, :mine}
      refute_received _
      assert Instance.get_global(instance, "n") == {:ok, 11}
      assert Memory.read(instance, 0, 5) == {:ok, "fresh"}
      assert Memory.size(instance) == {:ok, 65_536}
      assert Instance.table_size(instance, "t") == {:ok, 1}
    end

    test "works as often as one likes" do
      instance = live()

      for _ <- 1..200 do
        assert next(instance) == {:ok, 1}
        assert {:error, %TrapError{}} = Instance.call(instance, "fail")
        assert Instance.reset(instance) == :ok
      end
    end

    test "that fails leaves the instance poisoned, and can be tried again" do
      module =
        load!(~S"""
        (module (func $s (local i32) (local.set 0 (i32.const 10000))
          (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
          (start $s) (func (export "f")))
        """)

      instance = Instance.new!(module)

      assert {:error, %LimitError{limit: :fuel, allowed: 100}} =
               Instance.reset(instance, fuel: 100)

      assert Instance.poisoned?(instance)
      assert reason(Instance.call(instance, "f")) == :poisoned
      assert Instance.reset(instance) == :ok
      assert Instance.call(instance, "f") == {:ok, nil}
    end

    test "fails as the start function does" do
      test = self()
      answers = Agent.start_link(fn -> [1, :raise, 3] end) |> elem(1)

      imports =
        f(fn _ctx, _n ->
          case Agent.get_and_update(answers, fn [one | rest] -> {one, rest} end) do
            :raise -> raise "not now"
            n -> send(test, {:start, n}) && n
          end
        end)

      instance = Instance.new!(stateful(), imports: imports)
      assert {:error, %HostError{kind: :error}} = Instance.reset(instance)
      assert Instance.poisoned?(instance)
      assert Instance.reset(instance) == :ok
      assert Instance.get_global(instance, "n") == {:ok, 3}
    end

    test "takes a call's options, and no others" do
      error = assert_raise ArgumentError, fn -> Instance.reset(live(), force: true) end
      assert error.message =~ "unknown option of a call on an instance :force"
    end

    test "does not take an instance away from the call that has it" do
      instance = live()
      holder = hold(instance)
      assert reason(Instance.reset(instance)) == :busy
      assert reason(Instance.reset(instance, wait: 20)) == :busy
      assert release(holder) == {:ok, 7}
    end

    test "waits for its turn with wait:, also for one that ends badly" do
      instance = live()
      next(instance)
      holder = hold(instance)
      resetting = in_line(fn -> Instance.reset(instance, wait: 60_000) end)
      assert release(holder) == {:ok, 7}
      assert Task.await(resetting) == :ok
      assert next(instance) == {:ok, 1}

      holder = hold(instance)
      resetting = in_line(fn -> Instance.reset(instance, wait: 60_000) end)
      kill(holder)
      assert Task.await(resetting, 60_000) == :ok
      assert next(instance) == {:ok, 1}
    end

    test "of a large memory gives it back zeroed" do
      module =
        load!(
          ~S|(module (memory (export "memory") 1) (data (i32.const 8) "here")
          (func (export "fill") (memory.fill (i32.const 0) (i32.const 255) (i32.const 67108864))))|
        )

      instance = Instance.new!(module)

      for _ <- 1..3 do
        assert Memory.grow(instance, 1_023) == {:ok, 1}
        assert Instance.call(instance, "fill") == {:ok, nil}
        assert Memory.read(instance, 67_108_860, 4) == {:ok, <<-1::32>>}
        assert Instance.reset(instance) == :ok
        assert Memory.read(instance, 0, 65_536) == {:ok, <<0::64, "here", 0::unit(8)-65_524>>}
        assert Memory.size(instance) == {:ok, 65_536}
      end
    end

    test "sees nothing of the guest that was there, in memory that it grows into" do
      module = load!(~S|(module (memory (export "memory") 1))|)
      instance = Instance.new!(module)

      for _ <- 1..20 do
        {:ok, 1} = Memory.grow(instance, 15)
        assert Memory.read(instance, 0, 1_048_576) == {:ok, <<0::unit(8)-1_048_576>>}
        :ok = Memory.write(instance, 0, :binary.copy("secret!!", 131_072))
        :ok = Instance.reset(instance)
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

  describe "a call while another runs" do
    test "is told at once that the instance is busy" do
      instance = live()
      holder = hold(instance)
      for opts <- [[], [wait: 0]], do: assert(reason(next(instance, opts)) == :busy)
      assert release(holder) == {:ok, 7}
      assert next(instance) == {:ok, 1}
    end

    test "waits for its turn with wait:" do
      instance = live()
      holder = hold(instance)
      waiting = next_in_line(instance)
      assert release(holder) == {:ok, 7}
      assert Task.await(waiting) == {:ok, 1}
    end

    test "waits as long as new was told, if it does not say itself" do
      instance = live(wait: 60_000)
      holder = hold(instance)
      waiting = next_in_line(instance, [])
      assert reason(next(instance, wait: 0)) == :busy
      assert release(holder) == {:ok, 7}
      assert Task.await(waiting) == {:ok, 1}
    end

    test "is served in the order of coming" do
      instance = live()
      holder = hold(instance)
      waiting = for _ <- 1..20, do: next_in_line(instance)
      assert release(holder) == {:ok, 7}
      assert Enum.map(waiting, &Task.await/1) == for(n <- 1..20, do: {:ok, n})
    end

    test "is not overtaken by one that comes when the turn is being handed on" do
      instance = live()
      holder = hold(instance)
      waiting = next_in_line(instance)
      # It has the turn from now on, and does not know it yet.
      :erlang.suspend_process(waiting.pid)
      assert release(holder) == {:ok, 7}
      assert reason(next(instance)) == :busy
      :erlang.resume_process(waiting.pid)
      assert Task.await(waiting) == {:ok, 1}
    end

    test "gives up as busy after its wait, and leaves nothing in the mailbox" do
      instance = live()
      holder = hold(instance)

      for _ <- 1..20, do: assert(reason(next(instance, wait: 3)) == :busy)
      assert mailbox() == []
      last = next_in_line(instance)
      assert release(holder) == {:ok, 7}
      assert Task.await(last) == {:ok, 1}
      assert mailbox() == []
    end

    test "waits within its deadline" do
      instance = live()
      holder = hold(instance)

      assert {:error, %LimitError{limit: :timeout, allowed: 20}} =
               next(instance, wait: 60_000, timeout: 20)

      assert release(holder) == {:ok, 7}
      assert next(instance) == {:ok, 1}
    end

    test "that is killed in line does not lose the turn for the others" do
      instance = live()
      holder = hold(instance)
      [one, two, three] = for _ <- 1..3, do: next_in_line(instance)
      kill(two)
      assert release(holder) == {:ok, 7}
      assert Task.await(one) == {:ok, 1}
      assert Task.await(three) == {:ok, 2}
    end

    test "that is killed when its turn has come, before it knows, does not lose it either" do
      instance = live()
      holder = hold(instance)
      [one, two] = for _ <- 1..2, do: next_in_line(instance)
      :erlang.suspend_process(one.pid)
      assert release(holder) == {:ok, 7}
      kill(one)
      assert Task.await(two) == {:ok, 1}
      refute Instance.poisoned?(instance)
    end

    test "learns that the one before it was killed: the guest is poisoned for all in line" do
      instance = live()
      holder = hold(instance)
      waiting = for _ <- 1..5, do: next_in_line(instance)
      kill(holder)
      for task <- waiting, do: assert(reason(Task.await(task, 60_000)) == :poisoned)
      assert Instance.poisoned?(instance)
      :ok = Instance.reset(instance)
      assert next(instance) == {:ok, 1}
    end

    test "learns it also where another has reset the guest meanwhile: its wait is not over" do
      instance = live()
      holder = hold(instance)
      waiting = next_in_line(instance)
      :erlang.suspend_process(waiting.pid)
      kill(holder)
      eventually(fn -> Instance.poisoned?(instance) end)
      :ok = Instance.reset(instance)
      :erlang.resume_process(waiting.pid)
      # Its turn would be right as well. That it is busy would not: nobody has it.
      result = Task.await(waiting, 60_000)
      assert result == {:ok, 1} or reason(result) == :poisoned
    end

    test "learns that the one before it trapped" do
      instance = live()

      holder =
        Task.async(fn ->
          Instance.call(instance, "run", [1],
            imports: f(fn _, _ -> receive(do: (:go_on -> raise "no")) end)
          )
        end)

      eventually(fn -> reason_or_ok(next(instance)) == :busy end)
      waiting = next_in_line(instance)
      send(holder.pid, :go_on)
      assert {:error, %HostError{}} = Task.await(holder)
      assert reason(Task.await(waiting)) == :poisoned
    end

    test "and 999 others, each ten times, all have their turns" do
      instance = live()

      tasks =
        for n <- 1..1_000 do
          Task.async(fn ->
            for _ <- 1..10 do
              {:ok, turn} = next(instance, wait: 300_000, timeout: 300_000)
              # Some look at the guest besides, which is refused at worst.
              if rem(n, 10) == 0, do: Memory.read(instance, 0, 8)
              turn
            end
          end)
        end

      turns = tasks |> Task.await_many(300_000) |> List.flatten()
      assert Enum.sort(turns) == Enum.to_list(1..10_000)
      assert Instance.get_global(instance, "n") == {:ok, 10_000}
    end

    test "and hundreds that are killed at any moment: whoever is left has a turn or knows why not" do
      instance = live()

      tasks =
        for _ <- 1..200 do
          Task.async(fn ->
            for _ <- 1..20, do: reason_or_ok(next(instance, wait: 300_000, timeout: 300_000))
          end)
        end

      {victims, survivors} = Enum.split(Enum.shuffle(tasks), 100)

      for task <- victims do
        Process.unlink(task.pid)
        Process.exit(task.pid, :kill)
      end

      # A call that was killed in the middle may have poisoned the guest; nobody is left hanging.
      for task <- survivors,
          outcome <- Task.await(task, 300_000),
          do: assert(outcome in [:ok, :poisoned])

      if Instance.poisoned?(instance), do: :ok = Instance.reset(instance)
      assert {:ok, _} = next(instance)
    end
  end
end
