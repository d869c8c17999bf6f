defmodule Mix.Tasks.Wasm.UsageError do
  @moduledoc false
  # A mistake on the command line itself. Errors of the library go to the user as they are.

  defexception [:message, blame: :caller]

  @type t :: %__MODULE__{message: String.t(), blame: :caller}
end
