defmodule Cybernetic.WASM.Component.FilesTest do
  # What an ordinary program does with files, by WASI 0.2: in Rust, whose standard library calls it directly.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  setup do
    {:ok, dir: directory()}
  end

  defp files(args, dir, opts \\ []) do
    run = run!({:component, "rust_files"}, args, sandbox: sandbox_of(dir, :rw, opts))
    assert run.denials == []
    run.stdout
  end

  test "reads, writes, appends and patches", %{dir: dir} do
    assert files(["write", "/data/a.txt", "hello"], dir) == "write ok\n"
    assert files(["append", "/data/a.txt", " there"], dir) == "append ok\n"
    assert files(["patch", "/data/a.txt", "6", "Ada!!"], dir) == "patch hello Ada!!\n"
    assert files(["read", "/data/a.txt"], dir) == "read hello Ada!!\n"
    assert File.read!(Path.join(dir, "a.txt")) == "hello Ada!!"
  end

  test "makes, lists, moves and removes", %{dir: dir} do
    assert files(["mkdir", "/data/sub"], dir) == "mkdir ok\n"
    for name <- ~w(one two), do: files(["write", "/data/sub/#{name}", name], dir)
    assert files(["mv", "/data/sub/one", "/data/three"], dir) == "mv ok\n"
    assert files(["link", "/data/three", "/data/four"], dir) == "link ok\n"
    assert files(["ls", "/data"], dir) == "ls four sub/ three\n"
    assert files(["stat", "/data/four"], dir) =~ ~r/\Astat file 3 \d+\n\z/
    assert files(["rm", "/data/sub/two"], dir) == "rm ok\n"
    assert files(["rmdir", "/data/sub/"], dir) == "rmdir ok\n"
    assert files(["truncate", "/data/three", "1"], dir) == "truncate ok\n"
    assert tree(dir) == %{"three" => "o", "four" => "o"}
  end

  test "a directory of many entries is listed whole", %{dir: dir} do
    for number <- 1..3_000, do: File.write!(Path.join(dir, "file-#{number}"), "")
    assert "ls " <> names = files(["ls", "/data"], dir)
    assert length(String.split(names)) == 3_000
  end

  test "what a program for preview 1 does it does behind an adapter", %{dir: dir} do
    opts = [sandbox: sandbox_of(dir, :rw)]
    assert run!({:component, "files"}, ["write", "/data/f", "text"], opts).stdout == "write ok\n"
    assert run!({:component, "files"}, ["read", "/data/f"], opts).stdout == "text"
    assert run!({:component, "files"}, ["ls", "/data"], opts).stdout == "f\n"
  end

  test "a private directory is there for the call alone" do
    sandbox = sandbox(filesystem: [scratch: "/tmp"])
    run = run!({:component, "rust_files"}, ["write", "/tmp/a", "text"], sandbox: sandbox)
    assert run.stdout == "write ok\n"
    assert run!({:component, "rust_files"}, ["ls", "/tmp"], sandbox: sandbox).stdout == "ls \n"
  end

  test "the same report as by preview 1", %{dir: dir} do
    opts = [sandbox: sandbox_of(dir, :rw), stdin: ~s({"level":"warn"}\\n{"level":"info"}\\n)]
    args = ["--keep", "/data"]
    report = fn program -> run!(program, args, opts).stdout |> String.replace(~r/slept.*/, "") end
    assert report.({:component, "rust_report"}) == report.("rust_report")
  end
end
