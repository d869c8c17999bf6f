defmodule Cybernetic.WASM.Application do
  @moduledoc false
  # Reads the configuration, refuses what it does not know, and makes the node's runtime. No process stands between a
  # caller and its guest: the supervisor watches those that were asked for, of `Cybernetic.WASM.Executor.async/4`.

  use Application

  alias Cybernetic.WASM.{Config, Runtime, Startup}

  @impl true
  def start(_type, _args) do
    with {:ok, config} <- config(),
         :ok <- start_runtime(config) do
      tasks = {Task.Supervisor, name: Cybernetic.WASM.TaskSupervisor}
      Supervisor.start_link([tasks], strategy: :one_for_one, name: Cybernetic.WASM.Supervisor)
    end
  end

  # Guests may be left, whose private directories would stay behind.
  @impl true
  def stop(_state), do: Runtime.stop()

  # A mistake in the configuration is told in a sentence: where in this library it was noticed helps nobody.
  defp config do
    {:ok, Config.load!()}
  rescue
    error in ArgumentError ->
      {:error, "the configuration is not valid: #{Exception.message(error)}"}
  end

  # That the native library cannot be loaded is told in a sentence, too.
  defp start_runtime(config) do
    Startup.start!(config)
    :ok
  rescue
    error in RuntimeError -> {:error, Exception.message(error)}
  end
end
