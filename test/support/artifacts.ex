defmodule Cybernetic.WASM.Artifacts do
  @moduledoc false
  # Nodes that keep compiled code on disk, in a folder of the test's own.

  alias Cybernetic.WASM.FreshNode

  @doc "A folder that only this user can write to, and so can nobody to one above it."
  def folder do
    {path, 0} = System.cmd("mktemp", ["-d"])
    path = path |> String.trim() |> real()
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  defp real(path) do
    {path, 0} = System.cmd("pwd", ["-P"], cd: path)
    String.trim(path)
  end

  @doc "The files of compiled code in it."
  def files(folder), do: folder |> Path.join("*-*") |> Path.wildcard() |> Enum.sort()

  @doc "Evaluates `code` in a node with this folder."
  def eval(folder, code, own \\ []),
    do: FreshNode.eval([], with_names(code), own: on(folder, own))

  @doc "Gives what the node printed, too."
  def run(folder, code, own \\ []), do: FreshNode.run([], with_names(code), own: on(folder, own))

  defp on(folder, own), do: Keyword.merge([artifacts: true, artifact_dir: folder], own)

  defp with_names(code) do
    """
    import Cybernetic.WASM.Guests
    kept = fn source, opts ->
      module = Runtime.load_module!(source, opts)
      :ok = Runtime.keep(module)
      module
    end
    counts = fn ->
      stats = Runtime.stats()
      Enum.map([:artifact_hits, :artifact_misses, :artifact_refused, :compile_jobs], &stats[&1])
    end
    _ = {kept, counts}
    #{code}
    """
  end
end
