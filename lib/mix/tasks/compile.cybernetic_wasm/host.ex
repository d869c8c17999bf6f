defmodule Mix.Tasks.Compile.CyberneticWasm.Host do
  @moduledoc false

  # The system that the library is built on, as far as the library depends on it: a folder may be used from several.

  @doc "The kind of machine, and its C library."
  @spec system() :: term
  def system, do: {:erlang.system_info(:system_architecture), c_library()}

  # The one that this VM has loaded.
  defp c_library do
    with {:ok, maps} <- File.read("/proc/self/maps"),
         [path] <- Regex.run(~r{/\S*/(?:libc[.-][^/\s]*so\S*|ld-musl-\S+)}, maps) do
      version(path)
    else
      _unknown -> nil
    end
  end

  # glibc tells its version in a text; of another the size has to do.
  defp version(path) do
    with {:ok, library} <- File.read(path),
         [_, version] <- Regex.run(~r/GNU C Library [^\n]*? version (\d+\.\d+)/, library) do
      {:glibc, version}
    else
      _other -> {Path.basename(path), with({:ok, %{size: size}} <- File.stat(path), do: size)}
    end
  end
end
