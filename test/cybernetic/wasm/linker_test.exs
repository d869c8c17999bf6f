defmodule Cybernetic.WASM.LinkerTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Turns}

  alias Cybernetic.WASM.{Executor, Host, Instance, Memory, Module, Run}
  alias Cybernetic.WASM.{CallError, HostError, LimitError, LinkError, TrapError}

  # Exports one of each kind, and functions that show what became of them.
  defp base do
    load!(~S"""
    (module
      (memory (export "memory") 1 4)
      (table $t (export "table") 4 8 funcref)
      (global $n (export "n") (mut i32) (i32.const 0))
      (global (export "fixed") i64 (i64.const 7))
      (tag $oops (export "oops") (param i32))
      (func (export "bump") (param i32) (result i32)
        (global.set $n (i32.add (global.get $n) (local.get 0))) (global.get $n))
      (func (export "throw") (param i32) (throw $oops (local.get 0)))
      (type $i (func (result i32)))
      (func (export "invoke") (param i32) (result i32) (call_indirect $t (type $i) (local.get 0)))
      (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
      (func (export "fail") unreachable))
    """)
  end

  # Imports all of that.
  defp user do
    load!(~S"""
    (module
      (import "base" "memory" (memory 1))
      (import "base" "table" (table $t 1 funcref))
      (import "base" "n" (global $n (mut i32)))
      (import "base" "fixed" (global $fixed i64))
      (import "base" "oops" (tag $oops (param i32)))
      (import "base" "bump" (func $bump (param i32) (result i32)))
      (import "base" "throw" (func $throw (param i32)))
      (export "base memory" (memory 0))
      (export "base n" (global $n))
      (export "base table" (table $t))
      (export "bump" (func $bump))
      (data (i32.const 100) "written at the link")
      (func $answer (result i32) (i32.const 42))
      (elem (table $t) (i32.const 2) func $answer)
      (func (export "twice") (param i32) (result i32)
        (drop (call $bump (local.get 0))) (call $bump (local.get 0)))
      (func (export "set") (param i32) (global.set $n (local.get 0)))
      (func (export "n") (result i32) (global.get $n))
      (func (export "fixed") (result i64) (global.get $fixed))
      (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "catch") (param i32) (result i32)
        (block $caught (result i32)
          (try_table (catch $oops $caught) (call $throw (local.get 0)))
          (i32.const -1)))
      (func (export "fail") unreachable)
      (func (export "spin") (loop (br 0))))
    """)
  end

  defp pair do
    one = Instance.new!(base())
    {one, Instance.new!(user(), imports: %{"base" => one})}
  end

  # Gives what `env.f` gives for its own number, and what it finds in its own memory is its own.
  defp member(number, opts \\ []) do
    load!("""
    (module
      #{opts[:imports]}
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "member #{number}")
      (func $ask (export "ask") (result i32) (call $f (i32.const #{number})))
      (func (export "number") (result i32) (i32.const #{number}))
      #{opts[:more]})
    """)
  end

  defp problems({:error, %LinkError{problems: problems}}),
    do: Map.new(problems, &{{&1.module, &1.name}, &1.reason})

  describe "what another instance exports" do
    test "is shared: functions and globals" do
      {one, other} = pair()
      assert Instance.call(other, "twice", [5]) == {:ok, 10}
      assert Instance.get_global(one, "n") == {:ok, 10}
      assert Instance.call(other, "set", [3]) == {:ok, nil}
      assert Instance.call(one, "bump", [1]) == {:ok, 4}
      assert Instance.call(other, "n") == {:ok, 4}
      assert Instance.call(other, "fixed") == {:ok, 7}
      assert Instance.set_global(one, "n", 50) == :ok
      assert Instance.call(other, "n") == {:ok, 50}
    end

    test "is shared: memory, which either grows and both see" do
      {one, other} = pair()
      assert Memory.read(one, 100, 19) == {:ok, "written at the link"}
      assert Instance.call(other, "poke", [7, 99]) == {:ok, nil}
      assert Instance.call(one, "peek", [7]) == {:ok, 99}
      assert Memory.write(other, 8, "x", memory: "base memory") == :ok
      assert Instance.call(one, "peek", [8]) == {:ok, ?x}
      assert Instance.call(other, "grow", [1]) == {:ok, 1}
      assert Memory.size(one) == {:ok, 131_072}
      assert Memory.grow(one, 1) == {:ok, 2}
      assert Memory.size(other, memory: "base memory") == {:ok, 196_608}

      assert {:error, %CallError{reason: :cannot_grow, pages: 2, maximum: 4}} =
               Memory.grow(other, 2)
    end

    test "is shared: tables, and functions in them" do
      {one, other} = pair()
      assert Instance.call(one, "invoke", [2]) == {:ok, 42}
      assert Instance.table_size(other, "base table") == {:ok, 4}
      assert {:ok, reference} = Instance.table_get(other, "base table", 2)
      assert reference != nil

      assert {:error, %TrapError{code: :indirect_call_to_null}} =
               Instance.call(one, "invoke", [1])
    end

    test "is shared: tags, by which one catches what the other throws" do
      {_one, other} = pair()
      assert Instance.call(other, "catch", [13]) == {:ok, 13}
    end

    test "may be exported again, and be got and set there" do
      {one, other} = pair()
      assert Instance.call(other, "bump", [2]) == {:ok, 2}
      assert Instance.get_global(other, "base n") == {:ok, 2}
      assert Instance.set_global(other, "base n", 9) == :ok
      assert Instance.get_global(one, "n") == {:ok, 9}
      assert {:error, %CallError{reason: :wrong_export_kind}} = Instance.get_global(other, "n")

      # A third takes from the second what the second has from the first.
      module = load!(~S|(module (import "x" "bump" (func $b (param i32) (result i32)))
          (func (export "run") (result i32) (call $b (i32.const 1))))|)

      assert {:ok, third} = Instance.new(module, imports: %{"x" => other})
      assert Instance.call(third, "run") == {:ok, 10}
    end

    test "may be taken alone, under another name, beside functions of the host" do
      module =
        load!(~S"""
        (module
          (import "env" "mem" (memory 1))
          (import "env" "add" (func $add (param i32) (result i32)))
          (import "env" "log" (func $log (param i32)))
          (import "other" "g" (global $g (mut i32)))
          (func (export "run") (result i32)
            (call $log (i32.load8_u (i32.const 0)))
            (drop (call $add (i32.const 2)))
            (global.get $g)))
        """)

      one = Instance.new!(base())
      :ok = Memory.write(one, 0, "!")
      test = self()

      imports = %{
        "env" => %{
          "mem" => {one, "memory"},
          "add" => {one, "bump"},
          "log" => fn _ctx, n -> send(test, {:logged, n}) end
        },
        "other" => %{"g" => {one, "n"}}
      }

      instance = Instance.new!(module, imports: imports)
      assert Instance.call(instance, "run") == {:ok, 2}
      assert_received {:logged, ?!}
      assert Instance.get_global(one, "n") == {:ok, 2}
    end

    test "may be a function of the host's, which is still that of the one that imports it" do
      passing = member(1, more: ~S|(export "f" (func $f))|)

      taking =
        load!(~S"""
        (module
          (import "one" "f" (func $f (param i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "member 2")
          (func (export "number") (result i32) (i32.const 2))
          (func (export "run") (result i32) (call $f (i32.const 1))))
        """)

      one = Instance.new!(passing, imports: asked(:one), data: :d1)
      other = Instance.new!(taking, imports: %{"one" => one}, data: :d2)
      # Not the memory and exports of whoever calls it, whose names may mean anything.
      assert Instance.call(other, "run") == {:ok, 100}
      assert mailbox() == [{:one, :d1, "member 1"}]
    end

    # Who was asked, by which data, and what it saw through its context.
    defp asked(who) do
      test = self()

      f(fn ctx, n ->
        {:ok, memory} = Host.read(ctx, 0, 8)
        {:ok, ^n} = Host.call(ctx, "number")
        send(test, {who, Host.data(ctx), memory})
        100 * n
      end)
    end
  end

  describe "modules as imports" do
    test "are made first, beside the one that imports them" do
      instance = Instance.new!(user(), imports: %{"base" => base()})
      assert Instance.call(instance, "twice", [5]) == {:ok, 10}
      assert Memory.read(instance, 100, 7, memory: "base memory") == {:ok, "written"}

      # Each time a fresh one.
      another = Instance.new!(user(), imports: %{"base" => base()})
      assert Instance.call(another, "n") == {:ok, 0}
    end

    test "give single exports too" do
      module = load!(~S|(module (import "env" "b" (func $b (param i32) (result i32)))
          (import "env" "n" (global $n (mut i32)))
          (func (export "run") (result i32) (drop (call $b (i32.const 4))) (global.get $n)))|)

      base = base()
      imports = %{"env" => %{"b" => {base, "bump"}, "n" => {base, "n"}}}
      # Both come from one instance of it.
      assert Executor.call(module, "run", [], imports: imports) == {:ok, 4}
    end

    test "import from each other, two levels deep, and are one where two import the same" do
      counting = load!(~S|(module (global $n (mut i32) (i32.const 0))
          (func (export "next") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))|)

      middle = fn factor ->
        load!("""
        (module (import "counting" "next" (func $next (result i32)))
          (func (export "next") (result i32) (i32.mul (i32.const #{factor}) (call $next))))
        """)
      end

      top =
        load!(~S"""
        (module
          (import "tens" "next" (func $tens (result i32)))
          (import "hundreds" "next" (func $hundreds (result i32)))
          (import "counting" "next" (func $next (result i32)))
          (func (export "run") (result i32 i32 i32) (call $tens) (call $hundreds) (call $next)))
        """)

      imports = %{
        "counting" => counting,
        "tens" => middle.(10),
        "hundreds" => middle.(100)
      }

      assert Executor.call(top, "run", [], imports: imports) == {:ok, [10, 200, 3]}
      assert Executor.call(top, "run", [], imports: imports) == {:ok, [10, 200, 3]}
      instance = Instance.new!(top, imports: imports)
      assert Instance.call(instance, "run") == {:ok, [10, 200, 3]}
      assert Instance.call(instance, "run") == {:ok, [40, 500, 6]}
    end

    test "in a chain of fifty" do
      first = load!(~S|(module (func (export "f") (result i32) i32.const 0))|)

      imports =
        for n <- 1..49, into: %{"m0" => first} do
          {"m#{n}",
           load!("""
           (module (import "m#{n - 1}" "f" (func $f (result i32)))
             (func (export "f") (result i32) (i32.add (i32.const 1) (call $f))))
           """)}
        end

      assert Executor.call(imports["m49"], "f", [], imports: imports) == {:ok, 49}
    end

    test "run their start functions in order: what is imported first" do
      noting = fn number, imports ->
        load!("""
        (module #{imports} (import "env" "f" (func $f (param i32) (result i32)))
          (func $s (drop (call $f (i32.const #{number})))) (start $s) (func (export "g")))
        """)
      end

      test = self()
      noted = f(fn _ctx, n -> send(test, {:started, n}) && n end)
      one = noting.(1, "")
      two = noting.(2, ~S|(import "one" "g" (func))|)
      three = noting.(3, ~S|(import "two" "g" (func)) (import "one" "g" (func))|)
      imports = Map.merge(noted, %{"one" => one, "two" => two})
      assert Executor.call(three, "g", [], imports: imports) == {:ok, nil}
      assert for({:started, n} <- mailbox(), do: n) == [1, 2, 3]
    end

    test "in a circle are refused, and told why" do
      a = load!(~S|(module (import "b" "f" (func)) (func (export "f")))|)
      b = load!(~S|(module (import "a" "f" (func)) (func (export "f")))|)
      self = load!(~S|(module (import "self" "f" (func)) (func (export "f")))|)

      for {module, imports, from} <- [
            {a, %{"a" => a, "b" => b}, {"a", "f"}},
            {self, %{"self" => self}, {"self", "f"}}
          ],
          make <- [&Instance.new/2, &Executor.call(&1, "f", [], &2)] do
        assert %{^from => reason} = module |> make.(imports: imports) |> problems()
        assert reason =~ "in a circle"
      end
    end

    test "and instances may be mixed, in whatever order they are imported" do
      lib = Instance.new!(load!(~S|(module (func (export "f") (result i32) i32.const 1))|))
      math = load!(~S|(module (func (export "f") (result i32) i32.const 2))|)

      deep = load!(~S|(module (import "lib" "f" (func $f (result i32)))
          (func (export "f") (result i32) (i32.mul (i32.const 10) (call $f))))|)

      imports = %{"lib" => lib, "math" => math, "deep" => deep}

      for [one, other, third] <- [
            ~w(lib math deep),
            ~w(math lib deep),
            ~w(math deep lib),
            ~w(deep math lib),
            ~w(math deep math)
          ] do
        module =
          load!("""
          (module
            (import "#{one}" "f" (func $a (result i32)))
            (import "#{other}" "f" (func $b (result i32)))
            (import "#{third}" "f" (func $c (result i32)))
            (func (export "run") (result i32)
              (i32.add (call $a) (i32.add (call $b) (call $c)))))
          """)

        sum =
          Enum.sum(
            for name <- [one, other, third], do: %{"lib" => 1, "math" => 2, "deep" => 10}[name]
          )

        assert {:ok, instance} = Instance.new(module, imports: imports)
        assert Instance.call(instance, "run") == {:ok, sum}
      end
    end

    test "that nobody imports are not made" do
      trapping = load!(~S|(module (func $s unreachable) (start $s))|)
      module = load!(~S|(module (func (export "f") (result i32) i32.const 1))|)
      assert Executor.call(module, "f", [], imports: %{"lib" => trapping}) == {:ok, 1}
    end
  end

  describe "a link that cannot be made" do
    test "names everything that is wrong in one error: types, and what is missing" do
      module =
        load!(~S"""
        (module
          (import "base" "memory" (memory 2))
          (import "base" "table" (table 1 externref))
          (import "base" "n" (global i32))
          (import "base" "fixed" (global i32))
          (import "base" "oops" (tag (param i64)))
          (import "base" "bump" (func (param i64) (result i32)))
          (import "base" "peek" (func (param i32) (result i32)))
          (import "base" "nothing" (func))
          (import "elsewhere" "g" (global i32))
          (import "elsewhere" "f" (func))
          (func (export "run")))
        """)

      for base <- [base(), Instance.new!(base())],
          make <- [&Instance.new(module, &1), &Executor.call(module, "run", [], &1)] do
        result = make.(imports: %{"base" => base})
        assert problems = problems(result)

        for name <- ~w(memory table n fixed oops bump),
            do: assert({name, problems[{"base", name}]} == {name, "wrong type"})

        assert problems[{"base", "nothing"}] =~ "missing"
        assert problems[{"elsewhere", "g"}] =~ "missing; given modules: \"base\""
        assert problems[{"elsewhere", "f"}] =~ "missing"
        refute Map.has_key?(problems, {"base", "peek"})
        assert map_size(problems) == 9

        {:error, error} = result
        assert Exception.message(error) =~ "9 import(s) cannot be satisfied"
        assert Exception.message(error) =~ ~s|"base" "memory", memory 2: wrong type|
        assert Exception.message(error) =~ ~s|"base" "fixed", global i32: wrong type|
      end
    end

    test "says so where a thing of another kind stands" do
      module = load!(~S|(module (import "base" "memory" (func)) (import "base" "bump" (memory 1))
          (import "env" "m" (memory 1)) (import "env" "g" (global i32)))|)

      imports = %{
        "base" => Instance.new!(base()),
        "env" => %{"m" => fn _ -> 1 end, "g" => 7}
      }

      problems = module |> Instance.new(imports: imports) |> problems()
      assert problems[{"base", "memory"}] == "wrong type"
      assert problems[{"base", "bump"}] == "wrong type"
      assert problems[{"env", "m"}] =~ "an instance or a module that exports one is needed"

      assert problems[{"env", "g"}] =~
               "an instance or a module that exports one is needed, got: 7"
    end

    test "compares sizes with what there is now, and maxima with what may be" do
      one = Instance.new!(base())
      wants = &load!("(module (import \"base\" \"memory\" (memory #{&1})))")
      fits? = &match?({:ok, _}, Instance.new(wants.(&1), imports: %{"base" => one}))

      assert fits?.("1")
      assert fits?.("1 4")
      assert fits?.("0 5")
      refute fits?.("2")
      refute fits?.("1 3")
      {:ok, 1} = Memory.grow(one, 1)
      assert fits?.("2")
      refute fits?.("3")
    end

    test "leaves the instance that was to be imported from as it was" do
      one = Instance.new!(base())
      wrong = load!(~S|(module (import "base" "bump" (func)))|)

      for _ <- 1..10,
          do: assert({:error, %LinkError{}} = Instance.new(wrong, imports: %{"base" => one}))

      refute Instance.poisoned?(one)
      assert Instance.call(one, "bump", [1]) == {:ok, 1}
      assert {:ok, _} = Instance.new(user(), imports: %{"base" => one})
    end

    test "between two stores is refused, with the next step" do
      {one, other} = {Instance.new!(base()), Instance.new!(base())}

      module = load!(~S|(module (import "a" "bump" (func (param i32) (result i32)))
          (import "b" "bump" (func (param i32) (result i32))))|)

      assert %{{"b", "bump"} => reason} =
               module |> Instance.new(imports: %{"a" => one, "b" => other}) |> problems()

      assert reason =~ "another store"
      assert reason =~ "`store:`"

      other = Instance.new!(base(), store: one)
      assert {:ok, _} = Instance.new(module, imports: %{"a" => one, "b" => other})

      assert %{{"a", "bump"} => _, {"b", "bump"} => _} =
               module
               |> Instance.new(imports: %{"a" => one, "b" => other}, store: live())
               |> problems()
    end

    test "with an instance that is busy, poisoned or closed says so" do
      module = load!(~S|(module (import "c" "next" (func $n (result i32)))
        (func (export "run") (result i32) (call $n)))|)

      instance = live()
      opts = [imports: %{"c" => instance}]
      holder = hold(instance)
      assert {:error, %CallError{reason: :busy}} = Instance.new(module, opts)
      release(holder)
      assert {:ok, _} = Instance.new(module, opts)

      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      assert {:error, %CallError{reason: :poisoned}} = Instance.new(module, opts)
      :ok = Instance.reset(instance)
      assert {:ok, another} = Instance.new(module, opts)
      assert Instance.call(another, "run") == {:ok, 1}

      :ok = Instance.close(instance)
      assert {:error, %CallError{reason: :closed}} = Instance.new(module, opts)
    end

    test "with wait: waits for an instance that is busy" do
      module = load!(~S|(module (import "c" "next" (func (result i32))))|)
      instance = live()
      holder = hold(instance)

      linking = in_line(fn -> Instance.new(module, imports: %{"c" => instance}, wait: 60_000) end)

      release(holder)
      assert {:ok, _} = await(linking)
    end

    test "with a module that was loaded with other options says which" do
      lib = load!(~S|(module (func (export "f") (result i32) i32.const 1))|, metering: :epoch)

      module = load!(~S|(module (import "lib" "f" (func $f (result i32)))
          (func (export "run") (result i32) (call $f)))|)

      for make <- [&Instance.new(module, &1), &Executor.call(module, "run", [], &1)] do
        assert {:error, %CallError{reason: :other_engine} = error} =
                 make.(imports: %{"lib" => lib})

        assert error.module_options =~ ~r/fuel/i
        assert error.instance_options =~ ~r/epoch/i
        assert Exception.message(error) =~ error.module_options
        assert Exception.message(error) =~ error.instance_options
      end
    end

    test "because a start function fails, fails as that does, and poisons the store it ran in" do
      module = load!(~S|(module (import "c" "next" (func $n (result i32)))
          (func $s (drop (call $n)) unreachable) (start $s))|)

      instance = live()
      assert {:error, %TrapError{}} = Instance.new(module, imports: %{"c" => instance})
      assert Instance.poisoned?(instance)
      :ok = Instance.reset(instance)
      assert Instance.call(instance, "next") == {:ok, 1}

      instance = live(on_trap: :keep)
      assert {:error, %TrapError{}} = Instance.new(module, imports: %{"c" => instance})
      assert Instance.call(instance, "next") == {:ok, 2}
    end
  end

  describe "metering and determinism, given to a call or to new" do
    defp adding do
      {load!(~S|(module (func (export "add") (param f32) (result f32)
         (f32.add (local.get 0) (f32.const 1))))|),
       load!(~S|(module (import "lib" "add" (func $add (param f32) (result f32)))
         (func (export "run") (param f32) (result i32)
           (i32.reinterpret_f32 (call $add (local.get 0)))))|)}
    end

    test "are those of all the modules: they are compiled once more" do
      {lib, module} = adding()
      imports = %{"lib" => lib}
      payload = {:f32_bits, 0x7FA0_0001}
      opts = [imports: imports, deterministic: true]
      assert Executor.call(module, "run", [payload], opts) == {:ok, 0x7FC0_0000}

      assert {:ok, %Run{usage: %{fuel: nil}}} =
               Executor.run(module, "run", [1.0], imports: imports, metering: :epoch)
    end

    test "hold in the store of another, or are refused there" do
      nan = load!(~S|(module (func (export "f") (param f32) (result i32)
        (i32.reinterpret_f32 (f32.add (local.get 0) (f32.const 1)))))|)

      case Instance.new(nan, store: live(), deterministic: true) do
        {:ok, instance} ->
          assert Instance.call(instance, "f", [{:f32_bits, 0x7FA0_0001}]) == {:ok, 0x7FC0_0000}

        {:error, error} ->
          assert %CallError{reason: :other_engine} = error
      end

      case Instance.new(nan, store: live(), metering: :epoch) do
        {:ok, instance} -> assert Instance.run!(instance, "f", [1.0]).usage.fuel == nil
        {:error, error} -> assert %CallError{reason: :other_engine} = error
      end
    end
  end

  describe "host functions of linked instances" do
    test "are each its own, whoever calls, and so are data, memory and exports of the context" do
      one = Instance.new!(member(1), imports: asked(:one), data: "d1")

      imports = Map.put(asked(:two), "one", one)

      calling_one =
        member(2,
          imports: ~S|(import "one" "ask" (func $one (result i32)))|,
          more: ~S|(func (export "both") (result i32 i32) (call $one) (call $ask))|
        )

      two = Instance.new!(calling_one, imports: imports, data: "d2")
      assert Instance.call(two, "both") == {:ok, [100, 200]}
      assert mailbox() == [{:one, "d1", "member 1"}, {:two, "d2", "member 2"}]

      assert Instance.call(one, "ask") == {:ok, 100}
      assert List.last(mailbox()) == {:one, "d1", "member 1"}
    end

    # The first calls whatever the second has put into its table, and the second's function asks the second's host.
    defp by_table do
      table =
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i32) (result i32)))
          (table $t (export "t") 1 funcref)
          (memory (export "memory") 1)
          (data (i32.const 0) "member 1")
          (type $i (func (result i32)))
          (func (export "number") (result i32) (i32.const 1))
          (func (export "indirectly") (result i32 i32)
            (call_indirect $t (type $i) (i32.const 0)) (call $f (i32.const 1))))
        """)

      filling =
        member(2,
          imports: ~S|(import "one" "t" (table $t 1 funcref))|,
          more: ~S|(elem (table $t) (i32.const 0) func $ask)|
        )

      one = Instance.new!(table, imports: asked(:one), data: "d1")
      {one, Instance.new!(filling, imports: Map.put(asked(:two), "one", one), data: "d2")}
    end

    test "are found by a callback through a table" do
      {one, two} = by_table()
      assert Instance.call(one, "indirectly") == {:ok, [200, 100]}
      assert mailbox() == [{:two, "d2", "member 2"}, {:one, "d1", "member 1"}]

      # Another process knows the first alone.
      task = Task.async(fn -> Instance.call(one, "indirectly") end)
      assert await(task) == {:ok, [200, 100]}
      assert length(mailbox()) == 4
      assert Instance.call(two, "number") == {:ok, 2}
    end

    test "of one whose handle nobody holds are gone, and a callback that needs them says so" do
      one = elsewhere(fn -> elem(by_table(), 0) end)

      eventually(fn ->
        case Instance.call(one, "indirectly") do
          {:ok, _} -> false
          {:error, %CallError{reason: :host_gone}} -> true
        end
      end)

      # The guest was cut off in the middle.
      assert Instance.poisoned?(one)
      assert Instance.reset(one) == :ok
      assert Instance.call(one, "number") == {:ok, 1}
    end

    test "call on into the others, each by its own context" do
      test = self()
      one = Instance.new!(member(1), imports: asked(:one), data: "d1")

      two =
        Instance.new!(
          member(2,
            imports: ~S|(import "one" "ask" (func $one (result i32)))|,
            more: ~S|(func (export "one") (result i32) (call $one))|
          ),
          imports:
            Map.put(
              f(fn ctx, 2 ->
                # By way of the first and its host function, and back in one's own memory.
                assert Host.call(ctx, "one") == {:ok, 100}
                {:ok, memory} = Host.read(ctx, 0, 8)
                send(test, {:two, Host.data(ctx), memory})
                assert {:error, %CallError{reason: :no_such_export}} = Host.call(ctx, "asks")
                7
              end),
              "one",
              one
            ),
          data: "d2"
        )

      assert Instance.call(two, "ask") == {:ok, 7}
      assert mailbox() == [{:one, "d1", "member 1"}, {:two, "d2", "member 2"}]
    end

    test "replaced for one call are replaced in the instance that is called" do
      one = Instance.new!(member(1), imports: f(fn _, _ -> 1 end), data: :one)

      two =
        Instance.new!(
          member(2,
            imports: ~S|(import "one" "ask" (func $one (result i32)))|,
            more: ~S|(func (export "both") (result i32 i32) (call $one) (call $ask))|
          ),
          imports: Map.put(f(fn _, _ -> 2 end), "one", one),
          data: :two
        )

      replaced = f(fn ctx, _ -> if Host.data(ctx) == :other, do: 20, else: 0 end)

      assert Instance.call(two, "both", [], imports: replaced, data: :other) == {:ok, [1, 20]}
      assert Instance.call(two, "both") == {:ok, [1, 2]}
    end

    test "of one call on modules are given to all of them, each with its own memory" do
      one = member(1)

      two =
        member(2,
          imports: ~S|(import "one" "ask" (func $one (result i32)))|,
          more: ~S|(func (export "both") (result i32 i32) (call $one) (call $ask))|
        )

      imports = Map.put(asked(:any), "one", one)
      assert Executor.call(two, "both", [], imports: imports, data: "d") == {:ok, [100, 200]}
      assert mailbox() == [{:any, "d", "member 1"}, {:any, "d", "member 2"}]
    end

    test "that raise are named, and poison all" do
      one = Instance.new!(member(1), imports: f(fn _, _ -> raise "one" end))

      two =
        Instance.new!(
          member(2,
            imports: ~S|(import "one" "ask" (func $one (result i32)))|,
            more: ~S|(func (export "run") (result i32) (call $one))|
          ),
          imports: Map.put(f(fn _, _ -> 2 end), "one", one)
        )

      assert {:error, %HostError{reason: %RuntimeError{message: "one"}, import: {"env", "f"}}} =
               Instance.call(two, "run")

      assert Instance.poisoned?(one) and Instance.poisoned?(two)
    end

    defmodule Declared do
      use Cybernetic.WASM.Host, module: "env"
      defimport(f(_ctx, n :: i32) :: i32, do: n + 1)
    end

    test "may be declared in a module, of which one member imports what another does not" do
      lib = member(5)

      module = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
          (import "lib" "ask" (func $ask (result i32)))
          (func (export "run") (result i32) (i32.add (call $ask) (call $f (i32.const 1)))))|)

      imports = [Declared, %{"lib" => lib}]
      assert Executor.call(module, "run", [], imports: imports) == {:ok, 8}

      lib = load!(~S|(module (func (export "ask") (result i32) i32.const 1))|)
      assert Executor.call(module, "run", [], imports: [Declared, %{"lib" => lib}]) == {:ok, 3}
    end
  end

  describe "store:" do
    test "has an instance made beside another, without importing from it" do
      one = Instance.new!(base())
      other = Instance.new!(base(), store: one)
      assert inspect(other) =~ "member 1>"
      assert Instance.call(one, "bump", [1]) == {:ok, 1}
      assert Instance.call(other, "bump", [5]) == {:ok, 5}
      assert Instance.get_global(one, "n") == {:ok, 1}
      assert Instance.get_global(other, "n") == {:ok, 5}
      :ok = Memory.write(one, 0, "one")
      assert Memory.read(other, 0, 3) == {:ok, <<0, 0, 0>>}
    end

    test "makes function references of one good in the other" do
      module = load!(~S|(module (func $self (export "self") (result funcref) (ref.func $self))
        (func (export "take") (param funcref) (result i32) (ref.is_null (local.get 0))))|)

      one = Instance.new!(module)
      other = Instance.new!(module, store: one)
      reference = Instance.call!(one, "self")
      assert Instance.call(other, "take", [reference]) == {:ok, 0}
    end

    test "makes both take turns" do
      one = live()
      other = Instance.new!(base(), store: one)
      holder = hold(one)
      assert {:error, %CallError{reason: :busy}} = Instance.call(other, "bump", [1])
      assert {:error, %CallError{reason: :busy}} = Memory.size(other)
      waiting = in_line(fn -> Instance.call(other, "bump", [1], wait: 60_000) end)
      release(holder)
      assert await(waiting) == {:ok, 1}
    end

    test "has a host function of one find the other busy by its handle" do
      one = Instance.new!(base())
      test = self()

      imports =
        f(fn _ctx, n ->
          send(test, {:other, Instance.call(one, "bump", [1]), Memory.size(one)})
          n
        end)

      other = Instance.new!(counter(), imports: imports, store: one)
      assert Instance.call(other, "run", [3]) == {:ok, 3}

      assert_received {:other, {:error, %CallError{reason: :busy}},
                       {:error, %CallError{reason: :busy}}}

      assert Instance.call(one, "bump", [1]) == {:ok, 1}
    end

    test "ends them together" do
      one = Instance.new!(base())
      other = Instance.new!(base(), store: one)
      assert Instance.close(other) == :ok
      assert {:error, %CallError{reason: :closed}} = Instance.call(one, "bump", [1])
      assert {:error, %CallError{reason: :closed}} = Instance.new(base(), store: one)
    end
  end

  describe "limits of linked instances" do
    test "max_instances counts all of them" do
      imports = %{"base" => base()}
      assert {:ok, _} = Instance.new(user(), imports: imports, max_instances: 2)

      assert {:error, %LimitError{limit: :instances, allowed: 1, used: 2}} =
               Instance.new(user(), imports: imports, max_instances: 1)

      one = Instance.new!(base(), max_instances: 3)
      for _ <- 1..2, do: assert({:ok, _} = Instance.new(base(), store: one, max_instances: 3))

      assert {:error, %LimitError{limit: :instances, allowed: 3, used: 4}} =
               Instance.new(base(), store: one, max_instances: 3)

      # Nothing has run, so nothing is wrong with those that are there.
      assert Instance.call(one, "bump", [1]) == {:ok, 1}
    end

    test "max_memory counts all their memories" do
      one = Instance.new!(member(1), imports: echo(), max_memory: 200_000)

      two = Instance.new!(member(2), imports: echo(), store: one, max_memory: 200_000)

      assert Memory.grow(one, 1) == {:ok, 1}

      assert {:error, %LimitError{limit: :memory, allowed: 200_000}} = Memory.grow(two, 1)

      lib = member(1, more: ~S|(memory 2)|)

      module = member(2, imports: ~S|(import "lib" "ask" (func (result i32)))|)

      imports = Map.put(echo(), "lib", lib)
      assert Executor.call(module, "ask", [], imports: imports, max_memory: 262_144) == {:ok, 2}

      assert {:error, %LimitError{limit: :memory, allowed: 262_143}} =
               Executor.call(module, "ask", [], imports: imports, max_memory: 262_143)
    end

    test "max_table_elements counts all their tables" do
      lib = load!(~S|(module (table 60 funcref) (func (export "f")))|)

      module =
        load!(~S|(module (import "lib" "f" (func $f)) (table 40 funcref) (export "f" (func $f)))|)

      imports = %{"lib" => lib}

      assert Executor.call(module, "f", [], imports: imports, max_table_elements: 100) ==
               {:ok, nil}

      assert {:error, %LimitError{limit: :table_elements, allowed: 99, used: 100}} =
               Executor.call(module, "f", [], imports: imports, max_table_elements: 99)
    end

    # Three modules of a call; each one's start function and the call itself do the same.
    defp three(body) do
      one = load!(~s|(module (import "env" "f" (func $f (param i32) (result i32)))
        (func $g (export "g") #{body}) (start $g))|)

      two = load!(~s|(module (import "env" "f" (func $f (param i32) (result i32)))
        (import "one" "g" (func)) (func $g (export "g") #{body}) (start $g))|)

      three = load!(~s|(module (import "env" "f" (func $f (param i32) (result i32)))
        (import "two" "g" (func)) (func $g (export "g") #{body}) (start $g))|)

      {three, %{"one" => one, "two" => two}}
    end

    @burning "(local i32) (local.set 0 (i32.const 10000)) (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))"
    @calling "(drop (call $f (i32.const 10)))"

    test "fuel is the whole call's, with the start functions of all" do
      {module, imports} = three(@burning)
      opts = [imports: Map.merge(echo(), imports)]
      # One burns some 50,000.
      assert Executor.call(module, "g", [], [fuel: 300_000] ++ opts) == {:ok, nil}

      assert {:error, %LimitError{limit: :fuel}} =
               Executor.call(module, "g", [], [fuel: 150_000] ++ opts)

      assert {:error, %LimitError{limit: :fuel}} = Instance.new(module, [fuel: 100_000] ++ opts)
      assert {:ok, _} = Instance.new(module, [fuel: 250_000] ++ opts)
    end

    test "time is the whole call's" do
      {module, imports} = three(@calling)
      slow = f(fn _ctx, n -> Process.sleep(40) && n end)
      opts = [imports: Map.merge(slow, imports)]

      assert {:error, %LimitError{limit: :timeout}} =
               Executor.call(module, "g", [], [timeout: 100] ++ opts)

      assert {:error, %LimitError{limit: :timeout}} = Instance.new(module, [timeout: 100] ++ opts)
      assert Executor.call(module, "g", [], opts) == {:ok, nil}
    end

    test "host calls are the whole call's" do
      {module, imports} = three(@calling)
      opts = [imports: Map.merge(echo(), imports)]
      assert Executor.call(module, "g", [], [max_host_calls: 4] ++ opts) == {:ok, nil}

      assert {:error, %LimitError{limit: :host_calls}} =
               Executor.call(module, "g", [], [max_host_calls: 3] ++ opts)
    end

    test "output is the whole call's, and all of it is told" do
      {module, imports} = three(@calling)
      emitting = f(fn ctx, n -> Host.emit(ctx, :binary.copy("x", n)) && n end)
      opts = [imports: Map.merge(emitting, imports)]

      assert {:ok, %Run{output: output}} = Executor.run(module, "g", [], [max_output: 40] ++ opts)
      assert byte_size(output) == 40

      assert {:error, %LimitError{limit: :output, allowed: 39}} =
               Executor.run(module, "g", [], [max_output: 39] ++ opts)
    end

    test "what was used is told of the whole call, as it is where there is one module" do
      {module, imports} = three(@calling)
      opts = [imports: Map.merge(echo(), imports)]
      assert {:ok, %Run{usage: usage}} = Executor.run(module, "g", [], opts)
      assert usage.host_calls == 4

      # What was allowed is what the caller allowed.
      assert {:error, %LimitError{limit: :host_calls, allowed: 3, used: 4}} =
               Executor.call(module, "g", [], [max_host_calls: 3] ++ opts)
    end

    test "are one set: one that joins a store does not widen what the store was given" do
      one = Instance.new!(member(1), imports: echo(), max_memory: 200_000)
      two = Instance.new!(member(2), imports: echo(), store: one, max_memory: 10_000_000)

      assert {:error, %LimitError{limit: :memory, allowed: 200_000}} = Memory.grow(two, 2)
      assert Memory.grow(two, 1) == {:ok, 1}
      assert {:error, %LimitError{limit: :memory}} = Memory.grow(one, 1)

      # Nor is there ever one that the others cannot be made anew with.
      assert Instance.reset(one) == :ok
      assert Instance.reset(two) == :ok

      assert {:error, %LimitError{limit: :memory, allowed: 200_000}} =
               Instance.new(load!("(module (memory 10))"), store: one, max_memory: 10_000_000)
    end

    test "given to a call narrow those of its instance" do
      {one, other} = pair()

      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
               Instance.call(other, "spin", [], fuel: 1_000)

      assert Instance.poisoned?(one)
    end
  end

  describe "a call on modules" do
    test "has fresh ones each time" do
      opts = [imports: %{"base" => base()}]
      for _ <- 1..10, do: assert(Executor.call(user(), "twice", [1], opts) == {:ok, 2})
      assert %Run{result: 2} = Executor.run!(user(), "twice", [1], opts)
      call = Executor.async(user(), "twice", [1], opts)
      assert Executor.await(call) == {:ok, 2}
    end

    test "does not take away the instance that it was given to import from" do
      lib = Instance.new!(base())

      for n <- 1..3 do
        result = Executor.call(user(), "twice", [1], imports: %{"base" => lib})
        # It may be refused, or use what is there; the instance is the caller's own, and stays.
        assert result == {:ok, 2 * n} or match?({:error, %LinkError{}}, result)
        assert {:ok, _} = Instance.get_global(lib, "n")
      end
    end

    test "may be streamed" do
      lib = load!(~S|(module (import "env" "f" (func $f (param i32) (result i32)))
        (func (export "put") (param i32) (drop (call $f (local.get 0)))))|)

      module =
        load!(
          ~S|(module (import "lib" "put" (func $put (param i32)))
        (func (export "count") (local i32)
          (loop (call $put (local.get 0)) (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br 0))))|
        )

      put = f(fn ctx, n -> Host.emit(ctx, to_string(n)) && n end)
      stream = Executor.stream(module, "count", [], imports: Map.put(put, "lib", lib))
      assert Enum.take(stream, 3) == ["0", "1", "2"]
      assert Enum.take(stream, 3) == ["0", "1", "2"]
    end
  end

  describe "poisoning and reset of linked instances" do
    test "one that is poisoned poisons the others" do
      {one, other} = pair()
      assert {:error, %TrapError{}} = Instance.call(other, "fail")
      assert Instance.poisoned?(one) and Instance.poisoned?(other)
      assert {:error, %CallError{reason: :poisoned}} = Instance.call(one, "bump", [1])
      assert {:error, %CallError{reason: :poisoned}} = Memory.size(one)
    end

    test "a killed caller of one poisons the others" do
      one = live()
      other = Instance.new!(base(), store: one)
      one |> hold() |> kill()
      eventually(fn -> Instance.poisoned?(other) end)
      assert Instance.reset(other) == :ok
      assert Instance.call(one, "next") == {:ok, 1}
    end

    test "reset by either makes all of them anew, and links them again" do
      for pick <- [&elem(&1, 0), &elem(&1, 1)], poison <- [false, true] do
        {one, other} = pair = pair()
        Instance.call!(other, "twice", [5])
        :ok = Memory.write(one, 100, "overwritten afterwards")
        if poison, do: Instance.call(one, "fail")

        assert Instance.reset(pick.(pair)) == :ok
        assert Instance.call(other, "n") == {:ok, 0}
        assert Memory.read(one, 100, 19) == {:ok, "written at the link"}
        assert Instance.call(one, "invoke", [2]) == {:ok, 42}
        assert Instance.call(other, "twice", [1]) == {:ok, 2}
        assert Instance.get_global(one, "n") == {:ok, 2}
      end
    end

    test "reset keeps the host functions and data of each" do
      one = Instance.new!(member(1), imports: asked(:one), data: "d1")

      two =
        Instance.new!(
          member(2,
            imports: ~S|(import "one" "ask" (func $one (result i32)))|,
            more: ~S|(func (export "both") (result i32 i32) (call $one) (call $ask))|
          ),
          imports: Map.put(asked(:two), "one", one),
          data: "d2"
        )

      for instance <- [one, two] do
        :ok = Instance.reset(instance)
        assert Instance.call(two, "both") == {:ok, [100, 200]}
      end

      both = [{:one, "d1", "member 1"}, {:two, "d2", "member 2"}]
      assert mailbox() == both ++ both
    end

    test "reset runs the start functions of all, each with its own host functions" do
      starting = fn number, imports ->
        load!("""
        (module #{imports} (import "env" "f" (func $f (param i32) (result i32)))
          (func $s (drop (call $f (i32.const #{number})))) (start $s) (func (export "g")))
        """)
      end

      test = self()
      noting = &f(fn ctx, n -> send(test, {&1, Host.data(ctx), n}) && n end)
      one = Instance.new!(starting.(1, ""), imports: noting.(:one), data: :d1)

      two =
        Instance.new!(starting.(2, ~S|(import "one" "g" (func))|),
          imports: Map.put(noting.(:two), "one", one),
          data: :d2
        )

      assert mailbox() == [{:one, :d1, 1}, {:two, :d2, 2}]
      assert Instance.reset(two) == :ok
      assert Enum.drop(mailbox(), 2) == [{:one, :d1, 1}, {:two, :d2, 2}]
      assert Instance.reset(one) == :ok
      assert Enum.drop(mailbox(), 4) == [{:one, :d1, 1}, {:two, :d2, 2}]
    end

    test "reset of a guest that failed links were tried on brings back those that succeeded" do
      one = Instance.new!(base())
      wrong = load!(~S|(module (import "base" "bump" (func)))|)
      assert {:error, %LinkError{}} = Instance.new(wrong, imports: %{"base" => one})
      other = Instance.new!(user(), imports: %{"base" => one})
      assert {:error, %LinkError{}} = Instance.new(wrong, imports: %{"base" => one})
      assert Instance.reset(one) == :ok
      assert Instance.call(other, "twice", [1]) == {:ok, 2}
    end
  end

  describe "linking and snapshots" do
    test "an instance that is linked cannot be snapshottable" do
      lib = load!(~S|(module (func (export "f")))|)
      module = load!(~S|(module (import "lib" "f" (func)))|)

      for opts <- [
            [imports: %{"lib" => lib}],
            [imports: %{"lib" => Instance.new!(lib)}],
            [imports: %{"lib" => %{"f" => {lib, "f"}}}],
            [imports: %{"lib" => %{"f" => fn _ -> nil end}}, store: live()]
          ] do
        assert_raise ArgumentError, ~r/linked to others cannot be snapshottable/, fn ->
          Instance.new(module, [snapshottable: true] ++ opts)
        end
      end
    end

    test "one that others were linked to has no snapshot any more, and says so" do
      module = load!(~S|(module (func (export "f") (result i32) i32.const 1))|)
      importer = load!(~S|(module (import "lib" "f" (func (result i32))))|)
      lib = Instance.new!(module, snapshottable: true)
      assert {:ok, _} = Instance.snapshot(lib)
      assert {:ok, _} = Instance.new(importer, imports: %{"lib" => lib})

      for result <- [Instance.snapshot(lib), Instance.fork(lib)] do
        assert {:error, %CallError{reason: :no_snapshot} = error} = result
        assert Exception.message(error) =~ "other modules have been linked"
      end
    end

    test "one that nothing could be linked to still has" do
      module = load!(~S|(module (func (export "f") (result i32) i32.const 1))|)
      wrong = load!(~S|(module (import "lib" "f" (func (param f64))))|)
      lib = Instance.new!(module, snapshottable: true)
      assert {:error, %LinkError{}} = Instance.new(wrong, imports: %{"lib" => lib})
      assert {:ok, _} = Instance.snapshot(lib)
    end
  end

  describe "facts" do
    test "a linked instance is one of its own module" do
      {one, other} = pair()
      assert Module.exports(one.module) == Module.exports(base())
      assert Module.exports(other.module) == Module.exports(user())

      assert inspect(other) =~
               ~r/\A#Cybernetic\.WASM\.Instance<bytes, blake3:[0-9a-f]{8}, member 1>\z/
    end

    test "a missing export of a linked instance is looked for among its own" do
      {_one, other} = pair()

      assert {:error, %CallError{reason: :no_such_export, known: known}} =
               Instance.call(other, "invoke", [1])

      assert "twice" in known
    end
  end
end
