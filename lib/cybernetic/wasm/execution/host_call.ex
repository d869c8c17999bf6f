defmodule Cybernetic.WASM.Execution.HostCall do
  @moduledoc false
  # One open host call: its context, the host function that runs for it, and what it comes to. The guest is suspended in it and
  # takes commands, of which each is one step, as the reply is: `Cybernetic.WASM.Execution` drives them.
  #
  # A host function is left by a `throw` where it is not to go on: its whole call is over (`:ended`), a limit struck in
  # `emit/2` (`:ending`), or it trapped the guest (`:trap`). They are thrown here, and caught in `run/2`.

  alias Cybernetic.WASM.{CallError, Error, HostError, Limits, Native, Shown}
  alias Cybernetic.WASM.Component.Enumerables
  alias Cybernetic.WASM.Execution.{Lane, Plan, Terms}
  alias Cybernetic.WASM.Host.Context

  @typedoc "What a host function came to. `:unknown`: there is none, and the guest traps."
  @type how :: {:return, list} | {:raise, Error.t()} | :unknown

  @typedoc "Which host call of an execution it is: the member that calls, the index of its import, and a serial number."
  @type call :: {non_neg_integer, non_neg_integer, non_neg_integer}

  # A `receive` waits no longer.
  @longest_wait 0xFFFF_FFFF

  # Another process has the execution in its hands, which cannot be asked just now.
  @held 10

  @doc "The context of a host call that the guest of `plan` has just made."
  @spec open(reference, call, Plan.t()) :: Context.t()
  def open(execution, {member, _import, _serial} = call, %Plan{member: member} = plan) do
    Context.new(execution, call, plan, {plan.bindings, plan.data})
  end

  # The guest finds another member's functions: this call may not even know that member.
  def open(execution, {member, _import, _serial} = call, plan) do
    case Native.execution_host(execution, member) do
      nil ->
        Context.new(execution, call, plan, {nil, nil})

      {:refused, _busy} ->
        Process.sleep(1)
        open(execution, call, plan)

      {_bindings, _data} = host ->
        Context.new(execution, call, plan, host)
    end
  end

  @doc "Runs the host function. `:over` is that the call is: the next step says how. So does `ended`, where that step was taken."
  @spec run(Context.t(), list) :: how | :over | {:ended, ended :: tuple}
  def run(%Context{call: {_member, import, _serial}} = context, args) do
    case Context.host(context) do
      nil -> {:raise, %CallError{reason: :host_gone}}
      %{functions: functions} -> functions |> elem(import) |> run(args, context)
    end
  end

  # There is none: the guest traps.
  defp run(:unknown, _args, _context), do: :unknown

  # The alias dies with the host call, and with it a reply that comes too late.
  defp run({_function, _how, _results, :async} = function, args, context) do
    reference = :erlang.alias([:reply])

    try do
      answer(function, args, %{context | alias: reference})
    after
      forget(reference)
    end
  end

  defp run(function, args, context), do: answer(function, args, context)

  defp answer({function, how, results, kind}, args, %Context{execution: own} = context) do
    function |> invoke(how, args, context) |> returned(results, kind, context)
  catch
    :throw, {__MODULE__, :ended, ^own, ended} ->
      {:ended, ended}

    # The context of another call, which is over: that is no end of this one.
    :throw, {__MODULE__, :ended, _other, {_how, error, _tally}} ->
      {:raise, host_error(context, :error, error, __STACKTRACE__)}

    :throw, {__MODULE__, :ending, error} ->
      {:raise, error}

    :throw, {__MODULE__, :trap, reason, blame} ->
      {:raise, %{host_error(context, :trap, reason, __STACKTRACE__) | blame: blame}}

    kind, reason ->
      {:raise, host_error(context, kind, reason, __STACKTRACE__)}
  end

  defp invoke(function, :each, args, context), do: apply(function, [context | args])
  defp invoke(function, :list, args, context), do: function.(context, args)

  defp returned(value, results, :sync, _context), do: {:return, values(results, value)}

  defp returned(value, results, :async, context) do
    with {:ok, value} <- await(value, context), do: {:return, values(results, value)}
  end

  defp host_error(context, kind, reason, stacktrace) do
    %Context{call: {_member, import, _serial}} = context
    %{names: names} = Context.host(context)
    {from, name} = elem(names, import)
    import = {Shown.cut(from), Shown.cut(name)}
    %HostError{kind: kind, reason: reason, stacktrace: stacktrace, import: import}
  end

  defp values(0, _ignored), do: []
  defp values(1, value), do: [value]
  # `length` fails, and so does the guard, where a list is improper.
  defp values(_several, values) when length(values) >= 0, do: values

  defp values(several, value) do
    raise ArgumentError,
          "a list of #{several} results expected, got: #{Shown.kind(value)}"
  end

  # What an asynchronous host function returned is waited for here: the guest is suspended, nothing runs for it. When the
  # call has no time left, or is cancelled, the next step says so.
  defp await(%Task{ref: reference, owner: owner} = task, context) when owner == self(),
    do: await(reference, context, fn -> Task.shutdown(task, :brutal_kill) end)

  defp await({:await, reference}, context) when is_reference(reference),
    do: await(reference, context, fn -> forget(reference) end)

  defp await(other, _context) do
    raise ArgumentError,
          "an async host function returns a Task of its own or {:await, reference}, got: #{Shown.kind(other)}"
  end

  defp await(reference, %Context{execution: execution} = context, give_up) do
    %{cancel: cancel} = Context.plan(context)
    cancelled = if cancel, do: elem(cancel, 1), else: make_ref()

    receive do
      {^reference, reply} ->
        Process.demonitor(reference, [:flush])
        {:ok, reply}

      {:DOWN, ^reference, _, _, reason} ->
        exit(reason)

      {^cancelled, :cancelled} ->
        over(give_up)
    after
      time_to_wait(execution) ->
        if Native.execution_time_left(execution) == 0,
          do: over(give_up),
          else: await(reference, context, give_up)
    end
  end

  # From a reference that is no alias a late reply may still come.
  defp forget(reference) do
    Process.demonitor(reference, [:flush])
    :erlang.unalias(reference)

    receive do
      {^reference, _late} -> :ok
    after
      0 -> :ok
    end
  end

  defp over(give_up) do
    give_up.()
    :over
  end

  defp time_to_wait(execution) do
    case Native.execution_time_left(execution) do
      {:refused, _busy} -> @held
      # Rounded up: whole milliseconds are left.
      milliseconds -> min(milliseconds + 1, @longest_wait)
    end
  end

  @doc "Gives Rust what the host function came to: the next step, with what was raised if the guest is unwound for that."
  @spec reply(Context.t(), how) :: (step :: tuple) | {:raised, Error.t(), step :: tuple}
  def reply(context, {:raise, error} = how) do
    case command(context, :raise) do
      # What it raised is the error, also where the guest cannot be unwound: another process left it in the middle of a call.
      {:refused, _} ->
        if held?(context),
          do: reply_later(context, how),
          else: {:raised, error, {:refused, {:host, %{}}}}

      step ->
        {:raised, error, step}
    end
  end

  def reply(context, :unknown) do
    case command(context, :unknown_import) do
      {:refused, _} = refused ->
        if held?(context), do: reply_later(context, :unknown), else: refused

      step ->
        step
    end
  end

  def reply(context, {:return, values} = how) do
    case return(context, values) do
      {:refused, {:call, %{reason: :busy}}} = busy ->
        if held?(context), do: reply_later(context, how), else: busy

      {:refused, {:call, %{reason: reason}} = error}
      when reason in [:type, :arity, :own_handle] ->
        # The function returned what its type does not take, or the guest may not have: that is its failure, and the guest is
        # unwound for it.
        raised = host_error(context, :error, Error.from_native(error), [])
        {:raised, raised, command(context, :raise)}

      {:refused, {:limit, _} = error} ->
        {:raised, Error.from_native(error), command(context, :raise)}

      step ->
        step
    end
  end

  # A process that the host function let use its context, and killed, may be in the middle of its last slice.
  defp held?(%Context{execution: execution}),
    do: match?({:refused, _busy}, Native.execution_time_left(execution))

  defp reply_later(context, how) do
    Process.sleep(1)
    reply(context, how)
  end

  # What is short runs on the normal scheduler, whose step is bounded and moves on to a dirty one. Rust answers `:dirty` for a
  # guest that does not belong there.

  @doc "Gives Rust a command, and takes its first step."
  @spec command(Context.t(), term) :: tuple
  def command(context, command) do
    with {:enumerate, types} <- give(context, command),
         {:call_again, function, args} = command,
         {:enumerate, _types} <-
           give(context, {:call_again, function, Enumerables.listed(args, types)}),
         do: {:refused, {:call, no_enumerable("an argument")}}
  end

  defp give(%Context{execution: execution, call: call} = context, command) do
    case Context.plan(context).scheduling != :dirty and not Lane.large?(command) and
           Native.execution_command(execution, call, command) do
      step when step in [false, :dirty] ->
        Native.execution_command_dirty(execution, call, command)

      step ->
        step
    end
  end

  defp return(context, values) do
    plan = Context.plan(context)

    if plan.component,
      do: return_values(context, values, plan),
      else: weighed(context, values, plan)
  end

  # A component's are looked into by their types.
  defp return_values(context, values, plan) do
    with {:enumerate, types} <- return_weighed(context, values, plan),
         {:enumerate, _types} <-
           return_weighed(context, Enumerables.listed(values, types), plan),
         do: {:refused, {:call, no_enumerable("result")}}
  end

  @doc "The facts of an error: what was given for a list is no enumerable."
  @spec no_enumerable(String.t()) :: map
  def no_enumerable(path) do
    %{
      reason: :type,
      index: 0,
      path: path,
      expected: "enumerables",
      given: "a struct that is none"
    }
  end

  defp weighed(%Context{execution: execution} = context, values, plan) do
    with {:ok, values} <- Terms.weigh(values, execution, plan.limits.max_memory),
         do: return_weighed(context, values, plan)
  end

  defp return_weighed(%Context{execution: execution, call: call}, values, plan) do
    case plan.scheduling != :dirty and Native.execution_return(execution, call, values) do
      step when step in [false, :dirty] -> Native.execution_return_dirty(execution, call, values)
      step -> step
    end
  end

  @doc "Leaves the host function, since its whole call is over. To another process that uses its context it is an error."
  @spec leave(Context.t(), {:failed, Error.t(), term}) :: {:error, Error.t()}
  def leave(%Context{process: process} = context, ended) when process == self(),
    do: throw({__MODULE__, :ended, context.execution, ended})

  def leave(_context, {:failed, error, _tally}), do: {:error, error}

  @doc "Takes output of the guest; past the limit the host function is left and the guest stopped."
  @spec emit(Context.t(), binary) :: :ok
  def emit(%Context{execution: execution, call: call} = context, bytes) do
    emitted =
      if Lane.large?(bytes),
        do: Native.execution_emit_dirty(execution, call, bytes),
        else: Native.execution_emit(execution, call, bytes)

    with {:refused, error} <- emitted do
      error = error |> Error.from_native() |> Limits.attribute(Context.plan(context).limits)
      give_up(context, error)
    end
  end

  @spec give_up(Context.t(), Error.t()) :: no_return
  defp give_up(_context, %CallError{} = error), do: raise(error)

  defp give_up(%Context{process: process}, error) when process == self(),
    do: throw({__MODULE__, :ending, error})

  defp give_up(_context, error), do: raise(error)

  @doc "Stops the guest, for whose fault it is."
  @spec trap(Context.t(), term, :guest | :host | :caller) :: no_return
  def trap(%Context{}, reason, blame), do: throw({__MODULE__, :trap, reason, blame})

  @doc "Milliseconds until the deadline of the call."
  @spec time_left(Context.t()) :: non_neg_integer
  def time_left(%Context{execution: execution}) do
    with {:refused, error} <- Native.execution_time_left(execution),
         do: raise(Error.from_native(error))
  end
end
