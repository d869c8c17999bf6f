defmodule Cybernetic.WASM.Security.StartFunctionsTest do
  # A start function that looped hung the instantiation for ever: no limit held before the first call.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, Host, HostError, LimitError, Run, Runtime, TrapError}

  @looping ~S|(module (func $s (loop (br 0))) (start $s) (func (export "run")))|

  test "a loop ends by fuel, by its deadline and by default" do
    module = load!(@looping)

    assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} =
             Executor.call(module, "run", [], fuel: 1_000)

    assert {:error, %LimitError{limit: :timeout, allowed: 30}} =
             Executor.call(module, "run", [], timeout: 30, fuel: 100_000_000_000)

    assert {:error, %LimitError{}} = Executor.call(module, "run", [], fuel: 50_000_000)

    for scheduling <- [:inline, :dirty, :adaptive] do
      assert {:error, %LimitError{limit: :timeout}} =
               Executor.call(module, "run", [],
                 timeout: 20,
                 fuel: 100_000_000_000,
                 scheduling: scheduling
               )
    end

    assert {:error, %LimitError{limit: :timeout}} =
             Executor.call(module, "run", [], timeout: 30, metering: :epoch)
  end

  test "loading does not run it" do
    assert {:ok, _} = Runtime.load_module({:bytes, @looping <> " "})
  end

  test "its recursion, its memory and its traps are under the limits" do
    recursing = load!(~S|(module (func $s (call $s) (nop)) (start $s) (func (export "run")))|)
    assert {:error, %LimitError{limit: :stack}} = Executor.call(recursing, "run")

    growing =
      load!(~S"""
      (module (memory 1)
        (func $s (if (i32.eq (memory.grow (i32.const 10000)) (i32.const -1)) (then unreachable)))
        (start $s) (func (export "run")))
      """)

    assert {:error, %LimitError{limit: :memory}} =
             Executor.call(growing, "run", [], max_memory: 1_000_000)

    trapping = load!(~S|(module (func $s unreachable) (start $s) (func (export "run")))|)
    assert {:error, %TrapError{code: :unreachable}} = Executor.call(trapping, "run")
  end

  test "its fuel is the call's fuel" do
    source = fn turns ->
      load!("""
      (module
        (func $s (local i32) (local.set 0 (i32.const #{turns}))
          (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (start $s) (func (export "run")))
      """)
    end

    assert {:ok, %Run{usage: %{fuel: little}}} = Executor.run(source.(10), "run")
    assert {:ok, %Run{usage: %{fuel: much}}} = Executor.run(source.(100_000), "run")
    assert much > little + 100_000
  end

  test "it may call host functions, which fail as any other" do
    module =
      asking(~S"""
      (memory (export "memory") 1)
      (global $g (mut i32) (i32.const 0))
      (func $s (global.set $g (call $f (i32.const 5))))
      (start $s)
      (func (export "run") (result i32) (global.get $g))
      """)

    imports = f(fn ctx, n -> Host.write(ctx, 0, "x") && Host.emit(ctx, "started") && n * 2 end)

    assert {:ok, %Run{result: 10, output: "started"}} =
             Executor.run(module, "run", [], imports: imports)

    assert {:error, %HostError{reason: %RuntimeError{message: "at start"}}} =
             Executor.call(module, "run", [], imports: f(fn _, _ -> raise "at start" end))
  end

  test "active segments that do not fit are told as a trap" do
    module =
      load!(~S|(module (memory 1) (data (i32.const 65535) "too long") (func (export "run")))|)

    assert {:error, %TrapError{code: :memory_out_of_bounds}} = Executor.call(module, "run")
  end

  test "the caller's mailbox is clean after all that" do
    Executor.call(load!(@looping), "run", [], timeout: 10)
    assert mailbox() == []
  end
end
