defmodule Cybernetic.WASM.Config do
  @moduledoc """
  The node's configuration, read when the application starts.

      config :cybernetic, :wasm,
        runtime: :wasmtime,
        max_memory: 100_000_000,
        max_execution_time: 5000,
        cache_compiled_modules: true,
        parallel_execution: true

  The same keys work directly under `config :cybernetic_wasm`; where both are given, `config :cybernetic, :wasm` wins. Mix
  warns of `config :cybernetic` in a project without an application of that name: `config :cybernetic_wasm` is for those.
  An unknown key stops the application with the list of the known ones.

  ## Keys

  Defaults of a call's limits (see `Cybernetic.WASM.Limits` for what each bounds): `:fuel`, `:max_memory`,
  `:max_table_elements`, `:max_instances`, `:max_stack`, `:timeout` (or `:max_execution_time`), `:max_output`,
  `:max_host_calls`.

  | key | unit | default | |
  |---|---|---|---|
  | `:runtime` | | `:wasmtime` | the only one |
  | `:metering` | | `:fuel` | or `:epoch`: often cheaper, but no fuel limit |
  | `:deterministic` | | `false` | `true` makes NaN bits and relaxed SIMD the same on every machine |
  | `:features` | | all on | WebAssembly features to switch off, such as `[simd: false]` |
  | `:scheduling` | | `:adaptive` | or `:dirty`, `:inline` |
  | `:allocation` | | `:pooling` | or `:on_demand`, which reserves no address space |
  | `:max_module_size` | bytes | 10,000,000 | larger modules are not loaded |
  | `:cache_compiled_modules` | | `true` | keep compiled modules in memory |
  | `:cache_size` | bytes | 268,435,456 | of code and source in the cache |
  | `:parallel_execution` | | `true` | `false`: one guest at a time on this node |
  | `:max_live_instances` | guests | (the kernel's `vm.max_map_count` - 15,000) / 5, from 16 to 10,000 | live at once on this node |
  | `:max_total_memory` | bytes | 8,589,934,592 | of all guests of this node, with the output that nobody has taken yet |
  | `:compiler` | | `:apart` | in processes of their own; or `:in_process`: see `Cybernetic.WASM.Runtime.compiler/0` |
  | `:max_compile_memory` | bytes | 1,000,000,000 | resident while a module is compiled |
  | `:max_compile_time` | ms | 60,000 | of processor time while a module is compiled |
  | `:max_compile_queue` | bytes | 268,435,456 | of sources that wait to be compiled on this node |
  | `:max_code_memory` | bytes | 1,073,741,824 | of compiled code on this node |
  | `:max_open_files` | files | half of what the process may open, from 16 to 100,000 | and directories that guests have open on this node |
  """

  alias Cybernetic.WASM.{Features, Limits, Options}

  # What each key takes, and its default.
  @keys [
    runtime: {{:one_of, [:wasmtime]}, :wasmtime},
    metering: {{:one_of, [:fuel, :epoch]}, :fuel},
    deterministic: {:boolean, false},
    features: {Features.kind(), []},
    scheduling: {{:one_of, [:adaptive, :dirty, :inline]}, :adaptive},
    allocation: {{:one_of, [:pooling, :on_demand]}, :pooling},
    max_module_size: {:positive, 10_000_000},
    compiler: {{:one_of, [:apart, :in_process]}, :apart},
    max_compile_memory: {:positive, 1_000_000_000},
    max_compile_time: {:positive, 60_000},
    max_compile_queue: {:positive, 268_435_456},
    cache_compiled_modules: {:boolean, true},
    cache_size: {:count, 268_435_456},
    parallel_execution: {:boolean, true},
    max_live_instances: {:positive, nil},
    max_total_memory: {:positive, 8_589_934_592},
    max_code_memory: {:positive, 1_073_741_824},
    max_open_files: {:positive, nil}
  ]
  @options for {key, {kind, _default}} <- @keys, do: {key, kind}

  defstruct [limits: nil] ++ for({key, {_kind, default}} <- @keys, do: {key, default})

  @typedoc "The node's configuration."
  @type t :: %__MODULE__{}

  @doc "The WebAssembly features that `features:` can switch off. Threads are always off."
  @spec features() :: [atom]
  defdelegate features, to: Features, as: :names

  @doc "Reads and checks the application environment."
  @spec load!() :: t
  def load! do
    own = Application.get_all_env(:cybernetic_wasm)
    documented = Application.get_env(:cybernetic, :wasm, [])
    new!(own, documented)
  end

  @known Limits.options() ++ Enum.sort(@options)

  @doc "A configuration from options, each list over the one before."
  @spec new!(keyword, keyword) :: t
  def new!(own, documented \\ []) do
    under = Options.check!(own, @known, "configuration key")
    over = Options.check!(documented, @known, "configuration key")
    {limits, others} = under |> Map.merge(over) |> Map.split(Limits.keys())
    struct!(%__MODULE__{limits: struct!(Limits, limits)}, others)
  end

  @doc false
  # Those of its keys that are options elsewhere, too: of a call, or of a load.
  @spec options([atom]) :: Options.keys()
  def options(keys), do: for(key <- keys, do: {key, Keyword.fetch!(@options, key)})

  @doc false
  @spec put(t) :: t
  def put(config) do
    :persistent_term.put(__MODULE__, config)
    config
  end

  @doc "The configuration in force."
  @spec get() :: t
  def get do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> put(load!())
      config -> config
    end
  end
end
