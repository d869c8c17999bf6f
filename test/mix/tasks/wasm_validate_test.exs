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

  test "refuses a command line without files or with options" do
    assert {2, "", message} = run("wasm.validate", [])
    assert message =~ "FILE is missing\nusage: mix wasm.validate FILE..."
    assert {2, "", message} = run("wasm.validate", ["--quiet" | @valid])
    assert message =~ "unknown option --quiet; known are: --help"
  end

  test "sets the shell's exit status", %{tmp_dir: dir} do
    errors = Path.join(dir, "errors")

    assert {0, "priv/wasm/compute.wasm: ok\n", _} =
             shell("mix wasm.validate #{hd(@valid)}", errors)

    assert {1, "", message} = shell("mix wasm.validate mix.exs", errors)
    assert message =~ "cannot load mix.exs: not WebAssembly"
  end
end
