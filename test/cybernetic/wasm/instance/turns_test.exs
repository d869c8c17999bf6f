defmodule Cybernetic.WASM.Instance.TurnsTest do
  # Many callers of one instance.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Turns}

  alias Cybernetic.WASM.{CallError, HostError, Instance, LimitError, Memory, TrapError}

  describe "a call while another runs" do
    test "is told at once that the instance is busy" do
      instance = live()
      refused = while_held(instance, fn -> [next(instance), next(instance, wait: 0)] end)
      assert Enum.map(refused, &reason/1) == [:busy, :busy]
      assert next(instance) == {:ok, 1}
    end

    test "waits for its turn with wait:" do
      instance = live()
      waiting = while_held(instance, fn -> next_in_line(instance) end)
      assert await(waiting) == {:ok, 1}
    end

    test "waits as long as new was told, if it does not say itself" do
      instance = live(wait: never())

      waiting =
        while_held(instance, fn ->
          waiting = next_in_line(instance, [])
          assert reason(next(instance, wait: 0)) == :busy
          waiting
        end)

      assert await(waiting) == {:ok, 1}
    end

    test "is served in the order of coming", do: assert_served_in_order(live())

    test "is not overtaken by one that comes when the turn is being handed on" do
      instance = live()

      waiting =
        while_held(instance, fn ->
          waiting = next_in_line(instance)
          :erlang.suspend_process(waiting.pid)
          waiting
        end)

      # It has the turn from now on, and does not know it yet.
      assert reason(next(instance)) == :busy
      :erlang.resume_process(waiting.pid)
      assert await(waiting) == {:ok, 1}
    end

    test "gives up as busy after its wait, and leaves nothing in the mailbox" do
      instance = live()

      last =
        while_held(instance, fn ->
          for _ <- 1..20, do: assert(reason(next(instance, wait: 3)) == :busy)
          assert mailbox() == []
          next_in_line(instance)
        end)

      assert await(last) == {:ok, 1}
      assert mailbox() == []
    end

    test "that has given up has no turn any more, and does not hold up the next" do
      # What is left of it is let go on a thread of its own, which has other things to do.
      large = load!(~S|(module (memory 1400)
          (func (export "fill") (memory.fill (i32.const 0) (i32.const 1) (i32.const 91000000))))|)

      for _ <- 1..5 do
        instance = live()
        big = Instance.new!(large)
        Instance.call!(big, "fill")
        holder = hold(instance)
        :ok = Instance.close(big)
        assert reason(next(instance, wait: 1)) == :busy
        assert release(holder) == {:ok, 7}
        assert next(instance) == {:ok, 1}
      end
    end

    test "waits within its deadline" do
      instance = live()

      assert {:error, %LimitError{limit: :timeout, allowed: 20}} =
               while_held(instance, fn -> next(instance, wait: never(), timeout: 20) end)

      assert next(instance, wait: never()) == {:ok, 1}
    end

    test "that is killed in line does not lose the turn for the others",
      do: assert_served_past_one_killed_in_line(live())

    test "that is killed when its turn has come, before it knows, does not lose it either" do
      instance = live()
      assert_served_past_one_killed_unknowing(instance)
      refute Instance.poisoned?(instance)
    end

    test "learns that the one before it was killed: the guest is poisoned for all in line" do
      instance = live()
      holder = hold(instance)
      waiting = for _ <- 1..5, do: next_in_line(instance)
      kill(holder)
      for task <- waiting, do: assert(reason(await(task)) == :poisoned)
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
      result = await(waiting)
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

      until_busy(instance)
      waiting = next_in_line(instance)
      send(holder.pid, :go_on)
      assert {:error, %HostError{}} = await(holder)
      assert reason(await(waiting)) == :poisoned
    end

    test "and 999 others, each ten times, all have their turns" do
      instance = live()

      # Some look at the guest besides, which is refused at worst.
      look = fn n -> if rem(n, 10) == 0, do: Memory.read(instance, 0, 8) end
      assert_all_have_turns(instance, 1_000, look)
      assert Instance.get_global(instance, "n") == {:ok, 10_000}
    end

    test "and hundreds that are killed at any moment: whoever is left has a turn or knows why not" do
      instance = live()
      opts = [wait: never(), timeout: never()]
      outcomes = survivors(fn -> for _ <- 1..20, do: reason(next(instance, opts)) end)
      # A call that was killed in the middle may have poisoned the guest; nobody is left hanging.
      assert Enum.all?(List.flatten(outcomes), &(&1 in [:ok, :poisoned]))
      if Instance.poisoned?(instance), do: :ok = Instance.reset(instance)
      assert {:ok, _} = next(instance)
    end
  end

  test "whatever many processes do to one instance at once, each is told what became of it" do
    instance = live(snapshottable: true, fuel: 1_000_000)

    operations = [
      fn -> next(instance, wait: never(), timeout: never()) end,
      fn -> next(instance) end,
      fn -> next(instance, wait: 1) end,
      fn -> Instance.call(instance, "run", [3]) end,
      fn -> Instance.call(instance, "fail") end,
      fn -> Instance.call(instance, "spin", [], wait: 5) end,
      fn -> Instance.call(instance, "run", [1], imports: f(fn _, _ -> raise "no" end)) end,
      fn -> Instance.reset(instance) end,
      fn -> Instance.reset(instance, wait: never(), timeout: never()) end,
      fn -> Memory.write(instance, 0, :rand.bytes(60_000)) end,
      fn -> Memory.read(instance, 0, 65_536) end,
      fn -> Memory.grow(instance, 1) end,
      fn -> Instance.set_global(instance, "n", 5) end,
      fn -> Instance.get_global(instance, "n") end,
      fn -> Instance.snapshot(instance) end,
      fn -> Instance.fork(instance) end
    ]

    workers =
      for _ <- 1..40 do
        Task.async(fn -> for _ <- 1..50, do: Enum.random(operations).() end)
      end

    # Some go in the middle of it.
    {victims, workers} = Enum.split(workers, 10)

    for {task, index} <- Enum.with_index(victims) do
      Process.unlink(task.pid)
      Process.send_after(self(), {:kill, task.pid}, index)
    end

    for _ <- victims do
      receive do: ({:kill, pid} -> Process.exit(pid, :kill))
    end

    for outcome <- workers |> await() |> List.flatten() do
      case outcome do
        :ok -> :ok
        {:ok, _} -> :ok
        {:error, %CallError{reason: reason}} -> assert reason in [:busy, :poisoned, :cannot_grow]
        {:error, %TrapError{code: :unreachable}} -> :ok
        {:error, %HostError{reason: %RuntimeError{message: "no"}}} -> :ok
        {:error, %LimitError{limit: limit}} -> assert limit in [:fuel, :memory, :live_instances]
      end
    end

    assert Instance.reset(instance, wait: never()) == :ok
    assert next(instance, wait: never()) == {:ok, 1}
  end
end
