defmodule Cybernetic.WASM.Plugin.Extism do
  @moduledoc """
  Plugins made with Extism's PDKs, which run as they are: what the contract `:extism` of `Cybernetic.WASM.Plugin` takes, and
  what host functions of such plugins use.

      Plugin.load("count_vowels.wasm", contract: {:extism, config: %{"vowels" => "aeiou"}})

  ## Options

    * `:config` - a map of texts, which the plugin asks for by their keys. Default: none
    * `:functions` - a map of what it imports from `extism:host/user`: names and functions. One with as many arguments as the
      import is given the bytes of each block that is passed, and returns bytes, or `nil`; an argument that is no 64-bit integer is
      a number. One with an argument more is given the context of the host call, and offsets as they are: `read/2` and `write/2` are for it.
      They run in the calling process. Default: none
    * `:log` - a function of two arguments, the level and the text, which is called for what the plugin logs; or `nil`, the default
    * `:log_level` - `:trace`, `:debug`, `:info` (default), `:warn` or `:error`: what is below it is not handed over
    * `:max_vars` - bytes of the variables that the plugin keeps, with 64 for each. They last from call to call, for as long as the plugin
      is there, and calls that run at once share them. Default: 1,048,576
    * `:http` - options of `Cybernetic.WASM.HTTP.Client` that bound its requests, such as `[max_body: 1_000_000, timeout: 5_000,
      allow_http: true]`; and `max_requests:` of one call, default 100

  ## Network

  Whom it reaches is the sandbox's `:network` grant; without one every request is refused. Each hop of a redirection is judged. A
  request that is refused or fails ends the call with a `Cybernetic.WASM.PluginError`.

  ## What is otherwise than there

  Every call runs in a fresh instance, so that only variables last. Blocks count as the guest's memory: one too many is a
  `Cybernetic.WASM.LimitError`. Where `memory.grow` is refused the guest is given -1. WASI is granted to a plugin that imports it,
  with clocks, random bytes and captured streams, unless a sandbox says otherwise.
  """

  alias Cybernetic.WASM.{Error, Execution, Host}

  @doc "The bytes of the block that begins at `offset`; of none there are none."
  @spec read(Host.ctx(), integer) :: {:ok, binary} | {:error, Error.t()}
  def read(ctx, offset) when is_integer(offset), do: Execution.command(ctx, {:block, offset})

  @doc "Makes a block of bytes for the plugin, and gives its offset: 0 of no bytes."
  @spec write(Host.ctx(), iodata) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def write(ctx, bytes), do: Execution.command(ctx, {:put, IO.iodata_to_binary(bytes)})
end
