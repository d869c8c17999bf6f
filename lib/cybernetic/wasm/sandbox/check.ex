defmodule Cybernetic.WASM.Sandbox.Check do
  @moduledoc false
  # Which imports of a module a sandbox denies: the answer of `Cybernetic.WASM.Sandbox.check/2`.

  alias Cybernetic.WASM.{Component, DeniedError, Module, Sandbox, Shown}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Interfaces}
  alias Cybernetic.WASM.Sandbox.Capabilities.HostFunctions

  # The import modules of WASI: preview 1, and preview 0, which was before it.
  @wasi "wasi_snapshot_preview1"
  @before "wasi_unstable"

  # The functions of WASI that need no grant but `wasi`.
  @own ~w(args_get args_sizes_get fd_close fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights
          fd_filestat_get fd_renumber fd_seek fd_tell proc_exit proc_raise sched_yield)

  # All functions, each with the capabilities of which one is enough.
  @functions Map.merge(Map.new(@own, &{&1, []}), Capabilities.functions())

  @functions_before Map.delete(@functions, "sock_accept")

  # The interfaces of WASI 0.2 that need a grant.
  @interfaces Capabilities.interfaces()

  @hint "add sandbox: :command, or wasi: true to the sandbox"
  @unknown "nothing grants it: WASI preview 1 has no such function"
  @unknown_before "nothing grants it: WASI preview 0 has no such function"

  # With the name of an import in it.
  @longest_grant 300

  @doc "The import module of WASI preview 1."
  @spec wasi() :: String.t()
  def wasi, do: @wasi

  @doc "Whether it is the import module of a WASI that is served."
  defguard is_wasi(module) when module in [@wasi, @before]

  @doc "What to grant for WASI itself, in words."
  @spec hint() :: String.t()
  def hint, do: @hint

  @doc "The functions of WASI preview 1, with the names of the capabilities of which one is enough."
  @spec functions() :: %{String.t() => [atom]}
  def functions do
    Map.new(@functions, fn
      {name, []} -> {name, [:wasi]}
      {name, capabilities} -> {name, Keyword.keys(capabilities)}
    end)
  end

  @doc "Whether the WASI of that module has a function of that name."
  @spec known?(String.t(), String.t()) :: boolean
  def known?(@before, name), do: is_map_key(@functions_before, name)
  def known?(@wasi, name), do: is_map_key(@functions, name)

  @doc "The imports of the module that the sandbox denies, in order."
  @spec denied(Module.t(), Sandbox.t()) :: [Sandbox.denied()]
  def denied(module, sandbox) do
    :ok = Module.here!(module)

    imports =
      for import <- Module.functions(module),
          do: %{module: elem(import, 0), name: elem(import, 1)}

    if is_struct(module, Component),
      do: Enum.flat_map(imports, &denial_of_component(&1, sandbox)),
      else: denied_of(imports, sandbox)
  end

  defp denial_of_component(%{module: interface} = import, sandbox) do
    if Interfaces.served?(interface),
      do: unmet(import, need(interface, import.name), sandbox),
      else: unlisted(import, sandbox)
  end

  @doc "What a function of WASI 0.2 needs, and what becomes of a call without that; `nil` where it is nothing."
  @spec need(String.t(), String.t()) :: {atom, module, :errno | :empty | :trap} | nil
  def need(interface, function) do
    name = interface |> String.split("@") |> hd()
    @interfaces[name <> "#" <> function] || @interfaces[name]
  end

  defp unmet(_import, nil, _sandbox), do: []

  defp unmet(import, {name, capability, effect}, sandbox) do
    if capability.granted?(Map.fetch!(sandbox, name)),
      do: [],
      else: refusal(import, name, effect, capability.hint())
  end

  @doc "Of imports as maps with `module` and `name`, those that the sandbox denies."
  @spec denied_of([map], Sandbox.t()) :: [Sandbox.denied()]
  def denied_of(imports, sandbox) do
    imports |> Enum.uniq_by(&{&1.module, &1.name}) |> Enum.flat_map(&denial(&1, sandbox))
  end

  defp denial(%{module: @wasi} = import, sandbox),
    do: denial(import, sandbox, {@functions, @unknown})

  defp denial(%{module: @before} = import, sandbox),
    do: denial(import, sandbox, {@functions_before, @unknown_before})

  defp denial(import, sandbox), do: unlisted(import, sandbox)

  defp denial(%{name: name} = import, sandbox, {functions, unknown}) do
    case functions do
      %{^name => _any} when not sandbox.wasi -> refusal(import, :wasi, :link, @hint)
      %{^name => []} -> []
      %{^name => capabilities} -> ungranted(import, capabilities, sandbox)
      %{} -> refusal(import, :wasi, :link, unknown)
    end
  end

  @doc "Host functions that the sandbox does not allow."
  @spec unlisted([map] | map, Sandbox.t()) :: [Sandbox.denied()]
  def unlisted(imports, sandbox) when is_list(imports),
    do: imports |> Enum.uniq_by(&{&1.module, &1.name}) |> Enum.flat_map(&unlisted(&1, sandbox))

  def unlisted(%{module: module, name: name} = import, sandbox) do
    if HostFunctions.allows?(sandbox.host_functions, module, name),
      do: [],
      else: refusal(import, :host_functions, :link, HostFunctions.hint(module, name))
  end

  defp ungranted(import, [{name, first} | _] = capabilities, sandbox) do
    if Enum.any?(capabilities, &granted?(&1, sandbox)),
      do: [],
      else: refusal(import, name, first.effect(), first.hint())
  end

  defp granted?({name, capability}, sandbox),
    do: capability.served?() and capability.granted?(Map.fetch!(sandbox, name))

  defp refusal(import, capability, effect, grant) do
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

  @doc "The error of a call on a module with these denied imports; `nil` if it links all the same."
  @spec to_error([Sandbox.denied()]) :: DeniedError.t() | nil
  def to_error(denied) do
    case for %{effect: :link} = denial <- denied, do: denial do
      [] -> nil
      [%{capability: capability} | _] = denied -> error(capability, denied)
    end
  end

  # Of one capability at a time, the first.
  defp error(capability, denied) do
    denied = Enum.filter(denied, &(&1.capability == capability))

    grants =
      denied
      |> Enum.map(& &1.grant)
      |> Enum.uniq()
      |> Enum.take(3)
      |> Enum.map_join("; ", &Shown.cut(&1, @longest_grant))

    %DeniedError{
      capability: capability,
      denied: Enum.map(denied, &%{module: Shown.cut(&1.module), name: Shown.cut(&1.name)}),
      grant: grants
    }
  end
end
