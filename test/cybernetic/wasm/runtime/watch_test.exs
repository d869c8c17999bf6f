defmodule Cybernetic.WASM.Runtime.WatchTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  import Cybernetic.WASM.Eventually

  alias Cybernetic.WASM.{Executor, LoadError, Runtime}
  alias Cybernetic.WASM.Runtime.Watch

  @moduletag :tmp_dir

  # A name of its own for each test: names are the node's.
  setup do
    name = "watched-#{System.unique_integer([:positive])}"
    on_exit(fn -> Runtime.unload(name) end)
    %{name: name}
  end

  defp wat(result, more \\ ""),
    do: ~s|(module (func (export "f") (result i32) (i32.const #{result})) #{more})|

  # As a build writes it: under another name first.
  defp build(dir, name, text, extension \\ ".wasm") do
    path = Path.join(dir, name <> extension)
    File.write!(path <> ".new", text)
    File.rename!(path <> ".new", path)
    path
  end

  defp watch(dir, opts \\ []) do
    test = self()
    {:ok, watch} = Runtime.watch(dir, [interval: 1, report: &send(test, {:line, &1})] ++ opts)
    watch
  end

  defp line do
    assert_receive {:line, line}
    line
  end

  defp refute_line, do: refute_received({:line, _line})

  test "loads what is there, and what changes then", %{tmp_dir: dir, name: name} do
    build(dir, name, wat(1))
    watch = watch(dir)
    assert line() =~ ~r/\A#{name}: 0.1.0 is loaded, blake3:[0-9a-f]{8}\z/
    assert Executor.call(name, "f") == {:ok, 1}

    build(dir, name, wat(2))
    assert line() =~ "#{name}: 0.1.1 is loaded"
    assert Executor.call(name, "f") == {:ok, 2}
    :ok = Runtime.unwatch(watch)
    refute_line()
  end

  test "loads a file that is new", %{tmp_dir: dir, name: name} do
    watch(dir)
    build(dir, name, wat(7), ".wat")
    assert line() =~ "#{name}: 0.1.0 is loaded"
    # The binary format goes first.
    binary = build(dir, name, wat(8))
    assert line() == "#{name}: its .wat is not looked at, since there is a .wasm"
    assert line() =~ "#{name}: 0.1.1 is loaded"
    assert Executor.call(name, "f") == {:ok, 8}
    # Without it the text is looked at again.
    File.rm!(binary)
    assert line() =~ "#{name}: 0.1.2 is loaded"
    assert Executor.call(name, "f") == {:ok, 7}
  end

  test "keeps the old version of what is broken, and says so once", %{tmp_dir: dir, name: name} do
    build(dir, name, wat(1))
    watch(dir)
    _loaded = line()

    build(dir, name, "(modul")
    assert line() =~ ~r/\A#{name}: 0.1.0 stays: cannot load .*: line 1, column/
    assert Executor.call(name, "f") == {:ok, 1}

    # Without the export that callers call.
    build(dir, name, "(module)")
    assert line() =~ "#{name}: 0.1.0 stays: "
    assert Executor.call(name, "f") == {:ok, 1}

    build(dir, name, wat(3))
    assert line() =~ "#{name}: 0.1.1 is loaded"
    assert Executor.call(name, "f") == {:ok, 3}
    refute_line()
  end

  test "says nothing of the same bytes", %{tmp_dir: dir, name: name} do
    build(dir, name, wat(1))
    watch(dir)
    _loaded = line()
    build(dir, name, wat(1))
    build(dir, "unspeakable Name", wat(1))
    # That one is later.
    assert line() =~ ~s|"unspeakable Name": not loaded: |
    build(dir, name, wat(2))
    assert line() =~ "#{name}: 0.1.1 is loaded"
  end

  test "sees a change of the same size within a second", %{tmp_dir: dir, name: name} do
    watch(dir)

    for result <- 1..5 do
      build(dir, name, wat(result))
      assert line() =~ "#{name}: 0.1.#{result - 1} is loaded"
      assert Executor.call(name, "f") == {:ok, result}
    end
  end

  test "takes what is no file for none, and a file that goes for gone", %{
    tmp_dir: dir,
    name: name
  } do
    File.mkdir!(Path.join(dir, "folder.wasm"))
    File.write!(Path.join(dir, "text.txt"), wat(1))
    path = build(dir, name, wat(1))
    watch(dir)
    assert line() =~ "#{name}: 0.1.0 is loaded"
    File.rm!(path)
    assert line() == "#{name}: its file is gone, what was loaded stays"
    assert Executor.call(name, "f") == {:ok, 1}
    build(dir, name, wat(2))
    assert line() =~ "#{name}: 0.1.1 is loaded"
  end

  test "gives options to loads and reloads", %{tmp_dir: dir, name: name} do
    build(dir, name, wat(1))
    watch(dir, load: [by: "a test"], reload: [allow: :widen])
    assert line() =~ "0.1.0 is loaded"
    assert [%{by: "a test"}] = Runtime.changes(name)

    build(
      dir,
      name,
      wat(1, "") |> String.replace("(module", ~S|(module (import "env" "g" (func))|)
    )

    assert line() =~ "0.1.1 is loaded"
  end

  test "ends with who asked for it", %{tmp_dir: dir} do
    test = self()

    owner =
      spawn(fn ->
        send(test, Runtime.watch(dir, interval: 1))
        Process.sleep(:infinity)
      end)

    assert_receive {:ok, watch}
    Process.exit(owner, :kill)
    dead(watch)
    # A folder that goes is no reason to end.
    watch = watch(dir)
    File.rm_rf!(dir)
    File.mkdir_p!(dir)
    assert Process.alive?(watch)
    Runtime.unwatch(watch)
    refute Process.alive?(watch)
    assert Runtime.unwatch(watch) == :ok
  end

  test "refuses what is no folder, and options that it does not know", %{tmp_dir: dir} do
    assert {:error, %LoadError{reason: :not_found}} = Runtime.watch(Path.join(dir, "nowhere"))
    File.write!(Path.join(dir, "file"), "")

    assert {:error, %LoadError{reason: :unreadable} = error} =
             Runtime.watch(Path.join(dir, "file"))

    assert Exception.message(error) =~ "a file, and no folder"

    assert_raise ArgumentError, ~r/unknown option of watch\/2 :intervall/, fn ->
      Runtime.watch(dir, intervall: 1)
    end

    assert_raise ArgumentError, ~r/option :interval must be/, fn ->
      Runtime.watch(dir, interval: 0)
    end

    for {opts, words} <- [
          {[load: [fule: 1]], "unknown option of watch/2's load: :fule"},
          {[load: [manifest: 1]], "option :manifest must be true, false, a path"},
          {[load: [name: "x"]], "unknown option of watch/2's load: :name"},
          {[load: [allow: :widen]], "unknown option of watch/2's load: :allow"},
          {[reload: [allow: :all]], "option :allow must be :widen"},
          {[reload: [smoke: :ok]], "option :smoke must be a function"},
          {[reload: [wide: true]], "unknown option of watch/2's reload: :wide"}
        ] do
      error = assert_raise ArgumentError, fn -> Runtime.watch(dir, opts) end
      assert error.message =~ words
    end

    for {other, words} <- [
          {nil, "watch/2 takes the path of a folder, got: nil"},
          {'x', "got: a list"}
        ],
        do:
          assert_raise(ArgumentError, ~r/#{Regex.escape(words)}/, fn -> Runtime.watch(other) end)

    assert_raise ArgumentError, ~r/unwatch\/1 takes the process that watch\/2 gave/, fn ->
      Runtime.unwatch({:ok, self()})
    end
  end

  test "logs its lines by default, and what is not loaded as a warning", %{
    tmp_dir: dir,
    name: name
  } do
    build(dir, name, wat(1))
    build(dir, name <> "-broken", "(modul")

    log =
      capture_log(fn ->
        {:ok, watch} = Runtime.watch(dir)
        Runtime.unwatch(watch)
      end)

    assert log =~ ~r/\[info\].* Cybernetic.WASM: #{name}: 0.1.0 is loaded/
    assert log =~ ~r/\[warn(ing)?\].* Cybernetic.WASM: #{name}-broken: not loaded: /
  end

  describe "a file" do
    @look {10, 1_000, 1_000, 1}

    test "is due once it looks as it did before, and not again until it looks otherwise" do
      assert {:quiet, file} = Watch.File.next(%Watch.File{}, @look)
      assert {:due, file} = Watch.File.next(file, @look)
      assert {:quiet, file} = Watch.File.next(file, @look)
      other = put_elem(@look, 3, 2)
      assert {:quiet, file} = Watch.File.next(file, other)
      assert {:due, file} = Watch.File.next(file, other)
      assert {:quiet, _file} = Watch.File.next(file, other)
    end

    test "stays due while its times are those of the second of its load" do
      now = System.os_time(:second) + 100
      look = {10, 1_000, now, 1}
      assert {:due, file} = Watch.File.next(%Watch.File{seen: look}, look)
      assert {:due, _file} = Watch.File.next(file, look)
    end
  end
end
