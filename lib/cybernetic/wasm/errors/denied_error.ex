defmodule Cybernetic.WASM.DeniedError do
  @moduledoc """
  The sandbox does not grant what a module, or the call, needs. What a guest is refused while it
  runs is no error but an errno: see `Cybernetic.WASM.Denial`.

    * `capability` - the missing one: `:wasi`, `:host_functions`, `:network`, `:filesystem`,
      `:env`, `:stdio`, …
    * `denied` - the imports that need it, maps with `module` and `name`; or a text
    * `grant` - what to add, a text
  """

  alias Cybernetic.WASM.Shown

  defexception [:capability, :denied, :grant, blame: :caller]

  @typedoc "A capability that is not granted."
  @type t :: %__MODULE__{
          capability: atom,
          denied: [%{module: String.t(), name: String.t()}] | String.t(),
          grant: String.t(),
          blame: :caller
        }

  @most_named 5

  @impl true
  def message(%__MODULE__{capability: capability, denied: denied, grant: grant})
      when is_binary(denied),
      do: "the sandbox does not grant #{capability}: #{denied}; #{grant}"

  def message(%__MODULE__{capability: capability, denied: denied, grant: grant}) do
    {named, others} = Enum.split(denied, @most_named)
    lines = Enum.map(named, &"\n  * #{Shown.name(&1.module)} #{Shown.name(&1.name)}")

    "the sandbox does not grant #{capability}, which #{length(denied)} import(s) need; " <>
      "#{grant}#{lines}#{more(length(others))}"
  end

  defp more(0), do: ""
  defp more(count), do: "\n  * and #{count} more"
end
