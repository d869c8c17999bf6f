defmodule Cybernetic.WASM.Turns do
  @moduledoc false
  # Processes that have an instance to themselves, or stand in line for it.

  import Cybernetic.WASM.{Eventually, Guests, Plenty}
  import ExUnit.Assertions

  alias Cybernetic.WASM.{CallError, Execution, Instance, Memory, Native}

  @doc """
  Counts its calls of `next`, which the global `n` shows too. `run` gives what `env.f` makes of its argument, `spin` does
  not end, `fail` traps.
  """
  def counter do
    load!(~S"""
    (module
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1)
      (global $n (export "n") (mut i32) (i32.const 0))
      (func (export "next") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
      (func (export "spin") (loop (br 0)))
      (func (export "fail") unreachable))
    """)
  end

  @doc "An instance of it, whose `env.f` gives its argument back. Its calls may stand in line for as long as a test takes."
  def live(opts \\ []) do
    # There is no fuel to limit where metering is by epochs.
    limits = if opts[:metering] == :epoch, do: [timeout: never()], else: forever()
    Instance.new!(counter(), Keyword.merge([imports: echo()] ++ limits, opts))
  end

  def echo, do: f(fn _ctx, n -> n end)

  def next(target, opts \\ []), do: Instance.call(target, "next", [], opts)

  @doc "Why a call was refused, if it was."
  def reason({:error, %CallError{reason: reason}}), do: reason
  def reason(:ok), do: :ok
  def reason({:ok, _}), do: :ok

  @doc "Everything that needs the guest, and would change or show it."
  def uses(instance) do
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

  @doc "A task whose call is inside its host function, with the instance, until `release/1`."
  def hold(target, opts \\ []) do
    {test, inside} = {self(), make_ref()}

    imports =
      f(fn _ctx, n ->
        send(test, inside)
        receive(do: (:go_on -> n))
      end)

    %Task{ref: ref} =
      task = Task.async(fn -> Instance.call(target, "run", [7], [imports: imports] ++ opts) end)

    receive do
      ^inside -> task
      {^ref, refused} -> flunk("the instance is not to be had: #{inspect(refused)}")
    end
  end

  def release(%Task{pid: pid} = task) do
    send(pid, :go_on)
    await(task)
  end

  @doc "What `function` gives while another process has the instance."
  def while_held(target, function) do
    holder = hold(target)
    result = function.()
    assert release(holder) == {:ok, 7}
    result
  end

  @doc """
  Waits until a call has the instance. To look is not to ask for it: who asks may have it just when the call wants it, which
  is refused then.
  """
  def until_busy(%Instance{ref: ref}),
    do: eventually(fn -> Native.instance_state(ref) == :busy end)

  @doc "The same, until its guest runs: who ends the call then leaves the instance poisoned. The guest runs for ever."
  def until_running(instance) do
    until_busy(instance)
    slices = Instance.usage(instance).slices
    eventually(fn -> Instance.usage(instance).slices > slices end)
  end

  @doc "A task that runs `function`, once it stands in line."
  def in_line(function) do
    task = Task.async(function)
    eventually(fn -> in_line?(task.pid) end)
    task
  end

  @doc "A task that waits for its turn to call `next`."
  def next_in_line(target, opts \\ [wait: never()]),
    do: in_line(fn -> next(target, opts) end)

  @doc """
  Whether a process stands in line: in the driver, or in the call of a server that has its message by then. One that has ended
  waits for nothing any more.
  """
  def in_line?(pid) do
    case Process.info(pid, [:status, :current_function]) do
      nil -> true
      [status: :waiting, current_function: {module, _, _}] -> module in [Execution, :gen]
      _running -> false
    end
  end

  @doc "Those who stand in line have their turns in the order of coming."
  def assert_served_in_order(target) do
    waiting = while_held(target, fn -> for _ <- 1..20, do: next_in_line(target) end)
    assert await(waiting) == for(n <- 1..20, do: {:ok, n})
  end

  @doc "One who is killed in line does not lose the turn for the others."
  def assert_served_past_one_killed_in_line(target) do
    [one, three] =
      while_held(target, fn ->
        [one, two, three] = for _ <- 1..3, do: next_in_line(target)
        kill(two)
        [one, three]
      end)

    assert await([one, three]) == [ok: 1, ok: 2]
  end

  @doc "Nor one who is killed when its turn has come, before it knows."
  def assert_served_past_one_killed_unknowing(target) do
    [one, two] =
      while_held(target, fn ->
        [one, _two] = in_line = for _ <- 1..2, do: next_in_line(target)
        :erlang.suspend_process(one.pid)
        in_line
      end)

    kill(one)
    assert await(two) == {:ok, 1}
  end

  @doc "So many processes have ten turns each, whoever of them looks at the guest's memory besides, by `look`."
  def assert_all_have_turns(target, processes, look) do
    tasks =
      for n <- 1..processes do
        Task.async(fn ->
          for _ <- 1..10 do
            {:ok, turn} = next(target, wait: never(), timeout: never())
            look.(n)
            turn
          end
        end)
      end

    turns = tasks |> await() |> List.flatten()
    assert Enum.sort(turns) == Enum.to_list(1..(10 * processes))
  end

  @doc "What `function` gives in half of 200 processes, the others of which are killed at any moment."
  def survivors(function) do
    tasks = for _ <- 1..200, do: Task.async(function)
    {victims, survivors} = Enum.split(Enum.shuffle(tasks), 100)

    for task <- victims do
      Process.unlink(task.pid)
      Process.exit(task.pid, :kill)
    end

    await(survivors)
  end

  @doc "Kills the task's process, and waits until it is gone."
  def kill(%Task{pid: pid, ref: ref}) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
    receive(do: ({:DOWN, ^ref, :process, _, :killed} -> :ok))
  end
end
