defmodule Cybernetic.WASM.Config do
  @moduledoc """
  The node's configuration, read whenever the application starts.

      config :cybernetic_wasm,
        runtime: :wasmtime,
        max_memory: 100_000_000,
        max_execution_time: 5000,
        cache_compiled_modules: true,
        parallel_execution: true

  In a project that has an application `:cybernetic`, the same keys also work as `config :cybernetic, :wasm, …`, and win where
  both are given; in any other, Mix warns of `config :cybernetic`. Of two names of one key, such as `timeout` and
  `max_execution_time`, the one in the table of `Cybernetic.WASM.Limits` wins: they may come from two files, which are merged. An
  unknown key stops the application with the list of the known ones.

  Stopping and starting the application puts another configuration in force. Guests and modules that are there live on and
  are counted on: a ceiling below what is used only refuses what is new. A module keeps the limits that were configured when it
  was loaded. Where the application has not been started, the configuration is read at the first use.

  ## Keys

  Defaults of a call's limits (see `Cybernetic.WASM.Limits` for what each bounds): `:fuel`, `:max_memory`,
  `:max_table_elements`, `:max_instances`, `:max_stack`, `:timeout` (or `:max_execution_time`), `:max_output`,
  `:max_host_calls`, `:max_transfer`.

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
  | `:cache_ttl` | ms | 1,800,000 | a module that nobody has loaded for so long leaves the cache; or `:infinity` |
  | `:artifacts` | | `true` | keep compiled modules on disk: see `Cybernetic.WASM.Runtime.artifacts/0` |
  | `:artifact_dir` | | `cybernetic_wasm/artifacts` in the user's cache folder | where |
  | `:artifact_size` | bytes | 1,073,741,824 | of all files there |
  | `:parallel_execution` | | `true` | `false`: one guest at a time on this node |
  | `:max_live_instances` | guests | (the kernel's `vm.max_map_count` - 15,000) / 5, from 16 to 10,000 | live at once on this node |
  | `:max_total_memory` | bytes | 8,589,934,592 | of all guests of this node, with the output that nobody has taken yet |
  | `:pins` | | `%{}` | digests that modules must have, by their names and sources: see `Cybernetic.WASM.Loader` |
  | `:trust` | | `nil` | whose signatures modules must have: see `Cybernetic.WASM.Loader` |
  | `:offline` | | `false` | `true`: no module is fetched by way of a network |
  | `:compiler` | | `:apart` | in processes of their own; or `:in_process`: see `Cybernetic.WASM.Runtime.compiler/0` |
  | `:max_compile_memory` | bytes | 1,000,000,000 | resident while a module is compiled |
  | `:max_compile_time` | ms | 60,000 | of processor time while a module is compiled |
  | `:max_compile_queue` | bytes | 268,435,456 | of sources that wait to be compiled on this node |
  | `:max_code_memory` | bytes | 1,073,741,824 | of compiled code on this node |
  | `:store_dir` | path | `cybernetic_wasm/store` in the user's cache folder | where `Cybernetic.WASM.Store` keeps modules |
  | `:store_size` | bytes | 2,147,483,648 | of all in the store; bytes without a version leave it first |
  | `:store` | | none | another kind of store, in the place of the folder: `{module, config}` |
  | `:max_open_files` | files | half of what the process may open, from 16 to 100,000 | and directories that guests have open on this node |
  | `:modules` | | `[]` | modules to load when the application starts: see below |

  ## Modules

      config :cybernetic_wasm,
        modules: [
          [source: {:priv, :my_app, "wasm/resize.wasm"}, name: "resize", manifest: true, required: true],
          [source: "/srv/plugins/report.wasm", name: "report", version: "2.0.0", sandbox: [fuel: 10_000_000]]
        ]

  Each entry has a `:source` and options of `Cybernetic.WASM.Runtime.load_module/2`; a `:sandbox` may be the options of one. They are
  loaded side by side, those of one name in the order of the list, so that the last of them is current, but for an older version
  behind a newer one: that needs `current: true`. All are there once the application has started. Pins that none of them has gone
  by are logged then. One that fails is logged. With `required: true` the application does not start then, and its reason is
  one sentence; nor does it with a mistake in the list itself, such as an option that there is not. Your own application starts
  later: a source that needs it, such as its database, is loaded by its own start.
  """

  alias Cybernetic.WASM.{Features, Limits, Options}
  alias Cybernetic.WASM.Loader.{Pins, Trust}

  # Some eight thousand years.
  @longest_time 0xFFFF_FFFF_FFFF

  # What each key takes, and its default.
  @keys [
    runtime: {{:one_of, [:wasmtime]}, :wasmtime},
    metering: {{:one_of, [:fuel, :epoch]}, :fuel},
    deterministic: {:boolean, false},
    features: {Features.kind(), []},
    scheduling: {{:one_of, [:adaptive, :dirty, :inline]}, :adaptive},
    allocation: {{:one_of, [:pooling, :on_demand]}, :pooling},
    max_module_size: {:positive, 10_000_000},
    pins: {{~S|a map such as %{"acme/thumb" => "sha256:…"}|, &is_map/1}, %Pins{}},
    trust: {{~S|a keyword list such as [keys: ["ed25519:…"]]|, &Keyword.keyword?/1}, nil},
    offline: {:boolean, false},
    compiler: {{:one_of, [:apart, :in_process]}, :apart},
    max_compile_memory: {:positive, 1_000_000_000},
    max_compile_time: {:positive, 60_000},
    max_compile_queue: {:positive, 268_435_456},
    cache_compiled_modules: {:boolean, true},
    cache_size: {:count, 268_435_456},
    cache_ttl: {
      {"an integer of milliseconds from 1 to #{@longest_time}, or :infinity",
       &__MODULE__.time?/1},
      1_800_000
    },
    artifacts: {:boolean, true},
    artifact_dir: {:path, nil},
    artifact_size: {:count, 1_073_741_824},
    parallel_execution: {:boolean, true},
    max_live_instances: {:positive, nil},
    max_total_memory: {:positive, 8_589_934_592},
    max_code_memory: {:positive, 1_073_741_824},
    max_open_files: {:positive, nil},
    # What a source is fetched with may be in it.
    modules: {
      {:unshown,
       {~S|a list of keyword lists, one for each module, such as [[source: "priv/resize.wasm", name: "resize"]]|,
        &__MODULE__.modules?/1}},
      []
    },
    store_dir: {:path, nil},
    store_size: {:positive, 2_147_483_648},
    store: {{"{module, config} of a Cybernetic.WASM.Store.Backend", &__MODULE__.store?/1}, nil}
  ]
  @options for {key, {kind, _default}} <- @keys, do: {key, kind}

  defstruct [limits: nil] ++ for({key, {_kind, default}} <- @keys, do: {key, default})

  @typedoc "The node's configuration."
  @type t :: %__MODULE__{}

  @doc "The WebAssembly features that `features:` can switch off. Threads are always off."
  @spec features() :: [atom]
  defdelegate features, to: Features, as: :names

  @doc false
  @spec modules?(term) :: boolean
  def modules?(entries) do
    is_list(entries) and not List.improper?(entries) and Enum.all?(entries, &Keyword.keyword?/1)
  end

  @doc false
  @spec time?(term) :: boolean
  def time?(:infinity), do: true
  def time?(time), do: is_integer(time) and time in 1..@longest_time

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
    under = own |> one_name_each() |> Options.check!(@known, "configuration key")
    over = documented |> one_name_each() |> Options.check!(@known, "configuration key")
    {limits, others} = under |> Map.merge(over) |> Map.split(Limits.keys())
    others = others |> made(:pins, &Pins.new!/1) |> made(:trust, &Trust.new!/1)
    struct!(%__MODULE__{limits: struct!(Limits, limits)}, others)
  end

  defp made(keys, key, new!) when is_map_key(keys, key), do: Map.update!(keys, key, new!)
  defp made(keys, _key, _new!), do: keys

  # A call that is given both names is a mistake. Here one may be in `config.exs` and the other in `runtime.exs`.
  defp one_name_each(keys) do
    if Keyword.keyword?(keys), do: Enum.reject(keys, &other_name?(&1, keys)), else: keys
  end

  defp other_name?({key, _value}, keys) do
    canonical = Options.canonical(key, @known)
    canonical != key and Keyword.has_key?(keys, canonical)
  end

  @doc false
  # Those of its keys that are options elsewhere, too: of a call, or of a load.
  @spec options([atom]) :: Options.keys()
  def options(keys), do: for(key <- keys, do: {key, Keyword.fetch!(@options, key)})

  @doc false
  @spec store?(term) :: boolean
  def store?({module, _config}), do: is_atom(module)
  def store?(_other), do: false

  @doc false
  @spec put(t) :: t
  def put(config) do
    :persistent_term.put(__MODULE__, config)
    config
  end

  @doc """
  The configuration in force. Ceilings that are worked out are `nil` before the application has started or a module was
  loaded.
  """
  @spec get() :: t
  def get do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> put(load!())
      config -> config
    end
  end
end
