defmodule Cybernetic.WASM.Executor.Command.ArgumentsTest do
  # What a command is given when it starts: arguments and environment.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Commands, Guests, Programs}

  alias Cybernetic.WASM.{Executor, Instance, Run}
  alias Cybernetic.WASM.{CallError, DeniedError}

  describe "a command's arguments" do
    test "come after the program's name" do
      options =
        options(args: ["one", "", "zwei drei", "čtyři", "-x=\"y\""], imports: f(fn _, _ -> 0 end))

      assert {:ok, run} = Executor.run(guest(), :start, options)

      assert run.stdout == "main.wasm\0one\0\0zwei drei\0čtyři\0-x=\"y\"\0"
      assert {:ok, %Run{stdout: "main.wasm\0"}} = Executor.run(guest(), :start, options(args: []))

      assert {:ok, %Run{stdout: "main.wasm\0"}} =
               Executor.run(guest(), :start, options([]) |> Keyword.delete(:args))
    end

    test "tell nothing of the file that the module is from" do
      path = Path.join(directory(), "named.wat")
      File.write!(path, wat())
      module = Cybernetic.WASM.Runtime.load_module!(path)
      {:ok, run} = Executor.run(module, :start, options(args: ["x"]))
      assert run.stdout == "main.wasm\0x\0"
    end

    test "have the name before them that the call gives" do
      run = fn name -> Executor.run(guest(), :start, options(program: name, args: ["x"])) end

      for name <- ["ls", "", "/bin/ls", "čtyři"] do
        assert {:ok, run} = run.(name)
        assert run.stdout == name <> "\0x\0"
      end

      # `_start` exits, which ends an instance.
      instance = Instance.new!(guest(), options(program: "an instance", args: ["y"]))
      assert {:error, error} = Instance.run(instance, "_start")
      assert error.run.stdout == "an instance\0y\0"

      assert_raise ArgumentError, ~r/unknown option of a call on an instance :program/, fn ->
        Instance.call(instance, "ask", [1], program: "x")
      end

      for name <- [nil, :ls, ~c"ls", "a\0b", <<255>>, String.duplicate("x", 4_097)] do
        assert_raise ArgumentError, ~r/option :program must be a UTF-8 string/, fn ->
          run.(name)
        end
      end
    end

    test "may be given as the third argument or the fourth" do
      for call <- [
            fn ->
              Executor.run(program("tool"), :start, args: ["args", "x"], sandbox: sandbox())
            end,
            fn ->
              Executor.run(program("tool"), :start, [args: ["args", "x"]], sandbox: sandbox())
            end,
            fn ->
              Executor.run(program("tool"), :start, [], args: ["args", "x"], sandbox: sandbox())
            end
          ] do
        assert {:ok, %Run{stdout: "x\n", exit_code: 0, result: nil}} = call.()
      end
    end

    test "reach a function that is no command, too" do
      module =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "count") (result i32)
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (i32.load (i32.const 0))))
        """)

      assert Executor.call(module, "count", [], sandbox: :command, args: ["a", "b"]) == {:ok, 3}
      assert Executor.call(module, "count", [], sandbox: :command) == {:ok, 1}
    end

    test "are many, within the bound" do
      args = for n <- 1..2_000, do: "argument #{n}"
      assert run!("tool", ["args" | args]).stdout == Enum.map_join(args, &"#{&1}\n")
    end

    test "must be proper text" do
      for args <- ["x", ["x" | "y"], [:x], [?x], [["x"]], ["a\0b"], [<<255>>], nil, %{}] do
        assert_raise ArgumentError, ~r/option :args must be a list of UTF-8 strings/, fn ->
          run("tool", args)
        end
      end

      assert_raise ArgumentError, ~r/131072 bytes/, fn ->
        run("tool", [String.duplicate("x", 131_072)])
      end
    end
  end

  describe "a command's environment" do
    test "is what the call gives, and nothing of the VM's" do
      System.put_env("CYBERNETIC_WASM_TEST", "the VM's")
      env = %{"LANG" => "C", "EMPTY" => "", "MODE" => "a=b ö"}
      options = [sandbox: sandbox(env: :any), env: env]
      assert run!("tool", ["env"], options).stdout == "EMPTY=\nLANG=C\nMODE=a=b ö\n"
      assert run!("tool", ["env"], sandbox: sandbox(env: :any)).stdout == ""
      assert run!("tool", ["env"]).stdout == ""
      assert run!("tool", ["env"], sandbox: :command, env: [{"A", "1"}]).stdout == "A=1\n"
    end

    test "joins the sandbox's own" do
      sandbox = sandbox(env: [{"A", "1"}, {"B", "2"}])
      assert run!("tool", ["env"], sandbox: sandbox).stdout == "A=1\nB=2\n"
      # The very value that is granted may be given.
      assert run!("tool", ["env"], sandbox: sandbox, env: %{"A" => "1"}).stdout == "A=1\nB=2\n"
    end

    test "holds no more than the sandbox grants, and the refusal shows no value" do
      for {sandbox, names} <- [
            {sandbox(), "A, B"},
            {sandbox(env: [{"A", "hunter2"}]), "B"},
            {sandbox(env: [{"A", "other"}]), "A, B"}
          ] do
        assert {:error, %DeniedError{capability: :env} = error} =
                 run("tool", ["env"], sandbox: sandbox, env: %{"A" => "hunter2", "B" => "hunter3"})

        assert Exception.message(error) =~ "the call gives #{names};"
        refute Exception.message(error) =~ "hunter"
      end
    end

    test "must be names and values" do
      for env <- [
            %{"A" => 1},
            %{"A=B" => "1"},
            %{"" => "1"},
            %{"A" => "1\0"},
            "A=1",
            [A: 1]
          ] do
        error =
          assert_raise ArgumentError, fn -> run("tool", ["env"], sandbox: :command, env: env) end

        assert Exception.message(error) =~ "env"
      end
    end
  end

  describe "options in the place of arguments" do
    test "are told where they belong" do
      for call <- [
            fn -> Executor.call(guest(), "ask", sandbox: :command, fuel: 5) end,
            fn -> Executor.run(guest(), "ask", timeout: 5) end,
            fn -> Instance.call(Instance.new!(guest(), options([])), "ask", timeout: 5) end
          ] do
        error = assert_raise ArgumentError, call
        assert error.message =~ "options come after the list of arguments"
      end

      # Any other list may be one of arguments.
      assert {:error, %CallError{reason: :type}} = call("ask", [other: 1], [])
    end

    test "may be grants, which belong into the sandbox" do
      error = assert_raise ArgumentError, fn -> call("ask", [1], filesystem: []) end
      assert error.message =~ "a grant belongs into the sandbox"
    end
  end
end
