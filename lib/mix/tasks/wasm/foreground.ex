defmodule Mix.Tasks.Wasm.Foreground do
  @moduledoc false
  # What a shell expects of a command that it waits for, and a VM does not do by itself: bytes pass through its streams as they
  # are, it ends when nobody reads its output, and a signal to end is neither answered on standard output nor a success.

  alias Mix.Tasks.Wasm.CommandLine

  # What notices by itself that its time is over, does so a little late.
  @late 100
  # A process waits no longer.
  @longest_wait 0xFFFF_FFFF

  @doc """
  What `function` gives, or `{:unwritten, reason}` if its output did not go out, `:terminated` at a SIGTERM, `:overdue` after the
  milliseconds. It runs in a process of its own, which can be left while it writes, and gives `:closed` if it cannot.
  """
  @spec run((() -> result | :closed), pos_integer) ::
          result | {:unwritten, atom} | :terminated | :overdue
        when result: term
  def run(function, timeout) do
    await = &await(Task.async(fn -> written(function) end), &1, timeout)

    CommandLine.as_bytes([Process.group_leader(), :standard_error], fn ->
      without_reports(fn -> on_termination(await) end)
    end)
  end

  defp await(%Task{ref: ref} = task, terminated, timeout) do
    receive do
      {^ref, result} -> Process.demonitor(ref, [:flush]) && result
      {^terminated, :sigterm} -> leave(task, :terminated)
    after
      min(timeout + @late, @longest_wait) -> leave(task, :overdue)
    end
  end

  # It may have ended in the last moment.
  defp leave(task, reason) do
    case Task.shutdown(task, :brutal_kill) do
      {:ok, result} -> result
      nil -> reason
    end
  end

  # Output

  # What was written last may not have gone out when the function is over. A device that is gone does not say why, but the port
  # that it wrote to does.
  defp written(function) do
    ports = Enum.flat_map([Process.group_leader(), Process.whereis(:standard_error)], &ports/1)
    Enum.each(ports, &Port.monitor/1)
    result = function.()
    if result == :closed or Enum.any?(ports, &closed?/1), do: unwritten(), else: result
  end

  defp ports(nil), do: []

  defp ports(device) do
    with {:links, links} <- Process.info(device, :links),
         do: Enum.filter(links, &is_port/1),
         else: (nil -> [])
  end

  # It answers after all that it was given before.
  defp closed?(port), do: Port.info(port, :id) == nil

  defp unwritten do
    receive do
      {:DOWN, _monitor, :port, _port, reason} -> {:unwritten, reason}
    after
      @late -> {:unwritten, :epipe}
    end
  end

  # The VM reports at length that a device is gone, to a device that is gone.
  defp without_reports(function) do
    level = Logger.level()
    Logger.configure(level: :none)
    result = function.()
    unless match?({:unwritten, _reason}, result), do: Logger.configure(level: level)
    result
  end

  # Signals

  # The VM's own answer is to say so on standard output, and to end with status 0.
  defp on_termination(function) do
    {process, terminated} = {self(), make_ref()}
    tell = fn -> send(process, {terminated, :sigterm}) && :ok end
    before = :gen_event.delete_handler(:erl_signal_server, :erl_signal_handler, [])
    {:ok, trap} = System.trap_signal(:sigterm, tell)

    try do
      function.(terminated)
    after
      System.untrap_signal(:sigterm, trap)
      if before == :ok, do: :gen_event.add_handler(:erl_signal_server, :erl_signal_handler, [])
    end
  end
end
