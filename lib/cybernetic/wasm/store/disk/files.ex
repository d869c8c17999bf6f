defmodule Cybernetic.WASM.Store.Disk.Files do
  @moduledoc false
  # The files of a store, by the store's folder and a path in it. A file is there whole or not at all: it is written under
  # another name, and has its own only when the disk has it. What is done is on the disk when the function returns.

  alias Cybernetic.WASM.{RegularFile, StoreError}
  alias Cybernetic.WASM.Store.Disk.Folder

  # What is being written. Whoever begins to write removes what others did not finish.
  @unfinished "tmp"

  @doc "Puts a file there."
  @spec write(Path.t(), Path.t(), iodata) :: :ok | {:error, StoreError.t()}
  def write(root, path, bytes) do
    path = Path.join(root, path)
    unfinished = Path.join([root, @unfinished, random()])

    with :ok <- Folder.make(Path.dirname(unfinished)),
         :ok <- Folder.make(Path.dirname(path)),
         :ok <- create(unfinished, bytes) do
      move(root, unfinished, path)
    end
  end

  defp random, do: 12 |> :rand.bytes() |> Base.encode16(case: :lower)

  # For the user alone, whatever the umask is.
  defp create(path, bytes) do
    with {:ok, file} <- done(:file.open(path, [:write, :exclusive, :raw, :binary]), path) do
      written =
        with :ok <- :file.change_mode(path, 0o600),
             :ok <- :file.write(file, bytes),
             do: :file.sync(file)

      closed = :file.close(file)
      result = if written == :ok, do: closed, else: written
      if result != :ok, do: :file.delete(path)
      done(result, path)
    end
  end

  @doc "Gives a file of the store another place in it, by their whole paths. The folder of the new one is there."
  @spec move(Path.t(), Path.t(), Path.t()) :: :ok | {:error, StoreError.t()}
  def move(root, from, to) do
    with :ok <- done(:file.rename(from, to), to), do: sync_up(root, Path.dirname(to))
  end

  # Who made a folder may have ended before the one around it was synced.
  defp sync_up(root, root), do: sync(root)

  defp sync_up(root, folder),
    do: with(:ok <- sync(folder), do: sync_up(root, Path.dirname(folder)))

  @doc "Has the disk keep a file that is there already: who put it there may have ended before that was so."
  @spec keep(Path.t(), Path.t()) :: :ok | {:error, StoreError.t()}
  def keep(root, path), do: sync_up(root, root |> Path.join(path) |> Path.dirname())

  @doc "Removes a file."
  @spec remove(Path.t(), Path.t()) :: :ok | {:error, StoreError.t()}
  def remove(root, path) do
    path = Path.join(root, path)

    case :file.delete(path) do
      {:error, :enoent} -> :ok
      result -> with :ok <- done(result, path), do: sync(Path.dirname(path))
    end
  end

  @doc "Has the disk keep what has been put into a folder, or taken out of it."
  @spec sync(Path.t()) :: :ok | {:error, StoreError.t()}
  def sync(folder) do
    with {:ok, open} <- done(:file.open(folder, [:read, :directory, :raw]), folder) do
      synced = :file.sync(open)
      :ok = :file.close(open)
      done(synced, folder)
    end
  end

  @doc "A file of at most so many bytes; `:none` where there is none."
  @spec read(Path.t(), Path.t(), pos_integer) ::
          {:ok, binary} | :none | {:error, {:too_large, pos_integer} | StoreError.t()}
  def read(root, path, most) do
    path = Path.join(root, path)

    with :ok <- Folder.ours(root),
         :ok <- Folder.ours(Path.dirname(path)),
         {:ok, size} <- size(path),
         {:ok, bytes} <- RegularFile.read(path, min(size, most)) do
      {:ok, bytes}
    else
      :missing -> :none
      {:error, :enoent} -> :none
      {:error, {:too_large, size}} -> {:error, {:too_large, size}}
      {:error, %StoreError{} = error} -> {:error, error}
      {:error, refusal} -> failed(path, RegularFile.words(refusal))
    end
  end

  # As much memory is taken as may be read. A link has a size, too, but leads elsewhere.
  defp size(path) do
    with {:ok, info} <- :file.read_link_info(path, [:raw]) do
      case File.Stat.from_record(info) do
        %{type: :symlink} -> {:error, {:not_a_file, "symlink"}}
        %{size: size} -> {:ok, size}
      end
    end
  end

  @doc "The names in a folder; none where there is no folder."
  @spec list(Path.t(), Path.t()) :: {:ok, [String.t()]} | {:error, StoreError.t()}
  def list(root, folder) do
    path = Path.join(root, folder)

    with :ok <- Folder.ours(root),
         :ok <- Folder.ours(path),
         {:ok, names} <- :file.list_dir(path) do
      {:ok, names |> Enum.map(&to_string/1) |> Enum.sort()}
    else
      :missing -> {:ok, []}
      {:error, :enoent} -> {:ok, []}
      {:error, %StoreError{} = error} -> {:error, error}
      {:error, reason} -> failed(path, RegularFile.words(reason))
    end
  end

  @doc "What is known of a file, or `nil`. Times are seconds since 1970."
  @spec stat(Path.t(), Path.t()) :: File.Stat.t() | nil
  def stat(root, path) do
    case :file.read_link_info(Path.join(root, path), [:raw, time: :posix]) do
      {:ok, info} -> File.Stat.from_record(info)
      {:error, _reason} -> nil
    end
  end

  @nothing %File.Stat{} |> Map.from_struct() |> Map.new(fn {key, _} -> {key, :undefined} end)

  @doc "Has a file be of this time. Where that cannot be, it stays as it is."
  @spec date(Path.t(), Path.t(), integer) :: :ok
  def date(root, path, seconds) do
    stat = struct!(File.Stat, %{@nothing | atime: seconds, mtime: seconds})
    info = File.Stat.to_record(stat)
    _ = :file.write_file_info(Path.join(root, path), info, [:raw, time: :posix])
    :ok
  end

  @doc "Removes what others have not finished. Only who writes alone may do so."
  @spec sweep(Path.t()) :: :ok | {:error, StoreError.t()}
  def sweep(root) do
    with {:ok, names} <- list(root, @unfinished) do
      Enum.each(names, &:file.delete(Path.join([root, @unfinished, &1])))
    end
  end

  defp done(:ok, _path), do: :ok
  defp done({:ok, value}, _path), do: {:ok, value}
  defp done({:error, reason}, path), do: failed(path, RegularFile.words(reason))

  defp failed(path, words), do: StoreError.refuse(:failed, path: path, detail: words)
end
