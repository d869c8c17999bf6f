defmodule Cybernetic.WASM.Security.Components.FilesTest do
  # A component finds files by another interface than a module, and behind it must be the same walls: the programs that attack these
  # by preview 1 attack them here by WASI 0.2.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  @files {:component, "files"}
  @rust {:component, "rust_files"}

  setup :granted_and_outside

  defp sandboxed(args, sandbox, program \\ @files), do: run!(program, args, sandbox: sandbox)

  for mode <- [:rw, :ro] do
    test "no trick leaves a directory that is granted as #{inspect(mode)}", context do
      before = tree(context.outside)
      sandbox = sandbox_of(context.granted, unquote(mode))
      run = sandboxed(["escape", "/data", "text"], sandbox, {:component, "escapes"})

      assert run.exit_code == 0
      refute run.stdout =~ "LEAK"
      assert map_size(answers(run)) > 75
      assert tree(context.outside) == before
      assert {:filesystem, "wasi:filesystem/types#open-at", :not_permitted} in refusals(run)
      assert length(run.denials) <= 101
    end
  end

  test "a read-only directory stays as it is", %{granted: granted} do
    before = tree(granted)
    run = sandboxed(["read-only", "/data"], sandbox_of(granted, :ro), {:component, "escapes"})

    refute run.stdout =~ "LEAK"
    assert tree(granted) == before
    assert {:filesystem, "wasi:filesystem/types#unlink-file-at", :not_permitted} in refusals(run)
  end

  test "a name that turns from a directory into a link between check and use", %{granted: granted} do
    sandbox = sandbox_of(granted, :rw, fuel: 10_000_000_000)
    run = sandboxed(["race", "/data", "100"], sandbox, {:component, "escapes"})
    assert run.stdout == "leaks 0\n"
  end

  test "without a directory there is nothing to open" do
    for path <- ~w(/etc/passwd /proc/self/environ /tmp . .. x) do
      run = run!(@rust, ["read", path])
      assert run.exit_code == 1
      refute run.stdout =~ "root"
    end
  end

  test "bytes written to files are bounded, by streams as well", %{granted: dir} do
    sandbox = sandbox_of(dir, :rw, quota: 300_000)

    for {program, file} <- [{@files, "f"}, {@rust, "g"}] do
      args =
        if program == @rust,
          do: ["fill", "/data/#{file}"],
          else: ["fill", "/data/#{file}", "1000000"]

      run = sandboxed(args, sandbox, program)
      assert File.stat!(Path.join(dir, file)).size <= 300_000
      assert Enum.any?(run.denials, &(&1.capability == :filesystem and &1.errno == :quota))
    end
  end

  test "what fits is written whole", %{granted: dir} do
    run = sandboxed(["fill", "/data/f", "200000"], sandbox_of(dir, :rw, quota: 300_000))
    assert answers(run) == %{"fill" => "ok", "written" => "200000"}
    assert File.stat!(Path.join(dir, "f")).size == 200_000
    assert run.denials == []
  end

  test "files grown without writing, holes, and empty files count", %{granted: dir} do
    sandbox = sandbox_of(dir, :rw, quota: 300_000)

    assert sandboxed(["truncate", "/data/f", "1000000000000"], sandbox).stdout ==
             "truncate dquot\n"

    assert sandboxed(["truncate", "/data/f", "200000"], sandbox).stdout == "truncate ok\n"
    assert sandboxed(["pwrite", "/data/h", "1000000000", "x"], sandbox).stdout =~ ~r/dquot|io/
    assert File.stat!(Path.join(dir, "h")).size == 0

    for kind <- ["files", "dirs"] do
      into = Path.join(dir, "sub")
      File.rm_rf!(into)
      File.mkdir!(into)
      run = sandboxed([kind, "/data/sub", "1000"], sandbox_of(dir, :rw, quota: 409_600))
      assert answers(run) == %{"made" => "100", "many" => "dquot"}
    end
  end

  test "files open at once are bounded, and closing makes room", %{granted: dir} do
    for {opts, most} <- [{[], 64}, {[max_open: 5], 5}, {[max_open: 0], 0}] do
      run = sandboxed(["hold", "/data/inside.txt", "1000"], sandbox_of(dir, :rw, opts), @rust)
      assert String.starts_with?(run.stdout, "hold #{most} ")
    end

    run = sandboxed(["many", "/data/sub", "500"], sandbox_of(dir, :rw, max_open: 2), @rust)
    assert run.stdout == "many 500\n"
  end

  test "a pipe in the directory holds nobody up", %{granted: granted} do
    {_, 0} = System.cmd("mkfifo", [Path.join(granted, "pipe")])
    sandbox = sandbox_of(granted, :rw)
    assert sandboxed(["read", "/data/pipe"], sandbox).stdout == "read perm\n"
    assert sandboxed(["ls", "/data"], sandbox, @rust).exit_code == 0
  end
end
