defmodule Cybernetic.WASM.Loader.TrustTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Component, Digest, Loader, LoadError, Runtime}
  alias Cybernetic.WASM.Loader.{Keys, Signature}
  alias Cybernetic.WASM.Sandbox.Manifest

  @moduletag :tmp_dir

  @wat ~S|(module (func (export "answer") (result i32) i32.const 42))|
  @toml "[module]\nname = \"answer\"\n"

  setup %{tmp_dir: dir} do
    wasm = Path.join(dir, "answer.wasm")
    File.write!(wasm, @wat)
    File.write!(Path.join(dir, "module.toml"), @toml)
    [ada, bob] = for _ <- 1..2, do: Keys.generate()
    %{wasm: wasm, ada: ada, bob: bob}
  end

  defp text({public, _private}), do: Keys.to_text(public)
  defp blake3(bytes), do: bytes |> Digest.of(:blake3) |> Digest.to_text()

  defp signature(module, manifest, keys) do
    signature = Signature.new(blake3(module), manifest && blake3(manifest))

    Enum.reduce(keys, signature, fn {_public, private}, signature ->
      Signature.sign(signature, private)
    end)
  end

  defp sign(wasm, manifest, keys),
    do: File.write!(wasm <> ".sig", Signature.encode(signature(@wat, manifest, keys)))

  defp refused(wasm, opts) do
    assert {:error, %LoadError{} = error} = Loader.verify(wasm, opts)
    assert {:error, ^error} = Runtime.load_module(wasm, opts)
    error
  end

  test "a module that is signed by a trusted key is taken", %{wasm: wasm, ada: ada} do
    sign(wasm, nil, [ada])
    assert {:ok, fetched} = Loader.verify(wasm, trust: [keys: [text(ada)]])
    assert fetched.signers == [text(ada)]
    assert {:ok, module} = Loader.validate(fetched, trust: [keys: [text(ada)]])
    assert module.digest == blake3(@wat)
  end

  test "one that is not signed, or by others, is not", %{wasm: wasm, ada: ada, bob: bob} do
    trust = [trust: [keys: [text(ada)]]]
    assert %{reason: :unsigned} = error = refused(wasm, trust)

    assert Exception.message(error) ==
             "cannot load #{wasm}: it has no signature, and one is needed (option :trust): there is no #{wasm}.sig; " <>
               "mix wasm.sign makes one, and option :signature says where it lies"

    sign(wasm, nil, [bob])
    assert %{reason: :untrusted, signed: 0, threshold: 1} = error = refused(wasm, trust)

    assert Exception.message(error) ==
             "cannot load #{wasm}: 0 of the trusted keys have signed it, and 1 have to; " <>
               "signatures of trusted keys: none; of others: #{text(bob)}"
  end

  test "a threshold counts keys", %{wasm: wasm, ada: ada, bob: bob} do
    both = [trust: [keys: [text(ada), text(bob)], threshold: 2]]
    sign(wasm, nil, [ada])
    assert %{reason: :untrusted, signed: 1, threshold: 2} = refused(wasm, both)
    sign(wasm, nil, [ada, bob])
    assert {:ok, %{signers: [_, _]}} = Loader.verify(wasm, both)
  end

  test "without require: what has no signature is taken, and what has a wrong one is not",
       %{wasm: wasm, ada: ada, bob: bob} do
    lax = [trust: [keys: [text(ada)], require: false]]
    assert {:ok, %{signers: []}} = Loader.verify(wasm, lax)
    sign(wasm, nil, [bob])
    assert %{reason: :untrusted} = refused(wasm, lax)
    File.write!(wasm <> ".sig", "")
    assert %{reason: :bad_signature} = refused(wasm, lax)
  end

  test "keys may be in a file", %{wasm: wasm, ada: ada, tmp_dir: dir} do
    sign(wasm, nil, [ada])
    keys = Path.join(dir, "keys.pub")
    File.write!(keys, "# of the release\r\n\r\n#{text(ada)}\r\n")
    assert {:ok, _} = Loader.verify(wasm, trust: [keys: [{:file, keys}]])
  end

  test "a signature can be given", %{wasm: wasm, ada: ada, tmp_dir: dir} do
    text = Signature.encode(signature(@wat, nil, [ada]))
    trust = [trust: [keys: [text(ada)]]]
    assert {:ok, _} = Loader.verify({:bytes, @wat}, trust ++ [signature: {:bytes, text}])
    path = Path.join(dir, "elsewhere")
    File.write!(path, text)
    assert {:ok, _} = Loader.verify(wasm, trust ++ [signature: path])

    assert %{reason: :unsigned, detail: "its source brings none along"} =
             refused({:bytes, @wat}, trust)

    for {path, words} <- [
          {path <> ".gone", "no such file or directory"},
          {dir, "not a file but a directory"},
          {wasm, "no JSON"}
        ] do
      assert %{reason: :bad_signature} = error = refused(wasm, trust ++ [signature: path])
      assert Exception.message(error) =~ "its signature cannot be used: "
      assert error.detail =~ words
    end
  end

  test "a manifest has to be signed with its module", %{wasm: wasm, ada: ada} do
    trust = [keys: [text(ada)]]
    sign(wasm, @toml, [ada])

    assert {:ok, %{manifest: %Manifest{name: "answer"}}} =
             Loader.verify(wasm, trust: trust, manifest: true)

    # The author's word on the module is there all the same.
    assert {:ok, _} = Loader.verify(wasm, trust: trust)

    sign(wasm, nil, [ada])
    assert {:ok, _} = Loader.verify(wasm, trust: trust)
    error = refused(wasm, trust: trust, manifest: true)
    assert %{reason: :untrusted, expected: nil, threshold: nil} = error
    assert error.found == blake3(@toml)

    assert Exception.message(error) =~
             "it signs the module without this manifest, none in the place of blake3:"

    assert {:ok, _} = Loader.verify(wasm, trust: trust ++ [manifest: :any], manifest: true)
  end

  test "a component is held to pins, signatures and its manifest as a module is", %{
    ada: ada,
    tmp_dir: dir
  } do
    bytes = File.read!("priv/wasm/greeter.wasm")
    wasm = Path.join(dir, "greeter.wasm")
    File.write!(wasm, bytes)
    sha256 = bytes |> Digest.of(:sha256) |> Digest.to_text()
    toml = "[module]\ndigest = \"#{sha256}\"\n"
    File.write!(Path.join(dir, "module.toml"), toml)
    opts = [manifest: true, digest: sha256, trust: [keys: [text(ada)]]]
    assert %{reason: :unsigned} = refused(wasm, opts)

    File.write!(wasm <> ".sig", Signature.encode(signature(bytes, toml, [ada])))
    assert {:ok, %Component{} = component} = Runtime.load_module(wasm, opts)
    assert Component.digest(component, :sha256) == sha256
    assert Manifest.check(component.manifest, component) == :ok

    File.write!(wasm, bytes <> <<0>>)
    assert %{reason: :digest_mismatch, pin: :option} = refused(wasm, opts)

    assert %{reason: :digest_mismatch, pin: :manifest} =
             refused(wasm, Keyword.delete(opts, :digest))
  end

  test "what was fetched without a signature is not trusted", %{wasm: wasm, ada: ada, bob: bob} do
    sign(wasm, nil, [ada])
    assert {:ok, fetched} = Loader.fetch(wasm)
    assert fetched.signature == nil
    # It is read when it is needed.
    assert {:ok, %{signers: [_]}} = Loader.verify(fetched, trust: [keys: [text(ada)]])
    assert {:error, %{reason: :untrusted}} = Loader.verify(fetched, trust: [keys: [text(bob)]])
    File.rm!(wasm <> ".sig")
    assert {:error, %{reason: :unsigned}} = Loader.verify(fetched, trust: [keys: [text(ada)]])
  end

  test "what has been trusted is not when it has become something else", %{wasm: wasm, ada: ada} do
    sign(wasm, nil, [ada])
    trust = [trust: [keys: [text(ada)]]]
    {:ok, verified} = Loader.verify(wasm, trust)
    other = %{verified | bytes: "(module)"}
    assert %{reason: :untrusted} = refused(other, trust)
    assert {:ok, %{signers: []}} = Loader.verify(other)
  end

  describe "options" do
    test "that can never hold raise", %{wasm: wasm, ada: ada, bob: bob, tmp_dir: dir} do
      empty = Path.join(dir, "empty.pub")
      File.write!(empty, "# none\n")

      for {trust, words} <- [
            {[], "trust: needs keys:"},
            {[threshold: 1], "trust: needs keys:"},
            {[keys: []], "trust: needs keys:"},
            {[keys: text(ada)], "option :keys must be a list"},
            {[keys: [:ada]], "option :keys must be a list"},
            {[keys: ["ed25519:"]], "a trusted key must be"},
            {[keys: ["ed25519:" <> Base.encode64("short")]], "32 bytes in Base64"},
            {[keys: ["ed25519:" <> Base.encode64(String.duplicate("x", 33))]],
             "32 bytes in Base64"},
            {[keys: [String.upcase(text(ada))]], "a trusted key must be"},
            {[keys: [text(ada) <> " "]], "a trusted key must be"},
            {[keys: [{:file, empty}]], "there is no key in it"},
            {[keys: [{:file, dir}]], "not a file but a directory"},
            {[keys: [{:file, "no/such/file"}]], "no such file"},
            {[keys: [{:file, wasm}]], "a line of it is not"},
            {[keys: [text(ada)], threshold: 0], "option :threshold must be"},
            {[keys: [text(ada), text(ada)], threshold: 2], "there are 1 different keys"},
            {[keys: [text(ada), text(bob)], threshold: 3], "there are 2 different keys"},
            {[keys: [text(ada)], require: :yes], "option :require must be"},
            {[keys: [text(ada)], requires: true], "did you mean :require?"},
            {[keys: [text(ada)], manifest: :none], "option :manifest must be"}
          ] do
        error = assert_raise ArgumentError, fn -> Loader.verify(wasm, trust: trust) end
        assert error.message =~ words
      end

      for opts <- [[trust: text(ada)], [trust: true], [signature: 1], [signature: {:bytes, :x}]],
          do: assert_raise(ArgumentError, fn -> Loader.verify(wasm, opts) end)
    end

    test "a signature that nobody is to look at raises", %{wasm: wasm} do
      error = assert_raise ArgumentError, fn -> Loader.verify(wasm, signature: wasm <> ".sig") end
      assert error.message =~ "of no use without :trust"
    end
  end
end
