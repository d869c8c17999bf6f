defmodule Cybernetic.WASM.Host do
  @moduledoc """
  What a host function can do with the guest that called it.

  A host function takes a context and the guest's arguments, and runs in the process that made the call. It returns what
  its type in the module says: the bare value for one result, a list for several, anything for none.

      imports = %{
        "env" => %{
          "log" => fn ctx, ptr, len ->
            {:ok, text} = Cybernetic.WASM.Host.read(ctx, ptr, len)
            IO.puts(text)
          end
        }
      }

      Cybernetic.WASM.Executor.call(module, "run", [], imports: imports)

  An exception, exit or throw unwinds the guest and reaches the caller as a `Cybernetic.WASM.HostError`. A host function
  may block; its time counts against the call's deadline, and a call past its deadline fails as soon as the function
  returns. The context is good inside its host function only.

  ## Example

      iex> wat = ~S|(module (import "env" "add" (func $add (param i32 i32) (result i32)))
      ...>   (func (export "run") (result i32) (call $add (i32.const 2) (i32.const 3))))|
      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, wat})
      iex> Cybernetic.WASM.Executor.call(module, "run", [], imports: %{"env" => %{"add" => fn _ctx, a, b -> a + b end}})
      {:ok, 5}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "run", [], imports: %{"env" => %{"add" => fn _ctx, _a, _b -> raise "no" end}})
      iex> error.reason
      %RuntimeError{message: "no"}
  """

  alias Cybernetic.WASM.{CallError, Error, Execution, Value}
  alias Cybernetic.WASM.Host.Context

  @typedoc "The context of one host call."
  @type ctx :: Context.t()

  @typedoc "Host functions by module name and field name, as `imports:` takes them."
  @type imports :: %{String.t() => %{String.t() => function}}

  @doc """
  Reads `length` bytes at `offset` of the guest's memory: the first one it exports, or `memory:` by its export name.
  """
  @spec read(ctx, non_neg_integer, non_neg_integer, keyword) ::
          {:ok, binary} | {:error, CallError.t()}
  def read(ctx, offset, length, opts \\ []) do
    Execution.command(ctx, {:read, memory(opts), unsigned(offset), unsigned(length)})
  end

  @doc "Writes `bytes` at `offset` of the guest's memory; `memory:` as in `read/4`."
  @spec write(ctx, non_neg_integer, iodata, keyword) :: :ok | {:error, CallError.t()}
  def write(ctx, offset, bytes, opts \\ []) do
    with {:ok, :ok} <-
           Execution.command(
             ctx,
             {:write, memory(opts), unsigned(offset), IO.iodata_to_binary(bytes)}
           ),
         do: :ok
  end

  @doc "The size of the guest's memory in bytes; `memory:` as in `read/4`."
  @spec memory_size(ctx, keyword) :: {:ok, non_neg_integer} | {:error, CallError.t()}
  def memory_size(ctx, opts \\ []), do: Execution.command(ctx, {:size, memory(opts)})

  @doc "Calls an export of the guest while it is suspended in this host call, within what the call has left of its limits, at most 200 host calls deep."
  @spec call(ctx, String.t(), [Value.t()]) :: {:ok, Value.result()} | {:error, Error.t()}
  def call(ctx, function, args \\ [])

  # `length` fails, and so does the guard, where the list is improper.
  def call(ctx, function, args) when is_binary(function) and length(args) >= 0 do
    Execution.command(ctx, {:call, function, args})
  end

  def call(_ctx, function, args) do
    raise ArgumentError,
          "a function's name and a proper list of arguments are needed, got: " <>
            inspect({function, args}, limit: 5, printable_limit: 80)
  end

  @doc "Puts out bytes: they are the `output` of the finished `Cybernetic.WASM.Run`. Past `max_output` the guest is stopped."
  @spec emit(ctx, iodata) :: :ok
  def emit(ctx, bytes), do: Execution.emit(ctx, IO.iodata_to_binary(bytes))

  @doc "Stops the guest: the call fails with a `Cybernetic.WASM.HostError` of kind `:trap`."
  @spec trap(ctx, term) :: no_return
  def trap(%Context{}, reason), do: throw({Execution, :trap, reason})

  @doc "Fuel that the call has left; `nil` where metering is by epochs."
  @spec fuel_left(ctx) :: non_neg_integer | nil
  def fuel_left(ctx) do
    case Execution.command(ctx, :fuel) do
      {:ok, fuel} -> fuel
      {:error, error} -> raise error
    end
  end

  @doc "Milliseconds that the call has left."
  @spec time_left(ctx) :: non_neg_integer
  def time_left(%Context{execution: execution}), do: Execution.time_left(execution)

  @doc "What the caller gave as `data:`."
  @spec data(ctx) :: term
  def data(%Context{plan: plan}), do: plan.data

  defp memory([]), do: nil
  defp memory(memory: name) when is_binary(name), do: name

  defp memory(opts) do
    raise ArgumentError,
          "the one option is :memory, an export's name as a string, got: " <>
            inspect(opts, limit: 5, printable_limit: 80)
  end

  # A guest's pointers come as signed integers.
  defp unsigned(value) when value in 0..0xFFFF_FFFF_FFFF_FFFF, do: value
  defp unsigned(value) when value in -0x8000_0000..-1, do: value + 0x1_0000_0000

  defp unsigned(value) do
    raise ArgumentError,
          "offset and length must be integers from 0, or signed 32-bit ones as a guest gives them, got: " <>
            inspect(value, limit: 5, printable_limit: 80)
  end
end
