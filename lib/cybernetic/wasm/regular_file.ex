defmodule Cybernetic.WASM.RegularFile do
  @moduledoc false
  # Reads files that others may have chosen: never more than so many bytes, and nothing but a regular file, since a device has no
  # end and a pipe waits for somebody to write.

  @typedoc "Why a file is not read."
  @type refusal :: {:not_a_file, String.t()} | {:too_large, pos_integer} | File.posix()

  # Each question to the system is a way to another scheduler and back. These ask no process of Erlang's on the way, and work out
  # no local times.
  @facts [:raw, time: :posix]

  @doc """
  The bytes of a file, at most `most` of them. `check` is given what is known of the very file that is read, and refuses it
  where it does not give `:ok`.
  """
  @spec read(String.t(), pos_integer, (File.Stat.t() -> :ok | error) | nil) ::
          {:ok, binary} | {:error, refusal} | error
        when error: {:error, term}
  def read(path, most, check \\ nil) do
    with :ok <- possible(path),
         {:ok, stat} <- regular(:file.read_file_info(path, @facts)),
         :ok <- measure(stat.size, most),
         {:ok, file} <- :file.open(path, [:read, :binary, :raw]) do
      result = read_open(file, most, check)
      :ok = :file.close(file)
      result
    end
  end

  # `:file.open/2` raises for a path with a zero byte.
  defp possible(path), do: if(String.contains?(path, <<0>>), do: {:error, :enoent}, else: :ok)

  defp regular({:ok, info}) do
    stat = File.Stat.from_record(info)

    if stat.type == :regular,
      do: {:ok, stat},
      else: {:error, {:not_a_file, to_string(stat.type)}}
  end

  defp regular(error), do: error

  # Another file may be there by now, or it may have grown. One byte more than allowed: that is noticed, and never read whole.
  defp read_open(file, most, check) do
    with :ok <- checked(file, check),
         {:ok, bytes} <- bytes(:file.read(file, most + 1)),
         :ok <- measure(byte_size(bytes), most),
         do: {:ok, bytes}
  end

  defp checked(_file, nil), do: :ok

  defp checked(file, check) do
    with {:ok, stat} <- regular(:file.read_file_info(file, @facts)), do: check.(stat)
  end

  defp bytes(:eof), do: {:ok, ""}
  defp bytes(result), do: result

  defp measure(size, most) when size <= most, do: :ok
  defp measure(size, _most), do: {:error, {:too_large, size}}

  @doc "A refusal in words."
  @spec words(refusal) :: String.t()
  def words({:not_a_file, type}), do: "not a file but a #{type}"
  def words({:too_large, size}), do: "#{size} bytes are too many"
  def words(reason), do: to_string(:file.format_error(reason))
end
