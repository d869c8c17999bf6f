defmodule Mix.Tasks.Wasm.CallTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  @moduletag :tmp_dir
  @compute "priv/wasm/compute.wasm"

  # Each hands its argument back.
  @echo """
  (module
    (func (export "i32") (param i32) (result i32) local.get 0)
    (func (export "i64") (param i64) (result i64) local.get 0)
    (func (export "f32") (param f32) (result f32) local.get 0)
    (func (export "f64") (param f64) (result f64) local.get 0)
    (func (export "v128") (param v128) (result v128 i64) local.get 0 local.get 0 i64x2.extract_lane 0)
    (func (export "externref") (param externref) (result externref) local.get 0)
    (func (export "never") (param (ref extern)))
    (func $self (export "funcref") (param funcref) (result funcref) ref.func $self)
    (func (export "none")))
  """

  setup context do
    file = Path.join(context.tmp_dir, "echo.wat")
    File.write!(file, @echo)
    {:ok, echo: file}
  end

  defp call(argv, input \\ ""), do: run("wasm.call", argv, input)

  describe "a result" do
    test "is printed bare" do
      assert call([@compute, "process", "42"]) == {0, "84\n", ""}
    end

    test "of several values is a line for each" do
      assert call([@compute, "div_mod", "7", "2"]) == {0, "3\n1\n", ""}
    end

    test "of none is nothing", %{echo: echo} do
      assert call([echo, "none"]) == {0, "", ""}
    end

    test "comes with the usage on standard error if asked for" do
      assert {0, "84\n", usage} = call([@compute, "process", "42", "--usage"])
      assert usage =~ "fuel        4 units\n"
      assert usage =~ "peak memory 65536 bytes\n"
      assert usage =~ ~r/^wall time   [\d.]+ microseconds$/m
    end
  end

  describe "a module that imports" do
    @abort ~S"""
    (module
      (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
      (memory (export "memory") 1)
      (data (i32.const 4) "\0a\00\00\00h\00e\00l\00l\00\f6\00")
      (data (i32.const 36) "\08\00\00\00a\00.\00t\00s\00")
      (func (export "fail") (call $abort (i32.const 8) (i32.const 40) (i32.const 3) (i32.const 7)))
      (func (export "silent") (call $abort (i32.const 0) (i32.const -16) (i32.const 3) (i32.const 7)))
      (func (export "fine") (result i32) i32.const 7))
    """

    test "what AssemblyScript does stops with its message", context do
      file = Path.join(context.tmp_dir, "abort.wat")
      File.write!(file, @abort)
      assert call([file, "fine"]) == {0, "7\n", ""}
      assert {1, "", error} = call([file, "fail"])
      assert error =~ "abort: hellö at a.ts:3:7"
      assert {1, "", error} = call([file, "silent"])
      assert error =~ "abort: (none) at (unreadable):3:7"
    end

    @reactor "test/fixtures/wasi/rust_reactor.wasm"

    @wasi ~S"""
    (module
      (import "wasi_snapshot_preview1" "fd_prestat_get" (func $get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "dirs") (result i32) (call $get (i32.const 3) (i32.const 0)))
      (func (export "variables") (result i32)
        (drop (call $env (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))
      (func (export "spin") (loop (br 0))))
    """

    test "WASI is told how that is granted, and has what was", context do
      file = Path.join(context.tmp_dir, "wasi.wat")
      File.write!(file, @wasi)
      assert {2, "", error} = call([file, "variables"])
      assert error =~ "it imports WASI, which is granted with --wasi, --dir and the like"
      assert call([file, "variables", "--wasi"]) == {0, "0\n", ""}
      assert call([file, "variables", "--env", "A=1", "--env", "B=2"]) == {0, "2\n", ""}
      # Bad descriptor, and none.
      assert call([file, "dirs", "--wasi"]) == {0, "8\n", ""}
      assert call([file, "dirs", "--dir", "#{context.tmp_dir}::/here:ro"]) == {0, "0\n", ""}
      assert call([file, "dirs", "--scratch", "/tmp"]) == {0, "0\n", ""}
      # The limits are those of a call.
      assert {1, "", error} = call([file, "spin", "--wasi", "--fuel", "1000"])
      assert error =~ "the fuel limit was reached"
    end

    test "WASI may have a manifest", context do
      file = Path.join(context.tmp_dir, "wasi.wat")
      File.write!(file, @wasi)
      manifest = Path.join(context.tmp_dir, "wasi.toml")
      File.write!(manifest, "[limits]\nfuel = 2000\n\n[capabilities]\nclocks = \"real\"\n")
      assert call([file, "dirs", "--manifest", manifest]) == {0, "8\n", ""}
      assert {1, "", error} = call([file, "spin", "--manifest", manifest])
      assert error =~ ~r/2,?000 units of fuel allowed/
      assert {2, "", error} = call([file, "dirs", "--manifest", manifest, "--scratch", "/tmp"])
      assert error =~ "does not grant what is asked for"
    end

    test "a reactor of a real compiler runs" do
      exports =
        @reactor |> Cybernetic.WASM.Runtime.load_module!() |> Cybernetic.WASM.Module.exports()

      for %{name: name, type: {:function, [], _}} when name != "_initialize" <- exports do
        assert {0, _, _} = call([@reactor, name, "--wasi"])
      end
    end
  end

  describe "imports that nothing is given for" do
    setup %{tmp_dir: dir} do
      file = Path.join(dir, "imports.wat")

      File.write!(file, """
      (module (import "env" "halt" (func $abort (param i32)))
        (func (export "fine") (result i32) (i32.const 7))
        (func (export "abort") (call $abort (i32.const 1))))
      """)

      {:ok, guest: file}
    end

    test "are refused, or trap where that is asked for", %{guest: file} do
      assert {2, "", refused} = call([file, "fine"])
      assert refused =~ ~s|"env" "halt"|
      assert call([file, "fine", "--unknown-imports", "trap"]) == {0, "7\n", ""}
      assert {1, "", trapped} = call([file, "abort", "--unknown-imports", "trap"])
      assert trapped =~ ~s|called the import "env" "halt", which nothing was given for|
      assert refused =~ "--unknown-imports trap runs it without"
      assert {1, json, ""} = call([file, "abort", "--unknown-imports", "trap", "--json"])
      assert json =~ ~s("import":{"module":"env","name":"halt"})
      assert {2, "", _refused} = call([file, "fine", "--unknown-imports=refuse"])
      assert {2, "", wrong} = call([file, "fine", "--unknown-imports", "zero"])
      assert wrong =~ "--unknown-imports must be trap or refuse, got: zero"
    end

    test "of a program, too", %{tmp_dir: dir} do
      file = Path.join(dir, "program.wat")

      File.write!(file, """
      (module (import "env" "halt" (func $abort))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (local i32)
          (drop (call $sizes (i32.const 0) (i32.const 4)))
          (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1)) (then (call $abort)))))
      """)

      assert {2, "", _refused} = run("wasm.run", [file], "")
      assert run("wasm.run", [file, "--unknown-imports", "trap"], "") == {0, "", ""}
      assert {134, "", trapped} = run("wasm.run", [file, "more", "--unknown-imports", "trap"], "")
      assert trapped =~ ~s|the import "env" "halt"|
    end
  end

  describe "an argument" do
    for {type, given, result} <- [
          {"i32", "-5", "-5"},
          {"i32", "+5", "5"},
          {"i32", "0xFF", "255"},
          {"i32", "-0x10", "-16"},
          {"i32", "4294967295", "-1"},
          {"i32", "1_000_000", "1000000"},
          {"i64", "-9223372036854775808", "-9223372036854775808"},
          {"i64", "0xffff_ffff_ffff_ffff", "-1"},
          {"f32", "1.5", "1.5"},
          {"f32", "-inf", "-inf"},
          {"f32", "nan", "nan"},
          {"f32", "-nan:0x1", "-nan:0x1"},
          {"f64", "3", "3.0"},
          {"f64", "-.5", "-0.5"},
          {"f64", "-0", "-0.0"},
          {"f64", "1e-3", "0.001"},
          {"f64", "1_000.25", "1000.25"},
          {"f64", "Inf", "inf"},
          {"f64", "nan:0x4", "nan:0x4"},
          {"externref", "null", "null"},
          {"funcref", "null", "funcref"}
        ] do
      test "of type #{type} may be written #{given}", %{echo: echo} do
        assert call([echo, unquote(type), unquote(given)]) == {0, unquote(result) <> "\n", ""}
      end
    end

    test "of type v128 is hexadecimal, its first lane last", %{echo: echo} do
      assert {0, "0x00000000000000000000000000010002\n65538\n", ""} =
               call([echo, "v128", "0x1_0002"])
    end

    for {type, given} <- [
          {"i32", "x"},
          {"i32", ""},
          {"i32", "1.0"},
          {"i32", "0x"},
          {"i32", "1__0"},
          {"i32", "12a"},
          {"i32", "4294967296"},
          {"i32", "99999999999999999999999999999"},
          {"i32", "-inf"},
          {"i64", "18446744073709551616"},
          {"f32", "1e39"},
          {"f32", "nan:0x800000"},
          {"f64", "1e999"},
          {"f64", "5."},
          {"f64", "0x10"},
          {"f64", "inf:0x1"},
          {"f64", "one"},
          {"v128", "5"},
          {"v128", "0x100000000000000000000000000000000"},
          {"externref", "x"},
          {"never", "null"}
        ] do
      test "of type #{type} may not be written #{inspect(given)}", %{echo: echo} do
        assert {2, "", message} = call([echo, unquote(type), unquote(given)])
        assert message =~ ~r/^mix wasm.call: argument 1 must be .*, got: #{unquote(given)}$/m
      end
    end

    test "is named by its place" do
      assert {2, "", message} = call([@compute, "add", "1", "x"])

      assert message ==
               "mix wasm.call: argument 2 must be an i32: an integer from -2147483648 to 4294967295, got: x\n"
    end

    test "too few or too many says what the function wants" do
      for words <- [["1"], ["1", "2", "3"]] do
        assert {2, "", message} = call([@compute, "add" | words])

        assert message =~
                 "expected 2 value(s) for (func (param i32 i32) (result i32)), got #{length(words)}"
      end
    end

    test "that is a negative number is no option, wherever it stands" do
      assert call([@compute, "--fuel", "1000", "add", "-7", "--usage", "2", "--no-usage"]) ==
               {0, "-5\n", ""}
    end

    test "after -- is never an option" do
      assert call([@compute, "--json", "--", "process", "-4"]) == {0, ~s({"result":-8}\n), ""}
      assert {2, "", message} = call([@compute, "process", "--", "--json"])
      assert message =~ "got: --json"
    end
  end

  describe "the guest's failure" do
    test "by a trap has status 1 and says where" do
      assert {1, "", message} = call([@compute, "div_mod", "7", "0"])

      assert message =~
               ~r/^mix wasm.call: the guest trapped: .*divide by zero\n  in div_mod at offset/
    end

    test "by a limit has status 1 and names it" do
      for {options, limit} <- [
            {["--fuel", "1_000"], "fuel limit was reached: 1,000 units"},
            {["--timeout", "20", "--fuel", "1_000_000_000_000"],
             "timeout limit was reached: 20 milliseconds"},
            {["--max-memory", "1K"], "memory limit was reached: 1,024 bytes"}
          ] do
        assert {1, "", message} = call([@compute, "spin" | options])
        assert message =~ limit
        assert message =~ "(to raise: #{hd(options)})"
      end
    end

    test "comes with the usage if asked for" do
      assert {1, "", message} = call([@compute, "spin", "--fuel", "1000", "--usage"])
      assert message =~ "fuel        1000 units\n"
      assert message =~ "mix wasm.call: the fuel limit was reached"
    end
  end

  describe "memory" do
    test "is bounded in bytes, K, M and G" do
      for {size, pages} <- [{"655_360", "9"}, {"640K", "9"}, {"1m", "15"}, {"1G", "15"}] do
        assert {0, "1\n", ""} = call([@compute, "grow", pages, "--max-memory", size])
      end

      assert {0, "-1\n", ""} = call([@compute, "grow", "10", "--max-memory", "640K"])
    end
  end

  describe "a mistake on the command line" do
    test "without FILE shows the usage" do
      assert {2, "", message} = call([])
      assert message =~ "FILE is missing\nusage: mix wasm.call FILE FUNCTION"
    end

    test "without FUNCTION lists the functions" do
      assert {2, "", message} = call([@compute])
      assert message =~ "FUNCTION is missing; exported are:"
      assert message =~ ~s|  "add" (func (param i32 i32) (result i32))\n|
      refute message =~ "memory"
    end

    test "about the function says which there are" do
      assert {2, "", message} = call([@compute, "proces", "1"])
      assert message =~ ~s(no function is exported as "proces"; exported are: process, add,)
      assert {2, "", message} = call([@compute, "memory"])
      assert message =~ ~s(the export "memory" is a memory, not a function)
    end

    test "about the file is told without a stack trace" do
      for {file, text} <- [
            {"nope.wasm", "cannot load nope.wasm: no such file"},
            {"lib", "cannot load lib: not a regular file"},
            {"mix.exs", "cannot load mix.exs: not WebAssembly"},
            {"", "no such file"}
          ] do
        assert {2, "", "mix wasm.call: " <> message} = call([file, "process"])
        assert message =~ text
        refute message =~ "** ("
      end
    end

    test "about an option names the known ones" do
      for word <- ["--feul", "-x", "--max_memory", "-fuel"] do
        assert {2, "", message} = call([@compute, "add", "1", "2", word])

        assert message =~
                 "unknown option #{word}; known are: --help, --fuel, --timeout, --max-memory"
      end
    end

    test "about an option's value says what it takes" do
      for {words, text} <- [
            {["--fuel"], "the option --fuel needs a value"},
            {["--fuel", "--json"], ~S(the option --fuel needs a value)},
            {["--fuel", "0"],
             "--fuel must be a positive number of units, such as 1_000_000, got: 0"},
            {["--fuel", "-5"], "got: -5"},
            {["--fuel="], "got: "},
            {["--timeout", "2s"], "--timeout must be a positive number of milliseconds"},
            {["--timeout", "99999999999"], "option :timeout must be"},
            {["--max-memory", "1T"], "--max-memory must be a positive number of bytes"},
            {["--max-memory", "K"], "got: K"},
            {["--usage=3"], "the option --usage takes no value, got: 3"}
          ] do
        assert {2, output, message} = call([@compute, "process", "1" | words])
        assert output <> message =~ text
      end
    end

    test "to call what needs host functions says where they can be given" do
      assert {2, "", message} = call(["priv/wasm/digest.wasm", "sha256"])
      assert message =~ ~s(* "env" "read")
      assert message =~ "Host functions can be given only from Elixir"
    end
  end

  describe "with --json" do
    test "results are JSON values", %{echo: echo} do
      assert call([@compute, "process", "42", "--json"]) == {0, ~s({"result":84}\n), ""}
      assert call([@compute, "div_mod", "7", "2", "--json"]) == {0, ~s({"result":[3,1]}\n), ""}
      assert call([echo, "none", "--json"]) == {0, ~s({"result":null}\n), ""}
      assert call([echo, "f64", "0.5", "--json"]) == {0, ~s({"result":0.5}\n), ""}
      assert call([echo, "f64", "-inf", "--json"]) == {0, ~s({"result":"-inf"}\n), ""}
      assert call([echo, "f32", "nan:0x1", "--json"]) == {0, ~s({"result":"nan:0x1"}\n), ""}

      assert call([echo, "v128", "0x1", "--json"]) ==
               {0, ~s({"result":["0x00000000000000000000000000000001",1]}\n), ""}
    end

    test "the usage is part of the object" do
      assert {0, output, ""} = call([@compute, "process", "42", "--json", "--usage"])
      assert output =~ ~r/^{"result":84,"usage":{"fuel":4,"peak_memory":65536,"wall_time":[\d.]+,/
    end

    test "errors are JSON on standard output, with their facts" do
      assert {1, output, ""} = call([@compute, "spin", "--fuel", "1000", "--json", "--usage"])
      assert output =~ ~s({"error":{"kind":"limit","blame":"guest","message":"the fuel limit)
      assert output =~ ~s("limit":"fuel")
      assert output =~ ~s("usage":{"fuel":1000,)
      assert output =~ "(to raise: --fuel)"
      refute output =~ "%Cybernetic"

      assert {1, output, ""} = call([@compute, "fail", "--json"])
      assert output =~ ~s("kind":"trap")
      assert output =~ ~r/"frames":\[{"function":7,"name":"fail","offset":\d+}\]/

      assert {2, output, ""} = call(["nope.wasm", "process", "--json"])
      assert output =~ ~s("kind":"load")
      assert output =~ ~s("reason":"not_found","source":"nope.wasm")

      assert {2, output, ""} = call([@compute, "add", "1", "2", "--json", "--bogus"])

      assert output =~
               ~s({"error":{"kind":"usage","blame":"caller","message":"unknown option --bogus)
    end
  end

  describe "standard input" do
    test "is the file -" do
      assert call(["-", "process", "42"], File.read!(@compute)) == {0, "84\n", ""}
    end

    test "is named in an error" do
      assert {2, "", message} = call(["-", "process"], "hello")
      assert message =~ "cannot load standard input: not WebAssembly"
    end
  end

  test "a name in the module cannot steer the terminal", %{tmp_dir: dir} do
    file = Path.join(dir, "escape.wat")
    File.write!(file, ~S|(module (func (export "\1b[31m red \e2\80\ae")))|)

    for words <- [[], ["nope"]] do
      assert {2, "", message} = call([file | words])
      assert message =~ "red"
      assert message =~ ~r/\A[\n\x20-\x7e]*\z/
    end
  end

  test "--help shows the usage" do
    assert {0, "usage: mix wasm.call FILE FUNCTION" <> _, ""} = call(["--help"])
    assert {0, "usage: mix wasm.call FILE FUNCTION" <> _, ""} = call([@compute, "-h"])
  end

  describe "in a shell" do
    test "status, standard output and error are apart", %{tmp_dir: dir} do
      errors = Path.join(dir, "errors")
      assert {0, "-8\n", _} = shell("mix wasm.call #{@compute} process -4", errors)
      assert {1, "", message} = shell("mix wasm.call #{@compute} fail", errors)
      assert message =~ "mix wasm.call: the guest trapped"
      refute message =~ "** ("
      assert {2, "", message} = shell("mix wasm.call nope.wasm fail", errors)
      assert message =~ "no such file"
    end

    test "standard input passes unchanged in any locale", %{tmp_dir: dir} do
      for locale <- ["C", "C.UTF-8"] do
        assert {0, "84\n", _} =
                 shell(
                   "LC_ALL=#{locale} mix wasm.call - process 42 < #{@compute}",
                   Path.join(dir, "errors")
                 )
      end
    end

    test "a node without address space still answers with the result alone", %{tmp_dir: dir} do
      assert {0, "84\n", _} =
               shell(
                 "ulimit -v 8000000; mix wasm.call #{@compute} process 42",
                 Path.join(dir, "errors")
               )
    end
  end
end
