defmodule Mix.Tasks.Wasm.RunTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  @moduletag :tmp_dir
  @hello "test/fixtures/wasi/hello.wasm"
  @tool "test/fixtures/wasi/tool.wasm"
  @files "test/fixtures/wasi/files.wasm"
  @report "test/fixtures/wasi/rust_report.wasm"

  # Asks without ending the line, and greets whoever answers.
  @prompt """
  (module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\\40\\00\\00\\00\\06\\00\\00\\00\\50\\00\\00\\00\\64\\00\\00\\00")
    (data (i32.const 64) "name? ")
    (func (export "_start")
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 12)))
      (i32.store (i32.const 0) (i32.const 80))
      (i32.store (i32.const 4) (i32.load (i32.const 12)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
  """

  defp wasm_run(argv, input \\ ""), do: run("wasm.run", argv, input)

  defp write!(context, name, text) do
    path = Path.join(context.tmp_dir, name)
    File.write!(path, text)
    path
  end

  describe "a program" do
    test "has the command's standard streams" do
      assert wasm_run([@hello]) == {0, "hello, world\n", ""}
      assert wasm_run([@tool, "cat"], "some\ntext") == {0, "some\ntext", ""}
      assert wasm_run([@tool, "stderr", "wörds"]) == {0, "", "wörds\n"}
    end

    test "may read and write any bytes" do
      bytes = <<"é", 0, 255, 10, 13, 10, 0xC3>>
      assert wasm_run([@tool, "cat"], bytes) == {0, bytes, ""}
    end

    test "leaves devices as it found them" do
      script = fn -> IO.inspect(:io.getopts() |> Keyword.take([:encoding])) end
      before = ExUnit.CaptureIO.capture_io(script)
      after_it = ExUnit.CaptureIO.capture_io(fn -> wasm_run([@hello]) && script.() end)
      assert after_it == before
    end

    test "has the exit status of its exit code, which is not 0 where that is not" do
      for {code, status} <- [{0, 0}, {1, 1}, {255, 255}, {256, 255}, {257, 1}, {-1, 255}] do
        assert wasm_run([@tool, "exit", "#{code}"]) == {status, "", ""}
      end
    end

    test "has standard output alone for what it wrote before it failed" do
      assert {64, "", "no such command" <> _} = wasm_run([@tool, "nope"])
    end

    test "in another language runs as well", context do
      lines = ~s({"level":"info"}\n{"level":"warn"}\n{"level":"info"}\n)
      argv = [@report, "--arg", "--keep", "/kept", "--dir", "#{context.tmp_dir}::/kept"]
      assert {0, output, ""} = wasm_run(argv ++ ["--env", "LANG=sv"], lines)
      assert output =~ "info 2\nwarn 1\nlang sv\n"
      assert File.read!(Path.join(context.tmp_dir, "counts.txt")) =~ "info 2\n"
    end

    test "may be a file in the text format, or standard input" do
      wat = ~S|(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 0) (func (export "_start") (call 0 (i32.const 7))))|

      assert wasm_run(["-"], wat) == {7, "", ""}
    end
  end

  describe "arguments" do
    test "are what is no option, in their order, and all after --" do
      assert {0, "a\n-5\n--env\n-\nb\n--usage\n-x\n", ""} =
               wasm_run(
                 [@tool, "args", "a", "-5", "--arg", "--env", "-", "b", "--"] ++ ["--usage", "-x"]
               )
    end

    test "may come before the file" do
      assert wasm_run(["--arg", "args", @tool, "a"]) == {0, "a\n", ""}
      assert wasm_run(["--", @tool, "args", "--help"]) == {0, "--help\n", ""}
    end

    test "may be empty and of any characters" do
      assert wasm_run([@tool, "args", "", "søren", "a b"]) == {0, "\nsøren\na b\n", ""}
    end
  end

  describe "the environment" do
    test "is empty but for what is given" do
      assert wasm_run([@tool, "env"]) == {0, "", ""}

      assert wasm_run([@tool, "env", "--env", "B=2=3", "--env", "A=", "--env", "B=4"]) ==
               {0, "A=\nB=4\n", ""}
    end

    test "has the shell's value for a name alone, if there is one" do
      System.put_env("WASM_RUN_TEST", "from the shell")
      on_exit(fn -> System.delete_env("WASM_RUN_TEST") end)

      assert wasm_run([@tool, "env", "--env", "WASM_RUN_TEST", "--env", "WASM_RUN_NONE"]) ==
               {0, "WASM_RUN_TEST=from the shell\n", ""}
    end

    test "has no secret by its name alone" do
      System.put_env("WASM_RUN_TOKEN", "hunter2")
      on_exit(fn -> System.delete_env("WASM_RUN_TOKEN") end)

      assert {2, "", message} = wasm_run([@tool, "env", "--env", "WASM_RUN_TOKEN"])
      assert message =~ ~S|--env WASM_RUN_TOKEN="$WASM_RUN_TOKEN"|
      refute message =~ "hunter2"

      assert wasm_run([@tool, "env", "--env", "WASM_RUN_TOKEN=mine"]) ==
               {0, "WASM_RUN_TOKEN=mine\n", ""}
    end
  end

  describe "a directory" do
    setup context do
      {:ok, inside: write!(context, "inside.txt", "inside\n")}
    end

    test "is there under the path that it is given, to read and write", %{tmp_dir: dir} do
      for mode <- ["", ":rw"] do
        grant = ["--dir", "#{dir}::/d#{mode}"]
        assert wasm_run([@files, "read", "/d/inside.txt"] ++ grant) == {0, "inside\n", ""}
        assert {0, _, ""} = wasm_run([@files, "write", "/d/made", "text"] ++ grant)
        assert File.read!(Path.join(dir, "made")) == "text"
        File.rm!(Path.join(dir, "made"))
      end
    end

    test "is for reading only with :ro", %{tmp_dir: dir} do
      grant = ["--dir", "#{dir}::/d:ro"]
      assert wasm_run([@files, "read", "/d/inside.txt"] ++ grant) == {0, "inside\n", ""}
      assert {1, "write " <> _, ""} = wasm_run([@files, "write", "/d/made", "text"] ++ grant)
      refute File.exists?(Path.join(dir, "made"))
    end

    test "alone is there under its own path", %{tmp_dir: dir, inside: inside} do
      assert wasm_run([@files, "read", inside, "--dir", dir]) == {0, "inside\n", ""}
      assert wasm_run([@files, "read", inside, "--dir", "#{dir}/:ro"]) == {0, "inside\n", ""}
      relative = Path.relative_to_cwd(dir)
      assert relative != dir

      assert {0, "inside\n", ""} =
               wasm_run([@files, "read", "/#{relative}/inside.txt", "--dir", relative])

      assert {0, "inside\n", ""} =
               wasm_run([@files, "read", "#{relative}/inside.txt", "--dir", "."])
    end

    test "is one of several", %{tmp_dir: dir} do
      File.mkdir!(Path.join(dir, "b"))

      argv = [
        @files,
        "write",
        "/b/made",
        "text",
        "--dir",
        "#{dir}::/a:ro",
        "--dir",
        "#{dir}/b::/b"
      ]

      assert {0, _, ""} = wasm_run(argv)
      assert File.read!(Path.join(dir, "b/made")) == "text"
    end

    test "is not there unless it is granted", %{inside: inside} do
      assert {1, "read " <> _, ""} = wasm_run([@files, "read", inside])
    end

    test "that cannot be granted is a mistake", %{tmp_dir: dir} do
      for {grant, text} <- [
            {"#{dir}/nope::/d", "there is no directory #{dir}/nope"},
            {"#{dir}/inside.txt::/d", "there is no directory"},
            {"::/d", "there is no directory"},
            {"#{dir}::d", "an absolute path as the guest's"},
            {"#{dir}::/a/../b", "without .."}
          ] do
        assert {2, "", message} = wasm_run([@hello, "--dir", grant])
        assert message =~ text
      end

      assert {2, "", message} = wasm_run([@hello, "--dir", "#{dir}::/d", "--scratch", "/d"])
      assert message =~ "two directories"
    end
  end

  test "a scratch directory is empty, and removed afterwards", context do
    tmp = System.get_env("TMPDIR")
    System.put_env("TMPDIR", context.tmp_dir)

    on_exit(fn -> if tmp, do: System.put_env("TMPDIR", tmp), else: System.delete_env("TMPDIR") end)

    assert wasm_run([@files, "ls", "/s", "--scratch", "/s"]) == {0, "", ""}
    assert wasm_run([@files, "read", "/dev/null", "--null"]) == {0, "", ""}
    assert File.ls!(context.tmp_dir) == []
    assert {0, _, ""} = wasm_run([@files, "files", "/s", "500", "--scratch", "/s"])
    assert File.ls!(context.tmp_dir) == []
  end

  test "is told the file's name, or the one that is given", context do
    wat =
      Cybernetic.WASM.Commands.wat()
      |> String.replace(~s|(import "env" "f" (func $f (param i32) (result i32)))|, "")

    wat =
      String.replace(
        wat,
        "(memory (export \"memory\") 4)",
        "(memory (export \"memory\") 4) (func $f (param i32) (result i32) (local.get 0))"
      )

    path = write!(context, "named.wat", wat)
    assert wasm_run([path, "x"]) == {0, "named.wat\0x\0", ""}
    assert wasm_run([path, "x", "--program", "ls"]) == {0, "ls\0x\0", ""}
  end

  test "has a null device where one is asked for" do
    assert {0, "", ""} = wasm_run([@files, "read", "/dev/null", "--null"])
    assert {1, "read " <> _, _} = wasm_run([@files, "read", "/dev/null"])
  end

  describe "what is not repeatable" do
    test "is with a seed and a fixed clock" do
      argv = [@tool, "random", "16", "--random-seed"]
      assert {0, seven, ""} = wasm_run(argv ++ ["7"])
      assert {0, ^seven, ""} = wasm_run(argv ++ ["0x7"])
      assert {0, eight, ""} = wasm_run(argv ++ ["8"])
      assert eight != seven

      assert {0, "realtime 1000000000\n" <> _, ""} =
               wasm_run([@tool, "now", "--clock", "fixed:1_000_000_000"])

      # A day would be over the test's own time.
      assert {0, "slept 1 ok\n", ""} =
               wasm_run([@tool, "sleep", "86400000", "--clock", "fixed:0"])
    end

    test "is real by default" do
      argv = [@tool, "random", "16"]
      assert {{0, one, ""}, {0, other, ""}} = {wasm_run(argv), wasm_run(argv)}
      assert one != other

      assert {0, "realtime " <> time, ""} = wasm_run([@tool, "now"])
      assert {nanoseconds, "\n" <> _} = Integer.parse(time)
      assert abs(System.os_time(:nanosecond) - nanoseconds) < 3_600_000_000_000
    end
  end

  describe "a program that does not end well" do
    test "by a trap has status 134, after what it wrote" do
      assert {134, "", message} = wasm_run([@tool, "abort"])
      assert message =~ ~r/^mix wasm.run: the guest trapped: .*unreachable/m
    end

    test "by a limit has status 134, and the limit is named" do
      for {options, limit} <- [
            {["--fuel", "1_000"], "fuel limit was reached: 1,000 units"},
            {["--timeout", "50"], "timeout limit was reached: 50 milliseconds"},
            {["--max-memory", "1K"], "memory limit was reached: 1,024 bytes"}
          ] do
        assert {134, "", message} = wasm_run([@tool, "spin" | options])
        assert message =~ "mix wasm.run: the " <> limit
        assert message =~ "(to raise: #{hd(options)})"
      end
    end

    test "has more time and fuel than the configured call" do
      assert {134, "", message} = wasm_run([@tool, "spin", "--fuel", "1_000_000_001"])
      assert message =~ "1,000,000,001 units"
    end

    test "tells what it used if asked for" do
      assert {134, "", message} = wasm_run([@tool, "spin", "--fuel", "1000000", "--usage"])
      assert message =~ ~r/\Afuel        1000000 units\n(.*\n)+mix wasm.run: the fuel limit/
      assert {3, "", message} = wasm_run([@tool, "exit", "3", "--usage"])
      assert message =~ ~r/\Afuel        \d+ units\n(.*\n)+host calls  \d+\n\z/
    end
  end

  test "much output is no flood" do
    assert {0, output, ""} = wasm_run([@tool, "flood", "12000000"])
    assert byte_size(output) == 12_000_000
  end

  describe "a mistake on the command line" do
    test "without FILE shows the usage" do
      for argv <- [[], ["--arg", "a"], ["--usage"]] do
        assert {2, "", message} = wasm_run(argv)
        assert message =~ "FILE is missing\nusage: mix wasm.run FILE [ARG...]"
      end
    end

    test "about an option is told" do
      for {words, text} <- [
            {["-l"], "unknown option -l; known are: --help, --arg,"},
            {["--dir"], "the option --dir needs a value"},
            {["--clock", "1"], "--clock must be fixed:N, N nanoseconds, got: 1"},
            {["--clock", "fixed:x"], "--clock must be"},
            {["--clock", "fixed:-1"], "option :clocks must be"},
            {["--random-seed", "x"], "--random-seed must be an integer, got: x"},
            {["--random-seed", "-1"], "option :random must be"},
            {["--scratch", "s"], "an absolute path as the guest's"},
            {["--env", "=x"], "a name must not be empty"},
            {["--timeout", "2s"], "--timeout must be a positive number of milliseconds"},
            {["--manifest", "nope.toml"], "nope.toml"}
          ] do
        assert {2, "", "mix wasm.run: " <> message} = wasm_run([@hello | words])
        assert message =~ text
        refute message =~ "** ("
      end
    end

    test "about the program is told", context do
      library = write!(context, "library.wat", ~S|(module (func (export "f")))|)

      importing =
        write!(
          context,
          "import.wat",
          ~S|(module (import "env" "log" (func)) (func (export "_start")))|
        )

      for {file, text} <- [
            {"nope.wasm", "cannot load nope.wasm: no such file"},
            {"mix.exs", "not WebAssembly"},
            {library, ~s|no function is exported as "_start"; exported are: f|},
            {importing, "Host functions can be given only from Elixir"}
          ] do
        assert {2, "", "mix wasm.run: " <> message} = wasm_run([file])
        assert message =~ text
      end
    end
  end

  test "--help shows the usage" do
    assert {0, "usage: mix wasm.run FILE [ARG...]" <> _, ""} = wasm_run(["--help"])
    assert {0, "usage: mix wasm.run FILE [ARG...]" <> _, ""} = wasm_run([@tool, "args", "-h"])
  end

  describe "a manifest" do
    setup context do
      File.mkdir!(Path.join(context.tmp_dir, "data"))
      write!(context, "data/inside.txt", "inside\n")
      :ok
    end

    defp manifest(context, text), do: ["--manifest", write!(context, "module.toml", text)]

    test "grants what is in it and nothing else", context do
      manifest =
        manifest(context, """
        [capabilities]
        filesystem = [{ host = "data", guest = "/data", mode = "rw" }]
        env = [{ name = "MODE", value = "fast" }]
        stdio = { stdout = "captured" }
        """)

      assert wasm_run([@files, "read", "/data/inside.txt"] ++ manifest) == {0, "inside\n", ""}
      assert wasm_run([@tool, "env"] ++ manifest) == {0, "MODE=fast\n", ""}

      assert wasm_run([@tool, "now"] ++ manifest) ==
               {0, "realtime notcapable\nmonotonic notcapable\n", ""}

      assert {0, "", ""} = wasm_run([@tool, "stderr", "words"] ++ manifest)
      assert {1, "", ""} = wasm_run([@tool, "cat"] ++ manifest, "input")
    end

    test "that captures the streams leaves them to the shell", context do
      for stdio <- ["captured", "streamed", "inherited"] do
        manifest = manifest(context, "[capabilities]\nstdio = \"#{stdio}\"")
        assert wasm_run([@tool, "upper"] ++ manifest, "input\n") == {0, "INPUT\n", ""}
      end
    end

    test "is narrowed by options", context do
      manifest =
        manifest(context, """
        [capabilities]
        filesystem = [{ host = "data", guest = "/data", mode = "ro" }, { host = ".", guest = "/all", mode = "ro" }]
        scratch = "/tmp"
        clocks = "real"
        env = "any"
        stdio = "captured"
        """)

      dir = Path.join(context.tmp_dir, "data")
      argv = [@files, "ls", "/all", "--dir", "#{dir}::/data:ro"]
      assert {0, "data/\nmodule.toml\n", ""} = wasm_run([@files, "ls", "/all"] ++ manifest)
      assert {0, "", ""} = wasm_run([@files, "ls", "/tmp"] ++ manifest)
      assert {1, "ls " <> _, ""} = wasm_run(argv ++ manifest)
      assert {0, "A=1\n", ""} = wasm_run([@tool, "env", "--env", "A=1"] ++ manifest)

      assert {0, "realtime 5\n" <> _, ""} =
               wasm_run([@tool, "now", "--clock", "fixed:5"] ++ manifest)
    end

    test "is not widened by options", context do
      manifest =
        manifest(context, """
        [capabilities]
        filesystem = [{ host = "data", guest = "/data", mode = "ro" }]
        clocks = { fixed = 3 }
        stdio = "captured"
        """)

      for {options, text} <- [
            {["--dir", "lib::/lib:ro"], "filesystem: granted: \"/data\" from"},
            {["--dir", "#{context.tmp_dir}/data::/data:rw"],
             "filesystem: granted: \"/data\" from"},
            {["--scratch", "/s"], "filesystem: granted: \"/data\" from"},
            {["--clock", "fixed:4"], "clocks: granted: fixed at 3 ns"},
            {["--random-seed", "4"], "random: refused"},
            {["--env", "A=1"], "does not grant env: the call gives A"}
          ] do
        assert {2, "", message} = wasm_run([@tool, "env"] ++ options ++ manifest)
        assert message =~ text
      end
    end

    test "bounds the limits, and options only lower them", context do
      manifest =
        manifest(context, "[capabilities]\nstdio = \"captured\"\n[limits]\nfuel = 1_000_000")

      assert {134, "", message} = wasm_run([@tool, "spin", "--fuel", "5_000_000"] ++ manifest)
      assert message =~ "1,000,000 units"
      assert {134, "", message} = wasm_run([@tool, "spin", "--fuel", "500_000"] ++ manifest)
      assert message =~ "500,000 units"
    end

    test "leaves the other limits as they are without one", context do
      manifest = manifest(context, "[capabilities]\nstdio = \"captured\"")
      assert {0, output, ""} = wasm_run([@tool, "flood", "12000000"] ++ manifest)
      assert byte_size(output) == 12_000_000
    end

    test "has to be of this module", context do
      digest = "blake3:" <> String.duplicate("0", 64)

      manifest =
        manifest(context, "[module]\ndigest = \"#{digest}\"\n[capabilities]\nwasi = true")

      assert {2, "", message} = wasm_run([@hello] ++ manifest)
      assert message =~ "module.toml:2: module.digest"
    end
  end

  describe "in a shell" do
    test "status, standard output and error are the program's", context do
      errors = Path.join(context.tmp_dir, "errors")
      assert {0, "hello, world\n", _} = shell("mix wasm.run #{@hello}", errors)
      assert {3, "", _} = shell("mix wasm.run #{@tool} exit 3", errors)
      assert {0, "", "words\n"} = shell("mix wasm.run #{@tool} stderr words", errors)
      assert {134, "", message} = shell("mix wasm.run #{@tool} abort", errors)
      assert message =~ "mix wasm.run: the guest trapped"
      refute message =~ "** ("
    end

    # Line by line, OTP's device would drop each "\r" before a line feed, and the line that has no end.
    test "bytes pass unchanged in any locale", context do
      errors = Path.join(context.tmp_dir, "errors")
      bytes = <<"é\r\n", 0, 255, 0xC3, "no end">>
      input = write!(context, "input", bytes)

      for locale <- ["C", "C.UTF-8"] do
        assert {0, ^bytes, _} =
                 shell(
                   "(cat #{input}; sleep 1) | LC_ALL=#{locale} mix wasm.run #{@tool} cat",
                   errors
                 )

        assert {0, "", "né\n"} = shell("LC_ALL=#{locale} mix wasm.run #{@tool} stderr né", errors)
      end
    end

    test "arguments and variables are as typed in any locale", context do
      errors = Path.join(context.tmp_dir, "errors")
      File.mkdir!(Path.join(context.tmp_dir, "dé"))
      write!(context, "dé/ü", "inside\n")

      for locale <- ["C", "C.UTF-8"] do
        line =
          "LC_ALL=#{locale} WORD=wörd mix wasm.run --dir '#{context.tmp_dir}/dé::/d' --env WORD"

        assert {0, "né\n", _} = shell("#{line} #{@tool} args né", errors)
        assert {0, "WORD=wörd\n", _} = shell("#{line} #{@tool} env", errors)
        assert {0, "inside\n", _} = shell("#{line} #{@files} read /d/ü", errors)
      end
    end

    test "megabytes without a line pass unchanged", context do
      input = write!(context, "input", bytes = :rand.bytes(5_000_000))
      errors = Path.join(context.tmp_dir, "errors")
      assert {0, output, _} = shell("mix wasm.run #{@tool} cat < #{input}", errors)
      assert output == bytes
    end

    test "a reader that goes ends the program without a word", context do
      errors = Path.join(context.tmp_dir, "errors")
      status = Path.join(context.tmp_dir, "status")

      line = "(mix wasm.run #{@tool} flood-forever; echo $? > #{status}) | head -c 3"
      assert {0, "xxx", message} = shell(line, errors)
      assert File.read!(status) == "141\n"
      refute message =~ ~r/wasm.run|\*\*|terminat/

      line = "(mix wasm.run #{@tool} flood-forever 2; echo $? > #{status}) 2>&1 | head -c 3"
      assert {0, "xxx", _} = shell(line, errors)
      assert File.read!(status) == "141\n"
    end

    unless File.exists?("/dev/full"), do: @tag(skip: "there is no /dev/full")

    test "output that cannot be written is told", context do
      errors = Path.join(context.tmp_dir, "errors")

      for program <- [@hello, "#{@tool} flood-forever"] do
        assert {1, "", message} = shell("mix wasm.run #{program} > /dev/full", errors)
        assert message =~ "mix wasm.run: the output cannot be written: no space left on device"
      end
    end

    test "each line is answered before the next, and its end is the program's" do
      port = open("exec mix wasm.run #{@tool} upper")

      for {line, answer} <- [{"one\n", "ONE\n"}, {"two\n", "TWO\n"}] do
        Port.command(port, line)
        assert await(port, answer) == answer
      end

      terminate(port)
      assert await_status(port) == {"", 143}
    end

    test "the deadline holds while the program waits for input" do
      port = open("exec mix wasm.run #{@tool} upper --timeout 300 2>/dev/null")
      assert await_status(port) == {"", 134}
    end

    test "a directory of its own is removed when it is terminated", context do
      port = open("TMPDIR=#{context.tmp_dir} exec mix wasm.run #{@tool} upper --scratch /s")
      Port.command(port, "one\n")
      assert await(port, "ONE\n") == "ONE\n"
      assert ["cybernetic-wasm-" <> _] = File.ls!(context.tmp_dir)
      terminate(port)
      assert await_status(port) == {"", 143}
      assert File.ls!(context.tmp_dir) == []
    end

    unless System.find_executable("script"),
      do: @tag(skip: "script of util-linux is not installed")

    test "a terminal shows a prompt at once, and sends a line", context do
      prompt = write!(context, "prompt.wat", @prompt)
      port = open("exec script -qefc 'mix wasm.run #{prompt}' /dev/null")
      assert await(port, "name? ") =~ ~r/name\? \z/
      Port.command(port, "Ada\n")
      # The terminal's own echo comes first.
      assert {"Ada\r\nAda\r\n", 0} = await_status(port)
    end

    unless System.find_executable("script"),
      do: @tag(skip: "script of util-linux is not installed")

    test "a terminal ends the input by Ctrl-D" do
      port = open("exec script -qefc 'mix wasm.run #{@tool} upper; echo $?' /dev/null")
      Port.command(port, "line\n")
      assert await(port, "LINE\r\n") =~ "LINE\r\n"
      Port.command(port, <<4>>)
      assert {output, 0} = await_status(port)
      assert output =~ "0\r\n"
    end
  end

  defp open(line) do
    options = [:binary, :exit_status, args: ["-c", line], env: [{'MIX_ENV', 'test'}]]
    Port.open({:spawn_executable, System.find_executable("sh")}, options)
  end

  defp await(port, text, output \\ "") do
    if output =~ text do
      output
    else
      assert_receive {^port, {:data, more}}
      await(port, text, output <> more)
    end
  end

  defp await_status(port, output \\ "") do
    assert_receive {^port, {kind, more}}
    if kind == :data, do: await_status(port, output <> more), else: {output, more}
  end

  defp terminate(port) do
    {:os_pid, pid} = Port.info(port, :os_pid)
    {_, 0} = System.cmd("kill", ["-TERM", "#{pid}"])
  end
end
