defmodule Cybernetic.WASM.Asyncs do
  @moduledoc false
  # Asynchronous calls that do not end by themselves.

  import Cybernetic.WASM.{Guests, Plenty}

  alias Cybernetic.WASM.{Executor, Host}

  @doc "An endless guest."
  def spin, do: Executor.async(compute(), "spin", [], forever())

  @doc "A call of `function`, as `env.f`."
  def with_f(function, opts \\ []),
    do: Executor.async(calling(), "run", [1], Keyword.merge([imports: f(function)], opts))

  @doc "A host function that tells the caller where it is, `{:inside, pid}`, and returns when that process is sent `:go`."
  def held do
    test = self()
    fn _ctx, n -> send(test, {:inside, self()}) && receive(do: (:go -> n)) end
  end

  @doc "One that never returns, and does `also` before."
  def stuck(also \\ fn -> :ok end) do
    test = self()

    fn _ctx, _n ->
      also.()
      send(test, {:inside, self()})
      Process.sleep(:infinity)
    end
  end

  @doc "An asynchronous one that tells the caller of its task, `{:task, pid}`, which never ends."
  def stuck_task do
    test = self()

    fn _ctx, _n ->
      task = Task.async(fn -> Process.sleep(:infinity) end)
      send(test, {:task, task.pid})
      task
    end
  end

  @doc "A host function that calls its endless guest, and tells the caller when it does, and what of it runs after that."
  def spinning do
    test = self()

    fn ctx, n ->
      try do
        send(test, :inside)
        Host.call(ctx, "spin")
        send(test, :went_on)
        n
      after
        send(test, :cleaned_up)
      end
    end
  end

  @doc "One that catches whatever should end it."
  def catching(ctx, n) do
    try do
      Host.call(ctx, "spin")
    catch
      _, _ -> :ignored
    end

    catching(ctx, n)
  end
end
