defmodule Cybernetic.WASM.Runtime do
  alias Cybernetic.WASM.Features

  @moduledoc """
  Loads modules, and reports what the node uses.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module("priv/wasm/compute.wasm")
      iex> Cybernetic.WASM.Executor.call(module, "process", [42])
      {:ok, 84}
      iex> {:error, error} = Cybernetic.WASM.Runtime.load_module({:bytes, "not a module"})
      iex> error.reason
      :not_wasm

  ## Options of a load

    * `:max_module_size` - bytes; a larger module is refused. Default: 10,000,000.
    * `:metering` - `:fuel` (default) or `:epoch`. Epochs cost up to as much as fuel, often less, but such a guest is bounded
      by its deadline alone and its use of fuel is not known.
    * `:deterministic` - `true`: NaNs are canonical and relaxed SIMD gives the same bits on every machine. Default: `false`.
    * `:features` - WebAssembly features to switch off: `[simd: false]`. All are on by default: #{Features.in_words()}. Threads
      are always off.
    * `:max_compile_memory` - bytes that compiling may take. Default: what is configured. More than that is not given.
    * `:max_compile_time` - milliseconds of processor time that compiling may take. Default: what is configured. More than
      that is not given.
    * `:manifest` - what the module's calls are held to: `true` for `module.toml` in the same directory, a path, or a
      `Cybernetic.WASM.Sandbox.Manifest`; or options of its `load/2`, such as `[require_limits: true, offer: [:stdio]]`, with the
      path as `:file` where it is not `module.toml`. Default: `false`.

  Those that say which module is taken, `:digest`, `:trust`, `:expect` and others, are those of `Cybernetic.WASM.Loader`.

  Compiled modules are cached in memory, by the digest of their bytes and by `:metering`, `:deterministic` and `:features`. A
  cached module is given at once, whatever it took to compile. Processes that ask for the same module at once share one
  compilation. It ends when none of them waits any more. A module that had to leave the cache, or is larger than all of it
  (`:cache_size`), is found again for as long as somebody holds its handle. Where nobody does, each load compiles it: the
  first time that this may happen to a module is logged, and `stats/0` counts them.

  Modules are compiled outside the VM, in processes of the operating system: see `compiler/0`.

  Where the application `:cybernetic_wasm` has not been started, the first load starts what it needs, by the configuration as
  it then is. Only `Cybernetic.WASM.Executor.async/4` and its like need the application itself.
  """

  alias Cybernetic.WASM.{Error, Instance, Loader, Module, Native, Startup, TrapError}
  alias Cybernetic.WASM.Loader.Compiler
  alias Cybernetic.WASM.Sandbox.Manifest

  @typedoc "An option of a load."
  @type load_option ::
          {:max_module_size, pos_integer}
          | {:metering, :fuel | :epoch}
          | {:deterministic, boolean}
          | {:features, [{atom, boolean}]}
          | {:max_compile_memory, pos_integer}
          | {:max_compile_time, pos_integer}
          | {:manifest, boolean | Path.t() | Manifest.t() | keyword}
          | {:name, String.t()}
          | {:version, String.t()}
          | {:digest, String.t()}
          | {:allow_unpinned, boolean}
          | {:trust, keyword}
          | {:signature, Path.t() | {:bytes, binary}}
          | {:expect, keyword}
          | {:offline, boolean}
          | {:timeout, pos_integer}

  @doc """
  Loads a module from a source, a path or `{:bytes, binary}` for example, in the binary or the text format.
  `Cybernetic.WASM.Loader.Source` lists the sources.

  Errors: `Cybernetic.WASM.LoadError`; `Cybernetic.WASM.LimitError` where compiling takes too much, where the node's code memory
  is full, or where too many sources wait to be compiled; of a manifest
  `Cybernetic.WASM.ManifestError`, or `Cybernetic.WASM.DeniedError` where it asks for what is not offered. An unknown option
  raises `ArgumentError`.
  """
  @spec load_module(Loader.source(), [load_option]) :: {:ok, Module.t()} | {:error, Error.t()}
  def load_module(source, opts \\ []), do: Loader.load(source, opts)

  @doc "As `load_module/2`, but raises the error."
  @spec load_module!(Loader.source(), [load_option]) :: Module.t()
  def load_module!(source, opts \\ []) do
    case load_module(source, opts) do
      {:ok, module} -> module
      {:error, error} -> raise error
    end
  end

  @doc """
  Runs a slow start-up once: calls `function` in an instance of `module`, and gives a module whose instances begin in the state
  that this left behind.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|
      ...>   (module (memory (export "memory") 1) (global $ready (mut i32) (i32.const 0))
      ...>     (func (export "init") (param i32) (global.set $ready (local.get 0)))
      ...>     (func (export "ready") (result i32) (global.get $ready)))|})
      iex> {:ok, ready} = Cybernetic.WASM.Runtime.preinit(module, "init", [7])
      iex> Cybernetic.WASM.Executor.call(ready, "ready")
      {:ok, 7}

  All its instances begin in that one state: a random number generator that was seeded by then gives each of them the same
  numbers, and hash tables have the same seeds. The option `on_fork: "reseed"` names an exported function without parameters and
  results that is called first in each of them: see `Cybernetic.WASM.Instance`, "Snapshots".

  What its memories hold is mapped into each instance, and shared until it is written to. Where less than an eighth of that is
  data, or less than half of more than 16 MiB, the data is copied into each instance instead.

  Options: those of `Cybernetic.WASM.Instance.new/2`. What a snapshot cannot capture is refused: see there. The module's
  start function and `_initialize` have run and are not in the new one. With `:start` in the place of the function a program's
  `_start` runs; one that exits with another code than 0 is a `Cybernetic.WASM.TrapError` with the code `:exit`.
  """
  @spec preinit(Module.t(), Instance.entry(), [Cybernetic.WASM.Value.t()] | [Instance.option()], [
          Instance.option()
        ]) ::
          {:ok, Module.t()} | {:error, Error.t()}
  def preinit(%Module{} = module, function, args \\ [], opts \\ []) do
    with {:ok, instance} <- Instance.new(module, [snapshottable: true] ++ opts) do
      result =
        with {:ok, _results} <- prepare(instance, function, args),
             {:ok, wasm} <- Instance.snapshot(instance),
             {:ok, ready} <- Compiler.compile(wasm, module.name, module.engine),
             do: {:ok, Compiler.hold(ready, module.manifest)}

      Instance.close(instance)
      result
    end
  end

  defp prepare(instance, :start, args) do
    with {:ok, code} when code != 0 <- Instance.call(instance, :start, args),
         do: {:error, %TrapError{code: :exit, exit_code: code, detail: "exit"}}
  end

  defp prepare(instance, function, args), do: Instance.call(instance, function, args)

  @doc """
  What the node uses now, as a map: of the compiled-module cache `:cache_hits`, `:cache_misses` (compilations),
  `:cache_joined` (loads that waited for another's compilation), `:cache_evictions`, `:cache_too_large` (compilations of modules
  that are larger than the cache), `:cache_entries` and `:cache_bytes`;
  `:live_instances`; `:total_memory` of all guests and `:code_memory` in bytes; `:open_files` of all guests; `:engines`;
  `:epoch_ticks` since the node started; and of the compiler `:compile_workers` (processes), `:compile_worker_memory` (bytes that they had when they last
  spoke), `:compile_jobs` (compilations begun), `:compile_kills` (those ended because nobody waited any more, or to let others
  go first), `:compile_queued` and `:compile_queued_bytes` (sources that wait).
  """
  @spec stats() :: %{atom => non_neg_integer}
  def stats, do: started(&Native.runtime_stats/0)

  @doc """
  How modules are compiled on this node.

      iex> Cybernetic.WASM.Runtime.compiler().mode
      :apart

    * `:mode` - `:apart`, in processes of their own, or `:in_process`, on threads of this VM
    * `:reason` - why `:in_process`, a text; `nil` with `:apart`
    * `:executable` - the program that compiles
    * `:build` - what tells the build of the native library; the program must be of the same

  Apart, a stranger's module can take no more than `:max_compile_memory` and `:max_compile_time`, and a compiler that is made to
  crash is not this VM. With `compiler: :in_process`, and where no process can be started, nothing ends a compilation before it is
  done: functions that nest deeply are refused instead. `guides/operations.md` has more.
  """
  @spec compiler() :: %{
          mode: :apart | :in_process,
          reason: String.t() | nil,
          executable: Path.t(),
          build: String.t()
        }
  def compiler do
    reason = started(&Native.runtime_compiles_in_process/0)
    mode = if reason, do: :in_process, else: :apart
    %{mode: mode, reason: reason, executable: Startup.executable(), build: Native.runtime_build()}
  end

  @doc "Empties the compiled-module cache. Modules in use live on with their users."
  @spec clear_cache() :: :ok
  def clear_cache, do: started(&Native.runtime_clear_cache/0)

  @doc false
  @spec stop() :: :ok
  def stop, do: Native.runtime_stop()

  defp started(function) do
    Startup.config()
    function.()
  end
end
