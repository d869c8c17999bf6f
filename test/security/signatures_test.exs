defmodule Cybernetic.WASM.Security.SignaturesTest do
  # Who can write the folder of a module can write its manifest and its signatures, too, but has none of the keys.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Digest, JSON, Loader, LoadError, Runtime}
  alias Cybernetic.WASM.Loader.{Keys, Signature}

  @moduletag :tmp_dir

  @wat ~S|(module (func (export "answer") (result i32) i32.const 42))|
  @other ~S|(module (func (export "answer") (result i32) i32.const 13))|
  @toml "[module]\nname = \"answer\"\n[capabilities]\nmemory = false\n"
  @wider "[module]\nname = \"answer\"\n"

  setup %{tmp_dir: dir} do
    wasm = Path.join(dir, "answer.wasm")
    File.write!(wasm, @wat)
    File.write!(Path.join(dir, "module.toml"), @toml)

    %{
      wasm: wasm,
      toml: Path.join(dir, "module.toml"),
      key: Keys.generate(),
      foreign: Keys.generate()
    }
  end

  defp text({public, _private}), do: Keys.to_text(public)
  defp blake3(bytes), do: bytes |> Digest.of(:blake3) |> Digest.to_text()

  defp signature(key, module \\ @wat, manifest \\ @toml),
    do:
      blake3(module)
      |> Signature.new(manifest && blake3(manifest))
      |> Signature.sign(elem(key, 1))

  defp refused(%{wasm: wasm, key: key}, signature, trust \\ []) do
    File.write!(
      wasm <> ".sig",
      if(is_binary(signature), do: signature, else: Signature.encode(signature))
    )

    opts = [manifest: true, trust: [keys: [text(key)]] ++ trust]
    assert {:error, %LoadError{} = error} = Runtime.load_module(wasm, opts)
    assert {:error, ^error} = Loader.verify(wasm, opts)
    assert byte_size(Exception.message(error)) < 5_000
    error
  end

  defp fields(signature), do: signature |> Signature.encode() |> JSON.decode(65_536) |> elem(1)

  defp changed(signature, changes),
    do: signature |> fields() |> Map.merge(changes) |> JSON.encode()

  test "over another module", context do
    signature = signature(context.key, @other)

    assert %{reason: :untrusted, detail: "it signs another module"} =
             error = refused(context, signature)

    assert {error.expected, error.found} == {blake3(@other), blake3(@wat)}
    # Nor if the file says otherwise.
    lie = changed(signature, %{"module" => blake3(@wat)})
    assert %{reason: :untrusted, signed: 0} = refused(context, lie)
  end

  test "over the manifest that was there before", context do
    File.write!(context.toml, @wider)
    signature = signature(context.key)

    assert %{reason: :untrusted, detail: "it signs another manifest"} =
             refused(context, signature)

    for digest <- [blake3(@wider), nil],
        do:
          assert(
            %{reason: :untrusted} = refused(context, changed(signature, %{"manifest" => digest}))
          )
  end

  test "over the manifest and another module, and over the module and no manifest", context do
    assert %{reason: :untrusted, detail: "it signs another module"} =
             refused(context, signature(context.key, @other, @toml))

    assert %{reason: :untrusted, detail: "it signs the module without this manifest"} =
             refused(context, signature(context.key, @wat, nil))
  end

  test "over a manifest whose digest is the module's", context do
    # The two digests have their places in what is signed.
    File.write!(context.toml, @wat)
    swapped = signature(context.key, @toml, @wat)
    lie = changed(swapped, %{"module" => blake3(@wat), "manifest" => blake3(@toml)})
    File.write!(context.toml, @toml)
    assert %{reason: :untrusted, signed: 0} = refused(context, lie)
  end

  test "with the signature of one key under the name of another", context do
    [%{"signature" => signed}] = fields(signature(context.foreign))["signatures"]

    lie =
      changed(signature(context.foreign), %{
        "signatures" => [%{"key" => text(context.key), "signature" => signed}]
      })

    assert %{reason: :untrusted, signed: 0} = refused(context, lie)
  end

  test "of one key, twice and in several ways, count once", context do
    [one] = fields(signature(context.key))["signatures"]
    keys = [keys: [text(context.key), text(context.foreign)], threshold: 2]

    for items <- [[one, one], [one, one, one], List.duplicate(one, 64)] do
      twice = changed(signature(context.key), %{"signatures" => items})
      File.write!(context.wasm <> ".sig", twice)

      assert {:error, %{reason: :untrusted, signed: 1, threshold: 2}} =
               Loader.verify(context.wasm, manifest: true, trust: keys)
    end
  end

  test "of a key that has signed something else: a text, or the digest alone", context do
    {_public, private} = context.key
    {:ok, {:blake3, digest}} = Digest.parse(blake3(@wat))

    for message <- [digest, blake3(@wat), @wat, ""] do
      signed = Base.encode64(:crypto.sign(:eddsa, :none, message, [private, :ed25519]))

      lie =
        changed(signature(context.key), %{
          "signatures" => [%{"key" => text(context.key), "signature" => signed}]
        })

      assert %{reason: :untrusted, signed: 0} = refused(context, lie)
    end
  end

  test "with any bit of a signature changed", context do
    [%{"signature" => signed}] = fields(signature(context.key))["signatures"]
    signed = Base.decode64!(signed)

    for at <- Enum.take_random(0..511, 40) do
      <<before::size(at), bit::1, rest::bitstring>> = signed
      flipped = Base.encode64(<<before::size(at), 1 - bit::1, rest::bitstring>>)

      lie =
        changed(signature(context.key), %{
          "signatures" => [%{"key" => text(context.key), "signature" => flipped}]
        })

      assert %{reason: :untrusted, signed: 0} = refused(context, lie)
    end
  end

  test "that are no such file", context do
    good = fields(signature(context.key))
    [one] = good["signatures"]

    for text <- [
          "",
          "null",
          "[]",
          "{}",
          "ed25519",
          <<0, 255>>,
          JSON.encode(Map.delete(good, "manifest")),
          JSON.encode(Map.put(good, "more", 1)),
          JSON.encode(%{good | "format" => "other"}),
          JSON.encode(%{good | "version" => 2}),
          JSON.encode(%{good | "version" => "1"}),
          JSON.encode(%{good | "module" => nil}),
          JSON.encode(%{good | "module" => String.upcase(good["module"])}),
          JSON.encode(%{good | "module" => "sha256:" <> String.duplicate("0", 64)}),
          JSON.encode(%{good | "manifest" => false}),
          JSON.encode(%{good | "signatures" => nil}),
          JSON.encode(%{good | "signatures" => %{}}),
          JSON.encode(%{good | "signatures" => [1]}),
          JSON.encode(%{good | "signatures" => [Map.delete(one, "key")]}),
          JSON.encode(%{good | "signatures" => [Map.put(one, "more", 1)]}),
          JSON.encode(%{good | "signatures" => [%{one | "key" => "ed25519:AA=="}]}),
          JSON.encode(%{good | "signatures" => [%{one | "key" => 1}]}),
          JSON.encode(%{good | "signatures" => [%{one | "signature" => "AA=="}]}),
          JSON.encode(%{good | "signatures" => [%{one | "signature" => nil}]}),
          JSON.encode(%{good | "signatures" => [%{one | "signature" => one["signature"] <> "\n"}]}),
          JSON.encode(%{good | "signatures" => List.duplicate(one, 65)}),
          # Two readers could take it for different things.
          String.replace(
            JSON.encode(good),
            "{\"format\"",
            "{\"module\":\"#{good["module"]}\",\"format\""
          ),
          JSON.encode(good) <> JSON.encode(good),
          String.duplicate("[", 60_000)
        ] do
      assert %{reason: :bad_signature, detail: detail} = refused(context, text)
      assert byte_size(detail) < 300
    end

    assert %{reason: :untrusted, signed: 0} =
             refused(context, JSON.encode(%{good | "signatures" => []}))
  end

  test "in a huge file, or in what is no file", %{wasm: wasm} = context do
    assert %{reason: :bad_signature} = refused(context, String.duplicate(" ", 65_537))
    sig = wasm <> ".sig"
    {:ok, file} = :file.open(sig, [:write, :raw])
    {:ok, _} = :file.position(file, 10_000_000_000)
    :ok = :file.truncate(file)
    :ok = :file.close(file)
    trust = [trust: [keys: [text(context.key)]]]
    assert {:error, %{reason: :bad_signature}} = Loader.verify(wasm, trust)

    File.rm!(sig)
    assert {_, 0} = System.cmd("mkfifo", [sig])
    assert {:error, %{reason: :bad_signature}} = Loader.verify(wasm, trust)
    File.rm!(sig)
    File.mkdir!(sig)
    assert {:error, %{reason: :bad_signature}} = Loader.verify(wasm, trust)
  end

  test "that fail are noticed before anything is compiled", context do
    # It would not compile: that is not what is said.
    File.write!(context.wasm, "not a module")
    File.rm_rf!(context.wasm <> ".sig")
    trust = [trust: [keys: [text(context.key)]]]
    assert {:error, %{reason: :unsigned}} = Runtime.load_module(context.wasm, trust)

    File.write!(
      context.wasm <> ".sig",
      Signature.encode(signature(context.foreign, "not a module", nil))
    )

    assert {:error, %{reason: :untrusted}} = Runtime.load_module(context.wasm, trust)

    File.write!(
      context.wasm <> ".sig",
      Signature.encode(signature(context.key, "not a module", nil))
    )

    assert {:error, %{reason: :not_wasm}} = Runtime.load_module(context.wasm, trust)
  end

  test "of keys that anybody can sign for: no such key is trusted", %{wasm: wasm} do
    for key <- [
          <<1, 0::248>>,
          <<0::256>>,
          <<1, 0::240, 0x80>>,
          <<0xEC, -1::240, 0x7F>>,
          <<0xED, -1::240, 0xFF>>
        ] do
      text = "ed25519:" <> Base.encode64(key)
      assert Keys.parse(text) == :error
      assert_raise ArgumentError, fn -> Loader.verify(wasm, trust: [keys: [text]]) end
    end
  end

  test "a private key that others may read signs nothing", %{tmp_dir: dir} do
    path = Path.join(dir, "release.key")
    {public, private} = Keys.generate()
    assert :ok = Keys.write_new(path, {public, private})
    assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o600
    assert Keys.read_private(path) == {:ok, private}
    assert Keys.read(path <> ".pub") == {:ok, [public]}
    assert File.ls!(dir) -- ["release.key", "release.key.pub", "answer.wasm", "module.toml"] == []

    for mode <- [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] do
      File.chmod!(path, mode)
      assert {:error, "others may read or write it" <> _} = Keys.read_private(path)
    end

    File.chmod!(path, 0o400)
    assert {:ok, ^private} = Keys.read_private(path)

    # What is there stays.
    assert {:error, ^path, "file already exists"} = Keys.write_new(path, Keys.generate())
    assert {:ok, ^private} = Keys.read_private(path)
    fresh = Path.join(dir, "fresh.key")
    File.write!(fresh <> ".pub", "mine")
    assert {:error, _path, "file already exists"} = Keys.write_new(fresh, Keys.generate())
    refute File.exists?(fresh)
    assert File.read!(fresh <> ".pub") == "mine"
  end

  test "a file that is no private key is not shown", %{tmp_dir: dir} do
    for {text, index} <-
          Enum.with_index(["", "secret", "ed25519-private:secret", "ed25519-private:AA==\n"]) do
      path = Path.join(dir, "#{index}.key")
      File.write!(path, text)
      File.chmod!(path, 0o600)
      assert {:error, why} = Keys.read_private(path)
      refute why =~ "secret"
    end
  end
end
