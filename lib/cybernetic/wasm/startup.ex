defmodule Cybernetic.WASM.Startup do
  @moduledoc false
  # Puts a configuration in force: Rust's runtime is made by it, or takes it for what is to come, and `Config` keeps it for all
  # who ask. The application does so each time it starts. Where it was not started, whoever needs the runtime first does.

  require Logger

  alias Cybernetic.WASM.{Config, Error, Native, Notices}

  @doc "Starts the runtime, or changes its settings. Guests and modules that are there live on."
  @spec start!(Config.t()) :: Config.t()
  def start!(config) do
    started = Native.runtime_start(settings(config))
    Notices.log()
    tell(started)
    config = config |> struct!(Native.runtime_ceilings()) |> Config.put()
    :persistent_term.put(__MODULE__, true)
    config
  end

  @doc "The configuration in force. The runtime has been started by it."
  @spec config() :: Config.t()
  def config do
    if :persistent_term.get(__MODULE__, false), do: Config.get(), else: start!(Config.get())
  end

  @doc "The folder that compiled code is kept in by this configuration, or why there is none."
  @spec artifacts(Config.t()) :: {:ok, Path.t()} | {:error, String.t()}
  def artifacts(%Config{artifacts: false}), do: {:error, "artifacts: false"}

  def artifacts(config) do
    folder = Path.expand(config.artifact_dir || Path.join(user_cache(), "artifacts"))

    if String.valid?(folder),
      do: {:ok, folder},
      else: {:error, "the folder's name is not UTF-8: #{inspect(folder)}"}
  rescue
    # There is no home to have a cache in.
    _error in [ArgumentError, ErlangError, RuntimeError] ->
      {:error, "the user has no cache folder"}
  end

  defp user_cache, do: to_string(:filename.basedir(:user_cache, "cybernetic_wasm"))

  @doc "Where the program that compiles is; `nil` where the library has no folder, as in an escript."
  @spec executable() :: Path.t() | nil
  def executable do
    with path when is_list(path) <- :code.priv_dir(:cybernetic_wasm),
         do: Path.join(path, "native/cybernetic_wasm_compiler"),
         else: (_none -> nil)
  end

  defp tell(:ok), do: :ok

  defp tell({:on_demand, reason}) do
    Logger.warning(
      "Cybernetic.WASM: no address space for the pooling allocator, guests are allocated on demand " <>
        "(slower to start; config allocation: :on_demand silences this): #{reason}"
    )
  end

  defp tell({:error, error}), do: raise(Error.from_native(error))

  # That there is no folder to be used Rust tells, and that there is none at all is told here.
  defp artifact_settings(config) do
    case artifacts(config) do
      {:ok, folder} ->
        {folder, config.artifact_size}

      {:error, why} ->
        if config.artifacts, do: Notices.no_artifacts(why)
        nil
    end
  end

  defp settings(config) do
    %{
      max_live_instances: config.max_live_instances,
      max_total_memory: config.max_total_memory,
      max_code_memory: config.max_code_memory,
      max_open_files: config.max_open_files,
      parallel_execution: config.parallel_execution,
      dirty_schedulers: :erlang.system_info(:dirty_cpu_schedulers_online),
      cache_bytes: if(config.cache_compiled_modules, do: config.cache_size, else: 0),
      cache_time: if(config.cache_ttl != :infinity, do: config.cache_ttl),
      artifacts: artifact_settings(config),
      max_stack: config.limits.max_stack,
      pooling: config.allocation == :pooling,
      compiler: if(config.compiler == :apart, do: executable()),
      compile_budget: {config.max_compile_memory, config.max_compile_time},
      max_compile_queue: config.max_compile_queue
    }
  end
end
