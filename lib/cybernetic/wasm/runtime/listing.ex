defmodule Cybernetic.WASM.Runtime.Listing do
  @moduledoc false
  # What is loaded under names, for those who look at it.

  alias Cybernetic.WASM.{CallError, Module}
  alias Cybernetic.WASM.Runtime.{Names, Uses, Versions}

  @doc "See `Cybernetic.WASM.Runtime.modules/0`."
  @spec all() :: [map]
  def all do
    Names.entries()
    |> Enum.map(fn {entry, module} -> row(entry, module, Names.versions(entry.name)) end)
    |> Enum.sort_by(&{&1.name, Version.parse!(&1.version)}, &ahead?/2)
  end

  # By name, and the highest version first.
  defp ahead?({name, one}, {name, other}), do: Version.compare(one, other) != :lt
  defp ahead?({name, _one}, {other, _other}), do: name <= other

  defp row(entry, module, versions) do
    %{
      name: entry.name,
      version: entry.version,
      current: versions != nil and versions.current == entry.serial,
      share: share(entry.serial, versions),
      digest: module.digest,
      size: module.size,
      code_size: Module.code_size(module),
      source: entry.source,
      loads: entry.loads,
      loaded_at: entry.loaded_at,
      calls: Uses.calls(module.uses),
      last_used: Uses.last(module.uses),
      live_instances: Module.guests(module)
    }
  end

  # In a hundred, of the calls of the bare name.
  defp share(_serial, nil), do: 0
  defp share(serial, versions), do: Versions.hundredths(versions, serial)

  @doc "See `Cybernetic.WASM.Runtime.info/1`."
  @spec info(Module.given()) :: {:ok, map} | {:error, CallError.t()}
  def info(given) do
    with {:ok, module} <- Names.fetch(given),
         do: {:ok, Map.merge(facts(module), registered(module))}
  end

  defp facts(module) do
    %{
      name: module.name,
      version: module.version,
      digest: module.digest,
      sha256: Module.digest(module, :sha256),
      size: module.size,
      code_size: Module.code_size(module),
      imports: Module.imports(module),
      exports: Module.exports(module),
      manifest: module.manifest,
      live_instances: Module.guests(module)
    }
  end

  # As long as a name leads to it.
  defp registered(%{uses: nil}), do: %{}

  defp registered(%{name: name, version: version} = module) do
    with %Versions{} = versions <- Names.versions(name),
         serial when serial != nil <- Versions.serial(versions, version),
         {entry, %{uses: uses}} when uses == module.uses <- Names.entry(serial) do
      row(entry, module, versions)
    else
      _gone -> %{}
    end
  end
end
