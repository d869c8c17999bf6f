defmodule Cybernetic.WASM.HostTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, LimitError, LinkError, Run}

  doctest Cybernetic.WASM.Host

  # Runs `function` as the body of a host call and gives what it returned beside the call's own result.
  defp inside(function, opts \\ []) do
    test = self()

    imports =
      f(fn ctx, n ->
        send(test, {:inside, function.(ctx)})
        n
      end)

    result = Executor.call(calling(), "run", [1], [imports: imports] ++ opts)
    assert_received {:inside, value}
    {value, result}
  end

  describe "a host function" do
    test "gets the guest's arguments and returns its result" do
      imports = f(fn _ctx, n -> n * 3 end)
      assert Executor.call(calling(), "run", [5], imports: imports) == {:ok, 15}
    end

    test "returns a bare value for one result, a list for several, anything for none" do
      module =
        load!(~S"""
        (module
          (import "env" "none" (func $none))
          (import "env" "one" (func $one (result i64)))
          (import "env" "two" (func $two (param f32 i64) (result i64 f32)))
          (func (export "none") (call $none))
          (func (export "one") (result i64) (call $one))
          (func (export "two") (result i64 f32) (call $two (f32.const 0.5) (i64.const -7))))
        """)

      for ignored <- [nil, :ok, 1, [], {:error, :oops}, self()] do
        imports = %{
          "env" => %{
            "none" => fn _ -> ignored end,
            "one" => fn _ -> 1 <<< 40 end,
            "two" => fn _, a, b -> [b, a] end
          }
        }

        assert Executor.call(module, "none", [], imports: imports) == {:ok, nil}
        assert Executor.call(module, "one", [], imports: imports) == {:ok, 1 <<< 40}
        assert Executor.call(module, "two", [], imports: imports) == {:ok, [-7, 0.5]}
      end
    end

    test "of the same name in two modules are two functions" do
      module =
        load!(~S"""
        (module
          (import "a" "f" (func $a (result i32)))
          (import "b" "f" (func $b (result i32)))
          (func (export "run") (result i32 i32) (call $a) (call $b)))
        """)

      imports = %{"a" => %{"f" => fn _ -> 1 end}, "b" => %{"f" => fn _ -> 2 end}}
      assert Executor.call(module, "run", [], imports: imports) == {:ok, [1, 2]}
    end

    test "may be imported twice, and may be exported again" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func $one (param i32) (result i32)))
          (import "env" "f" (func $two (param i32) (result i32)))
          (export "direct" (func $one))
          (func (export "run") (result i32) (call $one (call $two (i32.const 1)))))
        """)

      imports = f(fn _ctx, n -> n + 10 end)
      assert Executor.call(module, "run", [], imports: imports) == {:ok, 21}
      assert Executor.call(module, "direct", [1], imports: imports) == {:ok, 11}
    end

    test "runs in the process that called" do
      Process.put(:mine, :dictionary)
      Logger.metadata(request: "abc")

      {found, _} = inside(fn _ -> {self(), Process.get(:mine), Logger.metadata()[:request]} end)
      assert found == {self(), :dictionary, "abc"}
    end

    test "may write to the process dictionary and receive messages" do
      send(self(), {:order, 5})

      imports =
        f(fn _ctx, n ->
          Process.put(:seen, n)
          receive do: ({:order, more} -> n + more)
        end)

      assert Executor.call(calling(), "run", [1], imports: imports) == {:ok, 6}
      assert Process.get(:seen) == 1
      assert mailbox() == []
    end

    test "may start tasks, sleep and wait" do
      imports = f(fn _ctx, n -> await(Task.async(fn -> Process.sleep(10) && n + 1 end)) end)
      assert Executor.call(calling(), "run", [1], imports: imports) == {:ok, 2}
      assert mailbox() == []
    end

    test "is called as often as the guest likes" do
      module =
        asking(~S"""
        (func (export "loop") (param i32) (result i32) (local i32)
          (loop $l
            (local.set 1 (call $f (local.get 1)))
            (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
          (local.get 1))
        """)

      assert {:ok, %Run{result: 20_000, usage: usage}} =
               Executor.run(module, "loop", [20_000], imports: f(fn _ctx, n -> n + 1 end))

      assert usage.host_calls == 20_000
    end

    test "may call another guest, and itself as another" do
      other = load!(~S|(module (func (export "square") (param i32) (result i32)
        (i32.mul (local.get 0) (local.get 0))))|)

      imports = f(fn _ctx, n -> Executor.call!(other, "square", [n]) end)
      assert Executor.call(calling(), "run", [9], imports: imports) == {:ok, 81}

      nested =
        f(fn _ctx, n ->
          if n > 0 do
            Executor.call!(calling(), "run", [n - 1], imports: Process.get(:nested)) + 1
          else
            100
          end
        end)

      Process.put(:nested, nested)
      assert Executor.call(calling(), "run", [20], imports: nested) == {:ok, 120}
    end
  end

  describe "memory" do
    test "is written and read" do
      {value, result} =
        inside(fn ctx ->
          :ok = Host.write(ctx, 100, ["hel", ?l, ["o"]])
          {Host.read(ctx, 100, 5), Host.read(ctx, 105, 0), Host.memory_size(ctx)}
        end)

      assert value == {{:ok, "hello"}, {:ok, ""}, {:ok, 65_536}}
      assert result == {:ok, 1}
    end

    test "takes any bytes, whole pages at once" do
      bytes = :rand.bytes(65_536)
      {value, _} = inside(fn ctx -> Host.write(ctx, 0, bytes) && Host.read(ctx, 0, 65_536) end)
      assert value == {:ok, bytes}
    end

    test "is what the guest sees" do
      module =
        asking(~S"""
        (memory (export "memory") 1)
        (data (i32.const 16) "from the module")
        (func (export "run") (result i32)
          (i32.store8 (i32.const 8) (i32.const 42))
          (drop (call $f (i32.const 0)))
          (i32.load (i32.const 200)))
        """)

      imports =
        f(fn ctx, 0 ->
          {:ok, <<42>>} = Host.read(ctx, 8, 1)
          {:ok, "from the module"} = Host.read(ctx, 16, 15)
          :ok = Host.write(ctx, 200, <<7_654_321::32-little>>)
          0
        end)

      assert Executor.call(module, "run", [], imports: imports) == {:ok, 7_654_321}
    end

    test "beyond its end is refused, whatever the numbers" do
      {errors, result} =
        inside(fn ctx ->
          for {offset, length} <- [
                {65_536, 1},
                {65_535, 2},
                {0, 65_537},
                {1 <<< 32, 1},
                {(1 <<< 64) - 1, 1},
                {1, (1 <<< 64) - 1},
                {(1 <<< 64) - 1, (1 <<< 64) - 1}
              ] do
            {:error, error} = Host.read(ctx, offset, length)
            error
          end
        end)

      for error <- errors do
        assert %CallError{reason: :out_of_bounds, size: 65_536} = error
        assert Exception.message(error) =~ "outside a memory of 65,536 bytes"
      end

      assert result == {:ok, 1}

      {value, _} =
        inside(fn ctx -> {Host.write(ctx, 65_530, "1234567"), Host.read(ctx, 65_530, 6)} end)

      assert {{:error, %CallError{reason: :out_of_bounds, length: 7}}, {:ok, <<0::48>>}} = value
      # At the very end there is room for nothing.
      assert {{:ok, ""}, _} = inside(fn ctx -> Host.read(ctx, 65_536, 0) end)
    end

    test "is found by pointers beyond 2^31, which come as negative numbers" do
      module =
        asking(~S"""
        (memory (export "memory") 32770)
        (data (i32.const -2147483648) "far away")
        (func (export "run") (result i32) (call $f (i32.const -2147483648)))
        """)

      imports =
        f(fn ctx, pointer ->
          assert pointer == -2_147_483_648
          assert Host.read(ctx, pointer, 8) == {:ok, "far away"}
          assert Host.write(ctx, pointer, "near") == :ok
          assert Host.read(ctx, pointer, 8) == {:ok, "nearaway"}
          assert {:error, %CallError{offset: 4_294_967_295}} = Host.read(ctx, -1, 1)
          0
        end)

      opts = [imports: imports, max_memory: 3_000_000_000]
      assert Executor.call(module, "run", [], opts) == {:ok, 0}
    end

    test "is chosen by its export's name" do
      module =
        asking(~S"""
        (memory (export "first") 1)
        (memory (export "second") 2)
        (func (export "run") (result i32) (call $f (i32.const 0)))
        """)

      imports =
        f(fn ctx, n ->
          assert Host.memory_size(ctx) == {:ok, 65_536}
          assert Host.memory_size(ctx, memory: "second") == {:ok, 131_072}
          assert Host.write(ctx, 70_000, "x", memory: "second") == :ok
          assert Host.read(ctx, 70_000, 1, memory: "second") == {:ok, "x"}
          assert Host.read(ctx, 0, 1, memory: "first") == {:ok, <<0>>}

          assert {:error, %CallError{reason: :no_memory, export: "third"} = error} =
                   Host.read(ctx, 0, 1, memory: "third")

          assert Exception.message(error) == ~s|no memory is exported as "third"|
          assert {:error, %CallError{reason: :no_memory}} = Host.write(ctx, 0, "x", memory: "run")
          n
        end)

      assert Executor.call(module, "run", [], imports: imports) == {:ok, 0}
    end

    test "is not reached with a misspelt option or a number that is none" do
      for {function, words} <- [
            {&Host.read(&1, 0, 1, memroy: "memory"), "the one option is :memory"},
            {&Host.memory_size(&1, memory: :memory), "an export's name as a string"},
            {&Host.read(&1, 0, :all), "offset and length must be integers"},
            {&Host.write(&1, 1 <<< 64, "x"), "offset and length must be integers"}
          ] do
        {error, _} = inside(fn ctx -> assert_raise ArgumentError, fn -> function.(ctx) end end)
        assert error.message =~ words
      end
    end

    test "of a guest without one" do
      module =
        asking(~S"""
        (func (export "run") (result i32) (call $f (i32.const 0)))
        """)

      imports =
        f(fn ctx, n ->
          assert {:error, %CallError{reason: :no_memory}} = Host.read(ctx, 0, 0)
          assert {:error, %CallError{reason: :no_memory}} = Host.write(ctx, 0, "")
          assert {:error, %CallError{reason: :no_memory}} = Host.memory_size(ctx)
          n
        end)

      assert Executor.call(module, "run", [], imports: imports) == {:ok, 0}
    end

    test "of 64-bit addresses" do
      module =
        asking(~S"""
        (memory (export "memory") i64 1)
        (data (i64.const 8) "wide")
        (func (export "run") (result i32) (call $f (i32.const 0)))
        """)

      imports = f(fn ctx, _ -> Host.read(ctx, 8, 4) |> elem(1) |> byte_size() end)
      assert Executor.call(module, "run", [], imports: imports) == {:ok, 4}
    end

    test "wants numbers: anything else is the host function's own mistake" do
      for use <- [
            &Host.read(&1, "8", 1),
            &Host.read(&1, 1.0, 1),
            &Host.read(&1, 0, -(1 <<< 40)),
            &Host.read(&1, 1 <<< 64, 1),
            &Host.write(&1, 0, :atom),
            &Host.write(&1, nil, "x")
          ] do
        imports = f(fn ctx, _ -> use.(ctx) end)

        assert {:error, %HostError{kind: :error, import: {"env", "f"}} = error} =
                 Executor.call(calling(), "run", [1], imports: imports)

        assert Exception.message(error) =~ ~s|the host function "env" "f" failed|
      end
    end
  end

  describe "output" do
    test "is what host functions emit, in order, as bytes" do
      imports =
        f(fn ctx, n ->
          :ok = Host.emit(ctx, ["a", ?b])
          :ok = Host.emit(ctx, <<255, 0>>)
          :ok = Host.emit(ctx, "")
          n
        end)

      assert {:ok, %Run{result: 1, output: <<"ab", 255, 0>>}} =
               Executor.run(calling(), "run", [1], imports: imports)
    end

    test "up to its limit is taken, and a byte more stops the guest" do
      for {size, stopped?} <- [{10, false}, {11, true}] do
        imports = f(fn ctx, n -> Host.emit(ctx, String.duplicate("x", size)) && n end)
        result = Executor.run(calling(), "run", [1], imports: imports, max_output: 10)

        case stopped? do
          false ->
            assert {:ok, %Run{output: "xxxxxxxxxx"}} = result

          true ->
            assert {:error, %LimitError{limit: :output, allowed: 10, used: 11, usage: usage}} =
                     result

            assert usage.host_calls == 1
        end
      end
    end

    test "past its limit leaves the host function at once" do
      test = self()

      imports =
        f(fn ctx, n ->
          Host.emit(ctx, "too much")
          send(test, :went_on)
          n
        end)

      assert {:error, %LimitError{limit: :output}} =
               Executor.call(calling(), "run", [1], imports: imports, max_output: 0)

      refute_received :went_on
    end

    test "counts over all host calls of a call" do
      module =
        asking(~S"""
        (func (export "loop") (loop (drop (call $f (i32.const 1))) (br 0)))
        """)

      imports = f(fn ctx, n -> Host.emit(ctx, "0123456789") && n end)

      assert {:error, %LimitError{limit: :output, allowed: 95, used: 100}} =
               Executor.call(module, "loop", [], imports: imports, max_output: 95)
    end
  end

  describe "the rest of the context" do
    test "data is what the caller gave" do
      assert {{:some, "term"}, _} = inside(&Host.data/1, data: {:some, "term"})
      assert {nil, _} = inside(&Host.data/1)
    end

    test "fuel_left goes down" do
      {left, _} = inside(&Host.fuel_left/1, fuel: 1_000)
      assert left in 1..999

      imports = f(fn ctx, n -> Host.call(ctx, "double", [n]) && Host.fuel_left(ctx) end)
      assert {:ok, later} = Executor.call(calling(), "run", [1], imports: imports, fuel: 1_000)
      assert later < left
    end

    test "fuel_left is nil where there is none" do
      assert {nil, {:ok, 1}} = inside(&Host.fuel_left/1, metering: :epoch)
    end

    test "time_left goes down" do
      {{before, later}, _} =
        inside(
          fn ctx ->
            before = Host.time_left(ctx)
            Process.sleep(20)
            {before, Host.time_left(ctx)}
          end,
          timeout: 300_000
        )

      assert before in 1..300_000
      assert later <= before - 20
    end

    test "shows no reference" do
      {text, _} = inside(&inspect/1)
      assert text =~ ~r/\A#Cybernetic\.WASM\.Host\.Context<call \d+>\z/
    end
  end

  describe "trap" do
    test "stops the guest with a term" do
      imports = f(fn ctx, _n -> Host.trap(ctx, {:refused, "by policy"}) end)

      assert {:error, %HostError{kind: :trap, reason: {:refused, "by policy"}} = error} =
               Executor.call(calling(), "run", [1], imports: imports)

      assert error.import == {"env", "f"}
      assert error.blame == :guest
      assert error.usage.host_calls == 1
      assert Exception.message(error) =~ ~s|it trapped the guest with {:refused, "by policy"}|

      assert_raise HostError, fn -> Executor.call!(calling(), "run", [1], imports: imports) end
    end
  end

  describe "imports" do
    test "that are missing are named, all of them, in one error" do
      module =
        load!(~S"""
        (module
          (import "env" "one" (func (param i32) (result i32)))
          (import "env" "two" (func))
          (import "other" "three" (func (param f64)))
          (import "env" "memory" (memory 1))
          (import "env" "table" (table 1 funcref))
          (import "env" "global" (global i32))
          (func (export "run")))
        """)

      assert {:error, %LinkError{problems: problems, blame: :caller} = error} =
               Executor.call(module, "run", [], imports: %{"env" => %{"two" => fn _ -> nil end}})

      missing = problems |> Enum.map(&{&1.module, &1.name}) |> Enum.sort()

      assert missing == [
               {"env", "global"},
               {"env", "memory"},
               {"env", "one"},
               {"env", "table"},
               {"other", "three"}
             ]

      message = Exception.message(error)
      assert message =~ "5 import(s) cannot be satisfied"
      assert message =~ ~s|"env" "one"|
      assert message =~ ~s|"env" "memory", memory 1: missing; given for this module: "two"|
    end

    test "that are missing are told beside what was given in their place" do
      for {imports, words} <- [
            {%{}, "missing"},
            {%{env: %{f: fn _, _ -> 1 end}},
             "missing; given as the atom :env, where the name is a string"},
            {%{"env" => %{"g" => fn _, _ -> 1 end}}, ~s|missing; given for this module: "g"|},
            {%{"env" => %{}}, "missing; given for this module: none"}
          ] do
        assert {:error, %LinkError{problems: [%{reason: ^words}]}} =
                 Executor.call(calling(), "run", [1], imports: imports)
      end
    end

    test "that are missing by the thousand do not make an endless message" do
      imports = for n <- 1..1_000, do: ~s|(import "env" "f#{n}" (func))|
      module = load!("(module #{imports} (func (export \"run\")))")
      assert {:error, %LinkError{problems: problems} = error} = Executor.call(module, "run")
      assert length(problems) == 1_000
      assert Exception.message(error) =~ "and 980 more"
    end

    test "of another arity are told how many arguments are wanted" do
      for function <- [fn -> 1 end, fn _ -> 1 end, fn _, _, _ -> 1 end] do
        assert {:error, %LinkError{problems: [problem]}} =
                 Executor.call(calling(), "run", [1], imports: f(function))

        {:arity, arity} = Function.info(function, :arity)
        assert problem.reason =~ "a function of 2 arguments"
        assert problem.reason =~ "one of #{arity} was given"
        assert problem.wanted =~ "i32"
      end
    end

    test "that are no functions are told so" do
      for other <- [nil, 1, {Kernel, :+}, "f"] do
        assert {:error, %LinkError{problems: [%{reason: reason}]}} =
                 Executor.call(calling(), "run", [1], imports: f(other))

        assert reason =~ "a function is needed, got: #{inspect(other)}"
      end

      assert {:error, %LinkError{problems: [%{reason: reason}]}} =
               Executor.call(calling(), "run", [1], imports: %{"env" => [f: nil]})

      assert reason =~ "not a map"
    end

    test "may be captured functions" do
      assert Executor.call(calling(), "run", [1], imports: f(&__MODULE__.seventh/2)) == {:ok, 7}
    end

    test "with two types under one name are one function each" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func (param i32)))
          (import "env" "f" (func (param i64 i64)))
          (func (export "run")))
        """)

      assert {:error, %LinkError{problems: problems}} =
               Executor.call(module, "run", [], imports: f(fn _, _ -> 1 end))

      assert [%{name: "f", wanted: "(func (param i64 i64))"}] = problems
    end
  end

  def seventh(_ctx, _n), do: 7
end
