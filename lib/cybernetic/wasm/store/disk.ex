defmodule Cybernetic.WASM.Store.Disk do
  @moduledoc false
  # A store in a folder:
  #
  #     blobs/5d/5d055a…         bytes, by the hexadecimal digits of their BLAKE3; the time of the file is that of the last use
  #     sha256/e3/e3b0c4…        the other digest of bytes, for those who ask by SHA-256
  #     names/acme+thumb/1.2.0.json
  #     damaged/                 what was not what it should have been
  #     tmp/                     what is being written
  #     lock                     held by who writes
  #
  # Whoever writes does so alone, and each file appears whole: first the bytes, then the record of the version that points at
  # them. So who reads needs no lock, and a writer may end anywhere.

  @behaviour Cybernetic.WASM.Store.Backend

  alias Cybernetic.WASM.{Digest, Reference, StoreError}
  alias Cybernetic.WASM.Store.{Backend, Lookup, Record}
  alias Cybernetic.WASM.Store.Disk.{Files, Folder}

  @hex 64
  # "blake3:", the digits and an end of line.
  @longest_alias 72
  @record ".json"
  # Uses within so many seconds count as one: each would write to the disk.
  @same_use 60

  @impl true
  def alone(root, timeout, function) do
    Folder.alone(root, timeout, fn -> with :ok <- Files.sweep(root), do: function.() end)
  end

  # Bytes

  @impl true
  def put_blob(root, %{blake3: digest, sha256: sha256}, bytes) do
    with :ok <- put_bytes(root, digest, bytes), do: put_alias(root, sha256, digest)
  end

  # Bytes that are there already may be damaged.
  defp put_bytes(root, digest, bytes) do
    case blob(root, digest, max(byte_size(bytes), 1)) do
      {:ok, ^bytes} ->
        Files.date(root, blob_path(digest), now())
        Files.keep(root, blob_path(digest))

      :none ->
        Files.write(root, blob_path(digest), bytes)

      {:error, %StoreError{} = error} ->
        {:error, error}

      _other_bytes ->
        with :ok <- set_aside(root, {:blob, digest}),
             do: Files.write(root, blob_path(digest), bytes)
    end
  end

  defp put_alias(root, sha256, digest) do
    if find(root, sha256) == {:ok, digest},
      do: Files.keep(root, alias_path(sha256)),
      else: Files.write(root, alias_path(sha256), digest <> "\n")
  end

  @impl true
  def blob(root, digest, most), do: Files.read(root, blob_path(digest), most)

  @impl true
  def blobs(root) do
    with {:ok, digests} <- deep(root, "blobs") do
      {:ok,
       for hex <- digests,
           digest = "blake3:" <> hex,
           stat = Files.stat(root, blob_path(digest)) do
         %{digest: digest, size: stat.size, used: stat.mtime}
       end}
    end
  end

  # Files by their first two digits.
  defp deep(root, folder) do
    with {:ok, folders} <- Files.list(root, folder) do
      Lookup.collect(Enum.filter(folders, &hex?(&1, 2)), fn two ->
        with {:ok, names} <- Files.list(root, Path.join(folder, two)),
             do: {:ok, Enum.filter(names, &(hex?(&1, @hex) and String.starts_with?(&1, two)))}
      end)
    end
  end

  defp hex?(text, digits), do: byte_size(text) == digits and text =~ ~r/\A[0-9a-f]+\z/

  @impl true
  def find(root, sha256) do
    case Files.read(root, alias_path(sha256), @longest_alias) do
      {:ok, <<digest::binary-size(71), "\n">>} -> blake3(digest)
      {:error, %StoreError{} = error} -> {:error, error}
      _none_or_damaged -> :none
    end
  end

  defp blake3("blake3:" <> hex = digest), do: if(hex?(hex, @hex), do: {:ok, digest}, else: :none)
  defp blake3(_damaged), do: :none

  @impl true
  def used(root, digest) do
    stat = Files.stat(root, blob_path(digest))
    if stat && now() - stat.mtime >= @same_use, do: Files.date(root, blob_path(digest), now())
    :ok
  end

  defp now, do: System.os_time(:second)

  @impl true
  def drop_blob(root, digest, size) do
    with :ok <- drop_alias(root, digest, size), do: Files.remove(root, blob_path(digest))
  end

  defp drop_alias(root, digest, size) do
    with {:ok, bytes} <- blob(root, digest, max(size, 1)),
         sha256 = Digest.text_of(bytes, :sha256),
         {:ok, ^digest} <- find(root, sha256) do
      Files.remove(root, alias_path(sha256))
    else
      {:error, %StoreError{} = error} -> {:error, error}
      _none_or_another -> :ok
    end
  end

  @impl true
  def sweep(root) do
    with {:ok, aliases} <- deep(root, "sha256") do
      lost = for hex <- aliases, sha256 = "sha256:" <> hex, lost?(root, sha256), do: sha256
      Backend.each(lost, &Files.remove(root, alias_path(&1)))
    end
  end

  defp lost?(root, sha256) do
    case find(root, sha256) do
      {:ok, digest} -> Files.stat(root, blob_path(digest)) == nil
      other -> other == :none
    end
  end

  # Names

  @impl true
  def names(root) do
    with {:ok, folders} <- Files.list(root, "names") do
      {:ok, folders |> Enum.map(&String.replace(&1, "+", "/")) |> Enum.filter(&Reference.name?/1)}
    end
  end

  @impl true
  def versions(root, name) do
    with {:ok, files} <- Files.list(root, name_path(name)) do
      {:ok,
       for file <- files,
           String.ends_with?(file, @record),
           version = String.replace_suffix(file, @record, ""),
           match?({:ok, _version}, Reference.version(version)) do
         version
       end}
    end
  end

  @impl true
  def entry(root, name, version) do
    case Files.read(root, record_path(name, version), Record.longest()) do
      {:ok, text} -> decoded(Record.decode(text), name, version)
      {:error, {:too_large, _size}} -> damaged(name, version)
      none_or_error -> none_or_error
    end
  end

  defp decoded({:ok, %{name: name, version: version} = entry}, name, version), do: {:ok, entry}
  defp decoded(_other, name, version), do: damaged(name, version)

  defp damaged(name, version), do: StoreError.refuse(:damaged, name: name, version: version)

  @impl true
  def put_entry(root, entry) do
    path = record_path(entry.name, entry.version)
    text = IO.iodata_to_binary(Record.encode(entry))

    if Files.read(root, path, Record.longest()) == {:ok, text},
      do: Files.keep(root, path),
      else: Files.write(root, path, text)
  end

  @impl true
  def drop_entry(root, name, version) do
    with :ok <- Files.remove(root, record_path(name, version)) do
      # Where others are in it, the folder stays.
      _ = :file.del_dir(Path.join(root, name_path(name)))
      :ok
    end
  end

  @impl true
  def set_aside(root, what) do
    path = path(what)
    mark = System.unique_integer([:positive]) + System.os_time()
    to = Path.join([root, "damaged", "#{Path.basename(path)}.#{mark}"])

    with :ok <- Folder.make(Path.dirname(to)),
         :ok <- Files.move(root, Path.join(root, path), to),
         do: Files.sync(Path.join(root, Path.dirname(path)))
  end

  defp path({:blob, digest}), do: blob_path(digest)
  defp path({:entry, name, version}), do: record_path(name, version)

  # Paths

  defp blob_path("blake3:" <> hex), do: Path.join(["blobs", binary_part(hex, 0, 2), hex])
  defp alias_path("sha256:" <> hex), do: Path.join(["sha256", binary_part(hex, 0, 2), hex])

  # No name has a plus sign.
  defp name_path(name), do: Path.join("names", String.replace(name, "/", "+"))
  defp record_path(name, version), do: Path.join(name_path(name), version <> @record)
end
