defmodule Cybernetic.WASM.Application do
  @moduledoc false
  # Reads the configuration, refuses what it does not know, and makes the node's runtime. No process stands between a
  # caller and its guest: the supervisor watches those that were asked for, of `Cybernetic.WASM.Executor.async/4`.

  use Application

  alias Cybernetic.WASM.{Boot, Config, Runtime, Startup}
  alias Cybernetic.WASM.Resource.Destructors
  alias Cybernetic.WASM.Runtime.{Names, Registry}

  @impl true
  def start(_type, _args) do
    with {:ok, config} <- config(),
         :ok <- start_runtime(config) do
      # This process is there for as long as the application is, and so is what it owns.
      :ok = Names.new()
      tasks = {Task.Supervisor, name: Cybernetic.WASM.TaskSupervisor}
      children = [Registry, Destructors, tasks]

      # Guests need neither: it takes more than a few ends of these to end the application.
      started =
        Supervisor.start_link(children,
          strategy: :one_for_one,
          max_restarts: 20,
          name: Cybernetic.WASM.Supervisor
        )

      with {:ok, supervisor} <- started, do: boot(config.modules, supervisor)
    end
  end

  defp boot(modules, supervisor) do
    with {:error, reason} <- Boot.load(modules) do
      Supervisor.stop(supervisor)
      stop(nil)
      {:error, reason}
    else
      :ok -> {:ok, supervisor}
    end
  end

  # Guests may be left, whose private directories would stay behind.
  @impl true
  def stop(_state) do
    Names.clear()
    Runtime.stop()
  end

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
