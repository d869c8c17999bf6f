defmodule Cybernetic.WASM.Security.WASI.SwapsTest do
  # A guest that may write to one directory must not choose what another directory is: neither what the next guest is given,
  # nor what is removed when a guest is gone. Links had been followed there.
  #
  # Not async: it looks for the private directory that it has just had made.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Programs}

  alias Cybernetic.WASM.{CallError, Instance, Runtime, Sandbox}

  setup do
    dir = directory()
    for sub <- ~w(open/inner secret/deep), do: File.mkdir_p!(Path.join(dir, sub))
    File.write!(Path.join(dir, "secret/key"), "secret")
    {:ok, dir: dir}
  end

  test "a directory inside a writable one that becomes a link is not given to the next guest", %{
    dir: dir
  } do
    open = Path.join(dir, "open")
    dirs = [{open, "/open", :rw}, {Path.join(open, "inner"), "/inner", :rw}]
    sandbox = Sandbox.new(stdio: :captured, filesystem: dirs)
    assert run!("files", ["ls", "/inner"], sandbox: sandbox).stdout == ""
    other = Sandbox.new(stdio: :captured, filesystem: [{open, "/open", :rw}])
    assert run!("files", ["mv", "/open/inner", "/open/old"], sandbox: other).exit_code == 0
    run!("files", ["symlink", "../secret", "/open/inner"], sandbox: other)
    assert File.read_link!(Path.join(open, "inner")) == "../secret"

    assert {:error, %CallError{reason: :no_directory} = error} =
             run("files", ["ls", "/inner"], sandbox: sandbox)

    assert Exception.message(error) =~ "a link on the way"
  end

  test "so is one on the way to it", %{dir: dir} do
    File.mkdir_p!(Path.join(dir, "open/a/b"))
    File.mkdir_p!(Path.join(dir, "secret/b"))
    sandbox = Sandbox.new(stdio: :captured, filesystem: [{Path.join(dir, "open/a/b"), "/b", :ro}])
    assert run!("files", ["ls", "/b"], sandbox: sandbox).stdout == ""
    File.rename!(Path.join(dir, "open/a"), Path.join(dir, "open/c"))
    File.ln_s!("../secret", Path.join(dir, "open/a"))

    assert {:error, %CallError{reason: :no_directory}} =
             run("files", ["ls", "/b"], sandbox: sandbox)
  end

  test "a link that is there when the sandbox is made is what the host meant", %{dir: dir} do
    File.ln_s!("secret", Path.join(dir, "link"))
    sandbox = Sandbox.new(stdio: :captured, filesystem: [{Path.join(dir, "link"), "/l", :ro}])
    assert [{real, "/l", :ro}] = sandbox.filesystem.dirs
    assert Path.basename(real) == "secret"
    assert run!("files", ["read", "/l/key"], sandbox: sandbox).stdout == "secret"
  end

  test "removing a private directory removes nothing but what is in it", %{dir: dir} do
    reactor = Runtime.load_module!("test/fixtures/wasi/reactor.wasm")
    temporary = System.tmp_dir!()
    private = fn -> for "cybernetic-wasm-" <> _ = name <- File.ls!(temporary), do: name end
    before = private.()

    sandbox = Sandbox.new(stdio: :captured, filesystem: [scratch: "/tmp"])
    instance = Instance.new!(reactor, sandbox: sandbox)
    [name] = private.() -- before
    path = Path.join(temporary, name)
    File.write!(Path.join(path, "own"), "x")

    # As a guest could that may write to the temporary directory.
    moved = Path.join(dir, "moved")
    File.rename!(path, moved)
    File.ln_s!(Path.join(dir, "secret"), path)
    on_exit(fn -> File.rm(path) end)

    :ok = Instance.close(instance)
    eventually(fn -> File.ls!(moved) == [] end)
    assert Enum.sort(File.ls!(Path.join(dir, "secret"))) == ["deep", "key"]
    assert File.read!(Path.join(dir, "secret/key")) == "secret"
  end
end
