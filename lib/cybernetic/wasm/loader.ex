defmodule Cybernetic.WASM.Loader do
  @moduledoc false
  # From a source to a compiled module: fetch, measure, compile, hold to its manifest. Digesting, the cache and the compiling
  # itself are the runtime's in Rust, which a load drives as an execution: a compilation goes on for as long as somebody waits
  # for it.

  alias Cybernetic.WASM.{
    Config,
    Error,
    Execution,
    Features,
    LimitError,
    LoadError,
    Module,
    Native,
    Notices,
    Options,
    Shown,
    Startup
  }

  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Sandbox.Manifest

  # The digest of a larger source takes more time than a normal scheduler gives.
  @inline_bytes 65_536

  @manifest_words "true, false, a path, a %Cybernetic.WASM.Sandbox.Manifest{}, or options of its load/2"
  @budget [:max_compile_memory, :max_compile_time]
  @options Config.options([:metering, :deterministic, :features, :max_module_size] ++ @budget) ++
             [manifest: {@manifest_words, &__MODULE__.manifest?/1}]

  # The longest that Linux takes: what is longer is no path, but a module that was given as one.
  @longest_path 4_096

  # What a manifest is called beside its module.
  @manifest "module.toml"

  @typedoc "A path, or the bytes themselves."
  @type source :: String.t() | {:bytes, binary}

  @doc false
  @spec load(source, keyword) :: {:ok, Module.t()} | {:error, Error.t()}
  def load(source, opts) do
    config = Startup.config()
    opts = Options.check!(opts, @options, "load option")

    with {:ok, manifest} <- manifest(Map.get(opts, :manifest, false), source),
         {:ok, bytes} <- fetch(source, Map.get(opts, :max_module_size, config.max_module_size)),
         engine = engine(opts, config, manifest),
         {:ok, module} <- compile(bytes, name(source), engine, budget(opts, config)),
         :ok <- if(manifest, do: Manifest.check(manifest, module), else: :ok) do
      {:ok, hold(module, manifest)}
    else
      {:error, %LoadError{} = error} -> {:error, %{error | source: describe(source)}}
      {:error, %LimitError{} = error} -> {:error, set_by(error, opts, config)}
      error -> error
    end
  end

  # More than is configured is not given.
  defp set_by(error, opts, config) do
    key = if error.limit == :compile_time, do: :max_compile_time, else: :max_compile_memory
    lowered? = is_map_key(opts, key) and opts[key] < Map.fetch!(config, key)

    if error.limit in [:compile_time, :compile_memory] and lowered?,
      do: %{error | set_by: :call},
      else: error
  end

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

  defp beside(path) when is_binary(path), do: path |> Path.dirname() |> Path.join(@manifest)

  defp beside(_bytes) do
    raise ArgumentError,
          "there is no #{@manifest} beside bytes; give its path, or a manifest, as option :manifest"
  end

  @doc false
  # The module under this manifest: the plan of its calls without options is another.
  @spec hold(Module.t(), Manifest.t() | nil) :: Module.t()
  def hold(module, nil), do: module

  def hold(module, manifest) do
    with_plan(%{module | manifest: manifest}, Manifest.to_sandbox(manifest))
  end

  # With the stack that the manifest asks for, or every call would be for another engine.
  defp engine(opts, config, manifest) do
    stack = if manifest, do: manifest.limits[:max_stack]
    off = config.features |> Keyword.merge(Map.get(opts, :features, [])) |> Features.off()

    {Map.get(opts, :metering, config.metering),
     Map.get(opts, :deterministic, config.deterministic), off, stack || config.limits.max_stack,
     config.allocation}
  end

  defp fetch({:bytes, bytes}, most) when is_binary(bytes),
    do: measure(bytes, byte_size(bytes), most)

  defp fetch({:bytes, other}, _most),
    do: raise(ArgumentError, "{:bytes, binary} expected, got: #{Shown.kind(other)}")

  defp fetch(path, most) when is_binary(path) do
    with :ok <- no_nul(path),
         {:ok, %File.Stat{type: :regular, size: size}} <- File.stat(path),
         {:ok, _} <- measure(path, size, most),
         {:ok, bytes} <- read(path, most) do
      measure(bytes, byte_size(bytes), most)
    else
      {:ok, %File.Stat{type: type}} ->
        refuse(:not_a_file, detail: to_string(type))

      {:error, :enoent} ->
        refuse(:not_found)

      {:error, :enotdir} ->
        refuse(:not_found)

      {:error, reason} when is_atom(reason) ->
        refuse(:unreadable, detail: to_string(:file.format_error(reason)))

      error ->
        error
    end
  end

  defp fetch(other, _most) do
    raise ArgumentError,
          "a module is loaded from a path or {:bytes, binary}, got: #{Shown.kind(other)}"
  end

  defp no_nul(path), do: if(String.contains?(path, <<0>>), do: {:error, :enoent}, else: :ok)

  # One byte more than allowed: a file that grew since it was measured is noticed, and never read whole.
  defp read(path, most) do
    with {:ok, file} <- :file.open(path, [:read, :binary, :raw]) do
      result = :file.read(file, most + 1)
      :ok = :file.close(file)
      if result == :eof, do: {:ok, ""}, else: result
    end
  end

  defp measure(source, size, most) when size <= most, do: {:ok, source}
  defp measure(_source, size, most), do: refuse(:too_large, size: size, allowed: most)

  defp refuse(reason, facts \\ []), do: {:error, struct!(LoadError, [reason: reason] ++ facts)}

  @doc false
  # Bytes whose size is nobody's mistake: the module of a snapshot is as large as its state.
  @spec compile(binary, String.t() | nil, tuple) :: {:ok, Module.t()} | {:error, Error.t()}
  def compile(bytes, name, engine),
    do: compile(bytes, name, engine, budget(%{}, Startup.config()))

  defp compile(bytes, name, engine, budget) do
    loaded = bytes |> native_load(engine, budget) |> Execution.finish()
    Notices.log()

    with {:ok, ref} <- loaded do
      module = Module.new(ref, name: name, size: byte_size(bytes), engine: engine)
      {:ok, with_plan(module, nil)}
    end
  end

  defp native_load(bytes, engine, budget) when byte_size(bytes) <= @inline_bytes,
    do: Native.module_load(bytes, engine, budget)

  defp native_load(bytes, engine, budget), do: Native.module_load_dirty(bytes, engine, budget)

  # What compiling may take. Rust holds it to the node's own.
  defp budget(opts, config) do
    [memory, time] =
      for key <- @budget, do: Map.get_lazy(opts, key, fn -> Map.fetch!(config, key) end)

    {memory, time}
  end

  # What its calls without options come to is made once, here.
  defp with_plan(module, sandbox) do
    module = Module.with_private(module, nil, sandbox)
    Module.with_private(module, Plan.default(module), sandbox)
  end

  defp name({:bytes, _bytes}), do: nil
  defp name(path), do: Path.basename(path)

  defp describe({:bytes, _bytes}), do: :bytes
  defp describe(path), do: Shown.cut(path, @longest_path)
end
