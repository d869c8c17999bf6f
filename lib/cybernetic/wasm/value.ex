defmodule Cybernetic.WASM.Value do
  @moduledoc """
  Which Elixir term is which WebAssembly value.

  | type | as an argument | as a result |
  |---|---|---|
  | `i32` | integer from -2^31 to 2^32 - 1 | signed integer |
  | `i64` | integer from -2^63 to 2^64 - 1 | signed integer |
  | `f32`, `f64` | float, or an integer that a float holds exactly; `:nan`, `:infinity`, `:neg_infinity`; `{:f32_bits, n}` or `{:f64_bits, n}` | float, `:nan` for the canonical NaN of either sign, `:infinity`, `:neg_infinity`, and the bits of any other NaN |
  | `v128` | binary of 16 bytes, little-endian | the same |
  | `externref` | any term, kept as it is; `nil` is null | the term, or `nil` |
  | `funcref` | `nil`, or a reference that a call on the same live instance returned | `nil` or an opaque reference |

  One result is the bare value, several are a list, none is `nil`. A float argument is rounded to the nearest `f32`; one
  beyond the type's range is refused, as is an integer out of range, with a `Cybernetic.WASM.CallError` that says what
  the function wants. References of the GC and exception proposals that are not null come out as the atom of their
  type, such as `:anyref`: they mean nothing outside their guest.

  Elixir's floats hold neither NaN nor infinity, hence the atoms; see §4.3.3 of the WebAssembly specification for what
  "canonical" means.

      iex> sqrt = ~S|(module (func (export "sqrt") (param f64) (result f64) (f64.sqrt (local.get 0))))|
      iex> module = Cybernetic.WASM.Runtime.load_module!({:bytes, sqrt})
      iex> {Cybernetic.WASM.Executor.call(module, "sqrt", [9]), Cybernetic.WASM.Executor.call(module, "sqrt", [-1.0])}
      {{:ok, 3.0}, {:ok, :nan}}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "sqrt", ["9"])
      iex> {error.reason, error.index, error.given}
      {:type, 0, ~s("9")}
  """

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

  @typedoc "What a call returns."
  @type result :: t | [t] | nil
end
