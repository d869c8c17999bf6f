defmodule Cybernetic.WASM.Links do
  @moduledoc false
  # Modules that import from each other, and instances that are linked.

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Host, Instance}

  @doc "Exports one of each kind, and functions that show what became of them."
  def base do
    load!(~S"""
    (module
      (memory (export "memory") 1 4)
      (table $t (export "table") 4 8 funcref)
      (global $n (export "n") (mut i32) (i32.const 0))
      (global (export "fixed") i64 (i64.const 7))
      (tag $oops (export "oops") (param i32))
      (func (export "bump") (param i32) (result i32)
        (global.set $n (i32.add (global.get $n) (local.get 0))) (global.get $n))
      (func (export "throw") (param i32) (throw $oops (local.get 0)))
      (type $i (func (result i32)))
      (func (export "invoke") (param i32) (result i32) (call_indirect $t (type $i) (local.get 0)))
      (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
      (func (export "fail") unreachable))
    """)
  end

  @doc "Imports all that `base/0` exports."
  def user do
    load!(~S"""
    (module
      (import "base" "memory" (memory 1))
      (import "base" "table" (table $t 1 funcref))
      (import "base" "n" (global $n (mut i32)))
      (import "base" "fixed" (global $fixed i64))
      (import "base" "oops" (tag $oops (param i32)))
      (import "base" "bump" (func $bump (param i32) (result i32)))
      (import "base" "throw" (func $throw (param i32)))
      (export "base memory" (memory 0))
      (export "base n" (global $n))
      (export "base table" (table $t))
      (export "bump" (func $bump))
      (data (i32.const 100) "written at the link")
      (func $answer (result i32) (i32.const 42))
      (elem (table $t) (i32.const 2) func $answer)
      (func (export "twice") (param i32) (result i32)
        (drop (call $bump (local.get 0))) (call $bump (local.get 0)))
      (func (export "set") (param i32) (global.set $n (local.get 0)))
      (func (export "n") (result i32) (global.get $n))
      (func (export "fixed") (result i64) (global.get $fixed))
      (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "catch") (param i32) (result i32)
        (block $caught (result i32)
          (try_table (catch $oops $caught) (call $throw (local.get 0)))
          (i32.const -1)))
      (func (export "fail") unreachable)
      (func (export "spin") (loop (br 0))))
    """)
  end

  @doc "An instance of each, the second of which imports from the first."
  def pair do
    one = Instance.new!(base())
    {one, Instance.new!(user(), imports: %{"base" => one})}
  end

  @doc "Gives what `env.f` gives for its own number, and what it finds in its own memory is its own."
  def member(number, opts \\ []) do
    load!("""
    (module
      #{opts[:imports]}
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "member #{number}")
      (func $ask (export "ask") (result i32) (call $f (i32.const #{number})))
      (func (export "number") (result i32) (i32.const #{number}))
      #{opts[:more]})
    """)
  end

  @doc "The second member, which imports the first one's `ask` and calls both that and its own."
  def asking_both do
    member(2,
      imports: ~S|(import "one" "ask" (func $one (result i32)))|,
      more: ~S|(func (export "both") (result i32 i32) (call $one) (call $ask))|
    )
  end

  @doc "Who was asked, by which data, and what it saw through its context."
  def asked(who) do
    test = self()

    f(fn ctx, n ->
      {:ok, memory} = Host.read(ctx, 0, 8)
      {:ok, ^n} = Host.call(ctx, "number")
      send(test, {who, Host.data(ctx), memory})
      100 * n
    end)
  end
end
