defmodule Cybernetic.WASM.Executor.Command.ExitTest do
  # How a command ends, and what is none.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Commands, Guests, Programs}

  alias Cybernetic.WASM.{Executor, Host, Instance, Run}
  alias Cybernetic.WASM.{CallError, DeniedError, TrapError}

  describe "an exit code" do
    test "is any of 32 bits" do
      for code <- [
            0,
            1,
            2,
            126,
            127,
            128,
            255,
            256,
            65_535,
            0x7FFF_FFFF,
            0x8000_0000,
            0xFFFF_FFFE,
            0xFFFF_FFFF
          ] do
        imports = f(fn _ctx, _n -> signed(code) end)

        assert {:ok, %Run{exit_code: ^code, result: nil}} =
                 Executor.run(guest(), :start, options(imports: imports))

        assert Executor.call(guest(), :start, options(imports: imports)) == {:ok, code}
        assert Executor.call!(guest(), :start, options(imports: imports)) == code
      end

      assert run!("tool", ["exit", "3"]).exit_code == 3
      assert run!("tool", ["exit", "-1"]).exit_code == 0xFFFF_FFFF
    end

    test "is 0 where the command returns" do
      assert {:ok, %Run{exit_code: 0, result: nil, stdout: "hello, world\n"}} =
               Executor.run(program("hello"), :start, sandbox: :command)

      module = load!(~S|(module (func (export "_start")))|)
      assert {:ok, %Run{exit_code: 0, stdout: ""}} = Executor.run(module, :start)
      assert Executor.call(module, :start) == {:ok, 0}
    end

    test "is none of a function's" do
      assert {:ok, %Run{exit_code: nil, result: 0}} =
               Executor.run(guest(), "take", [1, 1], options([]))
    end

    test "of a function is an error: it should have returned" do
      reactor = program("reactor")

      for code <- [0, 3, 0xFFFF_FFFF] do
        assert {:error, %TrapError{code: :exit, exit_code: ^code, blame: :guest} = error} =
                 Executor.run(reactor, "quit", [signed(code)], sandbox: sandbox())

        assert Exception.message(error) == "the guest exited with #{code}"
      end

      assert {:error, %TrapError{code: :exit, exit_code: 9, run: run}} = call("quit", [9], [])
      assert {run.stdout, run.exit_code} == {"q", nil}

      assert_raise TrapError, "the guest exited with 2", fn ->
        Executor.call!(reactor, "quit", [2], sandbox: sandbox())
      end
    end

    test "in a re-entrant call is told to the host function that made it, and ends the guest whatever that does" do
      quit = fn ctx ->
        {:error, %TrapError{code: :exit, exit_code: 7} = error} = Host.call(ctx, "quit", [7])
        error
      end

      for function <- [fn ctx, _n -> raise quit.(ctx) end, fn ctx, n -> quit.(ctx) && n end] do
        assert {:error, %TrapError{code: :exit, exit_code: 7} = error} =
                 call("ask", [0], imports: f(function))

        assert error.run.stdout == "q"
      end
    end

    test "may come from a module that it is linked with" do
      lib =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func (export "quit") (param i32) (call $exit (local.get 0))))
        """)

      main =
        load!(~S"""
        (module
          (import "lib" "quit" (func $quit (param i32)))
          (func (export "_start") (call $quit (i32.const 5)) unreachable))
        """)

      options = [imports: %{"lib" => lib}, sandbox: sandbox()]
      assert {:ok, %Run{exit_code: 5}} = Executor.run(main, :start, options)
      assert Executor.call(main, :start, options) == {:ok, 5}
    end

    test "may come from a start section; of one that is linked first it is no command's end" do
      module = fn import, code ->
        load!("""
        (module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          #{import}
          (memory (export "memory") 1)
          (func $go (call $exit (i32.const #{code})))
          (start $go)
          (func (export "_start") unreachable))
        """)
      end

      lib = load!(~S|(module (func (export "f")))|)

      # Of the numbers one is that of its place among the linked modules.
      for code <- [0, 1, 7] do
        assert {:ok, %Run{exit_code: ^code}} =
                 Executor.run(module.("", code), :start, sandbox: sandbox())

        linked = module.(~S|(import "lib" "f" (func))|, code)
        options = [imports: %{"lib" => lib}, sandbox: sandbox()]

        assert {:error, %TrapError{code: :exit, exit_code: ^code}} =
                 Executor.run(linked, :start, options)

        assert_raise TrapError, fn ->
          Executor.stream(linked, :start, options) |> Enum.to_list()
        end
      end
    end
  end

  defp signed(code), do: if(code > 0x7FFF_FFFF, do: code - 0x1_0000_0000, else: code)

  describe "what cannot be run" do
    test "a module without _start" do
      assert {:error, %CallError{reason: :no_such_export, export: "_start"} = error} =
               Executor.run(compute(), :start)

      assert Exception.message(error) =~ ~s|no function is exported as "_start"|
      assert Exception.message(error) =~ "exported are: process"

      module = load!(~S|(module (memory (export "_start") 1))|)
      assert {:error, %CallError{export: "_start"}} = Executor.run(module, :start)
    end

    test "a _start of another type than the interface's" do
      for type <- ["(param i32)", "(result i32) i32.const -5", "(result f64) f64.const 1"] do
        module = load!(~s|(module (func (export "_start") #{type}))|)
        assert {:error, %CallError{}} = Executor.run(module, :start)
      end
    end

    test "a command with a function's arguments" do
      for args <- [[1], ["x"], :x, "x", %{}, nil] do
        for call <- [&Executor.run/4, &Executor.call/4, &Executor.async/4, &Executor.stream/4] do
          error =
            assert_raise ArgumentError, fn ->
              call.(program("tool"), :start, args, sandbox: sandbox())
            end

          assert Exception.message(error) =~
                   "a command takes its arguments as an option: run(module, :start, args: [...])"
        end
      end
    end

    test "a live instance of what is no program" do
      instance = Instance.new!(program("reactor"), sandbox: sandbox())

      assert {:error, %CallError{reason: :no_such_export}} =
               instance |> Executor.async(:start) |> Executor.await()

      assert_raise CallError, fn -> instance |> Executor.stream(:start) |> Enum.to_list() end

      assert_raise ArgumentError, ~r/a live instance is called with/, fn ->
        Executor.run(instance, :start)
      end

      assert {:error, %CallError{reason: :no_such_export}} = Instance.call(instance, :start)

      assert_raise ArgumentError, ~r/unknown option of a call on an instance :args/, fn ->
        Instance.run(Instance.new!(program("tool"), sandbox: sandbox()), :start, args: [])
      end
    end

    test "an atom that is not :start" do
      assert_raise ArgumentError,
                   ~r/must be a string, or :start for a command, got: :_start/,
                   fn ->
                     Executor.run(program("tool"), :_start)
                   end
    end

    test "with options that there are not" do
      assert_raise ArgumentError,
                   ~r/unknown call option :arguments; known are: .*:args, :program, :env, :stdin/,
                   fn ->
                     Executor.run(program("tool"), :start, arguments: [])
                   end

      assert_raise ArgumentError, ~r/unknown call option :clocks/, fn ->
        Executor.run(program("tool"), :start, clocks: :real)
      end
    end

    test "without a sandbox: the refusal says what to add" do
      assert {:error, %DeniedError{capability: :wasi} = error} =
               Executor.run(program("hello"), :start)

      assert Exception.message(error) =~ "sandbox: :command"

      # Also where the module asks for nothing, but the call gives something.
      for {option, given} <- [args: ["x"], env: %{"A" => "1"}, stdin: "x"] do
        module = load!(~S|(module (func (export "_start")))|)

        assert {:error, %DeniedError{capability: :wasi} = error} =
                 Executor.run(module, :start, [{option, given}])

        assert Exception.message(error) =~ "the call gives #{option}:"
      end
    end
  end
end
