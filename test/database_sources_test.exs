for file <- ~w(ets mnesia), do: Code.require_file("examples/sources/#{file}.ex")

defmodule Cybernetic.WASM.DatabaseSourcesTest do
  # Not async: Mnesia is the node's.
  use ExUnit.Case, async: false

  alias Cybernetic.WASM.{Digest, Executor, LoadError, Runtime}
  alias Cybernetic.WASM.Loader.{Keys, Signature}
  alias Examples.Sources.{ETS, Mnesia}

  @wat ~S|(module (func (export "answer") (result i32) i32.const 42))|
  @toml "[module]\nname = \"answer\"\n"

  defp digest(bytes, algorithm), do: bytes |> Digest.of(algorithm) |> Digest.to_text()

  test "a module in an ETS table" do
    table = :ets.new(:modules, [:set, :protected, read_concurrency: true])
    :ets.insert(table, {"answer", "1.0.0", @wat})
    assert {:ok, module} = Runtime.load_module({ETS, {table, "answer"}})
    assert module.name == "answer"
    assert Executor.call(module, "answer") == {:ok, 42}

    assert {:error, %LoadError{reason: :too_large}} =
             Runtime.load_module({ETS, {table, "answer"}}, max_module_size: 10)

    assert {:error, %LoadError{reason: :not_found} = error} =
             Runtime.load_module({ETS, {table, "question"}})

    assert Exception.message(error) == "cannot load ets/question: there is no such row"

    :ets.delete(table)

    assert {:error, %LoadError{reason: :source_failed}} =
             Runtime.load_module({ETS, {table, "answer"}})
  end

  # It tells when it stops.
  @tag :capture_log
  test "a module in a table of Mnesia, with its manifest and its signature" do
    # In memory, without a schema on disk.
    :ok = :mnesia.start()
    on_exit(fn -> :stopped = :mnesia.stop() end)
    :ok = Mnesia.create_table()

    {public, private} = Keys.generate()

    signature =
      digest(@wat, :blake3)
      |> Signature.new(digest(@toml, :blake3))
      |> Signature.sign(private)
      |> Signature.encode()

    :ok = Mnesia.put("answer", "1.0.0", @wat, manifest: @toml, signature: signature)
    source = {Mnesia, "answer"}
    pinned = [digest: digest(@wat, :sha256)]
    trusted = pinned ++ [trust: [keys: [Keys.to_text(public)]], manifest: true]

    assert {:error, %LoadError{reason: :unpinned}} = Runtime.load_module(source)
    assert {:ok, module} = Runtime.load_module(source, trusted)
    assert {module.name, module.manifest.name} == {"answer", "answer"}
    assert Executor.call(module, "answer") == {:ok, 42}

    # Somebody has written to the table.
    other = String.replace(@wat, "42", "13")
    :ok = Mnesia.put("answer", "1.0.1", other, manifest: @toml, signature: signature)
    assert {:error, %LoadError{reason: :digest_mismatch}} = Runtime.load_module(source, pinned)
    pinned_anew = Keyword.put(trusted, :digest, digest(other, :sha256))
    assert {:error, %LoadError{reason: :untrusted}} = Runtime.load_module(source, pinned_anew)
    :ok = Mnesia.put("answer", "1.0.0", @wat, manifest: "[module]\n", signature: signature)
    assert {:error, %LoadError{reason: :untrusted}} = Runtime.load_module(source, trusted)

    assert {:error, %LoadError{reason: :too_large}} =
             Runtime.load_module(source, pinned ++ [max_module_size: 10])

    assert {:error, %LoadError{reason: :not_found}} =
             Runtime.load_module({Mnesia, "question"}, pinned)
  end
end
