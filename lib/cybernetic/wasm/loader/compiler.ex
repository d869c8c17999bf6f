defmodule Cybernetic.WASM.Loader.Compiler do
  @moduledoc false
  # From bytes to a module. Digesting, the cache and the compiling itself are the runtime's in Rust, which a load drives as an
  # execution: a compilation goes on for as long as somebody waits for it.

  alias Cybernetic.WASM.{
    Error,
    Execution,
    Features,
    LimitError,
    Module,
    Native,
    Notices,
    Sandbox,
    Startup
  }

  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Loader.Fetched
  alias Cybernetic.WASM.Sandbox.Manifest

  # The digest of a larger source takes more time than a normal scheduler gives.
  @inline_bytes 65_536

  @budget [:max_compile_memory, :max_compile_time]

  @doc "Compiles by these options of the load, for what the manifest says of the stack."
  @spec compile(Fetched.t(), map) :: {:ok, Module.loaded()} | {:error, Error.t()}
  def compile(%Fetched{} = fetched, opts) do
    config = Startup.config()
    {sha256, fetched} = sha256(fetched)
    engine = engine(opts, config, fetched.manifest)

    case compile_within(fetched.bytes, fetched.called, engine, budget(opts, config)) do
      {:ok, module} -> {:ok, %{module | sha256: sha256}}
      {:error, %LimitError{} = error} -> {:error, set_by(error, opts, config)}
      error -> error
    end
  end

  # Rust keeps modules in the binary format, of which it can be worked out later.
  defp sha256(%{bytes: <<0, "asm", _::binary>>} = fetched),
    do: {fetched.digests[:sha256], fetched}

  defp sha256(fetched), do: Fetched.digest(fetched, :sha256)

  @doc "Bytes whose size is nobody's mistake: the module of a snapshot is as large as its state."
  @spec compile(binary, String.t() | nil, tuple) :: {:ok, Module.loaded()} | {:error, Error.t()}
  def compile(bytes, name, engine),
    do: compile_within(bytes, name, engine, budget(%{}, Startup.config()))

  defp compile_within(bytes, name, engine, budget) do
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

  # With the stack that the manifest asks for, or every call would be for another engine.
  defp engine(opts, config, manifest) do
    stack = if manifest, do: manifest.limits[:max_stack]
    off = config.features |> Keyword.merge(Map.get(opts, :features, [])) |> Features.off()

    {Map.get(opts, :metering, config.metering),
     Map.get(opts, :deterministic, config.deterministic), off, stack || config.limits.max_stack,
     config.allocation}
  end

  # What compiling may take. Rust holds it to the node's own.
  defp budget(opts, config) do
    [memory, time] =
      for key <- @budget, do: Map.get_lazy(opts, key, fn -> Map.fetch!(config, key) end)

    {memory, time}
  end

  # More than is configured is not given.
  defp set_by(error, opts, config) do
    key = if error.limit == :compile_time, do: :max_compile_time, else: :max_compile_memory
    lowered? = is_map_key(opts, key) and opts[key] < Map.fetch!(config, key)

    if error.limit in [:compile_time, :compile_memory] and lowered?,
      do: %{error | set_by: :call},
      else: error
  end

  @doc "The module under this manifest: the plan of its calls without options is another."
  @spec hold(Module.loaded(), Manifest.t() | nil) :: Module.loaded()
  def hold(module, nil), do: module

  def hold(module, manifest) do
    with_plan(%{module | manifest: manifest}, Manifest.to_sandbox(manifest))
  end

  @doc "The module within this sandbox as well, which its calls only narrow."
  @spec within(Module.loaded(), Sandbox.given() | nil) :: Module.loaded()
  def within(module, nil), do: module

  def within(module, sandbox),
    do: with_plan(module, Sandbox.narrow(Module.sandbox(module) || sandbox, sandbox))

  # What its calls without options come to is made once, here.
  defp with_plan(module, sandbox) do
    module = Module.with_private(module, nil, sandbox)
    Module.with_private(module, Plan.default(module), sandbox)
  end
end
