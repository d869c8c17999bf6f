defmodule Cybernetic.WASM.Security.WASI.QuotaTest do
  # A directory that a guest may write to is on a disk that others write to as well.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{Instance, RawCalls}

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

  test "a live guest's quota is that of all its calls", %{dir: dir} do
    guest = RawCalls.guest(sandbox_of(dir, :rw, quota: 10_000))
    {:ok, fd} = RawCalls.open(guest, "f", [:create])
    assert RawCalls.write(guest, fd, String.duplicate("x", 5_000)) == {:ok, 5_000}
    assert RawCalls.write(guest, fd, String.duplicate("x", 5_000)) == :dquot
    assert RawCalls.open(guest, "g", [:create]) == :dquot
    # Removing what was written gives nothing back: it could be written for ever.
    assert RawCalls.at(guest, "path_unlink_file", "f") == :ok
    assert RawCalls.open(guest, "g", [:create]) == :dquot
    assert RawCalls.write(guest, fd, String.duplicate("x", 904)) == {:ok, 904}
    assert RawCalls.write(guest, fd, "x") == :dquot
  end

  test "what is refused or fails counts nothing, however often", %{dir: dir} do
    guest = RawCalls.guest(sandbox_of(dir, :rw, quota: 20_000))
    {:ok, _} = RawCalls.open(guest, "f", [:create])

    for _ <- 1..100 do
      assert RawCalls.open(guest, "no/such", [:create]) == :noent
      assert RawCalls.open(guest, "../outside", [:create]) == :perm
      assert RawCalls.at(guest, "path_create_directory", "f") == :exist
      assert RawCalls.move(guest, "path_link", {3, "f"}, {3, "f"}) == :exist
      assert RawCalls.write(guest, 77, String.duplicate("x", 10_000)) == :badf
      {:ok, fd} = RawCalls.open(guest, "f")

      assert RawCalls.write(guest, fd, String.duplicate("x", 10_000)) in [
               :badf,
               :perm,
               :notcapable
             ]

      assert RawCalls.raw(guest, "fd_close", [fd]) == :ok
    end

    {:ok, fd} = RawCalls.open(guest, "f", [:write])
    assert RawCalls.write(guest, fd, String.duplicate("x", 10_000)) == {:ok, 10_000}
  end

  # How much a call was to write is read from the guest's memory, and so is how much it has written: where both are one
  # place, or where the vectors are the answer's.
  test "answers that overwrite the questions take nothing back", %{dir: dir} do
    guest = RawCalls.guest(sandbox_of(dir, :rw, quota: 100_000), on_trap: :keep)
    {:ok, fd} = RawCalls.open(guest, "f", [:create])

    for n <- 1..1_000 do
      # A vector of 1,000 bytes, whose length or place is where the answer goes to; or empty ones before it.
      RawCalls.put(
        guest,
        8_192,
        <<16_384::little-32, 1_000::little-32, 16_384::little-32, 1_000::little-32>>
      )

      [{8_192, 1}, {8_196, 1}, {8_192, 2}] |> Enum.at(rem(n, 3)) |> write_at(guest, fd)
      RawCalls.put(guest, 8_192, <<0::64, 16_384::little-32, 1_000::little-32>>)
      write_at({8_204, 2}, guest, fd)
      # Nothing to put the answer at: it is written, and told to nobody.
      RawCalls.put(guest, 8_192, <<16_384::little-32, 1_000::little-32>>)
      Instance.call(guest, "fd_write", [fd, 8_192, 1, -4])
      Instance.call(guest, "fd_pwrite", [fd, 8_192, 1, 0, -4])
    end

    assert size(dir) <= 100_000
  end

  defp write_at({answer, count}, guest, fd),
    do: Instance.call(guest, "fd_write", [fd, 8_192, count, answer])

  test "a file that is open for appending counts what is appended", %{dir: dir} do
    guest = RawCalls.guest(sandbox_of(dir, :rw, quota: 50_000))
    {:ok, fd} = RawCalls.open(guest, "f", [:create])
    assert RawCalls.raw(guest, "fd_fdstat_set_flags", [fd, 1]) == :ok

    for _ <- 1..100 do
      RawCalls.raw(guest, "fd_seek", [fd, 0, 0, 20_000])
      RawCalls.write(guest, fd, String.duplicate("x", 1_000))
    end

    assert size(dir) <= 50_000
    assert size(dir) >= 40_000
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
