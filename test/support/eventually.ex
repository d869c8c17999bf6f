defmodule Cybernetic.WASM.Eventually do
  @moduledoc false
  # For what happens soon but not at once: other threads clean up. The bound is only there so that a test ends.

  import ExUnit.Assertions

  alias Cybernetic.WASM.Runtime

  @doc "Waits until `condition` gives something true, and gives that."
  def eventually(condition, milliseconds \\ 60_000) do
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
  def quiet_node(_context), do: quiet() && :ok

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
