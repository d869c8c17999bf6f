defmodule Mix.Tasks.Wasm.SignTest do
  # Not async: standard error is the whole VM's.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Terminal

  alias Cybernetic.WASM.{Config, JSON}
  alias Cybernetic.WASM.Loader.{Keys, Pins, Signature}

  @moduletag :tmp_dir

  @wat ~S|(module (func (export "answer") (result i32) i32.const 42))|

  setup %{tmp_dir: dir} do
    wasm = Path.join(dir, "answer.wasm")
    toml = Path.join(dir, "module.toml")
    File.write!(wasm, @wat)
    File.write!(toml, "[module]\nname = \"answer\"\n")
    key = Path.join(dir, "release.key")
    {0, public, ""} = run("wasm.keygen", [key])
    %{wasm: wasm, toml: toml, key: key, public: String.trim(public)}
  end

  defp json(text) do
    {:ok, term} = JSON.decode(text, 100_000)
    term
  end

  test "keys are made, and kept from others", %{key: key, public: public, tmp_dir: dir} do
    assert {:ok, _} = Keys.parse(public)
    assert File.read!(key <> ".pub") == public <> "\n"
    assert Bitwise.band(File.stat!(key).mode, 0o777) == 0o600

    assert {2, "", message} = run("wasm.keygen", [key])

    assert message =~
             "mix wasm.keygen: #{key}: file already exists, and no key is written over: choose another PATH"

    other = Path.join(dir, "other.key")
    assert {0, text, ""} = run("wasm.keygen", [other, "--json"])
    assert %{"key" => "ed25519:" <> _, "private" => ^other, "public" => public} = json(text)
    assert public == other <> ".pub"

    assert {2, text, ""} = run("wasm.keygen", ["no/such/folder/key", "--json"])
    assert %{"kind" => "usage", "message" => message} = json(text)["error"]
    assert message =~ "no/such/folder/key: there is no folder no/such/folder"
    assert {2, "", message} = run("wasm.keygen", [])
    assert message =~ "PATH is missing"
  end

  test "a module is signed, and the signature verified", %{wasm: wasm, key: key, public: public} do
    assert {0, text, warning} = run("wasm.sign", [wasm, "--key", key])
    assert text == "#{wasm}.sig: #{public}\n"
    # What lies beside it could not be loaded with it.
    assert warning =~ "module.toml is not signed; a load with it is refused"
    assert {0, text, ""} = run("wasm.verify", [wasm, "--key", public])
    assert text =~ ~r/\A#{wasm}: blake3:[0-9a-f]{64}\nsigned by #{Regex.escape(public)}\n\z/
    assert {0, text, ""} = run("wasm.verify", [wasm, "--key", key <> ".pub", "--json"])

    assert %{"signers" => [^public], "digest" => "blake3:" <> _, "sha256" => "sha256:" <> _} =
             json(text)
  end

  test "with a manifest", %{wasm: wasm, toml: toml, key: key, public: public} do
    assert {0, text, ""} = run("wasm.sign", [wasm, "--key", key, "--manifest", toml, "--json"])
    assert %{"manifest" => "blake3:" <> _, "key" => ^public} = json(text)
    assert {0, _, ""} = run("wasm.verify", [wasm, "--key", public, "--manifest", toml])
    assert {0, _, ""} = run("wasm.verify", [wasm, "--key", public])
    File.write!(toml, "[module]\n")
    assert {1, "", message} = run("wasm.verify", [wasm, "--key", public, "--manifest", toml])
    assert message =~ "it signs another manifest"
    File.write!(toml, "[modul]\n")
    assert {2, "", message} = run("wasm.sign", [wasm, "--key", key, "--manifest", toml])
    assert message =~ "unknown key"
  end

  test "several sign the same, and nobody twice", %{
    wasm: wasm,
    key: key,
    public: public,
    tmp_dir: dir
  } do
    other = Path.join(dir, "other.key")
    {0, theirs, ""} = run("wasm.keygen", [other])
    theirs = String.trim(theirs)
    for key <- [key, other, key], do: {0, _, _} = run("wasm.sign", [wasm, "--key", key])
    {:ok, signature} = Signature.parse(File.read!(wasm <> ".sig"))
    assert length(signature.signatures) == 2

    both = ["--key", public, "--key", theirs, "--threshold", "2"]
    assert {0, text, ""} = run("wasm.verify", [wasm | both])
    assert text =~ "signed by #{theirs}"

    # Another version of the module: those of the old one are of no use.
    File.write!(wasm, @wat <> " ")
    assert {1, "", message} = run("wasm.verify", [wasm | both])
    assert message =~ "it signs another module"
    {0, _, _} = run("wasm.sign", [wasm, "--key", key])
    assert {1, text, ""} = run("wasm.verify", [wasm, "--json" | both])
    assert %{"error" => %{"reason" => "untrusted", "signed" => 1, "threshold" => 2}} = json(text)
  end

  test "a digest is verified", %{wasm: wasm} do
    digest = "sha256:" <> Base.encode16(:crypto.hash(:sha256, @wat), case: :lower)
    assert {0, text, ""} = run("wasm.verify", [wasm, "--digest", digest])
    assert text =~ "pinned by --digest: #{digest}\n"
    assert {0, text, ""} = run("wasm.verify", [wasm, "--digest", digest, "--json"])
    assert %{"pins" => [%{"by" => "option", "digest" => ^digest}], "signers" => []} = json(text)
    File.write!(wasm, "other")
    assert {1, "", message} = run("wasm.verify", [wasm, "--digest", digest])
    assert message =~ "the digest that was asked for is #{digest}, and the bytes have sha256:"
  end

  test "nothing is said to be well that nothing was checked of", %{wasm: wasm, toml: toml} do
    before = Config.get()
    on_exit(fn -> Config.put(before) end)
    pin = "sha256:" <> String.duplicate("0", 64)
    pins = fn text -> Config.put(%{before | pins: Pins.new!(%{text => pin})}) end

    # The task reads the configuration when it starts, and takes what is in force.
    pins.("another.wasm")

    for more <- [[], ["--manifest", toml]] do
      assert {2, "", message} = run("wasm.verify", [wasm | more])
      assert message =~ "nothing was checked: no pin of the configuration is for #{wasm}"
    end

    pins.(Path.join([Path.dirname(wasm), ".", "answer.wasm"]))
    assert {1, "", message} = run("wasm.verify", [wasm])
    assert message =~ "the pin that is configured is #{pin}"
  end

  test "mistakes are told", %{wasm: wasm, key: key, public: public, tmp_dir: dir} do
    assert {1, "", message} = run("wasm.verify", [wasm, "--key", public])

    assert message =~
             "#{wasm} has no signature: there is no #{wasm}.sig; mix wasm.sign makes one, and --signature says"

    for {task, argv, words} <- [
          {"wasm.sign", [], "FILE is missing"},
          {"wasm.sign", [wasm], "--key is missing"},
          {"wasm.sign", [wasm, wasm, "--key", key], "one FILE is expected"},
          {"wasm.sign", [wasm, "--key", "no/such/key"], "mix wasm.keygen makes a key"},
          {"wasm.sign", [wasm, "--key", key <> ".pub"], "it is a public key, which cannot sign"},
          {"wasm.sign", [wasm, "--key", wasm], "others may read or write it"},
          {"wasm.sign", ["no/such/file", "--key", key], "no such file"},
          {"wasm.verify", [], "FILE is missing"},
          {"wasm.verify", [wasm], "nothing to check: give --key or --digest"},
          {"wasm.verify", [wasm, "--key", "ed25519:"], "a trusted key must be"},
          {"wasm.verify", [wasm, "--key", public, "--signature", "no/such.sig"],
           "--signature no/such.sig: no such file"},
          {"wasm.verify", [wasm, "--key", dir], "not a file but a directory"},
          {"wasm.verify", [wasm, "--threshold", "2"], "needs keys:"},
          {"wasm.verify", [wasm, "--threshold", "two"],
           "--threshold takes a whole number, got: two"},
          {"wasm.verify", [wasm, "--key", key],
           "it is a private key, which nobody else is to see"},
          {"wasm.keygen", [dir], "is a folder: give the path of a file in it"},
          {"wasm.verify", [wasm, "--key", public, "--threshold", "2"], "can never hold"},
          {"wasm.verify", [wasm, "--digest", "sha256:0"], "64 lowercase hexadecimal digits"},
          {"wasm.verify", [wasm, "--digets", "x"], "unknown option"}
        ] do
      assert {2, "", message} = run(task, argv)
      assert message =~ words
    end

    File.chmod!(key, 0o644)
    assert {2, "", message} = run("wasm.sign", [wasm, "--key", key])
    assert message =~ "chmod 600"
    File.chmod!(key, 0o600)

    File.write!(wasm <> ".sig", "mine")
    assert {2, "", message} = run("wasm.sign", [wasm, "--key", key])
    assert message =~ "#{wasm}.sig: no JSON"
    assert message =~ "nothing is written over it: move it away first"
    assert File.read!(wasm <> ".sig") == "mine"
  end
end
