defmodule Cybernetic.WASM.Sandbox.Capabilities.Filesystem do
  @moduledoc """
  Directories: option `filesystem:` of `Cybernetic.WASM.Sandbox.new/1`. Default: `false`, none.

      filesystem: [{"/srv/data", "/data"}, {"/srv/out", "/out", :rw}]
      filesystem: [dirs: [{"/srv/data", "/data", :ro}], scratch: "/tmp", quota: 10_000_000]

  A plain list is a list of directories.

    * `:dirs` - `{host, guest, mode}`: a directory of this machine, the path where the guest finds
      it, and `:ro` (the default) or `:rw`. The guest's path is absolute. A relative host path
      begins at the current directory. There must be a directory when the call is made.
    * `:scratch` - the path where the guest finds an empty directory of its own, which is removed
      when the guest is gone. Default: `false`, none.
    * `:quota` - bytes that one guest may write to files: a fresh guest in its call, a live
      instance in its whole life. Every new file, directory or link counts 4,096. Default:
      100,000,000.
    * `:max_open` - files open at once. Default: 64.

  Narrowing keeps a directory that both grant from the same place at the same path, for reading
  only if either says so. It keeps a scratch directory that both grant at the same path, and the
  smaller of the numbers.
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.Sandbox.Capabilities.Filesystem.Paths

  defstruct dirs: [], scratch: nil, quota: 100_000_000, max_open: 64

  @typedoc "A directory of the host, the path where the guest finds it, and whether it may write there."
  @type dir :: {host :: String.t(), guest :: String.t(), :ro | :rw}

  @typedoc "The files that a guest may reach."
  @type t :: %__MODULE__{
          dirs: [dir],
          scratch: String.t() | nil,
          quota: non_neg_integer,
          max_open: non_neg_integer
        }

  @keys [:dirs, :scratch, :quota, :max_open]
  @most 0xFFFF_FFFF_FFFF
  @directory [{"host", :host}, {"guest", :guest}, {"mode", :mode}]

  @impl true
  def default, do: %__MODULE__{}

  @impl true
  def grant(none) when none in [false, []], do: {:ok, %__MODULE__{}}

  def grant(list) when is_list(list) do
    if Keyword.keyword?(list), do: from_keyword(list), else: from_keyword(dirs: list)
  end

  def grant(other), do: wrong("false, a list of directories or a keyword list", other)

  defp from_keyword(opts) do
    with {:ok, parts} <- each(opts, &part/1), do: __MODULE__ |> struct!(parts) |> once()
  end

  defp part({:dirs, dirs}) when is_list(dirs) and length(dirs) >= 0 do
    with {:ok, dirs} <- each(dirs, &dir/1), do: {:ok, {:dirs, Enum.sort_by(dirs, &elem(&1, 1))}}
  end

  defp part({:dirs, other}), do: wrong("a list of directories as dirs:", other)
  defp part({:scratch, false}), do: {:ok, {:scratch, nil}}
  defp part({:scratch, path}), do: with({:ok, path} <- guest(path), do: {:ok, {:scratch, path}})

  defp part({bound, value}) when bound in @keys do
    if is_integer(value) and value in 0..@most,
      do: {:ok, {bound, value}},
      else: wrong("an integer from 0 to #{@most} as #{bound}:", value)
  end

  defp part({key, _value}) do
    known = Enum.map_join(@keys, ", ", &inspect/1)
    refused("unknown key #{inspect(key)} of option :filesystem; known are: #{known}")
  end

  defp dir({host, guest}), do: dir({host, guest, :ro})

  defp dir({host, guest, mode}) when mode in [:ro, :rw] do
    if Paths.path?(host),
      do: with({:ok, guest} <- guest(guest), do: {:ok, {Paths.host(host), guest, mode}}),
      else: wrong("a path on the host", host)
  end

  defp dir(other), do: wrong("directories as {host, guest, :ro or :rw}", other)

  defp guest(path),
    do: with({:expected, expected} <- Paths.guest(path), do: wrong(expected, path))

  defp once(%{dirs: dirs, scratch: scratch} = filesystem) do
    guests = Enum.map(dirs, &elem(&1, 1)) ++ List.wrap(scratch)

    case guests -- Enum.uniq(guests) do
      [] -> {:ok, filesystem}
      [guest | _] -> refused("option :filesystem has two directories at #{inspect(guest)}")
    end
  end

  defp wrong(expected, given), do: refused("option :filesystem takes #{expected}", given)

  @impl true
  def keys, do: [:filesystem, :scratch, :quota, :max_open]

  # Each key is checked by itself, and then whether they fit together.
  @impl true
  def manifest(nodes) do
    parts = for {key, node, at} <- nodes, do: stated(key, node, at)
    {dirs, scratch} = {Keyword.get(parts, :dirs, []), Keyword.get(parts, :scratch, false)}

    unless dirs == [] and scratch == false do
      {_key, _node, at} = List.keyfind(nodes, :scratch, 0) || List.keyfind(nodes, :filesystem, 0)

      option(
        [dirs: dirs, scratch: scratch] ++ Keyword.take(parts, [:quota, :max_open]),
        &grant/1,
        {{:array, at.line, []}, at},
        "directories that fit together"
      )
    end
  end

  defp stated(:filesystem, {:boolean, _line, false}, _at), do: {:dirs, []}

  defp stated(:filesystem, {:array, _line, _items} = node, at),
    do: {:dirs, for({node, at} <- items(node, at), do: stated_dir(node, at))}

  defp stated(:filesystem, node, at) do
    refuse(
      node,
      at,
      ~S|false or a list such as [{ host = "data", guest = "/data", mode = "ro" }]|
    )
  end

  defp stated(:scratch, {:boolean, _line, false}, _at), do: {:scratch, false}

  defp stated(:scratch, node, at) do
    expected = "false or an absolute path in the guest"
    path = text(node, at, expected)
    {:scratch, option(path, &part({:scratch, &1}), {node, at}, expected)}
  end

  defp stated(bound, node, at) do
    expected = if bound == :quota, do: "a number of bytes", else: "a number of files"
    number = integer(node, at, expected)
    {bound, option(number, &part({bound, &1}), {node, at}, expected)}
  end

  defp stated_dir({:table, _line, _entries} = node, at) do
    %{host: {host, host_at}, guest: {guest, guest_at}} =
      parts = parts(node, at, @directory, [:host, :guest])

    expected = "an absolute path in the guest"
    path = stated_host(host, host_at)
    dir = {path, text(guest, guest_at, expected), stated_mode(parts)}
    option(dir, &dir/1, parts.guest, expected)
  end

  defp stated_dir(node, at),
    do: refuse(node, at, ~S|a table such as { host = "data", guest = "/data", mode = "ro" }|)

  defp stated_mode(%{mode: {node, at}}),
    do: choice(node, at, [{"ro", :ro}, {"rw", :rw}], ~S|"ro" or "rw"|)

  defp stated_mode(_read_only), do: :ro

  # Whoever sends a bundle may put links into it.
  defp stated_host(node, at) do
    path = text(node, at, "a directory's path")
    if String.contains?(path, <<0>>), do: refuse(node, at, "a path without zero bytes")
    absolute = Path.expand(path, at.base)

    unless at.allow_absolute or
             (Path.type(path) == :relative and Paths.inside?(absolute, at.base)) do
      expected =
        "a path in the manifest's directory, without links (option allow_absolute: true lifts this)"

      refuse(node, at, expected)
    end

    absolute
  end

  @impl true
  def suggestion do
    """
    # It opens files. This would let it read a directory beside this manifest:
    # filesystem = [{ host = "data", guest = "/data", mode = "ro" }]
    filesystem = false
    """
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

  @impl true
  def native(filesystem, _data) do
    dirs = for {host, guest, mode} <- filesystem.dirs, do: {host, guest, mode == :rw}
    {:ok, filesystem |> Map.take([:scratch, :quota, :max_open]) |> Map.put(:dirs, dirs)}
  end

  @impl true
  def functions do
    ~w(fd_advise fd_allocate fd_datasync fd_filestat_set_size fd_filestat_set_times fd_pread
       fd_prestat_get fd_prestat_dir_name fd_pwrite fd_read fd_readdir fd_sync fd_write
       path_create_directory path_filestat_get path_filestat_set_times path_link path_open
       path_readlink path_remove_directory path_rename path_symlink path_unlink_file)
  end

  @impl true
  def hint, do: ~s|add filesystem: [{"/host/dir", "/guest/dir"}]|
end
