defmodule Mix.Tasks.Wasm.WatchTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Terminal}

  alias Cybernetic.WASM.{Executor, Runtime}

  @moduletag :tmp_dir

  defp wat(n, more \\ ""),
    do: ~s|(module #{more} (func (export "f") (result i32) (i32.const #{n})))|

  defp build(path, text) do
    File.write!(path <> ".new", text)
    File.rename!(path <> ".new", path)
  end

  # The task goes on until it is ended. What it has printed is what its device was given.
  defp begin(argv) do
    {:ok, device} = StringIO.open("")

    task =
      spawn(fn ->
        Process.group_leader(self(), device)
        Mix.Tasks.Wasm.Watch.run(argv)
      end)

    on_exit(fn -> Process.exit(task, :kill) end)
    fn -> device |> StringIO.contents() |> elem(1) |> String.split("\n", trim: true) end
  end

  test "prints a line for each load, and for each that fails", %{tmp_dir: dir} do
    name = "task-#{System.unique_integer([:positive])}"
    on_exit(fn -> Runtime.unload(name) end)
    path = Path.join(dir, name <> ".wasm")
    build(path, wat(1))
    lines = begin([dir, "--interval", "1"])

    eventually(fn -> length(lines.()) == 1 end)
    assert hd(lines.()) =~ ~r/\A#{name}: 0.1.0 is loaded, blake3:[0-9a-f]{8}\z/
    assert Executor.call(name, "f") == {:ok, 1}

    build(path, "(modul")
    eventually(fn -> length(lines.()) == 2 end)
    build(path, wat(2))
    eventually(fn -> length(lines.()) == 3 end)
    assert [_, kept, reloaded] = lines.()
    assert kept =~ "#{name}: 0.1.0 stays: cannot load"
    assert reloaded =~ "#{name}: 0.1.1 is loaded"
  end

  test "lets a version import more where that is allowed", %{tmp_dir: dir} do
    name = "task-#{System.unique_integer([:positive])}"
    on_exit(fn -> Runtime.unload(name) end)
    path = Path.join(dir, name <> ".wasm")
    build(path, wat(1))
    lines = begin([dir, "--interval", "1", "--widen"])
    eventually(fn -> length(lines.()) == 1 end)
    build(path, wat(1, ~S|(import "env" "g" (func))|))
    eventually(fn -> length(lines.()) == 2 end)
    assert List.last(lines.()) =~ "0.1.1 is loaded"
  end

  test "refuses what it does not know", %{tmp_dir: dir} do
    assert {2, "", message} = run("wasm.watch", [])
    assert message =~ "one FOLDER is needed"
    assert {2, "", message} = run("wasm.watch", [dir, "--interval", "0"])
    assert message =~ "--interval must be a positive number of milliseconds, got: 0"
    assert {2, "", message} = run("wasm.watch", [dir, "--intervall", "1"])
    assert message =~ "unknown option --intervall"
    assert {2, "", message} = run("wasm.watch", [Path.join(dir, "nowhere")])
    assert message =~ "no such folder"
    assert {0, "usage: mix wasm.watch FOLDER" <> _, ""} = run("wasm.watch", ["--help"])
  end
end
