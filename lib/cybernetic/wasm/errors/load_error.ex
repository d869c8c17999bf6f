defmodule Cybernetic.WASM.LoadError do
  @moduledoc """
  A module could not be loaded.

  ## Reasons

    * `:not_found`, `:not_a_file`, `:unreadable` - the path; `detail` has the operating system's word
    * `:outside` - the path leads out of the folder that it has to stay in, which `detail` names
    * `:too_large` - `size` bytes, `allowed` are the ceiling
    * `:not_wasm` - neither the binary nor the text format; `detail` says what was found
    * `:component` - a component, such as a program for WASI preview 2; only modules are taken
    * `:invalid` - malformed or invalid at byte `offset`; `detail` has the validator's words
    * `:invalid_text` - the text format, at `line` and `column`
    * `:unsupported_feature` - needs `feature`, at byte `offset`. It was switched off if it is one of those that the option
      `:features` of a load can switch; otherwise no option turns it on.
    * `:compiler_failed` - the compiler panicked, or its process died, and the node's log has a line with the module's digest;
      `detail` says what is known, and `blame` is `:host`
    * `:source_failed` - the source, which is not the library's, raised or gave what no source gives; `detail` says what, and
      `blame` is `:host`
    * `:unsupported` - valid, but beyond what the compiler takes; `detail` says what

  `source` is what the source calls itself: a path, of which at most 4,096 bytes are kept, or `:bytes`, for example. `blame` is
  `:caller` where nothing else is said.
  """

  alias Cybernetic.WASM.{Features, Shown}

  defexception [
    :reason,
    :source,
    :detail,
    :offset,
    :line,
    :column,
    :feature,
    :size,
    :allowed,
    blame: :caller
  ]

  @typedoc "Why a module was refused."
  @type t :: %__MODULE__{
          reason: atom,
          source: String.t() | :bytes | nil,
          detail: String.t() | nil,
          offset: non_neg_integer | nil,
          line: pos_integer | nil,
          column: pos_integer | nil,
          feature: String.t() | nil,
          size: non_neg_integer | nil,
          allowed: pos_integer | nil,
          blame: :caller | :host
        }

  @bytes_as_path "no such file; a module that is at hand already is loaded as {:bytes, binary}"

  @impl true
  def message(%__MODULE__{} = error), do: "cannot load #{source(error.source)}: #{why(error)}"

  defp source(path) when is_binary(path), do: Shown.path(path)
  defp source(_bytes), do: "the module"

  # The first mistake of many: `load_module(File.read!(path))`.
  defp why(%{reason: :not_found, source: <<0, "asm", _::binary>>}), do: @bytes_as_path
  defp why(%{reason: :not_found, source: "(module" <> _}), do: @bytes_as_path
  defp why(%{reason: :not_found, detail: nil}), do: "no such file"
  defp why(%{reason: :not_found} = error), do: error.detail
  defp why(%{reason: :outside} = error), do: "the path leads out of #{error.detail}"
  defp why(%{reason: :not_a_file} = error), do: "not a regular file (#{error.detail})"
  defp why(%{reason: :unreadable} = error), do: "cannot be read (#{error.detail})"

  defp why(%{reason: :too_large} = error) do
    "#{Shown.number(error.size)} bytes, at most #{Shown.number(error.allowed)} are allowed (option :max_module_size); " <>
      "debug sections can be stripped"
  end

  defp why(%{reason: :not_wasm} = error), do: "not WebAssembly: #{error.detail}"

  defp why(%{reason: :component}),
    do: "it is a component, and only modules can be loaded: compile for wasm32-wasip1"

  defp why(%{reason: :invalid} = error), do: "invalid at offset #{error.offset}: #{error.detail}"

  defp why(%{reason: :invalid_text} = error),
    do: "line #{error.line}, column #{error.column}: #{error.detail}"

  defp why(%{reason: :unsupported_feature} = error) do
    "it needs #{needed(error.feature)} " <>
      "(offset #{error.offset}: #{error.detail})#{instead(error.feature)}"
  end

  defp why(%{reason: :source_failed} = error), do: "the source failed: #{error.detail}"
  defp why(%{reason: :compiler_failed} = error), do: "the compiler failed: #{error.detail}"
  defp why(%{reason: :unsupported} = error), do: error.detail

  @switched Enum.map(Features.names(), &Atom.to_string/1)

  defp needed(feature) when feature in @switched, do: "the feature #{feature}, which is off"
  # Where no single one is enough.
  defp needed("several proposals"), do: "several features, of which some are not supported"
  defp needed(feature), do: "the feature #{feature}, which is not supported"

  defp instead("legacy_exceptions"), do: "; compile with exnref exceptions"
  defp instead(_feature), do: ""
end
