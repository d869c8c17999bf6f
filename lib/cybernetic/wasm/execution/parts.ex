defmodule Cybernetic.WASM.Execution.Parts do
  @moduledoc false
  # A call in parts. Where a module is linked with others, an instance of each of those is made first. All of it together has
  # the limits of one call, and one tally.

  alias Cybernetic.WASM.{Error, Execution, LimitError, Limits, Run}
  alias Cybernetic.WASM.Execution.Tally

  # The limits that the parts share, by the name that an error gives them, with the least that is left of each.
  @shared [
    fuel: {:fuel, 1},
    timeout: {:timeout, 1},
    host_calls: {:max_host_calls, 0},
    output: {:max_output, 0}
  ]

  @doc "What is left of `limits` after these parts."
  @spec left(Limits.t(), [Tally.t()]) :: Limits.t()
  def left(limits, parts), do: Enum.reduce(parts, limits, &left_after/2)

  defp left_after(part, limits) do
    Enum.reduce(@shared, limits, fn {limit, {field, least}}, limits ->
      Map.update!(limits, field, &max(&1 - spent(limit, part), least))
    end)
  end

  defp spent(:fuel, part), do: part.fuel || 0
  defp spent(:timeout, part), do: div(trunc(part.wall_time), 1_000)
  defp spent(:host_calls, part), do: part.host_calls
  defp spent(:output, part), do: Tally.output_size(part)

  @doc "The outcome of the last part as that of the whole call, which had these limits; `parts` are the others, the latest first."
  @spec whole(Execution.outcome(), [Tally.t()], Limits.t()) :: Execution.outcome()
  def whole({:ok, result, %Tally{} = last}, [_ | _] = parts, _limits),
    do: {:ok, result, Enum.reduce(parts, last, &Tally.add/2)}

  def whole({:error, error}, [_ | _] = parts, limits) do
    before = Enum.reduce(parts, &Tally.add/2)
    {:error, error |> with_run(before) |> with_limit(before, limits)}
  end

  def whole(outcome, _parts, _limits), do: outcome

  @spec with_run(Error.t(), Tally.t()) :: Error.t()
  defp with_run(%{run: %Run{} = run} = error, before),
    do: Run.attach(error, Tally.add(before, Run.tally(run)))

  defp with_run(error, _before), do: error

  # What was allowed is what the caller allowed, not what was left of it.
  defp with_limit(%LimitError{limit: limit} = error, before, limits) do
    case @shared[limit] do
      {field, _least} ->
        used = error.used + spent(limit, before)
        Limits.attribute(%{error | allowed: Map.fetch!(limits, field), used: used}, limits)

      nil ->
        error
    end
  end

  defp with_limit(error, _before, _limits), do: error
end
