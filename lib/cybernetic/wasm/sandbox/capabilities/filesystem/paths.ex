defmodule Cybernetic.WASM.Sandbox.Capabilities.Filesystem.Paths do
  @moduledoc false
  # The paths of a grant. A path has one spelling, so that narrowing compares two of them as texts.

  # Linux has the same bound.
  @most_links 40

  @doc "Whether it is a path. A NUL would end it where the operating system reads it."
  @spec path?(term) :: boolean
  def path?(path),
    do: is_binary(path) and path != "" and String.valid?(path) and path =~ ~r/\A[^\0]+\z/

  @doc """
  The host's path without links, as they are now. When a guest is made no link is followed any more: another guest may have
  put one there since.
  """
  @spec host(String.t()) :: String.t()
  def host(path), do: path |> Path.expand() |> Path.split() |> real("/", @most_links)

  defp real([], real, _links), do: real
  defp real(["/" | rest], _real, links), do: real(rest, "/", links)
  defp real(["." | rest], real, links), do: real(rest, real, links)
  defp real([".." | rest], real, links), do: real(rest, Path.dirname(real), links)

  defp real([name | rest], real, links) do
    path = Path.join(real, name)

    case :file.read_link_all(path) do
      {:ok, target} when links > 0 ->
        target = IO.chardata_to_string(target)
        real(Path.split(target) ++ rest, real, links - 1)

      _no_link ->
        real(rest, path, links)
    end
  end

  @doc "The guest's path in its one spelling, or the words for what is expected."
  @spec guest(term) :: {:ok, String.t()} | {:expected, String.t()}
  def guest(path) do
    if path?(path) and String.starts_with?(path, "/"),
      do: path |> String.split("/", trim: true) |> Enum.reject(&(&1 == ".")) |> absolute(),
      else: {:expected, "an absolute path as the guest's" <> hint(path)}
  end

  # A guest has no current directory but in its C library, where that is "/".
  defp hint(path) do
    if path?(path) and Path.type(path) == :relative,
      do: ~s| (C and Rust programs look for relative paths beneath "/")|,
      else: ""
  end

  defp absolute(names) do
    if ".." in names,
      do: {:expected, "a guest's path without .."},
      else: {:ok, "/" <> Enum.join(names, "/")}
  end

  @doc "Whether the absolute path `path` is in the directory `base`, with no link on the way."
  @spec inside?(String.t(), String.t()) :: boolean
  def inside?(path, base) do
    base_names = Path.split(base)

    case Enum.split(Path.split(path), length(base_names)) do
      {^base_names, names} -> not linked?(names, base)
      _outside -> false
    end
  end

  defp linked?([], _dir), do: false

  defp linked?([name | names], dir) do
    path = Path.join(dir, name)

    case File.lstat(path) do
      {:ok, %File.Stat{type: :symlink}} -> true
      {:ok, _stat} -> linked?(names, path)
      {:error, _reason} -> false
    end
  end
end
