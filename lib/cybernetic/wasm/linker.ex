defmodule Cybernetic.WASM.Linker do
  @moduledoc false
  # What each import of a module is bound to, from what the caller gave as `imports:`. A function of the host's is found by
  # its index at a host call; what another module or instance exports is a source, which the core binds.
  #
  # That is all that most calls need. `Cybernetic.WASM.Linker.Guest` makes one guest of several modules.

  alias Cybernetic.WASM.{DeniedError, Instance, LinkError, Module, Options, Sandbox, Shown}
  alias Cybernetic.WASM.Host.Function
  alias Cybernetic.WASM.Sandbox.Check

  @typedoc "`imports:` once it is a map of what was given for each module name."
  @type given :: %{term => term}

  @typedoc """
  Functions by the index of their import as `{function, results, kind}`, their names, where anything but functions of the
  host and of WASI is bound the sources of all imports in order, and which of WASI's functions the host answers itself.
  """
  @type bound :: %{
          functions: tuple,
          names: tuple,
          sources: [source] | nil,
          answered: [non_neg_integer]
        }

  @typep source ::
           :host
           | :wasi
           | {:export, Instance.t() | Module.t(), String.t()}
           | {:nothing, String.t()}

  @none %{functions: {}, names: {}, sources: nil, answered: []}
  @wasi Check.wasi()
  @missing "missing"
  @most_named 10

  @doc "What the option takes."
  @spec kind() :: Options.kind()
  def kind do
    {~S|a map of maps with strings as keys, such as %{"env" => %{"log" => fn ctx, … end}}, | <>
       "a module with `use Cybernetic.WASM.Host`, or a list of these", &__MODULE__.given?/1}
  end

  @doc "Whether it can be `imports:`."
  @spec given?(term) :: boolean
  def given?(given) when is_list(given),
    do: not List.improper?(given) and Enum.all?(given, &given?/1)

  def given?(given) when is_atom(given), do: given not in [nil, true, false]
  def given?(given), do: is_map(given) and not is_struct(given)

  @doc "`imports:` as one map: of a map, a module with `use Cybernetic.WASM.Host`, or a list of these."
  @spec given(term) :: given
  def given(given) when is_map(given) and not is_struct(given), do: given

  def given(given) when is_list(given) do
    Enum.reduce(given, %{}, fn one, all ->
      Map.merge(all, given(one), fn _name, left, right -> both(left, right) end)
    end)
  end

  def given(module) when is_atom(module) do
    unless Code.ensure_loaded?(module) and function_exported?(module, :__wasm_imports__, 0) do
      raise ArgumentError,
            "#{inspect(module)} has no host functions: it needs `use Cybernetic.WASM.Host`"
    end

    module.__wasm_imports__()
  end

  defp both(left, right)
       when is_map(left) and is_map(right) and not is_struct(left) and not is_struct(right),
       do: Map.merge(left, right)

  defp both(_left, right), do: right

  @doc "Whether any of it is an instance's that lives in the guest `ref`."
  @spec from?(given, reference) :: boolean
  def from?(given, ref) do
    Enum.any?(given, fn
      {_from, %Instance{ref: guest}} ->
        guest == ref

      {_from, %{} = items} when not is_struct(items) ->
        Enum.any?(items, &match?({_name, {%Instance{ref: ^ref}, _export}}, &1))

      _other ->
        false
    end)
  end

  @doc "The same, but nothing that host modules declare has to be imported."
  @spec lenient(given) :: given
  def lenient(given) do
    Map.new(given, fn
      {from, %{} = functions} when not is_struct(functions) ->
        {from, Map.new(functions, fn {name, function} -> {name, lenient_function(function)} end)}

      other ->
        other
    end)
  end

  defp lenient_function(%Function{} = function), do: %{function | strict: false}
  defp lenient_function(other), do: other

  @doc """
  Binds the imports of `module` within what `sandbox` grants, or names every one that cannot be bound. What of WASI is not
  given is WASI's.
  """
  @spec bind(Module.t(), given, Sandbox.t()) ::
          {:ok, bound} | {:error, LinkError.t() | DeniedError.t()}
  def bind(%{imports: [], unlinkable: []}, given, _sandbox) when given == %{}, do: {:ok, @none}

  def bind(%{imports: imports, unlinkable: unlinkable} = module, given, sandbox) do
    found = Enum.map(imports, &find(&1, given))

    with :ok <- granted(imports, found, sandbox) do
      bound = %{
        functions: List.to_tuple(found),
        names: names_of(imports),
        sources: nil,
        answered: answered(imports, found)
      }

      if unlinkable != [] or Enum.any?(found, &match?({:export, _, _}, &1)),
        do: sources(module, given, bound),
        else: check(bound, for({:error, problem} <- found, do: problem), module, given)
    end
  end

  # An export of another guest is no host function, and one of WASI's that the host gives itself is.
  defp granted(_imports, _found, %Sandbox{wasi: true, host_functions: :all}), do: :ok

  defp granted(imports, found, sandbox) do
    asked =
      for {import, item} <- Enum.zip(imports, found), item == :wasi or host?(item) do
        %{module: elem(import, 0), name: elem(import, 1), host: host?(item)}
      end

    {hosted, wasi} = Enum.split_with(asked, & &1.host)
    denied = Check.denied_of(wasi, sandbox) ++ Check.unlisted(hosted, sandbox)
    with nil <- Check.to_error(denied), do: :ok, else: (error -> {:error, error})
  end

  defp answered(imports, found) do
    for {{@wasi, _, _, _, _}, item, index} <- zip_with_index(imports, found),
        item != :wasi,
        do: index
  end

  defp zip_with_index(imports, found),
    do: Enum.zip([imports, found, 0..max(length(imports) - 1, 0)])

  @doc "Binds the imports of a live instance of `module` for one call: what is linked to another guest stays as it is."
  @spec rebind(Module.t(), given, Cybernetic.WASM.Execution.Plan.t()) ::
          {:ok, bound} | {:error, LinkError.t() | DeniedError.t()}
  def rebind(module, given, plan) do
    with {:ok, bound} <- bind(module, given, plan.sandbox) do
      case exported_late(module, bound, plan.sources) ++ answered_late(module, bound, plan) do
        [] -> {:ok, bound}
        problems -> {:error, %LinkError{problems: problems}}
      end
    end
  end

  defp exported_late(_module, %{sources: nil}, _linked), do: []

  defp exported_late(module, %{sources: sources}, linked) do
    linked = linked || List.duplicate(:host, length(sources))

    for {import, {:export, _, _}, :host} <- Enum.zip([Module.imports(module), sources, linked]) do
      {_, _, _, _, signature} = List.keyfind(named(module, import.module), import.name, 1)
      late({import.module, import.name, signature}, "another guest's export")
    end
  end

  defp named(module, from), do: for(import <- module.imports, elem(import, 0) == from, do: import)

  defp answered_late(module, bound, plan) do
    for index <- bound.answered -- plan.answered do
      {from, name, _, _, signature} = Enum.at(module.imports, index)
      late({from, name, signature}, "what answers a function of WASI")
    end
  end

  defp late({module, name, signature}, what) do
    reason = "#{what} is linked when the instance is made, not for one call"
    %{module: module, name: name, wanted: signature, reason: reason}
  end

  @doc "The sources of a module that imports nothing but functions of the host and of WASI."
  @spec own_sources(Cybernetic.WASM.Execution.Plan.t()) :: [:host | :wasi]
  def own_sources(plan), do: plan.functions |> Tuple.to_list() |> Enum.map(&source/1)

  defp names_of(imports),
    do: imports |> Enum.map(&{elem(&1, 0), elem(&1, 1)}) |> List.to_tuple()

  # A module that imports more than functions, or from other guests: the core checks the types of what those export.
  defp sources(module, given, bound) do
    {sources, []} =
      Enum.map_reduce(Module.imports(module), Tuple.to_list(bound.functions), fn
        %{type: {:function, _, _}}, [found | others] -> {source(found), others}
        import, others -> {source(other(import, given)), others}
      end)

    functions =
      bound.functions |> Tuple.to_list() |> Enum.map(&if(host?(&1), do: &1)) |> List.to_tuple()

    bound = %{bound | functions: functions, sources: sources}

    # What is missing is left to the core, which knows of wrong types as well, unless it is not asked.
    case extra(module, given) do
      [] -> {:ok, bound}
      extra -> {:error, %LinkError{problems: extra ++ problems(module, sources, given)}}
    end
  end

  @doc "The imports that nothing is given for, with their reasons."
  @spec problems(Module.t(), [source], given) :: [LinkError.problem()]
  def problems(module, sources, given) do
    wanted = Map.new(module.unlinkable, &{{&1.module, &1.name}, &1.wanted})
    signatures = Map.new(module.imports, &{{elem(&1, 0), elem(&1, 1)}, elem(&1, 4)})

    problems =
      for {import, {:nothing, reason}} <- Enum.zip(Module.imports(module), sources) do
        key = {import.module, import.name}
        wanted = wanted[key] || signatures[key]
        told(%{module: import.module, name: import.name, wanted: wanted, reason: reason}, given)
      end

    Enum.uniq(problems)
  end

  defp host?({function, _results, _kind}) when is_function(function), do: true
  defp host?(_found), do: false

  defp source(:wasi), do: :wasi
  defp source({:export, _from, _name} = source), do: source
  defp source({:error, problem}), do: {:nothing, problem.reason}
  defp source(_function), do: :host

  # Functions that a host module declares and this module does not import, together with what is wrong besides.
  defp check(bound, problems, module, given) do
    case {problems, extra(module, given)} do
      {[], []} ->
        {:ok, bound}

      {problems, extra} ->
        {:error,
         %LinkError{problems: extra ++ (problems |> Enum.uniq() |> Enum.map(&told(&1, given)))}}
    end
  end

  defp extra(module, given) do
    declared =
      for {from, %{} = functions} <- given,
          not is_struct(functions),
          {name, %Function{strict: true} = function} <- functions,
          do: {from, name, function}

    if declared == [], do: [], else: extra_of(module, declared)
  end

  defp extra_of(module, declared) do
    imported = MapSet.new(module.imports, &{elem(&1, 0), elem(&1, 1)})

    for {from, name, function} <- declared, not MapSet.member?(imported, {from, name}) do
      %{
        module: from,
        name: name,
        wanted: function.signature,
        reason: "declared by #{inspect(function.declared_by)}, but the module does not import it"
      }
    end
  end

  # One imported function

  defp find({module, name, arity, results, signature}, given) do
    problem = &{:error, %{module: module, name: name, wanted: signature, reason: &1}}

    case given do
      %{^module => %{^name => function}} when is_function(function, arity + 1) ->
        {function, results, :sync}

      %{^module => %{^name => item}} ->
        item(item, {arity, results, signature}, problem)

      %{^module => from} when is_struct(from, Instance) or is_struct(from, Module) ->
        {:export, from, name}

      %{^module => functions} when not is_map(functions) ->
        problem.("the imports of this module are not a map")

      %{} when module == @wasi ->
        :wasi

      %{} ->
        problem.(missing(module))
    end
  end

  # Other versions of the interface than the one that is served.
  defp missing("wasi_unstable"),
    do: "this is WASI before preview 1, which is not served: compile for wasm32-wasip1"

  defp missing("wasi:" <> _),
    do: "this is WASI preview 2, for components: compile for wasm32-wasip1"

  defp missing("wasi"), do: "threads are not served"
  defp missing(_module), do: @missing

  defp item({from, export}, _type, _problem)
       when is_binary(export) and (is_struct(from, Instance) or is_struct(from, Module)),
       do: {:export, from, export}

  defp item({function, [async: async]}, {arity, results, _}, _problem)
       when is_function(function, arity + 1) and is_boolean(async),
       do: {function, results, if(async, do: :async, else: :sync)}

  defp item({function, [async: _]}, {arity, _, _}, problem), do: problem.(wrong(function, arity))

  defp item(%Function{signature: same} = function, {_, results, same}, _problem),
    do: {function.function, results, function.kind}

  defp item(%Function{} = function, _type, problem) do
    problem.("#{inspect(function.declared_by)} declares it as #{function.signature}")
  end

  defp item(other, {arity, _, _}, problem), do: problem.(wrong(other, arity))

  # An imported memory, table, global or tag
  defp other(%{module: module, name: name}, given) do
    problem = &{:error, %{reason: &1}}

    case given do
      %{^module => from} when is_struct(from, Instance) or is_struct(from, Module) ->
        {:export, from, name}

      %{^module => %{^name => {from, export}}}
      when is_binary(export) and (is_struct(from, Instance) or is_struct(from, Module)) ->
        {:export, from, export}

      %{^module => %{^name => other}} ->
        problem.("an instance or a module that exports one is needed, got: #{Shown.term(other)}")

      %{} ->
        problem.(@missing)
    end
  end

  # Words

  @doc "An import problem, with what was given beside it where the name is missing there."
  @spec told(LinkError.problem(), given) :: LinkError.problem()
  def told(%{reason: @missing} = problem, given) when given != %{} do
    %{problem | reason: "#{@missing}; given #{where(problem.module, given)}"}
  end

  def told(problem, _given), do: problem

  # A misspelt name, and an atom where a string is wanted, are seen beside what was given.
  defp where(module, given) do
    case given do
      %{^module => %{} = functions} when not is_struct(functions) ->
        "for this module: #{names(functions)}"

      %{^module => from} ->
        "for this module: #{Shown.term(from)}"

      %{} ->
        "modules: #{names(given)}"
    end
  end

  defp names(given) when given == %{}, do: "none"

  defp names(given) do
    {named, others} = given |> Map.keys() |> Enum.split(@most_named)
    more = if others == [], do: "", else: ", …"
    Enum.map_join(named, ", ", &Shown.term/1) <> more
  end

  defp wrong(function, arity) when is_function(function) do
    {:arity, given} = Elixir.Function.info(function, :arity)

    "a function of #{arity + 1} arguments (context, then #{arity}) is needed, one of #{given} was given"
  end

  defp wrong(other, _arity), do: "a function is needed, got: #{Shown.term(other)}"
end
