defmodule Cybernetic.WASM.Security.HostFunctionsTest do
  # A callback's exception was replaced by an opaque text elsewhere, and a slow callback blocked its instance and the
  # server that ran it past every deadline.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, HostError, LimitError, Runtime}

  defmodule Refused do
    defexception [:account, message: "refused"]
  end

  defp refuse(account), do: raise(Refused, account: account)

  test "an exception keeps its struct, its fields and its stack" do
    imports = f(fn _ctx, n -> refuse(n) end)

    assert {:error, %HostError{kind: :error, reason: %Refused{account: 17}} = error} =
             Executor.call(calling(), "run", [17], imports: imports)

    assert [{__MODULE__, :refuse, 1, _} | _] = error.stacktrace

    stack =
      try do
        Executor.call!(calling(), "run", [17], imports: imports)
      rescue
        Refused -> __STACKTRACE__
      end

    assert [{__MODULE__, :refuse, 1, _} | _] = stack
  end

  test "a callback that never returns holds up its own caller and nobody else" do
    quiet()
    module = calling()
    test = self()
    stuck = fn _ctx, _n -> send(test, :stuck) && Process.sleep(:infinity) end

    callers =
      for _ <- 1..(4 * System.schedulers_online()) do
        spawn(fn -> Executor.call(module, "run", [1], imports: f(stuck)) end)
      end

    for _ <- callers, do: assert_receive(:stuck, 5_000)
    assert Executor.call(module, "run", [1], imports: f(fn _, n -> n end)) == {:ok, 1}

    assert {:error, %LimitError{limit: :timeout}} =
             Executor.call(module, "spin", [], timeout: 20, imports: f(fn _, n -> n end))

    assert Runtime.stats().live_instances >= length(callers)
    Enum.each(callers, &Process.exit(&1, :kill))
    quiet()
  end

  test "a slow callback's call fails once the deadline is past" do
    slow = fn _ctx, n -> Process.sleep(50) && n end

    assert {:error, %LimitError{limit: :timeout, allowed: 10}} =
             Executor.call(calling(), "run", [1], imports: f(slow), timeout: 10)
  end
end
