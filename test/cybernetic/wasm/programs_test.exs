defmodule Cybernetic.WASM.ProgramsTest do
  # Large programs that others wrote, as they are: `bin/fetch-programs` puts them into `target/programs`.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{Executor, LimitError, Runtime, Sandbox}

  describe "SQLite" do
    @describetag needing("sqlite")

    test "runs SQL in memory" do
      sql = """
      create table t(a integer primary key, b text);
      with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
        insert into t select i, 'row ' || i from n;
      select count(*), sum(a), max(b) from t;
      select 1.5 * 2, null, x'41';
      """

      assert shell("sqlite", sql) == {0, "20000|200010000|row 9999\n3.0||A\n", ""}
    end

    test "says what is wrong, and fails" do
      assert shell("sqlite", "select * from nope;") ==
               {1, "", "sqlite_shell: no such table: nope\n"}
    end

    test "keeps a database in a directory from one guest to the next" do
      dir = directory()
      database = [args: ["/data/x.db"], sandbox: ample(filesystem: [{dir, "/data", :rw}])]

      assert {0, "", ""} =
               shell("sqlite", "create table t(a); insert into t values (1), (2), (3);", database)

      assert shell("sqlite", "delete from t where a = 2; select sum(a) from t;", database) ==
               {0, "4\n", ""}

      assert shell("sqlite", "vacuum; pragma integrity_check;", database) == {0, "ok\n", ""}
      assert File.ls!(dir) == ["x.db"]

      reading = Keyword.put(database, :sandbox, ample(filesystem: [{dir, "/data", :ro}]))
      assert shell("sqlite", "select sum(a) from t;", reading) == {0, "4\n", ""}

      assert {1, "", "sqlite_shell: attempt to write a readonly database\n"} =
               shell("sqlite", "delete from t;", reading)
    end

    test "is told when the disk is full, and the database survives" do
      dir = directory()

      database = fn quota ->
        [
          args: ["/data/x.db"],
          sandbox: ample(filesystem: [dirs: [{dir, "/data", :rw}], quota: quota])
        ]
      end

      assert {0, _, _} =
               shell(
                 "sqlite",
                 "create table t(a); insert into t values (1);",
                 database.(1_000_000)
               )

      assert {1, "", error} =
               shell("sqlite", "insert into t values (zeroblob(5000000));", database.(1_000_000))

      assert error =~ "full" or error =~ "I/O"

      assert shell(
               "sqlite",
               "pragma integrity_check; select count(*) from t;",
               database.(1_000_000)
             ) == {0, "ok\n1\n", ""}
    end
  end

  describe "QuickJS" do
    @describetag needing("quickjs")

    test "runs JavaScript" do
      script = """
      print(6 * 7, args, JSON.stringify({a: [1n + 2n].map(String)}), /(\\d+)/.exec("ab12")[1]);
      let later = await Promise.resolve(5);
      print(later);
      """

      assert shell("quickjs", script, args: ["x", "y"]) ==
               {0, "42 x,y {\"a\":[\"3\"]} 12\n5\n", ""}
    end

    test "fails with the exception" do
      assert shell("quickjs", ~s|throw new Error("no")|) == {1, "", "quickjs_shell: Error: no\n"}
    end

    test "is ended when the script is not" do
      assert {:error, %LimitError{limit: :fuel}} =
               run_large("quickjs", "for (;;) {}", sandbox: ample(fuel: 1_000_000_000))

      assert {:error, %LimitError{limit: :timeout}} =
               run_large("quickjs", "for (;;) {}", timeout: 300)
    end

    test "sees a made-up clock where that is all there is" do
      sandbox = ample(clocks: {:fixed, 1_000_000_000_000_000_000})
      assert shell("quickjs", "print(Date.now())", sandbox: sandbox) == {0, "1000000000000\n", ""}
    end
  end

  describe "CPython" do
    @describetag needing("python")

    test "runs a script from standard input, with its standard library" do
      script = """
      import hashlib, json, re, sys
      print(json.dumps({"a": [1, 2]}), re.sub("b+", "-", "abbc"))
      print(hashlib.sha256(b"x").hexdigest()[:8], sys.argv[1:], sys.version_info[:2])
      sys.exit(7)
      """

      assert shell("python", script, args: ["-", "one", "two"]) ==
               {7, "{\"a\": [1, 2]} a-c\n2d711642 ['one', 'two'] (3, 12)\n", ""}
    end

    test "prints a traceback, and fails" do
      assert {1, "", trace} = shell("python", "", args: ["-c", "raise ValueError('no')"])
      assert trace =~ "ValueError: no"
    end

    test "reads and writes files where it may, and nowhere else" do
      dir = directory()
      File.write!(Path.join(dir, "in.txt"), "one\ntwo\n")

      script = """
      lines = open("/data/in.txt").read().split()
      open("/data/out.txt", "w").write(" ".join(reversed(lines)))
      for path in ["/etc/passwd", "/data/../etc/passwd", "/proc/self/environ"]:
          try:
              print("LEAK", open(path).read())
          except OSError as problem:
              print(type(problem).__name__)
      """

      assert {0, out, ""} =
               shell("python", script,
                 args: ["-"],
                 sandbox: ample(filesystem: [{dir, "/data", :rw}])
               )

      refute out =~ "LEAK"
      assert File.read!(Path.join(dir, "out.txt")) == "two one"
    end

    test "sees no environment but its own" do
      script = "import os; print(sorted(os.environ))"
      options = [sandbox: ample(env: :any), env: %{"MODE" => "batch"}]
      assert {0, "['MODE']\n", ""} = shell("python", "", [args: ["-c", script]] ++ options)
    end
  end

  defp shell(name, stdin, opts \\ []) do
    {:ok, run} = run_large(name, stdin, opts)
    {run.exit_code, run.stdout, run.stderr}
  end

  defp run_large(name, stdin, opts) do
    module = Runtime.load_module!(large(name), max_module_size: 50_000_000)
    Executor.run(module, :start, Keyword.merge([stdin: stdin, sandbox: ample()], opts))
  end

  # An interpreter's start alone takes some hundred million instructions.
  defp ample(opts \\ []) do
    [
      clocks: :real,
      random: :system,
      stdio: :captured,
      fuel: 100_000_000_000,
      max_memory: 500_000_000,
      timeout: 300_000
    ]
    |> Keyword.merge(opts)
    |> Sandbox.new()
  end
end
