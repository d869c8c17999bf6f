defmodule Cybernetic.WASM.Execution.Plan do
  @moduledoc false
  # What a call's options come to: the limits and the engine as Rust takes them, how to schedule, and the host functions by
  # the index of their import.

  alias Cybernetic.WASM.{Config, Limits, LinkError, Module, Native, Options, Sandbox}

  defstruct native: nil, scheduling: :adaptive, functions: {}, names: {}, data: nil

  @type t :: %__MODULE__{}

  @options [:imports, :sandbox, :scheduling, :metering, :deterministic, :wait, :data] ++
             Limits.option_names()

  @doc "The plan of a call on `module` with these options."
  @spec new(Module.t(), keyword) :: {:ok, t} | {:error, LinkError.t()}
  def new(%{plan: %__MODULE__{} = plan}, []), do: {:ok, plan}

  def new(module, opts) do
    opts = Options.check!(opts, @options, "call option")
    sandbox = Sandbox.resolve(opts)
    engine = engine(module.engine, opts, sandbox)
    refuse_fuel_without_metering!(engine, opts)

    with {:ok, functions, names} <- bind(module, Map.get(opts, :imports, %{})) do
      {:ok,
       %__MODULE__{
         native:
           {{limits(sandbox.limits, Map.get(opts, :wait, 0)),
             unless(engine == module.engine, do: engine)}, false},
         scheduling: Map.get_lazy(opts, :scheduling, fn -> Config.get().scheduling end),
         functions: functions,
         names: names,
         data: Map.get(opts, :data)
       }}
    end
  end

  @doc "The same, kept by a module for its calls without options: what Rust takes is decoded once."
  @spec keep(t) :: t
  def keep(%__MODULE__{native: {{limits, nil}, report}} = plan) do
    %{plan | native: {Native.runtime_keep_limits(limits), report}}
  end

  def keep(plan), do: plan

  @doc "The same, for a call that tells what it used when it ends well. A failure always tells."
  @spec reporting(t) :: t
  def reporting(%__MODULE__{native: native} = plan),
    do: %{plan | native: put_elem(native, 1, true)}

  defp engine({metering, deterministic, off, _stack}, opts, sandbox) do
    {Map.get(opts, :metering, metering), deterministic or sandbox.deterministic, off,
     sandbox.limits.max_stack}
  end

  defp refuse_fuel_without_metering!({:epoch, _, _, _}, %{fuel: _}) do
    raise ArgumentError,
          "option :fuel needs metering: :fuel; this module is metered by epochs, which bound time alone"
  end

  defp refuse_fuel_without_metering!(_engine, _opts), do: :ok

  defp limits(limits, wait) do
    {limits.fuel, limits.max_memory, limits.max_table_elements, limits.max_instances,
     limits.timeout, limits.max_output, limits.max_host_calls, wait}
  end

  # Binding

  @missing "missing"
  @most_named 10

  defp bind(%{imports: [], unlinkable: []}, _given), do: {:ok, {}, {}}

  defp bind(%{imports: imports, unlinkable: unlinkable}, given) do
    bound = Enum.map(imports, &find(&1, given))

    case unlinkable ++ for({:error, problem} <- bound, do: problem) do
      [] ->
        {:ok, List.to_tuple(bound),
         imports |> Enum.map(&{elem(&1, 0), elem(&1, 1)}) |> List.to_tuple()}

      problems ->
        {:error, %LinkError{problems: problems |> Enum.uniq() |> name_given(given)}}
    end
  end

  defp find({module, name, arity, results, signature}, given) do
    problem = &{:error, %{module: module, name: name, wanted: signature, reason: &1}}

    case given do
      %{^module => %{^name => function}} when is_function(function, arity + 1) ->
        {function, results}

      %{^module => %{^name => function}} ->
        problem.(wrong(function, arity))

      %{^module => functions} when not is_map(functions) ->
        problem.("the imports of this module are not a map")

      %{} ->
        problem.(@missing)
    end
  end

  # A misspelt name, and an atom where a string is wanted, are seen beside what was given. Thousands of imports may be
  # missing, so the names are put into words once.
  defp name_given(problems, given) when given == %{}, do: problems

  defp name_given(problems, given) do
    modules = names(given)
    functions = for {module, %{} = functions} <- given, into: %{}, do: {module, names(functions)}

    Enum.map(problems, fn
      %{reason: @missing, module: module} = problem ->
        %{problem | reason: "#{@missing}; given #{where(functions, module, modules)}"}

      problem ->
        problem
    end)
  end

  defp where(functions, module, modules) do
    case functions do
      %{^module => names} -> "for this module: #{names}"
      %{} -> "modules: #{modules}"
    end
  end

  defp names(given) when given == %{}, do: "none"

  defp names(given) do
    {named, others} = given |> Map.keys() |> Enum.split(@most_named)
    more = if others == [], do: "", else: ", …"
    Enum.map_join(named, ", ", &inspect(&1, limit: 5, printable_limit: 80)) <> more
  end

  defp wrong(function, arity) when is_function(function) do
    {:arity, given} = Function.info(function, :arity)

    "a function of #{arity + 1} arguments (context, then #{arity}) is needed, one of #{given} was given"
  end

  defp wrong(other, _arity),
    do: "a function is needed, got: #{inspect(other, limit: 5, printable_limit: 80)}"
end
