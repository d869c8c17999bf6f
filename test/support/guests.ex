defmodule Cybernetic.WASM.Guests do
  @moduledoc false
  # The guests that several tests share, and the way to load one written in place.

  alias Cybernetic.WASM.Runtime

  @doc "Compiles the text format, or bytes."
  def load!(source, opts \\ []), do: Runtime.load_module!({:bytes, source}, opts)

  @doc "The tour's guest: `process`, `add`, `div_mod`, `fib`, `spin`, `grow`, `recurse`, `fail`."
  def compute(opts \\ []), do: Runtime.load_module!("priv/wasm/compute.wasm", opts)

  @doc "A module that no other test loads: the same but for one constant, and what `more` has beside it."
  def unique(more \\ "") do
    number = System.unique_integer([:positive])
    ~s|(module #{more} (func (export "number") (result i32) i32.const #{number}))|
  end

  @doc "A module that takes long to compile, with nothing strange in it: so many plain functions, of which `f` gives 1."
  def plain(functions, seed) do
    step = "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1)))"
    body = "(param i32) (result i32) #{String.duplicate(step, 8)}"
    functions = for n <- 1..functions, do: "(func #{body} (i32.const #{n + seed}))"
    ~s|(module (func (export "f") (result i32) (i32.const 1)) #{functions})|
  end

  @doc "A module whose `$f` is the host's `env.f`, from `i32` to `i32`, with `more` beside it."
  def asking(more),
    do: load!(~s|(module (import "env" "f" (func $f (param i32) (result i32))) #{more})|)

  @doc "Calls `env.f` (`i32` to `i32`) from its export `run`, and from `run_then_spin` before it loops for ever."
  def calling do
    load!(~S"""
    (module
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
      (func (export "run_then_spin") (param i32) (drop (call $f (local.get 0))) (loop (br 0)))
      (func (export "double") (param i32) (result i32)
        (i32.mul (local.get 0) (i32.const 2)))
      (func (export "spin") (loop (br 0)))
      (func (export "fail") unreachable))
    """)
  end

  @doc "Imports that make `env.f` this function."
  def f(function), do: %{"env" => %{"f" => function}}
end
