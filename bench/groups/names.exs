defmodule Cybernetic.WASM.Bench.Names do
  # Looking up what is loaded under names, among a hundred of them, and calls by the module and by its name.

  alias Cybernetic.WASM.{Bench.Measure, Executor, Instance, Runtime}
  alias Cybernetic.WASM.Runtime.Names
  import Measure, only: [by: 2]

  @path "priv/wasm/compute.wasm"
  @name "bench/compute"

  def rows(effort) do
    names = [@name | for(n <- 1..99, do: "bench/n#{n}")]
    for name <- names, do: Runtime.load_module!(@path, name: name, version: "1.2.0")

    subjects = look_ups() ++ calls(Runtime.load_module!(@path))
    round = by(effort, full: 50, quick: 12, tiny: 0)
    rows = Measure.compare(subjects, round, by(effort, full: 15, quick: 7, tiny: 1))
    Enum.each(names, &Runtime.unload/1)
    rows
  end

  defp look_ups do
    for {what, asked} <- [{"name", ""}, {"version", "@1.2.0"}, {"requirement", "@~> 1.2"}] do
      name = @name <> asked
      {"look up a #{what}", fn -> {:ok, _module} = Names.fetch(name, []) end}
    end
  end

  defp calls(module) do
    {:ok, named} = Runtime.module(@name)
    [warm, of_named] = for module <- [module, named], do: Instance.new!(module)

    [
      {"fresh call of a module", fn -> {:ok, 5} = Executor.call(module, "add", [2, 3]) end},
      {"fresh call of a module that has a name",
       fn -> {:ok, 5} = Executor.call(named, "add", [2, 3]) end},
      {"fresh call by its name", fn -> {:ok, 5} = Executor.call(@name, "add", [2, 3]) end},
      {"warm call, module", fn -> {:ok, 5} = Instance.call(warm, "add", [2, 3]) end},
      {"warm call, module that has a name",
       fn -> {:ok, 5} = Instance.call(of_named, "add", [2, 3]) end}
    ]
  end
end
