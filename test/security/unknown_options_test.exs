defmodule Cybernetic.WASM.Security.UnknownOptionsTest do
  # Unknown keys were ignored elsewhere, so that a misspelt limit was no limit; wrong argument counts went unnoticed; any
  # term was taken for true.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{CallError, Config, Executor, HostError, Runtime, Sandbox}

  @misspelt [:max_fuel, :memory, :max_mem, :time_out, :timeouts, :import, :Fuel, :sandboxes]

  test "a misspelt limit is refused wherever options are taken" do
    for key <- @misspelt do
      for take <- [
            &Executor.call(compute(), "process", [1], &1),
            &Executor.run(compute(), "process", [1], &1),
            &Runtime.load_module({:bytes, "(module)"}, &1),
            &Sandbox.new/1,
            &Config.new!/1
          ] do
        error = assert_raise ArgumentError, fn -> take.([{key, 1}]) end
        assert error.message =~ "unknown"
        assert error.message =~ inspect(key)
        assert error.message =~ "known are: "
      end
    end
  end

  test "a load and a reload name all the options that they take" do
    for {take, keys} <- [
          {&Runtime.load_module({:bytes, "(module)"}, &1),
           [:name, :version, :current, :by, :why, :sandbox, :manifest, :digest, :http]},
          {&Runtime.reload("x", {:bytes, "(module)"}, &1),
           [
             :version,
             :current,
             :by,
             :why,
             :sandbox,
             :allow,
             :smoke,
             :smoke_timeout,
             :keep,
             :drain
           ] ++
             [:manifest, :digest, :metering]}
        ] do
      error = assert_raise ArgumentError, fn -> take.(colour: 1) end
      for key <- keys, do: assert(error.message =~ inspect(key))
    end

    for {key, words} <- [
          pins: "a load's own pin is :digest",
          smoke: "reload/3",
          fuel: "option :sandbox"
        ] do
      error = assert_raise ArgumentError, fn -> Runtime.load_module("x", [{key, 1}]) end
      assert error.message =~ words
    end

    for {misspelt, meant} <- [sandbx: :sandbox, curent: :current, verson: :version] do
      error = assert_raise ArgumentError, fn -> Runtime.load_module("x", [{misspelt, 1}]) end
      assert error.message =~ "did you mean #{inspect(meant)}?"
    end
  end

  test "only true is true" do
    for value <- [1, "true", :yes, nil, [], "false"] do
      assert_raise ArgumentError, ~r/true or false/, fn ->
        Executor.call(compute(), "process", [1], deterministic: value)
      end

      assert_raise ArgumentError, ~r/booleans/, fn ->
        Runtime.load_module({:bytes, "(module)"}, features: [simd: value])
      end
    end
  end

  test "a wrong number of arguments or results is told, never filled up or cut off" do
    assert {:error, %CallError{reason: :arity}} = Executor.call(compute(), "add", [1])
    assert {:error, %CallError{reason: :arity}} = Executor.call(compute(), "add", [1, 2, 3])

    module =
      load!(~S"""
      (module (import "env" "f" (func $f (param i32) (result i32 i32)))
        (func (export "run") (result i32 i32) (call $f (i32.const 1))))
      """)

    for results <- [[1], [1, 2, 3]] do
      assert {:error, %HostError{reason: %CallError{reason: :arity}}} =
               Executor.call(module, "run", [], imports: f(fn _, _ -> results end))
    end
  end

  test "a host function's result is taken only as the type that it must be" do
    for value <- [true, false, nil, 1.0, "1", [1], {:ok, 1}] do
      assert {:error, %HostError{reason: %CallError{reason: :type}}} =
               Executor.call(calling(), "run", [1], imports: f(fn _, _ -> value end))
    end
  end
end
