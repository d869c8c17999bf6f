defmodule Cybernetic.WASM.Plugin.Contract do
  @moduledoc """
  How bytes get into a guest, and out of it again: a behaviour, of which `Cybernetic.WASM.Plugin` has some, and you may have
  others.

  A contract calls nothing itself. It says what a call is made with, and what to make of what the call gives:

  | callback | |
  |---|---|
  | `c:prepare/2` | whether a module meets it, and what it remembers of it |
  | `c:entry/1` | the function that is called where none is named |
  | `c:options/1` | the options of every call: an ABI, imports, a preset's name or grants as the sandbox |
  | `c:request/4` | the arguments for an input |
  | `c:response/4` | the output of a finished call |
  | `c:failure/2` | another error in the place of the call's, if it likes |

  `encode` and `decode` are the codec's: see `Cybernetic.WASM.Plugin.Codec`.

      iex> defmodule Plain do
      ...>   @behaviour Cybernetic.WASM.Plugin.Contract
      ...>   alias Cybernetic.WASM.{ABI, Plugin.Surface}
      ...>   @impl true
      ...>   def prepare(surface, _opts) do
      ...>     case Surface.lacks(surface, [{"malloc", ["i32"], ["i32"]}, :memory]) do
      ...>       [] -> {:ok, "it exports malloc", ABI.new(alloc: "malloc", result: :packed)}
      ...>       missing -> {:missing, missing}
      ...>     end
      ...>   end
      ...>   @impl true
      ...>   def entry(_abi), do: "run"
      ...>   @impl true
      ...>   def options(abi), do: [abi: abi]
      ...>   @impl true
      ...>   def request(_function, input, encode, _abi), do: with({:ok, bytes} <- encode.(input), do: {:ok, [bytes]})
      ...>   @impl true
      ...>   def response(_function, run, decode, _abi), do: decode.(run.result)
      ...> end
      iex> {:ok, plugin} = Cybernetic.WASM.Plugin.load({:bytes, ~S|
      ...>   (module (memory (export "memory") 1)
      ...>     (func (export "malloc") (param i32) (result i32) (i32.const 1024))
      ...>     (func (export "run") (param i32 i32) (result i64)
      ...>       (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))|},
      ...>   contract: Plain)
      iex> Cybernetic.WASM.Plugin.call(plugin, "echo")
      {:ok, "echo"}
      iex> Cybernetic.WASM.Plugin.contract(plugin)
      {Plain, "it exports malloc"}
  """

  alias Cybernetic.WASM.{Error, Executor, PluginError, Run}
  alias Cybernetic.WASM.Plugin.Surface

  @typedoc "What a contract remembers of a module."
  @type state :: term

  @typedoc "Makes the bytes of a term, by the codec, and holds them to `max_input`."
  @type encode :: (term -> {:ok, binary} | {:error, Error.t()})

  @typedoc "Makes a term of the bytes of a guest, by the codec."
  @type decode :: (binary -> {:ok, term} | {:error, PluginError.t()})

  @doc """
  Whether a module meets the contract: why, in words, and what is remembered of it; or what it lacks. `opts` are those that the
  contract was given with.
  """
  @callback prepare(Surface.t(), opts :: keyword) ::
              {:ok, why :: String.t(), state} | {:missing, [String.t(), ...]}

  @doc "The function that is called where none is named."
  @callback entry(state) :: Executor.entry() | nil

  @doc "The options of every call. Those of the plugin and of the call come after them."
  @callback options(state) :: keyword

  @doc "The arguments of a call, and options for this one alone."
  @callback request(Executor.entry(), input :: term, encode, state) ::
              {:ok, list} | {:ok, list, keyword} | {:error, Error.t()}

  @doc "The output of a call that has ended well. Its `run` has usage and output if that was asked for, or a program ran."
  @callback response(Executor.entry(), Run.t(), decode, state) ::
              {:ok, term} | {:error, Error.t()}

  @doc "An error in the place of a call's."
  @callback failure(Error.t(), state) :: Error.t()

  @optional_callbacks failure: 2
end
