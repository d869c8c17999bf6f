defmodule Cybernetic.WASM.Programs do
  @moduledoc false
  # WASI programs as guests: those of `test/fixtures/wasi`, whose sources say what their commands do, and the large ones that
  # `bin/fetch-programs` builds.

  import ExUnit.Callbacks, only: [on_exit: 1]

  alias Cybernetic.WASM.{Executor, Run, Runtime, Sandbox}

  @large "target/programs"

  @doc "The module of a fixture, or the component of one: `{:component, name}`."
  def program({:component, name}),
    do: Runtime.load_module!("test/fixtures/components/wasi/#{name}.wasm")

  def program(name), do: Runtime.load_module!("test/fixtures/wasi/#{name}.wasm")

  @doc "Where a large program is, once it has been built."
  def large(name), do: Path.join(@large, "#{name}.wasm")

  @doc "The tags of tests that need a large program: skipped, and a word why, where it is missing."
  def needing(name) do
    if File.exists?(large(name)) do
      [program: name]
    else
      why = "there is no #{large(name)}, which bin/fetch-programs makes"
      # ExUnit does not tell the reason.
      IO.puts("Tests are skipped: #{why}")
      [skip: why]
    end
  end

  @doc "Runs `NAME ARGS…`, as a command with what `sandbox/1` grants unless `opts` says otherwise."
  def run(name, args, opts \\ []) do
    opts = Keyword.merge([args: args, sandbox: sandbox()], opts)
    name |> program() |> Executor.run(:start, opts)
  end

  @doc "The same, where it must come to an end."
  def run!(name, args, opts \\ []) do
    {:ok, run} = run(name, args, opts)
    run
  end

  @doc "What a command needs, and time enough for a busy machine; `opts` add to it, or take away."
  def sandbox(opts \\ []) do
    [clocks: :real, random: :system, stdio: :captured, timeout: 600_000]
    |> Keyword.merge(opts)
    |> Sandbox.new()
  end

  @doc "A sandbox with one directory, at `/data`."
  def sandbox_of(dir, mode, opts \\ []) do
    {files, opts} = Keyword.split(opts, [:quota, :max_open])
    sandbox([filesystem: [dirs: [{dir, "/data", mode}]] ++ files] ++ opts)
  end

  @doc "What the program answered in lines of `key value`."
  def answers(%Run{stdout: stdout}), do: answers(stdout)

  def answers(text) do
    for line <- String.split(text, "\n", trim: true), into: %{} do
      case String.split(line, " ", parts: 2) do
        [key, value] -> {key, value}
        [key] -> {key, ""}
      end
    end
  end

  @doc "What the guest was refused: `{capability, operation, errno}`, once each."
  def refusals(%Run{denials: denials}) do
    denials |> Enum.map(&{&1.capability, &1.operation, &1.errno}) |> Enum.uniq()
  end

  @doc "For `setup`: beside what is granted lies what must not be seen, as `escapes.c` expects it."
  def granted_and_outside(_context) do
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

  @doc "A directory of the test's own, gone after it."
  def directory do
    name = "cybernetic_wasm_test_#{System.pid()}_#{System.unique_integer([:positive])}"
    path = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(path)
    on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  @doc "All that is in a directory: contents of files, targets of links."
  def tree(dir) do
    for name <- File.ls!(dir), into: %{} do
      path = Path.join(dir, name)

      case File.lstat!(path).type do
        :directory -> {name, tree(path)}
        :symlink -> {name, {:link, File.read_link!(path)}}
        :regular -> {name, File.read!(path)}
      end
    end
  end
end
