defmodule Cybernetic.WASM.Security.WASI.QuotaTest do
  # A directory that a guest may write to is on a disk that others write to as well.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  setup do
    {:ok, dir: directory()}
  end

  test "bytes written to files are bounded", %{dir: dir} do
    run =
      run!("files", ["fill", "/data/f", "1000000"], sandbox: sandbox_of(dir, :rw, quota: 300_000))

    assert %{"fill" => "dquot", "written" => written} = answers(run)
    assert String.to_integer(written) <= 300_000
    assert size(dir) <= 300_000
    assert {:filesystem, "fd_write", :dquot} in refusals(run)
  end

  test "what fits is written whole", %{dir: dir} do
    run =
      run!("files", ["fill", "/data/f", "200000"], sandbox: sandbox_of(dir, :rw, quota: 300_000))

    assert answers(run) == %{"fill" => "ok", "written" => "200000"}
    assert File.stat!(Path.join(dir, "f")).size == 200_000
    assert run.denials == []
  end

  test "writing over and over counts each time", %{dir: dir} do
    run =
      run!("files", ["fill", "/data/f", "100000", "50"],
        sandbox: sandbox_of(dir, :rw, quota: 300_000)
      )

    assert %{"fill" => "dquot", "written" => written} = answers(run)
    assert String.to_integer(written) <= 300_000
  end

  test "a file grown without writing counts", %{dir: dir} do
    sandbox = sandbox_of(dir, :rw, quota: 300_000)

    assert run!("files", ["truncate", "/data/f", "1000000000000"], sandbox: sandbox).stdout ==
             "truncate dquot\n"

    assert run!("files", ["truncate", "/data/f", "200000"], sandbox: sandbox).stdout ==
             "truncate ok\n"

    assert run!("files", ["allocate", "/data/g", "1000000000000"], sandbox: sandbox).stdout =~
             ~r/dquot|notsup/

    assert size(dir) <= 300_000
  end

  test "a hole before what is written counts: each byte behind one takes a whole block", %{
    dir: dir
  } do
    sandbox = sandbox_of(dir, :rw, quota: 300_000)

    assert run!("files", ["seekwrite", "/data/f", "1000000000", "x"], sandbox: sandbox).stdout ==
             "seekwrite dquot\n"

    assert run!("files", ["pwrite", "/data/f", "1000000000", "x"], sandbox: sandbox).stdout ==
             "pwrite dquot\n"

    assert run!("files", ["seekwrite", "/data/f", "100000", "x"], sandbox: sandbox).stdout ==
             "seekwrite ok\n"

    assert size(dir) <= 300_000
  end

  for {command, operation} <- [
        files: "path_open",
        dirs: "path_create_directory",
        symlinks: "path_symlink"
      ] do
    test "empty #{command} count, too", %{dir: dir} do
      run =
        run!("files", ["#{unquote(command)}", "/data", "1000"],
          sandbox: sandbox_of(dir, :rw, quota: 409_600)
        )

      assert answers(run) == %{"made" => "100", "many" => "dquot"}
      assert length(File.ls!(dir)) == 100
      assert {:filesystem, unquote(operation), :dquot} in refusals(run)
    end
  end

  test "no quota, no writing; reading is free", %{dir: dir} do
    File.write!(Path.join(dir, "f"), String.duplicate("x", 1_000_000))
    sandbox = sandbox_of(dir, :rw, quota: 0)
    assert run!("files", ["write", "/data/g", "text"], sandbox: sandbox).stdout == "write dquot\n"

    assert run!("files", ["append", "/data/f", "text"], sandbox: sandbox).stdout ==
             "append dquot\n"

    assert %{"bytes" => "1000000"} = answers(run!("checksum", ["/data/f"], sandbox: sandbox))
    assert run!("files", ["rm", "/data/f"], sandbox: sandbox).stdout == "rm ok\n"
  end

  test "files open at once are bounded", %{dir: dir} do
    File.write!(Path.join(dir, "f"), "")

    for {opts, most} <- [{[], 64}, {[max_open: 5], 5}, {[max_open: 0], 0}] do
      run = run!("files", ["many", "/data/f", "1000"], sandbox: sandbox_of(dir, :rw, opts))
      assert answers(run) == %{"opened" => "#{most}", "many" => "mfile"}
      assert {:filesystem, "path_open", :mfile} in refusals(run)
    end
  end

  test "closing makes room, so that many files after each other are no matter", %{dir: dir} do
    run = run!("files", ["files", "/data", "500"], sandbox: sandbox_of(dir, :rw, max_open: 2))
    assert answers(run) == %{"made" => "500", "many" => "ok"}
  end

  test "each guest has its own bounds", %{dir: dir} do
    sandbox = sandbox_of(dir, :rw, quota: 150_000)

    for name <- ~w(a b c) do
      assert answers(run!("files", ["fill", "/data/#{name}", "100000"], sandbox: sandbox))["fill"] ==
               "ok"
    end
  end

  test "a scratch directory is bounded, private, and gone afterwards" do
    sandbox = sandbox(filesystem: [scratch: "/tmp", quota: 50_000])
    assert run!("files", ["ls", "/tmp"], sandbox: sandbox).stdout == ""

    assert answers(run!("files", ["fill", "/tmp/f", "100000"], sandbox: sandbox))["fill"] ==
             "dquot"

    assert answers(run!("files", ["fill", "/tmp/f", "40000"], sandbox: sandbox))["fill"] == "ok"
    # What the one wrote is not there for the next.
    assert run!("files", ["ls", "/tmp"], sandbox: sandbox).stdout == ""
  end

  defp size(dir),
    do: dir |> File.ls!() |> Enum.map(&File.stat!(Path.join(dir, &1)).size) |> Enum.sum()
end
