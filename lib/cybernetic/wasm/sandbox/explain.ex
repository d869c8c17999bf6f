defmodule Cybernetic.WASM.Sandbox.Explain do
  @moduledoc false
  # A sandbox in words for people. No value of the environment is in them.

  alias Cybernetic.WASM.{Limits, Sandbox, Shown}
  alias Cybernetic.WASM.Sandbox.Capabilities

  @doc "A line for the limits, and one for each capability."
  @spec lines(Sandbox.t()) :: [String.t()]
  def lines(sandbox) do
    flags = [
      "limits: " <> limits(sandbox.limits),
      "deterministic: #{if sandbox.deterministic, do: "yes", else: "no"}",
      "wasi: #{if sandbox.wasi, do: "granted", else: "refused"}"
    ]

    flags ++ Enum.map(Capabilities.names(), &line(sandbox, &1)) ++ ["threading: refused"]
  end

  defp limits(limits) do
    limits
    |> by_name()
    |> Enum.map_join(", ", fn {name, value} -> "#{name} #{Shown.number(value)}" end)
  end

  defp by_name(limits), do: limits |> Map.take(Limits.keys()) |> Enum.sort()

  @doc "The line of one capability."
  @spec line(Sandbox.t(), atom) :: String.t()
  def line(sandbox, name) do
    case granted(sandbox, name) do
      {:ok, words} -> "#{name}: granted: #{words}"
      {:refused, words} -> "#{name}: #{words}"
    end
  end

  defp granted(sandbox, name) do
    {_name, capability, grant} = sandbox |> Capabilities.grants() |> List.keyfind!(name, 0)

    cond do
      not capability.granted?(grant) -> {:refused, "refused"}
      capability.served?() and not sandbox.wasi -> {:refused, "refused, without wasi"}
      true -> {:ok, capability.explain(grant)}
    end
  end

  @doc "All that differs from the default of a limit, and all that is granted, on one line."
  @spec summary(Sandbox.t()) :: String.t()
  def summary(sandbox) do
    limits =
      for {name, value} <- by_name(sandbox.limits),
          value != Map.fetch!(%Limits{}, name),
          do: "#{name}: #{value}"

    flags = for flag <- [:deterministic, :wasi], Map.fetch!(sandbox, flag), do: "#{flag}"

    grants =
      for name <- Capabilities.names(),
          {:ok, words} <- [granted(sandbox, name)],
          do: "#{name}: #{words}"

    Enum.join(limits ++ flags ++ grants, ", ")
  end
end
