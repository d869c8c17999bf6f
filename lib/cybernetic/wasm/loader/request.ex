defmodule Cybernetic.WASM.Loader.Request do
  @moduledoc false
  # What a load was asked for: its options, checked once, with what is configured.

  alias Cybernetic.WASM.{Config, Digest, Options}
  alias Cybernetic.WASM.Loader.{Expect, Fetched, Pins, Source, Sources, Trust}
  alias Cybernetic.WASM.Sandbox.Manifest
  alias Cybernetic.WASM.Store.Place

  @compiling Config.options([
               :metering,
               :deterministic,
               :features,
               :max_compile_memory,
               :max_compile_time
             ])
  @options Config.options([:max_module_size]) ++
             @compiling ++
             [
               manifest:
                 {"true, false, a path, a %Cybernetic.WASM.Sandbox.Manifest{}, or options of its load/2",
                  &__MODULE__.manifest?/1},
               name: {"a text", &__MODULE__.text?/1},
               version: {"a version such as \"1.0.0\"", &__MODULE__.version?/1},
               digest: {Digest.expected(), &Digest.valid?/1},
               allow_unpinned: :boolean,
               trust: {"a keyword list", &Keyword.keyword?/1},
               signature: {"a path or {:bytes, binary}", &__MODULE__.signature?/1},
               expect: {"a keyword list", &Keyword.keyword?/1},
               offline: :boolean,
               store: Place.kind(),
               http: {:unshown, {"a keyword list", &Keyword.keyword?/1}},
               timeout: {:milliseconds, 1}
             ]

  # Of fetching.
  @timeout 60_000

  # A source and the HTTP options may have credentials in them.
  @derive {Inspect, only: [:name, :version, :digest, :max_size, :allow_unpinned, :offline]}
  @enforce_keys [:source, :config, :compiling]
  defstruct [
    :source,
    :config,
    :compiling,
    :max_size,
    :deadline,
    :manifest,
    :name,
    :version,
    :digest,
    :allow_unpinned,
    :trusts,
    :signature,
    :expect,
    :offline,
    :store,
    :http
  ]

  @type t :: %__MODULE__{}

  @doc "The options of a load, with what each takes."
  @spec options() :: Options.keys()
  def options, do: @options

  @doc "From a source and options."
  @spec new!(Source.t() | Fetched.t(), keyword) :: t
  def new!(source, opts) do
    opts = Options.check!(opts, @options, "load option")
    config = Config.get()
    trusts = trusts(opts, config)

    if trusts == [] and is_map_key(opts, :signature),
      do: raise(ArgumentError, "option :signature is of no use without :trust, which says whose")

    %__MODULE__{
      source: source!(source),
      config: config,
      compiling: Map.take(opts, Keyword.keys(@compiling)),
      max_size: Map.get(opts, :max_module_size, config.max_module_size),
      deadline: System.monotonic_time(:millisecond) + Map.get(opts, :timeout, @timeout),
      manifest: Map.get(opts, :manifest, false),
      name: opts[:name],
      version: opts[:version],
      digest: opts[:digest],
      allow_unpinned: Map.get(opts, :allow_unpinned, false),
      trusts: trusts,
      signature: opts[:signature],
      expect: opts |> Map.get(:expect, []) |> Expect.new!(),
      offline: config.offline or Map.get(opts, :offline, false),
      store: opts[:store],
      http: Map.get(opts, :http, [])
    }
  end

  defp source!(%Fetched{} = fetched), do: fetched
  defp source!(source), do: Sources.of!(source)

  # The operator's word is not taken back by an option.
  defp trusts(opts, config) do
    own = if trust = opts[:trust], do: [Trust.new!(trust)], else: []
    List.wrap(config.trust) ++ own
  end

  @doc "The digests that a module must have which goes by these names, beside those of the load. The operator's come first."
  @spec pins(t, [String.t() | nil], Manifest.t() | nil) :: [Pins.pin()]
  def pins(%__MODULE__{config: config} = request, names, manifest) do
    names = names ++ named(request.name, request.version)
    names = if manifest, do: names ++ named(manifest.name, manifest.version), else: names
    sources = if Pins.none?(config.pins), do: [], else: called(request.source)
    own = [option: request.digest, manifest: manifest && manifest.digest]

    Pins.of(config.pins, names, sources) ++
      for({whose, digest} <- own, digest, do: {whose, digest})
  end

  defp called(%Fetched{origin: origin}), do: Sources.called(origin)
  defp called(source), do: Sources.called(source)

  @doc "The names of a module that has this name and version."
  @spec named(String.t() | nil, String.t() | nil) :: [String.t()]
  def named(nil, _version), do: []
  def named(name, nil), do: [name]
  def named(name, version), do: [name, "#{name}@#{version}"]

  @doc false
  @spec manifest?(term) :: boolean
  def manifest?(given) do
    is_boolean(given) or is_binary(given) or is_struct(given, Manifest) or Keyword.keyword?(given)
  end

  @doc false
  @spec text?(term) :: boolean
  def text?(given), do: is_binary(given) and given != "" and String.valid?(given)

  @doc false
  @spec version?(term) :: boolean
  def version?(given), do: is_binary(given) and Version.parse(given) != :error

  @doc false
  @spec signature?(term) :: boolean
  def signature?({:bytes, bytes}), do: is_binary(bytes)
  def signature?(path), do: is_binary(path)
end
