defmodule Mix.Tasks.Wasm.ManifestTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  alias Cybernetic.WASM.{Limits, Runtime, Sandbox}
  alias Cybernetic.WASM.Sandbox.Manifest

  @moduletag :tmp_dir

  defp starter(wat) do
    assert {0, text, ""} = run("wasm.manifest", ["-"], wat)
    assert {:ok, manifest} = Manifest.parse(text)
    module = Runtime.load_module!({:bytes, wat}, manifest: manifest)

    assert Enum.filter(
             Sandbox.check(module, Manifest.to_sandbox(manifest)),
             &(&1.effect == :link)
           ) == []

    {text, manifest}
  end

  # Limits, whoever has set them.
  defp numbers(sandbox), do: Map.take(sandbox.limits, Limits.keys())

  test "writes what the module is, and the configured limits" do
    assert {0, text, ""} = run("wasm.manifest", ["priv/wasm/compute.wasm"])
    assert {:ok, manifest} = Manifest.parse(text, require_limits: true, offer: [])
    assert %{name: "compute", version: "0.1.0", memory: true, entry: nil} = manifest
    module = Runtime.load_module!("priv/wasm/compute.wasm", manifest: manifest)
    assert manifest.digest == module.digest
    assert numbers(Manifest.to_sandbox(manifest)) == numbers(Sandbox.new())
    assert text =~ ~S|# One of its exports: "process", |
    assert text =~ "host_functions = false"
    refute text =~ "wasi"
  end

  test "lists the host functions" do
    {text, manifest} =
      starter(~S"""
      (module
        (import "env" "log" (func))
        (import "env" "log" (func (param i32)))
        (import "wasi:logging/logging@0.1.0" "log" (func))
        (import "" "" (func))
        (func (export "only")))
      """)

    assert manifest.capabilities[:host_functions] == [
             "env.log",
             {"wasi:logging/logging@0.1.0", "log"},
             {"", ""}
           ]

    assert manifest.entry == "only"
    refute manifest.memory
    assert text =~ ~S|  "env.log",|
  end

  test "suggests what a WASI module asks for, and says what it grants" do
    {text, manifest} =
      starter(~S"""
      (module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
          (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_recv" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")))
      """)

    assert manifest.entry == "_start"

    assert manifest.capabilities == [
             wasi: true,
             env: :any,
             network: false,
             clocks: :real,
             random: :system,
             stdio: :captured,
             host_functions: false
           ]

    assert text =~
             "# It opens files. This would let it read a directory beside this manifest:\n# filesystem = [{"

    assert text =~ "filesystem = false\n"
    refute Sandbox.new(manifest.capabilities).filesystem != Sandbox.new().filesystem
  end

  test "suggests nothing that a WASI module does not ask for" do
    {text, manifest} =
      starter(~S"""
      (module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))
      """)

    assert manifest.capabilities == [wasi: true, host_functions: false]
    refute text =~ "stdio ="
  end

  test "lists the modules of many host functions" do
    imports = for n <- 1..200, do: ~s|(import "env" "f#{n}" (func))|
    {_text, manifest} = starter("(module #{imports})")

    assert manifest.capabilities[:host_functions] == [{"env", "*"}] or
             manifest.capabilities[:host_functions] == ["env.*"]
  end

  test "writes names that nobody would expect as strings" do
    {text, manifest} =
      starter(~S"""
      (module
        (import "env" "a\0a\22]\0astdio = \22inherited\22" (func))
        (import "e\\nv" "\e2\80\ae\1b[2J" (func))
        (func (export "x\0a[capabilities.env]"))
        (func (export "\e2\80\a8y")))
      """)

    assert manifest.capabilities == [
             host_functions: ["env.a\n\"]\nstdio = \"inherited\"", "e\\nv.\u202E\e[2J"]
           ]

    refute text =~ ~r/[\p{Cf}\p{Zl}\e]/u
  end

  test "does not take an import that is called * for all of them" do
    wat = ~S|(module (import "env" "*" (func)) (import "env" "log" (func)))|
    assert {0, text, ""} = run("wasm.manifest", ["-"], wat)
    assert {:ok, %{capabilities: [host_functions: ["env.log"]]}} = Manifest.parse(text)
  end

  test "says that there is no room for all imports" do
    imports = for n <- 1..1_500, do: ~s|(import "#{String.duplicate("m", 50)}#{n}" "f" (func))|
    assert {2, "", message} = run("wasm.manifest", ["-"], "(module #{imports})")
    assert message =~ "the manifest of -:1"
    assert message =~ "more than 65536 bytes"
  end

  test "writes a file, but not over another", %{tmp_dir: dir} do
    path = Path.join(dir, "module.toml")
    wasm = "priv/wasm/wordcount.wasm"
    assert {0, "", ""} = run("wasm.manifest", [wasm, "--output", path])
    assert {:ok, %{name: "wordcount"}} = Manifest.load(path)
    assert run("wasm.validate", [wasm, "--manifest", path]) == {0, "#{wasm}: ok\n", ""}

    File.write!(path, "mine")
    assert {2, "", message} = run("wasm.manifest", [wasm, "--output", path])
    assert message =~ "#{path}: file already exists"
    assert File.read!(path) == "mine"

    assert {2, "", message} = run("wasm.manifest", [wasm, "--output", Path.join(dir, "no/such")])
    assert message =~ "no such file or directory"
  end

  test "refuses a command line without a file, with two, or with other options" do
    assert {2, "", message} = run("wasm.manifest", [])
    assert message =~ "FILE is missing\nusage: mix wasm.manifest FILE [--output PATH]"
    assert {2, "", message} = run("wasm.manifest", ["a", "b"])
    assert message =~ "one FILE is expected, got: a b"
    assert {2, "", message} = run("wasm.manifest", ["a", "--force"])
    assert message =~ "unknown option --force; known are: --help, --output"

    assert {2, "", "mix wasm.manifest: cannot load mix.exs: not WebAssembly" <> _} =
             run("wasm.manifest", ["mix.exs"])
  end
end
