defmodule Mix.Tasks.Wasm.ValidateTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  @moduletag :tmp_dir
  @valid ["priv/wasm/compute.wasm", "priv/wasm/compute.wat"]

  test "prints a line for each valid file" do
    assert run("wasm.validate", @valid) ==
             {0, "priv/wasm/compute.wasm: ok\npriv/wasm/compute.wat: ok\n", ""}
  end

  test "goes on after an invalid file and fails in the end", %{tmp_dir: dir} do
    broken = Path.join(dir, "broken.wasm")
    <<most::binary-size(200), _::binary>> = File.read!("priv/wasm/compute.wasm")
    File.write!(broken, most)

    assert {1, "priv/wasm/compute.wasm: ok\n", errors} =
             run("wasm.validate", [broken, "nope.wasm", "priv/wasm/compute.wasm"])

    assert [first, "cannot load nope.wasm: no such file"] = String.split(errors, "\n", trim: true)
    assert first =~ ~r/^cannot load #{broken}: invalid at offset \d+: /
  end

  test "reads standard input" do
    assert run("wasm.validate", ["-"], "(module)") == {0, "-: ok\n", ""}

    assert {1, "", "cannot load standard input: line 1, column" <> _} =
             run("wasm.validate", ["-"], "(modul)")
  end

  describe "--manifest" do
    defp manifest(dir, text) do
      path = Path.join(dir, "module.toml")
      File.write!(path, text)
      path
    end

    test "checks the module by it", %{tmp_dir: dir} do
      [wasm | _] = @valid
      path = manifest(dir, "[module]\nentry = 'process'\n[limits]\nfuel = 1")
      assert run("wasm.validate", [wasm, "--manifest", path]) == {0, "#{wasm}: ok\n", ""}

      path = manifest(dir, "[module]\nentry = 'nothing'")
      assert {1, "", message} = run("wasm.validate", ["--manifest", path, wasm])

      assert message ==
               ~s|#{path}:2: module.entry: expected a function that the module exports, got "nothing"\n|
    end

    test "warns of a directory that it grants and that is not there", %{tmp_dir: dir} do
      [wasm | _] = @valid
      File.mkdir!(Path.join(dir, "there"))

      path =
        manifest(dir, """
        [capabilities]
        filesystem = [{ host = "there", guest = "/here" }, { host = "nowhere", guest = "/data" }]
        """)

      assert {0, ok, warning} = run("wasm.validate", [wasm, "--manifest", path])
      assert ok == "#{wasm}: ok\n"
      nowhere = Path.expand("nowhere", dir)

      assert warning ==
               "#{wasm}: warning: the directory #{nowhere}, granted as /data, is not there\n"
    end

    test "names what is wrong in it", %{tmp_dir: dir} do
      path = manifest(dir, "[capabilities]\nmemory = 'yes'")

      assert run("wasm.validate", [hd(@valid), "--manifest", path]) ==
               {1, "", ~s|#{path}:2: capabilities.memory: expected true or false, got "yes"\n|}

      assert {1, "", "nope.toml: the manifest cannot be read (no such file" <> _} =
               run("wasm.validate", [hd(@valid), "--manifest", "nope.toml"])
    end

    test "names what it does not grant", %{tmp_dir: dir} do
      wat =
        ~S|(module (import "env" "log" (func)) (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))))|

      path = manifest(dir, "[capabilities]\nhost_functions = ['env.print']\nwasi = true")
      assert {1, "", message} = run("wasm.validate", ["-", "--manifest", path], wat)
      assert message =~ "does not grant host_functions"
      assert message =~ "env log"

      path = manifest(dir, "[capabilities]\nhost_functions = ['env.log']")
      assert {1, "", message} = run("wasm.validate", ["-", "--manifest", path], wat)
      assert message =~ "does not grant wasi"

      path = manifest(dir, "[capabilities]\nhost_functions = ['env.log']\nwasi = true")
      assert run("wasm.validate", ["-", "--manifest", path], wat) == {0, "-: ok\n", ""}
    end
  end

  test "refuses a command line without files or with options" do
    assert {2, "", message} = run("wasm.validate", [])
    assert message =~ "FILE is missing\nusage: mix wasm.validate FILE... [--manifest MANIFEST]"
    assert {2, "", message} = run("wasm.validate", ["--quiet" | @valid])
    assert message =~ "unknown option --quiet; known are: --help, --manifest"
  end

  test "sets the shell's exit status", %{tmp_dir: dir} do
    errors = Path.join(dir, "errors")

    assert {0, "priv/wasm/compute.wasm: ok\n", _} =
             shell("mix wasm.validate #{hd(@valid)}", errors)

    assert {1, "", message} = shell("mix wasm.validate mix.exs", errors)
    assert message =~ "cannot load mix.exs: not WebAssembly"
  end
end
