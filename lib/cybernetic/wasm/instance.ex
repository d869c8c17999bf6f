defmodule Cybernetic.WASM.Instance do
  @moduledoc """
  A live instance: a guest that keeps its state between calls.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|
      ...>   (module
      ...>     (global $n (export "n") (mut i32) (i32.const 0))
      ...>     (func (export "next") (result i32)
      ...>       (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      ...>     (func (export "fail") unreachable))|})
      iex> alias Cybernetic.WASM.Instance
      iex> {:ok, counter} = Instance.new(module)
      iex> {Instance.call(counter, "next"), Instance.call(counter, "next")}
      {{:ok, 1}, {:ok, 2}}
      iex> :ok = Instance.set_global(counter, "n", 41)
      iex> Instance.call(counter, "next")
      {:ok, 42}
      iex> {:error, %Cybernetic.WASM.TrapError{}} = Instance.call(counter, "fail")
      iex> Instance.poisoned?(counter)
      true
      iex> :ok = Instance.reset(counter)
      iex> Instance.call(counter, "next")
      {:ok, 1}

  The handle is a value that any process of the node may use, and no other node's. The guest is gone when nobody holds it any
  more, or with `close/1`. Each call is driven by the process that makes it, as with `Cybernetic.WASM.Executor`, and no process
  stands in between. One call runs at a time: a second caller is told that the instance is `:busy`, or waits in line with
  `wait:`.

  After a call that trapped, met a limit, was cancelled, or whose caller was killed, the guest was cut off in the middle
  of something: the instance is poisoned, and only `reset/2` makes it usable again.

  Memory is read and written with `Cybernetic.WASM.Memory`.

  ## Options of `new/2`

    * those of `Cybernetic.WASM.Executor.call/4`: limits, `:sandbox`, `:imports`, `:unknown_imports`, `:reentrant`, `:data`, `:scheduling`,
      `:metering`, `:deterministic`, `:allocation`, `:wait`, `:args`, `:program`, `:env`, `:abi`. They apply while the
      instance is made and are the defaults of its calls.
      Limits replace the configured ones, or narrow those of `:sandbox`.
    * `:on_trap` - `:poison` (default), or `:keep`: a call that ends in a trap, an uncaught exception or an exhausted stack
      leaves the guest usable with what the call had done so far, as the WebAssembly specification has it
    * `:snapshottable` - `true`: `snapshot/2` and `fork/2` work. The guest then runs a module that exports all its state.
      Default: `false`.
    * `:on_fork` - the name of an exported function without parameters and results, for an instance that is `:snapshottable`:
      it is called first in each instance that begins in the state of this one, see "Snapshots". Default: none.
    * `:budget` - `true`: the limits `:fuel`, `:timeout`, `:max_host_calls` and `:max_output` are for the instance's whole life,
      see below. Default: `false`, they are for each call.
    * `:store` - another instance in whose store this one is to live, so that the two can be linked. An instance that is in
      `:imports` implies it.

  ## Options of a call

  They hold for this call. Limits only narrow those of the instance, also those that it has by default: who wants more gives
  them to `new/2`. `:imports` replaces some of its host functions, and no globals; `:data`, `:abi`
  and `:scheduling` replace those that it was made with. `:wait` is how many milliseconds the call may stand in line;
  they count against its `:timeout`. What an engine fixes, such as `:max_stack`, cannot be changed.

  ## Budgets

  With `budget: true` making the instance, all its calls, its resets and whatever is linked to it draw on one supply of fuel and
  time, of host calls and output, whoever calls. The time runs from the making, also between calls. When it is over,
  `Cybernetic.WASM.Memory` and the other accesses fail too. What is used up stays so:

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|
      ...>   (module (func (export "work") (param i32)
      ...>     (loop $again (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))|})
      iex> {:ok, instance} = Cybernetic.WASM.Instance.new(module, budget: true, fuel: 10_000)
      iex> Cybernetic.WASM.Instance.call(instance, "work", [1_000])
      {:ok, nil}
      iex> Cybernetic.WASM.Instance.usage(instance).fuel > 4_000
      true
      iex> {:error, error} = Cybernetic.WASM.Instance.call(instance, "work", [2_000])
      iex> {error.limit, error.allowed}
      {:fuel, 10_000}

  A call's own limits narrow what it takes of the budget. A fork has a budget of its own. A server whose instance has no time
  left to be reset in stops, and its supervisor starts it with a new one. `Cybernetic.WASM.Executor.with_instance/3` gives a piece
  of work an instance with a budget. `usage/1` says what an instance has used by now, with a budget or without.

  ## WASI

  A guest that was granted WASI keeps its open files, its scratch directory and its quota between calls. What it writes to
  standard output is the call's, as is what it reads: `:stdin` is an option of `call/4` and `run/4`, and empty otherwise.
  `:args`, `:program` and `:env` are options of `new/2`. A reactor's `_initialize` has run when `new/2` returns, as it has in
  a fresh instance before its function is called. `reset/2` resets all of it. A guest that exits is poisoned, unless it is a
  program at its end: the error is a `Cybernetic.WASM.TrapError` with the code `:exit`. A snapshot holds no open files.

  Linked modules that use WASI share one. A module that is granted other things than the instance that it is to join is
  refused (`:other_grants`).

  ## Programs

  A module that was compiled as a program may export functions beside its `_start`: Go's and TinyGo's do. These need what
  `_start` sets up, so it is called first, once:

      {:ok, instance} = Instance.new(program, sandbox: :command)
      {:ok, 0} = Instance.call(instance, :start)
      Instance.call(instance, "add", [1, 2])

  `:start` gives the exit code, as it does with `Cybernetic.WASM.Executor.call/4`; `call(instance, "_start")` is a call like any
  other, in which an exit is an error. A program that returns, or exits with 0, has come to its end, and the instance is as
  usable as before. One that exits with another code has failed: it is poisoned, as is a guest that exits in any other
  function. A second `:start` runs the program again in the state that it left, for which most are not made.

  A trap in a program whose `_start` has not been called has `unstarted: true`, and its message says so.
  `Cybernetic.WASM.Runtime.preinit/4` takes `:start` as well: the module that it gives begins where the program ended.

  ## Linking

  Any of the module's imports can be what another instance or module exports: memories, tables, globals, functions, tags.

      imports: %{
        "lib" => instance,                                # everything that it exports
        "math" => module,                                 # an instance of it is made first, beside this one
        "text" => "unicode@~> 1.2",                       # the same of a module that is loaded under a name
        "env" => %{
          "log" => fn ctx, ptr, len -> … end,
          "memory" => {instance, "memory"},               # one export, under another name
        }
      }

  An instance keeps alive those that it was linked with, and their host functions. The others may call its own host functions
  too, through a table for example: these are there as long as somebody holds its handle.

  Linked instances live in one store: they have one set of limits, one call runs at a time in all of them, and one that is
  poisoned poisons the others. `reset/2` resets all of them. A link whose types do not fit fails with a
  `Cybernetic.WASM.LinkError` that names every import that is wrong.

  ## A shared, named instance

  `start_link/1` puts a process beside an instance, for those who want it named and supervised. Callers still drive the
  guest themselves: the process only says whose turn it is, first come, first served. A caller that dies or runs out of time
  frees the instance, which is then reset.

      children = [
        {Cybernetic.WASM.Instance, name: MyApp.Counter, module: "counter.wasm"}
      ]

      Cybernetic.WASM.Instance.call(MyApp.Counter, "next")

  Options of `start_link/1`: those of `new/2`, and

    * `:module` - a `Cybernetic.WASM.Module`, `{:name, text}` for one that is loaded under a name, or its source as `Cybernetic.WASM.Runtime.load_module/2` takes it
    * `:load` - with a source, the options of that load
    * `:name` - as with any `GenServer`
    * `:on_poison` - `:reset` (default), or `:stop`, which leaves a poisoned instance to the supervisor

  A source is loaded once the process has started: calls stand in line meanwhile. Where it cannot be loaded, or the instance not
  be made, no supervisor has to stop for it. That is logged, each call gives the error, and the next one tries again. With a module,
  `start_link/1` itself gives the error.

  ## Snapshots

  A snapshot is a module in the binary format: its initial state is what the instance's was. Loading it, here or on
  another node, is the restore.

      {:ok, instance} = Instance.new(module, snapshottable: true)
      {:ok, _} = Instance.call(instance, "learn", [data])
      {:ok, wasm} = Instance.snapshot(instance)
      {:ok, learned} = Runtime.load_module({:bytes, wasm})

  The instance is busy while its memory is read, and free again while the module is written. What that takes counts as memory of
  the node's guests (`max_total_memory`) as long as it is there: twice the memory that is not zero. A snapshot ends soon when its
  caller does.

  A snapshot is about as large as the memory that is not zero. To load one that is larger than `:max_module_size`, give that
  option.

  Everything in it is captured: a random number generator that was seeded before goes on alike in all forks, and in all
  instances of a snapshot and of `Cybernetic.WASM.Runtime.preinit/4`; so do hash seeds, session keys, what is cached of the
  time, of arguments and of variables. A module that must not repeat itself exports a function that makes them anew, which
  `on_fork:` names. It becomes the start function of the snapshot, and so is called in each instance of it, here and elsewhere,
  within the limits of making it, with the grants of the new instance. Where it fails there is no instance. With
  `random: {:seeded, n}` it draws the same numbers each time: give it `random: :system`.

      Instance.new(module, snapshottable: true, on_fork: "reseed", sandbox: Sandbox.new(random: :system))

  Globals and memories are captured. Not every module can be: one that changes tables, drops segments, has mutable globals
  that hold references, or imports anything but functions is refused when the instance is made, with a
  `Cybernetic.WASM.CallError` of the reason `:no_snapshot` that names what it is. Nor can an instance with linked modules be
  captured.
  """

  alias Cybernetic.WASM.{ABI, Error, Executor, Host, Limits, Module, Run, Shown, Usage, Value}
  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Instance.{Live, Server, Snapshot}

  @enforce_keys [:ref, :module]
  # `ref` is the guest, and `member` says which of the instances in its store this is. `engine` is what its forks are compiled
  # for. Private are the plan, and what the forks are given of the system.
  defstruct [
    :ref,
    :module,
    :private,
    :engine,
    :on_fork,
    member: 0,
    snapshottable: false,
    on_trap: :poison
  ]

  @typedoc "A live instance."
  @type t :: %__MODULE__{module: Module.loaded()}

  @typedoc "A live instance, or the pid or name of its server."
  @type target :: t | GenServer.server()

  @typedoc "An exported function's name, of a component also with its interface before it; or `:start` for a program."
  @type entry :: String.t() | {interface :: String.t(), String.t()} | :start

  @typedoc "An option of `new/2`."
  @type option ::
          Executor.option()
          | {:on_trap, :poison | :keep}
          | {:snapshottable, boolean}
          | {:budget, boolean}
          | {:on_fork, String.t()}
          | {:store, t}

  @typedoc "An option of a call on an instance."
  @type call_option ::
          Limits.option()
          | {:imports, Host.given()}
          | {:data, term}
          | {:abi, ABI.given()}
          | {:scheduling, :adaptive | :dirty | :inline}
          | {:wait, non_neg_integer}
          | {:stdin, iodata | Enumerable.t() | nil}

  @doc """
  Makes an instance of `module`. Its start function runs within the limits.

  Errors: those of `Cybernetic.WASM.Executor.call/4`.
  """
  @spec new(Module.given(), [option]) :: {:ok, t} | {:error, Error.t()}
  defdelegate new(module, opts \\ []), to: Live

  @doc "As `new/2`, but raises the error."
  @spec new!(Module.given(), [option]) :: t
  def new!(module, opts \\ []), do: module |> new(opts) |> Error.unwrap!()

  @doc """
  Calls `function` and gives what it returns. `:start` runs a program's `_start` and gives its exit code: see above. Its
  options may then stand in the place of arguments.
  """
  @spec call(target, entry, [Value.t()] | [call_option], [call_option]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call(target, function, args \\ [], opts \\ [])

  def call(%__MODULE__{} = instance, function, args, opts),
    do: Live.call(instance, function, args, opts)

  def call(server, function, args, opts) do
    {args, opts} = Plan.arguments(function, args, opts)
    Server.borrow_for(server, opts, &Live.call(&1, function, args, opts))
  end

  @doc "As `call/4`, but gives a `Cybernetic.WASM.Run` with the result, the output and what the call used."
  @spec run(target, entry, [Value.t()] | [call_option], [call_option]) ::
          {:ok, Run.t()} | {:error, Error.t()}
  def run(target, function, args \\ [], opts \\ [])

  def run(%__MODULE__{} = instance, function, args, opts),
    do: Live.run(instance, function, args, opts)

  def run(server, function, args, opts) do
    {args, opts} = Plan.arguments(function, args, opts)
    Server.borrow_for(server, opts, &Live.run(&1, function, args, opts))
  end

  @doc "As `call/4`, but raises. What a host function raised is raised again, with its own stack."
  @spec call!(target, entry, [Value.t()] | [call_option], [call_option]) :: Value.result()
  def call!(target, function, args \\ [], opts \\ []),
    do: target |> call(function, args, opts) |> Error.unwrap!()

  @doc "As `run/4`, but raises as `call!/4` does."
  @spec run!(target, entry, [Value.t()] | [call_option], [call_option]) :: Run.t()
  def run!(target, function, args \\ [], opts \\ []),
    do: target |> run(function, args, opts) |> Error.unwrap!()

  @doc """
  Calls the function in an exported table at `index`: what C and other languages call a function pointer. Its number of
  arguments and their types are checked as an export's are. Options are those of `call/4`, without `:abi`: it takes and gives
  numbers.

  An element that is null, or no function, is a `Cybernetic.WASM.CallError` with the reason `:no_function`; an index beyond the
  table's size has the reason `:no_such_element`. WebAssembly's linkers export the table with `--export-table`, as
  `"__indirect_function_table"`.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|
      ...>   (module (table (export "functions") 2 funcref) (elem (i32.const 1) func $double)
      ...>     (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))|})
      iex> {:ok, instance} = Cybernetic.WASM.Instance.new(module)
      iex> Cybernetic.WASM.Instance.call_table(instance, "functions", 1, [21])
      {:ok, 42}
      iex> {:error, error} = Cybernetic.WASM.Instance.call_table(instance, "functions", 0, [21])
      iex> error.reason
      :no_function
  """
  @spec call_table(target, String.t(), non_neg_integer, [Value.t()], [call_option]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call_table(target, table, index, args \\ [], opts \\ [])

  def call_table(%__MODULE__{} = instance, table, index, args, opts),
    do: Live.call_table(instance, {name!(table), Value.index!(index)}, args, opts)

  def call_table(server, table, index, args, opts),
    do: Server.borrow_for(server, opts, &call_table(&1, table, index, args, opts))

  @doc """
  Calls a function reference that a call on this instance returned, that `table_get/3` or `get_global/2` gave, or that a host
  function was called with, as `call_table/5` does. One of another instance that is not linked with this one, or from before a
  `reset/2`, is a `Cybernetic.WASM.CallError` with the reason `:other_instance`.
  """
  @spec call_ref(target, Value.t(), [Value.t()], [call_option]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call_ref(target, ref, args \\ [], opts \\ [])

  def call_ref(%__MODULE__{} = instance, ref, args, opts),
    do: Live.call_ref(instance, ref, args, opts)

  def call_ref(server, ref, args, opts),
    do: Server.borrow_for(server, opts, &Live.call_ref(&1, ref, args, opts))

  @doc """
  Brings the guest back to its module's initial state, poisoned or not, for about what a fresh instance costs. The start
  function runs again, within the limits of the instance, which `opts` may narrow; `wait:` as with a call.
  """
  @spec reset(target, keyword) :: :ok | {:error, Error.t()}
  def reset(target, opts \\ []), do: with_live(target, opts, &Live.reset(&1, opts))

  # A server's, for one turn.
  defp with_live(%__MODULE__{} = instance, _opts, function), do: function.(instance)
  defp with_live(server, opts, function), do: Server.borrow_for(server, opts, function)

  @doc "Whether an earlier call left the guest in a state that is not to be trusted."
  @spec poisoned?(target) :: boolean
  def poisoned?(%__MODULE__{} = instance), do: Live.state(instance) == :poisoned

  def poisoned?(server) do
    instance = Server.peek(server)
    instance != nil and poisoned?(instance)
  end

  @doc """
  Ends the guest now, rather than when nobody holds its handle any more. Later calls fail with the reason `:closed`;
  while a call runs, this fails with `:busy`. A second time it does nothing. A server is stopped.
  """
  @spec close(target) :: :ok | {:error, Error.t()}
  def close(%__MODULE__{} = instance), do: Live.close(instance)
  def close(server), do: Server.stop(server)

  @doc """
  What the guest has used in its whole life, from the beginning of its making: a `Cybernetic.WASM.Usage` of all its calls and
  resets together, of linked instances too. A call that is under way counts as far as it is known, and one that was cut off
  with all that it may have used. A closed instance's wall time has ended. Of a server that has no instance yet it is `nil`.
  """
  @spec usage(target) :: Usage.t() | nil
  def usage(%__MODULE__{} = instance), do: Live.usage(instance)

  def usage(server) do
    if instance = Server.peek(server), do: Live.usage(instance)
  end

  # Exports other than functions

  @doc "The value of an exported global."
  @spec get_global(target, String.t()) :: {:ok, Value.t()} | {:error, Error.t()}
  def get_global(target, name), do: access(target, {:get_global, name!(name)})

  @doc "Gives an exported mutable global another value, by the rules of `Cybernetic.WASM.Value`."
  @spec set_global(target, String.t(), Value.t()) :: :ok | {:error, Error.t()}
  def set_global(target, name, value) do
    with {:ok, :ok} <- access(target, {:set_global, name!(name), value}), do: :ok
  end

  @doc "How many elements an exported table has."
  @spec table_size(target, String.t()) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def table_size(target, name), do: access(target, {:table_size, name!(name)})

  @doc "An element of an exported table: `nil`, an opaque reference to a function, or the term of an `externref`."
  @spec table_get(target, String.t(), non_neg_integer) :: {:ok, Value.t()} | {:error, Error.t()}
  def table_get(target, name, index),
    do: access(target, {:table_get, name!(name), Value.index!(index)})

  defp name!(name) when is_binary(name), do: name

  defp name!(other) do
    raise ArgumentError,
          "an export's name is a string, got: #{Shown.kind(other)}"
  end

  @doc false
  @spec access(target, tuple) :: {:ok, term} | {:error, Error.t()}
  def access(%__MODULE__{} = instance, access), do: Live.access(instance, access)
  def access(server, access), do: Server.borrow_for(server, [], &Live.access(&1, access))

  # Snapshots

  @doc """
  The instance's state as a module in the binary format, for `Cybernetic.WASM.Runtime.load_module/2`. The instance goes
  on as before. `wait:` and `timeout:` as with a call.
  """
  @spec snapshot(target, keyword) :: {:ok, binary} | {:error, Error.t()}
  def snapshot(target, opts \\ []), do: with_live(target, opts, &Snapshot.take(&1, opts))

  @doc """
  Another instance in the state that this one is in, apart from it from now on, with the same options.

  It repeats what this one would do: the same "random" numbers, where they come from a generator in the guest, and the same hash
  seeds. `on_fork:`, an option of `new/2`, names what is to be called in each fork to make them anew.

  The first fork after a change takes a snapshot and compiles it; further ones cost about what a fresh instance costs,
  since the memory is shared until it is written to.
  """
  @spec fork(target, keyword) :: {:ok, t} | {:error, Error.t()}
  def fork(target, opts \\ []), do: with_live(target, opts, &Snapshot.fork(&1, opts))

  # Servers

  @doc "A supervisor's child: see `start_link/1`."
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts),
    do: %{id: Keyword.get(opts, :name, __MODULE__), start: {__MODULE__, :start_link, [opts]}}

  @doc "Starts a process that has an instance and says whose turn it is: see above."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts), do: Server.start_link(opts)

  @doc """
  Has the server's instance to oneself while `function` runs with it: several calls that belong together.

  `wait:` is how many milliseconds it may take to come to one's turn, default 5,000; after that the error is a
  `Cybernetic.WASM.CallError` with the reason `:busy`.
  """
  @spec borrow(GenServer.server(), (t -> result), keyword) :: result | {:error, Error.t()}
        when result: term
  def borrow(server, function, opts \\ []), do: Server.borrow(server, function, opts)

  defimpl Inspect do
    def inspect(instance, _opts) do
      member = if instance.member == 0, do: "", else: ", member #{instance.member}"

      "#Cybernetic.WASM.Instance<#{instance.module.name || "bytes"}, #{String.slice(instance.module.digest, 0, 15)}#{member}>"
    end
  end
end
