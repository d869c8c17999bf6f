defmodule Cybernetic.WASM.ExecutorTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Host, Instance, Run, Sandbox, Usage}
  alias Cybernetic.WASM.{CallError, LimitError, LinkError, TrapError}

  doctest Cybernetic.WASM.Executor

  describe "a call" do
    test "gives one result bare, several as a list, none as nil" do
      module =
        load!(~S"""
        (module
          (func (export "none"))
          (func (export "one") (result i32) (i32.const 1))
          (func (export "three") (result i32 i64 f64)
            (i32.const 1) (i64.const 2) (f64.const 3.5)))
        """)

      assert Executor.call(module, "none") == {:ok, nil}
      assert Executor.call(module, "one") == {:ok, 1}
      assert Executor.call(module, "three") == {:ok, [1, 2, 3.5]}
    end

    test "takes no arguments and no options where none are given" do
      assert Executor.call(compute(), "process", [1]) == {:ok, 2}

      assert {:error, %CallError{reason: :arity, expected: 1, given: 0}} =
               Executor.call(compute(), "process")
    end

    test "may leave out arguments where the module counts them, as AssemblyScript's do" do
      module =
        load!(~S"""
        (module
          (import "env" "again" (func $again (param i32) (result i32)))
          (global $length (mut i32) (i32.const 0))
          (func (export "__setArgumentsLength") (param i32) (global.set $length (local.get 0)))
          (func (export "add") (param i32 i32) (result i32)
            (if (i32.lt_u (global.get $length) (i32.const 1)) (then unreachable))
            (if (i32.lt_u (global.get $length) (i32.const 2)) (then (local.set 1 (i32.const 10))))
            (i32.add (local.get 0) (local.get 1)))
          (func (export "outer") (param i32) (result i32) (call $again (local.get 0))))
        """)

      again = fn ctx, n -> ctx |> Host.call("add", [n]) |> elem(1) end
      opts = [imports: %{"env" => %{"again" => again}}]
      instance = Instance.new!(module, opts)

      for {args, sum} <- [{[1], 11}, {[1, 2], 3}] do
        assert Executor.call(module, "add", args, opts) == {:ok, sum}
        assert Instance.call(instance, "add", args) == {:ok, sum}
      end

      assert Executor.call(module, "outer", [5], opts) == {:ok, 15}
      assert Instance.call(instance, "outer", [5]) == {:ok, 15}

      assert {:error, %CallError{reason: :arity, expected: 2, given: 3}} =
               Executor.call(module, "add", [1, 2, 3], opts)
    end

    test "takes as many arguments and gives as many results as a function may have" do
      params = String.duplicate("i32 ", 1_000)
      gets = Enum.map_join(0..999, " ", &"(local.get #{&1})")

      module =
        load!("(module (func (export \"f\") (param #{params}) (result #{params}) #{gets}))")

      args = Enum.to_list(1..1_000)
      assert Executor.call(module, "f", args) == {:ok, args}
    end

    test "starts from the module's initial state, each time" do
      module =
        load!(~S"""
        (module
          (global $calls (mut i32) (i32.const 0))
          (func (export "count") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (global.get $calls)))
        """)

      for _ <- 1..20, do: assert(Executor.call(module, "count") == {:ok, 1})
    end

    test "runs the module's start function first" do
      module =
        load!(~S"""
        (module
          (global $ready (mut i32) (i32.const 0))
          (func $start (global.set $ready (i32.const 7)))
          (start $start)
          (func (export "ready") (result i32) (global.get $ready)))
        """)

      assert Executor.call(module, "ready") == {:ok, 7}
    end
  end

  describe "a run" do
    test "gives what was used along with the result" do
      assert {:ok, %Run{result: 84, output: "", usage: %Usage{} = usage}} =
               Executor.run(compute(), "process", [42])

      assert usage.fuel in 1..100
      assert usage.peak_memory == 65_536
      assert usage.host_calls == 0
      assert usage.slices >= 1
      assert usage.slice_time > 0
      assert usage.wall_time >= usage.slice_time
    end

    test "is the same work for the same fuel, every time" do
      fuels =
        for scheduling <- [:dirty, :inline, :adaptive], _ <- 1..3 do
          Executor.run!(compute(), "fib", [18], scheduling: scheduling).usage.fuel
        end

      assert [_one] = Enum.uniq(fuels)
    end

    test "counts fuel across slices: a long call used more than a short one" do
      short = Executor.run!(compute(), "fib", [10]).usage
      long = Executor.run!(compute(), "fib", [24]).usage
      assert long.fuel > 100 * short.fuel
      assert long.slices >= short.slices
    end

    test "counts slices" do
      usage = Executor.run!(compute(), "fib", [33], scheduling: :dirty).usage
      assert usage.slices > 1
      assert usage.slice_time > 1_000
    end

    test "counts memory at its peak" do
      usage = Executor.run!(compute(), "grow", [9]).usage
      assert usage.peak_memory == 10 * 65_536
    end

    test "knows no fuel where metering is by epochs" do
      assert Executor.run!(compute(metering: :epoch), "process", [1]).usage.fuel == nil
    end

    test "that failed has its usage in the error" do
      assert {:error, %TrapError{usage: %Usage{fuel: fuel, peak_memory: 65_536}}} =
               Executor.run(compute(), "fail")

      assert fuel > 0

      assert {:error, %LimitError{usage: %Usage{fuel: 1_000_000}}} =
               Executor.run(compute(), "spin", [], fuel: 1_000_000)
    end
  end

  describe "call! and run!" do
    test "give what call and run give" do
      assert Executor.call!(compute(), "process", [4]) == 8
      assert %Run{result: 8} = Executor.run!(compute(), "process", [4])
    end

    test "raise what they would have given" do
      assert_raise CallError, ~r/no function is exported as "nothing"/, fn ->
        Executor.call!(compute(), "nothing")
      end

      assert_raise TrapError, ~r/unreachable/, fn -> Executor.call!(compute(), "fail") end

      assert_raise LimitError, ~r/the fuel limit was reached: 1,000 units of fuel allowed/, fn ->
        Executor.run!(compute(), "spin", [], fuel: 1_000)
      end

      assert_raise LinkError, fn -> Executor.run!(calling(), "run", [1]) end
    end
  end

  describe "a trap" do
    test "has its code, its text and the guest's stack with names" do
      module =
        load!(~S"""
        (module
          (func $inner unreachable)
          (func $outer (call $inner))
          (func (export "run") (call $outer)))
        """)

      assert {:error, %TrapError{code: :unreachable, blame: :guest} = error} =
               Executor.call(module, "run")

      assert [
               %{name: "inner", function: 0},
               %{name: "outer", function: 1},
               %{name: nil, function: 2}
             ] = error.frames

      assert Enum.all?(error.frames, &(&1.offset > 8))
      assert Exception.message(error) =~ "in inner at offset"
    end

    test "of each kind has its own code" do
      module =
        load!(~S"""
        (module
          (memory 1)
          (type $nothing (func))
          (table $t 2 funcref)
          (elem (table $t) (i32.const 1) func $typed)
          (func $typed (param i32))
          (tag $e)
          (type $s (struct (field i32)))
          (type $a (array i32))
          (func (export "unreachable") unreachable)
          (func (export "memory_out_of_bounds") (drop (i32.load (i32.const 65536))))
          (func (export "table_out_of_bounds") (drop (table.get $t (i32.const 2))))
          (func (export "integer_divide_by_zero")
            (drop (i32.div_s (i32.const 1) (i32.const 0))))
          (func (export "integer_overflow")
            (drop (i32.div_s (i32.const -2147483648) (i32.const -1))))
          (func (export "invalid_conversion_to_integer")
            (drop (i32.trunc_f64_s (f64.const nan))))
          (func (export "indirect_call_to_null")
            (call_indirect $t (type $nothing) (i32.const 0)))
          (func (export "indirect_call_type_mismatch")
            (call_indirect $t (type $nothing) (i32.const 1)))
          (func (export "null_reference")
            (drop (struct.get $s 0 (ref.null $s))))
          (func (export "array_out_of_bounds")
            (drop (array.get $a (array.new $a (i32.const 1) (i32.const 1)) (i32.const 1))))
          (func (export "cast_failure")
            (drop (ref.cast (ref $s) (array.new $a (i32.const 1) (i32.const 1)))))
          (func (export "uncaught_exception") (throw $e)))
        """)

      for %{name: name} <- Cybernetic.WASM.Module.exports(module) do
        assert {:error, error} = Executor.call(module, name)
        assert %TrapError{} = error, "#{name}: #{inspect(error)}"
        assert to_string(error.code) == name
        assert error.detail != ""
      end
    end
  end

  describe "options" do
    test "that are unknown raise with the known ones" do
      error =
        assert_raise ArgumentError, fn -> Executor.call(compute(), "process", [1], fule: 1) end

      assert error.message =~ "unknown call option :fule"

      for known <- [:fuel, :timeout, :max_memory, :imports, :sandbox, :wait, :scheduling] do
        assert error.message =~ inspect(known)
      end
    end

    test "with wrong values raise with what they take" do
      for {name, values} <- [
            fuel: [0, -1, 1.5, "10", nil, 0x1_0000_0000_0000],
            timeout: [0, -5, :infinity, 0x1_0000_0000],
            max_execution_time: [0, -5, :infinity],
            max_memory: [0, -1, :unlimited],
            max_stack: [0, 1_000, 1_000_000_000],
            max_table_elements: [-1, 1.0],
            max_instances: [-1, nil],
            max_output: [-1],
            max_host_calls: [-1],
            wait: [-1, :infinity],
            scheduling: [:fast, nil],
            metering: [:time],
            deterministic: [1],
            imports: [[nil], nil, "env", [%{} | %{}]],
            sandbox: ["pure", 1]
          ],
          value <- values do
        error =
          assert_raise ArgumentError, fn ->
            Executor.call(compute(), "process", [1], [{name, value}])
          end

        assert error.message =~ "option #{inspect(name)} must be"
      end
    end

    test "as large as they may be are taken" do
      most = 0xFFFF_FFFF_FFFF

      opts = [
        fuel: most,
        max_memory: most,
        max_table_elements: most,
        max_instances: most,
        max_output: most,
        max_host_calls: most,
        timeout: 0xFFFF_FFFF,
        wait: 0xFFFF_FFFF
      ]

      assert Executor.call(compute(), "process", [2], opts) == {:ok, 4}
    end

    test "that name one thing twice raise" do
      assert_raise ArgumentError, ~r/two names of one option/, fn ->
        Executor.call(compute(), "process", [1], timeout: 10, max_execution_time: 10)
      end
    end

    test "that are no keyword list raise" do
      for opts <- [%{fuel: 1}, [:fuel], [{"fuel", 1}]] do
        assert_raise ArgumentError, ~r/keyword list/, fn ->
          Executor.call(compute(), "process", [1], opts)
        end
      end
    end
  end

  describe "a limit of a call" do
    test "on fuel" do
      assert {:error, %LimitError{limit: :fuel, allowed: 10_000, used: 10_000, blame: :guest}} =
               Executor.call(compute(), "spin", [], fuel: 10_000)
    end

    test "on fuel is close: what a call needs is enough, a tenth less is not" do
      needed = Executor.run!(compute(), "fib", [12]).usage.fuel
      assert Executor.call(compute(), "fib", [12], fuel: needed) == {:ok, 144}

      assert {:error, %LimitError{limit: :fuel}} =
               Executor.call(compute(), "fib", [12], fuel: div(needed * 9, 10))
    end

    test "on time, under either name" do
      for name <- [:timeout, :max_execution_time] do
        assert {:error, %LimitError{limit: :timeout, allowed: 30, used: used}} =
                 Executor.call(compute(), "spin", [], [{name, 30}, {:fuel, 100_000_000_000}])

        assert used >= 30
      end
    end

    test "on memory: the guest sees -1" do
      assert Executor.call(compute(), "grow", [1], max_memory: 131_072) == {:ok, 1}
      assert Executor.call(compute(), "grow", [2], max_memory: 131_072) == {:ok, -1}
    end

    test "on memory, of a module that has more from the start" do
      assert {:error, %LimitError{limit: :memory, allowed: 65_535, used: 65_536}} =
               Executor.call(compute(), "process", [1], max_memory: 65_535)
    end

    test "on memory, of a guest that gives up when it is refused" do
      module =
        load!(~S"""
        (module (memory 1)
          (func (export "run")
            (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))))
        """)

      assert {:error, %LimitError{limit: :memory, allowed: 1_000_000, used: 6_619_136}} =
               Executor.call(module, "run", [], max_memory: 1_000_000)
    end

    test "on table elements" do
      module =
        load!(~S"""
        (module (table $t 10 externref)
          (func (export "grow") (param i32) (result i32)
            (table.grow $t (ref.null extern) (local.get 0))))
        """)

      assert Executor.call(module, "grow", [10], max_table_elements: 20) == {:ok, 10}
      assert Executor.call(module, "grow", [11], max_table_elements: 20) == {:ok, -1}

      assert {:error, %LimitError{limit: :table_elements, allowed: 9, used: 10}} =
               Executor.call(module, "grow", [0], max_table_elements: 9)
    end

    test "on instances" do
      assert {:error, %LimitError{limit: :instances, allowed: 0, used: 1}} =
               Executor.call(compute(), "process", [1], max_instances: 0)

      assert {:ok, 2} = Executor.call(compute(), "process", [1], max_instances: 1)
    end

    test "on the stack" do
      assert {:error, %LimitError{limit: :stack, allowed: 1_000_000}} =
               Executor.call(compute(), "recurse")

      assert {:error, %LimitError{limit: :stack, allowed: 100_000}} =
               Executor.call(compute(), "recurse", [], max_stack: 100_000)
    end

    test "on the stack may be raised: a deeper recursion fits" do
      module =
        load!(~S"""
        (module (func $deep (export "deep") (param i32) (result i32)
          (if (result i32) (i32.eqz (local.get 0))
            (then (i32.const 0))
            (else (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1))))))))
        """)

      assert {:error, %LimitError{limit: :stack}} = Executor.call(module, "deep", [100_000])

      assert Executor.call(module, "deep", [100_000], max_stack: 32_000_000) == {:ok, 100_000}
    end

    test "on host calls" do
      module =
        load!(~S"""
        (module (import "env" "f" (func $f (param i32) (result i32)))
          (func (export "loop") (loop (drop (call $f (i32.const 1))) (br 0))))
        """)

      test = self()
      imports = f(fn _ctx, n -> send(test, :called) && n end)

      assert {:error, %LimitError{limit: :host_calls, allowed: 5, used: 6, usage: usage}} =
               Executor.call(module, "loop", [], imports: imports, max_host_calls: 5)

      assert usage.host_calls == 5
      for _ <- 1..5, do: assert_received(:called)
      refute_received :called
    end
  end

  describe "a sandbox" do
    test "goes into a call as a struct" do
      sandbox = Sandbox.new(fuel: 1_000)

      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
               Executor.call(compute(), "spin", [], sandbox: sandbox)
    end

    test "is only narrowed by the call's options" do
      sandbox = Sandbox.new(fuel: 1_000, timeout: 60_000)

      assert {:error, %LimitError{allowed: 1_000}} =
               Executor.call(compute(), "spin", [], sandbox: sandbox, fuel: 1_000_000)

      assert {:error, %LimitError{allowed: 500}} =
               Executor.call(compute(), "spin", [], sandbox: sandbox, fuel: 500)

      assert {:error, %LimitError{limit: :timeout, allowed: 20}} =
               Executor.call(compute(), "spin", [],
                 sandbox: Sandbox.new(fuel: 100_000_000_000),
                 timeout: 20
               )
    end

    test "without one the call's options replace the defaults" do
      # Above the default billion.
      run = Executor.run!(compute(), "process", [1], fuel: 2_000_000_000)
      assert run.result == 2

      assert {:error, %LimitError{allowed: 2_000_000}} =
               Executor.call(compute(), "spin", [], fuel: 2_000_000)
    end

    test "may be a preset's name" do
      assert Executor.call(compute(), "process", [3], sandbox: :none) == {:ok, 6}
      assert Executor.call(compute(), "process", [3], sandbox: :pure) == {:ok, 6}

      error =
        assert_raise ArgumentError, fn ->
          Executor.call(compute(), "process", [3], sandbox: :pur)
        end

      assert error.message =~ "unknown sandbox preset :pur"
      assert error.message =~ ":pure"
    end
  end

  describe "scheduling" do
    test "of each kind gives the same results and the same errors" do
      for scheduling <- [:adaptive, :dirty, :inline] do
        opts = [scheduling: scheduling]
        assert Executor.call(compute(), "process", [5], opts) == {:ok, 10}
        assert Executor.call(compute(), "fib", [22], opts) == {:ok, 17_711}
        assert {:error, %TrapError{}} = Executor.call(compute(), "fail", [], opts)

        assert {:error, %LimitError{limit: :fuel}} =
                 Executor.call(compute(), "spin", [], [fuel: 5_000_000] ++ opts)

        assert {:error, %LimitError{limit: :timeout}} =
                 Executor.call(compute(), "spin", [], [timeout: 20] ++ opts)

        assert {:error, %CallError{reason: :no_such_export}} =
                 Executor.call(compute(), "nothing", [], opts)

        assert Executor.call(calling(), "run", [1], [imports: f(fn _, n -> n + 1 end)] ++ opts) ==
                 {:ok, 2}
      end
    end

    test "adapts: a function that was short for long may still run long" do
      module =
        load!(~S"""
        (module (func (export "count") (param i32) (result i32)
          (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
          (local.get 0)))
        """)

      for _ <- 1..50, do: assert(Executor.call(module, "count", [1]) == {:ok, 0})
      assert Executor.call(module, "count", [50_000_000]) == {:ok, 0}
      for _ <- 1..50, do: assert(Executor.call(module, "count", [1]) == {:ok, 0})
    end
  end

  describe "metering" do
    test "by epochs may be chosen when loading or for one call" do
      for {module, opts} <- [{compute(metering: :epoch), []}, {compute(), [metering: :epoch]}] do
        run = Executor.run!(module, "fib", [20], opts)
        assert {run.result, run.usage.fuel} == {6_765, nil}

        assert {:error, %LimitError{limit: :timeout, allowed: 30}} =
                 Executor.call(module, "spin", [], [timeout: 30] ++ opts)
      end
    end

    test "by epochs has no fuel to limit: asking for it is a mistake" do
      for {module, opts} <- [{compute(metering: :epoch), []}, {compute(), [metering: :epoch]}] do
        assert_raise ArgumentError, ~r/option :fuel needs metering: :fuel/, fn ->
          Executor.call(module, "process", [1], [fuel: 100] ++ opts)
        end
      end
    end

    test "by fuel may be asked for a module that was loaded otherwise" do
      module = compute(metering: :epoch)

      assert {:error, %LimitError{limit: :fuel}} =
               Executor.call(module, "spin", [], metering: :fuel, fuel: 10_000)
    end
  end

  test "deterministic makes every NaN the canonical one" do
    # 0/0 has another sign on x86 than elsewhere; and a payload comes through an addition.
    source = ~S"""
    (module
      (func (export "made") (result i64)
        (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.const 0))))
      (func (export "kept") (param f64) (result i64)
        (i64.reinterpret_f64 (f64.add (local.get 0) (f64.const 1)))))
    """

    payload = {:f64_bits, 0x7FF8_0000_DEAD_BEEF}

    for {module, opts} <- [
          {load!(source, deterministic: true), []},
          {load!(source), [deterministic: true]},
          {load!(source), [sandbox: :pure]},
          {load!(source), [sandbox: Sandbox.new(deterministic: true), deterministic: false]}
        ] do
      assert Executor.call(module, "made", [], opts) == {:ok, 0x7FF8_0000_0000_0000}
      assert Executor.call(module, "kept", [payload], opts) == {:ok, 0x7FF8_0000_0000_0000}
    end

    assert Executor.call(load!(source), "kept", [payload]) == {:ok, 0x7FF8_0000_DEAD_BEEF}
  end

  describe "mistakes" do
    test "a module that is none" do
      for other <- [nil, %{}, {:ok, compute()}, make_ref()] do
        assert_raise ArgumentError, ~r/load it first with Cybernetic.WASM.Runtime/, fn ->
          Executor.call(other, "process", [1])
        end
      end

      assert {:error, error} = Executor.call("priv/wasm/compute.wasm", "process", [1])
      assert Exception.message(error) =~ "load it first, with Cybernetic.WASM.Runtime"
    end

    test "a function's name that is no string" do
      for name <- [:process, 'process', nil, 1] do
        assert_raise ArgumentError, ~r/name must be a string/, fn ->
          Executor.call(compute(), name, [1])
        end
      end
    end

    test "arguments that are no list, or an improper one" do
      for args <- [1, nil, {1}, %{}, [1 | 2]] do
        assert_raise ArgumentError, ~r/arguments must be a/, fn ->
          Executor.call(compute(), "process", args)
        end
      end
    end

    test "a name that is not there is told along with those that are" do
      assert {:error, %CallError{reason: :no_such_export, export: "proces"} = error} =
               Executor.call(compute(), "proces", [1])

      assert "process" in error.known
      assert error.blame == :caller
      assert Exception.message(error) =~ "exported are: process, add"

      assert {:error, error} = Executor.call(load!("(module)"), "f")

      assert Exception.message(error) ==
               ~s|no function is exported as "f"; the module exports no function|
    end

    test "a name that is not UTF-8 is no export, not even the one that it is printed as" do
      # The name was once made UTF-8 by replacing what was wrong, and then found the export of the replacement character.
      module = load!("(module (func (export \"\uFFFD\")))")
      assert Executor.call(module, "\uFFFD") == {:ok, nil}
      assert {:error, %CallError{reason: :no_such_export}} = Executor.call(module, <<0xFF>>)
    end

    test "a name that is something else" do
      assert {:error, %CallError{reason: :wrong_export_kind} = error} =
               Executor.call(compute(), "memory")

      assert Exception.message(error) == ~s|the export "memory" is a memory, not a function|
    end

    test "a name of any length" do
      name = String.duplicate("x", 1_000_000)

      assert {:error, %CallError{reason: :no_such_export} = error} =
               Executor.call(compute(), name)

      assert byte_size(Exception.message(error)) < 10_000
    end

    test "too many arguments or too few" do
      for args <- [[], [1, 2], Enum.to_list(1..10_000)] do
        assert {:error, %CallError{reason: :arity, expected: 1, given: given} = error} =
                 Executor.call(compute(), "process", args)

        assert given == length(args)
        assert error.signature =~ "i32"
      end
    end
  end

  test "imports that the module does not have are ignored, and so are others' functions" do
    imports = %{"env" => %{"f" => fn _, n -> n end, "other" => :unused}, "more" => %{}}
    assert Executor.call(calling(), "run", [7], imports: imports) == {:ok, 7}
    assert Executor.call(compute(), "process", [7], imports: imports) == {:ok, 14}
  end
end
