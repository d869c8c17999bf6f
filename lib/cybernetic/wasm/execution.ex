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

  alias Cybernetic.WASM.{ABI, CancelledError, Error, Limits, Native, Notices, Run}
  alias Cybernetic.WASM.Component.Enumerables
  alias Cybernetic.WASM.Execution.{Cancel, Errands, HostCall, Plan, Streams, Tally, Terms}
  alias Cybernetic.WASM.Execution.Streams.{Input, Output}
  alias Cybernetic.WASM.Host.Context
  alias Cybernetic.WASM.HTTP.Asked

  @typedoc "What runs: a fresh instance of a module, or a live instance's member."
  @type target :: {:fresh, reference} | {:live, reference, non_neg_integer}

  @type outcome :: {:ok, term, Tally.t() | nil} | {:error, Error.t()}

  @typedoc "A call that is suspended in a host call, and how that is to return; or after a write of the guest's own."
  @type suspended ::
          {Context.t(), Plan.t(), HostCall.how()}
          | {:written, reference, Plan.t()}
          | {:ended, term, Plan.t()}

  @doc "Calls `name` on the target, and drives the call to its end."
  @spec call(target, String.t(), list, Plan.t()) :: outcome
  def call(target, name, args, plan),
    do: target |> start(name, args, plan) |> drive(plan)

  @doc "The first step of a call."
  @spec start(target, String.t(), list, Plan.t()) :: term
  def start({:fresh, module}, _name, _args, %Plan{asked: %Asked{native: asked}} = plan) do
    options = Plan.to_native(plan)

    with :dirty <- Native.execution_handle(module, asked, options, plan.scheduling),
         do: Native.execution_handle_dirty(module, asked, options, plan.scheduling)
  end

  def start({:live, instance, member}, _name, _args, %Plan{asked: %Asked{native: asked}} = plan) do
    options = Plan.to_native(plan)

    with :dirty <- Native.instance_handle(instance, member, asked, options, plan.scheduling),
         do: Native.instance_handle_dirty(instance, member, asked, options, plan.scheduling)
  end

  def start(target, name, args, %Plan{abi: nil, component: true} = plan) do
    with {:enumerate, types} <- first_step(target, name, args, plan),
         {:enumerate, _types} <-
           first_step(target, name, Enumerables.listed(args, types), plan),
         do: {:refused, {:call, HostCall.no_enumerable("an argument")}}
  end

  def start(target, name, args, %Plan{abi: nil} = plan) do
    with {:ok, args} <- Terms.weigh(args, owner(target), plan.limits.max_memory),
         do: first_step(target, name, args, plan)
  end

  def start(target, name, args, plan) do
    with {:ok, args} <- ABI.arguments(args, owner(target), plan.limits.max_memory),
         do: exchange(target, name, args, plan)
  end

  defp owner({:fresh, _module}), do: nil
  defp owner({:live, instance, _member}), do: instance

  defp first_step({:fresh, module}, name, args, plan) do
    options = Plan.to_native(plan)

    with :dirty <- Native.execution_call(module, name, args, options, plan.scheduling),
         do: Native.execution_call_dirty(module, name, args, options, plan.scheduling)
  end

  defp first_step({:live, instance, member}, name, args, plan) do
    options = Plan.to_native(plan)

    with :dirty <- Native.instance_call(instance, member, name, args, options, plan.scheduling),
         do: Native.instance_call_dirty(instance, member, name, args, options, plan.scheduling)
  end

  defp exchange({:fresh, module}, name, args, plan) do
    {passed, options} = {{args, plan.abi.ref}, Plan.to_native(plan)}

    with :dirty <- Native.execution_exchange(module, name, passed, options, plan.scheduling),
         do: Native.execution_exchange_dirty(module, name, passed, options, plan.scheduling)
  end

  defp exchange({:live, instance, member}, name, args, plan) do
    {passed, options, scheduling} = {{args, plan.abi.ref}, Plan.to_native(plan), plan.scheduling}

    with :dirty <- Native.instance_exchange(instance, member, name, passed, options, scheduling),
         do: Native.instance_exchange_dirty(instance, member, name, passed, options, scheduling)
  end

  @doc "Calls what a function reference refers to, in the name of a live instance's member."
  @spec call_ref({:live, reference, non_neg_integer}, reference, list, Plan.t()) :: outcome
  def call_ref({:live, instance, member}, ref, args, plan) do
    options = Plan.to_native(plan)

    step =
      with {:ok, args} <- Terms.weigh(args, instance, plan.limits.max_memory),
           :dirty <-
             Native.instance_call_ref(instance, member, ref, args, options, plan.scheduling),
           do:
             Native.instance_call_ref_dirty(instance, member, ref, args, options, plan.scheduling)

    drive(step, plan)
  end

  @doc "Drives a step of something that calls no host functions to its end."
  @spec finish(term) :: {:ok, term} | {:error, Error.t()}
  def finish(step) do
    with {:ok, product, _tally} <- drive(step, %Plan{}), do: {:ok, product}
  end

  @doc "Drives a step to the end."
  @spec drive(term, Plan.t()) :: outcome
  # So do most calls end, in their first step.
  def drive({:finished, result, nil}, %Plan{streams: nil, command: false}),
    do: {:ok, result, nil}

  def drive(step, plan), do: step |> drive_part(plan) |> close_input(plan)

  @doc "Drives a step to the end of a part of a call, whose later parts read on in its input."
  @spec drive_part(term, Plan.t()) :: outcome
  def drive_part(step, plan), do: step |> loop(plan, nil) |> outcome(plan)

  @doc "Gives up what of its standard input the guest has not read. An error of that is the outcome, if there is no other."
  @spec close_input(result, Plan.t()) :: result | {:error, Error.t()} when result: tuple
  def close_input(outcome, %Plan{streams: nil}), do: outcome

  def close_input(outcome, plan) do
    case close(plan) do
      {:error, error} when elem(outcome, 0) == :ok -> {:error, error}
      _closed -> outcome
    end
  end

  defp close(plan) do
    errands = Errands.close(plan)
    with :ok <- Streams.close(plan.streams), do: errands
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

  @doc """
  Drives a step of a guest that answers a request to the next of its answer, or to the end of the call. `go_on_to_answer/1` goes on
  from there, `abandon/1` gives the guest up.
  """
  @spec drive_to_answer(term, Plan.t()) ::
          {:answer, [Errands.piece()], suspended} | outcome
  def drive_to_answer(step, plan), do: step |> loop(plan, nil) |> answered(plan)

  @doc "From there on."
  @spec go_on_to_answer(suspended) :: {:answer, [Errands.piece()], suspended} | outcome
  def go_on_to_answer({:written, execution, plan}),
    do: execution |> wake(plan) |> drive_to_answer(plan)

  # Of what it has answered while a host function of its own ran, the beginning comes first.
  defp answered({:answer, piece, suspended}, plan),
    do: {:answer, Errands.take_answers(plan) ++ [piece], suspended}

  defp answered(ended, plan), do: ended(ended, plan)

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
    with {:error, error} <- close(plan), do: Error.raise!(error)
  end

  # A command that returns has ended well; a component's says whether it has.
  defp outcome({:finished, ended, tally}, %Plan{command: true}) when ended in [nil, :ok],
    do: {:ok, 0, tally}

  defp outcome({:finished, :error, tally}, %Plan{command: true}), do: {:ok, 1, tally}
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
         :ok <- Input.give(execution, piece) do
      execution |> step(plan) |> loop(plan, raised)
    else
      {:refused, error} ->
        {:refused, error(error, plan)}

      {:error, error} ->
        end_with(execution, error)
    end
  end

  # There is something to do for its HTTP.
  defp loop({:http, execution, errand}, plan, raised) do
    case Errands.run(execution, errand, plan) do
      :ok -> execution |> wake(plan) |> loop(plan, raised)
      {:answer, piece} -> answer(execution, piece, plan, raised)
      {:refused, error} -> {:refused, error(error, plan)}
      {:error, error} -> end_with(execution, error)
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

  # Resources of the host's are among the arguments. Until this process has said that it has them, its end is theirs.
  defp loop({:handing, execution, call, args}, plan, raised) do
    Native.execution_take_over(execution, call)
    loop({:host_call, execution, call, args}, plan, raised)
  end

  defp loop({:host_call, execution, call, args}, plan, _raised) do
    context = HostCall.open(execution, call, plan)

    case HostCall.run(context, args) do
      :over -> end_now(execution, plan)
      {:ended, ended} -> ended
      how -> hand_over(context, how, plan)
    end
  end

  # Nobody asked for a tally.
  defp loop({:finished, _result, nil} = finished, _plan, _raised), do: finished

  defp loop({:finished, result, tally}, _plan, _raised),
    do: {:finished, result, Tally.from_native(tally)}

  defp loop({:failed, error, tally}, plan, raised),
    do: failed(error, Tally.from_native(tally), plan, raised)

  defp loop({:refused, {:host, _}}, _plan, raised), do: {:refused, raised}
  defp loop({:refused, error}, plan, _raised), do: {:refused, error(error, plan)}
  defp loop(ended, _plan, _raised), do: ended

  defp failed({:exit, %{exit_code: code}}, tally, %Plan{command: true}, _raised),
    do: {:finished, code, tally}

  defp failed({:cancelled, _}, tally, %Plan{cancel: {cancel, _}}, _raised),
    do: {:failed, %CancelledError{reason: Cancel.reason(cancel)}, tally}

  # Its module was to be compiled for it.
  defp failed({:load, _} = error, tally, plan, _raised) do
    Notices.log()
    {:failed, error(error, plan), tally}
  end

  defp failed({:host, _}, tally, _plan, raised), do: {:failed, raised, tally}
  defp failed(error, tally, plan, _raised), do: {:failed, error(error, plan), tally}

  defp error(error, plan), do: error |> Error.from_native() |> Limits.attribute(plan.limits)

  defp step(execution, %Plan{scheduling: :inline}), do: Native.execution_step(execution)
  defp step(execution, _plan), do: Native.execution_step_dirty(execution)

  # A guest that has slept may go on as it began: what is short runs on the normal scheduler.
  defp wake(execution, %Plan{scheduling: :adaptive} = plan),
    do: with(:dirty <- Native.execution_wake(execution), do: step(execution, plan))

  defp wake(execution, plan), do: step(execution, plan)

  # What is on this side of the guest's streams failed.
  defp end_with(execution, error) do
    Native.execution_abandon(execution)

    case Native.execution_tally(execution) do
      {:refused, _busy} -> {:failed, error, nil}
      tally -> {:failed, error, Tally.from_native(tally)}
    end
  end

  # The reference is made here, just before the `receive` on it, so that the BEAM skips all older messages.
  defp wait(execution, plan) do
    reference = make_ref()

    case Native.execution_listen(execution, reference) do
      :ready ->
        wake(execution, plan)

      milliseconds when is_integer(milliseconds) ->
        receive do
          {^reference, :wake} -> :ok
        after
          milliseconds -> stop_listening(execution, reference)
        end

        wake(execution, plan)

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

  # Nobody takes it while a host function runs.
  defp answer(execution, piece, %Plan{inside: true} = plan, raised) do
    Errands.keep_answer(plan, piece)
    execution |> wake(plan) |> loop(plan, raised)
  end

  defp answer(execution, piece, plan, _raised), do: {:answer, piece, {:written, execution, plan}}

  # Host calls

  # The next step ends the call, and says how.
  defp end_now(execution, plan) do
    case step(execution, plan) do
      {:refused, _busy} ->
        Process.sleep(1)
        end_now(execution, plan)

      step ->
        loop(step, plan, nil)
    end
  end

  # What the function put out comes before what it returned or raised.
  defp hand_over(%Context{execution: execution} = context, how, %Plan{stream: true} = plan) do
    case Output.take(execution, Output.consumed(plan.streams)) do
      [] -> reply(context, how, plan)
      pieces -> {:output, pieces, {context, plan, how}}
    end
  end

  defp hand_over(context, how, plan), do: reply(context, how, plan)

  defp reply(context, how, plan) do
    case HostCall.reply(context, how) do
      {:raised, error, step} -> loop(step, plan, error)
      step -> loop(step, plan, nil)
    end
  end

  @doc "Carries out a command of the host call that `context` names."
  @spec command(Context.t(), term) :: {:ok, term} | {:error, Error.t()}
  def command(%Context{execution: execution} = context, command) do
    plan = Context.plan(context)

    command = again(command, plan)

    with {:ok, command} <- Terms.weigh_in(command, execution, plan.limits.max_memory) do
      case context |> HostCall.command(command) |> loop(silent(plan), nil) do
        {:answer, answer} -> {:ok, answer}
        {:refused, error} -> {:error, error}
        ended -> HostCall.leave(context, ended)
      end
    else
      {:refused, error} -> {:error, error(error, plan)}
    end
  end

  # The values of a component are looked into by their types.
  defp again({:call, function, args}, %Plan{component: true, reentrant: true}),
    do: {:call_again, function, args}

  defp again(command, _plan), do: command

  # What a host function's own calls put out is handed over when it has returned.
  defp silent(%Plan{stream: false, asked: nil} = plan), do: plan
  defp silent(plan), do: %{plan | stream: false, inside: true}
end
