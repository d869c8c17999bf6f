defmodule Cybernetic.WASM.Interface.ProjectTest do
  # A project of its own, which Mix compiles and releases in VMs of their own.
  use ExUnit.Case, async: true

  @thumb """
  defmodule MyApp.Thumb do
    use Cybernetic.WASM, otp_app: :my_app, source: {:priv, :my_app, "wasm/thumb.wasm"}
  end
  """

  @project """
  defmodule MyApp.MixProject do
    use Mix.Project

    def project do
      [
        app: :my_app,
        version: "0.1.0",
        # Where the library is on the code path, and no dependency.
        prune_code_paths: false,
        releases: [my_app: [include_erts: false, include_executables_for: [:unix], quiet: true]]
      ]
    end

    def application, do: [extra_applications: [:cybernetic_wasm]]
  end
  """

  @file_of_wasm "priv/wasm/thumb.wasm"

  setup do
    root =
      Path.join(
        System.tmp_dir!(),
        "interface_project_#{System.pid()}_#{System.unique_integer([:positive])}"
      )

    on_exit(fn -> File.rm_rf!(root) end)
    write(root, "mix.exs", @project)
    write(root, "lib/thumb.ex", @thumb)
    write(root, @file_of_wasm, wat(1))
    %{root: root}
  end

  defp write(root, path, content) do
    path = Path.join(root, path)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, content)
    # Mix looks at times first: what is written later is to be as old.
    File.touch!(path, 1_000_000_000)
  end

  # All of one size.
  defp wat(digit), do: ~s|(module (func (export "pixelCount") (result i32) (i32.const #{digit})))|

  defp mix(root, arguments) do
    code = "Mix.start(); Mix.CLI.main(#{inspect(arguments)})"
    elixir(root, ["-e", code])
  end

  defp elixir(root, arguments) do
    System.cmd("elixir", arguments,
      cd: root,
      stderr_to_stdout: true,
      env: [
        {"ERL_LIBS", Path.expand("..", Application.app_dir(:cybernetic_wasm))},
        {"MIX_ENV", "prod"},
        cache(root),
        {"MIX_EXS", nil},
        {"MIX_BUILD_PATH", nil},
        {"ERL_CRASH_DUMP_BYTES", "0"}
      ]
    )
  end

  # Compiled code is kept there.
  defp cache(root), do: {"XDG_CACHE_HOME", Path.join(root, "cache")}

  defp count(root) do
    {output, 0} = mix(root, ["run", "-e", "IO.inspect(MyApp.Thumb.pixel_count())"])
    output
  end

  test "is compiled by Mix, and again when the file changes, whatever its time and size say", %{
    root: root
  } do
    assert {output, 0} = mix(root, ["compile", "--warnings-as-errors"])
    assert output =~ "Compiling 1 file"
    assert count(root) =~ "{:ok, 1}"
    assert {"", 0} = mix(root, ["compile"])

    write(root, @file_of_wasm, wat(2))
    assert {output, 0} = mix(root, ["compile"])
    assert output =~ "Compiling 1 file"
    assert {"", 0} = mix(root, ["compile"])
    assert count(root) =~ "{:ok, 2}"
  end

  test "has documentation", %{root: root} do
    code = """
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(MyApp.Thumb)
    {_, _, _, %{"en" => doc}, _} = List.keyfind(docs, {:function, :pixel_count, 1}, 0)
    IO.puts(doc)
    IO.inspect(for {{:function, name, _}, _, _, :none, _} <- docs, do: name)
    """

    assert {output, 0} = mix(root, ["run", "-e", code])
    assert output =~ "Calls the export `pixelCount`, of the type `() -> (i32)`."
    # All others have some, or are not there for anybody to call.
    assert output =~ "[]"
  end

  test "is an error of the compiler where the file is gone, or has become none", %{root: root} do
    assert {_output, 0} = mix(root, ["compile"])

    write(root, @file_of_wasm, "no module")
    assert {output, 1} = mix(root, ["compile"])
    assert output =~ "lib/thumb.ex:2: MyApp.Thumb: cannot load"
    assert output =~ "not WebAssembly"

    File.rm!(Path.join(root, @file_of_wasm))
    assert {output, 1} = mix(root, ["compile"])
    assert output =~ "no such file"

    write(root, @file_of_wasm, wat(3))
    assert count(root) =~ "{:ok, 3}"
  end

  test "finds its file in a release, wherever that is", %{root: root} do
    assert {_output, 0} = mix(root, ["release", "--path", Path.join(root, "built")])
    moved = Path.join(root, "elsewhere")
    File.rename!(Path.join(root, "built"), moved)
    File.rm_rf!(Path.join(root, "_build"))
    File.rm_rf!(Path.join(root, "priv"))

    call = ~S|IO.inspect({MyApp.Thumb.pixel_count(), Application.app_dir(:my_app)})|

    {output, 0} =
      System.cmd(Path.join(moved, "bin/my_app"), ["eval", call],
        stderr_to_stdout: true,
        env: [cache(root)]
      )

    assert output =~ "{:ok, 1}"
    assert output =~ moved

    # It was not compiled for this file.
    [file] = Path.wildcard(Path.join(moved, "lib/my_app-*/#{@file_of_wasm}"))
    File.write!(file, wat(2))

    {output, 0} =
      System.cmd(Path.join(moved, "bin/my_app"), ["eval", call],
        stderr_to_stdout: true,
        env: [cache(root)]
      )

    assert output =~ "reason: :digest_mismatch"
  end
end
