defmodule Cybernetic.WASM.Imports.WordsTest do
  # What is said of imports that nothing is given for, where people get stuck.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, LinkError}

  defp reason(module, name, imports \\ %{}) do
    module =
      load!(~s|(module (import "#{module}" "#{name}" (func (param i32))) (func (export "f")))|)

    assert {:error, %LinkError{problems: [problem]}} =
             Executor.call(module, "f", [], imports: imports)

    problem.reason
  end

  test "a module that was made for JavaScript is told by its imports" do
    for {module, name, words} <- [
          {"env", "__syscall_openat", "Emscripten"},
          {"env", "emscripten_resize_heap", "Emscripten"},
          {"env", "_emscripten_throw_longjmp", "Emscripten"},
          {"a", "b", "Emscripten"},
          {"wbg", "__wbg_log_1d3ae0273d8f4f8a", "wasm-bindgen"},
          {"__wbindgen_placeholder__", "__wbindgen_throw", "wasm-bindgen"},
          {"gojs", "runtime.wasmExit", "GOOS=wasip1"}
        ] do
      assert "missing; made for JavaScript by " <> _ = reason = reason(module, name)
      assert reason =~ words
      assert reason =~ "wasip1"
    end

    assert reason("env", "invoke_vi") =~ "Cybernetic.WASM.Host.call_table/4"
  end

  test "AssemblyScript's abort is shown as it is given" do
    reason = reason("env", "abort")
    assert reason =~ "AssemblyScript"
    [code] = Regex.run(~r/give (%\{.*\})$/, reason, capture: :all_but_first)
    assert {%{"env" => %{"abort" => abort}}, _bindings} = Code.eval_string(code)
    assert is_function(abort, 5)
  end

  test "other names have no maker, and what was given beside them is named" do
    assert reason("env", "log") == "missing"
    other = %{"env" => %{"lg" => fn _ctx, _n -> nil end}}
    assert reason("env", "log", other) == ~s|missing; given for this module: "lg"|
  end

  test "an atom in the place of a string is told, for the module and for the name" do
    log = fn _ctx, _n -> nil end
    words = "where the name is a string"

    assert reason("env", "log", %{env: %{"log" => log}}) ==
             "missing; given as the atom :env, #{words}"

    assert reason("env", "log", %{"env" => %{log: log}}) ==
             "missing; given as the atom :log, #{words}"
  end
end
