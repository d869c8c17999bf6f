defmodule Cybernetic.WASM.Value do
  @moduledoc """
  Which Elixir term is which WebAssembly value: first of a module's functions, then of a component's.

  | type | as an argument | as a result |
  |---|---|---|
  | `i32` | integer from -2^31 to 2^32 - 1 | signed integer |
  | `i64` | integer from -2^63 to 2^64 - 1 | signed integer |
  | `f32`, `f64` | float, or an integer that a float holds exactly; `:nan`, `:infinity`, `:neg_infinity`; `{:f32_bits, n}` or `{:f64_bits, n}` | float, `:nan` for the canonical NaN of either sign, `:infinity`, `:neg_infinity`, and the bits of any other NaN |
  | `v128` | binary of 16 bytes, little-endian | the same |
  | `externref`, `anyref` | any term, see below; `nil` is null | the term, or `nil` |
  | `funcref` | `nil`, or a reference that the same live instance gave | `nil` or an opaque reference, which `Cybernetic.WASM.Instance.call_ref/4` and `Cybernetic.WASM.Host.call_ref/3` call |

  One result is the bare value, several are a list, none is `nil`. A float argument is rounded to the nearest `f32`; one
  beyond the type's range is refused, as is an integer out of range, with a `Cybernetic.WASM.CallError` that says what
  the function wants. References of the GC and exception proposals that are not null come out as the atom of their
  type, such as `:anyref`: they mean nothing outside their guest.

  ## Terms behind references

  A term that is given as an `externref` or `anyref` is copied, and the guest has it for as long as any of its references to it
  lives: in its tables, its globals, its frames. It counts as the guest's memory, and the node's: what its copy takes, all of a
  binary that it shares, and about a kilobyte for each term. Beyond `max_memory` the call is refused with a
  `Cybernetic.WASM.LimitError` before it runs, or fails with it where a host function returned the term. Equal terms are
  kept once. One that the guest has let go of is collected before anything is refused for it.

  A guest cannot be given its own handle, nor the context of one of its host calls, nor a term with these in it, such as a closure:
  nothing would ever free it. That is a `Cybernetic.WASM.CallError` with the reason `:own_handle` and the value's `index`.
  Two guests that are given each other's handles keep each other alive until one of them is closed.

  ## Text

  Modules have no type for text or bytes. They are passed through the guest's memory, which a call with a `Cybernetic.WASM.ABI` sees
  to: see [the guide](guides/text.md).

  ## Components

  The functions of a `Cybernetic.WASM.Component` take and give values of WIT's types. Each has one form that it comes out in, whatever
  the type's other cases are.

  | WIT | out | also accepted in |
  |---|---|---|
  | `bool` | `true`, `false` | |
  | `s8` … `u64` | integer | |
  | `f32`, `f64` | as above | as above |
  | `char` | code point | a string of one character |
  | `string` | UTF-8 binary | iodata |
  | `list<u8>` | binary | iodata, a list of bytes, any enumerable of these |
  | `list` | list | any enumerable; for a list of pairs a map |
  | `tuple` | tuple | |
  | `record` | map with strings as keys, as in WIT | atoms as keys; `snake_case` for `kebab-case` |
  | `variant` | `{"case", value}`, or `"case"` of one without a value | atoms |
  | `enum` | string | atom |
  | `flags` | list of strings, in the order of their declaration | atoms, any order, a `MapSet` |
  | `option` | `:none`, `{:some, value}` | `nil` for `:none` |
  | `result` | `{:ok, value}`, `{:error, value}`; `:ok`, `:error` of what has no value | |
  | `own`, `borrow` of the component's | `%Cybernetic.WASM.Resource{}` | |
  | `own`, `borrow` of the host's | the term that it is | any term |

  An atom is accepted as the name or in snake case; none is ever made of what a guest gives. Nothing wraps and nothing is left out: an
  integer out of range, a float or a boolean for an integer, a surrogate, bytes that are no UTF-8, and a record with a field missing
  or one too many are refused before the component runs. The error says where: `argument 2 ("opts").filter.lt: expected u32, got -1`.
  What a host function returns is held to the same, as its `result`.

  A `list<u8>` that is a whole argument or result takes about as long as copying it, where the function's parameters are at most two
  of `list<u8>` and `string`, or one `u32`, and its result is of `list<u8>`, an `option` or a `result` with `string` of that, `string`
  or `u32`. Within a record or a list, and in functions of other types, each byte is a value by itself, and takes about a hundred
  nanoseconds and 40 bytes.

  ## Floats

  Elixir's floats hold neither NaN nor infinity, hence the atoms; see §4.3.3 of the WebAssembly specification for what
  "canonical" means.

      iex> sqrt = ~S|(module (func (export "sqrt") (param f64) (result f64) (f64.sqrt (local.get 0))))|
      iex> module = Cybernetic.WASM.Runtime.load_module!({:bytes, sqrt})
      iex> {Cybernetic.WASM.Executor.call(module, "sqrt", [9]), Cybernetic.WASM.Executor.call(module, "sqrt", [-1.0])}
      {{:ok, 3.0}, {:ok, :nan}}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "sqrt", ["9"])
      iex> {error.reason, error.index, error.given}
      {:type, 0, "a binary of 1 bytes"}
  """

  alias Cybernetic.WASM.{CallError, Shown}

  @typedoc "One value, by the table above."
  @type t ::
          integer
          | float
          | :nan
          | :infinity
          | :neg_infinity
          | {:f32_bits, non_neg_integer}
          | {:f64_bits, non_neg_integer}
          | <<_::128>>
          | term

  @typedoc "An `i32`."
  @type i32 :: integer

  @typedoc "An `i64`."
  @type i64 :: integer

  @typedoc "An `f32`."
  @type f32 :: number | :nan | :infinity | :neg_infinity | {:f32_bits, non_neg_integer}

  @typedoc "An `f64`."
  @type f64 :: number | :nan | :infinity | :neg_infinity | {:f64_bits, non_neg_integer}

  @typedoc "A `v128`."
  @type v128 :: <<_::128>>

  @typedoc "A `funcref`."
  @type funcref :: reference | nil

  @typedoc "An `externref`: any term."
  @type externref :: term

  @typedoc "What a call returns."
  @type result :: t | [t] | nil

  @typedoc "A type of a value in memory."
  @type memory_type :: :i8 | :u8 | :i16 | :u16 | :i32 | :u32 | :i64 | :u64 | :f32 | :f64 | :v128

  @integers [i8: 8, i16: 16, i32: 32, i64: 64]
  @naturals [u8: 8, u16: 16, u32: 32, u64: 64]
  @sizes Map.new(@integers ++ @naturals ++ [f32: 32, f64: 64, v128: 128], fn {type, bits} ->
           {type, div(bits, 8)}
         end)

  @doc false
  # The function reference that an element of a table is.
  @spec function(t, {String.t(), non_neg_integer}) :: {:ok, reference} | {:error, CallError.t()}
  def function(element, _where) when is_reference(element), do: {:ok, element}

  def function(_other, {table, index}),
    do: {:error, %CallError{reason: :no_function, export: table, index: index}}

  @doc false
  # An index of a table, which a guest gives as a signed integer.
  @spec index!(term) :: non_neg_integer
  def index!(index) when index in 0..0xFFFF_FFFF_FFFF_FFFF, do: index

  def index!(index) do
    raise ArgumentError, "an index is an integer from 0, got: #{Shown.kind(index)}"
  end

  @doc false
  # Bytes that a value takes in memory.
  @spec size(memory_type) :: pos_integer
  def size(type) do
    case @sizes do
      %{^type => size} ->
        size

      _ ->
        raise ArgumentError,
              "unknown type #{inspect(type)}; known are: #{Enum.map_join(Map.keys(@sizes), ", ", &inspect/1)}"
    end
  end

  @doc false
  # All values in these bytes.
  @spec from_memory(memory_type, binary) :: [t]
  for {type, bits} <- @integers do
    def from_memory(unquote(type), bytes),
      do: for(<<value::little-signed-size(unquote(bits)) <- bytes>>, do: value)
  end

  for {type, bits} <- @naturals do
    def from_memory(unquote(type), bytes),
      do: for(<<value::little-size(unquote(bits)) <- bytes>>, do: value)
  end

  def from_memory(:f32, bytes), do: for(<<bits::binary-4 <- bytes>>, do: f32(bits))
  def from_memory(:f64, bytes), do: for(<<bits::binary-8 <- bytes>>, do: f64(bits))
  def from_memory(:v128, bytes), do: for(<<vector::binary-16 <- bytes>>, do: vector)

  # The same rules as for results, which Rust encodes: see the table above.
  defp f32(<<value::float-little-32>>), do: value
  defp f32(<<0x7F80_0000::little-32>>), do: :infinity
  defp f32(<<0xFF80_0000::little-32>>), do: :neg_infinity
  defp f32(<<bits::little-32>>) when bits in [0x7FC0_0000, 0xFFC0_0000], do: :nan
  defp f32(<<bits::little-32>>), do: {:f32_bits, bits}

  defp f64(<<value::float-little-64>>), do: value
  defp f64(<<0x7FF0_0000_0000_0000::little-64>>), do: :infinity
  defp f64(<<0xFFF0_0000_0000_0000::little-64>>), do: :neg_infinity

  defp f64(<<bits::little-64>>) when bits in [0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000],
    do: :nan

  defp f64(<<bits::little-64>>), do: {:f64_bits, bits}

  @doc false
  # A value's bytes in memory.
  @spec to_memory(memory_type, t) :: binary
  for {type, bits} <- @integers ++ @naturals do
    least = if type in Keyword.keys(@integers), do: -Integer.pow(2, bits - 1), else: 0
    most = if least == 0, do: Integer.pow(2, bits) - 1, else: -least - 1

    def to_memory(unquote(type), value) when value in unquote(least)..unquote(most),
      do: <<value::little-size(unquote(bits))>>
  end

  def to_memory(type, :nan) when type in [:f32, :f64], do: constant(type, {0x7FC0, 0x7FF8})
  def to_memory(type, :infinity) when type in [:f32, :f64], do: constant(type, {0x7F80, 0x7FF0})

  def to_memory(type, :neg_infinity) when type in [:f32, :f64],
    do: constant(type, {0xFF80, 0xFFF0})

  def to_memory(:f32, {:f32_bits, bits}) when bits in 0..0xFFFF_FFFF, do: <<bits::little-32>>

  def to_memory(:f64, {:f64_bits, bits}) when bits in 0..0xFFFF_FFFF_FFFF_FFFF,
    do: <<bits::little-64>>

  def to_memory(:f64, value) when is_float(value), do: <<value::float-little-64>>

  def to_memory(type, value)
      when type in [:f32, :f64] and value in -0x20_0000_0000_0000..0x20_0000_0000_0000 and
             is_integer(value),
      do: to_memory(type, value * 1.0)

  # A float that is rounded to infinity is beyond the type's range, as it is for an argument.
  def to_memory(:f32, value) when is_float(value) do
    case <<value::float-little-32>> do
      <<_::24, infinite>> = bytes when infinite in [0x7F, 0xFF] -> finite!(bytes, value)
      bytes -> bytes
    end
  rescue
    ArgumentError -> refuse(:f32, value)
  end

  def to_memory(:v128, <<_::128>> = vector), do: vector

  def to_memory(type, value) do
    _known = size(type)
    refuse(type, value)
  end

  defp finite!(<<0::16, 0x80, _sign>>, value), do: refuse(:f32, value)
  defp finite!(bytes, _value), do: bytes

  defp constant(:f32, {high, _}), do: <<0::16, high::little-16>>
  defp constant(:f64, {_, high}), do: <<0::48, high::little-16>>

  @spec refuse(memory_type, term) :: no_return
  defp refuse(type, value) do
    raise ArgumentError,
          "#{inspect(type)} does not hold #{Shown.kind(value)}"
  end
end
