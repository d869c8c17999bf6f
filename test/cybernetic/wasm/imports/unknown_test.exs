defmodule Cybernetic.WASM.Imports.UnknownTest do
  # Imports that nothing is given for, answered by traps on demand.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{DeniedError, Executor, Host, Instance, LinkError, Run, TrapError}

  defp guest do
    load!(~S"""
    (module
      (import "env" "known" (func $known (param i32) (result i32)))
      (import "env" "emscripten_resize_heap" (func $unknown (param i32) (result i32)))
      (import "elsewhere" "other" (func $other))
      (memory (export "memory") 1)
      (global $n (mut i32) (i32.const 0))
      (func (export "fine") (param i32) (result i32) (call $known (local.get 0)))
      (func (export "count") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      (func $inner (drop (call $unknown (i32.const 1))))
      (func (export "call") (call $inner))
      (func (export "other") (call $other))
      (func (export "through") (param i32) (result i32) (call $known (local.get 0))))
    """)
  end

  @imports %{"env" => %{"known" => &__MODULE__.known/2}}
  def known(_ctx, n), do: n * 2

  defp trap(opts \\ []), do: [imports: @imports, unknown_imports: :trap] ++ opts

  test "are refused unless it is asked for" do
    for opts <- [[imports: @imports], [imports: @imports, unknown_imports: :refuse]] do
      assert {:error, %LinkError{problems: problems}} = Executor.call(guest(), "fine", [1], opts)
      assert Enum.map(problems, & &1.name) == ["emscripten_resize_heap", "other"]
      assert {:error, %LinkError{}} = Instance.new(guest(), opts)
    end

    for wrong <- [true, :traps, nil] do
      assert_raise ArgumentError, ~r/unknown_imports must be one of :refuse, :trap/, fn ->
        Executor.call(guest(), "fine", [1], unknown_imports: wrong)
      end
    end
  end

  test "trap when they are called, and not before" do
    assert Executor.call(guest(), "fine", [4], trap()) == {:ok, 8}
    assert {:error, %TrapError{} = error} = Executor.call(guest(), "call", [], trap())
    assert {error.code, error.blame} == {:unknown_import, :guest}
    assert error.import == {"env", "emscripten_resize_heap"}

    assert Exception.message(error) =~
             ~s|the import "env" "emscripten_resize_heap", which nothing was given for|

    # It says from where.
    assert [%{function: 5}, %{function: 6}] = error.frames
    assert error.usage.host_calls == 1
    assert {:error, error} = Executor.call(guest(), "other", [], trap())
    assert error.import == {"elsewhere", "other"}
    # Nothing need be given at all.
    assert {:error, %TrapError{import: {"env", "known"}}} =
             Executor.call(guest(), "fine", [1], unknown_imports: :trap)
  end

  test "are an instance's traps, which poison it or not as traps do" do
    instance = Instance.new!(guest(), trap())
    assert Instance.call(instance, "fine", [4]) == {:ok, 8}
    assert {:error, %TrapError{code: :unknown_import}} = Instance.call(instance, "call")
    assert Instance.poisoned?(instance)
    assert Instance.reset(instance) == :ok
    # A call that gives others leaves the rest as it is.
    imports = %{"elsewhere" => %{"other" => fn _ctx -> :ok end}}
    assert Instance.call(instance, "other", [], imports: imports) == {:ok, nil}

    assert {:error, %TrapError{code: :unknown_import}} =
             Instance.call(instance, "call", [], imports: imports)

    keeping = Instance.new!(guest(), trap(on_trap: :keep))
    assert Instance.call(keeping, "count") == {:ok, 1}
    assert {:error, %TrapError{code: :unknown_import}} = Instance.call(keeping, "call")
    refute Instance.poisoned?(keeping)
    assert Instance.call(keeping, "count") == {:ok, 2}

    assert_raise ArgumentError,
                 ~r/unknown option of a call on an instance :unknown_imports/,
                 fn ->
                   Instance.call(keeping, "count", [], unknown_imports: :trap)
                 end
  end

  test "trap in a re-entrant call, too" do
    test = self()

    imports = %{
      "env" => %{
        "known" => fn ctx, n ->
          send(test, Host.call(ctx, "call"))
          n
        end
      }
    }

    assert Executor.call(guest(), "through", [3], trap(imports: imports)) == {:ok, 3}
    assert_received {:error, %TrapError{code: :unknown_import}}
  end

  test "trap when a module that is linked calls them" do
    lib =
      load!(
        ~S|(module (import "js" "now" (func $now)) (func (export "f") (call $now)) (func (export "g")))|
      )

    user =
      load!(~S"""
      (module (import "lib" "f" (func $f)) (import "lib" "g" (func $g)) (import "js" "x" (func $x))
        (func (export "f") (call $f)) (func (export "g") (call $g)))
      """)

    opts = [imports: %{"lib" => lib}, unknown_imports: :trap]
    assert Executor.call(user, "g", [], opts) == {:ok, nil}
    assert {:error, %TrapError{import: {"js", "now"}}} = Executor.call(user, "f", [], opts)
    instance = Instance.new!(user, opts)
    assert Instance.call(instance, "g") == {:ok, nil}
    assert {:error, %TrapError{import: {"js", "now"}}} = Instance.call(instance, "f")
  end

  test "are functions only, and of the right type where something is given" do
    for import <- ["(memory 1)", "(global i32)", "(table 1 funcref)", "(tag)"] do
      module = load!(~s|(module (import "env" "x" #{import}) (func (export "run")))|)

      assert {:error, %LinkError{problems: [%{name: "x"}]}} =
               Executor.call(module, "run", [], unknown_imports: :trap)
    end

    wrong = [imports: %{"env" => %{"known" => fn -> 1 end}}, unknown_imports: :trap]

    assert {:error, %LinkError{problems: [%{name: "known"}]}} =
             Executor.call(guest(), "count", [], wrong)
  end

  test "are not WASI's, which is granted or denied, but for what it does not have" do
    module = fn name ->
      load!(
        ~s|(module (import "wasi_snapshot_preview1" "#{name}" (func $f (param i32) (result i32)))
        (memory (export "memory") 1) (func (export "run") (drop (call $f (i32.const 9)))) (func (export "fine")))|
      )
    end

    opts = [unknown_imports: :trap]

    assert {:error, %DeniedError{capability: :wasi}} =
             Executor.call(module.("fd_close"), "run", [], opts)

    assert {:error, %LinkError{}} =
             Executor.call(module.("fd_clone"), "run", [], sandbox: :command)

    for opts <- [opts, [sandbox: :command] ++ opts] do
      assert {:ok, nil} = Executor.call(module.("fd_clone"), "fine", [], opts)

      assert {:error, %TrapError{import: {"wasi_snapshot_preview1", "fd_clone"}}} =
               Executor.call(module.("fd_clone"), "run", [], opts)
    end
  end

  test "leave what a stream had before them" do
    module =
      load!(~S"""
      (module (import "env" "put" (func $put (param i32))) (import "env" "x" (func $x))
        (func (export "run") (call $put (i32.const 1)) (call $x)))
      """)

    imports = %{"env" => %{"put" => fn ctx, n -> Host.emit(ctx, to_string(n)) end}}
    opts = [imports: imports, unknown_imports: :trap]
    assert {:error, %TrapError{run: %Run{output: "1"}}} = Executor.run(module, "run", [], opts)
    stream = Executor.stream(module, "run", [], opts)
    assert Enum.take(stream, 1) == ["1"]
    assert_raise TrapError, ~r/"env" "x"/, fn -> Enum.to_list(stream) end
  end
end
