defmodule Cybernetic.WASM.Loader.Sources.File do
  @moduledoc false
  # A path.

  @behaviour Cybernetic.WASM.Loader.Source

  alias Cybernetic.WASM.{LoadError, RegularFile, Shown}
  alias Cybernetic.WASM.Loader.Source

  # The longest that Linux takes: what is longer is no path, but a module that was given as one.
  @longest_path 4_096

  @impl true
  def fetch(path, opts) do
    case RegularFile.read(path, opts.max_size) do
      {:ok, bytes} -> {:ok, bytes, %{}}
      {:error, refusal} -> {:error, refused(refusal, opts)}
    end
  end

  defp refused({:too_large, size}, opts), do: Source.too_large(size, opts)
  defp refused({:not_a_file, type}, _opts), do: %LoadError{reason: :not_a_file, detail: type}

  defp refused(reason, _opts) when reason in [:enoent, :enotdir],
    do: %LoadError{reason: :not_found}

  defp refused(reason, _opts),
    do: %LoadError{reason: :unreadable, detail: RegularFile.words(reason)}

  @impl true
  def describe(path), do: Shown.cut(path, @longest_path)

  @impl true
  def name(path), do: Path.basename(path)

  @impl true
  def path(path), do: path
end
