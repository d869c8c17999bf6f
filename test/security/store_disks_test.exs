defmodule Cybernetic.WASM.Security.StoreDisksTest do
  # A store on a disk that is full, or cannot be written to. Only root can mount one.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.StoreFolders, only: [store_folder: 1]

  @moduletag :unshare
  unless match?({_, 0}, System.shell("unshare -m true", stderr_to_stdout: true)),
    do: @moduletag(skip: "a disk of its own needs root, and `unshare`")

  setup :store_folder

  # Runs code in a VM of its own, where a disk of so many bytes is mounted that nobody else sees. `store` and `disk` are paths.
  defp on_disk(around, bytes, code) do
    script = """
    alias Cybernetic.WASM.{Store, StoreError}
    disk = #{inspect(around)}
    store = Path.join(disk, "store")
    put = fn bytes, opts -> Store.put(bytes, [store: store] ++ opts) end
    get = fn reference -> Store.get(reference, store: store) end
    IO.puts(inspect((fn -> #{code} end).(), limit: :infinity))
    """

    mount =
      "mount -t tmpfs -o size=#{bytes},mode=0700 tmpfs \"$0\" && exec elixir -pa \"$1\" -e \"$2\""

    ebin = Application.app_dir(:cybernetic_wasm, "ebin")
    args = ["-m", "sh", "-c", mount, around, ebin, script]
    {output, status} = System.cmd("unshare", args, stderr_to_stdout: true)
    assert status == 0, output
    {term, _} = output |> String.split("\n", trim: true) |> List.last() |> Code.eval_string()
    term
  end

  test "a put for which there is no room leaves all as it was, wherever that shows", context do
    results =
      on_disk(context.around, 512 * 1_024, """
      {:ok, _} = put.("first", name: "x", version: "1.0.0")
      filler = Path.join(disk, "filler")

      for pages <- 0..16 do
        # All that there is, but for so many pages.
        {:error, :enospc} = File.write(filler, :binary.copy("f", 1_000_000))
        {:ok, %{size: size}} = File.stat(filler)
        {:ok, file} = :file.open(filler, [:read, :write])
        {:ok, _} = :file.position(file, max(size - 4_096 * pages, 0))
        :ok = :file.truncate(file)
        :ok = :file.close(file)
        bytes = :binary.copy(<<pages>>, 20_000)
        result = put.(bytes, name: "y" <> Integer.to_string(pages), version: "1.0.0")
        seen = get.("y" <> Integer.to_string(pages))
        {:ok, "first", _} = get.("x")
        {:ok, %{damaged: [], missing: []}} = Store.verify(store: store)
        File.rm!(filler)

        case {result, seen} do
          {{:ok, _}, {:ok, ^bytes, _}} -> :put
          {{:error, %StoreError{reason: :failed, blame: :node}}, {:error, %StoreError{reason: :no_such_name}}} -> :refused
          other -> other
        end
      end
      """)

    assert Enum.uniq(results) == [:refused, :put]
  end

  test "there is room again after a collection", context do
    assert on_disk(context.around, 256 * 1_024, """
           {:ok, _} = put.(:binary.copy("a", 150_000), name: "x", version: "1.0.0")
           {:error, %StoreError{blame: :node}} = put.(:binary.copy("b", 150_000), name: "x", version: "1.1.0")
           :ok = Store.delete("x@1.0.0", store: store)
           {:ok, %{blobs: 1}} = Store.gc(store: store)
           {:ok, entry} = put.(:binary.copy("b", 150_000), name: "x", version: "1.1.0")
           entry.version
           """) == "1.1.0"
  end

  test "a store that cannot be written to is read", context do
    assert on_disk(context.around, 512 * 1_024, """
           {:ok, entry} = put.("first", name: "x", version: "1.0.0")
           {_, 0} = System.cmd("mount", ["-o", "remount,ro", disk])
           {:ok, "first", _} = get.("x")
           {:ok, "first", _} = get.(entry.sha256)
           {:ok, [_]} = Store.list(store: store)
           {:ok, %{blobs: 1, damaged: []}} = Store.verify(store: store)

           for result <- [put.("more", []), Store.delete("x@1.0.0", store: store), Store.gc(store: store),
                          Store.prune(keep: 1, store: store)] do
             {:error, %StoreError{reason: :failed, blame: :host} = error} = result
             error.detail =~ "ead-only"
           end
           """) == [true, true, true, true]
  end
end
