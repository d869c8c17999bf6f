defmodule Cybernetic.WASM.LinkError do
  @moduledoc """
  A module's imports cannot be satisfied. `problems` names every one of them: maps with `module`, `name`, `wanted` (what the
  module imports, in the text format's words) and `reason` (a text).
  """

  alias Cybernetic.WASM.Shown

  defexception problems: [], blame: :caller

  @typedoc "One import that cannot be satisfied."
  @type problem :: %{module: String.t(), name: String.t(), wanted: String.t(), reason: String.t()}

  @typedoc "All imports that cannot be satisfied."
  @type t :: %__MODULE__{problems: [problem], blame: :caller}

  @most_named 20

  @doc false
  # With these problems, whose names are cut.
  @spec new([problem]) :: t
  def new(problems) do
    cut = &%{&1 | module: Shown.cut(&1.module), name: Shown.cut(&1.name)}
    %__MODULE__{problems: Enum.map(problems, cut)}
  end

  @impl true
  def message(%__MODULE__{problems: problems}) do
    {named, others} = Enum.split(problems, @most_named)

    lines =
      Enum.map(named, fn problem ->
        "\n  * #{Shown.quoted(problem.module)} #{Shown.quoted(problem.name)}, #{problem.wanted}: #{problem.reason}"
      end)

    "#{length(problems)} import(s) cannot be satisfied (option :imports)#{lines}#{more(length(others))}"
  end

  defp more(0), do: ""
  defp more(count), do: "\n  * and #{count} more"
end
