defmodule Cybernetic.WASM.Security.FloatsTest do
  # Elixir's floats hold neither NaN nor infinity: a bridge that made such a float aborted the whole VM, at the first
  # guest that divided by zero. Results, arguments of host functions, their results and re-entrant calls all pass here.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Host}

  setup_all do
    module =
      load!(~S"""
      (module
        (import "env" "f32" (func $h32 (param f32) (result f32)))
        (import "env" "f64" (func $h64 (param f64) (result f64)))
        (func (export "f32") (param i32) (result f32) (f32.reinterpret_i32 (local.get 0)))
        (func (export "f64") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
        (func (export "zero by zero") (result f64) (f64.div (f64.const 0) (f64.const 0)))
        (func (export "one by zero") (result f32 f64)
          (f32.div (f32.const 1) (f32.const 0)) (f64.div (f64.const -1) (f64.const 0)))
        (func (export "host f32") (param i32) (result i32)
          (i32.reinterpret_f32 (call $h32 (f32.reinterpret_i32 (local.get 0)))))
        (func (export "host f64") (param i64) (result i64)
          (i64.reinterpret_f64 (call $h64 (f64.reinterpret_i64 (local.get 0))))))
      """)

    {:ok, module: module}
  end

  @odd32 [
    0x7FC0_0000,
    0xFFC0_0000,
    0x7F80_0000,
    0xFF80_0000,
    0x7F80_0001,
    0xFFFF_FFFF,
    0x7FA0_0000
  ]
  @odd64 [
    0x7FF8_0000_0000_0000,
    0xFFF8_0000_0000_0000,
    0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000,
    0x7FF0_0000_0000_0001,
    0xFFFF_FFFF_FFFF_FFFF
  ]

  defp known?(value) do
    value in [:nan, :infinity, :neg_infinity] or match?({:f32_bits, _}, value) or
      match?({:f64_bits, _}, value)
  end

  defp imports(function), do: [imports: %{"env" => %{"f32" => function, "f64" => function}}]

  test "as results", %{module: module} do
    opts = imports(fn _ctx, value -> value end)

    for {name, odd} <- [{"f32", @odd32}, {"f64", @odd64}], bits <- odd do
      assert {:ok, value} = Executor.call(module, name, [bits], opts)
      assert known?(value)
    end

    assert Executor.call(module, "zero by zero", [], opts) == {:ok, :nan}
    assert Executor.call(module, "one by zero", [], opts) == {:ok, [:infinity, :neg_infinity]}
  end

  test "as arguments of a host function, and as its results", %{module: module} do
    test = self()
    opts = imports(fn _ctx, value -> send(test, {:value, value}) && value end)

    for {name, odd} <- [{"host f32", @odd32}, {"host f64", @odd64}], bits <- odd do
      assert {:ok, back} = Executor.call(module, name, [bits], opts)
      assert_received {:value, value}
      assert known?(value)
      # All bits come back but the sign of the canonical NaN.
      unless value == :nan, do: assert(<<back::64>> == sign_extended(name, bits))
    end
  end

  test "as results of a re-entrant call", %{module: module} do
    opts =
      imports(fn ctx, value ->
        assert Host.call(ctx, "zero by zero") == {:ok, :nan}
        assert Host.call(ctx, "f32", [0x7F80_0000]) == {:ok, :infinity}
        value
      end)

    assert {:ok, _} = Executor.call(module, "host f64", [0], opts)
  end

  defp sign_extended("host f32", bits) do
    <<signed::32-signed>> = <<bits::32>>
    <<signed::64>>
  end

  defp sign_extended("host f64", bits), do: <<bits::64>>
end
