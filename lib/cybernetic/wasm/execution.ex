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

  alias Cybernetic.WASM.{CallError, Error, HostError, LimitError, Native, Usage}
  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Host.Context

  @typep outcome :: {:ok, term, tuple} | {:error, Error.t()}

  @doc "Calls `name` in a fresh instance of the module behind `ref`."
  @spec call(reference, String.t(), list, Plan.t()) :: outcome
  def call(ref, name, args, %Plan{} = plan) do
    case Native.execution_call(ref, name, args, plan.native, plan.scheduling) do
      :dirty -> Native.execution_call_dirty(ref, name, args, plan.native) |> drive(plan)
      step -> drive(step, plan)
    end
  end

  @doc "Calls `name` on the live instance behind `ref`."
  @spec call_instance(reference, String.t(), list, Plan.t()) :: outcome
  def call_instance(ref, name, args, %Plan{} = plan) do
    case Native.instance_call(ref, name, args, plan.native, plan.scheduling) do
      :dirty -> Native.instance_call_dirty(ref, name, args, plan.native) |> drive(plan)
      step -> drive(step, plan)
    end
  end

  @doc "Drives a step of something that calls no host functions to its end."
  @spec finish(term) :: {:ok, term} | {:error, Error.t()}
  def finish(step) do
    with {:ok, product, _usage} <- drive(step, %Plan{}), do: {:ok, product}
  end

  @doc "Drives a step to the end."
  @spec drive(term, Plan.t()) :: outcome
  def drive(step, plan) do
    case loop(step, plan, nil) do
      {:finished, result, usage} -> {:ok, result, usage}
      {:failed, error, usage} -> {:error, put_usage(error, usage)}
      {:refused, error} -> {:error, error}
    end
  end

  # `raised` is what a host function of this level raised last: the guest is being unwound for it.
  defp loop({:yielded, execution}, plan, raised),
    do: execution |> step(plan) |> loop(plan, raised)

  defp loop({:waiting, execution}, plan, raised),
    do: execution |> wait(plan) |> loop(plan, raised)

  defp loop({:host_call, execution, import, args, serial}, plan, _raised) do
    context = %Context{execution: execution, import: import, serial: serial, plan: plan}

    case run_host_function(context, args) do
      {:return, values} -> reply(context, values)
      {:raise, error} -> context |> native_command(:raise) |> loop(plan, error)
      {:ended, ended} -> ended
    end
  end

  defp loop({:failed, {:host, _}, usage}, _plan, raised), do: {:failed, raised, usage}

  defp loop({:failed, error, usage}, _plan, _raised),
    do: {:failed, Error.from_native(error), usage}

  defp loop({:refused, {:host, _}}, _plan, raised), do: {:refused, raised}
  defp loop({:refused, error}, _plan, _raised), do: {:refused, Error.from_native(error)}
  defp loop(ended, _plan, _raised), do: ended

  defp step(execution, %Plan{scheduling: :inline}), do: Native.execution_step(execution)
  defp step(execution, _plan), do: Native.execution_step_dirty(execution)

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

  defp run_host_function(%Context{execution: own, plan: plan, import: import} = context, args) do
    {function, results} = elem(plan.functions, import)
    {:return, values(results, apply(function, [context | args]))}
  catch
    :throw, {__MODULE__, :ended, ^own, ended} ->
      {:ended, ended}

    # The context of another call, which is over: that is no end of this one.
    :throw, {__MODULE__, :ended, _other, {_how, error, _usage}} ->
      {:raise, host_error(context, :error, error, __STACKTRACE__)}

    :throw, {__MODULE__, :limit, error} ->
      {:raise, error}

    :throw, {__MODULE__, :trap, reason} ->
      {:raise, host_error(context, :trap, reason, __STACKTRACE__)}

    kind, reason ->
      {:raise, host_error(context, kind, reason, __STACKTRACE__)}
  end

  defp values(0, _ignored), do: []
  defp values(1, value), do: [value]
  # `length` fails, and so does the guard, where a list is improper.
  defp values(_several, values) when length(values) >= 0, do: values

  defp values(several, value),
    do:
      raise(
        ArgumentError,
        "a list of #{several} results expected, got: #{inspect(value, limit: 5, printable_limit: 80)}"
      )

  defp reply(%Context{plan: plan} = context, values) do
    case native_command(context, {:return, values}) do
      {:refused, {:call, %{reason: reason}} = error} when reason in [:type, :arity] ->
        # The function returned what its type does not take: that is its failure, and the guest is unwound for it.
        raised = host_error(context, :error, Error.from_native(error), [])
        context |> native_command(:raise) |> loop(plan, raised)

      step ->
        loop(step, plan, nil)
    end
  end

  defp host_error(%Context{plan: plan, import: import}, kind, reason, stacktrace) do
    %HostError{
      kind: kind,
      reason: reason,
      stacktrace: stacktrace,
      import: elem(plan.names, import)
    }
  end

  @doc "Carries out a command of the host call that `context` names."
  @spec command(Context.t(), term) :: {:ok, term} | {:error, Error.t()}
  def command(%Context{plan: plan} = context, command) do
    case context |> native_command(command) |> loop(plan, nil) do
      {:answer, answer} -> {:ok, answer}
      {:refused, error} -> {:error, error}
      # The whole call is over, past its deadline: the host function is left at once.
      ended -> throw({__MODULE__, :ended, context.execution, ended})
    end
  end

  # Short commands and replies run on the normal scheduler, whose step is bounded and moves on to a dirty one. Rust answers
  # `:dirty` for a guest that does not belong there.
  defp native_command(%Context{execution: execution, plan: plan} = context, command) do
    call = {context.import, context.serial}

    case plan.scheduling != :dirty and not large?(command) and
           Native.execution_command(execution, call, command) do
      step when step in [false, :dirty] ->
        Native.execution_command_dirty(execution, call, command)

      step ->
        step
    end
  end

  # Copying this much takes some 0.1 ms.
  @large 262_144

  defp large?({:read, _memory, _offset, length}), do: length > @large
  defp large?({:write, _memory, _offset, bytes}), do: byte_size(bytes) > @large
  defp large?(_command), do: false

  @doc "Takes output of the guest; past the limit the host function is left and the guest stopped."
  @spec emit(Context.t(), binary) :: :ok
  def emit(%Context{execution: execution, serial: serial}, bytes) do
    case native_emit(execution, serial, bytes) do
      :ok -> :ok
      {:refused, error} -> give_up(Error.from_native(error))
    end
  end

  defp native_emit(execution, serial, bytes) when byte_size(bytes) > @large,
    do: Native.execution_emit_dirty(execution, serial, bytes)

  defp native_emit(execution, serial, bytes),
    do: Native.execution_emit(execution, serial, bytes)

  @spec give_up(Error.t()) :: no_return
  defp give_up(%LimitError{} = error), do: throw({__MODULE__, :limit, error})
  defp give_up(%CallError{} = error), do: raise(error)

  @doc "Milliseconds until the deadline of a suspended execution."
  @spec time_left(reference) :: non_neg_integer
  def time_left(execution) do
    with {:refused, error} <- Native.execution_time_left(execution),
         do: raise(Error.from_native(error))
  end

  # Usage

  @doc "The struct of a usage from Rust."
  @spec usage(tuple) :: Usage.t()
  def usage({fuel, peak_memory, wall_time, slice_time, slices, host_calls, _output}) do
    %Usage{
      fuel: fuel,
      peak_memory: peak_memory,
      wall_time: wall_time,
      slice_time: slice_time,
      slices: slices,
      host_calls: host_calls
    }
  end

  defp put_usage(%{usage: _} = error, usage), do: %{error | usage: usage(usage)}
  defp put_usage(error, _usage), do: error
end
