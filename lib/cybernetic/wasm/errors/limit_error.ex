defmodule Cybernetic.WASM.LimitError do
  @moduledoc """
  A limit struck.

    * `limit` - which: `:fuel`, `:timeout`, `:memory`, `:table_elements`, `:instances`, `:stack`, `:output`, `:host_calls`,
      `:transfer`, `:resources` of the call, or of an instance's life where that has a budget (`Cybernetic.WASM.Limits`); `:reentrance` of host calls
      open inside each other, always 200; `:live_instances`, `:total_memory`, `:code_memory`, `:open_files`, `:compile_queue`
      of the node (`Cybernetic.WASM.Config`); `:input`, `:variables` of a plugin; `:compile_memory`, `:compile_time` of a load (`Cybernetic.WASM.Runtime`); or
      `:address_space`, `:mappings`: the operating system has given this process no more memory
    * `allowed` - what it allows, in the limit's unit
    * `used` - what had been used, or what the refused request would have made it. Of fuel and stack no more is known than
      that all of it was used.
    * `set_by` - whose word that is: `:call` (or the load), `:instance`, `:sandbox` or `:manifest`, where one of them has
      lowered or replaced what is configured; `:config` otherwise, and of the node's limits; `nil` of `:reentrance` and of the
      operating system's. The message names the option to raise.
    * `during` - where the time was up while the call waited for something that was not its guest's doing: `:compile` of its
      module, for a kind of engine that it was not loaded for, or `:wait` for its turn on the node or on a busy instance; else
      `nil`
    * `blame` - `:guest` for the limits of a call and of compiling, unless it waited (`during`); `:node` for those of the node
      and of the operating system; `:caller` for `:instances`, which only linking makes, and for a plugin's input that is too large
    * `usage` - what the call had used, a `Cybernetic.WASM.Usage`; `nil` before it started
    * `run` - a `Cybernetic.WASM.Run` with the output and the denials up to then

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> sandbox = Cybernetic.WASM.Sandbox.new(fuel: 1_000_000)
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "spin", [], sandbox: sandbox, fuel: 2_000_000)
      iex> {error.allowed, error.set_by, error.blame}
      {1_000_000, :sandbox, :guest}
      iex> Exception.message(error)
      "the fuel limit was reached: 1,000,000 units of fuel allowed, all used (to raise: option :fuel of the sandbox)"
  """

  alias Cybernetic.WASM.Shown

  defexception [:limit, :allowed, :used, :during, :usage, :run, set_by: :config, blame: :guest]

  @typedoc "A limit that struck."
  @type t :: %__MODULE__{
          limit: atom,
          allowed: non_neg_integer,
          used: non_neg_integer,
          set_by: :call | :instance | :sandbox | :manifest | :config | nil,
          during: :compile | :wait | nil,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :guest | :node | :caller
        }

  # The option of each, and its unit.
  @limits %{
    fuel: {:fuel, "units of fuel"},
    timeout: {:timeout, "milliseconds"},
    memory: {:max_memory, "bytes of memory"},
    table_elements: {:max_table_elements, "table elements"},
    instances: {:max_instances, "instances"},
    stack: {:max_stack, "bytes of stack"},
    output: {:max_output, "bytes of output"},
    host_calls: {:max_host_calls, "host calls"},
    transfer: {:max_transfer, "bytes of values at once"},
    input: {:max_input, "bytes of a plugin's input"},
    resources: {:max_resources, "handles on resources"},
    variables: {"option :max_vars of the contract :extism", "bytes of a plugin's variables"},
    reentrance: {nil, "host calls inside each other"},
    live_instances: {:max_live_instances, "live instances on this node"},
    total_memory: {:max_total_memory, "bytes of memory of all guests on this node"},
    code_memory: {:max_code_memory, "bytes of compiled code on this node"},
    open_files: {:max_open_files, "files that guests have open on this node"},
    compile_memory: {:max_compile_memory, "bytes for compiling the module"},
    compile_time: {:max_compile_time, "milliseconds of processor time for compiling the module"},
    compile_queue: {:max_compile_queue, "bytes of modules that wait to be compiled on this node"},
    address_space: {"ulimit -v", "bytes of address space of this process"},
    mappings: {"vm.max_map_count", "memory mappings of this process"}
  }

  @of_the_node [:live_instances, :total_memory, :code_memory, :open_files, :compile_queue]

  @impl true
  def message(%__MODULE__{limit: limit} = error) do
    {option, _unit} = Map.fetch!(@limits, limit)
    in_words(error, to_raise(error, option))
  end

  @doc false
  # The message with what raises the limit, or `nil` where nothing does.
  @spec in_words(t, String.t() | nil) :: String.t()
  def in_words(%__MODULE__{limit: limit} = error, to_raise) do
    {_option, unit} = Map.fetch!(@limits, limit)
    hint = if to_raise, do: " (to raise: #{to_raise})", else: ""

    "the #{limit} limit was reached#{during(error.during)}: " <>
      "#{Shown.number(error.allowed)} #{unit} allowed, #{used(error)}#{hint}"
  end

  defp during(:compile), do: " while the module was being compiled"
  defp during(:wait), do: " while the call waited for its turn"
  defp during(nil), do: ""

  defp used(%{limit: limit}) when limit in [:fuel, :stack, :address_space, :mappings],
    do: "all used"

  defp used(%{limit: limit, used: used}) when limit in [:timeout, :compile_memory, :compile_time],
    do: "#{Shown.number(used)} used"

  defp used(%{used: used}), do: "#{Shown.number(used)} asked for"

  defp to_raise(_error, nil), do: nil
  # A setting of the operating system's.
  defp to_raise(_error, setting) when is_binary(setting), do: setting
  defp to_raise(error, option), do: where(error, inspect(option))

  defp where(%{limit: limit}, option) when limit in @of_the_node, do: "config key #{option}"
  defp where(%{set_by: :config}, option), do: "option #{option}, or config key #{option}"

  defp where(%{set_by: :manifest, limit: limit}, _option),
    do: "#{manifest_key(limit)} in the [limits] of the manifest"

  defp where(%{set_by: :call, limit: limit}, option)
       when limit in [:compile_memory, :compile_time],
       do: "option #{option} of the load"

  defp where(%{set_by: by}, option), do: "option #{option} of the #{by}"

  defp manifest_key(:timeout), do: "time_ms"
  defp manifest_key(limit), do: limit
end
