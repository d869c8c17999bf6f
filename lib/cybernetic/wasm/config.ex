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
  | `:max_total_memory` | bytes | 8,589,934,592 | of all guests of this node, and of what they have written to standard output and nobody has taken yet |
  | `:max_code_memory` | bytes | 1,073,741,824 | of compiled code on this node |
  | `:max_open_files` | files | half of what the process may open, from 16 to 100,000 | and directories that guests have open on this node |
  """

  alias Cybernetic.WASM.{Features, Limits, Options}

  defstruct limits: nil,
            runtime: :wasmtime,
            metering: :fuel,
            deterministic: false,
            features: [],
            scheduling: :adaptive,
            allocation: :pooling,
            max_module_size: 10_000_000,
            cache_compiled_modules: true,
            cache_size: 268_435_456,
            parallel_execution: true,
            max_live_instances: nil,
            max_total_memory: 8_589_934_592,
            max_code_memory: 1_073_741_824,
            max_open_files: nil

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

  @doc "A configuration from options, each list over the one before."
  @spec new!(keyword, keyword) :: t
  def new!(own, documented \\ []) do
    under = Options.check!(own, known(), "configuration key")
    over = Options.check!(documented, known(), "configuration key")
    {limits, others} = under |> Map.merge(over) |> Map.split(Limits.keys())
    struct!(%__MODULE__{limits: struct!(Limits, limits)}, others)
  end

  defp known do
    own = %__MODULE__{} |> Map.from_struct() |> Map.delete(:limits) |> Map.keys()
    Limits.option_names() ++ own
  end

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
