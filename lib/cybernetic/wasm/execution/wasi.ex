defmodule Cybernetic.WASM.Execution.Wasi do
  @moduledoc false
  # What a call gives its guest of the system interface: the grants of its sandbox as Rust takes them, where its standard
  # input comes from, and which of its standard streams are the VM's own.
  #
  # Input that is pulled, and output to the VM's streams, pass through the process that drives the guest. Between two pulls
  # the rest of an enumerable is in that process's dictionary, since a host function's own calls may pull as well.

  alias Cybernetic.WASM.{DeniedError, HostError, Module, Native, Options, Sandbox, Shown}
  alias Cybernetic.WASM.Execution.{Devices, Tally}

  # `grants` is what a fresh guest is made with, `stdin` `nil`, bytes or `:pull`, `source` what is pulled, under `key`.
  @derive {Inspect, only: [:hand_over, :inherited]}
  defstruct grants: nil,
            stdin: nil,
            source: nil,
            key: nil,
            hand_over: false,
            inherited: [],
            inherits_input: false

  @type t :: %__MODULE__{}

  # What Linux allows a command line is two megabytes; a guest asks for all of it at once.
  @most_text 131_072
  @args "a list of UTF-8 strings without NUL, of at most #{@most_text} bytes together"
  # The sandbox checks variables.
  @options [
    args: {@args, &__MODULE__.args?/1},
    env: :any,
    stdin: {"iodata, an Enumerable of it, or nil", &__MODULE__.input?/1}
  ]
  @keys Keyword.keys(@options)
  @read {Sandbox.Check.wasi(), "fd_read"}
  @write {Sandbox.Check.wasi(), "fd_write"}

  @doc "The options that are a call's own data for WASI."
  @spec options() :: Options.keys()
  def options, do: @options

  @doc "Whether they can be a program's arguments."
  @spec args?(term) :: boolean
  def args?(args) when is_list(args) do
    not List.improper?(args) and Enum.all?(args, &text?/1) and
      args |> Enum.map(&(byte_size(&1) + 1)) |> Enum.sum() <= @most_text
  end

  def args?(_other), do: false

  defp text?(text),
    do: is_binary(text) and String.valid?(text) and not String.contains?(text, <<0>>)

  @doc "Whether it can be read as standard input."
  @spec input?(term) :: boolean
  def input?(bytes) when is_binary(bytes) or is_nil(bytes), do: true

  def input?(list) when is_list(list) do
    is_binary(IO.iodata_to_binary(list))
  rescue
    ArgumentError -> false
  end

  def input?(function) when is_function(function), do: is_function(function, 2)
  def input?(map) when is_map(map) and not is_struct(map), do: false
  def input?(other), do: Enumerable.impl_for(other) != nil

  @doc """
  What a call with these options gives; `nil` for a module that wants none of it. One that is linked to others may have it
  from them.
  """
  @spec new(Sandbox.t(), Module.t(), map, map) :: {:ok, t | nil} | {:error, DeniedError.t()}
  def new(sandbox, module, %{answered: answered, sources: sources}, opts) do
    data = Map.take(opts, @keys)

    if imports?(module) or sources != nil or data != %{},
      do: grant(sandbox, module, answered, data),
      else: {:ok, nil}
  end

  defp imports?(%Module{imports: imports}),
    do: Enum.any?(imports, &(elem(&1, 0) == Sandbox.Check.wasi()))

  defp grant(sandbox, module, answered, data) do
    given = data[:stdin]

    data =
      Map.merge(data, %{
        program: module.name || "main.wasm",
        stdin: stdin(given),
        answered: answered,
        terminals: &Devices.terminals/0
      })

    with {:ok, {grants, stdin}} <- Sandbox.native(sandbox, data),
         do: {:ok, grants |> granted(sandbox.stdio) |> with_input(stdin, given)}
  end

  defp granted(grants, stdio) do
    inherited =
      for stream <- [:stdout, :stderr], Map.fetch!(stdio, stream) == :inherited, do: stream

    %__MODULE__{
      grants: grants,
      inherited: inherited,
      inherits_input: stdio.stdin == :inherited,
      hand_over: inherited != []
    }
  end

  defp with_input(wasi, :pull, given),
    do: %{wasi | stdin: :pull, source: given || Devices.stdin(), key: make_ref()}

  # Output to the VM's streams is kept under a key, too.
  defp with_input(%{inherited: inherited} = wasi, bytes, _given),
    do: %{wasi | stdin: bytes, source: nil, key: if(inherited != [], do: make_ref())}

  # What is there already goes as it is; what has to be asked for is pulled.
  defp stdin(nil), do: nil
  defp stdin(bytes) when is_binary(bytes), do: bytes
  defp stdin(list) when is_list(list), do: IO.iodata_to_binary(list)
  defp stdin(_enumerable), do: :pull

  @doc "The same for one call on a live guest, whose grants are its own already."
  @spec for_call(t | nil, Sandbox.t(), map) :: {:ok, t | nil} | {:error, DeniedError.t()}
  def for_call(wasi, sandbox, %{stdin: given}) do
    with {:ok, stdin} <- Sandbox.stdin(sandbox, stdin(given)),
         do: {:ok, wasi && with_input(wasi, stdin, given)}
  end

  def for_call(wasi, _sandbox, _opts), do: {:ok, wasi}

  @doc "The same for the calls of a live guest: the input that it was made with is not theirs, but the VM's own may be."
  @spec settle(t | nil) :: t | nil
  def settle(nil), do: nil
  def settle(%{inherits_input: true} = wasi), do: with_input(%{wasi | grants: nil}, :pull, nil)
  def settle(wasi), do: with_input(%{wasi | grants: nil}, nil, nil)

  @doc "The same for one run: two may go on at once in one process."
  @spec begin(t | nil) :: t | nil
  def begin(%__MODULE__{key: key} = wasi) when key != nil, do: %{wasi | key: make_ref()}
  def begin(wasi), do: wasi

  @doc "The same, for a call whose output is handed over while it runs."
  @spec streaming(t | nil) :: t | nil
  def streaming(nil), do: nil
  def streaming(wasi), do: %{wasi | hand_over: true}

  @doc "The same, for a part of a call whose input `whole` has."
  @spec share(t | nil, t | nil) :: t | nil
  def share(%__MODULE__{} = part, %__MODULE__{key: key}) when key != nil, do: %{part | key: key}
  def share(part, _whole), do: part

  @doc "As Rust takes it: the grants, and `{stdin, hand_over}`."
  @spec pack(t | nil) :: {map | nil, {binary | :pull | nil, boolean} | nil}
  def pack(nil), do: {nil, nil}
  def pack(%__MODULE__{grants: grants, stdin: nil, hand_over: false}), do: {grants, nil}
  def pack(wasi), do: {wasi.grants, {wasi.stdin, wasi.hand_over}}

  # Input

  @doc "The next piece of what the guest reads, or `nil` at its end; what pulling it raised, as an error."
  @spec next_input(t | nil) :: {:ok, binary | nil} | {:error, HostError.t()}
  def next_input(%__MODULE__{key: key, source: source} = wasi) when source != nil do
    with {:ok, piece} <- pull(Process.get(key, {:begin, source}), key), do: to_binary(piece, wasi)
  end

  def next_input(_none), do: {:ok, nil}

  defp pull(:ended, _key), do: {:ok, nil}

  defp pull({:begin, source}, key),
    do: pull(&Enumerable.reduce(source, &1, fn piece, _ -> {:suspend, {:piece, piece}} end), key)

  defp pull(continuation, key) do
    case continuation.({:cont, nil}) do
      {:suspended, piece, continuation} ->
        Process.put(key, continuation)
        {:ok, piece}

      {_done_or_halted, _} ->
        Process.put(key, :ended)
        {:ok, nil}
    end
  catch
    # It has closed itself.
    kind, reason ->
      Process.put(key, :ended)
      {:error, failed(kind, reason, __STACKTRACE__, @read)}
  end

  defp to_binary(nil, _wasi), do: {:ok, nil}

  defp to_binary({:piece, piece}, wasi) do
    {:ok, IO.iodata_to_binary(piece)}
  rescue
    ArgumentError ->
      close(wasi)
      Process.put(wasi.key, :ended)

      text = "standard input is made of iodata, got: #{Shown.term(piece)}"

      {:error, failed(:error, %ArgumentError{message: text}, __STACKTRACE__, @read)}
  end

  # As of a host function: the guest's call is what failed.
  defp failed(kind, reason, stacktrace, import),
    do: %HostError{kind: kind, reason: reason, stacktrace: stacktrace, import: import}

  @doc "Gives up what has not been pulled, and writes what was kept back; what that raised, as an error."
  @spec close(t | nil) :: :ok | {:error, HostError.t()}
  def close(%__MODULE__{key: key, inherited: inherited}) when key != nil do
    for stream <- inherited,
        rest = Process.delete({key, stream}),
        do: write(stream, rest, &Devices.write_rest/2)

    case Process.delete(key) do
      continuation when is_function(continuation) -> continuation.({:halt, nil})
      _begun_or_ended -> :ok
    end

    :ok
  catch
    kind, reason -> {:error, failed(kind, reason, __STACKTRACE__, @read)}
  end

  def close(_none), do: :ok

  # Output

  @doc "Writes what the guest has put out to those of the VM's streams that are its own."
  @spec write_inherited(t | nil, reference) :: :ok | {:error, HostError.t()}
  def write_inherited(%__MODULE__{inherited: [_ | _] = streams, key: key}, execution) do
    for {stream, bytes} <- take_output(execution, streams), do: keep({key, stream}, bytes)

    :ok
  catch
    kind, reason -> {:error, failed(kind, reason, __STACKTRACE__, @write)}
  end

  def write_inherited(_none, _execution), do: :ok

  # A write may end within a character.
  defp keep({_, stream} = key, bytes) do
    case Devices.write(stream, (Process.get(key) || "") <> bytes) do
      "" -> Process.delete(key)
      rest -> Process.put(key, rest)
    end
  end

  @doc "The tally of a call that was cut off in a write, whose first part belongs on the VM's streams."
  @spec flush_inherited(t | nil, Tally.t() | nil) :: Tally.t() | nil
  def flush_inherited(%__MODULE__{inherited: [_ | _] = streams, key: key}, %Tally{} = tally) do
    Enum.reduce(streams, tally, fn stream, tally ->
      Map.update!(tally, stream, fn bytes ->
        write(stream, bytes, &keep({key, &1}, &2))
      end)
    end)
  end

  def flush_inherited(_none, tally), do: tally

  # What ended the call is what is told, not that its last words could not be written either.
  defp write(stream, bytes, write) do
    if bytes != "", do: write.(stream, bytes)
    ""
  rescue
    IO.StreamError -> ""
  end

  @doc "What the guest has put out to these streams since the last time, in pieces."
  @spec take_output(reference, [atom]) :: [Tally.piece()]
  def take_output(execution, streams) do
    with :dirty <- Native.execution_take_output(execution, streams),
         do: Native.execution_take_output_dirty(execution, streams)
  end

  @doc "Which streams a consumer of the output gets."
  @spec streams(t | nil) :: [:output | :stdout | :stderr]
  def streams(nil), do: [:output]
  def streams(wasi), do: [:output, :stdout, :stderr] -- wasi.inherited
end
