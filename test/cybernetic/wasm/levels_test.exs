defmodule Cybernetic.WASM.LevelsTest do
  # The levels of the library, as its README lists them: a module calls only what is below it.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Native

  @readme "lib/cybernetic/wasm/README.md"

  # Structs are not among the calls that OTP's xref finds: a pattern may name any.
  setup_all do
    {:ok, xref} = :xref.start([])
    :xref.set_default(xref, warnings: false, verbose: false)
    ebin = Application.app_dir(:cybernetic_wasm, "ebin")
    {:ok, modules} = :xref.add_directory(xref, String.to_charlist(ebin))
    {:ok, calls} = :xref.q(xref, 'ME')
    :xref.stop(xref)

    ours = Enum.filter(modules, &ours?/1)
    calls = for {caller, called} <- calls, caller in ours, called in ours, do: {caller, called}
    %{modules: ours, calls: Enum.reject(calls, fn {caller, called} -> caller == called end)}
  end

  defp ours?(module) do
    source = module.__info__(:compile)[:source] |> to_string() |> Path.relative_to_cwd()
    String.starts_with?(source, "lib/cybernetic") and not implementation?(module)
  end

  # How a struct is inspected is a matter of its own module.
  defp implementation?(module), do: function_exported?(module, :__impl__, 1)

  test "every module has one level", %{modules: modules} do
    named = Enum.map(levels(), &elem(&1, 0))
    assert Enum.sort(named) == Enum.sort(modules)
  end

  test "a module calls only what is on a lower level", %{calls: calls} do
    levels = Map.new(levels())
    assert {Cybernetic.WASM.Executor, Cybernetic.WASM.Execution.Call} in calls

    assert for({caller, called} <- calls, levels[called] >= levels[caller], do: {caller, called}) ==
             []
  end

  test "nobody names the door to Rust but those who keep what it gives", %{calls: calls} do
    [_, text] = String.split(File.read!(@readme), "## Native")
    named = text |> names() |> Enum.reject(&(&1 == Native))
    assert Enum.sort(named) == Enum.sort(for {caller, Native} <- calls, do: caller)
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
