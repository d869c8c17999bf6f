defmodule Cybernetic.WASM.Eventually do
  @moduledoc false
  # For what happens soon but not at once: other threads clean up. The bound is only there so that a test ends.

  import ExUnit.Assertions

  alias Cybernetic.WASM.{Host, Runtime}

  @doc "Waits until `condition` gives something true, and gives that."
  def eventually(condition, milliseconds \\ 600_000) do
    wait(condition, System.monotonic_time(:millisecond) + milliseconds)
  end

  defp wait(condition, until) do
    cond do
      found = condition.() -> found
      System.monotonic_time(:millisecond) > until -> flunk("it did not come about")
      true -> Process.sleep(5) && wait(condition, until)
    end
  end

  @doc "Waits until `count` guests live on this node."
  def until_live(count), do: eventually(fn -> Runtime.stats().live_instances == count end)

  @doc """
  What the node uses once the guests of earlier tests are gone: they are unwound on a thread of their own, a little later.
  """
  def quiet do
    until_live(0)
    eventually(fn -> Runtime.stats().total_memory == 0 end)
    Runtime.stats()
  end

  @doc "For `setup`: begins the test on a node where no guest lives, so that it may count its own."
  def quiet_node(_context \\ %{}) do
    if Runtime.stats().live_instances > 0, do: forget()
    eventually(fn -> Runtime.stats().live_instances == 0 or (Process.sleep(500) && forget()) end)
    quiet() && :ok
  end

  # What a setup gave to tests that are over stays in the formatter, which nothing else makes collect its garbage. A collection
  # of every process is dear, so there are pauses between them.
  defp forget do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    false
  end

  @doc """
  Calls `function` with ever longer deadlines until one was long enough: until it gives something true. How long a guest takes
  to where the deadline is to meet it is the machine's affair.
  """
  def given_time(function, milliseconds \\ 50) do
    cond do
      found = function.(milliseconds) -> found
      milliseconds > 20_000 -> flunk("it did not come so far in #{milliseconds} ms")
      true -> given_time(function, 2 * milliseconds)
    end
  end

  @doc "In a host function: waits until its call has no time left."
  def oversleep(ctx) do
    milliseconds = Host.time_left(ctx)
    # Of less than a millisecond none is left.
    Process.sleep(milliseconds + 1)
    if milliseconds > 0, do: oversleep(ctx), else: :overslept
  end

  @doc """
  Waits until this node does nothing: until it takes less than a third of the processor time that it takes with one busy
  process, whatever else the machine does.
  """
  def until_idle do
    eventually(fn ->
      3 * processor_time(fn -> Process.sleep(200) end) < processor_time(fn -> compute(200) end)
    end)
  end

  defp processor_time(function) do
    {before, _} = :erlang.statistics(:runtime)
    function.()
    {later, _} = :erlang.statistics(:runtime)
    later - before
  end

  defp compute(milliseconds) do
    until = System.monotonic_time(:millisecond) + milliseconds

    fn -> System.monotonic_time(:millisecond) end
    |> Stream.repeatedly()
    |> Enum.find(&(&1 > until))
  end

  @doc "What `function` gives once that does not move any more: not while a hundred timers of a millisecond fire."
  def settled(function) do
    value = function.()
    for _ <- 1..100, do: Process.sleep(1)
    if function.() == value, do: value, else: settled(function)
  end

  @doc "Waits until a process has ended."
  def dead(pid) do
    monitor = Process.monitor(pid)
    receive(do: ({:DOWN, ^monitor, :process, _, _} -> :ok))
  end

  @doc "What a task gives, or each of several, however long that takes: only the test's own time-out ends the wait."
  def await(%Task{} = task), do: Task.await(task, :infinity)
  def await(tasks) when is_list(tasks), do: Task.await_many(tasks, :infinity)

  @doc "What `function` gives in another process, whose heap goes with it."
  def elsewhere(function), do: function |> Task.async() |> await()

  @doc "The messages in the caller's own mailbox."
  def mailbox do
    # Looking does not fetch what has come since the last `receive`.
    receive do: ({__MODULE__, :nothing} -> :ok), after: (0 -> :ok)
    self() |> Process.info(:messages) |> elem(1)
  end

  @doc "Empties the caller's own mailbox."
  def flush do
    receive do
      _any -> flush()
    after
      0 -> :ok
    end
  end
end
