defmodule Cybernetic.WASM.Store.Disk.Folder do
  @moduledoc false
  # The folders of a store: whether they can be relied on, and that one at a time writes there.

  alias Cybernetic.WASM.{Native, StoreError}

  # Between two looks at a lock that others have, in milliseconds.
  @shortest_pause 1
  @longest_pause 20

  @doc "Whether the folder is there, and nobody else can write to it or put another in its place."
  @spec ours(Path.t()) :: :ok | :missing | {:error, StoreError.t()}
  def ours(path) do
    case Native.folder_ours(path, false) do
      {:missing, _path, _words} -> :missing
      judged -> judged(judged)
    end
  end

  @doc "The same, for a folder that is made where it is missing."
  @spec make(Path.t()) :: :ok | {:error, StoreError.t()}
  def make(path), do: path |> Native.folder_ours(true) |> judged()

  defp judged(:ok), do: :ok

  defp judged({:not_ours, path, words}),
    do: StoreError.refuse(:not_ours, path: path, detail: words)

  defp judged({_failed, path, words}), do: StoreError.refuse(:failed, path: path, detail: words)

  @doc """
  Runs `function` while nobody else does so for this folder, in this process of the operating system or another. The lock ends
  with the process that has it, whatever ends that one.
  """
  @spec alone(Path.t(), timeout, (() -> result)) :: result | {:error, StoreError.t()}
        when result: term
  def alone(path, timeout, function) do
    with :ok <- make(path),
         {:ok, lock} <- lock(Path.join(path, "lock"), until(timeout), @shortest_pause) do
      try do
        function.()
      after
        Native.folder_unlock(lock)
      end
    end
  end

  defp until(:infinity), do: :infinity
  defp until(timeout), do: now() + timeout

  defp now, do: System.monotonic_time(:millisecond)

  defp lock(path, until, pause) do
    case Native.folder_lock(path) do
      {:ok, lock} -> {:ok, lock}
      :busy -> wait(path, until, pause)
      {:error, words} -> StoreError.refuse(:failed, path: path, detail: words)
    end
  end

  # An atom is more than any number.
  defp wait(path, until, pause) do
    if now() < until do
      Process.sleep(pause + :rand.uniform(pause) - 1)
      lock(path, until, min(2 * pause, @longest_pause))
    else
      StoreError.refuse(:busy)
    end
  end
end
