defmodule Cybernetic.WASM.StoreFolders do
  @moduledoc false
  # Folders of stores, and what befalls their files.

  @doc "A folder for a store, in one that is gone after the test."
  def store_folder(_context \\ %{}) do
    around = around()

    ExUnit.Callbacks.on_exit(fn ->
      File.chmod(around, 0o700)
      File.rm_rf!(around)
    end)

    store = Path.join(around, "store")
    {:ok, store: store, around: around, harm: harm(store)}
  end

  @doc "A folder of the user's alone. The way there has no links."
  def around do
    {real, 0} = System.cmd("realpath", [System.tmp_dir!()])
    number = System.unique_integer([:positive])
    around = Path.join(String.trim(real), "store_#{System.pid()}_#{number}")
    File.mkdir_p!(around)
    File.chmod!(around, 0o700)
    around
  end

  defp harm(store) do
    %{
      blob: fn digest -> flip(blob(store, digest), 0) end,
      entry: fn name, version -> flip(record(store, name, version), 9) end,
      age: fn digest, seconds ->
        File.touch!(blob(store, digest), System.os_time(:second) - seconds)
      end
    }
  end

  @doc "Where the bytes with this digest are."
  def blob(store, "blake3:" <> hex), do: Path.join([store, "blobs", binary_part(hex, 0, 2), hex])

  @doc "Where a version is written down."
  def record(store, name, version),
    do: Path.join([store, "names", String.replace(name, "/", "+"), version <> ".json"])

  @doc "Changes one bit of a file."
  def flip(path, bit) do
    bytes = File.read!(path)
    <<before::bitstring-size(bit), one::1, rest::bitstring>> = bytes
    File.write!(path, <<before::bitstring, 1 - one::1, rest::bitstring>>)
  end

  @doc "The folders of a store, and itself."
  def folders(store), do: Enum.filter([store | Path.wildcard("#{store}/**")], &File.dir?/1)

  @doc "All files of a store."
  def files(store), do: for(path <- Path.wildcard("#{store}/**"), File.regular?(path), do: path)
end
