defmodule Cybernetic.WASM.Conformance.Spectest do
  @moduledoc false
  # What the scripts expect of their host: functions that print, which are Elixir functions here and print nothing, and
  # other exports, which a module of its own has. The functions are declared with their types, because the scripts import
  # them with wrong ones, too. The first counter of the caller's `data:` counts their calls.

  use Cybernetic.WASM.Host, module: "spectest", extra: :ignore

  alias Cybernetic.WASM.{Host, Instance, Runtime}

  @module ~S"""
  (module
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref)
    (table (export "table64") i64 10 20 funcref)
    (memory (export "memory") 1 2))
  """

  @exports ~w(global_i32 global_i64 global_f32 global_f64 table table64 memory)

  defimport print(ctx) do
    count(ctx)
  end

  defimport print_i32(ctx, _n :: i32) do
    count(ctx)
  end

  defimport print_i64(ctx, _n :: i64) do
    count(ctx)
  end

  defimport print_f32(ctx, _x :: f32) do
    count(ctx)
  end

  defimport print_f64(ctx, _x :: f64) do
    count(ctx)
  end

  defimport print_i32_f32(ctx, _n :: i32, _x :: f32) do
    count(ctx)
  end

  defimport print_f64_f64(ctx, _x :: f64, _y :: f64) do
    count(ctx)
  end

  defp count(ctx), do: :counters.add(Host.data(ctx), 1, 1)

  @doc "The instance whose store all the others of a script join, with options of its load and its own."
  def base(load, own) do
    module = Runtime.load_module!({:bytes, @module}, load)
    Instance.new!(module, [on_trap: :keep] ++ own)
  end

  @doc "`imports:` for what the scripts call `spectest`."
  def imports(base), do: [__MODULE__, %{"spectest" => Map.new(@exports, &{&1, {base, &1}})}]
end
