defmodule Cybernetic.WASM.Loader do
  @moduledoc false
  # From a source to a module: fetch, compile, hold to its manifest.

  alias Cybernetic.WASM.{Config, Error, LoadError, Module, Options, Startup}
  alias Cybernetic.WASM.Loader.{Compiler, Source, Sources}
  alias Cybernetic.WASM.Sandbox.Manifest

  @manifest_words "true, false, a path, a %Cybernetic.WASM.Sandbox.Manifest{}, or options of its load/2"
  @options Config.options([:max_module_size]) ++
             Compiler.options() ++ [manifest: {@manifest_words, &__MODULE__.manifest?/1}]

  # What a manifest is called beside its module.
  @manifest "module.toml"

  @typedoc "A source: see `Cybernetic.WASM.Loader.Source`."
  @type source :: Source.t()

  @doc false
  @spec load(source, keyword) :: {:ok, Module.t()} | {:error, Error.t()}
  def load(source, opts) do
    opts = Options.check!(opts, @options, "load option")
    source = Sources.of!(source)

    with {:ok, manifest} <- manifest(Map.get(opts, :manifest, false), source),
         {:ok, bytes, facts} <- Sources.fetch(source, asked(opts)),
         {:ok, module} <- Compiler.compile(bytes, name(facts, source), opts, manifest),
         :ok <- if(manifest, do: Manifest.check(manifest, module), else: :ok) do
      {:ok, Compiler.hold(module, manifest)}
    else
      {:error, %LoadError{} = error} -> {:error, %{error | source: Sources.describe(source)}}
      error -> error
    end
  end

  defp asked(opts) do
    %{
      max_size: Map.get_lazy(opts, :max_module_size, fn -> Startup.config().max_module_size end),
      deadline: :infinity,
      digest: nil,
      signature: false,
      manifest: false,
      http: [],
      store: nil
    }
  end

  defp name(facts, source), do: Map.get_lazy(facts, :name, fn -> Sources.name(source) end)

  @doc false
  @spec manifest?(term) :: boolean
  def manifest?(given) do
    is_boolean(given) or is_binary(given) or is_struct(given, Manifest) or Keyword.keyword?(given)
  end

  defp manifest(false, _source), do: {:ok, nil}
  defp manifest(%Manifest{} = manifest, _source), do: {:ok, manifest}
  defp manifest(path, _source) when is_binary(path), do: Manifest.load(path)
  defp manifest(true, source), do: manifest([], source)

  defp manifest(opts, source) do
    {path, opts} = Keyword.pop_lazy(opts, :file, fn -> beside(source) end)
    Manifest.load(path, opts)
  end

  defp beside(source) do
    if path = Sources.path(source) do
      path |> Path.dirname() |> Path.join(@manifest)
    else
      raise ArgumentError,
            "there is no #{@manifest} beside bytes; give its path, or a manifest, as option :manifest"
    end
  end
end
