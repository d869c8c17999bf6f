defmodule Cybernetic.WASM.Store.DiskTest do
  use ExUnit.Case, async: true
  use Cybernetic.WASM.StoreSuite

  import Cybernetic.WASM.StoreFolders, only: [store_folder: 1]
  import Bitwise
  import Cybernetic.WASM.Eventually, only: [eventually: 1]

  alias Cybernetic.WASM.{FreshNode, Native, StoreFolders}

  setup :store_folder

  defp mode(path), do: File.stat!(path).mode &&& 0o777

  describe "the folder" do
    test "is made for the user alone, whatever the umask is", %{store: store} do
      code = ~s|Cybernetic.WASM.Store.put("bytes", name: "x", store: #{inspect(store)})|
      shell = ~s(umask 0 && exec elixir -pa "$1" -e "$2")
      ebin = Application.app_dir(:cybernetic_wasm, "ebin")
      assert {_output, 0} = System.cmd("sh", ["-c", shell, "sh", ebin, code])

      for path <- [store | Path.wildcard("#{store}/**")],
          do: assert(mode(path) == if(File.dir?(path), do: 0o700, else: 0o600), path)

      assert {:ok, "bytes", _} = Store.get("x", store: store)
    end

    test "has each thing where the guide says", %{store: store} do
      {:ok, entry} = Store.put("bytes", name: "acme/thumb", version: "1.2.0", store: store)
      "blake3:" <> blake3 = entry.digest
      "sha256:" <> sha256 = entry.sha256

      assert Enum.sort(Enum.map(StoreFolders.files(store), &Path.relative_to(&1, store))) == [
               "blobs/#{binary_part(blake3, 0, 2)}/#{blake3}",
               "lock",
               "names/acme+thumb/1.2.0.json",
               "sha256/#{binary_part(sha256, 0, 2)}/#{sha256}"
             ]
    end

    test "is not used where others may write to it", %{store: store, around: around} do
      {:ok, _} = Store.put("bytes", name: "x", store: store)

      for {path, mode} <- [{store, 0o722}, {store, 0o770}, {around, 0o777}] do
        File.chmod!(path, mode)

        for result <- [
              Store.get("x", store: store),
              Store.put("bytes", name: "x", store: store),
              Store.gc(store: store),
              Store.verify(store: store),
              Store.list(store: store)
            ] do
          assert {:error, %{reason: :not_ours, path: ^path, blame: :caller} = error} = result
          assert error.detail =~ "others may write"
        end

        File.chmod!(path, 0o700)
      end

      assert {:ok, "bytes", _} = Store.get("x", store: store)
    end

    test "is reached without links, and has none", %{store: store, around: around} do
      {:ok, entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)
      link = Path.join(around, "link")
      File.ln_s!(store, link)
      assert {:error, %{reason: :not_ours, path: ^link} = error} = Store.get("x", store: link)
      assert error.detail =~ "link"
      assert StoreSuite.reason(Store.put("bytes", name: "x", store: link)) == :not_ours

      blob = StoreFolders.blob(store, entry.digest)

      for path <- [Path.dirname(blob), Path.join(store, "blobs")] do
        real = path <> ".real"
        File.rename!(path, real)
        File.ln_s!(real, path)
        assert StoreSuite.reason(Store.get("x", store: store)) == :not_ours
        File.rm!(path)
        File.rename!(real, path)
      end

      real = blob <> ".real"
      File.rename!(blob, real)
      File.ln_s!(real, blob)

      assert {:error, %{reason: :failed, detail: "not a file but a symlink"}} =
               Store.get("x", store: store)
    end

    test "belongs to the user", %{store: store} do
      if File.stat!("/proc/self").uid == 0 do
        {:ok, _} = Store.put("bytes", name: "x", store: store)
        File.chown!(store, 12_345)
        assert {:error, %{reason: :not_ours} = error} = Store.get("x", store: store)
        assert error.detail =~ "another user"
      else
        assert StoreSuite.reason(Store.get("x", store: "/usr")) == :not_ours
      end
    end

    test "has files that are no store's, which are left alone", %{store: store} do
      {:ok, entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)

      for path <- ["note.txt", "blobs/zz", "blobs/00/short", "names/X/1.json", "names/x/old.json"] do
        File.mkdir_p!(Path.dirname(Path.join(store, path)))
        File.write!(Path.join(store, path), "else")
      end

      assert {:ok, [^entry]} = Store.list(store: store)
      assert {:ok, %{blobs: 0}} = Store.gc(store: store)
      assert {:ok, %{blobs: 1, damaged: []}} = Store.verify(store: store)
      assert File.read!(Path.join(store, "names/x/old.json")) == "else"
    end
  end

  describe "who writes" do
    test "waits for others, and no longer than it may", %{store: store} do
      {:ok, _} = Store.put("bytes", name: "x", store: store)
      {:ok, lock} = Native.folder_lock(Path.join(store, "lock"))
      assert {:error, error} = Store.put("more", name: "x", timeout: 0, store: store)
      assert %{reason: :busy, blame: :node} = error
      assert Cybernetic.WASM.Error.transient?(error)
      # Who reads does not wait.
      assert {:ok, "bytes", _} = Store.get("x", store: store)

      waiting =
        Task.async(fn -> Store.put("more", name: "x", timeout: :infinity, store: store) end)

      Native.folder_unlock(lock)
      assert {:ok, _} = Task.await(waiting, :infinity)
    end

    test "may be killed", %{store: store} do
      test = self()

      holder =
        spawn(fn ->
          File.mkdir_p!(store)
          File.chmod!(store, 0o700)
          send(test, Native.folder_lock(Path.join(store, "lock")) |> elem(0))
          Process.sleep(:infinity)
        end)

      assert_receive :ok
      assert StoreSuite.reason(Store.put("bytes", timeout: 0, store: store)) == :busy
      Process.exit(holder, :kill)
      assert eventually(fn -> match?({:ok, _}, Store.put("bytes", timeout: 0, store: store)) end)
    end

    test "removes what others did not finish", %{store: store} do
      {:ok, _} = Store.put("bytes", name: "x", store: store)
      unfinished = Path.join(store, "tmp/0123")
      File.write!(unfinished, "byt")
      {:ok, _} = Store.put("more", name: "x", store: store)
      refute File.exists?(unfinished)
    end

    test "may be one of several processes of the system", %{store: store} do
      writer = fn number ->
        Task.async(fn ->
          FreshNode.eval(
            [],
            """
            for version <- 1..20 do
              opts = [name: "x", version: "\#{version}.0.0", store: #{inspect(store)}]
              result = Cybernetic.WASM.Store.put("of #{number}", opts)
              next = Cybernetic.WASM.Store.put("#{number} \#{version}", name: "y", store: #{inspect(store)})
              {elem(result, 0), elem(next, 1).version}
            end
            """
          )
        end)
      end

      [one, two] = Task.await_many([writer.(1), writer.(2)], :infinity)

      for {{{first, _}, {second, _}}, version} <- Enum.with_index(Enum.zip(one, two), 1) do
        assert Enum.sort([first, second]) == [:error, :ok]
        winner = if first == :ok, do: "of 1", else: "of 2"
        assert {:ok, ^winner, _} = Store.get("x@#{version}.0.0", store: store)
      end

      following = for {_result, version} <- one ++ two, do: version
      assert Enum.sort(following) == Enum.sort(for patch <- 0..39, do: "0.1.#{patch}")
      assert {:ok, %{damaged: [], missing: [], versions: 60}} = Store.verify(store: store)
    end
  end

  test "bytes are found by their SHA-256 again after a check", %{store: store} do
    {:ok, entry} = Store.put("bytes", store: store)
    File.rm_rf!(Path.join(store, "sha256"))
    assert StoreSuite.reason(Store.get(entry.sha256, store: store)) == :no_such_digest
    assert {:ok, %{restored: 1, damaged: []}} = Store.verify(store: store)
    assert {:ok, "bytes", _} = Store.get(entry.sha256, store: store)
    assert {:ok, %{restored: 0}} = Store.verify(store: store)
  end
end
