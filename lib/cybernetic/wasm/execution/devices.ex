defmodule Cybernetic.WASM.Execution.Devices do
  @moduledoc false
  # The VM's standard streams, as a guest that inherits them uses them: through the process that drives it, so that a group
  # leader of its own (a remote shell's, a test's) is respected.
  #
  # A device takes either bytes or characters. Where it takes characters, bytes that are no UTF-8 are written as Latin-1.
  # A stream that fails raises `IO.StreamError`.

  # How late a guest may notice that its time is over while nobody types: a compromise with waking up for nothing.
  @patience 20

  alias Cybernetic.WASM.Native

  @doc """
  Which of standard input, output and error are a terminal's. Only the VM's own streams are known to be: another group leader's
  may be anything.
  """
  @spec terminals() :: {boolean, boolean, boolean}
  def terminals do
    {stdin, stdout, stderr} = Native.runtime_terminals()
    own = Process.group_leader() == Process.whereis(:user)
    {own and stdin, own and stdout, stderr}
  end

  @doc """
  Standard input, piece by piece: what is there, or else what comes next. While nothing comes there are empty pieces, so that
  a guest that waits can look at its clock, and the call at its deadline.
  """
  @spec stdin() :: Enumerable.t()
  def stdin, do: Stream.resource(fn -> nil end, &next/1, &leave/1)

  # Another process reads: what a device says to one that is gone reaches nobody's mailbox.
  defp next(nil) do
    device = Process.group_leader()
    next(spawn_monitor(__MODULE__, :read_out, [device]))
  end

  defp next({_pid, monitor} = reader) do
    receive do
      {:DOWN, ^monitor, :process, _pid, {:read, {:ok, piece}}} -> {[piece], nil}
      {:DOWN, ^monitor, :process, _pid, {:read, :eof}} -> {:halt, nil}
      {:DOWN, ^monitor, :process, _pid, reason} -> raise IO.StreamError, reason: reason(reason)
    after
      @patience -> {[""], reader}
    end
  end

  @doc false
  @spec read_out(pid) :: no_return
  def read_out(device), do: exit({:read, read(device)})

  defp reason({:read, {:error, reason}}), do: reason
  defp reason(killed), do: killed

  defp leave(nil), do: :ok

  defp leave({pid, monitor}) do
    Process.exit(pid, :kill)
    Process.demonitor(monitor, [:flush])
  end

  # Reading lines would be slow for what has none. It would also change what is read: OTP 25's device makes a line feed of
  # "\r\n", and loses a last line that does not end in one. A function of this module needs a device on this node.
  defp read(device) do
    encoding = encoding(device)

    request =
      if node(device) == node(),
        do: {:get_until, encoding, '', __MODULE__, :take, [encoding]},
        else: {:get_line, encoding, ''}

    case :io.request(device, request) do
      piece when is_binary(piece) or is_list(piece) -> {:ok, to_bytes(piece, encoding)}
      :eof -> :eof
      {:error, reason} -> {:error, reason}
      reason -> {:error, reason}
    end
  end

  @doc "Erlang's I/O protocol calls it with what a device has read: no more is needed."
  @spec take(term, term, atom) :: {:done, binary | :eof, [] | :eof}
  def take(_before, :eof, _encoding), do: {:done, :eof, :eof}
  def take(_before, characters, encoding), do: {:done, to_bytes(characters, encoding), []}

  defp to_bytes(bytes, _encoding) when is_binary(bytes), do: bytes
  defp to_bytes(characters, :latin1), do: :erlang.list_to_binary(characters)

  # Bytes that are no UTF-8, or a character's first part.
  defp to_bytes({_error_or_incomplete, characters, rest}, encoding),
    do: to_bytes(characters, encoding) <> rest

  defp to_bytes(characters, _unicode), do: :unicode.characters_to_binary(characters)

  @doc "Writes to standard output or error, and gives back the beginning of a character whose end is not there yet."
  @spec write(:stdout | :stderr, binary) :: binary
  def write(stream, bytes) do
    device = device(stream)

    with unicode when unicode != :latin1 <- encoding(device),
         {:incomplete, characters, rest} <- :unicode.characters_to_binary(bytes),
         true <- byte_size(rest) < 4 do
      put(device, :unicode, characters)
      rest
    else
      :latin1 -> put(device, :latin1, bytes)
      characters when is_binary(characters) -> put(device, :unicode, characters)
      _no_characters -> put(device, :latin1, bytes)
    end
  end

  @doc "Writes what will never be a character."
  @spec write_rest(:stdout | :stderr, binary) :: binary
  def write_rest(stream, bytes), do: put(device(stream), :latin1, bytes)

  defp device(:stdout), do: Process.group_leader()
  defp device(:stderr), do: :standard_error

  defp put(device, encoding, bytes) do
    with {:error, reason} <- :io.request(device, {:put_chars, encoding, bytes}),
         do: raise(IO.StreamError, reason: reason)

    ""
  end

  defp encoding(device) do
    case :io.getopts(device) do
      options when is_list(options) -> Keyword.get(options, :encoding, :latin1)
      _error -> :latin1
    end
  end
end
