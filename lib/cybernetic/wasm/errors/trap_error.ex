defmodule Cybernetic.WASM.TrapError do
  @moduledoc """
  The guest trapped: it did what the WebAssembly specification forbids.

    * `code` - `:unreachable`, `:memory_out_of_bounds`, `:table_out_of_bounds`, `:integer_divide_by_zero`,
      `:integer_overflow`, `:invalid_conversion_to_integer`, `:indirect_call_to_null`, `:indirect_call_type_mismatch`,
      `:null_reference`, `:array_out_of_bounds`, `:cast_failure`, `:allocation_too_large`, `:uncaught_exception`,
      `:unaligned_atomic`, `:interrupt` or `:other`; `:invalid_value`: a component passed what is no value of its type, such as
      a string that is no UTF-8; `:cannot_enter_component`: a component was called that had failed; `:wasi`: a function of WASI was called with a bad pointer;
      `:unknown_import`: an import was called that nothing was given for, with `unknown_imports: :trap`; `:exit`: the guest
      ended itself
    * `exit_code` - of an `:exit`
    * `import` - of an `:unknown_import`, `{module, name}`
    * `unstarted` - whether the module is a program whose `_start` had not been called in this instance: its functions may
      need what that sets up (see `Cybernetic.WASM.Instance`)
    * `detail` - Wasmtime's text for it
    * `exception` - of an `:uncaught_exception`: a map with its `tag`, the name that the guest's first instance exports it
      by, or `nil`, and its `payload`, texts such as `"i32 42"`, the first eight; `nil` otherwise
    * `frames` - the WebAssembly stack, innermost first: maps with `function` (its index), `name` (from the module's name
      section, or `nil`; of Rust and C++ as it stands in the source, without their compilers' mangling) and `offset` (of the
      instruction, in bytes, in the module)
    * `usage` - what the call had used, a `Cybernetic.WASM.Usage`
    * `run` - a `Cybernetic.WASM.Run` with the output and the denials up to then
  """

  defexception [
    :code,
    :exit_code,
    :import,
    :detail,
    :exception,
    :usage,
    :run,
    unstarted: false,
    frames: [],
    blame: :guest
  ]

  @typedoc "One frame of the guest's stack."
  @type frame :: %{
          function: non_neg_integer,
          name: String.t() | nil,
          offset: non_neg_integer | nil
        }

  @typedoc "A trap."
  @type t :: %__MODULE__{
          code: atom,
          exit_code: non_neg_integer | nil,
          import: {String.t(), String.t()} | nil,
          unstarted: boolean,
          detail: String.t(),
          exception: %{tag: String.t() | nil, payload: [String.t()]} | nil,
          frames: [frame],
          usage: Cybernetic.WASM.Usage.t() | nil,
          run: Cybernetic.WASM.Run.t() | nil,
          blame: :guest
        }

  alias Cybernetic.WASM.Shown

  @most_frames 10
  @most_said 300

  @impl true
  def message(%__MODULE__{code: :exit} = error), do: "the guest exited with #{error.exit_code}"

  def message(%__MODULE__{} = error) do
    {frames, others} = Enum.split(error.frames, @most_frames)
    more = if others == [], do: "", else: "\n  and #{length(others)} more"

    "the guest trapped: #{error.detail}#{thrown(error.exception)}#{last_words(error.run)}" <>
      "#{start_first(error)}#{Enum.map(frames, &line/1)}#{more}"
  end

  defp start_first(%{unstarted: true}) do
    "; the module is a program whose _start has not run in this instance: if its functions need that, " <>
      "make one with Instance.new/2 and call :start first"
  end

  defp start_first(_error), do: ""

  defp thrown(nil), do: ""
  defp thrown(%{tag: nil} = thrown), do: ": a tag without a name#{payload(thrown)}"
  defp thrown(thrown), do: ": tag #{Shown.quoted(thrown.tag)}#{payload(thrown)}"

  defp payload(%{payload: []}), do: ""
  defp payload(%{payload: values}), do: " with #{Enum.join(values, ", ")}"

  # What a program says before it aborts, such as a panic's text.
  defp last_words(%{stderr: stderr}) when stderr != "" do
    said = binary_part(stderr, byte_size(stderr), -min(byte_size(stderr), @most_said))
    "; it said to standard error: #{inspect(said, binaries: :as_strings)}"
  end

  defp last_words(_run), do: ""

  defp line(frame), do: "\n  in #{name(frame)}#{at(frame.offset)}"

  defp name(%{name: nil, function: index}), do: "function #{index}"
  defp name(%{name: name}), do: Shown.name(name)

  defp at(nil), do: ""
  defp at(offset), do: " at offset #{offset}"
end
