defmodule Cybernetic.WASM.StoreError do
  @moduledoc """
  A store did not take, give or drop something: see `Cybernetic.WASM.Store`.

  ## Reasons

    * `:no_such_name`, `:no_such_version`, `:no_such_digest` - the store does not have it; `versions` has at most ten that it has
      of that name, the highest first; `nearest` is a name that it has and that is much alike, `path` the store's folder
    * `:invalid_reference` - neither a name, with a version or a requirement behind `@`, nor a digest
    * `:inexact` - what is to be dropped is one version, and none is named, or a requirement: `version`; `versions` has at most
      ten that there are, the highest first
    * `:invalid_name`, `:invalid_version` - what is put under such a name could not be found again
    * `:taken` - that version of the name has other bytes, those of `digest`
    * `:in_use` - what is to be dropped is a version's; `versions` has at most ten of them, as `"name@version"`
    * `:too_large` - `size` bytes, more than the `allowed` that were asked for
    * `:full` - `size` bytes would be in the store, more than the `allowed`, though nothing is left that may leave it
    * `:damaged` - what the store has is not what was put into it; it is not given. `Cybernetic.WASM.Store.verify/1` sets it
      aside.
    * `:missing` - the version is there, and its bytes are not, as after they were set aside; the same bytes can be put there again
    * `:not_ours` - the folder at `path` cannot be relied on; `detail` says why
    * `:busy` - others wrote to the store for as long as the call would wait
    * `:failed` - the system refused; `path` and `detail` say what

  `blame` is `:node` for `:full` and `:busy`, and where there is no space; `:host` for `:damaged`, `:missing` and for what else failed;
  otherwise `:caller`.
  """

  alias Cybernetic.WASM.Shown

  defexception [
    :reason,
    :name,
    :version,
    :digest,
    :versions,
    :nearest,
    :size,
    :allowed,
    :path,
    :detail,
    blame: :caller
  ]

  @typedoc "What went wrong with a store."
  @type t :: %__MODULE__{
          reason: atom,
          name: String.t() | nil,
          version: String.t() | nil,
          digest: String.t() | nil,
          versions: [String.t()] | nil,
          nearest: String.t() | nil,
          size: non_neg_integer | nil,
          allowed: non_neg_integer | nil,
          path: String.t() | nil,
          detail: String.t() | nil,
          blame: :caller | :host | :node
        }

  @nodes [:full, :busy]
  # As Erlang and Rust put it.
  @no_space ~w(space quota)
  # So many of the others are named.
  @most_named 10

  @impl true
  def exception(facts) do
    facts = Keyword.new(facts, &short/1)
    struct!(__MODULE__, [blame: whose(facts[:reason], facts[:detail])] ++ facts)
  end

  defp short({:versions, versions}) when is_list(versions),
    do: {:versions, Enum.take(versions, @most_named)}

  defp short({key, text}) when key in [:name, :version] and is_binary(text),
    do: {key, Shown.cut(text)}

  defp short(fact), do: fact

  defp whose(:failed, detail),
    do: if(String.contains?(String.downcase(detail), @no_space), do: :node, else: :host)

  defp whose(reason, _detail) when reason in [:damaged, :missing], do: :host
  defp whose(reason, _detail) when reason in @nodes, do: :node
  defp whose(_reason, _detail), do: :caller

  @doc false
  # The error itself, as a result.
  @spec refuse(atom, keyword) :: {:error, t}
  def refuse(reason, facts \\ []), do: {:error, exception([reason: reason] ++ facts)}

  @impl true
  def message(%__MODULE__{} = error), do: "store: " <> why(error)

  defp why(%{reason: :no_such_name} = error) do
    place = if error.path, do: " in #{Shown.path(error.path)}", else: ""
    hint = if error.nearest, do: " (did you mean #{error.nearest}?)", else: ""
    "there is no #{Shown.name(error.name)}#{place}#{hint}"
  end

  defp why(%{reason: :inexact, version: nil} = error) do
    "which version of #{Shown.name(error.name)} is to go? There are #{Enum.join(error.versions, ", ")}: say " <>
      "#{error.name}@#{List.first(error.versions)}, for example"
  end

  defp why(%{reason: :inexact} = error) do
    "#{Shown.name(error.version)} is not one version of #{Shown.name(error.name)}; there are #{Enum.join(error.versions, ", ")}"
  end

  defp why(%{reason: :no_such_version} = error) do
    "no version of #{Shown.name(error.name)} fits #{Shown.name(error.version)}; " <>
      "there are #{Enum.join(error.versions, ", ")}"
  end

  defp why(%{reason: :no_such_digest} = error), do: "nothing has the digest #{error.digest}"

  defp why(%{reason: :invalid_reference} = error) do
    ~s(#{Shown.quoted(error.name)} names nothing: expected "name", "name@1.2", "name@~> 1.2", "blake3:…" or "sha256:…")
  end

  defp why(%{reason: :invalid_name} = error) do
    "#{Shown.quoted(error.name)} is no name: parts of a-z, 0-9, ., _ and - with / between them, none with a dot at an end"
  end

  defp why(%{reason: :invalid_version} = error) do
    "#{Shown.quoted(error.version)} is no version: expected one such as 1.2.0 or 2.0.0-rc.1, without build metadata"
  end

  defp why(%{reason: :taken} = error) do
    "#{error.name}@#{error.version} is taken, by other bytes (#{error.digest || "damaged"}); put these under another version"
  end

  defp why(%{reason: :in_use} = error),
    do: "#{error.digest} is in use by #{Enum.join(error.versions, ", ")}"

  defp why(%{reason: :too_large} = error),
    do: "#{bytes(error.size)} are more than the #{bytes(error.allowed)} that are allowed"

  defp why(%{reason: :full} = error) do
    "it would have #{bytes(error.size)}, and #{bytes(error.allowed)} are allowed (configuration key :store_size); " <>
      "prune/1 and gc/1 make room"
  end

  defp why(%{reason: :damaged} = error) do
    "#{what(error)} is damaged, and is not given: set it aside with Store.verify/1 (mix wasm.store verify), then put the same " <>
      "bytes there again"
  end

  defp why(%{reason: :missing} = error) do
    "the bytes of #{what(error)} are gone: put the same ones there again, or delete the version and put others there"
  end

  defp why(%{reason: :not_ours} = error),
    do: "cannot rely on the folder #{Shown.path(error.path)}: #{error.detail}"

  defp why(%{reason: :busy}), do: "others were writing to it all the time (option :timeout)"

  defp why(%{reason: :failed, path: nil} = error), do: error.detail
  defp why(%{reason: :failed} = error), do: "#{Shown.path(error.path)}: #{error.detail}"

  defp what(%{name: nil, digest: digest}), do: digest
  defp what(%{name: name, version: nil}), do: name
  defp what(error), do: "#{error.name}@#{error.version}"

  defp bytes(count), do: "#{Shown.number(count)} bytes"
end
