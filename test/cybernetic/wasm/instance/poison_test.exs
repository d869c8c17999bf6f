defmodule Cybernetic.WASM.Instance.PoisonTest do
  # What a call leaves behind that did not end well, and how it is got rid of.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Turns}

  alias Cybernetic.WASM.{Executor, Host, Instance, Memory}
  alias Cybernetic.WASM.{CallError, CancelledError, HostError, LimitError, LinkError, TrapError}

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
      pid = spawn(fn -> Instance.call(spinning, "spin", [], forever()) end)
      until_running(spinning)
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
      call = Executor.async(instance, "spin", [], forever())
      until_running(instance)
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

    test "is not one that was refused" do
      instance = live()
      assert reason(while_held(instance, fn -> next(instance) end)) == :busy
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
      asking(~S"""
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
      (func (export "spin") (call $count) (loop (br 0)))
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
      module = load!(~S|(module (memory (export "memory") 1) (func (export "grow")
          (if (i32.eq (memory.grow (i32.const 5)) (i32.const -1)) (then unreachable))))|)

      instance = Instance.new!(module, max_memory: 131_072, on_trap: :keep)
      assert {:error, %LimitError{limit: :memory}} = Instance.call(instance, "grow")
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
      asking(~S"""
      (memory (export "memory") 1)
      (data (i32.const 0) "fresh")
      (table $t (export "t") 1 externref)
      (global $n (export "n") (mut i32) (i32.const 10))
      (func $start (global.set $n (call $f (global.get $n))))
      (start $start)
      (func (export "push") (param externref)
        (drop (table.grow $t (local.get 0) (i32.const 1))))
      (func (export "fail") unreachable)
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

      while_held(instance, fn ->
        assert reason(Instance.reset(instance)) == :busy
        assert reason(Instance.reset(instance, wait: 20)) == :busy
      end)
    end

    test "waits for its turn with wait:, also for one that ends badly" do
      instance = live()
      next(instance)
      reset_in_line = fn -> in_line(fn -> Instance.reset(instance, wait: never()) end) end
      assert instance |> while_held(reset_in_line) |> await() == :ok
      assert next(instance) == {:ok, 1}

      holder = hold(instance)
      resetting = reset_in_line.()
      kill(holder)
      assert await(resetting) == :ok
      assert next(instance) == {:ok, 1}
    end

    # An instance whose reset stays in its start function's host function until it is told to go on.
    defp slow_to_reset do
      test = self()
      first = :counters.new(1, [])

      imports =
        f(fn _ctx, n ->
          :counters.add(first, 1, 1)

          if :counters.get(first, 1) == 2 do
            send(test, :resetting)
            receive(do: (:go_on -> n))
          end

          n
        end)

      Instance.new!(stateful(), imports: imports)
    end

    test "has the instance as a call has it, and others wait for it" do
      instance = slow_to_reset()
      :ok = Instance.set_global(instance, "n", 99)
      resetting = Task.async(fn -> Instance.reset(instance) end)
      assert_receive :resetting
      assert reason(Instance.reset(instance)) == :busy
      assert reason(Instance.close(instance)) == :busy
      assert reason(Instance.get_global(instance, "n")) == :busy

      waiting = in_line(fn -> Instance.call(instance, "push", [nil], wait: never()) end)

      send(resetting.pid, :go_on)
      assert await(resetting) == :ok
      assert await(waiting) == {:ok, nil}
      assert Instance.get_global(instance, "n") == {:ok, 10}
      assert Instance.table_size(instance, "t") == {:ok, 2}
    end

    test "whose process is killed leaves the instance poisoned, and can be tried again" do
      instance = slow_to_reset()
      resetting = Task.async(fn -> Instance.reset(instance) end)
      assert_receive :resetting
      waiting = in_line(fn -> Instance.get_global(instance, "n") end)
      kill(resetting)
      assert reason(await(waiting)) in [:busy, :poisoned]
      eventually(fn -> Instance.poisoned?(instance) end)
      assert Instance.reset(instance) == :ok
      assert Instance.get_global(instance, "n") == {:ok, 10}
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
end
