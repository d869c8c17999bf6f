defmodule Cybernetic.WASM.Runtime.ArtifactsTest do
  # What is compiled is kept on disk, for nodes that start later: each node here is a VM of its own.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Artifacts

  alias Cybernetic.WASM.{FreshNode, Runtime}

  @compute "priv/wasm/compute.wasm"

  setup do
    %{folder: folder()}
  end

  test "a module that was compiled once is found by the next node", %{folder: folder} do
    call = ~s|Executor.call(kept.("#{@compute}", []), "process", [42])|
    assert eval(folder, "{#{call}, counts.()}") == {{:ok, 84}, [0, 1, 0, 1]}
    assert [_file] = files(folder)
    assert eval(folder, "{#{call}, counts.()}") == {{:ok, 84}, [1, 0, 0, 0]}
  end

  test "nobody need ask for it to be written", %{folder: folder} do
    assert eval(folder, """
           module = Runtime.load_module!("#{@compute}")
           eventually(fn -> Runtime.stats().artifact_writes == 1 end)
           %{artifact_entries: 1, artifact_bytes: bytes} = Runtime.stats()
           {Executor.call(module, "process", [1]), bytes > 10_000}
           """) == {{:ok, 2}, true}
  end

  test "other options of a load are other code", %{folder: folder} do
    load = fn opts -> ~s|kept.("#{@compute}", #{inspect(opts)}); counts.()| end
    assert eval(folder, load.([])) == [0, 1, 0, 1]
    assert eval(folder, load.(metering: :epoch)) == [0, 1, 0, 1]
    assert eval(folder, load.(deterministic: true)) == [0, 1, 0, 1]
    assert eval(folder, load.(features: [simd: false])) == [0, 1, 0, 1]
    assert eval(folder, load.(deterministic: true)) == [1, 0, 0, 0]
    # The configuration's own say is an option, too.
    assert eval(folder, load.([]), metering: :epoch) == [1, 0, 0, 0]
    assert length(files(folder)) == 4
  end

  test "preinitialized modules and snapshots are kept as well", %{folder: folder} do
    code = ~S"""
    source = ~s|(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
      (func (export "init") (param i32) (global.set $n (local.get 0)))
      (func (export "n") (result i32) (global.get $n)))|
    module = kept.({:bytes, source}, [])
    {:ok, ready} = Runtime.preinit(module, "init", [7])
    :ok = Runtime.keep(ready)
    {:ok, instance} = Cybernetic.WASM.Instance.new(module, snapshottable: true)
    {:ok, nil} = Cybernetic.WASM.Instance.call(instance, "init", [8])
    {:ok, wasm} = Cybernetic.WASM.Instance.snapshot(instance)
    again = kept.({:bytes, wasm}, [])
    # That which was made fit for snapshots is written by itself.
    eventually(fn ->
      stats = Runtime.stats()
      stats.artifact_writes + stats.artifact_hits == 4
    end)
    {Executor.call(ready, "n"), Executor.call(again, "n"), counts.()}
    """

    assert eval(folder, code) == {{:ok, 7}, {:ok, 8}, [0, 4, 0, 4]}
    assert eval(folder, code) == {{:ok, 7}, {:ok, 8}, [4, 0, 0, 0]}
  end

  test "a damaged file is not taken: one line says so, and the module is compiled anew",
       %{folder: folder} do
    eval(folder, ~s|kept.("#{@compute}", []); :ok|)
    [file] = files(folder)
    <<start::binary-size(5_000), byte, rest::binary>> = File.read!(file)
    File.write!(file, <<start::binary, Bitwise.bxor(byte, 1), rest::binary>>)

    code = ~s|IO.inspect({Executor.call(kept.("#{@compute}", []), "process", [42]), counts.()})|
    assert {output, 0} = run(folder, code)
    assert output =~ "{{:ok, 84}, [0, 0, 1, 1]}"

    assert [_once] =
             Regex.scan(~r/on disk was not taken: its seal is broken; the module is/, output)

    assert {output, 0} = run(folder, code)
    assert output =~ "{{:ok, 84}, [1, 0, 0, 0]}"
    refute output =~ "warning"
  end

  test "a folder that others can write to is not used: one line says why", %{folder: folder} do
    File.chmod!(folder, 0o777)

    assert {output, 0} = run(folder, ~s|for _ <- 1..2, do: Runtime.load_module!("#{@compute}")
                            IO.inspect({counts.(), Runtime.artifacts()}, width: :infinity)|)

    why = "#{folder}: others may write to it"
    assert output =~ inspect({[0, 0, 0, 1], %{folder: folder, reason: why}})
    assert [_once] = Regex.scan(~r/compiled modules are not kept on disk/, output)

    assert output =~
             "config artifact_dir names another folder, artifacts: false silences this): #{why}"

    assert File.ls!(folder) == []
  end

  test "where the user has no folder for caches, nothing is kept" do
    code = "Runtime.artifacts()"

    assert FreshNode.eval([], code,
             own: [artifacts: true],
             env: [{"XDG_CACHE_HOME", "/dev/null/cache"}]
           ) == %{
             folder: "/dev/null/cache/cybernetic_wasm/artifacts",
             reason: "/dev/null: it is no folder"
           }
  end

  test "the folder is in the user's cache where none is named", %{folder: folder} do
    assert FreshNode.eval([], "Runtime.artifacts()",
             own: [artifacts: true],
             env: [{"XDG_CACHE_HOME", folder}]
           ) == %{folder: Path.join(folder, "cybernetic_wasm/artifacts"), reason: nil}
  end

  test "artifacts: false leaves the disk alone", %{folder: folder} do
    code = ~s|Runtime.load_module!("#{@compute}"); {counts.(), Runtime.artifacts()}|

    assert eval(folder, code, artifacts: false) ==
             {[0, 0, 0, 1], %{folder: nil, reason: "artifacts: false"}}

    assert File.ls!(folder) == []
    assert %{reason: "artifacts: false"} = Runtime.artifacts()
    module = Runtime.load_module!(@compute)
    assert Runtime.keep(module) == {:error, "artifacts: false"}
  end

  test "no more is kept than artifact_size", %{folder: folder} do
    assert eval(
             folder,
             """
             for n <- 1..8, do: kept.({:bytes, "(module (func (export \\"f\\") (result i32) i32.const \#{n}))"}, [])
             stats = Runtime.stats()
             {stats.artifact_writes, stats.artifact_evictions > 0, stats.artifact_bytes <= 40_000}
             """,
             artifact_size: 40_000
           ) == {8, true, true}

    assert folder |> files() |> Enum.map(&File.stat!(&1).size) |> Enum.sum() <= 40_000
  end

  test "nodes share one folder", %{folder: folder} do
    code = """
    for n <- 1..30, do: kept.({:bytes, "(module (func (export \\"f\\") (result i32) i32.const \#{n}))"}, [])
    [hits, misses, refused, _jobs] = counts.()
    {hits + misses, refused}
    """

    nodes = for _ <- 1..3, do: Task.async(fn -> eval(folder, code) end)
    assert Task.await_many(nodes, :infinity) == List.duplicate({30, 0}, 3)
    assert length(files(folder)) == 30
    assert eval(folder, code <> "\ncounts.()") == [30, 0, 0, 0]
  end

  test "warm/1 loads all, and says of each how it went", %{folder: folder} do
    code = """
    [{:ok, one}, {:error, %{reason: :not_found}}, {:ok, other}] =
      Runtime.warm(["#{@compute}", "no/such.wasm", {"#{@compute}", metering: :epoch}])
    Enum.each([one, other], &(:ok = Runtime.keep(&1)))
    {Executor.call(one, "process", [1]), Executor.call(other, "process", [2]), counts.()}
    """

    assert eval(folder, code) == {{:ok, 2}, {:ok, 4}, [0, 2, 0, 2]}
    assert eval(folder, code) == {{:ok, 2}, {:ok, 4}, [2, 0, 0, 0]}
  end

  test "a module that nobody has loaded for cache_ttl leaves the cache" do
    assert FreshNode.eval([cache_ttl: 20], """
           module = Runtime.load_module!("#{@compute}")
           eventually(fn -> Runtime.stats().cache_expired == 1 end)
           {Runtime.stats().cache_entries, Executor.call(module, "process", [1])}
           """) == {0, {:ok, 2}}

    assert FreshNode.eval([cache_ttl: :infinity], """
           Runtime.load_module!("#{@compute}")
           Runtime.stats().cache_entries
           """) == 1
  end
end
