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
    * `:null` - the path where the guest finds a null device, `"/dev/null"`, or another one that
      ends in `/null`. Reading finds its end, and what is written is gone. It costs no quota.
      Some programs, such as Perl, do not start without it. Default: `false`, none.
    * `:times` - what the guest sees of the times of files. `:real`: what they are. `:fixed`: all
      the same, the time at which the guest's clock began if that is a fixed or a stepped one, but
      not before 2 January 1980, which archives do not take. Default: `:real`, and `:fixed` in a
      deterministic sandbox. Real times are a clock: a guest that may write files has the time of
      day without `clocks:`.
    * `:quota` - bytes that one guest may write to files: a fresh guest in its call, a live
      instance in its whole life. Every new file, directory or link counts 4,096. Default:
      100,000,000.
    * `:max_open` - files open at once. Default: 64.

  A directory that is granted to read, and on the host lies in one that is granted to write, could
  be written to all the same: that is an `ArgumentError`, whatever the paths in the guest. The other
  way round, a directory to write in one to read, is what it says. Links are resolved before host
  paths are compared.

  Narrowing keeps a directory that both grant from the same place at the same path, for reading
  only if either says so. A grant of a directory is one of all that is in it: of `/srv/data` at
  `/data`, and `/srv/data/in` at `/data/in`, the inner one is left. It keeps a scratch directory
  and a null device that both grant at the same path, real times that both grant, and the smaller
  of the numbers.

      iex> alias Cybernetic.WASM.Sandbox
      iex> data = Sandbox.new(filesystem: [{"/srv/data", "/data", :rw}])
      iex> part = Sandbox.new(filesystem: [{"/srv/data/in", "/data/in", :ro}])
      iex> Sandbox.narrow(data, part).filesystem.dirs
      [{"/srv/data/in", "/data/in", :ro}]
      iex> Sandbox.new(filesystem: [{"/srv/data", "/data", :rw}, {"/srv/data/in", "/in", :ro}])
      ** (ArgumentError) option :filesystem grants "/srv/data/in" to read, but "/srv/data", in which it lies, to write: give both the same mode
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.Sandbox.Capabilities.Filesystem.{Directories, Paths}

  defstruct dirs: [], scratch: nil, null: nil, times: nil, quota: 100_000_000, max_open: 64

  @typedoc "A directory of the host, the path where the guest finds it, and whether it may write there."
  @type dir :: Directories.t()

  @typedoc "The files that a guest may reach. `times` is `nil` where nothing was said: real, unless the sandbox is deterministic."
  @type t :: %__MODULE__{
          dirs: [dir],
          scratch: String.t() | nil,
          null: String.t() | nil,
          times: :real | :fixed | nil,
          quota: non_neg_integer,
          max_open: non_neg_integer
        }

  @bounds [:quota, :max_open]
  @keys [:dirs, :scratch, :null, :times | @bounds]
  # From the least to the greatest.
  @times [:fixed, :real, nil]
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
    with {:ok, parts} <- each(opts, &part/1),
         {:ok, filesystem} <- __MODULE__ |> struct!(parts) |> once(),
         do: protected(filesystem)
  end

  defp part({:dirs, dirs}) when is_list(dirs) and length(dirs) >= 0 do
    with {:ok, dirs} <- each(dirs, &dir/1), do: {:ok, {:dirs, Enum.sort_by(dirs, &elem(&1, 1))}}
  end

  defp part({:dirs, other}), do: wrong("a list of directories as dirs:", other)
  defp part({:scratch, false}), do: {:ok, {:scratch, nil}}
  defp part({:scratch, path}), do: with({:ok, path} <- guest(path), do: {:ok, {:scratch, path}})

  defp part({:null, false}), do: {:ok, {:null, nil}}

  defp part({:null, path}) do
    with {:ok, guest} <- guest(path) do
      if Path.basename(guest) == "null",
        do: {:ok, {:null, guest}},
        else: wrong(~s|"/dev/null", or another path that ends in /null, as null:|, path)
    end
  end

  defp part({:times, times}) when times in [:real, :fixed], do: {:ok, {:times, times}}
  defp part({:times, other}), do: wrong(":real or :fixed as times:", other)

  defp part({bound, value}) when bound in @bounds do
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

  defp once(%{dirs: dirs, scratch: scratch, null: null} = filesystem) do
    null = for path <- List.wrap(null), do: Path.dirname(path)
    guests = Enum.map(dirs, &elem(&1, 1)) ++ List.wrap(scratch) ++ null

    case guests -- Enum.uniq(guests) do
      [] ->
        {:ok, filesystem}

      [guest | _] ->
        refused(
          "option :filesystem has two directories at #{inspect(guest)}#{of_null(guest in null)}"
        )
    end
  end

  defp of_null(true), do: ": a null device has its directory to itself"
  defp of_null(false), do: ""

  defp protected(%{dirs: dirs} = filesystem) do
    case Directories.exposed(dirs) do
      nil ->
        {:ok, filesystem}

      {{host, _, :ro}, {outer, _, :rw}} ->
        refused(
          "option :filesystem grants #{inspect(host)} to read, but #{inspect(outer)}, in which it lies, " <>
            "to write: give both the same mode"
        )
    end
  end

  defp wrong(expected, given), do: refused("option :filesystem takes #{expected}", given)

  @impl true
  def keys, do: [:filesystem, :scratch, :null, :times, :quota, :max_open]

  # Each key is checked by itself, and then whether they fit together.
  @impl true
  def manifest(nodes) do
    parts = for {key, node, at} <- nodes, do: stated(key, node, at)

    places =
      [dirs: [], scratch: false] |> Keyword.merge(Keyword.take(parts, [:dirs, :scratch, :null]))

    if Enum.any?(places, fn {_key, given} -> given not in [[], false] end) do
      at = Enum.find_value([:scratch, :filesystem, :null], &stated_at(&1, nodes))

      option(
        places ++ Keyword.take(parts, [:times | @bounds]),
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

  defp stated(place, {:boolean, _line, false}, _at) when place in [:scratch, :null],
    do: {place, false}

  defp stated(:scratch, node, at),
    do: {:scratch, stated_place(:scratch, node, at, "false or an absolute path in the guest")}

  defp stated(:null, node, at),
    do: {:null, stated_place(:null, node, at, ~s|false or "/dev/null"|)}

  defp stated(:times, node, at) do
    words = [{"real", :real}, {"fixed", :fixed}]
    {:times, choice(node, at, words, ~s|"real" or "fixed"|)}
  end

  defp stated(bound, node, at) do
    expected = if bound == :quota, do: "a number of bytes", else: "a number of files"
    number = integer(node, at, expected)
    {bound, option(number, &part({bound, &1}), {node, at}, expected)}
  end

  defp stated_place(key, node, at, expected) do
    path = text(node, at, expected)
    option(path, &part({key, &1}), {node, at}, expected)
  end

  defp stated_at(key, nodes) do
    with {^key, _node, at} <- List.keyfind(nodes, key, 0), do: at
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
      dirs: Directories.narrow(filesystem.dirs, other.dirs),
      scratch: if(filesystem.scratch == other.scratch, do: filesystem.scratch),
      null: if(filesystem.null == other.null, do: filesystem.null),
      times: Enum.find(@times, &(&1 in [filesystem.times, other.times])),
      quota: min(filesystem.quota, other.quota),
      max_open: min(filesystem.max_open, other.max_open)
    }
  end

  # Whoever did not ask for real times is not told that they are not to be had.
  @impl true
  def deterministic(%__MODULE__{times: :fixed}), do: :ok

  def deterministic(%__MODULE__{times: asked} = filesystem) do
    why = "filesystem: [times: :real] is not deterministic: leave it out, or give times: :fixed"
    {%{filesystem | times: :fixed}, if(asked, do: why)}
  end

  @impl true
  def granted?(filesystem),
    do: filesystem.dirs != [] or filesystem.scratch != nil or filesystem.null != nil

  @impl true
  def explain(filesystem) do
    dirs =
      for {host, guest, mode} <- filesystem.dirs,
          do: "#{inspect(guest)} from #{inspect(host)} #{words(mode)}"

    scratch = if filesystem.scratch, do: ["#{inspect(filesystem.scratch)} for scratch"], else: []
    null = if filesystem.null, do: ["#{inspect(filesystem.null)} as a null device"], else: []
    bounds = "#{filesystem.quota} bytes written and #{filesystem.max_open} files open at the most"
    times = "#{filesystem.times || :real} times"
    Enum.join(dirs ++ scratch ++ null, ", ") <> "; " <> bounds <> "; " <> times
  end

  defp words(:ro), do: "to read"
  defp words(:rw), do: "to read and write"

  @impl true
  def native(filesystem, _data) do
    {:ok,
     %{
       dirs: for({host, guest, mode} <- filesystem.dirs, do: {host, guest, mode == :rw}),
       scratch: filesystem.scratch,
       null: filesystem.null,
       times: filesystem.times != :fixed,
       quota: filesystem.quota,
       max_open: filesystem.max_open
     }}
  end

  @impl true
  def functions do
    ~w(fd_advise fd_allocate fd_datasync fd_filestat_set_size fd_filestat_set_times fd_pread
       fd_prestat_get fd_prestat_dir_name fd_pwrite fd_read fd_readdir fd_sync fd_write
       path_create_directory path_filestat_get path_filestat_set_times path_link path_open
       path_readlink path_remove_directory path_rename path_symlink path_unlink_file)
  end

  @impl true
  def interfaces, do: [{"wasi:filesystem/preopens", :empty}, {"wasi:filesystem/types", :errno}]

  @impl true
  def hint, do: ~s|add filesystem: [{"/host/dir", "/guest/dir"}]|
end
