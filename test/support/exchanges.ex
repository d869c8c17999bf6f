defmodule Cybernetic.WASM.Exchanges do
  @moduledoc false
  # A guest that takes bytes and gives them, and one that gives whatever it is told.

  import Cybernetic.WASM.Guests, only: [load!: 1]

  alias Cybernetic.WASM.ABI

  @wat ~S"""
  (module
    (import "env" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 2 200)
    (global $next (mut i32) (i32.const 4096))
    (global (export "freed") (mut i32) (i32.const 0))
    (table (export "table") 1 funcref) (elem (i32.const 0) $echo)

    (func $alloc (export "alloc") (param $size i32) (result i32) (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 8)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.eq (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 131071)) (i32.const 16)))
                          (i32.const -1))
          (then (return (i32.const 0))))))
      (local.get $at))
    (func (export "free") (param $at i32) (param $size i32)
      (global.set 1 (i32.add (global.get 1) (local.get $size))))
    (func (export "ask_and_alloc") (param i32) (result i32)
      (drop (call $f (local.get 0))) (call $alloc (local.get 0)))
    (func (export "spin") (param i32) (result i32) (loop (br 0)) (i32.const 0))
    (func (export "fail") (param i32) (result i32) unreachable)
    (func (export "none") (param i32) (result i32) (i32.const 0))
    (func (export "far") (param i32) (result i32) (i32.const -8))

    (func $echo (export "echo") (param i32 i32) (result i64)
      (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
    (func (export "ask_and_echo") (param i32 i32) (result i64)
      (drop (call $f (local.get 1))) (call $echo (local.get 0) (local.get 1)))
    (func (export "same") (param i32) (result i32) (local.get 0))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "second") (param i32 i32 f64 i32 i32) (result i64) (call $echo (local.get 3) (local.get 4)))
    (func (export "into") (param i32 i32 i32)
      (i32.store (local.get 0) (local.get 1)) (i32.store offset=4 (local.get 0) (local.get 2)))
    (func (export "vector") (param v128 i32 i32) (result v128) (local.get 0))
    (func (export "term") (param externref i32 i32) (result externref) (local.get 0))
    (func (export "give") (param i64) (result i64) (local.get 0)))
  """

  @doc "The guest. Its `free` adds up what it lets go of in the global `freed`; `ask_and_alloc` and `ask_and_echo` call `env.f`."
  def exchanging, do: load!(@wat)

  @doc "Imports for it."
  def asked(f \\ fn _ctx, n -> n end), do: %{"env" => %{"f" => f}}

  @doc "How its functions take and give bytes."
  def packed(opts \\ []),
    do: ABI.new([alloc: "alloc", free: {"free", [:pointer, :size]}, result: :packed] ++ opts)
end
