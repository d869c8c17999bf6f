defmodule Cybernetic.WASM.LevelsTest do
  # The levels of the library, as its README lists them: a module calls only what is below it.
  use ExUnit.Case

  import ExUnit.CaptureIO

  alias Cybernetic.WASM.Native

  @readme "lib/cybernetic/wasm/README.md"

  setup_all do
    sources = sources()
    ours = for {module, "lib/cybernetic" <> _} <- sources, not implementation?(module), do: module
    calls = Enum.uniq(running(sources) ++ compiling(sources))
    %{modules: ours, tasks: Map.keys(sources) -- ours, calls: calls}
  end

  # The modules of lib/ with their files.
  defp sources do
    {:ok, modules} = :application.get_key(:cybernetic_wasm, :modules)

    for module <- modules, "lib/" <> _ = source <- [source(module)], into: %{} do
      {module, source}
    end
  end

  defp source(module),
    do: module.__info__(:compile)[:source] |> to_string() |> Path.relative_to_cwd()

  # How a struct is inspected is a matter of its own module.
  defp implementation?(module), do: function_exported?(module, :__impl__, 1)

  # Structs are not among the calls that OTP's xref finds: a pattern may name any.
  defp running(sources) do
    # Newer versions of Mix hide what no application names.
    if function_exported?(Mix, :ensure_application!, 1),
      do: apply(Mix, :ensure_application!, [:tools])

    {:ok, xref} = :xref.start([])
    :xref.set_default(xref, warnings: false, verbose: false)
    ebin = Application.app_dir(:cybernetic_wasm, "ebin")
    {:ok, _modules} = :xref.add_directory(xref, String.to_charlist(ebin))
    {:ok, calls} = :xref.q(xref, 'ME')
    :xref.stop(xref)

    for {caller, called} <- calls,
        is_map_key(sources, caller) and is_map_key(sources, called) and caller != called,
        do: {caller, called}
  end

  # What a module calls while it is compiled leaves no trace in it. Mix knows which file needs which then.
  defp compiling(sources) do
    homes =
      for {module, source} <- sources,
          not implementation?(module),
          into: %{},
          do: {source, module}

    graph = ~w(graph --no-compile --label compile --format plain)
    lines = capture_io(fn -> Mix.Task.rerun("xref", graph) end) |> String.split("\n", trim: true)

    {calls, _file} =
      Enum.flat_map_reduce(lines, nil, fn line, file ->
        case Regex.run(~r/^[|`]-- (\S+) \(compile\)$/, line) do
          nil -> {[], line}
          [_, needed] -> {[{homes[file], homes[needed]}], file}
        end
      end)

    for {caller, called} <- calls, caller != nil and called != nil, do: {caller, called}
  end

  test "every module has one level", %{modules: modules} do
    named = Enum.map(levels(), &elem(&1, 0))
    assert Enum.sort(named) == Enum.sort(modules)
  end

  test "a module calls only what is on a lower level", %{modules: modules, calls: calls} do
    levels = Map.new(levels())

    # The tasks of Mix are above all of them: they have no level, and `nil` is more than any number.
    assert for(
             {caller, called} <- calls,
             caller in modules,
             levels[called] >= levels[caller],
             do: {caller, called}
           ) == []
  end

  test "no modules call each other in a circle, the tasks of Mix neither", %{calls: calls} do
    graph = :digraph.new()

    for {caller, called} <- calls do
      for module <- [caller, called], do: :digraph.add_vertex(graph, source(module))

      if source(caller) != source(called),
        do: :digraph.add_edge(graph, source(caller), source(called))
    end

    assert :digraph_utils.cyclic_strong_components(graph) == []
  end

  test "nobody names the door to Rust but those who keep what it gives", %{calls: calls} do
    [_, text] = String.split(File.read!(@readme), "## Native")
    named = text |> names() |> Enum.reject(&(&1 == Native))
    assert Enum.sort(named) == Enum.sort(for {caller, Native} <- calls, do: caller)
  end

  # What the tests above rely on
  test "calls of every kind are seen", %{calls: calls, tasks: tasks} do
    assert Mix.Tasks.Wasm.Run in tasks

    for {what, caller, called} <- [
          {"a call", Executor, Execution.Call},
          {"a captured function", Executor.Stream, Execution.Tally},
          {"a delegation", Instance, Instance.Live},
          {"an imported function", Sandbox.Manifest.Reader, Sandbox.Manifest.Tree},
          {"a call while compiling", Imports, Sandbox.Check},
          {"a macro", Sandbox.Capabilities.Clocks, Sandbox.Capability}
        ] do
      [caller, called] = Enum.map([caller, called], &Module.concat(Cybernetic.WASM, &1))
      assert {what, true} == {what, {caller, called} in calls}
    end
  end

  # Modules with their levels.
  defp levels do
    [_, text] = String.split(File.read!(@readme), "## Levels")
    [text, _] = String.split(text, "## Native")

    for [_, level, names] <- Regex.scan(~r/^(\d+)\. ((?:.*\n)(?:   .*\n)*)/m, text),
        name <- names(names),
        do: {name, String.to_integer(level)}
  end

  defp names(text) do
    for [_, name] <- Regex.scan(~r/`([A-Z][\w.]*)`/, text) do
      if name == "Cybernetic.WASM",
        do: Cybernetic.WASM,
        else: Module.concat(Cybernetic.WASM, name)
    end
  end
end
