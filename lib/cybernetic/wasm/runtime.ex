defmodule Cybernetic.WASM.Runtime do
  alias Cybernetic.WASM.Features

  @moduledoc """
  Loads modules and components, and reports what the node uses.

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
    * `:manifest` - what the module's calls are held to: `true` for `module.toml` or `Component.toml` in the same directory, a path, or a
      `Cybernetic.WASM.Sandbox.Manifest`; or options of its `load/2`, such as `[require_limits: true, offer: [:stdio]]`, with the
      path as `:file` where it is neither of these. Default: `false`.

    * `:sandbox` - a `Cybernetic.WASM.Sandbox`, or a preset's name, that the module's calls are held to: they have what it grants,
      within the manifest if there is one, and their own options only narrow it. Default: none.

  Those that say which module is taken, `:digest`, `:trust`, `:expect` and others, are those of `Cybernetic.WASM.Loader`.

  Compiled modules are cached in memory, by the digest of their bytes and by `:metering`, `:deterministic` and `:features`. A
  cached module is given at once, whatever it took to compile. Processes that ask for the same module at once share one
  compilation. It ends when none of them waits any more. A module that had to leave the cache, or is larger than all of it
  (`:cache_size`), is found again for as long as somebody holds its handle. Where nobody does, each load compiles it: the
  first time that this may happen to a module is logged, and `stats/0` counts them. A module that nobody has loaded for
  `:cache_ttl` leaves the cache, too.

  ## Names

  A module that is loaded under a name is called by it, and another takes its place while calls go on:

      iex> alias Cybernetic.WASM.{Executor, Runtime}
      iex> double = ~S|(module (func (export "scale") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))|
      iex> triple = String.replace(double, "const 2", "const 3")
      iex> {:ok, _module} = Runtime.load_module({:bytes, double}, name: "doc/scale", version: "1.0.0")
      iex> Executor.call("doc/scale", "scale", [7])
      {:ok, 14}
      iex> {:ok, module} = Runtime.reload("doc/scale", {:bytes, triple})
      iex> {module.version, Executor.call("doc/scale", "scale", [7])}
      {"1.0.1", {:ok, 21}}
      iex> Executor.call("doc/scale@1.0.0", "scale", [7])
      {:ok, 14}
      iex> {:ok, _module} = Runtime.rollback("doc/scale")
      iex> Executor.call("doc/scale", "scale", [7])
      {:ok, 14}
      iex> {:error, error} = Executor.call("doc/scael", "scale", [7])
      iex> {error.reason, "doc/scale" in error.known}
      {:no_such_name, true}
      iex> Runtime.unload("doc/scale")
      :ok

  `"resize"` is the *current* version: the one that was loaded, reloaded, promoted or rolled back to last, but for older ones
  that were only loaded. `"resize@1.2.0"` is
  that version, `"resize@1.2"` the highest 1.2.z, and `"resize@~> 1.2"` the highest that fits the requirement, as `Version`
  has it. A call looks at what this node has loaded, never into a store. It looks once: all of a call, and a live instance for
  all its life, is of one version. No process is asked, and a look-up takes a fraction of a microsecond; with a
  requirement some microseconds.

  Names are taken wherever a module is: by `Cybernetic.WASM.Executor`, `Cybernetic.WASM.Instance.new/2`,
  `Cybernetic.WASM.Sandbox.check/2`, `preinit/4`, in `imports:`, and by the functions below. To a function that loads, a text is a path; `{:name, "resize@1.2"}` is a name everywhere.

  A name is made of lowercase letters, digits and `. _ -`, in parts that `/` separates. Options of a load under a name:

    * `:name` - that name. Default: none; of the source `{:store, "resize@1.2"}` the store's, and `nil` says that there is to be
      none.
    * `:version` - the version, such as `"1.2.0"`. Default: the store's, else the manifest's, else the next patch version, from
      `"0.1.0"`. A version that is there stays what it is: other bytes under its number are a `Cybernetic.WASM.LoadError` with
      the reason `:version_taken`, and where the manifest says that number, they get the next.
    * `:current` - `false`: calls go on with the version that is current, and this one is called by its number. `true`: calls of
      the bare name get this one, also if it is older. Default: `true`, but **an older version is loaded beside a newer one
      that is current, and does not take its place**: `{:store, "resize@1.1.0"}` takes nobody back by itself. `rollback/2` and
      `promote/3` do.
    * `:by`, `:why` - texts for `changes/1`: who does it, and what for. Default of `:by`: the calling process.

  Loading what is current already changes nothing but the options that later reloads go by. What a name has loaded stays until `unload/1`; only of the versions that a
  reload made, those go that were replaced long ago.

  Names are the application's, `:cybernetic_wasm`: where it has not been started, all of this raises `ArgumentError`. They are
  this node's, and gone with it. `guides/deploying.md` shows them at work.

  ## Where modules are compiled

  Modules are compiled outside the VM, in processes of the operating system: see `compiler/0`. What they give is kept on disk,
  so that the next start of the node need not compile it again: see `artifacts/0`.

  Where the application `:cybernetic_wasm` has not been started, the first load starts what it needs, by the configuration as
  it then is. Only `Cybernetic.WASM.Executor.async/4` and its like need the application itself.
  """

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{CallError, Config, Error, Instance, Loader, Module, Native, Options}
  alias Cybernetic.WASM.{Reference, Shown, Startup, TrapError}
  alias Cybernetic.WASM.Loader.{Compiler, Pins}

  alias Cybernetic.WASM.Runtime.{
    Change,
    History,
    Listing,
    Names,
    Naming,
    Registration,
    Registry,
    Reload,
    Versions,
    Watch
  }

  alias Cybernetic.WASM.Sandbox.Manifest

  # Loads of `warm/1` at once: most of their time they wait for the compiler.
  @together 8

  @typedoc "An option of a load."
  @type load_option ::
          {:max_module_size, pos_integer}
          | {:metering, :fuel | :epoch}
          | {:deterministic, boolean}
          | {:features, [{atom, boolean}]}
          | {:max_compile_memory, pos_integer}
          | {:max_compile_time, pos_integer}
          | {:sandbox, Cybernetic.WASM.Sandbox.given()}
          | {:manifest, boolean | Path.t() | Manifest.t() | keyword}
          | {:digest, String.t()}
          | {:allow_unpinned, boolean}
          | {:trust, keyword}
          | {:signature, Path.t() | {:bytes, binary}}
          | {:expect, keyword}
          | {:offline, boolean}
          | {:store, Cybernetic.WASM.Store.t()}
          | {:http, keyword}
          | {:timeout, pos_integer}
          | naming_option

  @typedoc "An option of a load under a name: see \"Names\"."
  @type naming_option ::
          {:name, String.t() | nil}
          | {:version, String.t() | nil}
          | {:current, boolean}
          | who_option

  @typedoc "An option of all that changes a name: for `changes/1`."
  @type who_option :: {:by, String.t()} | {:why, String.t()}

  @typedoc "An option of `reload/3`."
  @type reload_option ::
          load_option
          | {:allow, :widen | [:widen]}
          | {:smoke, (Module.loaded() -> term)}
          | {:smoke_timeout, pos_integer}
          | {:keep, non_neg_integer}
          | {:drain, non_neg_integer}

  @typedoc "An option of `watch/2`."
  @type watch_option ::
          {:interval, pos_integer}
          | {:load, [load_option]}
          | {:reload, [reload_option]}
          | {:report, (String.t() -> term)}

  @doc """
  Loads a module or a component from a source, a path or `{:bytes, binary}` for example, in the binary or the text format.
  `Cybernetic.WASM.Loader.Source` lists the sources.

  Errors: `Cybernetic.WASM.LoadError`; `Cybernetic.WASM.LimitError` where compiling takes too much, where the node's code memory
  is full, or where too many sources wait to be compiled; of a manifest
  `Cybernetic.WASM.ManifestError`, or `Cybernetic.WASM.DeniedError` where it asks for what is not offered; of a store
  `Cybernetic.WASM.StoreError`. An unknown option raises `ArgumentError`.
  """
  @spec load_module(Loader.source(), [load_option]) ::
          {:ok, Module.loaded()} | {:error, Error.t()}
  def load_module(source, opts \\ []), do: Registration.load(source, opts)

  @doc "As `load_module/2`, but raises the error."
  @spec load_module!(Loader.source(), [load_option]) :: Module.loaded()
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
  @spec preinit(
          Module.given(),
          Instance.entry(),
          [Cybernetic.WASM.Value.t()] | [Instance.option()],
          [
            Instance.option()
          ]
        ) ::
          {:ok, Module.t()} | {:error, Error.t()}
  def preinit(module, function, args \\ [], opts \\ []) do
    with {:ok, module} <- Names.fetch(module, opts),
         {:ok, instance} <- Instance.new(module, [snapshottable: true] ++ opts) do
      result =
        with {:ok, _results} <- prepare(instance, function, args),
             {:ok, wasm} <- Instance.snapshot(instance),
             {:ok, ready} <- Compiler.compile(wasm, module.name, module.engine),
             do: {:ok, held_as(ready, module)}

      Instance.close(instance)
      result
    end
  end

  # What its calls are held to is the module's: by its manifest, and by the sandbox that it was loaded with.
  defp held_as(ready, module),
    do: ready |> Compiler.hold(module.manifest) |> Compiler.within(Module.sandbox(module))

  defp prepare(instance, :start, args) do
    with {:ok, code} when code != 0 <- Instance.call(instance, :start, args),
         do: {:error, %TrapError{code: :exit, exit_code: code, detail: "exit"}}
  end

  defp prepare(instance, function, args), do: Instance.call(instance, function, args)

  # Names

  @doc """
  The module that a name stands for now: for several calls that are to be of one version, and to be held on to.

      iex> Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm", name: "doc/compute", version: "2.1.0")
      iex> {:ok, module} = Cybernetic.WASM.Runtime.module("doc/compute@~> 2.0")
      iex> {module.name, module.version, Cybernetic.WASM.Executor.call(module, "process", [42])}
      {"doc/compute", "2.1.0", {:ok, 84}}
      iex> {:error, error} = Cybernetic.WASM.Runtime.module("doc/compute@3")
      iex> {error.reason, error.known}
      {:no_such_version, ["2.1.0"]}
  """
  @spec module(Module.given()) :: {:ok, Module.loaded()} | {:error, CallError.t()}
  def module(given), do: Names.fetch(given)

  @doc """
  Puts another module in the place of the current one of a name.

  It is fetched, verified and compiled in the calling process while others go on calling, and then checked:

    * it exports all that the current one does, with the same types. The sizes of memories and tables may be others.
    * it asks for nothing that is not granted already: it imports no more than the current one, but for host functions that the
      current one's sandbox lists by name, and functions of WASI for the same purposes; and its manifest grants no more.
      `allow: :widen` allows that.
    * the function of `smoke:`, if there is one, gives `:ok` for it

  Then all calls that begin get the new one. Those that run, and instances that live, go on with the module that they began
  with. The one that was replaced stays for `rollback/2`, and for who calls it by its version.

      iex> alias Cybernetic.WASM.{Executor, Runtime}
      iex> wat = ~S|(module (func (export "f") (result i32) (i32.const 1)))|
      iex> {:ok, _module} = Runtime.load_module({:bytes, wat}, name: "doc/one")
      iex> Runtime.reload("doc/one", {:bytes, wat})
      :unchanged
      iex> {:error, error} = Runtime.reload("doc/one", {:bytes, ~S|(module (func (export "g")))|})
      iex> {error.reason, error.problems}
      {:narrowed, [~S|"f": () -> i32 is missing|]}
      iex> smoke = fn module -> if Executor.call(module, "f") == {:ok, 1}, do: :ok, else: :wrong end
      iex> {:error, error} = Runtime.reload("doc/one", {:bytes, String.replace(wat, "const 1", "const 2")}, smoke: smoke)
      iex> {error.reason, error.detail}
      {:smoke_failed, "it gave :wrong, and not :ok"}
      iex> Executor.call("doc/one", "f")
      {:ok, 1}

  Options: those of a load, of which those that the current version was loaded with last hold where they are not given again, with its
  manifest and its sandbox, but for `:digest`, `:signature`, `:allow_unpinned` and `:http`, which are of one source; `:version`, `:current`, `:by` and `:why` of a load under a name, see above; and

    * `:allow` - `:widen`: it may ask for more than is granted
    * `:smoke` - a function that is given the module, in a process of its own. Anything but `:ok`, and whatever it raises, is a
      `Cybernetic.WASM.LoadError` with the reason `:smoke_failed`. Default: none.
    * `:smoke_timeout` - milliseconds after which that process is killed. Default: 10,000.
    * `:keep` - how many versions that were made by reloads and replaced may stay. Default: 2.
    * `:drain` - milliseconds after which the version that is replaced goes as well, unless it is current again by then.
      Default: it stays.

  A version that has gone is not found any more, and its code is given back when the last call or instance that uses it has
  ended. Two reloads of one name at once come one after the other: the second is checked against the first one's module.

  A version that is older than the current one, as a manifest or a store may have it, is refused where `current:` does not say what
  is to become of it.

  Errors: those of a load; `Cybernetic.WASM.LoadError` with the reasons `:narrowed`, `:widened`, `:smoke_failed`, `:older_version` and
  `:version_taken`; `Cybernetic.WASM.CallError` with the reason `:no_such_name`.
  """
  @spec reload(String.t(), Loader.source(), [reload_option]) ::
          {:ok, Module.loaded()} | :unchanged | {:error, Error.t()}
  def reload(name, source, opts \\ []), do: Reload.run(name, source, opts)

  @doc """
  Makes a version current that is loaded already. Options: `:by` and `:why`.

      iex> alias Cybernetic.WASM.{Executor, Runtime}
      iex> wat = ~S|(module (func (export "f") (result i32) (i32.const 1)))|
      iex> {:ok, _} = Runtime.load_module({:bytes, wat}, name: "doc/promoted", version: "1.0.0")
      iex> next = {:bytes, String.replace(wat, "const 1", "const 2")}
      iex> {:ok, _} = Runtime.load_module(next, name: "doc/promoted", version: "2.0.0", current: false)
      iex> {Executor.call("doc/promoted", "f"), Executor.call("doc/promoted@2", "f")}
      {{:ok, 1}, {:ok, 2}}
      iex> {:ok, _} = Runtime.promote("doc/promoted", "2.0.0", by: "release 17")
      iex> Executor.call("doc/promoted", "f")
      {:ok, 2}
  """
  @spec promote(String.t(), String.t(), [who_option]) ::
          {:ok, Module.loaded()} | {:error, CallError.t()}
  def promote(name, version, opts \\ []),
    do: name |> Naming.name!() |> Registry.promote(version!(version), said(opts))

  @doc """
  Makes the version current that was before the current one; again, the one before that. Options: `:by` and `:why`.

  A `Cybernetic.WASM.CallError` with the reason `:nothing_before` says that there is none, or that it has gone.
  """
  @spec rollback(String.t(), [who_option]) :: {:ok, Module.loaded()} | {:error, CallError.t()}
  def rollback(name, opts \\ []) do
    case Names.versions(Naming.name!(name)) do
      %Versions{current: current} -> Registry.rollback(name, current, said(opts))
      nil -> {:error, Names.no_such_name(name)}
    end
  end

  @doc """
  Shares the calls of a bare name out among versions, by weights: for a canary.

      Runtime.load_module(source, name: "resize", version: "1.3.0", current: false)
      Runtime.split("resize", %{"1.3.0" => 10, "1.2.0" => 90})

  The option `key:` of a call says whose it is, such as a customer's number: calls with one key go to one version, on every node
  that is split alike, and those that a canary has it keeps when its share grows. A call without that option goes by chance.

      Executor.call("resize", "run", args, key: customer.id)

  Options: `:by` and `:why`, and

    * `:key` - `:random` (default), or `:process`: a call without the option `key:` goes by the process that makes it, always to
      the same version

  The split ends when a version is promoted, loaded, reloaded or rolled back to. The versions in it do not go by themselves.
  """
  @spec split(String.t(), %{String.t() => pos_integer}, [who_option | {:key, :random | :process}]) ::
          :ok | {:error, CallError.t()}
  def split(name, weights, opts \\ []) do
    opts = Options.check!(opts, [key: {:one_of, [:random, :process]}] ++ Naming.who(), "option")
    by = Map.get(opts, :key, :random)
    name |> Naming.name!() |> Registry.split(Naming.weights!(weights), by, Naming.said(opts))
  end

  @doc """
  Lets go of all versions of a name, or of one: `"resize@1.2.0"`. Calls and instances that use them go on. Options: `:by` and
  `:why`.

  One that calls of the bare name get, while there are others, is refused with a `Cybernetic.WASM.CallError` of the reason
  `:current_version`.
  """
  @spec unload(String.t(), [who_option]) :: :ok | {:error, CallError.t()}
  def unload(name, opts \\ []) do
    case name |> text!() |> String.split("@", parts: 2) do
      [name] -> Registry.unload(Naming.name!(name), :all, said(opts))
      [name, version] -> Registry.unload(Naming.name!(name), version!(version), said(opts))
    end
  end

  defp text!(name) when is_binary(name), do: name
  defp text!(other), do: Naming.name!(other)

  @doc """
  The latest changes of a name, the last one first, as `t:Cybernetic.WASM.Runtime.Change.t/0`; with `:all` those of all names, of
  which the last 1,000 are kept.

      iex> alias Cybernetic.WASM.Runtime
      iex> Runtime.load_module!("priv/wasm/compute.wasm", name: "doc/changed", by: "ops", why: "first try")
      iex> [change] = Runtime.changes("doc/changed")
      iex> {change.action, change.to, change.by, change.why}
      {:loaded, "0.1.0", "ops", "first try"}
  """
  @spec changes(String.t() | :all) :: [Change.t()]
  def changes(name), do: name |> name_or_all!() |> History.of()

  @doc """
  Has the calling process sent `{:wasm_module, change}` for each change of a name, or of `:all`, once it is in force. It ends with
  the process, or with `unsubscribe/1`.
  """
  @spec subscribe(String.t() | :all) :: :ok
  def subscribe(name), do: name |> name_or_all!() |> Registry.subscribe(true)

  @doc "Ends what `subscribe/1` began."
  @spec unsubscribe(String.t() | :all) :: :ok
  def unsubscribe(name), do: name |> name_or_all!() |> Registry.subscribe(false)

  defp name_or_all!(:all), do: :all
  defp name_or_all!(name) when is_binary(name), do: Naming.name!(name)
  defp name_or_all!(other), do: Options.refuse!("a name is needed, or :all", other)

  @doc """
  Follows a folder while you work on what builds its modules: loads each `.wasm` and `.wat` in it under the name of its file, and
  reloads it when that has changed.

      {:ok, watch} = Runtime.watch("priv/wasm")

  What is there has been loaded when this returns. From then on the files are looked at again and again. One that looks otherwise
  than before, and has stopped changing, is reloaded, with the checks of `reload/3`; the same bytes are no change. What cannot be
  loaded, or may not take the old one's place, leaves that as it is. Of a module that is there as `.wasm` and as `.wat` the
  `.wasm` is loaded. There is one line for each load, and one for each that fails:

      compute: 0.1.0 is loaded, blake3:5c1d7ac6
      compute: 0.1.0 stays: cannot load priv/wasm/compute.wasm: invalid at offset 212: unexpected end

  It ends with the calling process, or with `unwatch/1`. `mix wasm.watch` does the same from the shell.

  Options:

    * `:interval` - milliseconds between two looks. Default: 1,000.
    * `:load` - options of the loads, and of the reloads as well
    * `:reload` - options of the reloads beside them, such as `[allow: :widen]`
    * `:report` - a function that is given each line, in the process that looks. Default: the lines are logged, those of what
      could not be loaded as warnings.

  It is a `Cybernetic.WASM.LoadError` where there is no such folder. One that goes later is looked for again.
  """
  @spec watch(Path.t(), [watch_option]) :: {:ok, pid} | {:error, Error.t()}
  def watch(folder, opts \\ [])
  def watch(folder, opts) when is_binary(folder), do: Watch.start(folder, opts)
  def watch(other, _opts), do: Options.refuse!("watch/2 takes the path of a folder", other)

  @doc "Ends what `watch/2` began. What it has loaded stays."
  @spec unwatch(pid) :: :ok
  def unwatch(watch) when is_pid(watch), do: Watch.stop(watch)

  def unwatch(other),
    do: Options.refuse!("unwatch/1 takes the process that watch/2 gave, as {:ok, watch}", other)

  @doc """
  All that is loaded under names, by name and the highest version first: maps of `:name`, `:version`, `:current` (whether it is),
  `:share` (of a hundred calls of the bare name), `:digest`, `:size`, `:code_size` (bytes of machine code), `:source` (a
  description), `:loads` (how often it was loaded), `:loaded_at`, `:calls` (calls that have begun, by its name or its handle, on
  fresh instances or live ones), `:last_used` (to the second; `nil` before the first call), and `:live_instances` (guests that
  live now and run this code, also of calls, and also under another name).

      iex> alias Cybernetic.WASM.{Executor, Runtime}
      iex> Runtime.load_module!("priv/wasm/compute.wasm", name: "doc/listed")
      iex> Executor.call("doc/listed", "process", [1])
      iex> listed = Enum.find(Runtime.modules(), &(&1.name == "doc/listed"))
      iex> {listed.version, listed.current, listed.calls}
      {"0.1.0", true, 1}
  """
  @spec modules() :: [map]
  def modules, do: Listing.all()

  @doc """
  What is known of a module: `:name`, `:version`, `:digest` (BLAKE3), `:sha256`, `:size`, `:code_size`, `:imports`, `:exports`,
  `:manifest` and `:live_instances`; and of one that is loaded under a name what `modules/0` has.

      iex> module = Cybernetic.WASM.Runtime.load_module!({:bytes, ~S|(module (func (export "f")))|})
      iex> {:ok, info} = Cybernetic.WASM.Runtime.info(module)
      iex> {info.exports, String.slice(info.digest, 0, 7), String.slice(info.sha256, 0, 7)}
      {[%{name: "f", type: {:function, [], []}}], "blake3:", "sha256:"}
  """
  @spec info(Module.given()) :: {:ok, map} | {:error, CallError.t()}
  def info(given), do: Listing.info(given)

  defp said(opts), do: opts |> Options.check!(Naming.who(), "option") |> Naming.said()

  defp version!(version) do
    with :error <- Reference.version(version) do
      raise ArgumentError, "a version is needed, such as \"1.2.0\", got: #{Shown.term(version)}"
    else
      {:ok, _version} -> version
    end
  end

  @doc """
  What the node uses now, as a map: of the compiled-module cache `:cache_hits`, `:cache_misses` (loads that found nothing
  there), `:cache_joined` (loads that waited for another's compilation), `:cache_evictions` (for want of room),
  `:cache_expired` (because nobody had loaded them for long), `:cache_too_large` (modules that were not there and are larger
  than the cache), `:cache_entries` and `:cache_bytes`; of the compiled modules on disk `:artifact_hits`, `:artifact_misses`,
  `:artifact_refused` (files that were not taken), `:artifact_writes`, `:artifact_unwritten` (which could not be),
  `:artifact_evictions`, and `:artifact_entries` and `:artifact_bytes` as of the last write;
  `:live_instances`; `:total_memory` of all guests and `:code_memory` in bytes; `:open_files` of all guests; `:crowd`
  (executions and calls that want a dirty scheduler: slices are short while they are more than there are of these); `:engines`;
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

  @doc """
  Where compiled modules are kept on disk.

      iex> Cybernetic.WASM.Runtime.artifacts()
      %{folder: nil, reason: "artifacts: false"}

    * `:folder` - the folder, where there is one
    * `:reason` - why nothing is kept there, a text; `nil` where all is well

  A module is found there by the digest of its bytes and by all else that its code depends on: `:metering`, `:deterministic`,
  `:features`, the build of this library, and what the processor can do. So are preinitialized modules and snapshots. An
  artifact is never taken from a source: a load is always of WebAssembly.

  A compiled file is code. Who can write to the folder can run code in this node. It must belong to the user that the VM runs
  as, nobody else may be able to write to it or to a folder above it, and no symbolic link may lead to it. If that is not so,
  nothing is kept, with one line in the log. Files are sealed with a key that lies in the folder. A file that is damaged or
  another's is not taken: the module is compiled anew, with one line in the log.

  `:artifact_size` bounds the folder: what was used longest ago goes first. `mix wasm.compile` fills it ahead of time.
  """
  @spec artifacts() :: %{folder: Path.t() | nil, reason: String.t() | nil}
  def artifacts do
    case Startup.artifacts(Startup.config()) do
      {:ok, folder} -> %{folder: folder, reason: Native.runtime_no_artifacts()}
      {:error, reason} -> %{folder: nil, reason: reason}
    end
  end

  @doc """
  Loads modules now, so that nobody has to wait for them later: from the disk, or by compiling them. Gives what each load
  gave, in order.

      iex> [{:ok, module}, {:error, error}] =
      ...>   Cybernetic.WASM.Runtime.warm(["priv/wasm/compute.wasm", {"no.wasm", metering: :epoch}])
      iex> {module.name, error.reason}
      {"compute.wasm", :not_found}

  Each is a source of `load_module/2`, or one with its options. They stay in the cache as others do; hold the handles of those
  that are not to leave it.
  """
  @spec warm([Loader.source() | {Loader.source(), [load_option]}]) :: [
          {:ok, Module.loaded()} | {:error, Error.t()}
        ]
  def warm(sources) when is_list(sources) do
    # The compiler shares itself out between processes.
    sources
    |> Task.async_stream(&warm_one/1, max_concurrency: @together, timeout: :infinity)
    |> Enum.map(fn {:ok, loaded} -> warmed(loaded) end)
  end

  def warm(other) do
    Options.refuse!(
      ~s|warm/1 takes a list of sources, such as ["priv/wasm/resize.wasm", {:store, "acme/thumb"}]|,
      other
    )
  end

  # What is no source, or no option, is the caller's to hear of, and no end of a process.
  defp warm_one(given) do
    warm_source(given)
  rescue
    error in ArgumentError -> {:mistaken, error}
  end

  # A source of the user's own begins with its module.
  defp warm_source({source, opts}) when is_list(opts) and not is_atom(source),
    do: load_module(source, opts)

  defp warm_source(source), do: load_module(source)

  defp warmed({:mistaken, error}), do: raise(error)
  defp warmed(loaded), do: loaded

  @doc """
  Sees to it that the module's compiled code is on disk: `mix wasm.compile` calls this. Where nobody does, it is written some
  time after it was compiled.
  """
  @spec keep(Module.loaded()) :: :ok | {:error, String.t()}
  def keep(module) when is_loaded(module), do: Native.module_keep(module.ref)
  def keep(other), do: Module.needed!(other)

  @doc """
  What those of the operator's pins stand under that no load has gone by since the application started. A pin whose name or path
  nobody uses pins nothing: see "Pins" of `Cybernetic.WASM.Loader`.

      iex> Cybernetic.WASM.Runtime.unused_pins()
      []
  """
  @spec unused_pins() :: [String.t()]
  def unused_pins, do: Pins.unused(Config.get().pins)

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
