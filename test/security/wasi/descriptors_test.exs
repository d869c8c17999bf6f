defmodule Cybernetic.WASM.Security.WASI.DescriptorsTest do
  # What a guest has open is open in the VM, which has a bound of its own: no descriptor outlives its guest, and no crowd of
  # guests takes those that the VM needs. Not asynchronous: it counts what the VM has open.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Programs}

  alias Cybernetic.WASM.{CallError, FreshNode, Instance, RawCalls, Runtime}

  setup do
    dir = directory()
    File.write!(Path.join(dir, "f"), "")
    quiet_node()
    {:ok, dir: dir, before: descriptors()}
  end

  defp descriptors, do: length(File.ls!("/proc/self/fd"))

  # A few are the VM's own: files that it loads code from.
  defp settle(before) do
    quiet()
    eventually(fn -> descriptors() <= before + 5 end)
    assert Runtime.stats().open_files == 0
  end

  test "a guest that closes nothing leaves nothing open", context do
    for _ <- 1..50 do
      run = run!("files", ["many", "/data/f", "1000"], sandbox: sandbox_of(context.dir, :ro))
      assert run.stdout =~ "opened 64\n"
    end

    settle(context.before)
  end

  test "nor does one that is killed, traps, is closed, or is forgotten", context do
    sandbox = sandbox_of(context.dir, :ro)
    hoard = fn guest -> for _ <- 1..64, do: {:ok, _} = RawCalls.open(guest, "f") end

    for _ <- 1..5 do
      closed = RawCalls.guest(sandbox)
      hoard.(closed)
      :ok = Instance.close(closed)

      trapped = RawCalls.guest(sandbox)
      hoard.(trapped)
      assert {:error, %{code: :wasi}} = Instance.call(trapped, "fd_read", [5, -8, 1, 0])

      {pid, monitor} = spawn_monitor(fn -> hoard.(RawCalls.guest(sandbox)) end)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}

      test = self()

      {:ok, asleep} =
        Task.start(fn ->
          guest = RawCalls.guest(sandbox)
          hoard.(guest)
          send(test, :hoarded)
          sleep(guest)
        end)

      assert_receive :hoarded
      eventually(fn -> Process.info(asleep, :status) == {:status, :waiting} end)
      Process.exit(asleep, :kill)
    end

    settle(context.before)
  end

  defp sleep(guest) do
    RawCalls.put(guest, 24, <<3_600_000_000_000::little-64>>)
    Instance.call(guest, "poll_oneoff", [0, 1_000, 1, 2_000])
  end

  test "a guest that cannot start because a directory is missing leaves nothing open", context do
    files = [dirs: [{context.dir, "/a"}, {context.dir <> "/no", "/b"}], scratch: "/c"]
    sandbox = sandbox(filesystem: files)
    for _ <- 1..200, do: assert({:error, %CallError{}} = run("hello", [], sandbox: sandbox))
    settle(context.before)
  end

  # What the guest has open is counted by the library, what is open by the machine: they must not part.
  test "no sequence of opening, closing and renumbering opens more than the bound", context do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..20 do
      guest = RawCalls.guest(sandbox_of(context.dir, :rw, max_open: 8))
      begun = descriptors()

      for _ <- 1..200 do
        assert Runtime.stats().open_files <= 8 + 1

        case :rand.uniform(4) do
          4 -> RawCalls.raw(guest, "fd_close", [:rand.uniform(14)])
          3 -> RawCalls.raw(guest, "fd_renumber", [:rand.uniform(14), :rand.uniform(14)])
          _ -> RawCalls.open(guest, "f")
        end
      end

      assert descriptors() <= begun + 8 + 3
      # And it is still of use: what was closed can be opened again.
      for fd <- 4..20, do: RawCalls.raw(guest, "fd_close", [fd])
      Instance.close(guest)
    end

    settle(context.before)
  end

  test "closing them all makes room for as many", context do
    guest = RawCalls.guest(sandbox_of(context.dir, :ro, max_open: 8))

    for _ <- 1..5 do
      opened = for _ <- 1..8, {:ok, fd} <- [RawCalls.open(guest, "f")], do: fd
      assert length(opened) == 8
      assert RawCalls.open(guest, "f") == :mfile
      for fd <- opened, do: assert(RawCalls.raw(guest, "fd_close", [fd]) == :ok)
    end

    # A directory that was granted, and closed, is no longer there, and makes no room.
    assert RawCalls.raw(guest, "fd_close", [3]) == :ok
    assert RawCalls.open(guest, "f") == :badf
  end

  test "moving a file to a granted directory's number ends the grant, not the bound", context do
    guest = RawCalls.guest(sandbox_of(context.dir, :rw, max_open: 4))
    {:ok, fd} = RawCalls.open(guest, "f")
    assert RawCalls.raw(guest, "fd_renumber", [fd, 3]) == :ok
    assert RawCalls.open(guest, "f") in [:badf, :notdir]
    assert RawCalls.raw(guest, "fd_renumber", [3, 1]) == :ok
    assert RawCalls.write(guest, 1, "x") in [:badf, :perm, :notcapable]
  end

  test "a standard stream that was moved is granted as it was", context do
    guest = RawCalls.guest(sandbox_of(context.dir, :rw, stdio: [stdout: :captured]))
    {:ok, fd} = RawCalls.open(guest, "f", [:write])

    # Standard error, which is not granted, to where the file was, and standard output to where that was.
    assert RawCalls.raw(guest, "fd_renumber", [2, fd]) == :ok
    assert RawCalls.write(guest, fd, "x") == :badf
    assert RawCalls.raw(guest, "fd_renumber", [1, fd]) == :ok
    assert RawCalls.write(guest, fd, "x") == {:ok, 1}
    assert File.read!(Path.join(context.dir, "f")) == ""
  end

  # In a VM of its own: 20 guests are each within their bound, and together beyond the VM's.
  test "a crowd of guests leaves the VM what it needs itself", %{dir: dir} do
    code = ~S"""
    module = Runtime.load_module!({:bytes, "(module
      (import \"wasi_snapshot_preview1\" \"path_open\" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import \"env\" \"full\" (func $full))
      (memory (export \"memory\") 1)
      (data (i32.const 0) \"f\")
      (func (export \"hoard\")
        (loop $again
          (br_if $again (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
                                       (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 512)))))
        (call $full)))"})

    test = self()
    full = fn _ctx -> send(test, :full) && Process.sleep(:infinity) end
    sandbox = Cybernetic.WASM.Sandbox.new(filesystem: [{DIR, "/data", :ro}])
    opts = [sandbox: sandbox, imports: %{"env" => %{"full" => full}}]
    guests = for _ <- 1..20, do: spawn(fn -> Executor.call(module, "hoard", [], opts) end)
    for _ <- guests, do: (receive do :full -> :ok end)
    {listen, _} = :gen_tcp.listen(0, [])
    {open, _} = File.open(Path.join(DIR, "f"))
    for guest <- guests, do: Process.exit(guest, :kill)
    eventually(fn -> Runtime.stats().open_files == 0 end)
    {after_them, _} = File.open(Path.join(DIR, "f"))
    {listen, open, after_them}
    """

    code = String.replace(code, "DIR", inspect(dir))
    assert FreshNode.eval([], code, ulimit: "-n 400") == {:ok, :ok, :ok}
  end
end
