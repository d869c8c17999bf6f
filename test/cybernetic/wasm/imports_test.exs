defmodule Cybernetic.WASM.ImportsTest do
  # What an import may be bound to, and what is said where nothing is.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Links, Plenty, Turns}

  alias Cybernetic.WASM.{Executor, Instance, Memory}
  alias Cybernetic.WASM.{CallError, LinkError, TrapError}

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
      busy = while_held(instance, fn -> Instance.new(module, opts) end)
      assert {:error, %CallError{reason: :busy}} = busy
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
      opts = [imports: %{"c" => instance}, wait: never()]
      linking = while_held(instance, fn -> in_line(fn -> Instance.new(module, opts) end) end)
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
end
