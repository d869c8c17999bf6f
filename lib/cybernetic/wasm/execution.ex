defmodule Cybernetic.WASM.Execution do
  @moduledoc false
  # The driver: the calling process steps its guest, answers its host calls and waits for its wake-ups.
  #
  #     Native.execution_call ─► drive ◄── {:yielded, execution}   the slice is spent: step again
  #                                    ◄── {:host_call, …}         run the function here, step with its reply
  #                                    ◄── {:waiting, execution}   receive the wake-up, step
  #                                    ◄── {:finished, …} {:failed, …}
  #
  # A re-entrant call from a host function is driven by the same loop, which then ends in `{:answer, …}` or `{:refused, …}`
  # while the execution goes on. No process but the caller's own takes part.

  alias Cybernetic.WASM.{
    CallError,
    CancelledError,
    Error,
    HostError,
    Native,
    Run,
    Shown
  }

  alias Cybernetic.WASM.Execution.{Cancel, Plan, Streams, Tally}
  alias Cybernetic.WASM.Execution.Streams.{Input, Output}
  alias Cybernetic.WASM.Host.Context

  @typedoc "What runs: a fresh instance of a module, or a live instance's member."
  @type target :: {:fresh, reference} | {:live, reference, non_neg_integer}

  # Copying this much takes some 0.1 ms.
  @large 262_144

  @type outcome :: {:ok, term, Tally.t() | nil} | {:error, Error.t()}

  @typedoc "A call that is suspended in a host call, and how that is to return; or after a write of the guest's own."
  @type suspended ::
          {Context.t(), Plan.t(), {:return, list} | {:raise, Error.t()}}
          | {:written, reference, Plan.t()}
          | {:ended, term, Plan.t()}

  @doc "Calls `name` on the target, and drives the call to its end."
  @spec call(target, String.t(), list, Plan.t()) :: outcome
  def call(target, name, args, plan),
    do: target |> start(name, args, plan) |> drive(plan)

  @doc "The first step of a call."
  @spec start(target, String.t(), list, Plan.t()) :: term
  def start({:fresh, module}, name, args, plan) do
    options = Plan.to_native(plan)

    with :dirty <- Native.execution_call(module, name, args, options, plan.scheduling),
         do: Native.execution_call_dirty(module, name, args, options)
  end

  def start({:live, instance, member}, name, args, plan) do
    options = Plan.to_native(plan)

    with :dirty <- Native.instance_call(instance, member, name, args, options, plan.scheduling),
         do: Native.instance_call_dirty(instance, member, name, args, options)
  end

  @doc "Drives a step of something that calls no host functions to its end."
  @spec finish(term) :: {:ok, term} | {:error, Error.t()}
  def finish(step) do
    with {:ok, product, _tally} <- drive(step, %Plan{}), do: {:ok, product}
  end

  @doc "Drives a step to the end."
  @spec drive(term, Plan.t()) :: outcome
  def drive(step, plan), do: step |> drive_part(plan) |> close_input(plan)

  @doc "Drives a step to the end of a part of a call, whose later parts read on in its input."
  @spec drive_part(term, Plan.t()) :: outcome
  def drive_part(step, plan), do: step |> loop(plan, nil) |> outcome(plan)

  @doc "Gives up what of its standard input the guest has not read. What goes wrong with that is told if nothing else did."
  @spec close_input(result, Plan.t()) :: result | {:error, Error.t()} when result: tuple
  def close_input(outcome, %Plan{streams: nil}), do: outcome

  def close_input(outcome, plan) do
    case Streams.close(plan.streams) do
      {:error, error} when elem(outcome, 0) == :ok -> {:error, error}
      _closed -> outcome
    end
  end

  @doc """
  Drives a step to the next output, or to the end. After output the guest is suspended in the host call that made it:
  `go_on/1` lets it return, `abandon/1` unwinds it.
  """
  @spec drive_to_output(term, Plan.t()) :: {:output, [Tally.piece()], suspended} | outcome
  def drive_to_output(step, %Plan{stream: true} = plan) do
    step |> loop(plan, nil) |> streamed(plan)
  end

  defp streamed({:output, _pieces, _suspended} = output, _plan), do: output

  # A host function that had put something out was left because the call was over: that comes before the error, in one piece.
  defp streamed({:failed, _error, %Tally{} = tally} = ended, plan) do
    case Tally.pieces(tally) do
      [] -> ended(ended, plan)
      pieces -> {:output, pieces, {:ended, ended, plan}}
    end
  end

  defp streamed(ended, plan), do: ended(ended, plan)

  defp ended(ended, plan), do: ended |> outcome(plan) |> close_input(plan)

  @doc "From the output on to the next one, or to the end."
  @spec go_on(suspended) :: {:output, [Tally.piece()], suspended} | outcome
  def go_on({:ended, ended, plan}), do: ended(ended, plan)

  def go_on({:written, execution, plan}),
    do: execution |> step(plan) |> loop(plan, nil) |> streamed(plan)

  def go_on({context, plan, how}), do: context |> reply(how, plan) |> streamed(plan)

  @doc "Gives a suspended call up."
  @spec abandon(suspended) :: :ok
  def abandon({:ended, _ended, plan}), do: abandon_input(plan)
  def abandon({:written, execution, plan}), do: abandon(execution, plan)
  def abandon({%Context{execution: execution}, plan, _values}), do: abandon(execution, plan)

  defp abandon(execution, plan) do
    Native.execution_abandon(execution)
    abandon_input(plan)
  end

  # Nobody waits for a result that could tell of it.
  defp abandon_input(plan) do
    with {:error, error} <- Streams.close(plan.streams), do: Error.raise!(error)
  end

  # A command that returns has ended well.
  defp outcome({:finished, nil, tally}, %Plan{command: true}), do: {:ok, 0, tally}
  defp outcome({:finished, result, tally}, _plan), do: {:ok, result, tally}

  defp outcome({:failed, error, tally}, plan),
    do: {:error, Run.attach(error, Output.flush(plan.streams, tally))}

  defp outcome({:refused, error}, _plan), do: {:error, error}

  # `raised` is what a host function of this level raised last: the guest is being unwound for it.
  defp loop({:yielded, execution}, plan, raised),
    do: execution |> step(plan) |> loop(plan, raised)

  defp loop({:waiting, execution}, plan, raised),
    do: execution |> wait(plan) |> loop(plan, raised)

  defp loop({:wants_input, execution}, plan, raised) do
    with {:ok, piece} <- Input.next(plan.streams),
         :ok <- give_input(execution, piece) do
      execution |> step(plan) |> loop(plan, raised)
    else
      {:refused, error} ->
        {:refused, Error.from_native(error)}

      {:error, error} ->
        end_with(execution, error)
    end
  end

  # The guest has written, and waits until that was taken.
  defp loop({:output, execution}, plan, raised) do
    with :ok <- Output.write(plan.streams, execution) do
      case plan.stream && Output.take(execution, Output.consumed(plan.streams)) do
        pieces when pieces in [false, []] -> execution |> step(plan) |> loop(plan, raised)
        pieces -> {:output, pieces, {:written, execution, plan}}
      end
    else
      {:error, error} -> end_with(execution, error)
    end
  end

  defp loop({:host_call, execution, import, args, serial, member}, plan, _raised) do
    own = of_member(plan, member, execution)

    context = %Context{
      execution: execution,
      import: import,
      serial: serial,
      plan: own || plan,
      process: self(),
      sandbox: plan.sandbox
    }

    case own && run_host_function(context, args) do
      nil -> context |> native_command(:raise) |> loop(plan, %CallError{reason: :host_gone})
      {:ended, ended} -> ended
      how -> hand_over(context, how, plan)
    end
  end

  defp loop({:finished, _result, nil} = finished, _plan, _raised), do: finished

  defp loop({:finished, result, usage}, _plan, _raised),
    do: {:finished, result, Tally.from_native(usage)}

  defp loop({:failed, error, usage}, plan, raised),
    do: failed(error, Tally.from_native(usage), plan, raised)

  defp loop({:refused, {:host, _}}, _plan, raised), do: {:refused, raised}
  defp loop({:refused, error}, _plan, _raised), do: {:refused, Error.from_native(error)}
  defp loop(ended, _plan, _raised), do: ended

  defp failed({:exit, %{exit_code: code}}, tally, %Plan{command: true}, _raised),
    do: {:finished, code, tally}

  defp failed({:cancelled, _}, tally, %Plan{cancel: {cancel, _}}, _raised),
    do: {:failed, %CancelledError{reason: Cancel.reason(cancel)}, tally}

  defp failed({:host, _}, tally, _plan, raised), do: {:failed, raised, tally}
  defp failed(error, tally, _plan, _raised), do: {:failed, Error.from_native(error), tally}

  defp step(execution, %Plan{scheduling: :inline}), do: Native.execution_step(execution)
  defp step(execution, _plan), do: Native.execution_step_dirty(execution)

  # What is on this side of the guest's streams failed.
  defp end_with(execution, error) do
    Native.execution_abandon(execution)

    case Native.execution_usage(execution) do
      {:refused, _busy} -> {:failed, error, nil}
      usage -> {:failed, error, Tally.from_native(usage)}
    end
  end

  defp give_input(execution, piece) when byte_size(piece) > @large,
    do: Native.execution_give_input_dirty(execution, piece)

  defp give_input(execution, piece), do: Native.execution_give_input(execution, piece)

  # The reference is made here, just before the `receive` on it, so that the BEAM skips all older messages.
  defp wait(execution, plan) do
    reference = make_ref()

    case Native.execution_listen(execution, reference) do
      :ready ->
        step(execution, plan)

      milliseconds when is_integer(milliseconds) ->
        receive do
          {^reference, :wake} -> :ok
        after
          milliseconds -> stop_listening(execution, reference)
        end

        step(execution, plan)

      refused ->
        refused
    end
  end

  # A wake-up that is already on its way must not stay behind in the caller's mailbox.
  defp stop_listening(execution, reference) do
    unless Native.execution_unlisten(execution) do
      receive do
        {^reference, :wake} -> :ok
      after
        1_000 -> :ok
      end
    end
  end

  # Host calls

  # The guest finds another member's functions: this call may not even know that member.
  defp of_member(%Plan{member: member} = plan, member, _execution), do: plan

  defp of_member(plan, member, execution) do
    case Native.execution_host(execution, member) do
      nil -> nil
      host -> Plan.for_member(plan, member, host)
    end
  end

  # What a host function's own calls put out is handed over when it has returned.
  defp silent(%Plan{stream: false} = plan), do: plan
  defp silent(plan), do: %{plan | stream: false}

  @doc "The plan of the call that this is a part of."
  @spec root(Plan.t()) :: Plan.t()
  def root(%Plan{root: nil} = plan), do: plan
  def root(%Plan{root: root}), do: root

  # What the function put out comes before what it returned or raised.
  defp hand_over(
         %Context{execution: execution} = context,
         how,
         %Plan{stream: true} = plan
       ) do
    case Output.take(execution, Output.consumed(plan.streams)) do
      [] -> reply(context, how, plan)
      pieces -> {:output, pieces, {context, plan, how}}
    end
  end

  defp hand_over(context, how, plan), do: reply(context, how, plan)

  defp run_host_function(%Context{execution: own, plan: plan, import: import} = context, args) do
    {function, results, kind} = elem(plan.bindings.functions, import)
    value = apply(function, [context | args])
    {:return, values(results, if(kind == :async, do: await(value, context), else: value))}
  catch
    :throw, {__MODULE__, :ended, ^own, ended} ->
      {:ended, ended}

    # The context of another call, which is over: that is no end of this one.
    :throw, {__MODULE__, :ended, _other, {_how, error, _tally}} ->
      {:raise, host_error(context, :error, error, __STACKTRACE__)}

    :throw, {__MODULE__, :ending, error} ->
      {:raise, error}

    :throw, {__MODULE__, :trap, reason} ->
      {:raise, host_error(context, :trap, reason, __STACKTRACE__)}

    kind, reason ->
      {:raise, host_error(context, kind, reason, __STACKTRACE__)}
  end

  # What an asynchronous host function returned is waited for here: the guest is suspended, nothing runs for it. When the
  # call has no time left, or is cancelled, the next step says so.
  defp await(%Task{ref: reference, owner: owner} = task, context) when owner == self() do
    await(reference, context, fn -> Task.shutdown(task, :brutal_kill) end)
  end

  defp await({:await, reference}, context) when is_reference(reference) do
    await(reference, context, fn -> Process.demonitor(reference, [:flush]) end)
  end

  defp await(other, _context) do
    raise ArgumentError,
          "an async host function returns a Task of its own or {:await, reference}, got: #{Shown.term(other)}"
  end

  # A `receive` waits no longer.
  @longest_wait 0xFFFF_FFFF

  # Another process has the execution in its hands, which cannot be asked just now.
  @held 10

  defp await(reference, %Context{execution: execution, plan: plan} = context, give_up) do
    cancelled = if plan.cancel, do: elem(plan.cancel, 1), else: make_ref()

    receive do
      {^reference, reply} ->
        Process.demonitor(reference, [:flush])
        reply

      {:DOWN, ^reference, _, _, reason} ->
        exit(reason)

      {^cancelled, :cancelled} ->
        give_up.()
        over(context)
    after
      time_to_wait(execution) ->
        if Native.execution_time_left(execution) == 0 do
          give_up.()
          over(context)
        else
          await(reference, context, give_up)
        end
    end
  end

  defp time_to_wait(execution) do
    case Native.execution_time_left(execution) do
      {:refused, _busy} -> @held
      # Rounded up: whole milliseconds are left.
      milliseconds -> min(milliseconds + 1, @longest_wait)
    end
  end

  # The next step ends the call, and says how.
  defp over(%Context{execution: execution, plan: plan} = context) do
    case step(execution, plan) do
      {:refused, _busy} ->
        Process.sleep(1)
        over(context)

      step ->
        throw({__MODULE__, :ended, execution, loop(step, plan, nil)})
    end
  end

  defp values(0, _ignored), do: []
  defp values(1, value), do: [value]
  # `length` fails, and so does the guard, where a list is improper.
  defp values(_several, values) when length(values) >= 0, do: values

  defp values(several, value),
    do:
      raise(
        ArgumentError,
        "a list of #{several} results expected, got: #{Shown.term(value)}"
      )

  defp reply(context, {:raise, error} = how, plan) do
    case native_command(context, :raise) do
      # What it raised is what is told, also where the guest cannot be unwound: another process left it in the middle of a call.
      {:refused, _} ->
        if held?(context), do: reply_later(context, how, plan), else: {:refused, error}

      step ->
        loop(step, plan, error)
    end
  end

  defp reply(context, {:return, values} = how, plan) do
    case native_return(context, values) do
      {:refused, {:call, %{reason: :busy}}} = busy ->
        if held?(context), do: reply_later(context, how, plan), else: loop(busy, plan, nil)

      {:refused, {:call, %{reason: reason}} = error} when reason in [:type, :arity] ->
        # The function returned what its type does not take: that is its failure, and the guest is unwound for it.
        raised = host_error(context, :error, Error.from_native(error), [])
        context |> native_command(:raise) |> loop(plan, raised)

      step ->
        loop(step, plan, nil)
    end
  end

  # A process that the host function let use its context, and killed, may be in the middle of its last slice.
  defp held?(%Context{execution: execution}),
    do: match?({:refused, _busy}, Native.execution_time_left(execution))

  defp reply_later(context, how, plan) do
    Process.sleep(1)
    reply(context, how, plan)
  end

  defp host_error(%Context{plan: plan, import: import}, kind, reason, stacktrace) do
    %HostError{
      kind: kind,
      reason: reason,
      stacktrace: stacktrace,
      import: elem(plan.bindings.names, import)
    }
  end

  @doc "Carries out a command of the host call that `context` names."
  @spec command(Context.t(), term) :: {:ok, term} | {:error, Error.t()}
  def command(%Context{plan: plan} = context, command) do
    case context |> native_command(command) |> loop(silent(root(plan)), nil) do
      {:answer, answer} -> {:ok, answer}
      {:refused, error} -> {:error, error}
      ended -> leave(context, ended)
    end
  end

  # The whole call is over, past its deadline: the host function is left at once. Another process that it lets use its context
  # is told.
  defp leave(%Context{process: process} = context, ended) when process == self(),
    do: throw({__MODULE__, :ended, context.execution, ended})

  defp leave(_context, {:failed, error, _tally}), do: {:error, error}

  # Short commands and replies run on the normal scheduler, whose step is bounded and moves on to a dirty one. Rust answers
  # `:dirty` for a guest that does not belong there.
  defp native_command(%Context{execution: execution, plan: plan} = context, command) do
    %{import: import, serial: serial} = context

    case plan.scheduling != :dirty and not large?(command) and
           Native.execution_command(execution, import, serial, plan.member, command) do
      step when step in [false, :dirty] ->
        Native.execution_command_dirty(execution, import, serial, plan.member, command)

      step ->
        step
    end
  end

  defp native_return(%Context{execution: execution, plan: plan} = context, values) do
    %{import: import, serial: serial} = context

    case plan.scheduling != :dirty and
           Native.execution_return(execution, import, serial, plan.member, values) do
      step when step in [false, :dirty] ->
        Native.execution_return_dirty(execution, import, serial, plan.member, values)

      step ->
        step
    end
  end

  @doc "Whether an access copies more than belongs on a normal scheduler."
  @spec large?(term) :: boolean
  def large?({:read, _memory, _offset, length}), do: length > @large
  def large?({:write, _memory, _offset, bytes}), do: byte_size(bytes) > @large
  def large?(_command), do: false

  @doc "Takes output of the guest; past the limit the host function is left and the guest stopped."
  @spec emit(Context.t(), binary) :: :ok
  def emit(%Context{execution: execution, serial: serial} = context, bytes) do
    case native_emit(execution, serial, bytes) do
      :ok -> :ok
      {:refused, error} -> give_up(context, Error.from_native(error))
    end
  end

  defp native_emit(execution, serial, bytes) when byte_size(bytes) > @large,
    do: Native.execution_emit_dirty(execution, serial, bytes)

  defp native_emit(execution, serial, bytes),
    do: Native.execution_emit(execution, serial, bytes)

  @spec give_up(Context.t(), Error.t()) :: no_return
  defp give_up(_context, %CallError{} = error), do: raise(error)

  defp give_up(%Context{process: process}, error) when process == self(),
    do: throw({__MODULE__, :ending, error})

  defp give_up(_context, error), do: raise(error)

  @doc "Milliseconds until the deadline of a suspended execution."
  @spec time_left(reference) :: non_neg_integer
  def time_left(execution) do
    with {:refused, error} <- Native.execution_time_left(execution),
         do: raise(Error.from_native(error))
  end
end
