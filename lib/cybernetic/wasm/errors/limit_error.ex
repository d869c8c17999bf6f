defmodule Cybernetic.WASM.LimitError do
  @moduledoc """
  A limit struck.

    * `limit` - which: `:fuel`, `:timeout`, `:memory`, `:table_elements`, `:instances`, `:stack`, `:output`, `:host_calls`
      of the call (`Cybernetic.WASM.Limits`); `:reentrance` of host calls open inside each other, always 200; or
      `:live_instances`, `:total_memory`, `:code_memory`, `:open_files`, `:compile_queue` of the node
      (`Cybernetic.WASM.Config`); or `:compile_memory`, `:compile_time` of a load (`Cybernetic.WASM.Runtime`)
      or `:address_space`, `:mappings`: the operating system has given this process no more memory
    * `allowed` - what it allows, in the limit's unit
    * `used` - what had been used, or what the refused request would have made it. Of fuel and stack no more is known than
      that all of it was used.
    * `during` - `:compile` where the time was up while the module was still being compiled, for a kind of engine that it was
      not loaded for: that is not the guest's doing, and may go better the next time; else `nil`
    * `usage` - what the call had used, a `Cybernetic.WASM.Usage`; `nil` before it started
    * `run` - a `Cybernetic.WASM.Run` with the output and the denials up to then
  """

  defexception [:limit, :allowed, :used, :during, :usage, :run, blame: :guest]

  @typedoc "A limit that struck."
  @type t :: %__MODULE__{
          limit: atom,
          allowed: non_neg_integer,
          used: non_neg_integer,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          during: :compile | nil,
          blame: :guest | :node
        }

  @units %{
    fuel: "units of fuel",
    timeout: "milliseconds",
    memory: "bytes of memory",
    table_elements: "table elements",
    instances: "instances",
    stack: "bytes of stack",
    output: "bytes of output",
    host_calls: "host calls",
    reentrance: "host calls inside each other",
    live_instances: "live instances on this node",
    total_memory: "bytes of memory of all guests on this node",
    code_memory: "bytes of compiled code on this node",
    open_files: "files that guests have open on this node",
    compile_memory: "bytes for compiling the module (option :max_compile_memory)",
    compile_time:
      "milliseconds of processor time for compiling the module (option :max_compile_time)",
    compile_queue: "bytes of modules that wait to be compiled on this node",
    address_space: "bytes of address space of this process (ulimit -v)",
    mappings: "memory mappings of this process (vm.max_map_count)"
  }

  @impl true
  def message(%__MODULE__{} = error) do
    "the #{error.limit} limit was reached#{during(error)}: " <>
      "#{error.allowed} #{@units[error.limit]} allowed, #{used(error)}"
  end

  defp during(%{during: :compile}), do: " while the module was being compiled"
  defp during(_error), do: ""

  defp used(%{limit: limit}) when limit in [:fuel, :stack, :address_space, :mappings],
    do: "all used"

  defp used(%{limit: limit, used: used}) when limit in [:timeout, :compile_memory, :compile_time],
    do: "#{used} used"

  defp used(%{used: used}), do: "#{used} asked for"
end
