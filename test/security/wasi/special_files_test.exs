defmodule Cybernetic.WASM.Security.WASI.SpecialFilesTest do
  # A granted directory may hold what is no file: pipes, sockets, devices, links to all of these, names in no known
  # encoding; and it may go away while the guest works in it. None of that opens, hangs, or ends the guest.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Eventually
  import Cybernetic.WASM.Programs
  import Cybernetic.WASM.RawCalls, except: [module: 0, module: 1, module: 2]

  alias Cybernetic.WASM.{CallError, Executor, Guests, RawCalls}

  setup do
    dir = directory()
    File.mkdir_p!(Path.join(dir, "sub"))
    File.write!(Path.join(dir, "file"), "text")
    {:ok, dir: dir}
  end

  defp furnish(dir) do
    {_, 0} = System.cmd("mkfifo", [Path.join(dir, "pipe")])
    {:ok, socket} = :gen_tcp.listen(0, ifaddr: {:local, Path.join(dir, "sub/socket")})
    on_exit(fn -> :gen_tcp.close(socket) end)
    File.ln_s!("pipe", Path.join(dir, "to-pipe"))
    File.ln_s!("sub/socket", Path.join(dir, "to-socket"))
    File.ln_s!("/dev/zero", Path.join(dir, "zero"))
    # Only the system's administrator makes these.
    for {name, kind, major, minor} <- [{"full", "c", "1", "7"}, {"disk", "b", "7", "0"}] do
      System.cmd("mknod", [Path.join(dir, name), kind, major, minor], stderr_to_stdout: true)
    end

    ~w(pipe to-pipe sub/socket to-socket zero) ++
      Enum.filter(~w(full disk), &File.exists?(Path.join(dir, &1)))
  end

  test "a null device that is granted is one, and the only thing where it is" do
    guest = RawCalls.guest(sandbox(filesystem: [null: "/dev/null"]))
    assert list(guest) == {:ok, [".", "..", "null"]}

    for how <- [[], [:write], [:create, :write]] do
      assert {:ok, fd} = open(guest, "null", how)
      assert write(guest, fd, "gone") == {:ok, 4}
      assert read(guest, fd) == {:ok, ""}
    end

    assert open(guest, "zero") == :noent
    assert open(guest, "../etc/passwd") == :perm
    for name <- ["new", "zero"], do: assert(open(guest, name, [:create]) == :perm)
    assert at(guest, "path_unlink_file", "null") == :perm
    assert at(guest, "path_create_directory", "dir") == :perm
    assert move(guest, "path_rename", {3, "null"}, {3, "other"}) == :perm
    assert list(guest) == {:ok, [".", "..", "null"]}
  end

  test "what is no file and no directory is not opened, in no way", %{dir: dir} do
    guest = RawCalls.guest(sandbox_of(dir, :rw))

    for name <- furnish(dir),
        how <- [[], [:write], [:create], [:create, :write], [:directory]] do
      assert {name, how, answer} = {name, how, open(guest, name, how)}
      assert {name, how, answer in [:perm, :notdir, :inval, :loop]} == {name, how, true}
    end

    assert {:ok, _} = open(guest, "file")
  end

  test "it may be looked at, listed, moved and removed like anything else", %{dir: dir} do
    names = furnish(dir)
    guest = RawCalls.guest(sandbox_of(dir, :rw))
    assert {:ok, listed} = list(guest)
    assert Enum.sort(listed -- [".", ".."]) == Enum.sort(File.ls!(dir))
    {:ok, sub} = open(guest, "sub", [:directory])
    assert {:ok, [_, _, "socket"]} = list(guest, sub)

    for name <- names do
      assert %{size: _} = stat(guest, name)
      assert move(guest, "path_rename", {3, name}, {3, "moved"}) == :ok
      assert at(guest, "path_unlink_file", "moved") == :ok
    end

    assert Enum.sort(File.ls!(dir)) == ["file", "sub"]
  end

  test "a C program lists them, too", %{dir: dir} do
    furnish(dir)
    run = run!("files", ["ls", "/data"], sandbox: sandbox_of(dir, :ro))
    assert run.exit_code == 0
    assert run.stdout =~ "pipe\n" and run.stdout =~ "sub/\n" and run.stdout =~ "zero@\n"
    assert run!("files", ["ls", "/data/sub"], sandbox: sandbox_of(dir, :ro)).stdout == "socket\n"
  end

  # Preview 1 has no other names than UTF-8: a guest could not call it by what it were told.
  test "a name that is no text is left out of a listing, and is never a trap", %{dir: dir} do
    odd = <<"odd", 255, 254>>
    File.write!(Path.join(dir, odd), "")
    guest = RawCalls.guest(sandbox_of(dir, :rw))
    assert {:ok, listed} = list(guest)
    assert Enum.sort(listed) == [".", "..", "file", "sub"]
    assert open(guest, odd) in [:ilseq, :inval]
    assert at(guest, "path_unlink_file", odd) in [:ilseq, :inval]
    assert {:ok, _} = open(guest, "file")
  end

  # Between the look at a name and its opening, another guest puts a pipe there. Opening a pipe waits for its other end: on
  # the thread that runs the guest, where no deadline strikes.
  test "a name that turns into a pipe between check and use holds nobody up", %{dir: dir} do
    {_, 0} = System.cmd("mkfifo", [Path.join(dir, "pipe")])

    module =
      Guests.load!("""
      (module
        #{imports(~w(path_rename path_open fd_close))}
        (memory (export "memory") 1)
        (data (i32.const 0) "file") (data (i32.const 8) "pipe") (data (i32.const 16) "name")
        (func $move (param i32 i32)
          (drop (call $path_rename (i32.const 3) (local.get 0) (i32.const 4) (i32.const 3) (local.get 1) (i32.const 4))))
        (func (export "swap") (loop $again
          (call $move (i32.const 0) (i32.const 16)) (call $move (i32.const 16) (i32.const 0))
          (call $move (i32.const 8) (i32.const 16)) (call $move (i32.const 16) (i32.const 8))
          (br $again)))
        (func (export "peek") (loop $again
          (if (i32.eqz (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 0)
                        (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 32)))
            (then (drop (call $fd_close (i32.load (i32.const 32))))))
          (br $again))))
      """)

    opts = [sandbox: sandbox_of(dir, :rw, timeout: 1_000, max_host_calls: 1_000_000_000)]

    calls =
      for function <- ["swap", "peek"],
          do: Task.async(fn -> Executor.call(module, function, [], opts) end)

    # One that is held up would be so for ever.
    for result <- Task.yield_many(calls, 300_000),
        do: assert({_, {:ok, {:error, %{limit: :timeout}}}} = result)
  after
    # Whatever hangs is let go, or the VM's threads would be gone for the other tests.
    let_go(dir)
  end

  # Opened for both, a pipe waits for nobody, and whoever waits for its other end has it.
  defp let_go(dir) do
    for name <- ["pipe", "name", "file"], path = Path.join(dir, name), File.exists?(path) do
      System.cmd("timeout", ["5", "sh", "-c", ~S(exec 3<>"$1"; sleep 0.2), "sh", path])
    end
  end

  describe "a directory that cannot be granted" do
    test "is told, and the guest does not start", %{dir: dir} do
      furnish(dir)

      for name <- ~w(pipe to-pipe sub/socket file zero missing missing/sub) do
        %{filesystem: %{dirs: [{real, _, _}]}} = sandbox = sandbox_of(Path.join(dir, name), :rw)
        assert {:error, %CallError{} = error} = run("hello", [], sandbox: sandbox)
        assert Exception.message(error) =~ real
      end
    end
  end

  describe "a directory that goes away" do
    test "is empty for the guest that has it, and no other takes its place", %{dir: dir} do
      data = Path.join(dir, "data")
      outside = Path.join(dir, "outside")
      File.mkdir_p!(Path.join(data, "sub"))
      File.mkdir_p!(outside)
      File.write!(Path.join(outside, "secret"), "secret")
      File.write!(Path.join(data, "open"), "still there")
      guest = RawCalls.guest(sandbox_of(data, :rw))
      {:ok, fd} = open(guest, "open")
      {:ok, sub} = open(guest, "sub", [:directory])

      File.rm_rf!(data)
      assert open(guest, "open") == :noent
      assert open(guest, "new", [:create]) == :noent
      assert at(guest, "path_create_directory", "new") == :noent
      assert move(guest, "path_rename", {3, "open"}, {3, "new"}) == :noent
      assert list(guest) in [{:ok, [".", ".."]}, :noent]
      assert list(guest, sub) in [{:ok, [".", ".."]}, :noent]
      # What is open stays so.
      assert read(guest, fd) == {:ok, "still there"}

      File.ln_s!("outside", data)

      for at <- [3, sub], path <- ["secret", ".", "../secret", "../outside/secret"] do
        assert {path, open(guest, path, [], at)} != {path, :ok}
      end

      assert open(guest, "secret") == :noent
      assert open(guest, "../outside/secret") == :perm
    end

    test "takes its guest along wherever it is moved, and no further", %{dir: dir} do
      File.mkdir_p!(Path.join(dir, "a/data/sub"))
      File.mkdir_p!(Path.join(dir, "b"))
      File.write!(Path.join(dir, "b/secret"), "secret")
      guest = RawCalls.guest(sandbox_of(Path.join(dir, "a/data"), :rw))
      {:ok, sub} = open(guest, "sub", [:directory])
      File.rename!(Path.join(dir, "a/data"), Path.join(dir, "b/data"))
      assert open(guest, "../secret") == :perm
      assert open(guest, "../../secret", [], sub) == :perm

      # Out of what was granted by the host itself, in the midst of it.
      File.rename!(Path.join(dir, "b/data/sub"), Path.join(dir, "b/sub"))
      assert open(guest, "../secret", [], sub) == :perm
    end

    test "in the midst of a program's work ends no more than that", %{dir: dir} do
      data = Path.join(dir, "data")
      File.mkdir_p!(data)
      sandbox = sandbox_of(data, :rw, quota: 1_000_000_000_000)
      args = ["fill", "/data/f", "1000", "1000000000"]
      guest = Task.async(fn -> run("files", args, sandbox: sandbox) end)
      eventually(fn -> File.exists?(Path.join(data, "f")) end)
      eventually(fn -> File.rm_rf(data) && not File.exists?(data) end)
      assert {:ok, run} = await(guest)
      assert %{"fill" => "noent"} = answers(run)
    end
  end
end
