defmodule Cybernetic.WASM.Memory do
  @moduledoc """
  A guest's linear memory, of a live instance between its calls, or of the guest that is suspended in a host call.

  Every function takes a `Cybernetic.WASM.Instance`, the pid or name of an instance's server, or the context of a host
  function, and an offset in bytes. Guests give their pointers as signed integers: a negative offset or length is taken for
  the unsigned one that it is, of 32 bits in a memory with 32-bit addresses, of 64 in one with 64-bit addresses.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|(module (memory (export "memory") 1 2))|})
      iex> {:ok, instance} = Cybernetic.WASM.Instance.new(module)
      iex> alias Cybernetic.WASM.Memory
      iex> :ok = Memory.write(instance, 8, ["hello, ", "guest"])
      iex> Memory.read(instance, 8, 5)
      {:ok, "hello"}
      iex> :ok = Memory.write_value(instance, 100, {:f64, 2}, [1.5, :nan])
      iex> Memory.read_value(instance, 100, {:f64, 2})
      {:ok, [1.5, :nan]}
      iex> Memory.grow(instance, 1)
      {:ok, 1}
      iex> {:error, error} = Memory.read(instance, 131_072, 1)
      iex> {error.reason, error.size}
      {:out_of_bounds, 131_072}

  ## Options

  Every function takes `memory:`, the memory's export name as a string. Default: the first memory that the module exports.

  ## Errors

  `Cybernetic.WASM.CallError` with the reasons `:out_of_bounds`, `:no_memory`, `:busy` (the instance is on a call: its
  own host functions use their context instead), `:poisoned`, `:closed`, `:cannot_grow`, `:unterminated`; growing beyond
  a limit, and anything on an instance whose budget has no time left, is a `Cybernetic.WASM.LimitError`.
  """

  alias Cybernetic.WASM.{CallError, Error, Execution, Instance, Shown, Value}
  alias Cybernetic.WASM.Host.Context
  alias Cybernetic.WASM.Instance.Live

  @typedoc "Whose memory: a live instance, its server, or a host function's context."
  @type target :: Instance.t() | GenServer.server() | Cybernetic.WASM.Host.ctx()

  @typedoc "A type of a value in memory; `{type, count}` is an array of them, without gaps. All are little-endian."
  @type type :: Value.memory_type() | {Value.memory_type(), non_neg_integer}

  @doc "The memory's size in bytes."
  @spec size(target, keyword) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def size(target, opts \\ []), do: access(target, {:size, memory(opts)})

  @doc """
  Grows the memory by `pages` (of 64 KiB, where the module says nothing else), and gives the size before, in pages. It
  counts against the guest's `max_memory`.
  """
  @spec grow(target, integer, keyword) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def grow(target, pages, opts \\ []),
    do: access(target, {:grow, memory(opts), integer(pages)})

  @doc "Reads `length` bytes."
  @spec read(target, integer, integer, keyword) :: {:ok, binary} | {:error, Error.t()}
  def read(target, offset, length, opts \\ []),
    do: access(target, {:read, memory(opts), integer(offset), integer(length)})

  @doc "Writes iodata."
  @spec write(target, integer, iodata, keyword) :: :ok | {:error, Error.t()}
  def write(target, offset, bytes, opts \\ []) do
    access = {:write, memory(opts), integer(offset), IO.iodata_to_binary(bytes)}
    with {:ok, :ok} <- access(target, access), do: :ok
  end

  @doc """
  Reads a value: `:i8`, `:u8`, `:i16`, `:u16`, `:i32`, `:u32`, `:i64`, `:u64`, `:f32`, `:f64` or `:v128`, by the rules of
  `Cybernetic.WASM.Value`; or with `{type, count}` a list of them.
  """
  @spec read_value(target, integer, type, keyword) ::
          {:ok, Value.t() | [Value.t()]} | {:error, Error.t()}
  def read_value(target, offset, type, opts \\ [])

  def read_value(target, offset, {type, count}, opts) when is_integer(count) and count >= 0 do
    with {:ok, bytes} <- read(target, offset, count * Value.size(type), opts),
         do: {:ok, Value.from_memory(type, bytes)}
  end

  def read_value(target, offset, type, opts) do
    with {:ok, [value]} <- read_value(target, offset, {type, 1}, opts), do: {:ok, value}
  end

  @doc "Writes a value, or with `{type, count}` a list of that many. A value that the type does not hold raises `ArgumentError`."
  @spec write_value(target, integer, type, Value.t() | [Value.t()], keyword) ::
          :ok | {:error, Error.t()}
  def write_value(target, offset, type, value, opts \\ [])

  def write_value(target, offset, {type, count}, values, opts) when length(values) == count do
    _known = Value.size(type)
    write(target, offset, Enum.map(values, &Value.to_memory(type, &1)), opts)
  end

  def write_value(_target, _offset, {type, count}, values, _opts) do
    raise ArgumentError,
          "a list of #{count} values of #{inspect(type)} is needed, got: #{Shown.kind(values)}"
  end

  def write_value(target, offset, type, value, opts),
    do: write(target, offset, Value.to_memory(type, value), opts)

  @piece 256

  @doc """
  Reads the bytes up to the first zero byte, which is not among them.

  `max:` is how many bytes are looked at, the zero byte among them, default 65,536: a string that none ends within so
  many, or within the memory, is an error with the reason `:unterminated`.
  """
  @spec read_cstring(target, integer, keyword) :: {:ok, binary} | {:error, Error.t()}
  def read_cstring(target, offset, opts \\ []) do
    {max, opts} = pop(opts, :max, 65_536)

    unless is_integer(max) and max >= 0,
      do: raise(ArgumentError, "option :max must be a number of bytes, got: #{inspect(max)}")

    with {:ok, {offset, _length, size}} <- locate(target, {offset, 0}, opts),
         do: string(target, {offset, 0, max |> min(size - offset) |> max(0)}, [], opts)
  end

  defp string(_target, {offset, read, most}, _pieces, _opts) when read >= most,
    do: {:error, %CallError{reason: :unterminated, offset: offset, length: most}}

  defp string(target, {offset, read, most}, pieces, opts) do
    with {:ok, piece} <- read(target, offset + read, min(@piece, most - read), opts) do
      case :binary.split(piece, <<0>>) do
        [last, _rest] -> {:ok, IO.iodata_to_binary([pieces, last])}
        [piece] -> string(target, {offset, read + byte_size(piece), most}, [pieces, piece], opts)
      end
    end
  end

  @doc "Writes bytes and a zero byte after them. Bytes with a zero byte among them raise `ArgumentError`."
  @spec write_cstring(target, integer, iodata, keyword) :: :ok | {:error, Error.t()}
  def write_cstring(target, offset, bytes, opts \\ []) do
    bytes = IO.iodata_to_binary(bytes)

    if :binary.match(bytes, <<0>>) != :nomatch,
      do: raise(ArgumentError, "a C string has no zero byte inside")

    write(target, offset, [bytes, 0], opts)
  end

  @doc """
  A lazy stream of `length` bytes from `offset` in binaries of `chunk:` bytes, default 65,536. Each is read when it is
  asked for, and sees what the guest has written by then; one that cannot be read raises its error.
  """
  @spec slice(target, integer, integer, keyword) :: Enumerable.t()
  def slice(target, offset, length, opts \\ []) do
    {chunk, opts} = pop(opts, :chunk, 65_536)
    {range, _memory} = {{integer(offset), integer(length)}, memory(opts)}

    unless is_integer(chunk) and chunk > 0,
      do: raise(ArgumentError, "option :chunk must be a number of bytes, got: #{inspect(chunk)}")

    Stream.unfold(range, fn range ->
      case unsigned(target, range, opts) do
        {_end, 0} ->
          nil

        {offset, left} ->
          size = min(chunk, left)
          {Error.unwrap!(read(target, offset, size, opts)), {offset + size, left - size}}
      end
    end)
  end

  # Where the next piece is, that is: only the memory knows what a negative number is to it.
  defp unsigned(_target, {offset, length} = range, _opts) when offset >= 0 and length >= 0,
    do: range

  defp unsigned(target, range, opts) do
    {offset, length, _size} = target |> locate(range, opts) |> Error.unwrap!()
    {offset, length}
  end

  defp locate(target, {offset, length}, opts),
    do: access(target, {:locate, memory(opts), integer(offset), integer(length)})

  defp access(%Instance{} = instance, access), do: Live.access(instance, access)
  defp access(%Context{} = context, access), do: Execution.command(context, access)
  defp access(server, access), do: Instance.access(server, access)

  defp pop(opts, key, default) do
    if Keyword.keyword?(opts), do: Keyword.pop(opts, key, default), else: {default, opts}
  end

  defp memory([]), do: nil
  defp memory(memory: name) when is_binary(name), do: name

  defp memory(opts) do
    raise ArgumentError,
          "the one option is :memory, an export's name as a string, got: #{Shown.term(opts)}"
  end

  # What a negative one is, the memory says.
  defp integer(value) when value in -0x8000_0000_0000_0000..0xFFFF_FFFF_FFFF_FFFF, do: value

  defp integer(value) do
    raise ArgumentError,
          "offset and length must be integers from 0, or signed ones as a guest gives them, got: #{Shown.kind(value)}"
  end
end
