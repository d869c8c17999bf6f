defmodule Cybernetic.WASM.Memories do
  @moduledoc false
  # Guests whose memory is looked at, by every way that there is to it.

  import Cybernetic.WASM.{Guests, Turns}
  import ExUnit.{Assertions, Callbacks}

  alias Cybernetic.WASM.Instance

  @doc "A guest with a memory of one page, whose `run` gives what `env.f` makes of its argument."
  def guest(opts \\ []) do
    ~S"""
    (module
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1 100)
      (data (i32.const 16) "from the module\00")
      (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
      (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
      (func (export "pages") (result i32) (memory.size))
      (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
      (func (export "fail") unreachable))
    """
    |> load!()
    |> Instance.new!([imports: echo()] ++ opts)
  end

  @doc """
  Runs `function` with every kind of target that there is: an instance, the pid and the name of its server, and the context of a
  host function. Each is a fresh guest.
  """
  def with_each(function) do
    function.(guest())

    opts = [module: guest().module, imports: echo()]
    server = start_supervised!({Instance, opts}, id: make_ref())
    function.(server)

    name = :"#{__MODULE__}.#{System.unique_integer([:positive])}"
    start_supervised!({Instance, [name: name] ++ opts}, id: make_ref())
    function.(name)

    imports =
      f(fn ctx, n ->
        function.(ctx)
        n
      end)

    # What fails in there is raised here as what it is.
    assert Instance.call!(guest(), "run", [5], imports: imports) == 5
  end
end
