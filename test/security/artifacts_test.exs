defmodule Cybernetic.WASM.Security.ArtifactsTest do
  # Compiled code on disk is code: whoever can have another file taken for it runs what they like inside the VM. The core
  # crate's own tests change every part of such files; these are the same promises as an application meets them.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Artifacts

  alias Cybernetic.WASM.{LoadError, Runtime}

  @compute "priv/wasm/compute.wasm"
  @wordcount "priv/wasm/wordcount.wasm"

  setup do
    folder = folder()
    eval(folder, ~s|kept.("#{@compute}", []); kept.("#{@wordcount}", []); :ok|)
    %{folder: folder, files: files(folder)}
  end

  @both ~s|for path <- ["#{@compute}", "#{@wordcount}"], do: kept.(path, [])
           {Executor.call(Runtime.load_module!("#{@compute}"), "process", [42]), counts.()}|

  test "one module's code is not taken for another's", %{folder: folder, files: [one, other]} do
    File.rename!(one, one <> ".aside")
    File.rename!(other, one)
    File.rename!(one <> ".aside", other)
    assert eval(folder, @both) == {{:ok, 84}, [0, 0, 2, 2]}
  end

  test "code from another folder is not taken, whatever its name", %{folder: folder} do
    elsewhere = folder()
    eval(elsewhere, ~s|kept.("#{@compute}", []); kept.("#{@wordcount}", []); :ok|)
    for {from, to} <- Enum.zip(files(folder), files(elsewhere)), do: File.cp!(from, to)
    assert eval(elsewhere, @both) == {{:ok, 84}, [0, 0, 2, 2]}
  end

  test "cut and spoilt files are not taken", %{folder: folder, files: [one, other]} do
    File.write!(one, binary_part(File.read!(one), 0, 9_000))
    File.write!(other, :crypto.strong_rand_bytes(20_000))
    assert eval(folder, @both) == {{:ok, 84}, [0, 0, 2, 2]}
  end

  test "a link in a file's place is not followed", %{folder: folder, files: [one, other]} do
    outside = Path.join(folder(), "outside")
    File.cp!(one, outside)
    File.rm!(one)
    File.ln_s!(outside, one)
    assert {{:ok, 84}, [1, 0, 1, 1]} = eval(folder, @both)
    assert File.lstat!(one).type == :regular
    assert File.stat!(other).size > 0 and File.stat!(outside).size > 0
  end

  test "what becomes of a file after it was loaded is nothing to its guests", %{folder: folder} do
    assert eval(folder, """
           modules = for path <- ["#{@compute}", "#{@wordcount}"], do: Runtime.load_module!(path)
           for path <- Path.wildcard("#{folder}/*-*"), do: File.write!(path, :binary.copy(<<0xCC>>, 1_000_000))
           results = for n <- 1..50, do: Executor.call(hd(modules), "process", [n])
           {Enum.uniq(results) == for(n <- 1..50, do: {:ok, 2 * n}), counts.()}
           """) == {true, [2, 0, 0, 0]}
  end

  test "a file of compiled code is no source", %{files: [file, _]} do
    assert {:error, %LoadError{reason: :not_wasm}} = Runtime.load_module(file)

    assert {:error, %LoadError{reason: :not_wasm}} =
             Runtime.load_module({:bytes, File.read!(file)})
  end

  test "the key is nobody else's, and no message shows it", %{folder: folder, files: [file, _]} do
    key = Path.join(folder, "key")
    assert Bitwise.band(File.stat!(key).mode, 0o777) == 0o600
    File.write!(file, "x")
    File.chmod!(key, 0o644)
    bytes = File.read!(key)

    {output, 0} =
      run(
        folder,
        ~s|Runtime.load_module!("#{@compute}"); IO.inspect({Runtime.artifacts(), Runtime.stats()})|
      )

    assert output =~ "others can read it"

    for shown <- [
          bytes,
          Base.encode16(bytes),
          Base.encode16(bytes, case: :lower),
          Base.encode64(bytes),
          inspect(bytes)
        ],
        do: refute(output =~ shown)
  end
end
