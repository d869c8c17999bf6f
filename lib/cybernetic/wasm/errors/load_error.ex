defmodule Cybernetic.WASM.LoadError do
  @moduledoc """
  A module could not be loaded.

  ## Reasons

    * `:not_found`, `:not_a_file`, `:unreadable` - the path; `detail` has the operating system's word
    * `:fetch_failed` - what is fetched could not be had; `detail` says why. `status` is the server's, where that is why, and
      `cause` a `Cybernetic.WASM.HTTPError`, where there is one. `blame` is `:node` for what may go well a little later.
    * `:denied` - the network rules do not allow where it is, or where that sends on to; with `detail` and `cause`, too
    * `:outside` - the path leads out of the folder that it has to stay in, which `detail` names
    * `:too_large` - `size` bytes, as far as they are known, `allowed` are the ceiling
    * `:unpinned` - others may change what the source names, and there is no pin for it; `detail` is what a pin stands under
      that no load has used, where that is much alike
    * `:offline` - the source comes by way of a network, and nothing is to be fetched
    * `:digest_mismatch` - the digest is not the `expected` one of the `pin` but `found`; `pin` is `:config`, `:option`,
      `:manifest`, of which `detail` has the place, or `:reference`, that of an OCI artifact
    * `:unsigned` - there is no signature, and one is needed; `detail` says where it was looked for
    * `:bad_signature` - the file of signatures cannot be read, or is none; `detail` says why
    * `:untrusted` - the signatures are for another module or manifest, with the digest `expected` in the place of `found`; or
      `signed` trusted keys have signed where `threshold` have to; `detail` says more
    * `:not_wasm` - neither the binary nor the text format; `detail` says what was found
    * `:invalid` - malformed or invalid at byte `offset`; `detail` has the validator's words
    * `:invalid_text` - the text format, at `line` and `column`
    * `:unsupported_feature` - needs `feature`, at byte `offset`. It was switched off if it is one of those that the option
      `:features` of a load can switch; otherwise no option turns it on.
    * `:compiler_failed` - the compiler panicked, or its process died, and the node's log has a line with the module's digest;
      `detail` says what is known, and `blame` is `:host`
    * `:source_failed` - the source, which is not the library's, raised or gave what no source gives; `detail` says what, and
      `blame` is `:host`
    * `:unexpected` - `exports` are not what the host expects, each with its `name`, what is `expected`, and what was `found` or
      `nil`
    * `:unsupported` - valid, but beyond what the compiler takes; `detail` says what
    * `:version_taken` - the `version` of `name` is there, and is of other bytes, or was loaded otherwise
    * `:older_version` - a reload whose `version` of `name` is lower than the current one, `found`
    * `:narrowed` - a reload that would take exports away, or give them other types: `problems` names them
    * `:widened` - a reload that asks for more than is granted: `problems` names each import and grant
    * `:smoke_failed` - the smoke test of a reload; `detail` says how

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
    :status,
    :cause,
    :pin,
    :expected,
    :found,
    :signed,
    :threshold,
    :exports,
    :name,
    :version,
    :problems,
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
          status: 100..599 | nil,
          cause: Cybernetic.WASM.HTTPError.t() | nil,
          pin: :config | :option | :manifest | :reference | nil,
          expected: String.t() | nil,
          found: String.t() | nil,
          signed: non_neg_integer | nil,
          threshold: pos_integer | nil,
          exports: [%{name: String.t(), expected: String.t(), found: String.t() | nil}] | nil,
          name: String.t() | nil,
          version: String.t() | nil,
          problems: [String.t()] | nil,
          blame: :caller | :host | :node
        }

  @most_named 20
  @bytes_as_path "no such file; a module that is at hand already is loaded as {:bytes, binary}"

  @impl true
  def message(%__MODULE__{} = error), do: "cannot load #{source(error.source)}: #{why(error)}"

  defp source(""), do: "an empty path"
  defp source(path) when is_binary(path), do: Shown.path(path)
  defp source(_bytes), do: "the module"

  # The first mistake of many: `load_module(File.read!(path))`.
  defp why(%{reason: :not_found, source: <<0, "asm", _::binary>>}), do: @bytes_as_path
  defp why(%{reason: :not_found, source: "(module" <> _}), do: @bytes_as_path
  defp why(%{reason: :not_found, source: "(component" <> _}), do: @bytes_as_path
  defp why(%{reason: :not_found, detail: nil}), do: "no such file"
  defp why(%{reason: :not_found} = error), do: error.detail
  defp why(%{reason: reason} = error) when reason in [:fetch_failed, :denied], do: error.detail
  defp why(%{reason: :outside} = error), do: "the path leads out of #{error.detail}"
  defp why(%{reason: :not_a_file} = error), do: "not a regular file (#{error.detail})"
  defp why(%{reason: :unreadable} = error), do: "cannot be read (#{error.detail})"

  defp why(%{reason: :too_large} = error) do
    "#{bytes(error.size)}, at most #{Shown.number(error.allowed)} are allowed (option :max_module_size); " <>
      "debug sections can be stripped"
  end

  defp why(%{reason: :unpinned} = error) do
    other = if error.detail, do: " (there is one for #{Shown.path(error.detail)})", else: ""

    "others may change what it names, and there is no pin for it#{other}: give its digest as option :digest, or as an " <>
      "operator's pin in the configuration; allow_unpinned: true takes whatever comes"
  end

  defp why(%{reason: :offline}) do
    "it is not at hand, and nothing is to be fetched (offline: true): what has a pin, Cybernetic.WASM.Store.put/2 puts there " <>
      "beforehand"
  end

  defp why(%{reason: :digest_mismatch} = error),
    do: "#{whose(error)} is #{error.expected}, and the bytes have #{error.found}"

  defp why(%{reason: :unsigned} = error) do
    looked = if error.detail, do: ": #{error.detail}", else: ""

    "it has no signature, and one is needed (option :trust)#{looked}; mix wasm.sign makes one, and option :signature says " <>
      "where it lies"
  end

  defp why(%{reason: :bad_signature} = error),
    do: "its signature cannot be used: #{error.detail}"

  defp why(%{reason: :untrusted, threshold: nil} = error) do
    "the signature is not for it: #{error.detail}, #{error.expected || "none"} in the place of #{error.found || "none"}"
  end

  defp why(%{reason: :untrusted} = error) do
    "#{error.signed} of the trusted keys have signed it, and #{error.threshold} have to; signatures #{error.detail}"
  end

  defp why(%{reason: :unexpected} = error) do
    {named, others} = Enum.split(error.exports, @most_named)
    more = if others == [], do: "", else: "; and #{length(others)} more"
    "not what is expected: #{Enum.map_join(named, "; ", &export/1)}#{more}"
  end

  defp why(%{reason: :not_wasm} = error), do: "not WebAssembly: #{error.detail}"

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

  defp why(%{reason: :version_taken} = error) do
    "version #{error.version} of #{Shown.quoted(error.name)} is there, and is another module: give another version"
  end

  defp why(%{reason: :older_version} = error) do
    "version #{error.version} of #{Shown.quoted(error.name)} is older than #{error.found}, which is current: current: true " <>
      "puts it there all the same, current: false beside it, and rollback/2 or promote/3 go back to what is loaded already"
  end

  defp why(%{reason: :narrowed} = error),
    do: "it lacks what the current version has: #{listed(error.problems)}"

  defp why(%{reason: :widened} = error) do
    "it asks for more than is granted: #{listed(error.problems)} (allow: :widen lets it through)"
  end

  defp why(%{reason: :smoke_failed} = error), do: "the smoke test failed: #{error.detail}"

  defp whose(%{pin: :config}), do: "the pin that is configured"
  defp whose(%{pin: :option}), do: "the digest that was asked for"
  defp whose(%{pin: :reference}), do: "the digest that the reference leads to"
  defp whose(%{detail: nil}), do: "the digest in the manifest"
  defp whose(%{detail: place}), do: "the digest in the manifest (#{Shown.path(place)})"

  defp export(%{found: nil} = export),
    do: "#{Shown.name(export.name)} must be #{export.expected}, and is not exported"

  defp export(export),
    do: "#{Shown.name(export.name)} must be #{export.expected}, and is #{export.found}"

  defp bytes(nil), do: "too many bytes"
  defp bytes(size), do: "#{Shown.number(size)} bytes"

  @switched Enum.map(Features.names(), &Atom.to_string/1)

  defp needed(feature) when feature in @switched, do: "the feature #{feature}, which is off"
  # Where no single one is enough.
  defp needed("several proposals"), do: "several features, of which some are not supported"
  defp needed(feature), do: "the feature #{feature}, which is not supported"

  defp listed(problems) do
    {named, others} = Enum.split(problems, @most_named)
    Enum.join(named, "; ") <> if(others == [], do: "", else: "; and more")
  end

  defp instead("legacy_exceptions"), do: "; compile with exnref exceptions"
  defp instead(_feature), do: ""
end
