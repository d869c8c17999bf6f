defmodule Cybernetic.WASM.Runtime.Trial do
  @moduledoc false
  # Tries a module out before anybody else gets it: a function of the embedder's, in a process of its own that is killed when its
  # time is over, or when whoever waits for it is gone.

  alias Cybernetic.WASM.{LoadError, Module, Shadow, Shown}

  @longest_detail 500

  @doc "What `function` says of the module, within so many milliseconds."
  @spec run((Module.loaded() -> term), Module.loaded(), pos_integer) ::
          :ok | {:error, LoadError.t()}
  def run(function, module, milliseconds) do
    {parent, callers, answer} = {self(), Process.get(:"$callers", []), make_ref()}

    {pid, monitor} =
      spawn_monitor(fn ->
        Shadow.follow(parent)
        Process.put(:"$callers", [parent | callers])
        send(parent, {answer, said(function, module)})
      end)

    receive do
      {^answer, said} ->
        Process.demonitor(monitor, [:flush])
        outcome(said)

      {:DOWN, ^monitor, :process, _, reason} ->
        failed("it ended: #{Shown.term(reason)}")
    after
      milliseconds -> give_up({pid, monitor, answer}, milliseconds)
    end
  end

  defp give_up({pid, monitor, answer}, milliseconds) do
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, :process, _, _} -> :ok)
    receive do: ({^answer, _too_late} -> :ok), after: (0 -> :ok)
    failed("it took longer than #{milliseconds} ms (option :smoke_timeout)")
  end

  defp said(function, module) do
    {:said, function.(module)}
  catch
    kind, reason -> {:failed, Exception.format_banner(kind, reason, __STACKTRACE__)}
  end

  defp outcome({:said, :ok}), do: :ok
  defp outcome({:said, other}), do: failed("it gave #{Shown.term(other)}, and not :ok")
  defp outcome({:failed, words}), do: failed(words)

  defp failed(detail),
    do: {:error, %LoadError{reason: :smoke_failed, detail: Shown.cut(detail, @longest_detail)}}
end
