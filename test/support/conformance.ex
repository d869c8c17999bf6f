defmodule Cybernetic.WASM.Conformance do
  @moduledoc false
  # WebAssembly's own test scripts over the public API alone: each with a store of its own, whose modules are loaded, linked
  # and called as a user does it. The core crate's tests run the same scripts without the BEAM.

  alias Cybernetic.WASM.Conformance.{Script, Summary}

  @example "wast_commands"

  # All modules of a script live until it ends: two scripts at a time never fill the thousand slots of a pool.
  @concurrently [max_concurrency: 2, ordered: false, timeout: :infinity]

  @doc """
  Writes the scripts' commands to `folder`: Elixir has no parser for the scripts' language, so an example of the core crate
  does it.
  """
  def export!(folder) do
    File.rm_rf!(folder)
    {_output, 0} = System.cmd(build!(), [folder])
    :ok
  end

  # The whole workspace, so that cargo uses the build of Wasmtime that is there.
  defp build! do
    args =
      ~w(build --release --workspace --example #{@example} --quiet --message-format=json-render-diagnostics)

    {output, 0} = System.cmd("cargo", args)
    [_, path] = Regex.run(~r/"name":"#{@example}".*"executable":"([^"]+)"/, output)
    path
  end

  @doc """
  Runs all scripts of `folder` with these options of a load or a call, and counts what came of them against the list of
  what is skipped.
  """
  def run(folder, opts, skipped) do
    folder
    |> files()
    |> Task.async_stream(&run_file(&1, opts), @concurrently)
    |> Enum.map(fn {:ok, report} -> report end)
    |> Summary.new(skipped)
  end

  # The largest first, so that none of them is still at work when all others are done.
  defp files(folder) do
    [_ | _] = files = folder |> Path.join("*.etf") |> Path.wildcard()
    Enum.sort_by(files, &File.stat!(&1).size, :desc)
  end

  defp run_file(file, opts),
    do: file |> File.read!() |> :erlang.binary_to_term() |> Script.run(opts)
end
