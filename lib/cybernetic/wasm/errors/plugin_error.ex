defmodule Cybernetic.WASM.PluginError do
  @moduledoc """
  What went wrong between a plugin and its host, beside what any call can end in: see `Cybernetic.WASM.Plugin`.

  ## Reasons

    * `:no_contract` - the module meets no contract, or not the one that was asked for: `missing` has a pair for each, of its name
      and of a list of what the module lacks for it
    * `:no_entry` - no function was named, and neither the manifest nor the contract says which is meant; `known` names some
    * `:input` - the codec `codec` cannot write what was given, or the contract cannot pass it: `detail` says why, and `path` is a
      JSON Pointer to where, or `nil`
    * `:output` - the guest gave what the codec `codec` cannot read: `detail` and `path` say what
    * `:refused` - the guest itself reports an error: `detail` is its text, which may be no UTF-8, and `exit_code` that of a
      program. Of a failed assertion of AssemblyScript's `file`, `line` and `column` say where.
    * `:no_result` - `function` gave the null pointer where its result should be

  `contract` is the contract's name, and `function` what was called. `blame` is `:caller` for the first three and `:guest` for the others. `usage` and `run` are what
  the call had used, and a `Cybernetic.WASM.Run`, where it had begun.
  """

  alias Cybernetic.WASM.Shown

  defexception [
    :reason,
    :contract,
    :codec,
    :function,
    :path,
    :detail,
    :missing,
    :known,
    :exit_code,
    :file,
    :line,
    :column,
    :usage,
    :run,
    blame: :caller
  ]

  @typedoc "What went wrong. What a reason has no use for is `nil`."
  @type t :: %__MODULE__{
          reason: :no_contract | :no_entry | :input | :output | :refused | :no_result,
          contract: atom,
          codec: atom,
          function: String.t() | :start | nil,
          path: String.t() | nil,
          detail: String.t() | nil,
          missing: [{atom, [String.t()]}] | nil,
          known: [String.t()] | nil,
          exit_code: non_neg_integer | nil,
          file: String.t() | nil,
          line: non_neg_integer | nil,
          column: non_neg_integer | nil,
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :caller | :guest
        }

  @most_named 20

  @doc false
  # That of a run in which the function gave the null pointer.
  @spec no_result(String.t() | :start, Cybernetic.WASM.Run.t()) :: t
  def no_result(function, run) do
    %__MODULE__{
      reason: :no_result,
      function: function,
      usage: run.usage,
      run: run,
      blame: :guest
    }
  end

  @impl true
  def message(%__MODULE__{reason: :no_contract, missing: [{name, missing}]}),
    do: "the module does not meet the contract #{inspect(name)}: it lacks #{listed(missing)}"

  def message(%__MODULE__{reason: :no_contract} = error) do
    lines =
      for {name, missing} <- error.missing, do: "\n  * #{inspect(name)} lacks #{listed(missing)}"

    "the module meets no contract of a plugin's (option :contract has others)#{lines}"
  end

  def message(%__MODULE__{reason: :no_entry} = error) do
    names = error.known |> Enum.take(@most_named) |> Enum.map_join(", ", &Shown.name/1)
    there = if names == "", do: "none is exported", else: "exported are #{names}"

    "which function is to be called? Name it, or give the manifest an entry: #{there}"
  end

  def message(%__MODULE__{reason: :input} = error),
    do: "#{of(error.codec)}cannot pass the input#{at(error.path)}: #{error.detail}"

  def message(%__MODULE__{reason: :output} = error),
    do: "#{of(error.codec)}cannot read the guest's output#{at(error.path)}: #{error.detail}"

  def message(%__MODULE__{reason: :refused} = error),
    do: "the plugin reports an error#{exit_code(error)}#{place(error)}: #{said(error.detail)}"

  def message(%__MODULE__{reason: :no_result} = error),
    do: "the plugin's #{Shown.quoted(error.function)} has given no result, but a null pointer"

  defp listed(missing), do: Enum.join(missing, "; ")

  defp of(nil), do: ""
  defp of(codec), do: "the codec #{inspect(codec)} "

  defp at(path) when path in [nil, ""], do: ""
  defp at(path), do: " at #{Shown.cut(path)}"

  defp exit_code(%{exit_code: nil}), do: ""
  defp exit_code(error), do: " and exited with #{error.exit_code}"

  defp place(%{file: nil}), do: ""
  defp place(error), do: " at #{Shown.name(error.file)}:#{error.line}:#{error.column}"

  defp said(text) when text in [nil, ""], do: "it says nothing"

  defp said(text),
    do: inspect(Shown.cut(text, 1_000), binaries: :as_strings, printable_limit: 1_000)
end
