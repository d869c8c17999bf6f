defmodule Cybernetic.WASM.Security.StoreDamageTest do
  # Whatever befalls the files of a store: what it gives is what was put there, or an error.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.StoreFolders, only: [store_folder: 1]

  alias Cybernetic.WASM.{Digest, Store, StoreError, StoreFolders}

  # Thousands of syncs and processes: how long that takes is the machine's affair.
  @moduletag timeout: :infinity

  @rounds 400

  setup :store_folder

  setup %{store: store} do
    put = fn bytes, opts ->
      {:ok, entry} = Store.put(bytes, [store: store] ++ opts)
      {bytes, entry}
    end

    puts =
      for {name, version} <- [{"x", "1.0.0"}, {"x", "1.1.0"}, {"acme/y", "2.0.0"}],
          do: put.("bytes of #{name} #{version}", name: name, version: version, note: "a note")

    loose = [put.("loose", []), put.("", []), put.(:rand.bytes(5_000), [])]
    {:ok, puts: puts, references: references(puts ++ loose)}
  end

  # What must come of each reference.
  defp references(puts) do
    for {bytes, entry} <- puts,
        reference <- [entry.digest, entry.sha256] ++ named(entry),
        into: %{"x" => "bytes of x 1.1.0", "x@1.0" => "bytes of x 1.0.0"},
        do: {reference, bytes}
  end

  defp named(%{name: nil}), do: []
  defp named(entry), do: ["#{entry.name}@#{entry.version}"]

  test "a check takes nothing away that it could not read", context do
    %{store: store, references: references} = context
    [{_bytes, entry} | _] = context.puts
    {:ok, [lost | _]} = Store.versions("x", store: store)

    for path <- [
          StoreFolders.blob(store, entry.digest),
          StoreFolders.record(store, "x", lost.version)
        ] do
      # A link is not followed: no damage, but an error such as that of a VM with too many open files.
      away = path <> ".away"
      File.rename!(path, away)
      File.ln_s!(away, path)
      assert {:error, %StoreError{reason: :failed}} = Store.verify(store: store)
      File.rm!(path)
      File.rename!(away, path)
    end

    assert length(given(store, references)) == map_size(references)
    assert {:ok, %{damaged: [], missing: []}} = Store.verify(store: store)
  end

  test "no changed bit, cut, or foreign byte is ever given", context do
    %{store: store, around: around, references: references} = context
    sound = Path.join(around, "sound")
    File.cp_r!(store, sound)
    files = Enum.reject(StoreFolders.files(store), &(Path.basename(&1) == "lock"))

    for _round <- 1..@rounds do
      file = Enum.random(files)
      change(file, Enum.random([:bit, :bit, :bit, :cut, :more, :others]))
      given = given(store, references)

      # The same again after a check, which leaves nothing to be set aside.
      assert {:ok, _} = Store.verify(store: store)
      assert {:ok, %{damaged: []}} = Store.verify(store: store)
      later = given(store, references)

      for reference <- given, reference not in ["x"], do: assert(reference in later)
      # One file is no more than one thing.
      assert map_size(references) - length(later) <= 5

      heal(context, later)
      assert length(given(store, references)) == map_size(references)
      File.rm_rf!(store)
      File.cp_r!(sound, store)
      for folder <- StoreFolders.folders(store), do: File.chmod!(folder, 0o700)
    end
  end

  # The references that give something, which is the right thing.
  defp given(store, references) do
    for {reference, bytes} <- references,
        {:ok, given, _entry} <- [get(reference, store)] do
      expected = if reference == "x", do: [bytes, "bytes of x 1.0.0"], else: [bytes]
      assert given in expected, reference
      reference
    end
  end

  defp get(reference, store) do
    case Store.get(reference, store: store) do
      {:error, %StoreError{reason: reason}}
      when reason in [:damaged, :missing, :no_such_digest, :no_such_version, :no_such_name] ->
        :error

      {:ok, bytes, entry} ->
        {:ok, bytes, entry}
    end
  end

  # Putting there again what is not given heals it.
  defp heal(%{store: store, puts: puts, references: references}, given) do
    for {bytes, entry} <- puts,
        Enum.any?([entry.digest, entry.sha256 | named(entry)], &(&1 not in given)) do
      opts = [name: entry.name, version: entry.version, note: entry.note, store: store]
      assert {:ok, %{digest: digest}} = Store.put(bytes, opts)
      assert digest == entry.digest
    end

    for {"blake3:" <> _ = digest, bytes} <- references,
        Enum.any?([digest, Digest.text_of(bytes, :sha256)], &(&1 not in given)),
        do: {:ok, _} = Store.put(bytes, store: store)
  end

  defp change(file, :bit) do
    case File.stat!(file).size do
      0 -> change(file, :more)
      size -> StoreFolders.flip(file, :rand.uniform(8 * size) - 1)
    end
  end

  defp change(file, :cut) do
    bytes = File.read!(file)
    File.write!(file, binary_part(bytes, 0, max(byte_size(bytes) - :rand.uniform(20), 0)))
  end

  defp change(file, :more), do: File.write!(file, :rand.bytes(:rand.uniform(20_000)), [:append])
  defp change(file, :others), do: File.write!(file, "others")
end
