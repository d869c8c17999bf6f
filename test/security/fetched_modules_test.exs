defmodule Cybernetic.WASM.Security.FetchedModulesTest do
  # Whoever serves a module may serve another one tomorrow, or to somebody else. What is fetched is held to what somebody here has
  # said, and nothing is asked before.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{OCIRegistry, Servers}
  import Cybernetic.WASM.StoreFolders, only: [store_folder: 0]

  alias Cybernetic.WASM.{Digest, Executor, Loader, LoadError, Runtime, Store}
  alias Cybernetic.WASM.Loader.{Keys, Signature}

  defmodule BrokenStore do
    # As a store may be that somebody else has written. What it does is its config.
    def find(act, _digest), do: act.()
    def blob(act, _digest, _most), do: act.()
    def alone(act, _timeout, _function), do: act.()
    def put_blob(act, _digests, _bytes), do: act.()
  end

  @module File.read!("priv/wasm/compute.wasm")
  @other "(module)"
  @toml "[module]\nname = \"compute\"\n"

  defp pin(bytes, algorithm), do: bytes |> Digest.of(algorithm) |> Digest.to_text()

  # A server of these files, and the options of loads from it.
  defp files(files) do
    server =
      serve(fn peer, head ->
        case files do
          %{} -> serve_file(peer, files[path(head)])
          function -> serve_file(peer, function.(path(head)))
        end
      end)

    %{url: &(server.url <> &1), host: "127.0.0.1:#{server.port}", http: server.opts}
  end

  defp serve_file(peer, nil), do: answer(peer, "", "404 Not Found")
  defp serve_file(peer, bytes), do: answer(peer, bytes)

  defp load(server, path, opts),
    do: load({:url, server.url.(path)}, [http: server.http] ++ opts)

  # What earlier loads have fetched is not in the store.
  defp load(source, opts),
    do: Runtime.load_module(source, Keyword.put_new_lazy(opts, :store, &store/0))

  defp store do
    {:ok, folder} = store_folder()
    folder[:store]
  end

  test "a URL is asked for nothing that nobody has pinned" do
    server = files(%{"/x.wasm" => @module})

    assert {:error, %LoadError{reason: :unpinned, source: source} = error} =
             load(server, "x.wasm", [])

    assert source == server.url.("x.wasm")
    assert Exception.message(error) =~ "allow_unpinned: true"
    refute_received {:request, _}
  end

  test "a URL gives what is pinned, or nothing" do
    server = files(%{"/x.wasm" => @module})

    for algorithm <- [:blake3, :sha256] do
      assert {:ok, module} = load(server, "x.wasm", digest: pin(@module, algorithm))
      assert module.name == "x.wasm"
      assert {:ok, _} = Executor.call(module, "process", [3])

      assert {:error, %LoadError{reason: :digest_mismatch, pin: :option} = error} =
               load(server, "x.wasm", digest: pin(@other, algorithm))

      assert {error.expected, error.found} == {pin(@other, algorithm), pin(@module, algorithm)}
    end

    assert {:ok, _} = load(server, "x.wasm", allow_unpinned: true)
  end

  test "a server that serves something else the second time is not asked a second time" do
    counter = :counters.new(1, [])

    server =
      files(fn "/x.wasm" ->
        :counters.add(counter, 1, 1)
        if :counters.get(counter, 1) == 1, do: @module, else: @other
      end)

    assert {:ok, module} = load(server, "x.wasm", digest: pin(@module, :sha256))
    assert module.digest == pin(@module, :blake3)
    assert :counters.get(counter, 1) == 1
  end

  test "a manifest of the same server is no pin" do
    toml = @toml <> "digest = \"#{pin(@module, :sha256)}\"\n"
    server = files(%{"/x.wasm" => @module, "/module.toml" => toml})
    assert {:error, %LoadError{reason: :unpinned}} = load(server, "x.wasm", manifest: true)
    refute_received {:request, _}
    assert {:ok, module} = load(server, "x.wasm", manifest: true, digest: pin(@module, :sha256))
    assert module.manifest.name == "compute"
  end

  test "signatures beside it are held to the keys that are trusted" do
    [{public, private}, {_other, other}] = for _ <- 1..2, do: Keys.generate()
    trust = [keys: [Keys.to_text(public)]]
    signature = Signature.new(pin(@module, :blake3), nil)
    signed = signature |> Signature.sign(private) |> Signature.encode()
    forged = signature |> Signature.sign(other) |> Signature.encode()
    opts = [trust: trust, digest: pin(@module, :sha256)]

    assert {:ok, _} =
             load(files(%{"/x.wasm" => @module, "/x.wasm.sig" => signed}), "x.wasm", opts)

    for {files, reason} <- [
          {%{"/x.wasm" => @module}, :unsigned},
          {%{"/x.wasm" => @module, "/x.wasm.sig" => forged}, :untrusted},
          {%{"/x.wasm" => @module, "/x.wasm.sig" => "no signature"}, :bad_signature}
        ],
        do: assert({:error, %LoadError{reason: ^reason}} = load(files(files), "x.wasm", opts))
  end

  test "what was fetched and is pinned is in the store from then on, and not fetched again" do
    store = store()
    server = files(%{"/x.wasm" => @module})
    opts = [digest: pin(@module, :sha256), store: store]
    assert {:ok, _} = load(server, "x.wasm", opts)
    assert_received {:request, _}

    # By either digest, from wherever it was, and while nothing is to be fetched.
    gone = files(%{})
    assert {:ok, module} = load(gone, "x.wasm", opts)
    assert Cybernetic.WASM.Module.digest(module, :sha256) == pin(@module, :sha256)
    assert module.name == "x.wasm"
    blake3 = [digest: pin(@module, :blake3), store: store, offline: true]
    assert {:ok, _} = load(gone, "x.wasm", blake3)
    refute_received {:request, _}

    # Another pin is another module, and all pins are checked.
    assert {:error, %LoadError{reason: :fetch_failed}} =
             load(gone, "x.wasm", digest: pin(@other, :sha256), store: store)

    {:ok, manifest} =
      Cybernetic.WASM.Sandbox.Manifest.parse("[module]\ndigest = \"#{pin(@other, :sha256)}\"")

    assert {:error, %LoadError{reason: :digest_mismatch, pin: :manifest}} =
             load(gone, "x.wasm", [manifest: manifest] ++ opts)

    # Nor does it stand for signatures that nobody has seen.
    {public, _private} = Keys.generate()
    trust = [keys: [Keys.to_text(public)]]
    assert {:error, %LoadError{}} = load(gone, "x.wasm", [trust: trust] ++ opts)

    assert {:error, %LoadError{reason: :offline}} =
             load(gone, "x.wasm", [trust: trust, offline: true] ++ opts)
  end

  test "what is not what is pinned, or not pinned at all, does not come into the store" do
    store = store()
    server = files(%{"/x.wasm" => @other})

    assert {:error, %LoadError{reason: :digest_mismatch}} =
             load(server, "x.wasm", digest: pin(@module, :sha256), store: store)

    assert {:ok, _} = load(server, "x.wasm", allow_unpinned: true, store: store)
    {public, _private} = Keys.generate()

    assert {:error, %LoadError{reason: :unsigned}} =
             load(server, "x.wasm",
               digest: pin(@other, :sha256),
               trust: [keys: [Keys.to_text(public)]],
               store: store
             )

    for bytes <- [@module, @other],
        do: assert({:error, _} = Store.get(pin(bytes, :blake3), store: store))
  end

  test "a store that cannot be used is no reason not to load" do
    server = files(%{"/x.wasm" => @module})
    opts = [digest: pin(@module, :sha256), store: "/proc/no/store"]
    assert {:ok, _} = load(server, "x.wasm", opts)
    assert {:ok, _} = load(server, "x.wasm", opts)

    assert {:error, %LoadError{reason: :offline}} =
             load(server, "x.wasm", [offline: true] ++ opts)
  end

  test "a store that raises, throws or exits is no reason not to load, either" do
    server = files(%{"/x.wasm" => @module})

    for act <- [fn -> raise "broken" end, fn -> throw(:broken) end, fn -> exit(:broken) end],
        algorithm <- [:sha256, :blake3] do
      opts = [digest: pin(@module, algorithm), store: {BrokenStore, act}]
      assert {:ok, _} = load(server, "x.wasm", opts)

      assert {:error, %LoadError{reason: :offline}} =
               load(server, "x.wasm", [offline: true] ++ opts)
    end
  end

  test "nothing is fetched where the load is offline" do
    server = files(%{"/x.wasm" => @module})
    opts = [digest: pin(@module, :sha256), offline: true]
    assert {:error, %LoadError{reason: :offline}} = load(server, "x.wasm", opts)
    source = {:oci, "#{server.host}/a:1", plain: true}

    assert {:error, %LoadError{reason: :offline}} = load(source, [http: server.http] ++ opts)

    refute_received {:request, _}
  end

  test "the time of a load is for all that it fetches" do
    server = serve(fn peer, _ -> until_closed(peer) end)

    assert {:error, %LoadError{reason: :fetch_failed, blame: :node}} =
             Runtime.load_module({:url, server.url},
               http: server.opts,
               allow_unpinned: true,
               timeout: 100
             )
  end

  describe "an artifact" do
    @describetag needed()
    @describetag :tmp_dir

    test "needs a pin by its tag, and none by its digest", %{tmp_dir: folder} do
      registry = start(folder)
      digest = push(registry, "1", @module)

      source = fn reference ->
        {:oci, "#{registry.host}/acme/thumb#{reference}", plain: true, http: registry.http}
      end

      assert {:error, %LoadError{reason: :unpinned}} = Runtime.load_module(source.(":1"))
      assert {:ok, module} = Runtime.load_module(source.("@" <> digest))
      assert module.name == "thumb"
      assert {:ok, _} = Executor.call(module, "process", [3])
      assert {:ok, _} = load(source.(":1"), digest: pin(@module, :sha256))
      assert {:ok, _} = load(source.(":1"), digest: pin(@module, :blake3))

      # The tag is moved: what is pinned by the module's digest is not there any more.
      push(registry, "1", @other)

      assert {:error, %LoadError{reason: :digest_mismatch, pin: :option, source: named}} =
               load(source.(":1"), digest: pin(@module, :sha256))

      assert named == "#{registry.host}/acme/thumb:1"
      assert {:ok, _} = Runtime.load_module(source.("@" <> digest))
      {:ok, fetched} = Loader.fetch(source.(":1"), allow_unpinned: true)
      assert fetched.bytes == @other
    end
  end
end
