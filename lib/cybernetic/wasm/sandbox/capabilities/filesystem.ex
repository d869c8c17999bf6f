defmodule Cybernetic.WASM.Sandbox.Capabilities.Filesystem do
  @moduledoc """
  Directories: option `filesystem:` of `Cybernetic.WASM.Sandbox.new/1`. Default: `false`, none.

      filesystem: [{"/srv/data", "/data"}, {"/srv/out", "/out", :rw}]
      filesystem: [dirs: [{"/srv/data", "/data", :ro}], scratch: "/tmp", quota: 10_000_000]

  A plain list is one of directories.

    * `:dirs` - `{host, guest, mode}`: a directory of this machine, where the guest finds it, and
      `:ro` (the default) or `:rw`. The guest's path is absolute; the host's is taken from the
      current directory if it is not. It must be a directory when the call is made.
    * `:scratch` - where the guest finds an empty directory of its own, which is removed after it;
      default `false`, none
    * `:quota` - bytes that one guest may write to files: a fresh guest in its call, a live
      instance in all of its life. Every new file, directory or link counts 4,096. Default
      100,000,000.
    * `:max_open` - files open at once, default 64

  Narrowing keeps a directory that both grant from the same place at the same path, for reading
  only if either says so; a scratch directory that both grant at the same path; and the smaller
  numbers.
  """

  @behaviour Cybernetic.WASM.Sandbox.Capability

  defstruct dirs: [], scratch: nil, quota: 100_000_000, max_open: 64

  @typedoc "A directory of the host, where the guest finds it, and what it may do there."
  @type dir :: {host :: String.t(), guest :: String.t(), :ro | :rw}

  @typedoc "What files a guest may reach."
  @type t :: %__MODULE__{
          dirs: [dir],
          scratch: String.t() | nil,
          quota: non_neg_integer,
          max_open: non_neg_integer
        }

  @keys [:dirs, :scratch, :quota, :max_open]
  # As Linux has it.
  @most_links 40
  @most 0xFFFF_FFFF_FFFF

  @impl true
  def grant!(none) when none in [false, []], do: %__MODULE__{}

  def grant!(list) when is_list(list) do
    if Keyword.keyword?(list), do: from_keyword!(list), else: from_keyword!(dirs: list)
  end

  def grant!(other), do: wrong!("false, a list of directories or a keyword list", other)

  defp from_keyword!(opts) do
    for {key, _value} <- opts, key not in @keys do
      known = Enum.map_join(@keys, ", ", &inspect/1)

      raise ArgumentError,
            "unknown key #{inspect(key)} of option :filesystem; known are: #{known}"
    end

    filesystem =
      struct!(__MODULE__, Enum.map(opts, fn {key, value} -> {key, part!(key, value)} end))

    refuse_doubles!(filesystem)
    filesystem
  end

  defp part!(:dirs, dirs) when is_list(dirs),
    do: dirs |> Enum.map(&dir!/1) |> Enum.sort_by(&elem(&1, 1))

  defp part!(:dirs, other), do: wrong!("a list of directories as dirs:", other)
  defp part!(:scratch, false), do: nil
  defp part!(:scratch, guest), do: guest!(guest)
  defp part!(_bound, bound) when is_integer(bound) and bound in 0..@most, do: bound
  defp part!(bound, other), do: wrong!("an integer from 0 to #{@most} as #{bound}:", other)

  defp dir!({host, guest}), do: dir!({host, guest, :ro})

  defp dir!({host, guest, mode}) when mode in [:ro, :rw] do
    unless path?(host), do: wrong!("a path on the host", host)
    {host |> Path.expand() |> real(), guest!(guest), mode}
  end

  defp dir!(other), do: wrong!("directories as {host, guest, :ro or :rw}", other)

  # The path without links, of what is there now. When a guest is made no link is followed any more: one that has been put there
  # since may be another guest's.
  defp real(path), do: path |> Path.split() |> real("/", @most_links)

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

  # One spelling for one path, so that narrowing compares paths.
  defp guest!(guest) do
    unless path?(guest) and String.starts_with?(guest, "/"),
      do: wrong!("an absolute path as the guest's", guest)

    parts = guest |> String.split("/", trim: true) |> Enum.reject(&(&1 == "."))
    if ".." in parts, do: wrong!("a guest's path without ..", guest)
    "/" <> Enum.join(parts, "/")
  end

  # A NUL would end the path where the operating system reads it.
  defp path?(path),
    do: is_binary(path) and path != "" and String.valid?(path) and path =~ ~r/\A[^\0]+\z/

  defp refuse_doubles!(%{dirs: dirs, scratch: scratch}) do
    guests = Enum.map(dirs, &elem(&1, 1)) ++ List.wrap(scratch)

    with [guest | _] <- guests -- Enum.uniq(guests) do
      raise ArgumentError, "option :filesystem has two directories at #{inspect(guest)}"
    end
  end

  @spec wrong!(String.t(), term) :: no_return
  defp wrong!(expected, given) do
    raise ArgumentError,
          "option :filesystem takes #{expected}, got: " <>
            inspect(given, limit: 5, printable_limit: 80)
  end

  @impl true
  def narrow(%__MODULE__{} = filesystem, %__MODULE__{} = other) do
    %__MODULE__{
      dirs: Enum.flat_map(filesystem.dirs, &shared(&1, other.dirs)),
      scratch: if(filesystem.scratch == other.scratch, do: filesystem.scratch),
      quota: min(filesystem.quota, other.quota),
      max_open: min(filesystem.max_open, other.max_open)
    }
  end

  defp shared({host, guest, mode}, others) do
    for {^host, ^guest, other} <- others,
        do: {host, guest, if(:ro in [mode, other], do: :ro, else: :rw)}
  end

  @impl true
  def granted?(filesystem), do: filesystem.dirs != [] or filesystem.scratch != nil

  @impl true
  def explain(filesystem) do
    dirs =
      for {host, guest, mode} <- filesystem.dirs,
          do: "#{inspect(guest)} from #{inspect(host)} #{words(mode)}"

    scratch = if filesystem.scratch, do: ["#{inspect(filesystem.scratch)} for scratch"], else: []
    bounds = "#{filesystem.quota} bytes written and #{filesystem.max_open} files open at the most"
    Enum.join(dirs ++ scratch, ", ") <> "; " <> bounds
  end

  defp words(:ro), do: "to read"
  defp words(:rw), do: "to read and write"
end
