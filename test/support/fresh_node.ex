defmodule Cybernetic.WASM.FreshNode do
  @moduledoc false
  # A VM of its own for what is fixed when the application starts: its configuration, the node's ceilings, how the
  # operating system limits it.

  @doc """
  Starts the application with `config` (under `:cybernetic`'s `:wasm`) in a new VM and evaluates `code` there. Gives what
  it printed and its exit status.

  What tests wait with, `eventually/1` and the like, is imported there.

  With `start: false` the application is not started. `own:` is configuration under `:cybernetic_wasm`, `ulimit:` are arguments for the shell's `ulimit`,
  `env:` are environment variables. `ebin:` is the application's, if it is not that of the tests.
  """
  def run(config, code, opts \\ []) do
    environment = [
      "Application.put_env(:cybernetic, :wasm, #{inspect(config)})",
      "Application.put_all_env([cybernetic_wasm: #{inspect(own(opts))}])"
    ]

    start =
      if Keyword.get(opts, :start, true),
        do: "{:ok, _} = Application.ensure_all_started(:cybernetic_wasm)",
        else: "Application.load(:cybernetic_wasm)"

    names = [
      "import Cybernetic.WASM.Eventually",
      "import Cybernetic.WASM.Turns, only: [in_line: 1, kill: 1]",
      "alias Cybernetic.WASM.{Runtime, Executor, Host, LimitError}"
    ]

    script = Enum.join(environment ++ [start] ++ names ++ [code], "\n")

    System.cmd("sh", ["-c", command(opts), "sh", ebin(opts), script],
      stderr_to_stdout: true,
      env: [{"ERL_CRASH_DUMP_BYTES", "0"} | Keyword.get(opts, :env, [])]
    )
  end

  @doc "As `run/3`, and gives the last line that was printed, as a term."
  def eval(config, code, opts \\ []) do
    {output, status} =
      run(config, "IO.puts(inspect((fn -> #{code} end).(), limit: :infinity))", opts)

    if status != 0, do: ExUnit.Assertions.flunk("the VM ended with #{status}:\n#{output}")
    {term, _} = output |> String.split("\n", trim: true) |> List.last() |> Code.eval_string()
    term
  end

  # As in the VM of the tests themselves.
  defp own(opts),
    do: Keyword.merge([timeout: 600_000, artifacts: false], Keyword.get(opts, :own, []))

  defp command(opts) do
    case Keyword.get(opts, :ulimit) do
      nil -> ~S(exec elixir -pa "$1" -e "$2")
      limit -> ~s(ulimit #{limit} && exec elixir -pa "$1" -e "$2")
    end
  end

  defp ebin(opts),
    do: Keyword.get_lazy(opts, :ebin, fn -> Application.app_dir(:cybernetic_wasm, "ebin") end)
end
