defmodule Cybernetic.WASM.Security.ExceptionsTest do
  # What an exception costs must not depend on the environment that the VM was started in.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.FreshNode

  @guest ~S"""
  (module
    (tag $t)
    (func $throw (throw $t))
    (func $throws
      (loop $again
        (block $caught (try_table (catch $t $caught) (call $throw)))
        (br $again)))
    (func $down (export "down") (param $depth i32)
      (if (local.get $depth)
        (then
          (call $down (i32.sub (local.get $depth) (i32.const 1)))
          (local.set $depth (i32.const 0)))
        (else (call $throws)))))
  """

  test "thrown and caught deep in the stack, they cost what they cost at its top, and the deadline strikes" do
    code = """
    {:ok, module} = Runtime.load_module({:bytes, #{inspect(@guest)}})

    # The least of some: what else the machine does takes its time from the others.
    cost = fn depth ->
      Enum.min(for _ <- 1..5 do
        {:error, %LimitError{limit: :fuel} = error} = Executor.call(module, "down", [depth], fuel: 300_000)
        error.usage.slice_time
      end)
    end

    {:error, %LimitError{limit: :timeout}} =
      Executor.call(module, "down", [8_000], timeout: 50, fuel: 100_000_000_000_000)

    cost.(8_000) / cost.(0)
    """

    assert FreshNode.eval([], code, env: [{"RUST_BACKTRACE", "1"}]) < 20
  end
end
