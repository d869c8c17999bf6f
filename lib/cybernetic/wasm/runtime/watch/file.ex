defmodule Cybernetic.WASM.Runtime.Watch.File do
  @moduledoc false
  # A file that is watched: how it looked, and when it is due to be loaded. It is due when it looks otherwise than when it was
  # loaded last, and has looked the same twice: what is being written is left in peace. The times of a file are in seconds, so
  # that one that was changed in the second in which it was loaded may have changed again: it stays due until that is over. To
  # load what is the same costs a digest.

  # `seen` is how it looked last, `loaded` how it looked when it was loaded, and `at` the second of that. `line` is what was said
  # of it last.
  defstruct [:seen, :loaded, :line, at: 0]

  @typedoc "What the file system says of a file that is there."
  @type look :: {size :: integer, modified :: integer, changed :: integer, inode :: integer}

  @type t :: %__MODULE__{
          seen: look | nil,
          loaded: look | nil,
          line: String.t() | nil,
          at: integer
        }

  @doc "How a file looks; `nil` of what is no file."
  @spec look(Path.t()) :: look | nil
  def look(path) do
    case File.stat(path, time: :posix) do
      {:ok, %{type: :regular} = stat} -> {stat.size, stat.mtime, stat.ctime, stat.inode}
      _other -> nil
    end
  end

  @doc "Whether it is due, now that it looks so."
  @spec next(t, look) :: {:due | :quiet, t}
  def next(%__MODULE__{seen: look} = file, look) do
    if due?(file, look),
      do: {:due, %{file | loaded: look, at: System.os_time(:second)}},
      else: {:quiet, file}
  end

  def next(file, look), do: {:quiet, %{file | seen: look}}

  defp due?(%__MODULE__{loaded: look, at: at}, {_size, modified, changed, _inode} = look),
    do: max(modified, changed) >= at

  defp due?(_file, _look), do: true
end
