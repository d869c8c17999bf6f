defmodule Cybernetic.WASM.Plugins do
  @moduledoc false
  # Guests that keep to a plugin's contracts, and some that only say so.

  alias Cybernetic.WASM.Plugin

  @alloc ~S"""
  (memory (export "memory") 2 400)
  (global $next (mut i32) (i32.const 4096))
  (func $alloc (param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 8)))
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 131071)) (i32.const 16)))
                        (i32.const -1))
        (then (return (i32.const 0))))))
    (local.get $at))
  """

  @pair ~S"""
  (func $pair (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  """

  @doc "One of `:bytes`: `echo`, `shout`, which fails for nothing to shout, and functions that lie."
  def bytes do
    """
    (module
      (import "cybernetic" "error" (func $error (param i32 i32)))
      #{@alloc} #{@pair}
      (export "cw_alloc" (func $alloc))
      (data (i32.const 100) "nothing to say")
      (func (export "echo") (param i32 i32) (result i64) (call $pair (local.get 0) (local.get 1)))
      (func (export "shout") (param $at i32) (param $length i32) (result i64) (local $i i32) (local $end i32)
        (if (i32.eqz (local.get $length)) (then (call $error (i32.const 100) (i32.const 14))))
        (local.set $i (local.get $at))
        (local.set $end (i32.add (local.get $at) (local.get $length)))
        (block $done (loop $next
          (br_if $done (i32.ge_u (local.get $i) (local.get $end)))
          (if (i32.lt_u (i32.sub (i32.load8_u (local.get $i)) (i32.const 97)) (i32.const 26))
            (then (i32.store8 (local.get $i) (i32.sub (i32.load8_u (local.get $i)) (i32.const 32)))))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $next)))
        (call $pair (local.get $at) (local.get $length)))
      (func (export "complain_far") (param i32 i32) (result i64)
        (call $error (i32.const -16) (i32.const 100)) (i64.const 0))
      (func (export "complain_long") (param i32 i32) (result i64)
        (call $error (i32.const 0) (i32.const -1)) (i64.const 0))
      (func (export "far") (param i32 i32) (result i64) (call $pair (i32.const -8) (i32.const 16)))
      (func (export "negative") (param i32 i32) (result i64) (i64.const -1))
      (func (export "wrapping") (param i32 i32) (result i64) (call $pair (i32.const -1) (i32.const -1)))
      (func (export "overlapping") (param i32 i32) (result i64)
        (call $pair (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 2))))
      (func (export "nothing") (param i32 i32) (result i64) (i64.const 0))
      (func (export "fail") (param i32 i32) (result i64) unreachable)
      (func (export "spin") (param i32 i32) (result i64) (loop (br 0)) (i64.const 0)))
    """
  end

  @doc "One of `:bytes` with an allocator of its own."
  def allocating(body) do
    """
    (module (memory (export "memory") 1) #{@pair}
      (func (export "cw_alloc") (param i32) (result i32) #{body})
      (func (export "echo") (param i32 i32) (result i64) (call $pair (local.get 0) (local.get 1))))
    """
  end

  @doc "One of `:execute`, which gives `more` bytes beside what it was given."
  def execute(more \\ 0) do
    """
    (module #{@alloc}
      (export "alloc" (func $alloc))
      (func (export "execute") (param i32 i32) (result i32) (i32.add (local.get 1) (i32.const #{more}))))
    """
  end

  @doc "One of `:process`: gives the text behind the first letter, or nothing for an empty one."
  def process do
    """
    (module #{@alloc}
      (export "allocate" (func $alloc))
      (data (i32.const 64) "{\\"name\\":\\"skip\\"}\\00")
      (func (export "deallocate") (param i32 i32))
      (func (export "get_module_info") (result i32) (i32.const 64))
      (func (export "endless") (param i32) (result i32)
        (memory.fill (i32.const 100000) (i32.const 65) (i32.const 31072)) (i32.const 100000))
      (func (export "process") (param i32) (result i32)
        (if (result i32) (i32.load8_u (local.get 0))
          (then (i32.add (local.get 0) (i32.const 1)))
          (else (i32.const 0)))))
    """
  end

  @doc "One of `:assemblyscript`, by hand: `same` gives its argument, `check` fails as an assertion does."
  def assembly_script do
    """
    (module
      (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
      #{@alloc}
      (data (i32.const 64) "\\02\\00\\00\\00\\06\\00\\00\\00n\\00o\\00!\\00")
      (data (i32.const 96) "\\02\\00\\00\\00\\08\\00\\00\\00a\\00.\\00t\\00s\\00")
      (func (export "__new") (param $size i32) (param $class i32) (result i32) (local $at i32)
        (local.set $at (i32.add (call $alloc (i32.add (local.get $size) (i32.const 8))) (i32.const 8)))
        (i32.store (i32.sub (local.get $at) (i32.const 8)) (local.get $class))
        (i32.store (i32.sub (local.get $at) (i32.const 4)) (local.get $size))
        (local.get $at))
      (func (export "same") (param i32) (result i32) (local.get 0))
      (func (export "hello") (result i32) (i32.const 72))
      (func (export "null") (param i32) (result i32) (i32.const 0))
      (func (export "number") (param i32) (result i32) (i32.const 1000))
      (func (export "check") (param i32) (result i32)
        (call $abort (i32.const 72) (i32.const 104) (i32.const 7) (i32.const 3)) unreachable)
      (func (export "check_silently") (param i32) (result i32)
        (call $abort (i32.const 0) (i32.const -4) (i32.const 1) (i32.const 2)) unreachable))
    """
  end

  @doc "The plugin of a source of WebAssembly."
  def plugin!(source, opts \\ []), do: Plugin.load!({:bytes, source}, opts)
end
