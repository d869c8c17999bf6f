defmodule Cybernetic.WASM.Limits do
  @moduledoc """
  What one call may use, or a live instance in its whole life where it has a budget (`Cybernetic.WASM.Instance`). Every field has
  a finite value: there is no unlimited.

  | field | unit | default | at the limit |
  |---|---|---|---|
  | `fuel` | about one per instruction; bulk instructions by size | 1,000,000,000 | the guest is stopped |
  | `max_memory` | bytes, all memories, tables and GC heaps of the guest together, terms behind its references, and what its globals and functions take where that is over 64 KiB | 100,000,000 | `memory.grow` gives the guest -1; instantiation, or a trap that follows, fails with the limit |
  | `max_table_elements` | elements of all tables together | 100,000 | the same with `table.grow` |
  | `max_instances` | instances in the guest's store | 64 | instantiation fails |
  | `max_stack` | bytes of WebAssembly stack | 1,000,000 | the guest is stopped |
  | `timeout` | milliseconds of wall-clock time, waiting and host functions included; also as `max_execution_time` | 5,000 | the guest is stopped |
  | `max_output` | bytes that the guest writes to standard output and error, and that host functions give to `Cybernetic.WASM.Host.emit/2`, together | 10,000,000 | the guest is stopped |
  | `max_host_calls` | calls of imported functions, those of WASI included | 1,000,000 | the guest is stopped |

  A call that exceeds a limit fails with a `Cybernetic.WASM.LimitError`; its `limit` is the field's name without `max_`. A
  module that is metered by epochs uses no fuel: only `timeout` ends its guests.

  A trap after a refused growth is reported as the limit. Most languages answer a failed allocation with `unreachable`, and
  the caller needs to know that the memory was too small.

  `max_stack` is from 16,384 to 67,108,864. Calls with another than the configured one run on an engine of their own, without
  the pool, so that their instances take longer to make.
  """

  alias Cybernetic.WASM.Options

  # What each takes as an option, and its default.
  @fields [
    fuel: {:positive, 1_000_000_000},
    max_memory: {:positive, 100_000_000},
    max_table_elements: {:count, 100_000},
    max_instances: {:count, 64},
    max_stack: {{:bytes, 16_384..67_108_864}, 1_000_000},
    timeout: {{:milliseconds, 1}, 5_000},
    max_output: {:count, 10_000_000},
    max_host_calls: {:count, 1_000_000}
  ]
  @keys Keyword.keys(@fields)
  @options [{:max_execution_time, {:also, :timeout}}] ++
             for({key, {kind, _default}} <- @fields, do: {key, kind})

  defstruct for {key, {_kind, default}} <- @fields, do: {key, default}

  @typedoc "Limits of one call, in the units of the table above."
  @type t :: %__MODULE__{
          fuel: pos_integer,
          max_memory: pos_integer,
          max_table_elements: non_neg_integer,
          max_instances: non_neg_integer,
          max_stack: pos_integer,
          timeout: pos_integer,
          max_output: non_neg_integer,
          max_host_calls: non_neg_integer
        }

  @doc false
  @spec keys() :: [atom]
  def keys, do: @keys

  @doc false
  @spec options() :: Options.keys()
  def options, do: @options

  @doc false
  @spec canonical(atom) :: atom
  def canonical(key), do: Options.canonical(key, @options)

  @doc false
  # What a limit takes, in words.
  @spec expected(atom) :: String.t()
  def expected(key), do: @options |> Keyword.fetch!(canonical(key)) |> Options.expected()

  @doc false
  # Whether there is such a limit, and it takes the value.
  @spec valid?(atom, term) :: boolean
  def valid?(key, value) do
    kind = @options[canonical(key)]
    kind != nil and Options.valid?(kind, value)
  end

  @doc """
  The smaller of each limit.

      iex> a = %Cybernetic.WASM.Limits{fuel: 10, timeout: 50}
      iex> b = %Cybernetic.WASM.Limits{fuel: 20, timeout: 40}
      iex> narrowed = Cybernetic.WASM.Limits.narrow(a, b)
      iex> {narrowed.fuel, narrowed.timeout}
      {10, 40}
  """
  @spec narrow(t, t | map) :: t
  def narrow(%__MODULE__{} = limits, other) do
    other = if is_struct(other), do: Map.from_struct(other), else: other

    Enum.reduce(other, limits, fn {key, value}, narrowed ->
      Map.update!(narrowed, key, &min(&1, value))
    end)
  end
end
