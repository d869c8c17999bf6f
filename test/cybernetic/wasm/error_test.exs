defmodule Cybernetic.WASM.ErrorTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{
    CallError,
    Error,
    HostError,
    InternalError,
    LimitError,
    LinkError,
    LoadError,
    TrapError
  }

  test "each kind from the native side has its struct, and blames somebody" do
    for {kind, struct, blame} <- [
          {:load, LoadError, :caller},
          {:link, LinkError, :caller},
          {:call, CallError, :caller},
          {:trap, TrapError, :guest},
          {:limit, LimitError, :guest},
          {:internal, InternalError, :host}
        ] do
      error = Error.from_native({kind, %{}})
      assert {error.__struct__, error.blame} == {struct, blame}
      assert Exception.exception?(error)
    end

    assert %HostError{}.blame == :host
  end

  test "a field that the struct does not have is not lost in silence" do
    assert_raise KeyError, fn -> Error.from_native({:trap, %{colour: :red}}) end
  end

  test "each reason of a load has its words" do
    for {facts, words} <- [
          {[reason: :not_found, source: "a.wasm"], "cannot load a.wasm: no such file"},
          {[reason: :not_a_file, detail: "directory"], "not a regular file (directory)"},
          {[reason: :unreadable, detail: "permission denied"],
           "cannot be read (permission denied)"},
          {[reason: :too_large, size: 9, allowed: 8], "9 bytes, at most 8 are allowed"},
          {[reason: :not_wasm, detail: "text"], "not WebAssembly: text"},
          {[reason: :component], "only core modules"},
          {[reason: :invalid, offset: 3, detail: "x"], "invalid at offset 3: x"},
          {[reason: :invalid_text, line: 1, column: 2, detail: "x"], "line 1, column 2: x"},
          {[reason: :unsupported_feature, feature: "simd", offset: 3, detail: "x"],
           "the feature simd"},
          {[reason: :unsupported, detail: "too many imports"], "too many imports"}
        ] do
      assert Exception.message(struct!(LoadError, facts)) =~ words
    end
  end

  test "each reason of a call has its words" do
    for {facts, words} <- [
          {[reason: :no_such_export, export: "f", known: ["g", "h"]],
           ~s("f"; exported are: g, h)},
          {[reason: :wrong_export_kind, export: "m", given: "memory", expected: "function"],
           "is a memory, not a function"},
          {[reason: :arity, expected: 2, given: 1, signature: "(i32 i32)"],
           "expected 2 value(s)"},
          {[reason: :type, index: 0, expected: "an i32", given: "nil"],
           "the value at index 0 must be an i32"},
          {[reason: :out_of_bounds, offset: 1, length: 2, size: 0], "2 bytes at offset 1"},
          {[reason: :no_memory, export: "m"], ~s(no memory is exported as "m")},
          {[reason: :cannot_grow, pages: 7], ~r/by 7 pages\z/},
          {[reason: :cannot_grow, pages: 7, maximum: 9], "by 7 pages: it may have 9"},
          {[reason: :other_engine, module_options: "these", instance_options: "those"],
           "this one has these, the instance those"},
          {[reason: :no_directory, host_path: "/srv", guest_path: "/data", detail: "gone"],
           "the directory /srv, granted as /data, cannot be opened: gone"},
          {[reason: :no_such_member, member: 3], "no instance with the number 3"},
          {[reason: :not_for_pool], "make that one with allocation: :on_demand"},
          {[reason: :busy], "busy"},
          {[reason: :poisoned], "poisoned"},
          {[reason: :stale_context], "context"}
        ] do
      assert Exception.message(struct!(CallError, facts)) =~ words
    end
  end

  test "each limit has its unit" do
    for limit <- [
          :fuel,
          :timeout,
          :memory,
          :table_elements,
          :instances,
          :stack,
          :output,
          :host_calls,
          :live_instances,
          :total_memory,
          :code_memory
        ] do
      message = Exception.message(%LimitError{limit: limit, allowed: 5, used: 6})
      assert message =~ ~r/the #{limit} limit was reached: 5 [a-z][a-z ]+ allowed, (6|all) [a-z]/
    end
  end

  test "a trap's frames are one a line, innermost first" do
    frames = [%{function: 3, name: "inner", offset: 10}, %{function: 4, name: nil, offset: nil}]

    assert Exception.message(%TrapError{code: :unreachable, detail: "it trapped", frames: frames}) ==
             "the guest trapped: it trapped\n  in inner at offset 10\n  in function 4"
  end

  test "a name that a stranger chose reaches no terminal as it is" do
    frames = [%{function: 0, name: "\e[31mred\n", offset: 1}]
    trap = %TrapError{code: :unreachable, detail: "it trapped", frames: frames}
    call = %CallError{reason: :no_such_export, export: "f", known: ["\e[2J"]}

    for error <- [trap, call] do
      refute Exception.message(error) =~ "\e"
      assert Exception.message(error) =~ "\\e["
    end
  end

  test "a host error names the import and what it did" do
    error = %HostError{kind: :error, reason: %RuntimeError{message: "no"}, import: {"env", "f"}}
    assert Exception.message(error) =~ ~s|"env" "f" failed: ** (RuntimeError) no|

    error = %HostError{kind: :exit, reason: :over, import: {"env", "f"}}
    assert Exception.message(error) =~ "over"

    error = %HostError{kind: :throw, reason: :ball, import: {"env", "f"}}
    assert Exception.message(error) =~ ":ball"
  end
end
