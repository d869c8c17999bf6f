defmodule Cybernetic.WASM.Sandbox.Check do
  @moduledoc false
  # Which imports of a module a sandbox denies: what `Cybernetic.WASM.Sandbox.check/2` tells.

  alias Cybernetic.WASM.{DeniedError, Module, Sandbox}
  alias Cybernetic.WASM.Sandbox.Capabilities.HostFunctions
  alias Cybernetic.WASM.Sandbox.Capabilities.{Clocks, Env, Filesystem, Random, Stdio}

  @wasi "wasi_snapshot_preview1"

  # The functions of WASI preview 1 by the capabilities of which one is enough.
  @functions [
    {[:wasi],
     ~w(args_get args_sizes_get fd_close fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights
        fd_filestat_get fd_renumber fd_seek fd_tell proc_exit proc_raise sched_yield)},
    {[:env], ~w(environ_get environ_sizes_get)},
    {[:clocks], ~w(clock_res_get clock_time_get poll_oneoff)},
    {[:random], ~w(random_get)},
    {[:stdio, :filesystem], ~w(fd_read fd_write)},
    {[:filesystem],
     ~w(fd_advise fd_allocate fd_datasync fd_filestat_set_size fd_filestat_set_times fd_pread
        fd_prestat_get fd_prestat_dir_name fd_pwrite fd_readdir fd_sync path_create_directory
        path_filestat_get path_filestat_set_times path_link path_open path_readlink
        path_remove_directory path_rename path_symlink path_unlink_file)},
    {[:network], ~w(sock_accept sock_recv sock_send sock_shutdown)}
  ]
  @capabilities for {capabilities, names} <- @functions,
                    name <- names,
                    into: %{},
                    do: {name, capabilities}

  @grants %{
    wasi: "add sandbox: :command, or wasi: true to the sandbox",
    env: ~s|add env: ["NAME"], or env: :any for what the call gives|,
    clocks: "add clocks: :real, or a fixed or stepped clock",
    random: "add random: :system, or {:seeded, n}",
    stdio: "add stdio: :captured",
    filesystem: ~s|add filesystem: [{"/host/dir", "/guest/dir"}]|,
    network: "nothing grants it: WASI preview 1 has no way to open a socket"
  }
  @unknown "nothing grants it: WASI preview 1 has no such function"

  @doc "The import module of WASI preview 1."
  @spec wasi() :: String.t()
  def wasi, do: @wasi

  @doc "What the sandbox has to grant, in words."
  @spec grant(atom) :: String.t()
  def grant(capability), do: Map.fetch!(@grants, capability)

  @doc "What of the module's imports the sandbox denies, in order."
  @spec denied(Module.t(), Sandbox.t()) :: [Sandbox.denied()]
  def denied(module, sandbox) do
    imports = for %{type: {:function, _, _}} = import <- Module.imports(module), do: import
    denied_of(imports, sandbox)
  end

  @doc "The same of imports as maps with `module` and `name`."
  @spec denied_of([map], Sandbox.t()) :: [Sandbox.denied()]
  def denied_of(imports, sandbox) do
    imports |> Enum.uniq_by(&{&1.module, &1.name}) |> Enum.flat_map(&denial(&1, sandbox))
  end

  defp denial(%{module: @wasi, name: name} = import, sandbox) do
    case @capabilities do
      %{^name => _} when not sandbox.wasi ->
        told(import, :wasi, :link, grant(:wasi))

      %{^name => [first | _] = capabilities} ->
        if Enum.any?(capabilities, &granted?(&1, sandbox)),
          do: [],
          else: told(import, first, effect(first), grant(first))

      %{} ->
        told(import, :wasi, :link, @unknown)
    end
  end

  defp denial(import, sandbox), do: unlisted(import, sandbox)

  @doc "Of imports that the host answers, those that it may not."
  @spec unlisted([map], Sandbox.t()) :: [Sandbox.denied()]
  def unlisted(imports, sandbox) when is_list(imports),
    do: imports |> Enum.uniq_by(&{&1.module, &1.name}) |> Enum.flat_map(&unlisted(&1, sandbox))

  def unlisted(%{module: module, name: name} = import, sandbox) do
    if HostFunctions.allows?(sandbox.host_functions, module, name),
      do: [],
      else: told(import, :host_functions, :link, host_function(module, name))
  end

  defp told(import, capability, effect, grant) do
    [
      %{
        module: import.module,
        name: import.name,
        capability: capability,
        effect: effect,
        grant: grant
      }
    ]
  end

  # A guest that is refused its environment ends itself; one without variables goes on.
  defp effect(:env), do: :empty
  defp effect(_capability), do: :errno

  defp granted?(:wasi, _sandbox), do: true
  defp granted?(:network, _sandbox), do: false
  defp granted?(:env, sandbox), do: Env.granted?(sandbox.env)
  defp granted?(:clocks, sandbox), do: Clocks.granted?(sandbox.clocks)
  defp granted?(:random, sandbox), do: Random.granted?(sandbox.random)
  defp granted?(:stdio, sandbox), do: Stdio.granted?(sandbox.stdio)
  defp granted?(:filesystem, sandbox), do: Filesystem.granted?(sandbox.filesystem)

  defp host_function(module, name) do
    listed =
      if String.contains?(module <> name, "."),
        do: inspect({module, name}),
        else: inspect("#{module}.#{name}")

    "add #{listed} to host_functions:"
  end

  @doc "The error of a call on a module that would not link, if any of these keeps it from that."
  @spec to_error([Sandbox.denied()]) :: DeniedError.t() | nil
  def to_error(denied) do
    case for %{effect: :link} = denial <- denied, do: denial do
      [] -> nil
      [%{capability: capability} | _] = denied -> error(capability, denied)
    end
  end

  # One capability at a time: the imports of the first one.
  defp error(capability, denied) do
    denied = Enum.filter(denied, &(&1.capability == capability))
    grants = denied |> Enum.map(& &1.grant) |> Enum.uniq() |> Enum.take(3) |> Enum.join("; ")

    %DeniedError{
      capability: capability,
      denied: Enum.map(denied, &Map.take(&1, [:module, :name])),
      grant: grants
    }
  end
end
