defmodule Cybernetic.WASM.StoreSuite do
  @moduledoc false
  # What every kind of store does. A test module uses it, and its `setup` gives the `store`, an empty one, and in `harm` functions
  # for what befalls one: `blob: fn digest` and `entry: fn name, version` damage what is kept of them, `age: fn digest, seconds`
  # has bytes be unused for so long.

  defmacro __using__(_opts) do
    quote do
      alias Cybernetic.WASM.{Store, StoreError, StoreSuite}

      unquote(naming())
      unquote(versions())
      unquote(leaving())
      unquote(damage())
    end
  end

  @doc "Puts versions of a name there, each with bytes of its own, and gives its entries by version."
  def put_versions(store, name, versions) do
    for version <- versions, into: %{} do
      {:ok, entry} =
        Cybernetic.WASM.Store.put("#{name} #{version}",
          name: name,
          version: version,
          store: store
        )

      {version, entry}
    end
  end

  @doc "The reason of an error."
  def reason({:error, %Cybernetic.WASM.StoreError{} = error}) do
    # All have words.
    true = is_binary(Exception.message(error))
    error.reason
  end

  defp naming do
    quote do
      describe "what is put there" do
        test "is found by its name, its version and its digests", %{store: store} do
          {:ok, entry} = Store.put("bytes", name: "acme/thumb", version: "1.2.0", store: store)

          for reference <- [
                "acme/thumb",
                "acme/thumb@1",
                "acme/thumb@1.2",
                "acme/thumb@1.2.0",
                "acme/thumb@~> 1.0",
                "acme/thumb@>= 1.0.0 and < 2.0.0"
              ] do
            assert Store.get(reference, store: store) == {:ok, "bytes", entry}
          end

          for digest <- [entry.digest, entry.sha256] do
            assert {:ok, "bytes", %{digest: blake3, size: 5, name: nil}} =
                     Store.get(digest, store: store)

            assert blake3 == entry.digest
          end
        end

        test "tells who put it there, when, and what they said", %{store: store} do
          before = DateTime.truncate(DateTime.utc_now(), :second)
          opts = [name: "x", version: "1.0.0", by: "Ada", note: "first, \"ünïcode\"\n"]
          {:ok, entry} = Store.put("bytes", [store: store] ++ opts)

          assert %{name: "x", version: "1.0.0", by: "Ada", size: 5} = entry
          assert entry.note == "first, \"ünïcode\"\n"
          assert DateTime.compare(entry.at, before) in [:gt, :eq]
          assert {:ok, [^entry]} = Store.versions("x", store: store)
        end

        test "may be no bytes at all, and any bytes", %{store: store} do
          for bytes <- ["", <<0>>, :binary.copy(<<255>>, 100_000)] do
            {:ok, entry} = Store.put(bytes, store: store)
            assert {:ok, ^bytes, _entry} = Store.get(entry.digest, store: store)
            assert {:ok, ^bytes, _entry} = Store.get(entry.sha256, store: store)
          end
        end

        test "is read only where it is not larger than was asked for", %{store: store} do
          {:ok, _entry} = Store.put("bytes", name: "x", store: store)
          assert {:ok, "bytes", _entry} = Store.get("x", max_size: 5, store: store)
          assert {:error, error} = Store.get("x", max_size: 4, store: store)
          assert %StoreError{reason: :too_large, size: 5, allowed: 4} = error
        end

        test "is not there in an empty store", %{store: store} do
          assert Store.list(store: store) == {:ok, []}
          assert StoreSuite.reason(Store.versions("x", store: store)) == :no_such_name
          assert StoreSuite.reason(Store.get("x", store: store)) == :no_such_name
          digest = "blake3:" <> String.duplicate("0", 64)
          assert StoreSuite.reason(Store.get(digest, store: store)) == :no_such_digest
          digest = "sha256:" <> String.duplicate("0", 64)
          assert StoreSuite.reason(Store.get(digest, store: store)) == :no_such_digest
          assert {:ok, %{blobs: 0, versions: 0, damaged: []}} = Store.verify(store: store)
          assert Store.gc(store: store) == {:ok, %{blobs: 0, bytes: 0}}
          assert Store.prune(keep: 1, store: store) == {:ok, []}
        end
      end

      describe "names" do
        test "lead nowhere else", %{store: store} do
          for name <- [
                "",
                ".",
                "..",
                "../x",
                "x/..",
                "x/../../y",
                "/x",
                "x/",
                "x//y",
                ".x",
                "x/.y",
                "x.",
                "x..y",
                "X",
                "x y",
                "x\\y",
                "x+y",
                "x%2fy",
                "x\0y",
                "x\n",
                "-x",
                "é",
                "~x",
                "c:x",
                String.duplicate("x", 201)
              ] do
            assert StoreSuite.reason(Store.put("bytes", name: name, store: store)) ==
                     :invalid_name

            assert StoreSuite.reason(Store.versions(name, store: store)) == :invalid_name
            assert StoreSuite.reason(Store.get(name, store: store)) == :invalid_reference
            assert StoreSuite.reason(Store.delete(name, store: store)) == :invalid_reference
          end

          assert Store.list(store: store) == {:ok, []}
        end

        test "that begin alike are names of their own", %{store: store} do
          names = ["a", "a/b", "a/b/c", "a.b", "a-b", "a_b", "a/1.0.0.json", "a.json"]
          for name <- names, do: {:ok, _} = Store.put(name, name: name, store: store)
          for name <- names, do: assert({:ok, ^name, _} = Store.get(name, store: store))
          {:ok, entries} = Store.list(store: store)
          assert Enum.sort(Enum.map(entries, & &1.name)) == Enum.sort(names)
        end

        test "may be long", %{store: store} do
          name = String.duplicate("x", 200)
          version = "1.0.0-" <> String.duplicate("a", 58)
          {:ok, _} = Store.put("bytes", name: name, version: version, store: store)
          assert {:ok, "bytes", _} = Store.get("#{name}@#{version}", store: store)
        end

        test "take no version that has no order, or leads elsewhere", %{store: store} do
          for version <- [
                "",
                "1",
                "1.2",
                "1.2.3.4",
                "01.2.3",
                "1.2.3+build",
                "1.2.3/..",
                "../1.2.3",
                "1.2.3\0",
                "1.2.3\n",
                " 1.2.3",
                "v1.2.3",
                "1.2.3-" <> String.duplicate("a", 100)
              ] do
            opts = [name: "x", version: version, store: store]
            assert StoreSuite.reason(Store.put("bytes", opts)) == :invalid_version
          end
        end
      end
    end
  end

  defp versions do
    quote do
      describe "a version" do
        test "has the same bytes for ever", %{store: store} do
          {:ok, entry} = Store.put("one", name: "x", version: "1.0.0", store: store)

          assert {:error, error} = Store.put("two", name: "x", version: "1.0.0", store: store)
          assert %{reason: :taken, name: "x", version: "1.0.0"} = error
          assert error.digest == entry.digest

          again = [name: "x", version: "1.0.0", note: "again", store: store]
          assert Store.put("one", again) == {:ok, entry}
          assert {:ok, "one", ^entry} = Store.get("x", store: store)
        end

        test "is the next one where none is given", %{store: store} do
          put = fn bytes ->
            {:ok, entry} = Store.put(bytes, name: "x", store: store)
            entry.version
          end

          assert put.("one") == "0.1.0"
          assert put.("one") == "0.1.0"
          assert put.("two") == "0.1.1"
          assert put.("one") == "0.1.2"
          {:ok, _} = Store.put("three", name: "x", version: "2.0.0-rc.1", store: store)
          assert put.("three") == "2.0.0-rc.1"
          assert put.("four") == "2.0.0"
        end

        test "is one of those that fit, the highest", %{store: store} do
          versions = ~w(1.2.0 1.2.10 1.2.9 1.10.0 2.0.0-rc.1 2.0.0-rc.2)
          StoreSuite.put_versions(store, "x", versions)

          for {reference, version} <- [
                {"x", "1.10.0"},
                {"x@1", "1.10.0"},
                {"x@1.2", "1.2.10"},
                {"x@1.2.9", "1.2.9"},
                {"x@~> 1.2.0 and < 1.2.10", "1.2.9"},
                {"x@2.0.0-rc.1", "2.0.0-rc.1"},
                {"x@~> 2.0.0-rc", "2.0.0-rc.2"}
              ] do
            assert {:ok, "x " <> ^version, %{version: ^version}} =
                     Store.get(reference, store: store)
          end

          assert {:ok, [%{version: "2.0.0-rc.2"} | _]} = Store.versions("x", store: store)
          assert {:ok, [%{name: "x", version: "1.10.0"}]} = Store.list(store: store)
        end

        test "that fits may not be there", %{store: store} do
          StoreSuite.put_versions(store, "x", ~w(1.2.0 2.0.0-rc.1))

          for wanted <- ["3", "1.2.1", "~> 1.3", "~> 2.0"] do
            assert {:error, error} = Store.get("x@#{wanted}", store: store)
            assert %{reason: :no_such_version, version: ^wanted} = error
            assert error.versions == ["2.0.0-rc.1", "1.2.0"]
          end

          for wanted <- ["", "x", "1.2.0+b", "~>", "1.x", "@1", " 1.2", "1.2.0 ", "!= 1.0.0"] do
            assert StoreSuite.reason(Store.get("x@#{wanted}", store: store)) ==
                     :invalid_reference
          end
        end

        test "that is a pre-release is the current one where there is nothing else",
             %{store: store} do
          StoreSuite.put_versions(store, "x", ~w(0.1.0-a 0.1.0-b))
          assert {:ok, "x 0.1.0-b", _} = Store.get("x", store: store)
        end

        test "is taken by one of many that claim it at once", %{store: store} do
          claims =
            for number <- 1..8 do
              Task.async(fn ->
                Store.put("bytes #{number}", name: "x", version: "1.0.0", store: store)
              end)
            end

          results = Task.await_many(claims, :infinity)
          assert [{:ok, entry}] = Enum.filter(results, &match?({:ok, _}, &1))
          assert Enum.count(results, &match?({:error, %{reason: :taken}}, &1)) == 7
          assert {:ok, bytes, ^entry} = Store.get("x", store: store)
          assert byte_size(bytes) == entry.size
        end

        test "follows another where many put theirs at once", %{store: store} do
          puts =
            for number <- 1..8,
                do: Task.async(fn -> Store.put("bytes #{number}", name: "x", store: store) end)

          versions = for {:ok, entry} <- Task.await_many(puts, :infinity), do: entry.version
          assert Enum.sort(versions) == for(patch <- 0..7, do: "0.1.#{patch}")
        end
      end
    end
  end

  defp leaving do
    quote do
      describe "deleting" do
        test "drops a version, whose bytes stay", %{store: store} do
          %{"1.0.0" => entry} = StoreSuite.put_versions(store, "x", ~w(1.0.0 1.1.0))
          assert Store.delete("x@1.0.0", store: store) == :ok
          assert {:ok, [%{version: "1.1.0"}]} = Store.versions("x", store: store)
          assert {:ok, "x 1.0.0", _} = Store.get(entry.digest, store: store)
          assert StoreSuite.reason(Store.delete("x@1.0.0", store: store)) == :no_such_version
          assert StoreSuite.reason(Store.delete("y@1.0.0", store: store)) == :no_such_name
        end

        test "takes one version, and no requirement", %{store: store} do
          StoreSuite.put_versions(store, "x", ~w(1.0.0))

          for {reference, words} <- [
                {"x", "which version of x is to go? There are 1.0.0: say x@1.0.0, for example"},
                {"x@1.0", "1.0 is not one version of x; there are 1.0.0"},
                {"x@~> 1.0", ~s|"~> 1.0" is not one version of x; there are 1.0.0|}
              ] do
            assert {:error, %{reason: :inexact} = error} = Store.delete(reference, store: store)
            assert Exception.message(error) == "store: " <> words
          end

          assert {:error, %{reason: :no_such_name, nearest: nil}} =
                   Store.delete("y", store: store)

          StoreSuite.put_versions(store, "acme/thumb", ~w(1.0.0))

          for refused <- [
                Store.get("acme/thum", store: store),
                Store.versions("acme/thump", store: store)
              ] do
            assert {:error, %{reason: :no_such_name, nearest: "acme/thumb"} = error} = refused
            assert Exception.message(error) =~ "(did you mean acme/thumb?)"
          end
        end

        test "drops the last version of a name, and the name", %{store: store} do
          StoreSuite.put_versions(store, "x", ~w(1.0.0))
          assert Store.delete("x@1.0.0", store: store) == :ok
          assert Store.list(store: store) == {:ok, []}
          assert StoreSuite.reason(Store.versions("x", store: store)) == :no_such_name
        end

        test "drops no bytes that a version points at", %{store: store} do
          {:ok, entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)
          {:ok, _} = Store.put("bytes", name: "y", version: "2.0.0", store: store)

          for digest <- [entry.digest, entry.sha256] do
            assert {:error, error} = Store.delete(digest, store: store)
            assert %{reason: :in_use, versions: versions} = error
            assert Enum.sort(versions) == ["x@1.0.0", "y@2.0.0"]
          end

          :ok = Store.delete("x@1.0.0", store: store)
          :ok = Store.delete("y@2.0.0", store: store)
          assert Store.delete(entry.sha256, store: store) == :ok

          for digest <- [entry.digest, entry.sha256] do
            assert StoreSuite.reason(Store.get(digest, store: store)) == :no_such_digest
            assert StoreSuite.reason(Store.delete(digest, store: store)) == :no_such_digest
          end
        end
      end

      describe "pruning" do
        test "keeps the highest versions of each name, and the current one", %{store: store} do
          StoreSuite.put_versions(store, "x", ~w(1.0.0 1.9.0 1.10.0 2.0.0-rc.1 2.0.0-rc.2))
          StoreSuite.put_versions(store, "y", ~w(1.0.0))
          StoreSuite.put_versions(store, "z", ~w(1.0.0 2.0.0))

          assert {:ok, dropped} = Store.prune(keep: 1, store: store)
          assert Enum.sort(dropped) == ~w(x@1.0.0 x@1.9.0 x@2.0.0-rc.1 z@1.0.0)
          assert {:ok, [_, _] = left} = Store.versions("x", store: store)
          assert Enum.map(left, & &1.version) == ~w(2.0.0-rc.2 1.10.0)
          assert Store.prune(keep: 1, store: store) == {:ok, []}
        end

        test "may be of one name", %{store: store} do
          for name <- ~w(x y), do: StoreSuite.put_versions(store, name, ~w(1.0.0 2.0.0 3.0.0))
          assert Store.prune(keep: 2, name: "x", store: store) == {:ok, ["x@1.0.0"]}
          assert {:ok, [_, _, _]} = Store.versions("y", store: store)
        end

        test "wants to be told how many stay" do
          assert_raise ArgumentError, ~r/:keep/, fn -> Store.prune([]) end
          assert_raise ArgumentError, ~r/:keep/, fn -> Store.prune(keep: 0) end
        end
      end

      describe "collecting garbage" do
        test "drops the bytes that no version points at", %{store: store} do
          {:ok, named} = Store.put("named", name: "x", version: "1.0.0", store: store)
          {:ok, loose} = Store.put("loose", store: store)
          {:ok, old} = Store.put("old", name: "y", version: "1.0.0", store: store)
          :ok = Store.delete("y@1.0.0", store: store)

          assert Store.gc(store: store) == {:ok, %{blobs: 2, bytes: 8}}
          assert {:ok, "named", _} = Store.get(named.sha256, store: store)

          for gone <- [loose.digest, loose.sha256, old.digest, old.sha256],
              do: assert(StoreSuite.reason(Store.get(gone, store: store)) == :no_such_digest)

          assert Store.gc(store: store) == {:ok, %{blobs: 0, bytes: 0}}
        end
      end

      describe "the budget" do
        setup %{store: store, harm: harm} do
          entries =
            for {bytes, age} <- [{"aaaa", 300}, {"bbbb", 500}, {"cccc", 400}], into: %{} do
              {:ok, entry} = Store.put(bytes, store: store)
              harm.age.(entry.digest, age)
              {bytes, entry.digest}
            end

          {:ok, entries: entries}
        end

        defp there(store, entries) do
          for {bytes, digest} <- entries,
              match?({:ok, _, _}, Store.get(digest, store: store)),
              do: bytes
        end

        test "has those bytes leave that were not used for longest", context do
          {:ok, _} = Store.put("dddd", budget: 12, store: context.store)
          assert there(context.store, context.entries) == ["aaaa", "cccc"]
        end

        test "counts the use of bytes", context do
          {:ok, "bbbb", _} = Store.get(context.entries["bbbb"], store: context.store)
          {:ok, _} = Store.put("dddd", budget: 12, store: context.store)
          assert there(context.store, context.entries) == ["aaaa", "bbbb"]
        end

        test "leaves what versions point at, and takes nothing away in vain", context do
          {:ok, _} = Store.put("bbbb", name: "x", store: context.store)
          {:ok, _} = Store.put("dddd", budget: 12, store: context.store)
          assert there(context.store, context.entries) == ["aaaa", "bbbb"]

          assert {:error, error} = Store.put("eeeeeeeee", budget: 12, store: context.store)
          assert %{reason: :full, size: 13, allowed: 12, blame: :node} = error
          assert there(context.store, context.entries) == ["aaaa", "bbbb"]
        end

        test "counts bytes once", context do
          {:ok, _} = Store.put("aaaa", name: "x", budget: 12, store: context.store)
          assert there(context.store, context.entries) == ["aaaa", "bbbb", "cccc"]
        end
      end
    end
  end

  defp damage do
    quote do
      describe "damaged bytes" do
        test "are not given, and are set aside", %{store: store, harm: harm} do
          {:ok, entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)
          {:ok, _} = Store.put("sound", name: "y", version: "1.0.0", store: store)
          harm.blob.(entry.digest)

          for reference <- ["x", entry.digest, entry.sha256],
              do: assert(StoreSuite.reason(Store.get(reference, store: store)) == :damaged)

          digest = entry.digest
          assert {:ok, report} = Store.verify(store: store)
          assert %{damaged: [^digest], missing: ["x@1.0.0"], blobs: 1, bytes: 5} = report
          assert %{versions: 2} = report
          assert {:ok, %{damaged: [], missing: ["x@1.0.0"]}} = Store.verify(store: store)

          assert {:error, %{reason: :missing, name: "x", version: "1.0.0", blame: :host} = error} =
                   Store.get("x", store: store)

          assert Exception.message(error) =~
                   "the bytes of x@1.0.0 are gone: put the same ones there"

          assert StoreSuite.reason(Store.get(entry.digest, store: store)) == :no_such_digest
          assert {:ok, "sound", _} = Store.get("y", store: store)
        end

        test "are sound when they are put there again, set aside or not", context do
          %{store: store, harm: harm} = context

          for aside <- [false, true] do
            {:ok, entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)
            harm.blob.(entry.digest)
            if aside, do: {:ok, _} = Store.verify(store: store)
            assert {:ok, ^entry} = Store.put("bytes", name: "x", version: "1.0.0", store: store)
            assert {:ok, "bytes", ^entry} = Store.get("x", store: store)
            assert {:ok, %{damaged: [], missing: []}} = Store.verify(store: store)
          end
        end
      end

      describe "a damaged record" do
        setup %{store: store, harm: harm} do
          entries = StoreSuite.put_versions(store, "x", ~w(1.0.0 1.1.0))
          harm.entry.("x", "1.1.0")
          {:ok, entries: entries}
        end

        test "gives nothing, and no older version in its place", %{store: store} do
          for reference <- ["x", "x@1.1.0", "x@~> 1.0"],
              do: assert(StoreSuite.reason(Store.get(reference, store: store)) == :damaged)

          assert {:ok, "x 1.0.0", _} = Store.get("x@1.0.0", store: store)
        end

        test "leaves its version taken", %{store: store} do
          opts = [name: "x", version: "1.1.0", store: store]
          assert StoreSuite.reason(Store.put("others", opts)) == :damaged
        end

        test "keeps all bytes in the store until it is set aside", context do
          %{store: store, entries: entries} = context
          assert StoreSuite.reason(Store.gc(store: store)) == :damaged

          assert StoreSuite.reason(Store.put("more", budget: 14, store: store)) == :damaged
          assert {:ok, _, _} = Store.get(entries["1.1.0"].digest, store: store)

          assert {:ok, %{damaged: ["x@1.1.0"], versions: 1, blobs: 2}} =
                   Store.verify(store: store)

          assert {:ok, "x 1.0.0", _} = Store.get("x", store: store)
          assert {:ok, %{blobs: 1}} = Store.gc(store: store)
        end
      end

      test "options are known", %{store: store} do
        for function <- [&Store.put("", &1), &Store.get("x", &1), &Store.list/1, &Store.gc/1],
            do: assert_raise(ArgumentError, ~r/:stroe/, fn -> function.(stroe: store) end)

        assert_raise ArgumentError, ~r/:name/, fn ->
          Store.put("", version: "1.0.0", store: store)
        end
      end
    end
  end
end
