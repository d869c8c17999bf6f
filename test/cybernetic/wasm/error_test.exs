defmodule Cybernetic.WASM.ErrorTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{
    ABIError,
    CallError,
    CancelledError,
    Config,
    DeniedError,
    Error,
    Executor,
    Host,
    HostError,
    Instance,
    InternalError,
    LimitError,
    Limits,
    LinkError,
    LoadError,
    ManifestError,
    Run,
    Runtime,
    Sandbox,
    TrapError,
    Usage
  }

  doctest Cybernetic.WASM.Error
  doctest Cybernetic.WASM.LimitError

  test "each kind from the native side has its struct, and blames somebody" do
    for {kind, struct, blame} <- [
          {:load, LoadError, :caller},
          {:link, LinkError, :caller},
          {:call, CallError, :caller},
          {:abi, ABIError, :guest},
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
          {[reason: :too_large, size: 9, allowed: 8],
           "9 bytes, at most 8 are allowed (option :max_module_size); debug sections can be stripped"},
          {[reason: :not_wasm, detail: "text"], "not WebAssembly: text"},
          {[reason: :invalid, offset: 3, detail: "x"], "invalid at offset 3: x"},
          {[reason: :invalid_text, line: 1, column: 2, detail: "x"], "line 1, column 2: x"},
          {[reason: :unsupported_feature, feature: "simd", offset: 3, detail: "x"],
           "it needs the feature simd, which is off (offset 3: x)"},
          {[reason: :unsupported_feature, feature: "threads", offset: 3, detail: "x"],
           ~r/the feature threads, which is not supported \(offset 3: x\)\z/},
          {[reason: :unsupported_feature, feature: "legacy_exceptions", offset: 3, detail: "x"],
           "not supported (offset 3: x); compile with exnref exceptions"},
          {[reason: :unsupported_feature, feature: "several proposals", offset: 3, detail: "x"],
           "it needs several features, of which some are not supported (offset 3: x)"},
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
          {[reason: :type, index: 0, expected: "an i32", given: "nil"], ~r/got: nil\z/},
          {[reason: :type, index: 0, expected: "an i64", given: "a binary of 2 bytes"],
           "got: a binary of 2 bytes; text is passed through the guest's memory, with the option :abi: guides/text.md"},
          {[reason: :type, index: 0, expected: "a v128", given: "a binary of 2 bytes"],
           ~r/got: a binary of 2 bytes\z/},
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
          {[reason: :not_by_abi, export: "f", given: "(func)", expected: "one integer"],
           "it is (func), and must have one integer"},
          {[reason: :no_allocator], "(option :alloc)"},
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

  test "each limit names what raises it, by who has set it" do
    message = fn facts ->
      Exception.message(struct!(LimitError, [allowed: 1_000_000, used: 1_000_001] ++ facts))
    end

    for {limit, option} <- [
          fuel: :fuel,
          timeout: :timeout,
          memory: :max_memory,
          table_elements: :max_table_elements,
          instances: :max_instances,
          stack: :max_stack,
          output: :max_output,
          host_calls: :max_host_calls
        ] do
      for by <- [:call, :instance, :sandbox],
          do:
            assert(
              message.(limit: limit, set_by: by) =~
                "(to raise: option #{inspect(option)} of the #{by})"
            )

      assert message.(limit: limit) =~
               "(to raise: option #{inspect(option)}, or config key #{inspect(option)})"

      key = if limit == :timeout, do: "time_ms", else: to_string(limit)

      assert message.(limit: limit, set_by: :manifest) =~
               "(to raise: #{key} in the [limits] of the manifest)"

      assert option in Limits.keys()
      assert key in Sandbox.Manifest.Reader.keys().limits
    end

    for limit <- ~w(live_instances total_memory code_memory open_files compile_queue)a do
      assert message.(limit: limit, blame: :node) =~ "(to raise: config key :max_#{limit})"
      assert is_map_key(%Config{}, :"max_#{limit}")
    end

    assert message.(limit: :compile_time, set_by: :call) =~ "option :max_compile_time of the load"
    assert message.(limit: :reentrance, set_by: nil) =~ "1,000,001 asked for"
    refute message.(limit: :reentrance, set_by: nil) =~ "to raise"
    assert message.(limit: :timeout, during: :wait) =~ "while the call waited for its turn"
  end

  describe "blame" do
    test "is the node's where that has too much to do, and the call may be tried again" do
      assert Error.transient?(%LimitError{limit: :live_instances, blame: :node})
      assert Error.transient?(%CallError{reason: :busy})

      for error <- [
            %LimitError{limit: :fuel},
            %CallError{reason: :closed},
            %TrapError{},
            %HostError{}
          ],
          do: refute(Error.transient?(error))

      assert Error.blame(%TrapError{}) == :guest
    end

    test "is the guest's where a host function stops it for what it did, unless that says otherwise" do
      wat = ~S|(module (import "env" "abort" (func $abort)) (func (export "run") (call $abort)))|
      {:ok, module} = Runtime.load_module({:bytes, wat})

      for {stop, kind, blame} <- [
            {&Host.trap(&1, :abort), :trap, :guest},
            {&Host.trap(&1, :abort, blame: :host), :trap, :host},
            {&Host.trap(&1, :abort, blame: :caller), :trap, :caller},
            {fn _ctx -> raise "no" end, :error, :host}
          ] do
        imports = %{"env" => %{"abort" => stop}}
        assert {:error, error} = Executor.call(module, "run", [], imports: imports)
        assert {error.kind, error.blame} == {kind, blame}
      end

      imports = %{"env" => %{"abort" => &Host.trap(&1, :abort, blame: :nobody)}}

      assert {:error, %HostError{kind: :error, blame: :host}} =
               Executor.call(module, "run", [], imports: imports)
    end
  end

  describe "inspected, an error" do
    test "is its message and the facts that are set" do
      {:ok, module} = Runtime.load_module({:bytes, ~S|(module (func (export "process")))|})
      {:error, error} = Executor.call(module, "proces")

      assert inspect(error) ==
               ~s|#Cybernetic.WASM.CallError<no function is exported as "proces"; exported are: process; | <>
                 ~s|reason: :no_such_export; export: "proces"; known: ["process"]; expected: "function">|

      assert inspect(%CallError{reason: :busy}) ==
               "#Cybernetic.WASM.CallError<busy: another call is running (with wait: a call stands in line for its turn); reason: :busy>"
    end

    test "is short and on one line, whatever it holds, and shows none of its output" do
      long = String.duplicate("a\n\e[2J", 100_000)
      frame = %{function: 3, name: long, offset: 10}
      run = %Run{stdout: "hunter2", stderr: "", usage: %Usage{}}

      for error <- [
            %TrapError{
              code: :unreachable,
              detail: long,
              frames: List.duplicate(frame, 20),
              run: run
            },
            %CallError{reason: :no_such_export, export: long, known: List.duplicate(long, 21)},
            %ABIError{
              reason: :out_of_bounds,
              export: long,
              offset: 1,
              length: 2,
              size: 3,
              run: run
            },
            %HostError{
              kind: :error,
              reason: %RuntimeError{message: long},
              import: {long, long},
              run: run
            },
            %HostError{
              kind: :error,
              reason: Enum.to_list(1..100_000),
              stacktrace: [],
              import: {"a", "b"}
            },
            %LoadError{reason: :not_found, source: long},
            %LinkError{
              problems:
                List.duplicate(%{module: long, name: long, wanted: long, reason: long}, 50)
            },
            %DeniedError{
              capability: :wasi,
              denied: List.duplicate(%{module: long, name: long}, 50),
              grant: long
            },
            %ManifestError{reason: :syntax, got: long},
            %CancelledError{reason: long},
            %InternalError{detail: long},
            %LimitError{limit: :fuel, allowed: 1, used: 1, run: run, usage: run.usage},
            # Not even a reason.
            %CallError{},
            %LoadError{},
            %LimitError{}
          ] do
        text = inspect(error, limit: :infinity, printable_limit: :infinity)
        assert byte_size(text) < 3_000
        refute text =~ ~r/[\x00-\x1f\x7f]/
        refute text =~ "hunter2"
        assert String.starts_with?(text, "##{inspect(error.__struct__)}<")
      end
    end

    test "keeps a failed match readable" do
      {:error, error} = Runtime.load_module({:bytes, "no"})
      match = assert_raise MatchError, fn -> {:ok, _} = Process.get(:none, {:error, error}) end
      assert Exception.message(match) =~ "cannot load the module: not WebAssembly"
    end
  end

  test "a source that is no path is not kept" do
    huge = <<0, "asm", 1, 0, 0, 0>> <> String.duplicate("x", 1_000_000)
    assert {:error, %LoadError{reason: :not_found} = error} = Runtime.load_module(huge)
    assert byte_size(error.source) < 5_000
    assert Exception.message(error) =~ "is loaded as {:bytes, binary}"
  end

  test "an uncaught exception is told with its tag and what it carries" do
    for {thrown, words} <- [
          {%{tag: "oops", payload: ["i32 42", "f64 1.5"]}, ~s|: tag "oops" with i32 42, f64 1.5|},
          {%{tag: nil, payload: ["i32 1"]}, ": a tag without a name with i32 1"},
          {%{tag: "plain", payload: []}, ~s|: tag "plain"|}
        ] do
      error = %TrapError{
        code: :uncaught_exception,
        detail: "uncaught exception",
        exception: thrown
      }

      assert Exception.message(error) == "the guest trapped: uncaught exception#{words}"
    end

    wat =
      ~S|(module (tag (export "oops") (param i32)) (func (export "throw") (throw 0 (i32.const 42))))|

    {:ok, module} = Runtime.load_module({:bytes, wat})
    assert {:error, %TrapError{} = error} = Executor.call(module, "throw")
    assert error.exception == %{tag: "oops", payload: ["i32 42"]}
  end

  test "the error of a poisoned instance says by what" do
    assert Exception.message(%CallError{reason: :poisoned}) =~
             "did not end well (Instance.reset/2"

    wat = ~S|(module (func (export "fail") unreachable) (func (export "spin") (loop (br 0))))|
    {:ok, module} = Runtime.load_module({:bytes, wat})

    for {name, words} <- [
          {"fail", "`unreachable`"},
          {"spin", "fuel limit was reached: 1000 allowed"}
        ] do
      instance = Instance.new!(module, fuel: 1_000)
      assert {:error, _first} = Instance.call(instance, name)
      assert {:error, %CallError{reason: :poisoned} = error} = Instance.call(instance, "fail")
      assert Exception.message(error) =~ words
      assert Instance.reset(instance) == :ok
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
