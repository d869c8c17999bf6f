defmodule Mix.Tasks.Wasm.CompileTest do
  # Not async: standard error and the node's configuration are the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Artifacts, only: [files: 1, folder: 0]
  import Cybernetic.WASM.Terminal

  alias Cybernetic.WASM.{Config, JSON, Runtime, Startup}

  @files ["priv/wasm/compute.wasm", "priv/wasm/wordcount.wasm"]

  setup do
    before = Config.get()
    folder = folder()
    Startup.start!(%{before | artifacts: true, artifact_dir: folder})
    on_exit(fn -> Startup.start!(before) end)
    Runtime.clear_cache()
    %{folder: folder}
  end

  test "keeps the code of all files, and says how far it is", %{folder: folder} do
    assert {0, output, ""} = run("wasm.compile", @files)
    assert [first, second, last] = String.split(output, "\n", trim: true)
    assert first =~ ~r"^\[1/2\] priv/wasm/\w+\.wasm: \d+ bytes of code$"
    assert second =~ ~r"^\[2/2\] priv/wasm/\w+\.wasm: \d+ bytes of code$"
    assert last == "compiled 2, found 0, in #{folder}"
    assert length(files(folder)) == 2

    Runtime.clear_cache()
    assert {0, output, ""} = run("wasm.compile", @files)
    assert output =~ "compiled 0, found 2, in #{folder}"
  end

  test "compiles for the options that the modules are loaded with", %{folder: folder} do
    for opts <- [[], ["--metering", "epoch"], ["--deterministic"]] do
      assert {0, output, ""} = run("wasm.compile", opts ++ [hd(@files)])
      assert output =~ "compiled 1, found 0"
    end

    assert length(files(folder)) == 3
  end

  test "goes on after a file that cannot be compiled, and fails in the end", %{folder: folder} do
    assert {1, output, errors} = run("wasm.compile", ["mix.exs", "nope.wasm" | @files])
    assert output =~ "compiled 2, found 0"
    assert errors =~ ~r"^\[\d/4\] cannot load mix.exs: not WebAssembly"m
    assert errors =~ ~r"^\[\d/4\] cannot load nope.wasm: no such file$"m
    assert length(files(folder)) == 2
  end

  test "--json tells all in one object", %{folder: folder} do
    assert {1, output, ""} = run("wasm.compile", ["--json", "nope.wasm" | @files])

    assert {:ok, %{"folder" => ^folder, "compiled" => 2, "found" => 0, "files" => all}} =
             JSON.decode(output, 100_000)

    assert length(all) == 3

    assert %{"error" => %{"kind" => "load", "reason" => "not_found"}} =
             Enum.find(all, &(&1["file"] == "nope.wasm"))

    assert %{"digest" => "blake3:" <> _, "size" => _, "code_size" => size} =
             Enum.find(all, &(&1["file"] == hd(@files)))

    assert size > 1_000
  end

  test "says what is wrong with its options, and where nothing can be kept", %{folder: folder} do
    assert {2, "", "mix wasm.compile: FILE is missing" <> _} = run("wasm.compile", [])
    assert {2, "", errors} = run("wasm.compile", ["--metering", "sun" | @files])
    assert errors =~ "--metering must be fuel or epoch, got: sun"
    assert {0, "usage: mix wasm.compile FILE..." <> _, ""} = run("wasm.compile", ["--help"])

    Startup.start!(%{Config.get() | artifacts: false})
    assert {2, "", errors} = run("wasm.compile", @files)
    assert errors =~ "nothing is kept on disk here: artifacts: false"
    assert {2, output, ""} = run("wasm.compile", ["--json" | @files])
    assert {:ok, %{"error" => %{"kind" => "usage"}}} = JSON.decode(output, 100_000)
    assert files(folder) == []
  end

  @tag :capture_log
  test "fails where a file's code cannot be kept" do
    Startup.start!(%{Config.get() | artifact_size: 100})
    assert {1, _output, errors} = run("wasm.compile", [hd(@files)])
    assert errors =~ "the code of #{hd(@files)} cannot be kept: "
    assert errors =~ "more bytes than all artifacts may have (100)"
  end
end
