defmodule Cybernetic.WASM.Imports.Bindings do
  @moduledoc false
  # What each import of a module is bound to. A function of the host is found by the index of its import, at a host call. What
  # another module or instance exports is a source, which the core binds: see `Cybernetic.WASM.Instance.Link`.

  import Cybernetic.WASM.Sandbox.Check, only: [is_wasi: 1]

  alias Cybernetic.WASM.{Component, DeniedError, Imports, Instance, LinkError, Module, Sandbox}
  alias Cybernetic.WASM.Imports.{Destructors, Words}
  alias Cybernetic.WASM.Sandbox.{Check, Interfaces}

  # `functions` and `names` are by the index of the function's import; in the place of a function is `:wasi` where WASI has it,
  # `:unknown` where calling it is to trap since `unknown` says so, and `nil` where another guest has it. `sources` are those of all imports in order, or `nil` where there is nothing but functions of
  # the host and of WASI. `answered` are the functions of WASI that the host answers itself, by index, and `given` is kept for a
  # later call, and for the words of a later error. `ends` are what ends resources of the host's, by the names of their types.
  defstruct functions: {},
            names: {},
            sources: nil,
            answered: [],
            ends: [],
            given: %{},
            unknown: :refuse

  @type t :: %__MODULE__{
          functions: tuple,
          names: tuple,
          sources: [source] | nil,
          answered: [non_neg_integer],
          ends: [Destructors.found()],
          given: Imports.given(),
          unknown: Imports.unknown()
        }

  @typedoc "Where an import comes from. An instance is a member, by its number, once the guest is there that it lives in."
  @type source ::
          :host
          | :wasi
          | {:export, struct | non_neg_integer, String.t()}
          | Imports.global()
          | {:nothing, String.t()}

  @doc "Binds the imports of `module` within what `sandbox` grants, or names every one that cannot be bound."
  @spec bind(Module.t(), Imports.given(), Sandbox.t(), Imports.unknown()) ::
          {:ok, t} | {:error, LinkError.t() | DeniedError.t()}
  def bind(module, given, sandbox, unknown) do
    imports = Module.functions(module)

    # What a component imports of WASI alone is bound already, and calls no host function.
    if given == %{} and Module.unlinkable(module) == [] and
         (imports == [] or Module.of_wasi(module) == :all),
       do: {:ok, %__MODULE__{unknown: unknown}},
       else: bind(module, imports, given, sandbox, unknown)
  end

  defp bind(module, imports, given, sandbox, unknown) do
    found = Enum.map(imports, &find(module, &1, Imports.versioned(given, imports), unknown))

    with :ok <- granted(imports, found, sandbox) do
      bindings = %__MODULE__{
        functions: found |> Enum.map(&own/1) |> List.to_tuple(),
        names: imports |> Enum.map(&{elem(&1, 0), elem(&1, 1)}) |> List.to_tuple(),
        answered: answered(module, imports, found),
        given: given,
        unknown: unknown
      }

      if not is_struct(module, Component) and
           (Module.unlinkable(module) != [] or Enum.any?(found, &match?({:export, _, _}, &1))),
         do: with_sources(bindings, module, found),
         else: without_sources(bindings, module, found)
    end
  end

  # Components are linked to functions of the host and of WASI alone.
  defp find(%Component{} = component, import, given, unknown) do
    unknown = if wasi?(component, elem(import, 0)), do: :wasi, else: unknown

    with {:export, _from, _name} <- Imports.find(import, given, unknown),
         do: {:nothing, Words.no_composition()}
  end

  defp find(_module, import, given, unknown) do
    with {:export, %Instance{module: %Component{}}, _name} <-
           Imports.find(import, given, unknown),
         do: {:nothing, Words.no_module()}
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

  defp host?({function, _how, _results, _kind}) when is_function(function), do: true
  defp host?(_found), do: false

  # What answers a guest's host calls must not hold on to a guest: they could keep each other alive for ever.
  defp own({:export, _from, _name}), do: nil
  defp own(found), do: found

  defp answered(module, imports, found) do
    for {{{from, _, _, _, _}, item}, index} <- imports |> Enum.zip(found) |> Enum.with_index(),
        wasi?(module, from) and item != :wasi,
        do: index
  end

  defp wasi?(%Component{}, interface), do: Interfaces.served?(interface)
  defp wasi?(_module, from), do: is_wasi(from)

  # Nothing but functions of the host and of WASI. Of a component nothing else can be given.
  defp without_sources(bindings, module, found) do
    problems =
      for {{from, name, _, _, signature}, {:nothing, reason}} <-
            Enum.zip(Module.functions(module), found),
          do: %{module: from, name: name, wanted: signature, reason: reason}

    {ends, others} = of_component(module, bindings.given)

    case extra(module, bindings.given) ++ in_words(problems, bindings.given) ++ others do
      [] -> {:ok, %{bindings | ends: ends}}
      problems -> {:error, LinkError.new(problems)}
    end
  end

  # What ends resources that it imports, and what else is wrong with its imports.
  defp of_component(%Component{} = component, given) do
    {ends, problems} = Destructors.find(component, given)
    {ends, problems ++ Module.unlinkable(component)}
  end

  defp of_component(_module, _given), do: {[], []}

  # Other imports than functions, or from other guests: the core checks the types of what those export. It also says what is
  # missing, since it knows of wrong types as well; unless it is not asked.
  defp with_sources(bindings, module, found) do
    {sources, []} =
      Enum.map_reduce(Module.imports(module), found, fn
        %{type: {:function, _, _}}, [found | others] -> {source(found), others}
        import, others -> {import |> Imports.find_other(bindings.given) |> source(), others}
      end)

    bindings = %{bindings | sources: sources}

    case extra(module, bindings.given) do
      [] -> {:ok, bindings}
      extra -> {:error, LinkError.new(extra ++ problems(bindings, module))}
    end
  end

  defp source({function, _how, _results, _kind}) when is_function(function), do: :host
  defp source(:unknown), do: :host
  defp source(found), do: found

  # What host modules declare and this module does not import.
  defp extra(module, given) do
    with [_ | _] = declared <- Imports.declared(given) do
      imported = imported(module)

      for {from, name, function} <- declared, not MapSet.member?(imported, {from, name}) do
        wanted = function.signature || "function"
        %{module: from, name: name, wanted: wanted, reason: Words.not_imported(function)}
      end
    end
  end

  # An interface may be declared without its version.
  defp imported(module) do
    functions =
      for function <- Module.functions(module), do: {elem(function, 0), elem(function, 1)}

    resources = if is_struct(module, Component), do: Destructors.names(module), else: []
    names = functions ++ resources
    MapSet.new(names ++ for({from, name} <- names, do: {Imports.unversioned(from), name}))
  end

  @doc "The imports that nothing is given for, with their reasons."
  @spec problems(t, Module.t()) :: [LinkError.problem()]
  def problems(%__MODULE__{sources: sources, given: given}, module) do
    problems =
      for {{%{module: from, name: name}, wanted}, {:nothing, reason}} <-
            module |> Module.imports() |> wanted(module) |> Enum.zip(sources),
          do: %{module: from, name: name, wanted: wanted, reason: reason}

    in_words(problems, given)
  end

  # The imports, each with its type in words: functions come in order, and other imports with what cannot be linked.
  defp wanted(imports, module) do
    others = Map.new(Module.unlinkable(module), &{{&1.module, &1.name}, &1.wanted})

    {wanted, _functions} =
      Enum.map_reduce(imports, Module.functions(module), fn
        %{type: {:function, _, _}} = import, [function | functions] ->
          {{import, elem(function, 4)}, functions}

        import, functions ->
          {{import, others[{import.module, import.name}]}, functions}
      end)

    wanted
  end

  defp in_words(problems, given),
    do: problems |> Enum.uniq() |> Enum.map(&Words.beside(&1, given))

  @doc "The bindings for one call that brings `imports:` of its own: what is linked to another guest stays as it is."
  @spec rebind(t, Module.t(), term, Sandbox.t()) ::
          {:ok, t} | {:error, LinkError.t() | DeniedError.t()}
  def rebind(%__MODULE__{} = bindings, module, imports, sandbox) do
    given = Imports.given(for given <- [bindings.given, imports], do: versioned(given, module))

    with {:ok, bound} <- bind(module, given, sandbox, bindings.unknown) do
      case exported_late(bound, bindings, module) ++ answered_late(bound, bindings, module) do
        [] -> {:ok, %{bindings | functions: bound.functions, names: bound.names}}
        problems -> {:error, LinkError.new(problems)}
      end
    end
  end

  # What comes later replaces what was given, whichever of the two has named a version.
  defp versioned(given, module),
    do: given |> Imports.given() |> Imports.versioned(Module.functions(module))

  defp exported_late(%{sources: nil}, _linked, _module), do: []

  defp exported_late(%{sources: sources}, linked, module) do
    linked = linked.sources || List.duplicate(:host, length(sources))

    for {import, {:export, _, _}, :host} <- Enum.zip([Module.imports(module), sources, linked]),
        do: module |> function(import) |> late("another guest's export")
  end

  defp function(module, %{module: from, name: name}),
    do: Enum.find(Module.functions(module), &match?({^from, ^name, _, _, _}, &1))

  defp answered_late(bound, linked, module) do
    for index <- bound.answered -- linked.answered,
        do:
          module
          |> Module.functions()
          |> Enum.at(index)
          |> late("what answers a function of WASI")
  end

  defp late({from, name, _, _, signature}, what),
    do: %{module: from, name: name, wanted: signature, reason: Words.late(what)}

  @doc "The sources of all imports, in order."
  @spec sources(t) :: [source]
  def sources(%__MODULE__{sources: nil, functions: functions}),
    do: functions |> Tuple.to_list() |> Enum.map(&source/1)

  def sources(%__MODULE__{sources: sources}), do: sources
end
