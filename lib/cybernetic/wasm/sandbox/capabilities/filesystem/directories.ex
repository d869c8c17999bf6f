defmodule Cybernetic.WASM.Sandbox.Capabilities.Filesystem.Directories do
  @moduledoc false
  # Directories that are granted together, where one may contain another: what two lists of them have in common, and which of
  # them is not what it seems. Host paths have no links, so that they are compared as texts.

  @typedoc "A directory of the host, the path where the guest finds it, and whether it may write there."
  @type t :: {host :: String.t(), guest :: String.t(), :ro | :rw}

  @doc """
  What both grant. A directory grants all that is beneath it, each at its own path, so that of one that contains another the
  inner one is left. What several of them grant is granted by any of them.
  """
  @spec narrow([t], [t]) :: [t]
  def narrow(dirs, others) do
    shared = for dir <- dirs, other <- others, both <- shared(dir, other), do: both
    modes = Enum.group_by(shared, fn {host, guest, _} -> {guest, host} end, &elem(&1, 2))

    for {{guest, host}, modes} <- Enum.sort(modes),
        do: {host, guest, if(:rw in modes, do: :rw, else: :ro)}
  end

  defp shared({host, guest, mode}, {other_host, other_guest, other_mode}) do
    lesser = if :ro in [mode, other_mode], do: :ro, else: :rw

    cond do
      inside?({host, guest}, {other_host, other_guest}) -> [{host, guest, lesser}]
      inside?({other_host, other_guest}, {host, guest}) -> [{other_host, other_guest, lesser}]
      true -> []
    end
  end

  # The guest finds both at the paths that they have to each other on the host.
  defp inside?({host, guest}, {outer_host, outer_guest}) do
    way = way(host, outer_host)
    way != nil and way == way(guest, outer_guest)
  end

  @doc "A directory that is granted to read, with the one to write that contains it on the host; `nil` if there is none."
  @spec exposed([t]) :: {t, t} | nil
  def exposed(dirs) do
    pairs =
      for {host, _, :ro} = dir <- dirs,
          {outer, _, :rw} = around <- dirs,
          way(host, outer) != nil,
          do: {dir, around}

    List.first(pairs)
  end

  # The names that lead from the directory `outer` to `path`; `nil` where none do.
  defp way(path, outer) do
    base = Path.split(outer)

    case Enum.split(Path.split(path), length(base)) do
      {^base, names} -> names
      _elsewhere -> nil
    end
  end
end
