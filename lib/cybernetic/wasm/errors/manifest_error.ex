defmodule Cybernetic.WASM.ManifestError do
  @moduledoc """
  A manifest cannot be taken: see `Cybernetic.WASM.Sandbox.Manifest`.

  ## Reasons

    * `:unreadable` - the file; `got` has the operating system's word
    * `:syntax` - not TOML at `line` and `column`; `got` says what is wrong there
    * `:unknown_key` - there is no such `key`; `known` are those that there are, `suggestion` the likeliest or `nil`
    * `:missing` - `key` has to be stated; `line` is that of its table, or `nil` where there is none
    * `:value` - at `key` stands `got`, not an `expected`; `detail` may say why
    * `:module` - the module is not what `key` says of it

  `file` is the path, or `nil`. `key` has its tables before it: `"capabilities.filesystem[0].mode"`.
  """

  alias Cybernetic.WASM.Shown

  defexception [
    :reason,
    :file,
    :line,
    :column,
    :key,
    :expected,
    :got,
    :detail,
    :known,
    :suggestion,
    blame: :caller
  ]

  @typedoc "Why a manifest was refused, and where."
  @type t :: %__MODULE__{
          reason: atom,
          file: String.t() | nil,
          line: pos_integer | nil,
          column: pos_integer | nil,
          key: String.t() | nil,
          expected: String.t() | nil,
          got: String.t() | nil,
          detail: String.t() | nil,
          known: [String.t()] | nil,
          suggestion: String.t() | nil,
          blame: :caller
        }

  @impl true
  def message(%__MODULE__{} = error), do: Enum.join(place(error) ++ [what(error)], ": ")

  defp place(error) do
    file =
      [file(error.file), error.line, error.column] |> Enum.reject(&is_nil/1) |> Enum.join(":")

    if error.key, do: [file, error.key], else: [file]
  end

  defp file(nil), do: "manifest"

  defp file(path), do: Shown.path(path)

  defp what(%{reason: :unreadable} = error), do: "the manifest cannot be read (#{error.got})"
  defp what(%{reason: :syntax} = error), do: error.got
  defp what(%{reason: :missing} = error), do: "expected #{error.expected}, but it is not stated"

  defp what(%{reason: :unknown_key} = error),
    do: "unknown key#{suggested(error.suggestion)}; known are: #{Enum.join(error.known, ", ")}"

  defp what(error), do: "expected #{error.expected}, got #{error.got}#{because(error.detail)}"

  defp suggested(nil), do: ""
  defp suggested(key), do: " (did you mean #{key}?)"

  defp because(nil), do: ""
  defp because(detail), do: " (#{detail})"
end
