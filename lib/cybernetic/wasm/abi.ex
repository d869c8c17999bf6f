defmodule Cybernetic.WASM.ABI do
  @moduledoc """
  How a guest's functions take and give bytes, for calls that pass text.

  WebAssembly's functions take and give numbers; bytes are in the guest's memory. With an ABI, a call does all that there is to
  do, in one step: it has the guest make room, writes the arguments there, calls, reads the result, and has the guest let go of
  what it allocated. `:abi` is an option of every call, fresh or live: `Cybernetic.WASM.Executor.call/4`, `run/4`, `async/4`,
  `Cybernetic.WASM.Instance.call/4`. It is one call: one supply of fuel, one deadline, one `Cybernetic.WASM.Run`, whatever of the
  guest's functions run for it. With `Cybernetic.WASM.Instance.new/2` it holds for all calls of the instance.

      iex> alias Cybernetic.WASM.{ABI, Executor, Runtime}
      iex> {:ok, module} = Runtime.load_module({:bytes, ~S|
      ...>   (module (memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))
      ...>     (func (export "alloc") (param $size i32) (result i32)
      ...>       (global.get $next) (global.set $next (i32.add (global.get $next) (local.get $size))))
      ...>     (func (export "without_first") (param $at i32) (param $length i32) (result i64)
      ...>       (i64.or (i64.shl (i64.extend_i32_u (i32.add (local.get $at) (i32.const 1))) (i64.const 32))
      ...>         (i64.extend_i32_u (i32.sub (local.get $length) (i32.const 1))))))|})
      iex> abi = ABI.new(alloc: "alloc", result: :packed)
      iex> Executor.call(module, "without_first", ["hello"], abi: abi)
      {:ok, "ello"}
      iex> {:error, error} = Executor.call(module, "without_first", [""], abi: abi)
      iex> {error.reason, error.export, error.length, error.blame}
      {:out_of_bounds, "without_first", 4_294_967_295, :guest}

  An ABI is made once and used for many calls, of any module of the node. `abi: [alloc: "alloc", result: :packed]` makes one for
  one call, which takes a little longer.

  ## Arguments

  Calls with an ABI take these in their list of arguments:

  | argument | the function gets |
  |---|---|
  | a binary, or `{:bytes, iodata}` | two numbers: where the bytes are, and how many |
  | `{:pointer, iodata}` | one: where they are |
  | `{:cstring, iodata}` | one: where they are, with a zero byte after them |
  | `{:buffer, iodata, room}` | two, as of a binary; but there is room for `room` bytes, if they are fewer |
  | `{:room, size}` | one: where there is room for the result, for functions that are told where to put it |
  | a number, or another value as in `Cybernetic.WASM.Value` | that |
  | `{:value, value}` | that, where it would be taken for one of the above: a `v128`, or a term behind a reference |

  ## Options

    * `:alloc` - the function that makes room: its export name, where it takes the size, or `{name, arguments}`, a list of `:size`
      and of integers that are always the same. It gives a pointer. Needed for arguments that are bytes or room.
    * `:free` - the function that lets go of what was allocated for the arguments, and of the result: its export name, where it
      takes the pointer, or `{name, arguments}`, a list of `:pointer`, `:size`, `:result` (what the called function gave: of
      `:pair_at` the address of the pair) and of integers. Default: none.
      A fresh guest is not asked to: it is gone when the call ends.
    * `:free_arguments`, `:free_result` - the same of the two alone. Each is by default what `:free` is; `nil` is none. A function
      that takes its arguments over, as those of `wasm-bindgen` do, has no `:free_arguments`.
    * `:result` - how the function says where its result is, see below. Default: `:values`
    * `:memory` - the memory's export name. Default: the first that the module exports.

  | `:result` | the function gives | the result |
  |---|---|---|
  | `:values` | numbers | the numbers, as of any call |
  | `:packed` | an `i64` with the pointer in its upper half, the length in the lower | a binary |
  | `:packed_length_first` | the same the other way round | a binary |
  | `:pair` | two numbers, pointer and length | a binary |
  | `:pair_at` | the address of two numbers, pointer and length | a binary |
  | `:cstring` | the address of bytes that a zero byte ends | those before it |
  | `:length_prefixed` | the address of a length, and of the bytes after it | a binary |
  | `:length_before` | the address of bytes, with their length before them | a binary |
  | `{:fixed, size}` | the address of so many bytes | a binary |
  | `:managed` | the address of an object of AssemblyScript's: a string, an `ArrayBuffer`, a typed array or an array of bytes | a binary, of a string in UTF-8 |
  | `:in_place` | a length: the function has written its result over its argument | a binary |

  Those from `:pair_at` to `:managed` are found at the address of `{:room, size}` where that is among the arguments; what the function gives is not
  looked at then. Where the function gives the null pointer for one of them, the result is `nil`. A number in memory has as many
  bytes as an address of that memory: four, or eight.

  | language | its ABI |
  |---|---|
  | C, C++ | `alloc: "malloc", free: "free", result: :cstring`; both exported with `-Wl,--export=malloc,--export=free` |
  | Rust, by hand | `alloc: "alloc", free: {"dealloc", [:pointer, :size]}, result: :packed` |
  | Rust, `wasm-bindgen` | `alloc: {"__wbindgen_malloc", [:size, 1]}, free_result: {"__wbindgen_free", [:pointer, :size, 1]}, result: :pair` |
  | Go, TinyGo | `alloc: "malloc", free: "free", result: :packed` |
  | Zig | `alloc: "alloc", free: {"free", [:pointer, :size]}, result: :packed` |
  | AssemblyScript | `alloc: {"__new", [:size, 2]}, result: :managed`, with `{:pointer, utf16}` as the one argument (`--exportRuntime`) |
  | the canonical ABI | `alloc: {"cabi_realloc", [0, 0, 1, :size]}, free_result: {"cabi_post_NAME", [:result]}, result: :pair_at` |

  ## Limits

  The bytes of a result count as output: more than `:max_output` allows are not read, and the call fails with that limit. What the
  guest allocates counts against `:max_memory`, as all of its memory does.

  ## Errors

  What a guest gives that cannot be is a `Cybernetic.WASM.ABIError`. A module without the functions that an ABI names, or with
  others than it says, is a `Cybernetic.WASM.CallError`: `:no_such_export`, `:not_by_abi`, `:no_allocator`. A live instance stays
  usable after both, and after a result that was too long.
  """

  import Cybernetic.WASM.Execution.Terms, only: [is_plain: 1]

  alias Cybernetic.WASM.{Native, Options, Shown}
  alias Cybernetic.WASM.Execution.Terms

  @derive {Inspect, except: [:ref]}
  @enforce_keys [:ref]
  defstruct [:ref, :alloc, :free_arguments, :free_result, :memory, result: :values]

  @typedoc "What a function beside the called one takes, or `{name, arguments}` with a list of these."
  @type operand :: :pointer | :size | :result | integer

  @typedoc "A function that an ABI names."
  @type helper :: String.t() | {String.t(), [operand]}

  @typedoc "How a result says where it is: see above."
  @type result ::
          :values
          | :packed
          | :packed_length_first
          | :pair
          | :pair_at
          | :cstring
          | :length_prefixed
          | :length_before
          | :managed
          | :in_place
          | {:fixed, non_neg_integer}

  @typedoc "An option of `new/1`."
  @type option ::
          {:alloc, helper}
          | {:free, helper | nil}
          | {:free_arguments, helper | nil}
          | {:free_result, helper | nil}
          | {:result, result}
          | {:memory, String.t()}

  @typedoc "An ABI."
  @type t :: %__MODULE__{
          alloc: helper | nil,
          free_arguments: helper | nil,
          free_result: helper | nil,
          result: result,
          memory: String.t() | nil
        }

  @typedoc "What `abi:` takes. `nil` is none: a call with numbers, on an instance that has one."
  @type given :: t | [option] | nil

  @results [
    :values,
    :packed,
    :packed_length_first,
    :pair,
    :pair_at,
    :cstring,
    :length_prefixed,
    :length_before,
    :managed,
    :in_place
  ]
  @sizes 0..0xFFFF_FFFF_FFFF
  @numbers -0x8000_0000_0000_0000..0x7FFF_FFFF_FFFF_FFFF

  @options [
    alloc: {"a function's name, or {name, [:size | integer]}", &__MODULE__.alloc?/1},
    free:
      {"a function's name, {name, [:pointer | :size | :result | integer]}, or nil",
       &__MODULE__.free?/1},
    free_arguments:
      {"a function's name, {name, [:pointer | :size | integer]}, or nil",
       &__MODULE__.free_arguments?/1},
    free_result:
      {"a function's name, {name, [:pointer | :size | :result | integer]}, or nil",
       &__MODULE__.free?/1},
    result:
      {"one of #{Enum.map_join(@results, ", ", &inspect/1)}, or {:fixed, size}",
       &__MODULE__.result?/1},
    memory: {"a memory's export name", &is_binary/1}
  ]

  @doc """
  An ABI with these options: see above.

      iex> Cybernetic.WASM.ABI.new(alloc: "malloc", free: "free", result: :cstring).free_result
      "free"
      iex> Cybernetic.WASM.ABI.new(aloc: "malloc")
      ** (ArgumentError) unknown option of an ABI :aloc (did you mean :alloc?); known are: :alloc, :free, :free_arguments, :free_result, :result, :memory
  """
  @spec new([option]) :: t
  def new(opts) do
    opts = Options.check!(opts, @options, "option of an ABI")
    free = opts[:free]

    abi = %{
      alloc: opts[:alloc],
      free_arguments: Map.get(opts, :free_arguments, free),
      free_result: Map.get(opts, :free_result, free),
      result: Map.get(opts, :result, :values),
      memory: opts[:memory]
    }

    struct!(__MODULE__, Map.put(abi, :ref, native(abi)))
  end

  defp native(abi) do
    Native.abi_new(
      {:abi, native(abi.alloc, :size), native(abi.free_arguments, :pointer),
       native(abi.free_result, :pointer), abi.result, abi.memory, nil}
    )
  end

  @doc false
  # That of plugins made for Extism, whose input and output are in no memory of theirs: with a configuration, the level from which
  # on is logged, and how many bytes their variables may take.
  @spec extism([{String.t(), String.t()}], 0..5, non_neg_integer) :: t
  def extism(config, log_level, most) do
    kernel = Native.kernel_new(config, log_level, most)
    %__MODULE__{ref: Native.abi_new({:abi, nil, nil, nil, :output, nil, kernel})}
  end

  defp native(name, operand) when is_binary(name), do: {name, [operand]}
  defp native(other, _operand), do: other

  @doc false
  # Whether `abi:` takes it. Options are checked when the ABI is made of them.
  @spec given?(term) :: boolean
  def given?(%__MODULE__{}), do: true
  def given?(opts), do: opts == nil or Keyword.keyword?(opts)

  @doc false
  # The ABI that was given.
  @spec of(given) :: t | nil
  def of(opts) when is_list(opts), do: new(opts)
  def of(abi), do: abi

  @doc false
  def alloc?(given), do: helper?(given, [:size])

  @doc false
  def free?(given), do: given == nil or helper?(given, [:pointer, :size, :result])

  @doc false
  def free_arguments?(given), do: given == nil or helper?(given, [:pointer, :size])

  defp helper?({name, operands}, known) when is_binary(name) and length(operands) >= 0,
    do: String.valid?(name) and Enum.all?(operands, &(&1 in known or &1 in @numbers))

  defp helper?(name, _known), do: is_binary(name) and String.valid?(name)

  @doc false
  def result?({:fixed, size}), do: size in @sizes
  def result?(name), do: name in @results

  @doc false
  # The arguments as Rust takes them: bytes as binaries or `{:pointer, binary}`, room, and values as of any call.
  @spec arguments(list, Terms.owner(), pos_integer) :: {:ok, list} | Terms.refused()
  def arguments(args, owner, most),
    do: if(plain?(args), do: {:ok, args}, else: arguments(args, 0, {owner, most}, []))

  defp plain?([arg | args]) when is_binary(arg) or is_plain(arg), do: plain?(args)
  defp plain?(args), do: args == []

  defp arguments([], _index, _whose, done), do: {:ok, Enum.reverse(done)}

  defp arguments([arg | args], index, whose, done) do
    case argument(arg, whose) do
      {:ok, arg} -> arguments(args, index + 1, whose, [arg | done])
      {:refused, {kind, %{index: 0} = facts}} -> {:refused, {kind, %{facts | index: index}}}
      refused -> refused
    end
  end

  defp argument(bytes, _whose) when is_binary(bytes), do: {:ok, bytes}
  defp argument({:bytes, bytes}, _whose), do: {:ok, IO.iodata_to_binary(bytes)}
  defp argument({:pointer, bytes}, _whose), do: {:ok, {:pointer, IO.iodata_to_binary(bytes)}}
  defp argument({:cstring, bytes}, _whose), do: {:ok, {:pointer, cstring!(bytes)}}

  defp argument({:buffer, bytes, room}, _whose) when room in @sizes,
    do: {:ok, {:buffer, IO.iodata_to_binary(bytes), room}}

  defp argument({:buffer, _bytes, room}, _whose) do
    raise ArgumentError, "room is a number of bytes, got: #{Shown.kind(room)}"
  end

  defp argument({:input, bytes} = input, _whose) when is_binary(bytes), do: {:ok, input}
  defp argument({:room, size}, _whose) when size in @sizes, do: {:ok, {:room, size}}

  defp argument({:room, size}, _whose) do
    raise ArgumentError, "room is a number of bytes, got: #{Shown.kind(size)}"
  end

  defp argument({:value, value}, whose) do
    with {:ok, weighed} <- weighed(value, whose), do: {:ok, kept(weighed, value)}
  end

  defp argument(value, whose), do: weighed(value, whose)

  defp weighed(value, {owner, most}) do
    with {:ok, [weighed]} <- Terms.weigh([value], owner, most), do: {:ok, weighed}
  end

  # Rust must not take it for bytes.
  defp kept(bytes, bytes) when is_binary(bytes), do: {:"$kept", byte_size(bytes), bytes}
  defp kept(weighed, _value), do: weighed

  defp cstring!(bytes) do
    bytes = IO.iodata_to_binary(bytes)

    if :binary.match(bytes, <<0>>) != :nomatch,
      do: raise(ArgumentError, "a C string has no zero byte inside")

    <<bytes::binary, 0>>
  end
end
