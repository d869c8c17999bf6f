defmodule Cybernetic.WASM.Loader.Sources do
  @moduledoc false
  # All kinds of sources: which module implements a source, and what it is asked. Somebody else's module may do anything in the
  # middle of a load, and is held to what a source gives.

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{Error, LoadError, Shown}
  alias Cybernetic.WASM.Loader.{Source, Sources}

  @typedoc "The module that implements a source, and its argument."
  @type t :: {module, term}

  # The first word of a source, what implements it, and how many terms may follow.
  @forms [
    bytes: {Sources.Bytes, [1]},
    priv: {Sources.Priv, [2]},
    store: {Sources.Store, [1]},
    url: {Sources.URL, [1, 2]},
    oci: {Sources.OCI, [1, 2]}
  ]
  @own [Sources.File | for({_kind, {module, _counts}} <- @forms, do: module)]
  @forms_in_words ~S|a path, {:bytes, binary}, {:priv, application, path}, {:store, reference}, {:url, url}, {:oci, reference}, or {Module, term} of a Cybernetic.WASM.Loader.Source|

  # Of what a source names itself, and of what lies beside a module.
  @longest_text 4_096
  @longest_fact 65_536

  @doc "The module that implements a source, and its argument."
  @spec of!(Source.t()) :: t
  def of!(path) when is_binary(path), do: {Sources.File, path}

  def of!(given) when is_tuple(given) and tuple_size(given) >= 2 do
    [kind | arguments] = Tuple.to_list(given)

    case List.keyfind(@forms, kind, 0) do
      {_kind, {module, counts}} -> {module, argument!(arguments, counts, given)}
      nil -> custom!(given)
    end
  end

  def of!(given), do: none!(given)

  defp argument!(arguments, counts, given) do
    if length(arguments) in counts, do: unwrapped(arguments), else: none!(given)
  end

  defp unwrapped([argument]), do: argument
  defp unwrapped(arguments), do: List.to_tuple(arguments)

  defp custom!({module, argument} = given) when is_atom(module) do
    if Code.ensure_loaded?(module) and function_exported?(module, :fetch, 2) and
         function_exported?(module, :describe, 1),
       do: {module, argument},
       else: none!(given)
  end

  defp custom!(given), do: none!(given)

  @spec none!(term) :: no_return
  defp none!(given) do
    raise ArgumentError,
          "a module is loaded from #{@forms_in_words}, got: #{kind(given)}#{instead(given)}"
  end

  defp instead({:name, _name}),
    do: "; a name stands for what is loaded already: Cybernetic.WASM.Runtime.module/1 gives that"

  defp instead({kind, _argument}) when kind in [:path, :file], do: "; a path is given as it is"
  defp instead({:http, _url}), do: "; a URL is given as {:url, url}"
  defp instead({:https, _url}), do: "; a URL is given as {:url, url}"
  defp instead(module) when is_loaded(module), do: "; that is loaded already"
  defp instead(%URI{}), do: "; a URL is given as {:url, url}, with a text"
  defp instead([_ | _]), do: "; a path is a text, in double quotes"

  defp instead({module, _argument}) when is_atom(module) do
    case Atom.to_string(module) do
      "Elixir." <> _ -> "; #{inspect(module)} does not implement that, or is not compiled"
      _kind -> ""
    end
  end

  defp instead(_other), do: ""

  defp kind(given) when is_tuple(given) and tuple_size(given) > 0 and is_atom(elem(given, 0)),
    do: "{#{inspect(elem(given, 0))}, …}, a tuple of #{tuple_size(given)}"

  defp kind(given), do: Shown.kind(given)

  @doc "What it gives."
  @spec fetch(t, Source.opts()) :: {:ok, binary, Source.facts()} | {:error, Error.t()}
  def fetch({module, argument}, opts) when module in @own, do: module.fetch(argument, opts)
  def fetch({module, argument}, opts), do: fetch_from(module, argument, opts)

  # Somebody else's code, in the middle of a load.
  defp fetch_from(module, argument, opts) do
    argument |> module.fetch(opts) |> answer(opts)
  rescue
    error -> failed("it raised #{inspect(error.__struct__)}, #{words(error)}")
  catch
    :throw, thrown -> failed("it threw #{Shown.kind(thrown)}")
    :exit, reason -> failed("it exited: #{Shown.term(reason)}")
  end

  defp words(error), do: error |> Exception.message() |> Shown.quoted()

  defp answer({:ok, bytes, facts}, opts) when is_binary(bytes) and is_map(facts) do
    case Enum.find(facts, &(not fact?(&1))) do
      nil when byte_size(bytes) <= opts.max_size -> {:ok, bytes, Map.delete(facts, :digests)}
      nil -> {:error, Source.too_large(byte_size(bytes), opts)}
      {key, _value} -> failed("it gave a fact that is none: #{Shown.term(key)}")
    end
  end

  defp answer({:error, %_{__exception__: true, blame: _} = error}, _opts), do: {:error, error}
  defp answer({:error, reason}, _opts), do: failed("it gave an error: #{Shown.kind(reason)}")
  defp answer(other, _opts), do: failed("it gave #{Shown.kind(other)}")

  defp fact?({key, text}) when key in [:name, :version],
    do: is_binary(text) and byte_size(text) <= @longest_text and String.valid?(text)

  defp fact?({key, text}) when key in [:signature, :manifest],
    do: is_binary(text) and byte_size(text) <= @longest_fact

  defp fact?({:digests, _digests}), do: true
  defp fact?(_other), do: false

  defp failed(detail),
    do: {:error, %LoadError{reason: :source_failed, blame: :host, detail: detail}}

  @doc "What errors call it."
  @spec describe(t) :: String.t() | :bytes
  def describe({module, argument}) do
    case module.describe(argument) do
      :bytes -> :bytes
      text when is_binary(text) -> Shown.cut(text, @longest_text)
      _other -> inspect(module)
    end
  rescue
    error ->
      if module in @own, do: reraise(error, __STACKTRACE__), else: inspect(module)
  end

  @doc "The name that it has for the module."
  @spec name(t) :: String.t() | nil
  def name(source) do
    name = optional(source, :name, nil)
    if is_binary(name) and String.valid?(name), do: name
  end

  @doc "Whether others may change what it names."
  @spec mutable?(t) :: boolean
  def mutable?(source), do: optional(source, :mutable?, false)

  @doc "Whether it comes by way of a network."
  @spec remote?(t) :: boolean
  def remote?(source), do: optional(source, :remote?, false)

  @doc "All that an operator's pin for it may stand under."
  @spec called(t) :: [String.t() | :bytes]
  def called(source) do
    more = optional(source, :pinned_as, [])
    [describe(source)] ++ Enum.filter(more, &is_binary/1) ++ List.wrap(path(source))
  end

  @doc "Where its signature is looked for, without secrets; `nil` where that is nowhere."
  @spec signature_at(t) :: String.t() | nil
  def signature_at({Sources.URL, given}), do: Sources.URL.signature_at(given)
  def signature_at(source), do: with(path when path != nil <- path(source), do: path <> ".sig")

  @doc "Its path, where it is a file."
  @spec path(t) :: Path.t() | nil
  def path(source), do: optional(source, :path, nil)

  defp optional({module, argument}, function, default) do
    if Code.ensure_loaded?(module) and function_exported?(module, function, 1),
      do: apply(module, function, [argument]),
      else: default
  end
end
