defmodule Cybernetic.WASM.Asyncs do
  @moduledoc false
  # Asynchronous calls that do not end by themselves.

  import Cybernetic.WASM.{Guests, Plenty}
  import Cybernetic.WASM.Turns, only: [counter: 0]

  alias Cybernetic.WASM.{Executor, Host, Instance}

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

  @doc "One that calls its guest as often as its argument says, each call in the one before, and `bottom` in the last."
  def descending(bottom) do
    test = self()

    fn
      ctx, 0 ->
        send(test, :inside)
        bottom.(ctx)

      ctx, n ->
        try do
          Host.call(ctx, "run", [n - 1])
        after
          send(test, {:cleaned_up, n})
        end
    end
  end

  @doc "A live instance, the asynchronous call that has it, and the process that is to be sent `:go` for that to end."
  def held_instance do
    instance = Instance.new!(counter(), forever(imports: f(held())))
    holding = Executor.async(instance, "run", [0])
    receive do: ({:inside, runner} -> {instance, holding, runner})
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
