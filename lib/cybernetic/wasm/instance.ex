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

  The handle is a value that any process of the node may use; the guest is gone when nobody holds it any more, or with
  `close/1`. Each call is driven by the process that makes it, as with `Cybernetic.WASM.Executor`, and no process stands
  in between. One call runs at a time: a second caller is told that the instance is `:busy`, or waits in line with
  `wait:`.

  After a call that trapped, met a limit, was cancelled, or whose caller was killed, the guest was cut off in the middle
  of something: the instance is poisoned, and only `reset/2` makes it usable again.

  Memory is read and written with `Cybernetic.WASM.Memory`.

  ## Options of `new/2`

    * those of `Cybernetic.WASM.Executor.call/4`: limits, `:sandbox`, `:imports`, `:data`, `:scheduling`, `:metering`,
      `:deterministic`, `:wait`, `:args`, `:env`. They hold for making the instance, and are what its calls have when they bring none.
    * `:on_trap` - `:poison` (default), or `:keep`: a call that ends in a trap, an uncaught exception or an exhausted stack
      leaves the guest usable with what the call had done so far, as the WebAssembly specification has it
    * `:snapshottable` - `true`: `snapshot/2` and `fork/2` work. The guest then runs a module that exports all its state.
      Default: `false`.
    * `:store` - another instance in whose store this one is to live, so that the two can be linked. An instance that is in
      `:imports` implies it.

  ## Options of a call

  Limits only narrow those of the instance, for this call. `:imports` replaces some of its host functions, `:data` and
  `:scheduling` what it was made with, for this call. `:wait` is how many milliseconds the call may stand in line;
  they count against its `:timeout`. What an engine fixes, such as `:max_stack`, cannot be changed.

  ## WASI

  A guest that was granted WASI keeps its open files, its scratch directory and its quota between calls. What it writes to
  standard output is the call's, as is what it reads: `:stdin` is an option of `call/4` and `run/4`, and empty otherwise.
  `:args` and `:env` are options of `new/2`. A reactor's `_initialize` has run when `new/2` returns, as it has in a fresh
  instance before its function is called. `reset/2` makes all of it anew. A guest that exits is poisoned: the error is a
  `Cybernetic.WASM.TrapError` with the code `:exit`. A snapshot holds no open files.

  Linked modules that use WASI share one; one that is granted other things than the instance that it is to join is refused
  (`:other_grants`).

  ## Linking

  Any of the module's imports can be what another instance or module exports: memories, tables, globals, functions, tags.

      imports: %{
        "lib" => instance,                                # everything that it exports
        "math" => module,                                 # an instance of it is made first, beside this one
        "env" => %{
          "log" => fn ctx, ptr, len -> … end,
          "memory" => {instance, "memory"},               # one export, under another name
        }
      }

  An instance keeps those that it was linked with, and their host functions. The other way round, host functions of its
  own that the others call, through a table say, are there as long as its handle is held.

  Linked instances live in one store: they have one set of limits, one call runs at a time in all of them, and one that is
  poisoned poisons the others. `reset/2` makes all of them anew. A link whose types do not fit fails with a
  `Cybernetic.WASM.LinkError` that names every import that is wrong.

  ## A shared, named instance

  `start_link/1` puts a process beside an instance, for those who want it named and supervised. Callers still drive the
  guest themselves: the process only says whose turn it is, first come, first served. One that dies or runs out of time
  frees the instance, which is made anew.

      children = [
        {Cybernetic.WASM.Instance, name: MyApp.Counter, module: module}
      ]

      Cybernetic.WASM.Instance.call(MyApp.Counter, "next")

  Options of `start_link/1`: those of `new/2`, `:module`, `:name`, and `:on_poison`: `:reset` (default), or `:stop`, which
  leaves it to the supervisor.

  ## Snapshots

  A snapshot is a module in the binary format: its initial state is what the instance's was. Loading it, here or on
  another node, is the restore.

      {:ok, instance} = Instance.new(module, snapshottable: true)
      {:ok, _} = Instance.call(instance, "learn", [data])
      {:ok, wasm} = Instance.snapshot(instance)
      {:ok, learned} = Runtime.load_module({:bytes, wasm})

  A snapshot is about as large as the memory that is not zero: beyond `:max_module_size` a load has to be allowed it.

  Globals and memories are captured. What cannot be is refused by name when the instance is made, with a
  `Cybernetic.WASM.CallError` of the reason `:no_snapshot`: a module that changes tables, drops segments, has mutable
  globals that hold references, or imports anything but functions; nor can an instance with linked modules be captured.
  """

  alias Cybernetic.WASM.{
    CallError,
    Error,
    Execution,
    Linker,
    Loader,
    Module,
    Native,
    Options,
    Run,
    Shown,
    Value
  }

  alias Cybernetic.WASM.Execution.{Plan, Tally}
  alias Cybernetic.WASM.Instance.Server

  @enforce_keys [:ref, :module]
  # `member` says which of the instances in the guest's store this is; `engine` is what its forks are compiled for, and `wasi`
  # what they are given of the system.
  defstruct [
    :ref,
    :module,
    :plan,
    :engine,
    :wasi,
    member: 0,
    snapshottable: false,
    on_trap: :poison
  ]

  @typedoc "A live instance."
  @type t :: %__MODULE__{module: Module.t()}

  @typedoc "A live instance, or the pid or name of its server."
  @type target :: t | GenServer.server()

  @options [
    on_trap: {:one_of, [:poison, :keep]},
    snapshottable: :boolean,
    store: {:struct, __MODULE__}
  ]

  @doc false
  @spec options() :: Options.keys()
  def options, do: @options ++ Plan.options()

  @doc """
  Makes an instance of `module`. Its start function runs within the limits.

  Errors: those of `Cybernetic.WASM.Executor.call/4`.
  """
  @spec new(Module.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def new(module, opts \\ [])

  def new(%Module{} = module, opts) do
    opts = Options.check!(opts, options(), "instance option")
    {own, call} = Map.split(opts, Keyword.keys(@options))
    snapshottable = Map.get(own, :snapshottable, false)

    with {:ok, plan} <- Plan.checked(module, call),
         {:ok, instance} <- new(module, plan, {own[:store], snapshottable, call}),
         do: {:ok, on_trap(instance, Map.get(own, :on_trap, :poison))}
  end

  def new(other, _opts), do: Module.needed!(other)

  defp new(module, %{bindings: %{sources: nil}} = plan, {nil, snapshottable, _opts}) do
    with {:ok, instance, _tally} <-
           module |> make(plan, snapshottable) |> Execution.close_input(plan),
         do: {:ok, instance}
  end

  defp new(module, _plan, {_store, true, _opts}) do
    case Enum.find(Module.imports(module), &(not match?({:function, _, _}, &1.type))) do
      nil ->
        raise ArgumentError, "an instance that is linked to others cannot be snapshottable"

      import ->
        what = "#{elem(import.type, 0)} #{inspect(import.module)} #{inspect(import.name)}"
        detail = "the module imports the #{what}, where only functions can be captured"
        {:error, %CallError{reason: :no_snapshot, detail: detail}}
    end
  end

  defp new(module, plan, {store, false, opts}) do
    with {:ok, instance, _used} <-
           module |> Linker.Guest.link(plan, store, opts) |> Execution.close_input(plan),
         do: {:ok, instance}
  end

  defp on_trap(instance, :poison), do: instance

  defp on_trap(instance, :keep) do
    Native.instance_survive_traps(instance.ref)
    %{instance | on_trap: :keep}
  end

  @doc false
  # The first instance of a guest.
  @spec make(Module.t(), Plan.t(), boolean) :: {:ok, t, Tally.t() | nil} | {:error, Error.t()}
  def make(module, plan, snapshottable) do
    step =
      with :dirty <- Native.instance_new(module.ref, snapshottable, plan.native, plan.scheduling),
           do: Native.instance_new_dirty(module.ref, snapshottable, plan.native)

    with {:ok, ref, tally} <- Execution.drive_part(step, plan) do
      instance = %__MODULE__{
        ref: ref,
        module: module,
        plan: plan |> Plan.settle() |> Plan.hosted(ref, []),
        engine: plan.engine || module.engine,
        wasi: plan.wasi,
        snapshottable: snapshottable
      }

      {:ok, instance, tally}
    end
  end

  @doc "As `new/2`, but raises the error."
  @spec new!(Module.t(), keyword) :: t
  def new!(module, opts \\ []), do: module |> new(opts) |> Error.unwrap!()

  @doc "Calls `function` and gives what it returns."
  @spec call(target, String.t(), [Value.t()], keyword) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call(target, function, args \\ [], opts \\ [])

  def call(%__MODULE__{} = instance, function, args, opts)
      when is_binary(function) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)

    with {:ok, plan} <- Plan.narrow(instance.plan, instance.module, opts),
         {:ok, result, _tally} <- Execution.call(target(instance), function, args, plan),
         do: {:ok, result}
  end

  def call(%__MODULE__{}, :start, _args, _opts) do
    raise ArgumentError,
          "a command runs once, in a fresh instance: give its module to Cybernetic.WASM.Executor.run/4"
  end

  def call(%__MODULE__{}, function, args, _opts) do
    raise ArgumentError,
          "a function's name and a proper list of arguments are needed, got: #{Shown.term({function, args})}"
  end

  def call(server, function, args, opts),
    do: borrow(server, &call(&1, function, args, opts), in_line(opts))

  @doc "As `call/4`, but gives a `Cybernetic.WASM.Run` with the result, the output and what the call used."
  @spec run(target, String.t(), [Value.t()], keyword) :: {:ok, Run.t()} | {:error, Error.t()}
  def run(target, function, args \\ [], opts \\ [])

  def run(%__MODULE__{} = instance, function, args, opts)
      when is_binary(function) and length(args) >= 0 do
    Plan.refuse_as_arguments!(args, opts)

    with {:ok, plan} <- Plan.narrow(instance.plan, instance.module, opts),
         {:ok, result, tally} <-
           Execution.call(target(instance), function, args, Plan.reporting(plan)),
         do: {:ok, Run.new(result, tally)}
  end

  def run(%__MODULE__{} = instance, function, args, opts),
    do: call(instance, function, args, opts)

  def run(server, function, args, opts),
    do: borrow(server, &run(&1, function, args, opts), in_line(opts))

  # Those of a call's options that say how long it may stand in line.
  defp in_line(opts) do
    if Keyword.keyword?(opts),
      do: Keyword.take(opts, Keyword.keys(Plan.in_line())),
      else: opts
  end

  @doc "As `call/4`, but raises. What a host function raised is raised again, with its own stack."
  @spec call!(target, String.t(), [Value.t()], keyword) :: Value.result()
  def call!(target, function, args \\ [], opts \\ []),
    do: target |> call(function, args, opts) |> Error.unwrap!()

  @doc "As `run/4`, but raises as `call!/4` does."
  @spec run!(target, String.t(), [Value.t()], keyword) :: Run.t()
  def run!(target, function, args \\ [], opts \\ []),
    do: target |> run(function, args, opts) |> Error.unwrap!()

  @doc false
  @spec target(t) :: Execution.target()
  def target(%__MODULE__{ref: ref, member: member}), do: {:live, ref, member}

  @doc """
  Brings the guest back to its module's initial state, poisoned or not, for about what a fresh instance costs. The start
  function runs again, within the limits of the instance, which `opts` may narrow; `wait:` as with a call.
  """
  @spec reset(target, keyword) :: :ok | {:error, Error.t()}
  def reset(target, opts \\ [])

  def reset(%__MODULE__{ref: ref} = instance, opts) do
    with {:ok, plan} <- Plan.narrow(instance.plan, instance.module, opts),
         step = reset_step(ref, plan.native),
         {:ok, :ok, _tally} <- Execution.drive(step, plan),
         do: :ok
  end

  def reset(server, opts), do: borrow(server, &reset(&1, opts), in_line(opts))

  defp reset_step(ref, options) do
    with :dirty <- Native.instance_reset(ref, options),
         do: Native.instance_reset_dirty(ref, options)
  end

  @doc "Whether an earlier call left the guest in a state that is not to be trusted."
  @spec poisoned?(target) :: boolean
  def poisoned?(%__MODULE__{ref: ref}), do: Native.instance_state(ref) == :poisoned
  def poisoned?(server), do: server |> Server.peek() |> poisoned?()

  @doc """
  Ends the guest now, rather than when nobody holds its handle any more. Later calls fail with the reason `:closed`;
  while a call runs, this fails with `:busy`. A second time it does nothing. A server is stopped.
  """
  @spec close(target) :: :ok | {:error, Error.t()}
  def close(%__MODULE__{ref: ref}) do
    with {:refused, error} <- Native.instance_close(ref), do: {:error, Error.from_native(error)}
  end

  def close(server), do: Server.stop(server)

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
  def table_get(target, name, index) when index in 0..0xFFFF_FFFF_FFFF_FFFF,
    do: access(target, {:table_get, name!(name), index})

  def table_get(_target, _name, index) do
    raise ArgumentError,
          "an index is an integer from 0, got: #{Shown.term(index)}"
  end

  defp name!(name) when is_binary(name), do: name

  defp name!(other) do
    raise ArgumentError,
          "an export's name is a string, got: #{Shown.term(other)}"
  end

  @doc false
  @spec access(target, tuple) :: {:ok, term} | {:error, Error.t()}
  def access(%__MODULE__{ref: ref, member: member}, {:read, memory, offset, length} = read) do
    if Execution.large?(read),
      do: answer(Native.instance_read_dirty(ref, member, memory, offset, length)),
      else: answer(Native.instance_read(ref, member, memory, offset, length))
  end

  def access(%__MODULE__{ref: ref, member: member}, {:write, memory, offset, bytes} = write) do
    if Execution.large?(write),
      do: answer(Native.instance_write_dirty(ref, member, memory, offset, bytes)),
      else: answer(Native.instance_write(ref, member, memory, offset, bytes))
  end

  def access(%__MODULE__{ref: ref, member: member, plan: plan}, access) do
    case Native.instance_access(ref, member, access, plan.native) do
      {:answer, answer} ->
        {:ok, answer}

      step ->
        with {:ok, answer, _tally} <- Execution.drive(step, plan), do: {:ok, answer}
    end
  end

  def access(server, access), do: borrow(server, &access(&1, access), [])

  defp answer({:refused, error}), do: {:error, Error.from_native(error)}
  defp answer(answer), do: {:ok, answer}

  # Snapshots

  @doc """
  The instance's state as a module in the binary format, for `Cybernetic.WASM.Runtime.load_module/2`. The instance goes
  on as before. `wait:` and `timeout:` as with a call.
  """
  @spec snapshot(target, keyword) :: {:ok, binary} | {:error, Error.t()}
  def snapshot(target, opts \\ [])

  def snapshot(%__MODULE__{} = instance, opts) do
    with {:ok, {wasm, _uses}} <- take_snapshot(instance, opts), do: {:ok, wasm}
  end

  def snapshot(server, opts), do: borrow(server, &snapshot(&1, opts), in_line(opts))

  defp take_snapshot(%{ref: ref, plan: plan, module: module}, opts) do
    with {:ok, plan} <- Plan.narrow(plan, module, opts),
         {:ok, snapshot, _tally} <-
           ref |> Native.instance_snapshot(plan.native) |> Execution.drive(plan),
         do: {:ok, snapshot}
  end

  @doc """
  Another instance in the state that this one is in, apart from it from now on, with the same options.

  The first fork after a change takes a snapshot and compiles it; further ones cost about what a fresh instance costs,
  since the memory is shared until it is written to.
  """
  @spec fork(target, keyword) :: {:ok, t} | {:error, Error.t()}
  def fork(target, opts \\ [])

  def fork(%__MODULE__{snapshottable: true} = instance, opts) do
    with {:ok, module} <- fork_module(instance, opts),
         {:ok, fork, _tally} <- make(module, Plan.again(instance.plan, instance.wasi), true),
         do: {:ok, on_trap(fork, instance.on_trap)}
  end

  def fork(%__MODULE__{} = instance, opts), do: take_snapshot(instance, opts)
  def fork(server, opts), do: borrow(server, &fork(&1, opts), in_line(opts))

  defp fork_module(%{ref: ref, module: module, engine: engine} = instance, opts) do
    fork = Native.instance_fork(ref)

    if fork && Native.instance_state(ref) != :closed do
      {:ok, Module.new(fork, name: module.name, size: module.size, engine: engine)}
    else
      with {:ok, {wasm, uses}} <- take_snapshot(instance, opts),
           {:ok, fork} <- Loader.compile(wasm, module.name, engine) do
        :ok = Native.instance_keep_fork(ref, uses, fork.ref)
        {:ok, fork}
      end
    end
  end

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
