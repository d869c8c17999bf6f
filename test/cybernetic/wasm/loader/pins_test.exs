defmodule Cybernetic.WASM.Loader.PinsTest do
  # Not async: the configuration is the node's.
  use ExUnit.Case, async: false

  alias Cybernetic.WASM.{Config, Digest, Loader, LoadError, Runtime}
  alias Cybernetic.WASM.Loader.Source

  @wat ~S|(module (func (export "answer") (result i32) i32.const 42))|
  @zeros String.duplicate("0", 64)

  # What it names may change.
  defmodule Changing do
    @behaviour Source

    @impl true
    def fetch({bytes, facts}, _opts), do: {:ok, bytes, facts}

    @impl true
    def describe(_argument), do: "https://example.com/answer.wasm"

    @impl true
    def mutable?(_argument), do: true

    @impl true
    def remote?(_argument), do: true
  end

  defp digest(bytes, algorithm), do: bytes |> Digest.of(algorithm) |> Digest.to_text()

  defp configured(changes) do
    before = Config.get()
    on_exit(fn -> Config.put(before) end)
    keys = Map.new(Config.new!(changes) |> Map.from_struct()) |> Map.take(Keyword.keys(changes))
    Config.put(struct!(before, keys))
  end

  # What is pinned here is to be asked for each time.
  setup do
    configured(store_dir: "/proc/no/store")
    :ok
  end

  describe "a digest" do
    test "is of either algorithm" do
      for algorithm <- [:blake3, :sha256] do
        assert {:ok, _} = Runtime.load_module({:bytes, @wat}, digest: digest(@wat, algorithm))
        wrong = "#{algorithm}:#{@zeros}"
        assert {:error, %LoadError{} = error} = Runtime.load_module({:bytes, @wat}, digest: wrong)
        assert %{reason: :digest_mismatch, pin: :option, expected: ^wrong} = error
        assert error.found == digest(@wat, algorithm)

        assert Exception.message(error) ==
                 "cannot load the module: the digest that was asked for is #{wrong}, and the bytes have #{error.found}"
      end
    end

    test "that is wrong is noticed before anything is compiled" do
      assert {:error, %{reason: :digest_mismatch}} =
               Runtime.load_module({:bytes, "not a module"}, digest: "sha256:" <> @zeros)
    end

    test "is of a large module, too" do
      large = @wat <> String.duplicate(" ", 100_000)
      assert {:ok, module} = Runtime.load_module({:bytes, large}, digest: digest(large, :blake3))
      assert module.digest == digest(large, :blake3)
    end

    test "that is none raises" do
      hex = String.duplicate("a", 64)

      for text <- [
            "",
            hex,
            "sha256:",
            "sha256:" <> String.upcase(hex),
            "SHA256:" <> hex,
            "sha256:" <> binary_part(hex, 0, 63),
            "sha256:" <> hex <> "a",
            "sha256:" <> hex <> "\n",
            " sha256:" <> hex,
            "sha512:" <> hex <> hex,
            "md5:" <> binary_part(hex, 0, 32),
            "sha256-" <> Base.encode64(String.duplicate("a", 32)),
            "sha256:" <> String.duplicate("g", 64),
            :sha256,
            {:sha256, hex},
            nil
          ] do
        error = assert_raise ArgumentError, fn -> Loader.verify({:bytes, @wat}, digest: text) end
        assert error.message =~ "64 lowercase hexadecimal digits"
        assert_raise ArgumentError, fn -> Config.new!(pins: %{"answer" => text}) end
      end
    end
  end

  describe "an operator's pin" do
    @pin "sha256:" <> @zeros

    test "holds under what the source calls itself" do
      configured(
        pins: %{"priv/wasm/compute.wasm" => @pin, "https://example.com/answer.wasm" => @pin}
      )

      for source <- ["priv/wasm/compute.wasm", {Changing, {@wat, %{}}}] do
        assert {:error, %LoadError{reason: :digest_mismatch, pin: :config} = error} =
                 Loader.verify(source)

        assert Exception.message(error) =~ "the pin that is configured is sha256:000"
      end
    end

    test "holds under the name of the load, the source and the manifest, and with the version" do
      for name <- ["acme/thumb", "acme/thumb@1.2.0"] do
        configured(pins: %{name => @pin})
        facts = %{name: "acme/thumb", version: "1.2.0"}
        manifest = "[module]\nname = \"acme/thumb\"\nversion = \"1.2.0\""
        {:ok, manifest} = Cybernetic.WASM.Sandbox.Manifest.parse(manifest)

        for {source, opts} <- [
              {{:bytes, @wat}, [name: "acme/thumb", version: "1.2.0"]},
              {{:bytes, @wat}, [manifest: manifest]},
              {{Changing, {@wat, facts}}, [allow_unpinned: true]},
              # Another name of the load does not take the module out of it.
              {{Changing, {@wat, facts}}, [allow_unpinned: true, name: "other"]}
            ] do
          assert {:error, %LoadError{reason: :digest_mismatch, pin: :config}} =
                   Loader.verify(source, opts)
        end
      end
    end

    @spellings [
      # A pin, and sources that it is for, however they are spelt.
      {"priv/wasm/compute.wasm",
       ["./priv/wasm/compute.wasm", "priv//wasm/../wasm/compute.wasm", :absolute]},
      {"./priv/wasm/../wasm/compute.wasm", ["priv/wasm/compute.wasm", :absolute]},
      {:absolute, ["priv/wasm/compute.wasm", "./priv/./wasm/compute.wasm"]},
      {"cybernetic_wasm/priv/wasm/compute.wasm",
       [
         {:priv, :cybernetic_wasm, "wasm/compute.wasm"},
         {:priv, :cybernetic_wasm, "./wasm//compute.wasm"}
       ]},
      {:in_priv, [{:priv, :cybernetic_wasm, "wasm/compute.wasm"}]},
      {"https://example.com/x.wasm",
       [
         {:url, "https://example.com/x.wasm"},
         {:url, "https://EXAMPLE.com:443/x.wasm"},
         {:url, "https://example.com/x.wasm?v=2"},
         {:url, "https://example.com/a/../%78.wasm", headers: []},
         {:url, "https://example.com./x.wasm"}
       ]},
      {"HTTPS://Example.com:443/a/./b/../x.wasm", [{:url, "https://example.com/a/x.wasm"}]},
      {"https://example.com/x.wasm?v=2",
       [{:url, "https://example.com/x.wasm?v=2"}, {:url, "https://Example.com/./x.wasm?v=2"}]},
      {"Example.com:5000/acme/x:1",
       [
         {:oci, "example.com:5000/acme/x:1"},
         {:oci, "EXAMPLE.com:5000/acme/x:1", plain: true},
         {:oci, "example.com:5000/acme/x:1@sha256:" <> @zeros}
       ]}
    ]

    defp spelt(:absolute), do: Path.expand("priv/wasm/compute.wasm")

    defp spelt(:in_priv),
      do: Path.join(to_string(:code.priv_dir(:cybernetic_wasm)), "wasm/compute.wasm")

    defp spelt(source), do: source

    test "holds however it and the source are spelt" do
      # What is fetched in the place of a URL or an artifact: the store has it.
      bytes = File.read!("priv/wasm/compute.wasm")
      store = Path.join(System.tmp_dir!(), "pins-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm_rf!(store) end)
      {:ok, _entry} = Cybernetic.WASM.Store.put(bytes, store: store)
      good = digest(bytes, :sha256)

      for {pin, sources} <- @spellings, source <- sources do
        configured(pins: %{spelt(pin) => good})
        assert {:ok, fetched} = Loader.verify(spelt(source), store: store, offline: true)
        assert {source, fetched.pins} == {source, [config: good]}
        assert Runtime.unused_pins() == []

        configured(pins: %{spelt(pin) => @pin})

        assert {^source, {:error, %{reason: reason}}} =
                 {source, Loader.verify(spelt(source), store: store, offline: true)}

        assert reason in [:digest_mismatch, :offline]
      end
    end

    test "is for no other source" do
      for {pin, source} <- [
            {"https://example.com/x.wasm?v=2", {:url, "https://example.com/x.wasm?v=3"}},
            {"https://example.com/x.wasm?v=2", {:url, "https://example.com/x.wasm"}},
            {"https://example.com/x.wasm", {:url, "https://example.com/X.wasm"}},
            {"https://example.com/x.wasm", {:url, "https://example.com:8443/x.wasm"}},
            {"https://example.com/a/x.wasm", {:url, "https://example.com/a%2Fx.wasm"}},
            {"http://example.com/x.wasm", {:url, "https://example.com/x.wasm"}},
            {"example.com/acme/x:1", {:oci, "example.com/acme/x:2"}}
          ] do
        configured(pins: %{pin => @pin})
        assert {:error, %{reason: :unpinned}} = Loader.verify(source)
        assert [_unused] = Runtime.unused_pins()
      end

      configured(pins: %{"~/x.wasm" => @pin, "compute.wasm" => @pin, "priv/wasm/wc.wasm" => @pin})
      assert {:ok, %{pins: []}} = Loader.verify("priv/wasm/compute.wasm")
      assert Runtime.unused_pins() == ["compute.wasm", "priv/wasm/wc.wasm", "~/x.wasm"]
    end

    test "that no load goes by is told, and which one may have been meant" do
      pins = %{
        "https://example.com/anwser.wasm?key=hunter2" => @pin,
        "acme/thumb@1.2.0" => @pin,
        "acme/thumb" => digest(@wat, :sha256)
      }

      configured(pins: pins)
      assert {:ok, _} = Loader.verify({:bytes, @wat}, name: "acme/thumb")

      assert Runtime.unused_pins() == [
               "acme/thumb@1.2.0",
               "https://example.com/anwser.wasm?…"
             ]

      assert {:error, %LoadError{reason: :unpinned} = error} =
               Loader.verify({:url, "https://example.com/answer.wasm"})

      assert error.detail == "https://example.com/anwser.wasm?…"

      assert Exception.message(error) =~
               "no pin for it (there is one for https://example.com/anwser"

      configured(pins: %{})
      assert Runtime.unused_pins() == []
    end

    test "comes before the others, and all hold" do
      good = digest(@wat, :sha256)
      other = "blake3:" <> @zeros

      manifest = fn digest ->
        Cybernetic.WASM.Sandbox.Manifest.parse("[module]\ndigest = \"#{digest}\"") |> elem(1)
      end

      load = fn opts -> Loader.verify({:bytes, @wat}, [name: "answer"] ++ opts) end

      configured(pins: %{"answer" => @pin})
      assert {:error, %{pin: :config}} = load.(digest: other, manifest: manifest.(other))
      assert {:error, %{pin: :config}} = load.(digest: good, manifest: manifest.(good))

      configured(pins: %{"answer" => good})
      assert {:error, %{pin: :option}} = load.(digest: other, manifest: manifest.(other))
      assert {:error, %{pin: :manifest} = error} = load.(digest: good, manifest: manifest.(other))

      assert Exception.message(error) =~
               "the digest in the manifest (manifest:2: module.digest) is blake3:000"

      assert {:ok, fetched} = load.(digest: good, manifest: manifest.(digest(@wat, :blake3)))
      assert fetched.digests == %{sha256: good, blake3: digest(@wat, :blake3)}
    end

    test "that is none stops the application" do
      for pins <- [
            [],
            [{"a", @pin}],
            :none,
            %{a: @pin},
            %{"a" => nil},
            %{"a" => "sha256:0"},
            %URI{}
          ] do
        error = assert_raise ArgumentError, fn -> Config.new!(pins: pins) end
        assert error.message =~ "pins"
      end
    end
  end

  describe "a source that may change" do
    test "is refused without a pin, and not asked" do
      assert {:error, %LoadError{reason: :unpinned} = error} =
               Loader.fetch({Changing, :never_asked})

      assert Exception.message(error) =~
               "cannot load https://example.com/answer.wasm: others may change what it names"

      assert {:error, %{reason: :unpinned}} = Runtime.load_module({Changing, :never_asked})
      assert {:ok, _} = Runtime.load_module({Changing, {@wat, %{}}}, allow_unpinned: true)

      assert {:ok, _} =
               Runtime.load_module({Changing, {@wat, %{}}}, digest: digest(@wat, :sha256))
    end

    test "is not pinned by a manifest of its own" do
      toml = "[module]\ndigest = \"#{digest(@wat, :blake3)}\""
      source = {Changing, {@wat, %{manifest: toml}}}
      assert {:error, %{reason: :unpinned}} = Loader.verify(source, manifest: true)
      assert {:ok, fetched} = Loader.verify(source, manifest: true, allow_unpinned: true)
      assert fetched.manifest.digest == digest(@wat, :blake3)
    end

    test "is not asked while nothing is to be fetched" do
      digest = digest(@wat, :sha256)
      source = {Changing, :never_asked}

      assert {:error, %LoadError{reason: :offline}} =
               Loader.fetch(source, digest: digest, offline: true)

      configured(offline: true)
      assert {:error, %LoadError{reason: :offline}} = Loader.fetch(source, digest: digest)
      # What is configured is not taken back.
      assert {:error, %LoadError{reason: :offline}} =
               Loader.fetch(source, digest: digest, offline: false)

      assert {:ok, _} = Loader.fetch("priv/wasm/compute.wasm")
    end
  end

  describe "what is no URL and no reference" do
    test "is refused for that, and not for want of a pin" do
      for {source, words} <- [
            {{:url, "example.com/x.wasm"},
             ~s|expected is {:url, "https://example.com/resize.wasm"}|},
            {{:url, "https://me:secret@example.com/x.wasm"}, "credentials belong into a header"},
            {{:oci, "acme/x"}, "a tag or a digest is missing"},
            {{:oci, "oci://example.com/acme/x:1"}, "without oci:// or https:// before it"},
            {{:oci, "example.com/acme/X:1"}, "in small letters"}
          ] do
        assert {:error, %LoadError{reason: :fetch_failed} = error} = Runtime.load_module(source)
        assert Exception.message(error) =~ words
        refute Exception.message(error) =~ "secret"
      end
    end
  end

  describe "what was fetched before" do
    test "is held to the pins that it was fetched by" do
      good = digest(@wat, :sha256)
      wrong = "blake3:" <> @zeros
      source = {Changing, {@wat, %{}}}

      {:ok, fetched} = Loader.fetch(source, digest: wrong)
      assert fetched.digests == %{}

      for opts <- [[], [digest: good], [allow_unpinned: true]] do
        assert {:error, %LoadError{reason: :digest_mismatch, expected: ^wrong}} =
                 Runtime.load_module(fetched, opts)
      end

      {:ok, fetched} = Loader.fetch(source, digest: good)
      assert {:ok, _} = Runtime.load_module(fetched)
      {:ok, manifest} = Cybernetic.WASM.Sandbox.Manifest.parse("[module]\ndigest = \"#{wrong}\"")
      {:ok, fetched} = Loader.fetch(source, manifest: manifest)
      assert {:error, %LoadError{pin: :manifest}} = Runtime.load_module(fetched)
      assert {:error, %LoadError{pin: :manifest}} = Runtime.load_module(fetched, digest: good)
    end

    test "is digested anew, and may not have become something else" do
      good = digest(@wat, :sha256)
      {:ok, verified} = Loader.verify({:bytes, @wat}, digest: good)
      other = %{verified | bytes: "(module)"}
      found = digest("(module)", :sha256)

      for opts <- [[], [digest: good]] do
        assert {:error, %LoadError{reason: :digest_mismatch, found: ^found}} =
                 Runtime.load_module(other, opts)
      end

      {:ok, fetched} = Loader.fetch({:bytes, @wat})
      {:ok, verified} = Loader.verify(fetched, digest: good)
      other = %{verified | bytes: "(module)"}
      assert {:error, %LoadError{found: ^found}} = Loader.verify(other)

      # What nobody has pinned may be: its digests are its own.
      {:ok, fetched} = Loader.fetch({:bytes, @wat})
      forged = %{fetched | bytes: "(module)", digests: %{sha256: good}}
      {:ok, module} = Runtime.load_module(forged)
      assert Cybernetic.WASM.Module.digest(module, :sha256) == found
    end
  end

  describe "configured trust" do
    test "holds for every load, and an option only adds to it" do
      {public, private} = Cybernetic.WASM.Loader.Keys.generate()
      key = Cybernetic.WASM.Loader.Keys.to_text(public)
      configured(trust: [keys: [key]])

      {other, _private} = Cybernetic.WASM.Loader.Keys.generate()
      lax = [keys: [Cybernetic.WASM.Loader.Keys.to_text(other)], require: false]

      for opts <- [[], [trust: lax]],
          do:
            assert(
              {:error, %LoadError{reason: :unsigned}} = Runtime.load_module({:bytes, @wat}, opts)
            )

      alias Cybernetic.WASM.Loader.Signature

      signature =
        digest(@wat, :blake3)
        |> Signature.new(nil)
        |> Signature.sign(private)
        |> Signature.encode()

      assert {:ok, _} = Runtime.load_module({:bytes, @wat}, signature: {:bytes, signature})

      assert {:error, %{reason: :untrusted}} =
               Runtime.load_module({:bytes, @wat}, trust: lax, signature: {:bytes, signature})
    end
  end
end
