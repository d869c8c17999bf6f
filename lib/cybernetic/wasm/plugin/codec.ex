defmodule Cybernetic.WASM.Plugin.Codec do
  @moduledoc """
  What the bytes mean that a plugin takes and gives: how a term becomes bytes, and bytes a term.

  | codec | takes | gives |
  |---|---|---|
  | `:raw` (default) | iodata | a binary |
  | `:text` | iodata that is UTF-8 | a binary that is UTF-8 |
  | `:json` | what JSON has: maps, lists, texts, numbers, `true`, `false`, `nil`; other atoms are strings, and may be keys | maps with texts for keys, lists, … |
  | `:number` | a number | a number |
  | `:boolean` | `true` or `false` | the same |
  | `:term` | any term, in Erlang's external format | a term without functions, pids, ports and references; no atom is made |
  | `:auto` | see below | see below |

  A codec is given as `codec:` to `Cybernetic.WASM.Plugin.load/2` or to a call: a name, a module, either with options as
  `{:json, max_depth: 10}`, or `[in: :text, out: :json]` for two. Each is at work in the calling process.

      iex> alias Cybernetic.WASM.Plugin
      iex> {:ok, echo} = Plugin.load({:bytes, ~S|
      ...>   (module (memory (export "memory") 1)
      ...>     (func (export "cw_alloc") (param i32) (result i32) (i32.const 1024))
      ...>     (func (export "echo") (param i32 i32) (result i64)
      ...>       (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))|})
      iex> Plugin.call(echo, "echo", %{a: [1, 2.5, nil]}, codec: :json)
      {:ok, %{"a" => [1, 2.5, nil]}}
      iex> Plugin.call(echo, "echo", ~S({"b": 12}), codec: [in: :text, out: :json])
      {:ok, %{"b" => 12}}
      iex> {:error, error} = Plugin.call(echo, "echo", "{", codec: [out: :json])
      iex> {error.reason, error.codec, error.detail, error.blame}
      {:output, :json, "no JSON at byte 1", :guest}
      iex> {:error, error} = Plugin.call(echo, "echo", %{"a" => [1, :nan]}, codec: :json)
      iex> Exception.message(error)
      "the codec :json cannot pass the input at /a/1: a float that JSON lacks"

  ## Bounds

  `:json`, `:term` and `:auto` make terms that take up to sixteen times as much room as the bytes. They read and write at most `max_size: 16_777_216`
  bytes; the option raises that. `:json` has `max_depth: 64`, which may be up to 100. A key that stands twice, a number
  of more than 400 characters, and an integer of more than 1,024 bits are refused, both ways.

  ## `:auto`

  | the term | goes in as |
  |---|---|
  | a binary, or a list that is iodata | these bytes |
  | a number, `true`, `false`, `nil`, a map, another list | JSON |
  | another atom | its text |

  | the bytes | come out as |
  |---|---|
  | JSON of an object or an array, of a number, `true`, `false` or `null` | what it stands for |
  | anything else | these bytes |

  A list of small integers is iodata. What has to come out as it went in wants a codec that says so.

  ## Codecs of your own

      iex> defmodule Reversed do
      ...>   @behaviour Cybernetic.WASM.Plugin.Codec
      ...>   @impl true
      ...>   def encode(text, _opts) when is_binary(text), do: {:ok, String.reverse(text)}
      ...>   def encode(_other, _opts), do: {:error, "a text is needed"}
      ...>   @impl true
      ...>   def decode(bytes, _opts), do: {:ok, String.reverse(bytes)}
      ...> end
      iex> {:ok, echo} = Cybernetic.WASM.Plugin.load({:bytes, ~S|
      ...>   (module (memory (export "memory") 1)
      ...>     (func (export "cw_alloc") (param i32) (result i32) (i32.const 1024))
      ...>     (func (export "echo") (param i32 i32) (result i64)
      ...>       (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))|},
      ...>   codec: [in: Reversed])
      iex> Cybernetic.WASM.Plugin.call(echo, "echo", "abc")
      {:ok, "cba"}
      iex> {:error, error} = Cybernetic.WASM.Plugin.call(echo, "echo", 1)
      iex> error.detail
      "a text is needed"
  """

  @typedoc "What is wrong: words, and where, as a JSON Pointer."
  @type fault :: String.t() | {path :: String.t(), String.t()}

  @doc "The bytes of a term. `opts` are those that the codec was given with."
  @callback encode(term, opts :: keyword) :: {:ok, iodata} | {:error, fault}

  @doc "The term of bytes, which are a guest's."
  @callback decode(binary, opts :: keyword) :: {:ok, term} | {:error, fault}
end
