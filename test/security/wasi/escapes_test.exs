defmodule Cybernetic.WASM.Security.WASI.EscapesTest do
  # A guest that is given a directory stays in it, whatever it calls the places outside, and whatever links it finds or makes.
  # `escapes.c` tries the classic tricks through the raw interface, and says "LEAK" where one succeeds.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Programs}

  alias Cybernetic.WASM.{Executor, Guests, LimitError, RawCalls}

  setup :granted_and_outside

  for mode <- [:rw, :ro] do
    test "no trick leaves a directory that is granted as #{inspect(mode)}", context do
      before = tree(context.outside)

      run =
        run!("escapes", ["escape", "/data"], sandbox: sandbox_of(context.granted, unquote(mode)))

      assert run.exit_code == 0
      assert lines_with("LEAK", run) == []
      assert map_size(answers(run)) > 75
      assert tree(context.outside) == before
    end
  end

  test "refusals say that they are, and are recorded", %{granted: granted} do
    run = run!("escapes", ["escape", "/data"], sandbox: sandbox_of(granted, :rw))
    answers = answers(run)

    for trick <-
          ~w(parent secret through-sub absolute root environment host-link host-link-absolute through-host-link
                    link-relative through-own-link hard-link-of-link stat-secret readlink-outside parent-of-sub
                    secret-from-moved create-outside overwrite-secret unlink-secret rename-in rename-out) do
      assert {trick, answers[trick]} == {trick, "perm"}
    end

    assert answers["closed-descriptor"] == "badf"
    assert answers["other-descriptors"] == "0"
    assert answers["loop"] == "loop"

    for trick <- ~w(nul nul-inside only-nul),
        do: assert({trick, answers[trick]} == {trick, "inval"})

    assert {:filesystem, "path_open", :perm} in refusals(run)
    assert {:filesystem, "path_rename", :perm} in refusals(run)
    assert Enum.any?(run.denials, &(&1.detail == "/etc/passwd"))
    # However much is tried, it is a list that somebody can read.
    assert length(run.denials) <= 101
  end

  test "a read-only directory stays as it is", %{granted: granted} do
    before = tree(granted)
    run = run!("escapes", ["read-only", "/data"], sandbox: sandbox_of(granted, :ro))

    assert lines_with("LEAK", run) == []
    assert %{"create" => "perm", "truncate" => "perm", "unlink" => "perm"} = answers(run)
    assert tree(granted) == before
    assert {:filesystem, "path_unlink_file", :perm} in refusals(run)
  end

  test "without a directory there is nothing to open" do
    for path <- ~w(/etc/passwd /proc/self/environ /tmp . .. x) do
      assert run!("files", ["read", path]).stdout == "read notcapable\n"
    end

    assert run!("files", ["ls", "/"]).stdout == "ls notcapable\n"
    assert run!("wild", ["descriptors"]).stdout |> answers() |> Map.keys() == ["0", "1", "2"]
  end

  test "a guest sees the directories it was given, and by its own names", %{
    granted: granted,
    outside: outside
  } do
    dirs = [{granted, "/data", :ro}, {outside, "/other/place", :ro}]
    sandbox = sandbox(filesystem: [dirs: dirs])

    assert run!("files", ["read", "/data/inside.txt"], sandbox: sandbox).stdout == "inside\n"

    assert run!("files", ["read", "/other/place/secret"], sandbox: sandbox).stdout ==
             "SECRET of the host"

    assert run!("files", ["read", "/other/secret"], sandbox: sandbox).stdout ==
             "read notcapable\n"

    # A link leads from one to the other on the host, but not in the guest.
    assert run!("files", ["read", "/data/host-file"], sandbox: sandbox).stdout == "read perm\n"
  end

  test "a link that the guest leaves behind leads nowhere for the next guest", %{granted: granted} do
    sandbox = sandbox_of(granted, :rw)
    assert run!("files", ["symlink", "../outside", "/data/left"], sandbox: sandbox).exit_code == 0
    assert run!("files", ["read", "/data/left/secret"], sandbox: sandbox).stdout == "read perm\n"
    # One to an absolute path is not even made.
    assert run!("files", ["symlink", "/etc", "/data/etc"], sandbox: sandbox).stdout ==
             "symlink perm\n"
  end

  test "a name that turns from a directory into a link between check and use", %{granted: granted} do
    run =
      run!("escapes", ["race", "/data", "300"],
        sandbox: sandbox_of(granted, :rw, fuel: 10_000_000_000)
      )

    assert run.stdout == "leaks 0\n"
  end

  # For a second: each guest starts again when it has come to its end.
  test "the same from two guests at once", %{granted: granted, outside: outside} do
    sandbox = sandbox_of(granted, :rw, fuel: 10_000_000_000, quota: 1_000_000_000_000)
    until = System.monotonic_time(:millisecond) + 1_000
    before = tree(outside)

    again = fn again, args, expected ->
      assert run!("escapes", args, sandbox: sandbox).stdout == expected
      if System.monotonic_time(:millisecond) < until, do: again.(again, args, expected)
    end

    guests = [
      {["swap", "/data", "200"], "swapped ok\n"},
      {["peek", "/data", "300"], "leaks 0\n"},
      {["peek", "/data", "300"], "leaks 0\n"}
    ]

    guests
    |> Enum.map(fn {args, expected} -> Task.async(fn -> again.(again, args, expected) end) end)
    |> await()

    assert tree(outside) == before
  end

  # The guests' own checks are of what they read. Here it is what they write, remove and rename.
  test "the same, to change what is outside", %{granted: granted, outside: outside} do
    before = tree(outside)

    module =
      Guests.load!("""
      (module
        #{RawCalls.imports(~w(path_rename path_open path_unlink_file path_create_directory path_link path_symlink fd_close))}
        (memory (export "memory") 1)
        (data (i32.const 0) "held") (data (i32.const 8) "link") (data (i32.const 16) "swap") (data (i32.const 24) "swap/secret")
        (data (i32.const 40) "swap/made") (data (i32.const 56) "inside.txt") (data (i32.const 72) "../outside")
        (func $move (param i32 i32)
          (drop (call $path_rename (i32.const 3) (local.get 0) (i32.const 4) (i32.const 3) (local.get 1) (i32.const 4))))
        (func (export "swap")
          (drop (call $path_create_directory (i32.const 3) (i32.const 0) (i32.const 4)))
          (drop (call $path_symlink (i32.const 72) (i32.const 10) (i32.const 3) (i32.const 8) (i32.const 4)))
          (loop $again
            (call $move (i32.const 0) (i32.const 16)) (call $move (i32.const 16) (i32.const 0))
            (call $move (i32.const 8) (i32.const 16)) (call $move (i32.const 16) (i32.const 8))
            (br $again)))
        (func (export "change") (loop $again
          (if (i32.eqz (call $path_open (i32.const 3) (i32.const 1) (i32.const 40) (i32.const 9) (i32.const 9)
                        (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 128)))
            (then (drop (call $fd_close (i32.load (i32.const 128))))))
          (if (i32.eqz (call $path_open (i32.const 3) (i32.const 1) (i32.const 24) (i32.const 11) (i32.const 8)
                        (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 128)))
            (then (drop (call $fd_close (i32.load (i32.const 128))))))
          (drop (call $path_create_directory (i32.const 3) (i32.const 40) (i32.const 9)))
          (drop (call $path_link (i32.const 3) (i32.const 0) (i32.const 56) (i32.const 10) (i32.const 3) (i32.const 40) (i32.const 9)))
          (drop (call $path_link (i32.const 3) (i32.const 0) (i32.const 24) (i32.const 11) (i32.const 3) (i32.const 56) (i32.const 6)))
          (drop (call $path_rename (i32.const 3) (i32.const 24) (i32.const 11) (i32.const 3) (i32.const 56) (i32.const 6)))
          (drop (call $path_unlink_file (i32.const 3) (i32.const 24) (i32.const 11)))
          (br $again))))
      """)

    limits = [timeout: 1_000, max_host_calls: 1_000_000_000, fuel: 1_000_000_000_000]
    opts = [sandbox: sandbox_of(granted, :rw, [quota: 1_000_000_000_000] ++ limits)]

    for result <-
          ["swap", "change", "change"]
          |> Enum.map(fn name -> Task.async(fn -> Executor.call(module, name, [], opts) end) end)
          |> await(),
        do: assert({:error, %LimitError{limit: :timeout}} = result)

    assert tree(outside) == before
    refute File.exists?(Path.join(granted, "inside"))
  end

  test "the same from the host, in the midst of the guest's reading", %{granted: granted} do
    sandbox = sandbox_of(granted, :ro, fuel: 10_000_000_000)
    reader = Task.async(fn -> run!("escapes", ["peek", "/data", "5000"], sandbox: sandbox) end)
    swap = Path.join(granted, "swap")

    for _ <- 1..500 do
      File.mkdir!(swap)
      File.rmdir!(swap)
      File.ln_s!("../outside", swap)
      File.rm!(swap)
    end

    assert await(reader).stdout == "leaks 0\n"
  end

  # Each has its own rights, also for what is carried from one to the other.
  test "what may be read only is not made writable by way of another directory", context do
    granted = Path.join(context.granted, "sub")
    files = [dirs: [{context.outside, "/a", :ro}, {granted, "/b", :rw}], scratch: "/c"]
    guest = RawCalls.guest(sandbox(filesystem: files))
    {read, write, scratch} = {3, 4, 5}
    before = tree(context.outside)

    for to <- [write, scratch], name <- ["path_link", "path_rename"] do
      assert RawCalls.move(guest, name, {read, "secret"}, {to, "stolen"}) in [:perm, :xdev]
      {:ok, _} = RawCalls.open(guest, "mine", [:create], to)
      assert RawCalls.move(guest, name, {to, "mine"}, {read, "mine"}) in [:perm, :xdev]
      assert RawCalls.move(guest, name, {to, "mine"}, {read, "secret"}) in [:perm, :xdev, :exist]
    end

    {:ok, sub} = RawCalls.open(guest, "empty", [:directory], read)
    assert RawCalls.open(guest, "new", [:create], sub) == :perm
    assert RawCalls.at(guest, "path_create_directory", "new", sub) == :perm

    # A number that was another's has the rights of what it is now.
    {:ok, file} = RawCalls.open(guest, "secret", [], read)
    assert RawCalls.raw(guest, "fd_renumber", [read, write]) == :ok
    assert RawCalls.open(guest, "secret", [:write], write) == :perm
    assert RawCalls.open(guest, "new", [:create], write) == :perm
    assert RawCalls.write(guest, file, "x") in [:badf, :perm, :notcapable]
    assert tree(context.outside) == before
  end

  # What the sandbox says of a path and what is there may differ: a link is opened for what it points to.
  test "a granted path that is a link is granted as what it points to", context do
    File.ln_s!(context.granted, Path.join(context.outside, "way"))
    guest = RawCalls.guest(sandbox_of(Path.join(context.outside, "way"), :ro))
    assert {:ok, _} = RawCalls.open(guest, "inside.txt")
    assert RawCalls.open(guest, "../outside/secret") == :perm
    assert RawCalls.open(guest, "../secret") == :perm
  end

  test "a pipe or a device in the directory holds nobody up", %{granted: granted} do
    {_, 0} = System.cmd("mkfifo", [Path.join(granted, "pipe")])
    sandbox = sandbox_of(granted, :rw)
    assert run!("files", ["read", "/data/pipe"], sandbox: sandbox).stdout == "read perm\n"
    assert run!("files", ["ls", "/data"], sandbox: sandbox).exit_code == 0
  end

  defp lines_with(word, run), do: run.stdout |> String.split("\n") |> Enum.filter(&(&1 =~ word))
end
