defmodule Cybernetic.WASM.Security.WASI.ScratchTest do
  # A scratch directory is its guest's own, and gone after it, however that ended and whatever it left there. Not
  # asynchronous: it looks for what is left of all guests.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Plenty, Programs}
  import Cybernetic.WASM.Guests, only: [load!: 1]

  alias Cybernetic.WASM.{Executor, FreshNode, Instance, RawCalls, Runtime}

  setup do
    quiet_node()
    before = scratches()
    # Other VMs on this machine come and go with theirs.
    gone = fn -> eventually(fn -> scratches() -- before == [] end, 30_000) end
    {:ok, gone: gone, new: fn -> open_scratches() -- before end}
  end

  defp scratches, do: Path.wildcard(Path.join(System.tmp_dir!(), "cybernetic-wasm-*"))

  # Those of living guests of this VM.
  defp open_scratches do
    open =
      for fd <- File.ls!("/proc/self/fd"),
          {:ok, path} <- [File.read_link("/proc/self/fd/#{fd}")],
          do: path

    Enum.filter(scratches(), &(&1 in open))
  end

  defp descriptors, do: length(File.ls!("/proc/self/fd"))
  defp scratch(opts \\ []), do: sandbox([filesystem: [scratch: "/tmp"]] ++ opts)

  # A file, and then what `end` says.
  defp ending(with) do
    load!("""
    (module
      #{RawCalls.imports(~w(path_open path_create_directory proc_exit poll_oneoff))}
      (memory (export "memory") 1)
      (data (i32.const 0) "directory")
      (func $sleep
        (i64.store (i32.const 1024) (i64.const 3600000000000))
        (drop (call $poll_oneoff (i32.const 1000) (i32.const 2000) (i32.const 1) (i32.const 3000))))
      (func $down (call $down) (call $down))
      (func $make
        (if (call $path_create_directory (i32.const 3) (i32.const 0) (i32.const 9)) (then unreachable))
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1)
                  (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 32))
          (then unreachable)))
      (func (export "_start") (call $make) #{with}))
    """)
  end

  @sleep "(call $sleep)"
  @ends %{
    "returns" => "",
    "exits" => "(call $proc_exit (i32.const 3))",
    "traps" => "unreachable",
    "never ends" => "(loop (br 0))",
    "has no more stack" => "(call $down)"
  }

  for {how, code} <- @ends do
    test "is gone when its guest #{how}", %{gone: gone} do
      Executor.run(ending(unquote(code)), :start, sandbox: scratch(fuel: 1_000_000))
      gone.()
    end
  end

  test "is gone when the deadline strikes, in the midst of a sleep", %{gone: gone} do
    assert {:error, %{limit: :timeout}} =
             Executor.run(ending(@sleep), :start, sandbox: scratch(timeout: 100))

    gone.()
  end

  test "is gone when its caller is killed", %{gone: gone, new: new} do
    callers =
      for _ <- 1..20 do
        {:ok, caller} =
          Task.start(fn ->
            Executor.run(ending(@sleep), :start, sandbox: scratch(timeout: never()))
          end)

        caller
      end

    # Each guest has one of its own.
    eventually(fn ->
      length(new.()) == 20 and Enum.all?(new.(), &File.exists?(Path.join(&1, "d")))
    end)

    Enum.each(callers, &Process.exit(&1, :kill))
    gone.()
    quiet()
  end

  test "is gone when its call is cancelled", %{gone: gone, new: new} do
    call = Executor.async(ending(@sleep), :start, sandbox: scratch())
    eventually(fn -> new.() != [] end)
    assert {:error, _cancelled} = Executor.cancel(call)
    gone.()
  end

  test "is gone when its guest does not even start", %{gone: gone} do
    module = load!("(module #{RawCalls.imports(["fd_write"])} (memory (export \"memory\") 1)
                     (func $start unreachable) (start $start) (func (export \"_start\")))")

    assert {:error, %{code: :unreachable}} = Executor.run(module, :start, sandbox: scratch())

    missing = sandbox(filesystem: [dirs: [{"/no/such", "/a"}], scratch: "/tmp"])
    assert {:error, _} = Executor.run(ending(""), :start, sandbox: missing)
    gone.()
  end

  test "lives as long as a live instance, and not longer", %{gone: gone, new: new} do
    guest = RawCalls.guest(scratch())
    assert {:ok, fd} = RawCalls.open(guest, "f", [:create])
    assert RawCalls.write(guest, fd, "kept") == {:ok, 4}
    assert [path] = new.()
    assert File.read!(Path.join(path, "f")) == "kept"
    # Nobody else on the machine reads it.
    assert Bitwise.band(File.stat!(path).mode, 0o077) == 0

    # Made anew, it has a new one.
    assert Instance.reset(guest) == :ok
    assert RawCalls.open(guest, "f") == :noent
    eventually(fn -> not File.exists?(path) end)
    assert [_] = new.()
    :ok = Instance.close(guest)
    gone.()
  end

  test "of a guest that nobody has any more is gone with it", %{gone: gone} do
    {pid, monitor} =
      spawn_monitor(fn ->
        for _ <- 1..5, do: {:ok, _} = RawCalls.open(RawCalls.guest(scratch()), "f", [:create])
      end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    gone.()
  end

  test "is no way to another guest's", %{gone: gone} do
    one = RawCalls.guest(scratch())
    other = RawCalls.guest(scratch())
    {:ok, _} = RawCalls.open(one, "f", [:create])
    assert RawCalls.open(other, "f") == :noent

    for path <- ["..", "../*/f", "/tmp"],
        do: assert(RawCalls.open(other, path) in [:perm, :noent])

    for path <- scratches(),
        do: assert(RawCalls.open(other, "../#{Path.basename(path)}/f") == :perm)

    for guest <- [one, other], do: Instance.close(guest)
    gone.()
  end

  # A guest that makes links and removes what it may cannot keep what is outside from staying.
  test "is removed without what its links point to", %{gone: gone} do
    dir = directory()
    File.write!(Path.join(dir, "kept"), "kept")
    files = [dirs: [{dir, "/data", :rw}], scratch: "/tmp"]
    guest = RawCalls.guest(sandbox(filesystem: files))
    # The directory is 3, scratch is 4.
    RawCalls.put(guest, 0, "../../" <> dir)
    length = byte_size(dir) + 6
    assert RawCalls.raw(guest, "path_symlink", [0, length, 4, 0, 2]) in [:ok, :perm, :exist]
    assert RawCalls.move(guest, "path_link", {3, "kept"}, {4, "hard"}) in [:ok, :xdev, :perm]
    Instance.close(guest)
    gone.()
    assert File.read!(Path.join(dir, "kept")) == "kept"
  end

  test "a crowd of guests that are killed at any time leaves nothing behind", %{gone: gone} do
    before = descriptors()
    module = Runtime.load_module!("test/fixtures/wasi/files.wasm")
    opts = [args: ["fill", "/tmp/f", "1000000", "1000000"], sandbox: scratch(), wait: never()]

    for _ <- 1..10 do
      callers =
        for _ <- 1..10 do
          {:ok, caller} = Task.start(fn -> Executor.run(module, :start, opts) end)
          caller
        end

      Process.sleep(:rand.uniform(20))
      for caller <- Enum.shuffle(callers), do: Process.exit(caller, :kill)
    end

    quiet()
    gone.()
    eventually(fn -> descriptors() <= before + 5 end)
  end

  test "of a fork is its own", %{gone: gone, new: new} do
    module =
      load!("""
      (module #{RawCalls.imports(["path_open"])}
        (memory (export "memory") 1)
        (data (i32.const 0) "f")
        (func (export "open") (param i32) (result i32)
          (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (local.get 0)
            (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 32))))
      """)

    {create, look} = {1, 0}
    guest = Instance.new!(module, sandbox: scratch(), snapshottable: true)
    assert Instance.call(guest, "open", [create]) == {:ok, 0}
    {:ok, fork} = Instance.fork(guest)
    assert length(new.()) == 2
    assert {:ok, noent} = Instance.call(fork, "open", [look])
    assert noent == 44
    assert Instance.call(fork, "open", [create]) == {:ok, 0}
    for one <- [guest, fork], do: Instance.close(one)
    gone.()
  end

  # In a VM of their own: what they attack ends it.

  test "is gone when the VM is stopped, with guests in it or just after" do
    dir = directory()

    code = ~S"""
    module = Runtime.load_module!("test/fixtures/wasi/files.wasm")
    sandbox = Cybernetic.WASM.Sandbox.new(stdio: :captured, filesystem: [scratch: "/tmp"])
    reactor = Runtime.load_module!("test/fixtures/wasi/reactor.wasm")
    :persistent_term.put(:live, Cybernetic.WASM.Instance.new!(reactor, sandbox: sandbox))
    {:ok, _run} = Executor.run(module, :start, args: ["files", "/tmp", "10000"], sandbox: sandbox)
    System.stop(0)
    Process.sleep(:infinity)
    """

    assert {_, 0} = FreshNode.run([], code, env: [{"TMPDIR", dir}])
    assert File.ls!(dir) == []
  end

  @tag :tmp_dir
  test "that cannot be opened, for want of descriptors, does not stay", %{tmp_dir: dir} do
    code = """
    module = Runtime.load_module!({:bytes, "(module (import \\"wasi_snapshot_preview1\\" \\"fd_close\\" (func (param i32) (result i32))))"})
    sandbox = Cybernetic.WASM.Sandbox.new(filesystem: [scratch: "/tmp"])
    make = fn -> Cybernetic.WASM.Instance.new(module, sandbox: sandbox) end
    left = fn -> File.ls!(System.tmp_dir!()) end
    {:ok, first} = make.()
    :ok = Cybernetic.WASM.Instance.close(first)
    eventually(fn -> left.() == [] end)

    # Without descriptors no code can be loaded either.
    {:ok, modules} = :application.get_key(:cybernetic_wasm, :modules)
    Enum.each(modules, &Code.ensure_loaded/1)

    fill = fn fill, files ->
      case :file.open("/dev/null", [:raw, :read]) do
        {:ok, file} -> fill.(fill, [file | files])
        {:error, :emfile} -> files
      end
    end

    files = fill.(fill, [])
    made = [make.(), make.(), make.()]
    Enum.each(files, &:file.close/1)
    {Enum.map(made, &elem(&1, 0)), left.()}
    """

    made = FreshNode.eval([], code, ulimit: "-n 256", env: [{"TMPDIR", dir}])
    assert made == {[:error, :error, :error], []}
  end

  @deep ~S"""
  module = Runtime.load_module!({:bytes, "(module
    (import \"wasi_snapshot_preview1\" \"path_create_directory\" (func $mkdir (param i32 i32 i32) (result i32)))
    (import \"wasi_snapshot_preview1\" \"path_open\" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import \"wasi_snapshot_preview1\" \"fd_close\" (func $close (param i32) (result i32)))
    (memory (export \"memory\") 1)
    (data (i32.const 0) \"d\")
    (func (export \"deeper\") (param $wanted i32) (result i32) (local $fd i32) (local $made i32)
      (local.set $fd (i32.const 3))
      (block $end (loop $again
        (br_if $end (i32.ge_u (local.get $made) (local.get $wanted)))
        (br_if $end (call $mkdir (local.get $fd) (i32.const 0) (i32.const 1)))
        (br_if $end (call $open (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2)
                          (i64.const 0x4200) (i64.const 0x4200) (i32.const 0) (i32.const 16)))
        (if (i32.ne (local.get $fd) (i32.const 3)) (then (drop (call $close (local.get $fd)))))
        (local.set $fd (i32.load (i32.const 16)))
        (local.set $made (i32.add (local.get $made) (i32.const 1)))
        (br $again)))
      (local.get $made)))"})

  sandbox = Cybernetic.WASM.Sandbox.new(filesystem: [scratch: "/tmp"], timeout: 600_000)
  left = fn -> Path.wildcard(Path.join(System.tmp_dir!(), "cybernetic-wasm-*")) end
  {:ok, made} = Executor.call(module, "deeper", [DEPTH], sandbox: sandbox)

  gone = eventually(fn -> left.() == [] end)
  {made, gone, Executor.call(module, "deeper", [3], sandbox: sandbox)}
  """

  # Each is opened from the one above, so that no path is long: what removes them must not go as deep itself.
  test "directories in directories, as many as the quota allows, are removed" do
    assert {24_000, true, {:ok, 3}} = deep(24_000, [])
  end

  test "so are they where the VM may have few files open" do
    assert {5_000, true, {:ok, 3}} = deep(5_000, ulimit: "-n 256")
  end

  defp deep(depth, opts) do
    dir = directory()
    on_exit(fn -> System.cmd("rm", ["-rf", dir]) end)
    code = String.replace(@deep, "DEPTH", "#{depth}")
    FreshNode.eval([], code, [env: [{"TMPDIR", dir}]] ++ opts)
  end
end
