defmodule Cybernetic.WASM.Notices do
  @moduledoc false
  # What an operator should read of the compiler and of what is kept of its work. Rust keeps it until somebody asks: whoever has waited for a compilation does.

  require Logger

  alias Cybernetic.WASM.Native

  @doc "Logs what is new. Each notice is logged once."
  @spec log() :: :ok
  def log, do: Enum.each(Native.runtime_take_notices(), &log/1)

  defp log({:in_process, why}) do
    Logger.warning(
      "Cybernetic.WASM: modules are compiled inside this VM, where nothing ends a compilation that takes too much " <>
        "(if that is what you want, config compiler: :in_process silences this; if not, `mix compile --force` puts the " <>
        "program back): #{why}"
    )
  end

  defp log({:too_large, digest, size, allowed}) do
    digest = Base.encode16(digest, case: :lower)

    Logger.warning(
      "Cybernetic.WASM: the module blake3:#{digest} has #{size} bytes of code and source, more than all the cache " <>
        "(config cache_size: #{allowed}): it is compiled again at every load while nobody holds its handle"
    )
  end

  defp log({:no_artifacts, why}), do: no_artifacts(why)

  defp log({:artifact_refused, digest, detail}) do
    digest = Base.encode16(digest, case: :lower)

    Logger.warning(
      "Cybernetic.WASM: the compiled code of the module blake3:#{digest} on disk was not taken: #{detail}; " <>
        "the module is compiled anew"
    )
  end

  defp log({:artifacts_stale, count}) do
    Logger.info(
      "Cybernetic.WASM: all #{count} files of compiled code on disk are of another build of the library, another key or " <>
        "another machine: modules are compiled anew"
    )
  end

  defp log({:artifact_unwritten, why}) do
    Logger.warning("Cybernetic.WASM: compiled code cannot be kept on disk: #{why}")
  end

  defp log({:compiler_failed, digest, detail}) do
    digest = Base.encode16(digest, case: :lower)
    Logger.error("Cybernetic.WASM: compiling the module blake3:#{digest} failed: #{detail}")
  end

  @doc "Logs that compiled code is not kept."
  @spec no_artifacts(String.t()) :: :ok
  def no_artifacts(why) do
    Logger.warning(
      "Cybernetic.WASM: compiled modules are not kept on disk, so that each start compiles them again (config artifact_dir " <>
        "names another folder, artifacts: false silences this): #{why}"
    )
  end
end
