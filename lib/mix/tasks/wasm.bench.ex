defmodule Mix.Tasks.Wasm.Bench do
  @moduledoc """
  Measures the library against plain Wasmtime and against native code, in one run.

      mix wasm.bench [--quick | --tiny] [--only GROUP]… [--no-pinned] [--json FILE] [--compare FILE]

    * `--quick` - fewer and shorter rounds: a minute instead of several
    * `--tiny` - does everything once, as small as can be: this shows that the bench works, and its figures mean nothing
    * `--only` - one group of `calls`, `instances`, `loads`, `compiling`, `kernels`, `wasi`, `components`, `throughput`,
      `fairness`, `steps`, `idle`; may be given several times, or as a list with commas. Default: all.
    * `--no-pinned` - leaves out the second run of `calls`, `throughput` and `fairness` with everything on one processor
    * `--json` - where the figures go. Default: a new file in `bench/results`.
    * `--compare` - an earlier file of figures: what has changed since then is printed at the end

  It prints a table of each group, and the ratios with their budgets. A missed budget is marked there and fails nothing:
  timings depend on what else the computer does. `bench/README.md` says what each row means.

  The bench is not part of the package: the task works in the library's own repository.
  """

  # No @shortdoc: `mix help` lists it nowhere, since it works in one folder only.
  use Mix.Task

  @switches [
    quick: :boolean,
    tiny: :boolean,
    only: :keep,
    pinned: :boolean,
    json: :string,
    compare: :string
  ]

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: @switches)

    if rest != [],
      do: Mix.raise("Not understood: #{Enum.join(rest, " ")}. See: mix help wasm.bench")

    unless File.exists?("bench/bench.exs") do
      Mix.raise(
        "There is no bench/bench.exs here: the bench runs in the library's own repository"
      )
    end

    Mix.Task.run("app.config")
    Code.require_file("bench/bench.exs")

    # Not a module of the library, so the compiler does not know it.
    Module.concat(["Cybernetic.WASM.Bench"]).main(%{
      effort: Enum.find([:tiny, :quick], :full, &opts[&1]),
      pinned: Keyword.get(opts, :pinned, true),
      only: opts |> Keyword.get_values(:only) |> Enum.flat_map(&String.split(&1, ",")),
      json: opts[:json],
      compare: opts[:compare]
    })
  end
end
