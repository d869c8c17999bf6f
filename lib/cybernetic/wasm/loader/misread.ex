defmodule Cybernetic.WASM.Loader.Misread do
  @moduledoc false
  # To a door that loads, a text is a path. One that leads to no file was often meant as something else: a URL, a name, what a
  # store has. The error then says how that is given.

  alias Cybernetic.WASM.HTTP.URL
  alias Cybernetic.WASM.{LoadError, Reference, Shown}
  alias Cybernetic.WASM.Loader.Sources.OCI
  alias Cybernetic.WASM.Runtime.Names

  @others %{".wasm" => [".wat"], ".wat" => [".wasm"], "" => [".wasm", ".wat"]}

  @doc "The error of a path that there is not, with what the text probably is."
  @spec hint(LoadError.t()) :: LoadError.t()
  def hint(%LoadError{reason: :not_found, detail: nil, source: text} = error)
      when is_binary(text) do
    case meant(text) do
      nil -> error
      {hint, source} -> %{error | detail: "no such file; #{hint}", source: source}
      hint -> %{error | detail: "no such file; #{hint}"}
    end
  end

  def hint(error), do: error

  defp meant("oci://" <> _),
    do: ~s|an artifact of a registry is loaded as {:oci, "registry.example.com/acme/resize:1.2"}|

  defp meant("file://" <> _), do: "a path stands without file:// before it"

  # The query of a URL may have a key in it.
  defp meant("http" <> _ = text) do
    case URL.parse(text) do
      {:ok, url} -> {"a URL is loaded as {:url, url}", URL.shown(url)}
      {:error, _why} -> nil
    end
  end

  defp meant(""), do: nil
  defp meant(text), do: reference(text) || artifact(text) || neighbour(text)

  defp reference(text) do
    case Reference.parse(text) do
      {:ok, {:digest, _digest}} -> "what a store has is loaded as {:store, #{Shown.quoted(text)}}"
      {:ok, {:name, name, selector}} -> named(text, name, selector)
      :error -> nil
    end
  end

  defp named(text, name, selector) do
    cond do
      loaded?(name) ->
        "a module is loaded under that name: Cybernetic.WASM.Runtime.module(#{Shown.quoted(text)}) gives it, and it is " <>
          "called by the name"

      selector != :current ->
        "what a store has is loaded as {:store, #{Shown.quoted(text)}}"

      true ->
        nil
    end
  end

  defp loaded?(name) do
    Names.versions(name) != nil
  rescue
    # Where the application does not run there are no names.
    ArgumentError -> false
  end

  # A host has a dot or a port in it, or it would be the first part of many a path.
  defp artifact(text) do
    with {:ok, reference} <- OCI.Reference.parse(text),
         true <- reference.host =~ ~r/[.:]/,
         do: "an artifact of a registry is loaded as {:oci, #{Shown.quoted(text)}}",
         else: (_none -> nil)
  end

  defp neighbour(text) do
    paths =
      for other <- Map.get(@others, Path.extname(text), []), do: Path.rootname(text) <> other

    if path = Enum.find(paths, &File.regular?/1), do: "#{Shown.path(path)} is there"
  end
end
