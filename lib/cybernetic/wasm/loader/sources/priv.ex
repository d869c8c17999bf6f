defmodule Cybernetic.WASM.Loader.Sources.Priv do
  @moduledoc false
  # A file in the `priv` folder of an application: `{:priv, :my_app, "wasm/resize.wasm"}`. The path may come from elsewhere, and
  # stays in that folder.

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.{LoadError, Shown}
  alias Cybernetic.WASM.Loader.Sources

  @impl true
  def fetch({app, path} = place, opts) do
    check!(place)

    cond do
      not inside?(path) -> {:error, %LoadError{reason: :outside, detail: "priv of #{app}"}}
      file = path(place) -> Sources.File.fetch(file, opts)
      true -> {:error, %LoadError{reason: :not_found, detail: "there is no application #{app}"}}
    end
  end

  defp check!({app, path}) when is_atom(app) and is_binary(path), do: :ok

  defp check!({app, path}) do
    raise ArgumentError,
          ~s({:priv, application, path} expected, an atom and a text as in {:priv, :my_app, "wasm/resize.wasm"}, ) <>
            "got: {:priv, #{Shown.kind(app)}, #{Shown.kind(path)}}"
  end

  # Relative, and nowhere up, also where that would lead back in.
  defp inside?(path), do: Path.type(path) == :relative and ".." not in Path.split(path)

  @impl true
  def describe({app, path} = place) do
    check!(place)
    Sources.File.describe("#{app}/priv/#{path}")
  end

  @impl true
  def name({_app, path}), do: Sources.File.name(path)

  @impl true
  def path({app, path}) do
    with folder when is_list(folder) <- :code.priv_dir(app),
         true <- inside?(path) do
      Path.join(to_string(folder), path)
    else
      _ -> nil
    end
  end
end
