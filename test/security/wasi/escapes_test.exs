defmodule Cybernetic.WASM.Security.WASI.EscapesTest do
  # A guest that is given a directory stays in it, whatever it calls the places outside, and whatever links it finds or makes.
  # `escapes.c` tries the classic tricks through the raw interface, and says "LEAK" where one succeeds.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  # Beside what is granted lies what must not be seen: as `escapes.c` expects it.
  setup do
    root = directory()
    granted = Path.join(root, "granted")
    outside = Path.join(root, "outside")
    for dir <- ["granted/sub", "outside/empty"], do: File.mkdir_p!(Path.join(root, dir))
    File.write!(Path.join(outside, "secret"), "SECRET of the host")
    File.ln_s!("secret", Path.join(outside, "link"))
    File.write!(Path.join(granted, "inside.txt"), "inside\n")
    File.ln_s!("../outside/secret", Path.join(granted, "host-file"))
    File.ln_s!("../outside", Path.join(granted, "host-dir"))
    File.ln_s!(Path.join(outside, "secret"), Path.join(granted, "host-absolute"))
    {:ok, granted: granted, outside: outside}
  end

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

  test "the same from two guests at once", %{granted: granted} do
    sandbox = sandbox_of(granted, :rw, fuel: 10_000_000_000)
    swapper = Task.async(fn -> run!("escapes", ["swap", "/data", "2000"], sandbox: sandbox) end)

    readers =
      for _ <- 1..3,
          do: Task.async(fn -> run!("escapes", ["peek", "/data", "3000"], sandbox: sandbox) end)

    for reader <- readers, do: assert(Task.await(reader, 60_000).stdout == "leaks 0\n")
    assert Task.await(swapper, 60_000).stdout == "swapped ok\n"
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

    assert Task.await(reader, 60_000).stdout == "leaks 0\n"
  end

  test "a pipe or a device in the directory holds nobody up", %{granted: granted} do
    {_, 0} = System.cmd("mkfifo", [Path.join(granted, "pipe")])
    sandbox = sandbox_of(granted, :rw, timeout: 5_000)
    assert run!("files", ["read", "/data/pipe"], sandbox: sandbox).stdout == "read perm\n"
    assert run!("files", ["ls", "/data"], sandbox: sandbox).exit_code == 0
  end

  defp lines_with(word, run), do: run.stdout |> String.split("\n") |> Enum.filter(&(&1 =~ word))
end
