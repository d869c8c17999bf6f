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
  | `max_transfer` | bytes of values that a component passes at once, as a result or as the arguments of a host function, and that are given to it: as the host holds them, see below | 16,777,216 | the guest is stopped; what is given to it is refused |
  | `max_resources` | handles on resources that a component has, and that are held of its own, together: see `Cybernetic.WASM.Resource` | 10,000 | the guest is stopped |

  A call that exceeds a limit fails with a `Cybernetic.WASM.LimitError`; its `limit` is the field's name without `max_`. A
  module that is metered by epochs uses no fuel: only `timeout` ends its guests.

  The host holds a `list<u8>`, where it is a whole argument or result of a common type, and a string in as many bytes as they have,
  and every other value in 40, an element of a list included: a list of 400,000 numbers fills `max_transfer`, and so does a
  `list<u8>` of 400,000 bytes in a record.

  ## Who sets them

  A default is what is configured (`Cybernetic.WASM.Config`). Options of a call, of `Cybernetic.WASM.Instance.new/2` and of
  `Cybernetic.WASM.Sandbox.new/1` *replace* the default, up or down, where nobody else has set a limit. Everything else
  *narrows*, and keeps the smaller one:

  | given with | does to the default | and to |
  |---|---|---|
  | a call without `sandbox:` | replaces it | |
  | a call or `Instance.new/2` with `sandbox:` | | narrows the sandbox's, its defaults as well |
  | `Instance.new/2` without `sandbox:` | replaces it | |
  | a call on an instance | | narrows the instance's, its defaults as well |
  | `Sandbox.new/1`, a manifest's `[limits]` | replaces it | |
  | any of them for a module that was loaded with a manifest | | narrows the manifest's, its defaults as well |
  | linking into a live instance | | narrows that one's |

  The `set_by` of a `Cybernetic.WASM.LimitError` says whose word held.

  A trap after a refused growth is reported as the limit. Most languages answer a failed allocation with `unreachable`, and
  the caller needs to know that the memory was too small.

  `max_stack` is from 16,384 to 67,108,864. Calls with another than the configured one run on an engine of their own, without
  the pool, so that their instances take longer to make.
  """

  alias Cybernetic.WASM.{Error, LimitError, Options}

  # What each takes as an option, and its default.
  @fields [
    fuel: {:positive, 1_000_000_000},
    max_memory: {:positive, 100_000_000},
    max_table_elements: {:count, 100_000},
    max_instances: {:count, 64},
    max_stack: {{:bytes, 16_384..67_108_864}, 1_000_000},
    timeout: {{:milliseconds, 1}, 5_000},
    max_output: {:count, 10_000_000},
    max_host_calls: {:count, 1_000_000},
    max_transfer: {:positive, 16_777_216},
    max_resources: {:positive, 10_000}
  ]
  @keys Keyword.keys(@fields)
  # By the name that an error gives them.
  @by_name Map.new(@keys, fn key ->
             {key |> to_string() |> String.replace_prefix("max_", "") |> String.to_atom(), key}
           end)
  @options [{:max_execution_time, {:also, :timeout}}] ++
             for({key, {kind, _default}} <- @fields, do: {key, kind})

  # Who set them, from the outermost. Of two that say the same that one is told, since raising the other would not help.
  @setters [:config, :manifest, :sandbox, :instance, :call]
  @rank @setters |> Enum.with_index() |> Map.new()

  # `set_by` has those that somebody else than the configuration has set.
  @derive {Inspect, optional: [:set_by]}
  defstruct [set_by: %{}] ++ for({key, {_kind, default}} <- @fields, do: {key, default})

  @typedoc "Limits of one call, in the units of the table above."
  @type t :: %__MODULE__{
          fuel: pos_integer,
          max_memory: pos_integer,
          max_table_elements: non_neg_integer,
          max_instances: non_neg_integer,
          max_stack: pos_integer,
          timeout: pos_integer,
          max_output: non_neg_integer,
          max_host_calls: non_neg_integer,
          max_transfer: pos_integer,
          max_resources: pos_integer,
          set_by: %{optional(atom) => setter}
        }

  @typedoc "Who set a limit."
  @type setter :: :config | :manifest | :sandbox | :instance | :call

  @typedoc "A limit as an option."
  @type option ::
          {:fuel, pos_integer}
          | {:max_memory, pos_integer}
          | {:max_table_elements, non_neg_integer}
          | {:max_instances, non_neg_integer}
          | {:max_stack, pos_integer}
          | {:timeout, pos_integer}
          | {:max_execution_time, pos_integer}
          | {:max_output, non_neg_integer}
          | {:max_host_calls, non_neg_integer}
          | {:max_transfer, pos_integer}
          | {:max_resources, pos_integer}

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

  @doc false
  # The limits with these in their place, which have been checked, and which `by` has set.
  @spec put(t, map, setter) :: t
  def put(%__MODULE__{} = limits, given, by) do
    keys = Map.keys(given)

    set_by =
      if by == :config,
        do: Map.drop(limits.set_by, keys),
        else: Map.merge(limits.set_by, Map.from_keys(keys, by))

    Map.merge(%{limits | set_by: set_by}, given)
  end

  @doc false
  # The same with options that are limits and nothing else; `nil` where one of them is not, or is not valid: whoever takes others
  # as well looks at all of them. Many calls bring limits of their own, so this is fast.
  @spec put_options(t, keyword, setter) :: t | nil
  def put_options(limits, opts, by), do: put_options(limits, opts, by, limits.set_by)

  for {key, {kind, _default}} <- @fields do
    defp put_options(limits, [{unquote(key), value} | opts], by, set_by) do
      if Options.valid?(unquote(Macro.escape(kind)), value),
        do:
          put_options(
            %{limits | unquote(key) => value},
            opts,
            by,
            Map.put(set_by, unquote(key), by)
          )
    end
  end

  defp put_options(limits, [], _by, set_by), do: %{limits | set_by: set_by}
  defp put_options(_limits, _others, _by, _set_by), do: nil

  @doc false
  # The limits, with `by` in the place of whoever has set any of them.
  @spec ascribe(t, setter) :: t
  def ascribe(%__MODULE__{} = limits, by),
    do: %{limits | set_by: Map.new(limits.set_by, fn {key, _} -> {key, by} end)}

  @doc false
  # Who has set a limit.
  @spec set_by(t, atom) :: setter
  def set_by(%__MODULE__{set_by: set_by}, key), do: Map.get(set_by, key, :config)

  @doc false
  # An error with who has set the limit that struck, if it is one of these.
  @spec attribute(Error.t(), t | nil) :: Error.t()
  def attribute(%LimitError{limit: limit} = error, %__MODULE__{} = limits) do
    case @by_name do
      %{^limit => key} -> %{error | set_by: set_by(limits, key)}
      %{} -> error
    end
  end

  def attribute(error, _limits), do: error

  @doc """
  The smaller of each limit.

      iex> a = %Cybernetic.WASM.Limits{fuel: 10, timeout: 50}
      iex> b = %Cybernetic.WASM.Limits{fuel: 20, timeout: 40}
      iex> narrowed = Cybernetic.WASM.Limits.narrow(a, b)
      iex> {narrowed.fuel, narrowed.timeout}
      {10, 40}
  """
  @spec narrow(t, t) :: t
  def narrow(%__MODULE__{} = limits, %__MODULE__{} = other),
    do: Enum.reduce(@keys, limits, &narrow_one(&2, other, &1))

  @doc false
  # Within these limits of a map as well, which `by` has set.
  @spec narrow(t, map, setter) :: t
  def narrow(%__MODULE__{} = limits, given, _by) when given == %{}, do: limits

  def narrow(%__MODULE__{} = limits, given, by) do
    other = put(limits, given, by)
    Enum.reduce(given, limits, fn {key, _value}, narrowed -> narrow_one(narrowed, other, key) end)
  end

  defp narrow_one(limits, other, key) do
    if standing(other, key) < standing(limits, key),
      do: put(limits, %{key => Map.fetch!(other, key)}, set_by(other, key)),
      else: limits
  end

  defp standing(limits, key),
    do: {Map.fetch!(limits, key), Map.fetch!(@rank, set_by(limits, key))}
end
