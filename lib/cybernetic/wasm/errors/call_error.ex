defmodule Cybernetic.WASM.CallError do
  @moduledoc """
  The caller's mistake; the guest has not run, or not gone wrong.

  ## Reasons

    * `:no_such_export` - `export` is not there; `known` names functions that are
    * `:wrong_export_kind` - `export` is a `given`, not an `expected`
    * `:no_command` - the module exports `_start`, but no function that takes and gives nothing: it is no program
    * `:arity` - `given` values where `signature` wants `expected`
    * `:ambiguous_export` - several functions of a component are called `export`; `known` are their whole names
    * `:type` - value `index` (from 0) is `given`, `expected` says what the type takes; of a component's values `path` says where
      it stands: `argument 2 ("opts").filter.lt`
    * `:component` - it is a component, which has not what a module has; `detail` says what
    * `:reentrant` - the component's function `export` was called while it waits for the host function `detail`
    * `:own_handle` - value `index` is, or holds, the handle of the instance that it is given to, or a context of one of its host
      calls, which may be in a closure: the guest would keep itself alive for ever
    * `:out_of_bounds` - `offset` and `length` leave a memory of `size` bytes
    * `:no_memory` - the module exports no memory named `export`
    * `:no_such_element` - the table `export` has `size` elements, and none at `index`
    * `:no_function` - the element of the table `export` at `index` is null, or no function
    * `:other_instance` - a function reference is another instance's, or from before a reset
    * `:cannot_grow` - the memory cannot have `pages` more; `maximum` is its own maximum in pages, or `nil`
    * `:unterminated` - no zero byte ends the string at `offset` within `length` bytes
    * `:busy` - another call runs on the instance, or another process drives the execution
    * `:poisoned` - an earlier call on the instance did not end well: `detail` is the first line of how, or `nil` where that
      is not known. `Cybernetic.WASM.Instance.reset/2` makes the instance usable again.
    * `:closed` - the instance was closed
    * `:no_such_member` - the guest has no instance with the number `member`
    * `:host_gone` - the guest called a host function of a linked instance whose handle nobody holds any more
    * `:no_snapshot` - no snapshot can be made of the instance; `detail` says why
    * `:no_hook` - `export` cannot be an `on_fork:` hook: it is of the type `given`, and must be of `expected`
    * `:not_for_pool` - the module does not fit the pooling allocator that the target instance was made in: a slot has 4
      memories and 4 tables, of 4 GiB and of 100,000 elements. An instance that is made with `allocation: :on_demand` lives
      outside of it.
    * `:other_engine` - the module was loaded with other options than the instance that it is to join: `module_options` and
      `instance_options` say which
    * `:no_directory` - the directory `host_path`, granted as `guest_path`, cannot be opened; `detail` is the system's reason
    * `:other_grants` - linked modules share one system interface, and this one's sandbox grants other things than that of
      the instance that it is to join
    * `:not_by_abi` - the function `export` cannot be called by the ABI: it is of the type `given`, and must have `expected`
    * `:no_allocator` - an argument is bytes, and the ABI has no `:alloc`
    * `:zero_byte` - value `index` is to be a C string, and has a zero byte at `offset`
    * `:no_such_name` - no module is loaded under `name`; `known` has the names that are most like it, and `detail` what is wrong
      with it where it can be none
    * `:no_such_version` - `name` has no version that is `expected`; `known` has those that it has
    * `:current_version` - the version `given` of `name` is the current one, or has a share of its calls: promote another first
    * `:nothing_before` - no version of `name` was current before this one
    * `:stale_context` - a host function's context was used after its call was over
  """

  defexception [
    :reason,
    :export,
    :known,
    :expected,
    :given,
    :signature,
    :index,
    :path,
    :offset,
    :length,
    :size,
    :pages,
    :maximum,
    :member,
    :module_options,
    :instance_options,
    :host_path,
    :guest_path,
    :name,
    :detail,
    blame: :caller
  ]

  @typedoc "The caller's mistake. What a reason has no use for is `nil`."
  @type t :: %__MODULE__{
          reason: atom,
          export: String.t() | nil,
          known: [String.t()] | nil,
          expected: String.t() | non_neg_integer | nil,
          given: String.t() | non_neg_integer | nil,
          signature: String.t() | nil,
          index: non_neg_integer | nil,
          path: String.t() | nil,
          offset: non_neg_integer | nil,
          length: non_neg_integer | nil,
          size: non_neg_integer | nil,
          pages: non_neg_integer | nil,
          maximum: non_neg_integer | nil,
          member: non_neg_integer | nil,
          module_options: String.t() | nil,
          instance_options: String.t() | nil,
          host_path: String.t() | nil,
          guest_path: String.t() | nil,
          name: String.t() | nil,
          detail: String.t() | nil,
          blame: :caller
        }

  alias Cybernetic.WASM.Shown

  @most_named 20

  @impl true
  def message(%__MODULE__{reason: :no_such_export, export: "_start"} = error) do
    "the module is no command: no function is exported as \"_start\"#{known(error.known, "function")}"
  end

  def message(%__MODULE__{reason: :no_such_export} = error) do
    kind = error.expected || "function"
    "no #{kind} is exported as #{Shown.quoted(error.export)}#{known(error.known, kind)}"
  end

  def message(%__MODULE__{reason: :ambiguous_export} = error) do
    "several are exported as #{Shown.quoted(error.export)}#{known(error.known, "function")}"
  end

  def message(%__MODULE__{reason: :component} = error), do: "it is a component: #{error.detail}"

  def message(%__MODULE__{reason: :reentrant} = error) do
    "#{Shown.quoted(error.export)} cannot be called while the component waits for #{Shown.quoted(error.detail)}: " <>
      "a component is not called again by what it has called, unless it was called with reentrant: true"
  end

  def message(%__MODULE__{reason: :wrong_export_kind} = error) do
    "the export #{Shown.quoted(error.export)} is a #{error.given}, not a #{error.expected}"
  end

  def message(%__MODULE__{reason: :no_command} = error) do
    "the module is no command: what it exports as #{error.export} is no function that takes and gives nothing"
  end

  def message(%__MODULE__{reason: :arity} = error) do
    "expected #{error.expected} value(s) for #{error.signature}, got #{error.given}"
  end

  def message(%__MODULE__{reason: :type, path: path} = error) when is_binary(path),
    do: "#{path}: expected #{error.expected}, got #{error.given}"

  def message(%__MODULE__{reason: :type} = error) do
    "the value at index #{error.index} must be #{error.expected}, got: #{error.given}#{as_text(error)}"
  end

  def message(%__MODULE__{reason: :own_handle} = error) do
    "the value at index #{error.index} holds the handle of the instance that it is given to, or the context of its host call, " <>
      "and would keep it alive for ever: give it an index, a name or a pid instead"
  end

  def message(%__MODULE__{reason: :out_of_bounds} = error) do
    [length, offset, size] = Enum.map([error.length, error.offset, error.size], &Shown.number/1)
    "#{length} bytes at offset #{offset} are outside a memory of #{size} bytes"
  end

  def message(%__MODULE__{reason: :no_memory} = error),
    do: "no memory is exported as #{Shown.quoted(error.export)}"

  def message(%__MODULE__{reason: :busy}),
    do: "busy: another call is running (with wait: a call stands in line for its turn)"

  def message(%__MODULE__{reason: :poisoned} = error) do
    how = if error.detail, do: ": #{error.detail}", else: ""

    "the instance is poisoned: an earlier call did not end well#{how} (Instance.reset/2 makes it anew)"
  end

  def message(%__MODULE__{reason: :closed}), do: "the instance is closed"

  def message(%__MODULE__{reason: :no_such_member} = error),
    do: "the guest has no instance with the number #{error.member}"

  def message(%__MODULE__{reason: :host_gone}) do
    "the guest called a host function of a linked instance that is gone: hold on to its handle"
  end

  def message(%__MODULE__{reason: :no_snapshot} = error),
    do: "no snapshot can be made: #{error.detail}"

  def message(%__MODULE__{reason: :no_hook} = error) do
    "#{Shown.quoted(error.export)} cannot be called in each fork: it is #{error.given}, and a hook is #{error.expected}"
  end

  def message(%__MODULE__{reason: :cannot_grow, maximum: nil} = error),
    do: "the memory cannot grow by #{error.pages} pages"

  def message(%__MODULE__{reason: :cannot_grow} = error),
    do: "the memory cannot grow by #{error.pages} pages: it may have #{error.maximum}"

  def message(%__MODULE__{reason: :no_such_element} = error) do
    "the table #{Shown.quoted(error.export)} has #{error.size} elements, and none at #{error.index}"
  end

  def message(%__MODULE__{reason: :no_function} = error),
    do: "the table #{Shown.quoted(error.export)} has no function at #{error.index}"

  def message(%__MODULE__{reason: :other_instance}),
    do: "the function reference is another instance's, or from before a reset"

  def message(%__MODULE__{reason: :unterminated} = error) do
    "no zero byte ends the string at offset #{error.offset} within #{error.length} bytes"
  end

  def message(%__MODULE__{reason: :not_for_pool}) do
    "the module does not fit the pooling allocator that the target instance was made in: " <>
      "make that one with allocation: :on_demand"
  end

  def message(%__MODULE__{reason: :other_engine} = error) do
    "a module joins an instance that was loaded with the same options; this one has " <>
      "#{error.module_options}, the instance #{error.instance_options}"
  end

  def message(%__MODULE__{reason: :no_directory} = error) do
    "the directory #{error.host_path}, granted as #{error.guest_path}, cannot be opened: #{error.detail}"
  end

  def message(%__MODULE__{reason: :other_grants}) do
    "linked modules share one WASI: this one's sandbox grants other things than that of the instance it is to join"
  end

  def message(%__MODULE__{reason: :stale_context}) do
    "this context's host call is over, or it is not the innermost one: a context is good only inside its host function"
  end

  def message(%__MODULE__{reason: :not_by_abi} = error) do
    "the function #{Shown.quoted(error.export)} cannot be called by the ABI: it is #{error.given}, and must have #{error.expected}"
  end

  def message(%__MODULE__{reason: :zero_byte} = error),
    do: "value #{error.index} is to be a C string, and has a zero byte at #{error.offset}"

  def message(%__MODULE__{reason: :no_allocator}) do
    "there is no room for bytes in the guest: the ABI names no function that makes it (option :alloc)"
  end

  def message(%__MODULE__{reason: :no_such_name} = error) do
    "no module is loaded under the name #{Shown.quoted(error.name)}: #{error.detail || first(error.name)}#{loaded(error.known)}"
  end

  def message(%__MODULE__{reason: :no_such_version} = error) do
    "no version of #{Shown.quoted(error.name)} is #{error.expected}#{loaded(error.known)}"
  end

  def message(%__MODULE__{reason: :current_version} = error) do
    "version #{error.given} of #{Shown.quoted(error.name)} is current, or has a share of its calls: promote another first"
  end

  def message(%__MODULE__{reason: :nothing_before} = error),
    do: "no version of #{Shown.quoted(error.name)} was current before this one"

  def message(%__MODULE__{reason: reason} = error), do: "#{reason} #{error.expected}"

  # Text for a pointer: the first mistake of many.
  defp as_text(%{expected: "an i" <> _, given: "a binary of" <> _}),
    do: "; text is passed through the guest's memory, with the option :abi: guides/text.md"

  defp as_text(_error), do: ""

  defp known([], kind), do: "; the module exports no #{kind}"
  defp known(nil, _kind), do: ""

  defp known(names, _kind) do
    "; exported are: #{some(names)}"
  end

  # To what runs, a text is a name.
  defp first(name) do
    if String.ends_with?(name, [".wasm", ".wat"]) or String.contains?(name, "://"),
      do:
        "load it first, with Cybernetic.WASM.Runtime.load_module/2, and call the module that this gives",
      else: "load it first, with Cybernetic.WASM.Runtime.load_module/2 and its option :name"
  end

  defp loaded([]), do: ""
  defp loaded(names), do: "; loaded are: #{some(names)}"

  defp some(names) do
    {named, others} = Enum.split(names, @most_named)
    more = if others == [], do: "", else: ", and more"
    "#{Enum.map_join(named, ", ", &Shown.name/1)}#{more}"
  end
end
