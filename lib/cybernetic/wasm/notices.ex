defmodule Cybernetic.WASM.Notices do
  @moduledoc false
  # What an operator should read of the compiler. Rust keeps it until somebody asks: whoever has waited for a compilation does.

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

  defp log({:compiler_failed, digest, detail}) do
    digest = Base.encode16(digest, case: :lower)
    Logger.error("Cybernetic.WASM: compiling the module blake3:#{digest} failed: #{detail}")
  end
end
