defmodule Cybernetic.WASM.Executor do
  @moduledoc """
  Calls exported functions, each in a fresh instance of its module or component.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> Cybernetic.WASM.Executor.call(module, "process", [42])
      {:ok, 84}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "spin", [], fuel: 1_000_000)
      iex> {error.limit, error.allowed}
      {:fuel, 1_000_000}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "proces", [42])
      iex> error.reason
      :no_such_export

  The calling process drives the guest itself, a slice at a time. Kill it, and the guest is gone. No other process waits
  meanwhile. A fresh instance has its module's initial state, and sees nothing that another call left behind.
  `with_instance/3` makes one for several calls.

  In the place of the module may stand a name that one is loaded under, such as `"resize"` or `"resize@~> 1.2"`: see
  `Cybernetic.WASM.Runtime`, "Names".

  ## Commands

  A module that was compiled for WASI preview 1 as a program, or a component that exports `wasi:cli/run` of WASI 0.2, is run with
  `:start` in the place of a function:

      iex> wc = Cybernetic.WASM.Runtime.load_module!("priv/wasm/wc.wasm")
      iex> {:ok, run} = Cybernetic.WASM.Executor.run(wc, :start, stdin: "to be or\\nnot to be\\n", sandbox: :command)
      iex> {run.exit_code, run.stdout, run.stderr}
      {0, "2 6 19\\n", ""}
      iex> {:error, error} = Cybernetic.WASM.Executor.run(wc, :start)
      iex> {error.capability, error.grant}
      {:wasi, "add sandbox: :command, or wasi: true to the sandbox"}

  Any exit code is a result, not an error; `call/4` gives it alone. The sandbox says what the program may use, and the run's
  `denials` are what it was refused. `stream/4` gives its output as it is written. Its input is given by options of the call:

    * `:args` - a list of strings, without the program's name
    * `:program` - the program's name, the argument before the first. Programs that are several in one file choose by it.
      Default: `"main.wasm"`.
    * `:env` - a map of variables, which the sandbox must allow: `:command` allows any
    * `:stdin` - iodata, or an `Enumerable` of iodata that is pulled in this process as the program reads. Default: empty.

  The functions of a reactor take `:env`, `:args` and `:program` too, and every call of a guest that reads takes `:stdin`. See
  [the guide](guides/wasi.md).

  ## Components

  A component's functions take and give values of their own types, and are called by their names or by their interface and name:

      iex> greeter = Cybernetic.WASM.Runtime.load_module!("priv/wasm/greeter.wasm")
      iex> Cybernetic.WASM.Executor.call(greeter, "greet", ["Ada"])
      {:ok, "Hello, Ada!"}
      iex> Cybernetic.WASM.Executor.call(greeter, {"acme:shop/orders", "place"}, [[]])
      {:ok, {:error, "empty"}}

  All that is said of modules here holds for them as well, but for `:abi`. See `Cybernetic.WASM.Component`.

  ## Options

    * every limit of `Cybernetic.WASM.Limits`: `:fuel`, `:max_memory`, `:timeout`, …. Without `:sandbox` they replace the
      configured defaults; with it they can only lower its limits, those it has by default as well.
    * `:sandbox` - a `Cybernetic.WASM.Sandbox` or a preset's name
    * `:imports` - host functions: see `Cybernetic.WASM.Host`; modules to link with: see `Cybernetic.WASM.Instance`.
      Default: none. A call without all of the module's imports fails with a `Cybernetic.WASM.LinkError` that names every
      missing one. What a map gives and the module does not import is ignored.
    * `:unknown_imports` - `:refuse` (default): that error; or `:trap`: the guest traps when it calls a function that nothing is
      given for
    * `:reentrant` - `true`: host functions may call a component again that waits for them, which is written for that. Default: `false`
    * `:abi` - a `Cybernetic.WASM.ABI`, by which the call passes bytes: text is given and returned as binaries
    * `:data` - any term, for the host functions: `Cybernetic.WASM.Host.data/1`
    * `:key` - any term. Where a name stands in the place of the module, and its calls are split among versions, those with the
      same key go to the same version: see `Cybernetic.WASM.Runtime.split/3`.
    * `:scheduling` - `:adaptive` (default): a function starts on a dirty CPU scheduler. Once it has proven short it starts
      on the normal one, and moves to a dirty one when it overruns its slice. `:dirty` and `:inline` force either.
    * `:wait` - milliseconds that the call may queue while the node has no room for another live guest. Default: 0, which
      fails at once with a `Cybernetic.WASM.LimitError`.
    * `:allocation` - `:pooling` or `:on_demand`: whether the guest lives in a slot of a pool, which is quicker to make, or in
      memory of its own. Default: the configuration's, `:pooling`. A guest that no slot can hold is made on demand anyway.
    * `:metering`, `:deterministic` - as when loading. `deterministic: true` also removes real clocks and the system's random
      bytes from what the sandbox grants. The first such call compiles the module once more, if it was loaded otherwise.

  An unknown option or a wrong value raises `ArgumentError`. See `Cybernetic.WASM.Value` for arguments and results.

  ## Errors

  `Cybernetic.WASM.CallError` (the caller's mistake), `Cybernetic.WASM.ABIError`, `Cybernetic.WASM.LinkError`, `Cybernetic.WASM.DeniedError` (the sandbox
  does not grant what the module imports, or what the call gives), `Cybernetic.WASM.TrapError`,
  `Cybernetic.WASM.LimitError`, `Cybernetic.WASM.HostError`, `Cybernetic.WASM.CancelledError`;
  `Cybernetic.WASM.InternalError` should not happen. `Cybernetic.WASM.Error` says of all of them whose fault they are, and what
  to do.
  """

  alias Cybernetic.WASM.{
    ABI,
    Error,
    Host,
    Instance,
    Limits,
    Module,
    Options,
    Run,
    Sandbox,
    Shown,
    Value
  }

  alias Cybernetic.WASM.Execution.{Call, Plan}
  alias Cybernetic.WASM.Instance.Live
  alias Cybernetic.WASM.Executor.{Async, Stream}

  @typedoc """
  An exported function's name, of a component also with its interface before it; or `:start` for a command, whose arguments are in
  the options.
  """
  @type entry :: String.t() | {interface :: String.t(), String.t()} | :start

  @typedoc "An option of a call: see above."
  @type option ::
          Limits.option()
          | {:sandbox, Sandbox.given()}
          | {:imports, Host.given()}
          | {:data, term}
          | {:key, term}
          | {:abi, ABI.given()}
          | {:scheduling, :adaptive | :dirty | :inline}
          | {:wait, non_neg_integer}
          | {:metering, :fuel | :epoch}
          | {:deterministic, boolean}
          | {:allocation, :pooling | :on_demand}
          | {:unknown_imports, :refuse | :trap}
          | {:reentrant, boolean}
          | {:program, String.t() | nil}
          | {:args, [String.t()]}
          | {:env, Enumerable.t()}
          | {:stdin, iodata | Enumerable.t() | nil}

  @typedoc "An option of `async/4`."
  @type async_option :: option | {:run, boolean}

  @typedoc "An option of `async_stream/4`."
  @type async_stream_option ::
          async_option | {:max_concurrency, pos_integer} | {:ordered, boolean}

  @typedoc "An option of `stream/4`."
  @type stream_option ::
          option | {:tagged, boolean} | {:into, pid} | {:credit, pos_integer}

  # Options beside those of a call.
  @async [run: :boolean]
  @async_stream [max_concurrency: :positive, ordered: :boolean] ++ @async
  @stream [tagged: :boolean, into: {"a pid", &is_pid/1}, credit: :positive]
  @cancel [grace: {:milliseconds, 0}]

  @doc """
  Calls `function` and gives what it returns; of a command, its exit code.

  Of a function made by AssemblyScript, arguments that have defaults may be left out, here and wherever one is called: the
  module is told how many come (`__setArgumentsLength`).

  The options are those of a call, `t:option/0`: limits such as `:fuel` and `:timeout`, `:sandbox`, `:imports`,
  `:unknown_imports`, `:reentrant`, `:data`, `:abi`, `:scheduling`, `:wait`, `:allocation`, `:metering` and `:deterministic`, and of a command
  `:args`, `:program`, `:env` and `:stdin`. "Options" above, and `h Cybernetic.WASM.Executor`, say what each does;
  `h Cybernetic.WASM.Limits` has the limits.
  """
  @spec call(Module.given(), entry, [Value.t()] | [option], [option]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call(module, function, args \\ [], opts \\ []) do
    with {:ok, call} <- fresh(module, function, args, opts),
         {:ok, result, _tally} <- Call.run(call),
         do: {:ok, result}
  end

  @doc """
  As `call/4`, with the same options, but gives a `Cybernetic.WASM.Run` with the result, the output and what the call used.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> {:ok, run} = Cybernetic.WASM.Executor.run(module, "process", [42])
      iex> {run.result, run.usage.fuel > 0, run.usage.peak_memory}
      {84, true, 65_536}
  """
  @spec run(Module.given(), entry, [Value.t()] | [option], [option]) ::
          {:ok, Run.t()} | {:error, Error.t()}
  def run(module, function, args \\ [], opts \\ []) do
    with {:ok, call} <- fresh(module, function, args, opts),
         {:ok, result, tally} <- call |> Call.reporting() |> Call.run(),
         do: {:ok, Call.finished(call, result, tally)}
  end

  defp fresh(%Instance{}, _function, _args, _opts) do
    raise ArgumentError,
          "a live instance is called with Cybernetic.WASM.Instance.call/4; this calls a fresh one of a module"
  end

  defp fresh(module, function, args, opts), do: Call.new(module, function, args, opts)

  @doc "As `call/4`, but raises. What a host function raised is raised again, with its own stack."
  @spec call!(Module.given(), entry, [Value.t()] | [option], [option]) :: Value.result()
  def call!(module, function, args \\ [], opts \\ []),
    do: module |> call(function, args, opts) |> Error.unwrap!()

  @doc "As `run/4`, but raises as `call!/4` does."
  @spec run!(Module.given(), entry, [Value.t()] | [option], [option]) :: Run.t()
  def run!(module, function, args \\ [], opts \\ []),
    do: module |> run(function, args, opts) |> Error.unwrap!()

  # Several calls

  @doc """
  Makes an instance of `module` for one piece of work: runs `function` with it, and gives what that returns.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> alias Cybernetic.WASM.{Executor, Instance}
      iex> Executor.with_instance(module, [fuel: 1_000_000, timeout: 5_000], fn instance ->
      ...>   Enum.sum(for n <- 1..3, do: Instance.call!(instance, "process", [n]))
      ...> end)
      {:ok, 12}

  The options are those of `Cybernetic.WASM.Instance.new/2`. `:budget` is always `true`: the limits are those of the whole piece
  of work. Making the instance, every call, every access to its memory and every host call draw on one supply of fuel and time,
  and `Cybernetic.WASM.Instance.usage/1` tells what they have used together. Time runs while `function` does other things, too;
  but `function` itself is not interrupted: only what it does with the instance fails.

  The instance is closed when `function` returns, raises, throws or exits, and when the calling process is killed, also where
  others have its handle: a call of theirs that is under way fails at its next step, with the reason `:closed`.

  Errors are those of making the instance. What fails later is what the calls in `function` give it.
  """
  @spec with_instance(Module.given(), [Instance.option()], (Instance.t() -> result)) ::
          {:ok, result} | {:error, Error.t()}
        when result: term
  def with_instance(module, opts \\ [], function)

  def with_instance(module, opts, function) when is_function(function, 1) do
    opts = if Keyword.keyword?(opts), do: Keyword.put(opts, :budget, true), else: opts

    with {:ok, instance} <- Live.new(module, opts) do
      :ok = Live.finish_with_caller(instance)

      try do
        {:ok, function.(instance)}
      after
        Live.finish(instance)
      end
    end
  end

  def with_instance(_module, _opts, other) do
    raise ArgumentError,
          "a function of one argument is needed, which is given the instance, got: #{Shown.kind(other)}"
  end

  # In a process of its own

  @doc """
  Starts a call, on a module or on a live `Cybernetic.WASM.Instance`, in a process of its own under the library's
  `Task.Supervisor`, and gives a handle for `await/2`, `yield/2` and `cancel/3`. The pid or name of an instance's server raises
  `ArgumentError`: call `Cybernetic.WASM.Instance.call/4` in a `Task`, or take the instance with
  `Cybernetic.WASM.Instance.borrow/3`.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> call = Cybernetic.WASM.Executor.async(module, "process", [42])
      iex> Cybernetic.WASM.Executor.await(call)
      {:ok, 84}

  Host functions run in that process, with the caller among its `$callers`. The deadline is enforced from outside: a
  host function that does not return in time is killed, and the call fails with the limit. The process is linked to the
  caller, as with `Task.async/1`. A call that fails gives a result, and does not crash.

  Options: those of `call/4`, and `:run` - `true`: the result is a `Cybernetic.WASM.Run`.
  """
  @spec async(Module.given() | Instance.t(), entry, [Value.t()] | [async_option], [async_option]) ::
          Async.t()
  def async(target, function, args \\ [], opts \\ []),
    do: start(target, function, args, opts, :link)

  @doc "As `async/4`, but not linked to the caller: it goes on when that one dies."
  @spec async_nolink(Module.given() | Instance.t(), entry, [Value.t()] | [async_option], [
          async_option
        ]) ::
          Async.t()
  def async_nolink(target, function, args \\ [], opts \\ []),
    do: start(target, function, args, opts, :nolink)

  defp start(target, function, args, opts, link) do
    {args, opts} = Plan.arguments(function, args, opts)
    {own, opts} = own(opts, @async)
    call = target |> Call.new(function, args, opts) |> Call.here!()
    Async.start(call, Keyword.get(own, :run, false), link)
  end

  defp own(opts, known) do
    {own, opts} =
      if Keyword.keyword?(opts), do: Keyword.split(opts, Keyword.keys(known)), else: {[], opts}

    Options.check!(own, known, "option")
    {own, opts}
  end

  @doc """
  Waits for the call's result, as `Task.await/2` does, in the process that started it. Default: for as long as it takes,
  which the call's own deadline bounds. A call whose process was killed gives a `Cybernetic.WASM.HostError`.
  """
  @spec await(Async.t(), timeout) :: {:ok, Value.result() | Run.t()} | {:error, Error.t()}
  def await(async, timeout \\ :infinity), do: Async.await(async, timeout)

  @doc "The result if it comes within `timeout` milliseconds, else `nil`, as `Task.yield/2` does."
  @spec yield(Async.t(), timeout) ::
          {:ok, Value.result() | Run.t()} | {:error, Error.t()} | nil
  def yield(async, timeout \\ 5_000), do: Async.yield(async, timeout)

  @doc """
  Ends the call. The guest is unwound at the end of its slice, whatever it is doing. Host functions that are open below it
  are left as by a `throw`, so that their `after` clauses run. What has not ended after `grace:` milliseconds, default 1,000,
  is killed: a host function that blocks, for example.

  In the process that started the call this gives the call's result, and nothing is left to await:
  `{:error, %Cybernetic.WASM.CancelledError{}}` with the `reason`, or the call's own result if it ended first. In another
  process, or where the result was taken before, it gives `:ok` once the call has ended.
  """
  @spec cancel(Async.t(), term, keyword) ::
          {:ok, Value.result() | Run.t()} | {:error, Error.t()} | :ok
  def cancel(async, reason \\ :cancelled, opts \\ []) do
    %{grace: grace} =
      Map.merge(%{grace: 1_000}, Options.check!(opts, @cancel, "option of cancel/3"))

    Async.cancel(async, reason, grace)
  end

  @doc """
  Calls `function` once for each element of `enumerable`, which is a list of arguments, in processes of their own, and
  gives the stream of their results.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> module |> Cybernetic.WASM.Executor.async_stream("process", [[1], [2], [:no]]) |> Enum.map(&elem(&1, 0))
      [:ok, :ok, :error]

  Options: those of `call/4`; `:max_concurrency` (default: the number of schedulers) and `:ordered` (default: `true`) as with
  `Task.async_stream/3`; and `:run` as with `async/4`. `:timeout` is each call's own, enforced from outside as with `async/4`.
  A call that fails is an element like any other. An element that is no list raises `ArgumentError`. For a command, `:start`,
  each element is the list of its `:args`.
  """
  @spec async_stream(Module.given(), entry, Enumerable.t(), [async_stream_option]) ::
          Enumerable.t()
  def async_stream(module, function, enumerable, opts \\ []) do
    {own, opts} = own(opts, @async_stream)
    {run, own} = Keyword.pop(own, :run, false)
    # What is wrong with the options is said here and now, not for each element.
    call = module |> Call.new(function, [], opts) |> Call.here!()
    Async.stream(enumerable, call, {run, own})
  end

  # Output

  @doc """
  A lazy stream of the guest's output: a binary for each write to its standard output or error, and for each
  `Cybernetic.WASM.Host.emit/2` of a host function.

      iex> wc = Cybernetic.WASM.Runtime.load_module!("priv/wasm/wc.wasm")
      iex> lines = Stream.map(1..3, &[to_string(&1), 10])
      iex> wc |> Cybernetic.WASM.Executor.stream(:start, stdin: lines, sandbox: :command, tagged: true) |> Enum.map(&elem(&1, 0))
      [:stdout, :done]

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|
      ...>   (module (import "env" "put" (func $put (param i32)))
      ...>     (func (export "count") (local i32)
      ...>       (loop (call $put (local.get 0)) (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br 0))))|})
      iex> put = fn ctx, n -> Cybernetic.WASM.Host.emit(ctx, to_string(n)) end
      iex> module |> Cybernetic.WASM.Executor.stream("count", [], imports: %{"env" => %{"put" => put}}) |> Enum.take(3)
      ["0", "1", "2"]

  The process that reads the stream drives the guest, which runs only as far as the stream is read: this one would never
  end. After each of its writes, and after each host function that emitted something, the guest is suspended until the next
  element is asked for. A stream that is not read to its end unwinds the guest. An error is raised after the output that came
  before it. The time between two elements counts against the call's deadline.

  Options: those of `call/4`, and

    * `:tagged` - `true`: the elements are `{:stdout, binary}`, `{:stderr, binary}`, `{:output, binary}` (a host function's),
      and last `{:done, run}` with the `Cybernetic.WASM.Run`
    * `:into` - a pid: a process of its own drives the guest, and sends the elements to that pid; see below
    * `:credit` - with `:into`, how many messages may be sent at first. Default: 16.

  With `:into` this gives `{:ok, async}` at once. The messages are `{async.ref, {:stdout | :stderr | :output, binary}}`, at
  the end `{async.ref, {:done, run}}` or `{async.ref, {:failed, error}}`. Each message with output uses up one credit. Without
  credit the guest is suspended: `demand/2` gives more. The call ends with `cancel/3`, or when the consumer ends.
  """
  @spec stream(Module.given() | Instance.t(), entry, [Value.t()] | [stream_option], [
          stream_option
        ]) ::
          Enumerable.t() | {:ok, Async.t()} | {:error, Error.t()}
  def stream(target, function, args \\ [], opts \\ []) do
    {args, opts} = Plan.arguments(function, args, opts)
    {own, opts} = own(opts, @stream)
    if own[:credit] && !own[:into], do: raise(ArgumentError, "option :credit needs :into")

    case {target |> Call.new(function, args, opts) |> Call.here!(), own[:into]} do
      {{:ok, call}, nil} -> Stream.new(call, Keyword.get(own, :tagged, false))
      {{:ok, call}, pid} -> {:ok, Async.deliver(call, pid, Keyword.get(own, :credit, 16))}
      {{:error, error}, nil} -> Stream.failed(error)
      {error, _pid} -> error
    end
  end

  @doc "Lets a stream with `into:` send that many more messages."
  @spec demand(Async.t(), pos_integer) :: :ok
  def demand(async, more \\ 1) when is_integer(more) and more > 0, do: Async.demand(async, more)
end
