defmodule Cybernetic.WASM.ABIError do
  @moduledoc """
  A guest gave what its ABI does not: see `Cybernetic.WASM.ABI`. It had returned, and nothing was cut off: a live instance stays
  usable.

  ## Reasons

    * `:no_room` - the allocator `export` gave the null pointer for `length` bytes: the guest has no more memory, say
    * `:out_of_bounds` - `export` gave a pointer, `offset`, or a length with it, and these `length` bytes leave a memory of `size`
      bytes
    * `:unterminated` - `export` gave a string at `offset` that no zero byte ends in a memory of `size` bytes
    * `:reported` - `export`, a plugin's function, reports an error: with the text `detail`, or by the number `code` that it gave
    * `:not_managed` - `export` gave an object at `offset` that is no string and no array of bytes of AssemblyScript's: its header
      says that it is of the class with the number `class`, and has `length` bytes

  `export` is the function that gave it: the one that was called, or the ABI's `:alloc`. `usage` and `run` are what the call had
  used, and a `Cybernetic.WASM.Run` with the output and the denials up to then. `blame` is `:guest`.
  """

  alias Cybernetic.WASM.Shown

  defexception [
    :reason,
    :export,
    :offset,
    :length,
    :size,
    :class,
    :code,
    :detail,
    :usage,
    :run,
    blame: :guest
  ]

  @typedoc "What a guest gave that cannot be. What a reason has no use for is `nil`."
  @type t :: %__MODULE__{
          reason: :no_room | :out_of_bounds | :unterminated | :not_managed | :reported,
          export: String.t(),
          offset: non_neg_integer | nil,
          length: non_neg_integer | nil,
          size: non_neg_integer | nil,
          class: non_neg_integer | nil,
          code: integer | nil,
          detail: binary | nil,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :guest
        }

  @impl true
  def message(%__MODULE__{reason: :no_room} = error) do
    "the guest's #{Shown.quoted(error.export)} has given no room for #{Shown.number(error.length)} bytes, but a null pointer"
  end

  def message(%__MODULE__{reason: :out_of_bounds} = error) do
    [length, offset, size] = Enum.map([error.length, error.offset, error.size], &Shown.number/1)

    "the guest's #{Shown.quoted(error.export)} has given #{length} bytes at #{offset}, outside its memory of #{size} bytes " <>
      "(does the option :abi fit the module?)"
  end

  def message(%__MODULE__{reason: :unterminated} = error) do
    "the guest's #{Shown.quoted(error.export)} has given a string at #{Shown.number(error.offset)} that no zero byte ends " <>
      "in its memory of #{Shown.number(error.size)} bytes"
  end

  def message(%__MODULE__{reason: :not_managed} = error) do
    [offset, length] = Enum.map([error.offset, error.length], &Shown.number/1)

    "the guest's #{Shown.quoted(error.export)} has given an object at #{offset}, of #{length} bytes and the class number " <>
      "#{error.class}, that is no string and no array of bytes"
  end

  def message(%__MODULE__{reason: :reported} = error) do
    said = inspect(Shown.cut(error.detail, 1_000), binaries: :as_strings, printable_limit: 1_000)
    code = if error.code in [nil, 0], do: "", else: " (it gave #{error.code})"
    "the guest's #{Shown.quoted(error.export)} reports an error#{code}: #{said}"
  end
end
