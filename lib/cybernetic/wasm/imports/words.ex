defmodule Cybernetic.WASM.Imports.Words do
  @moduledoc false
  # Why an import is bound to nothing: the `reason` of a problem in a `Cybernetic.WASM.LinkError`.

  alias Cybernetic.WASM.{CallError, LinkError, Shown}
  alias Cybernetic.WASM.Host.Function

  @missing "missing"
  @most_named 10

  @doc "Nothing is given."
  @spec missing() :: String.t()
  def missing, do: @missing

  @doc "Nothing is given for an import of this module: it may be a version of the system interface that is not served."
  @spec missing(String.t()) :: String.t()
  def missing("wasi:" <> _),
    do:
      "this is WASI 0.2 or later: components are served the interfaces of 0.2 that the guide on WASI lists, and modules none; " <>
        "compile for wasm32-wasip1, or give it as host functions"

  def missing("wasi"), do: "threads are not served"
  def missing(_module), do: @missing

  @doc "What is given for the whole module is neither functions nor a guest."
  @spec no_map() :: String.t()
  def no_map, do: "the imports of this module are not a map"

  # As many arguments as a function of Erlang's can have.
  @most_arguments 255

  @doc "What is given is no function of the import's arity."
  @spec wrong(term, non_neg_integer) :: String.t()
  def wrong(_function, arity) when arity >= @most_arguments do
    "no function of Elixir's takes #{arity + 1} arguments (context, then #{arity}): give {function, args: :list}"
  end

  def wrong(function, arity) when is_function(function) do
    {:arity, given} = Elixir.Function.info(function, :arity)

    "a function of #{arity + 1} arguments (context, then #{arity}) is needed, one of #{given} was given"
  end

  def wrong(other, _arity), do: "a function is needed, got: #{Shown.term(other)}"

  @doc "What is given under the name of a type of resources ends none."
  @spec no_destructor(term) :: String.t()
  def no_destructor(other),
    do:
      "a function of one argument, the resource that comes to its end, is needed, got: #{Shown.term(other)}"

  @doc "The options of one host function are none."
  @spec wrong_options() :: String.t()
  def wrong_options do
    "the options of a function are async: true or false, args: :list, and type: {parameters, results}, lists of types"
  end

  @doc "A function is given for another type."
  @spec typed_as(String.t()) :: String.t()
  def typed_as(signature), do: "it was given for the type #{signature}"

  @doc "Of several things that are given for one name none fits."
  @spec none([{:nothing, String.t()}]) :: String.t()
  def none([{:nothing, reason}]), do: reason

  def none(found) do
    {named, others} = Enum.split(found, @most_named)
    more = if others == [], do: "", else: "; …"

    "none of the #{length(found)} that were given fits: " <>
      Enum.map_join(named, "; ", fn {:nothing, reason} -> reason end) <> more
  end

  @doc "A global is given of a type that is none."
  @spec wrong_global(term, [atom]) :: String.t()
  def wrong_global(type, types) do
    "a global is {:global, type, value} or {:global, {:mut, type}, value} of #{Enum.join(types, ", ")}, got the type: " <>
      Shown.term(type)
  end

  @doc "A host module declares another type."
  @spec declared_as(Function.t()) :: String.t()
  def declared_as(function),
    do: "#{inspect(function.declared_by)} declares it as #{function.signature}"

  @doc "A host module declares it, and nothing imports it."
  @spec not_imported(Function.t()) :: String.t()
  def not_imported(function),
    do: "declared by #{inspect(function.declared_by)}, but the module does not import it"

  @doc "What is given for a memory, table, global or tag exports none."
  @spec no_guest(term) :: String.t()
  def no_guest(other),
    do:
      "an instance or a module that exports one is needed, got: #{Shown.term(other)}; a global can also be {:global, type, value}"

  @doc "No module is loaded under the name that is given for it."
  @spec not_loaded(CallError.t()) :: String.t()
  def not_loaded(error), do: Exception.message(error)

  @doc "The instance that exports it is in another guest's store."
  @spec other_store() :: String.t()
  def other_store do
    "it lives in another store; instances share one when each is made with `store:` or imports from the others"
  end

  @doc "A component is given what another guest exports."
  @spec no_composition() :: String.t()
  def no_composition, do: "components are given functions of the host, and not what others export"

  @doc "A module is given what a component exports."
  @spec no_module() :: String.t()
  def no_module, do: "a component exports nothing that a module imports"

  @doc "The module that exports it needs this one first."
  @spec circle() :: String.t()
  def circle, do: "the modules import from each other in a circle"

  @doc "What comes with one call cannot be bound any more."
  @spec late(String.t()) :: String.t()
  def late(what), do: "#{what} is linked when the instance is made, not for one call"

  @doc """
  An import problem where nothing is given for its name, with what was given beside it, so that a misspelt name is seen; and with
  what made the module, where its name tells that.
  """
  @spec beside(LinkError.problem(), map) :: LinkError.problem()
  def beside(%{reason: @missing} = problem, given) do
    words = [@missing, beside_it(problem, given), made_by(problem.module, problem.name)]
    %{problem | reason: words |> Enum.reject(&is_nil/1) |> Enum.join("; ")}
  end

  def beside(problem, _given), do: problem

  defp beside_it(_problem, given) when given == %{}, do: nil

  defp beside_it(%{module: module, name: name}, given) do
    case given do
      %{^module => %{} = functions} when not is_struct(functions) ->
        as_atom(name, functions) || "given for this module: #{names(functions)}"

      %{^module => from} ->
        "given for this module: #{Shown.term(from)}"

      %{} ->
        as_atom(module, given) || "given modules: #{names(given)}"
    end
  end

  defp as_atom(name, given) do
    if atom = Enum.find(Map.keys(given), &(is_atom(&1) and Atom.to_string(&1) == name)),
      do: "given as the atom #{Shown.term(atom)}, where the name is a string"
  end

  @emscripten "made for JavaScript by Emscripten: build it with -sSTANDALONE_WASM, or compile for wasm32-wasip1"
  @wasm_bindgen "made for JavaScript by wasm-bindgen: compile for wasm32-wasip1, without it"
  @go "made for JavaScript by Go: build it with GOOS=wasip1"
  @assembly_script "AssemblyScript calls it before it aborts: give " <>
                     ~S|%{"env" => %{"abort" => fn ctx, _message, _file, line, column -> | <>
                     "Cybernetic.WASM.Host.trap(ctx, {:abort, line, column}) end}}"

  defp made_by("env", "__syscall_" <> _), do: @emscripten
  defp made_by("env", "_emscripten_" <> _), do: @emscripten
  defp made_by("env", "emscripten_" <> _), do: @emscripten

  defp made_by("env", "invoke_" <> _),
    do: @emscripten <> "; a host function can answer it with Cybernetic.WASM.Host.call_table/4"

  defp made_by("env", "abort"), do: @assembly_script
  # Emscripten's own names, made short.
  defp made_by("a", name) when byte_size(name) <= 2, do: @emscripten
  defp made_by("wbg", _name), do: @wasm_bindgen
  defp made_by("__wbindgen_" <> _, _name), do: @wasm_bindgen
  defp made_by(go, _name) when go in ["go", "gojs"], do: @go
  defp made_by(_module, _name), do: nil

  defp names(given) when given == %{}, do: "none"

  defp names(given) do
    {named, others} = given |> Map.keys() |> Enum.split(@most_named)
    more = if others == [], do: "", else: ", …"
    Enum.map_join(named, ", ", &Shown.term/1) <> more
  end
end
