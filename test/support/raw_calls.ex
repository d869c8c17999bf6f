defmodule Cybernetic.WASM.RawCalls do
  @moduledoc false
  # WASI's functions as they are, without a C library between: a module exports each of them again, so that a test calls it
  # with numbers of its own, on memory that it has filled itself.

  alias Cybernetic.WASM.{Instance, Memory, Runtime}

  # Each function's parameters: `f` a descriptor, `p` a pointer, `n` a length or count, `b` flags or a number of few, `s` a
  # path and `v` vectors, which are a pointer and a number each; and of 64 bits `o` an offset or size, `t` a time, `r`
  # rights.
  @functions %{
    "args_get" => "pp",
    "args_sizes_get" => "pp",
    "environ_get" => "pp",
    "environ_sizes_get" => "pp",
    "clock_res_get" => "bp",
    "clock_time_get" => "btp",
    "fd_advise" => "foob",
    "fd_allocate" => "foo",
    "fd_close" => "f",
    "fd_datasync" => "f",
    "fd_fdstat_get" => "fp",
    "fd_fdstat_set_flags" => "fb",
    "fd_fdstat_set_rights" => "frr",
    "fd_filestat_get" => "fp",
    "fd_filestat_set_size" => "fo",
    "fd_filestat_set_times" => "fttb",
    "fd_pread" => "fvop",
    "fd_prestat_get" => "fp",
    "fd_prestat_dir_name" => "fpn",
    "fd_pwrite" => "fvop",
    "fd_read" => "fvp",
    "fd_readdir" => "fpnop",
    "fd_renumber" => "ff",
    "fd_seek" => "fobp",
    "fd_sync" => "f",
    "fd_tell" => "fp",
    "fd_write" => "fvp",
    "path_create_directory" => "fs",
    "path_filestat_get" => "fbsp",
    "path_filestat_set_times" => "fbsttb",
    "path_link" => "fbsfs",
    "path_open" => "fbsbrrbp",
    "path_readlink" => "fspnp",
    "path_remove_directory" => "fs",
    "path_rename" => "fsfs",
    "path_symlink" => "sfs",
    "path_unlink_file" => "fs",
    "poll_oneoff" => "ppnp",
    "proc_exit" => "b",
    "proc_raise" => "b",
    "random_get" => "pn",
    "sched_yield" => "",
    "sock_accept" => "fbp",
    "sock_recv" => "fvbpp",
    "sock_send" => "fvbp",
    "sock_shutdown" => "fb"
  }

  @doc "Every function of WASI preview 1, and the kinds of its parameters."
  def functions, do: @functions

  @doc """
  The text of the imports of `names`, which are then functions of these names: `$fd_write`.
  """
  def imports(names \\ Map.keys(@functions)) do
    for name <- names, into: "" do
      ~s|(import "wasi_snapshot_preview1" "#{name}" (func $#{name} #{type(name)}))\n|
    end
  end

  @doc "A module that exports every function as it is, and as `via NAME` called by code of its own. `more` goes into it, too."
  def module(more \\ "", memory \\ ~S|(memory (export "memory") 1 16)|) do
    exports =
      for {name, kinds} <- @functions do
        gets = for index <- 0..(length(types(kinds)) - 1)//1, do: "(local.get #{index})"

        ~s|(export "#{name}" (func $#{name}))
           (func (export "via #{name}") #{type(name)} (call $#{name} #{gets}))\n|
      end

    Runtime.load_module!({:bytes, "(module #{imports()} #{memory} #{exports} #{more})"})
  end

  @doc "A guest of that module."
  def guest(sandbox, opts \\ []), do: Instance.new!(module(), [sandbox: sandbox] ++ opts)

  defp type("proc_exit"), do: "(param i32)"
  defp type(name), do: "(param #{Enum.join(types(@functions[name]), " ")}) (result i32)"

  defp types(kinds), do: kinds |> String.graphemes() |> Enum.flat_map(&type_of/1)

  defp type_of(pair) when pair in ["s", "v"], do: ["i32", "i32"]
  defp type_of(wide) when wide in ["o", "t", "r"], do: ["i64"]
  defp type_of(_narrow), do: ["i32"]

  # Single calls. Paths are at 0 and 4,096, answers at 8,192; data is from 16,384 on.

  @other 4_096
  @answer 8_192
  @vector 8_200
  @data 16_384
  @errnos %{
    0 => :ok,
    2 => :acces,
    8 => :badf,
    19 => :dquot,
    20 => :exist,
    25 => :ilseq,
    28 => :inval,
    31 => :isdir,
    32 => :loop,
    33 => :mfile,
    37 => :nametoolong,
    41 => :nfile,
    44 => :noent,
    54 => :notdir,
    55 => :notempty,
    58 => :notsup,
    63 => :perm,
    70 => :spipe,
    75 => :xdev,
    76 => :notcapable
  }

  @doc "Calls a function, and gives the errno's name."
  def raw(guest, name, args) do
    number = Instance.call!(guest, name, args)
    Map.get(@errnos, number, number)
  end

  @read 0x2 + 0x4 + 0x4000 + 0x20_0000
  @write @read + 0x40 + 0x40_0000

  @doc "Opens a path in the directory `fd`. `:how` is any of `:create`, `:directory`, `:write`; gives the descriptor or an errno."
  def open(guest, path, how \\ [], fd \\ 3) do
    put(guest, 0, path)
    flags = if(:create in how, do: 1, else: 0) + if :directory in how, do: 2, else: 0
    rights = if :write in how or :create in how, do: @write, else: @read
    args = [fd, 1, 0, byte_size(path), flags, rights, rights, 0, @answer]
    with :ok <- raw(guest, "path_open", args), do: {:ok, answer(guest)}
  end

  @doc "Calls a function that takes the descriptor of a directory and a path."
  def at(guest, name, path, fd \\ 3) do
    put(guest, 0, path)
    raw(guest, name, [fd, 0, byte_size(path)])
  end

  @doc "Calls `path_rename` or `path_link`, from one directory to another."
  def move(guest, name, {from, old}, {to, new}) do
    put(guest, 0, old)
    put(guest, @other, new)
    flags = if name == "path_link", do: [0], else: []
    raw(guest, name, [from] ++ flags ++ [0, byte_size(old), to, @other, byte_size(new)])
  end

  @doc "Writes to a descriptor: how much was written, or an errno."
  def write(guest, fd, bytes) do
    put(guest, @data, bytes)
    put(guest, @vector, <<@data::little-32, byte_size(bytes)::little-32>>)
    with :ok <- raw(guest, "fd_write", [fd, @vector, 1, @answer]), do: {:ok, answer(guest)}
  end

  @doc "Reads from a descriptor: what was read, or an errno."
  def read(guest, fd, most \\ 1_000) do
    put(guest, @vector, <<@data::little-32, most::little-32>>)

    with :ok <- raw(guest, "fd_read", [fd, @vector, 1, @answer]),
         do: Memory.read(guest, @data, answer(guest))
  end

  @doc "The names in a directory, as far as they fit, or an errno."
  def list(guest, fd \\ 3) do
    with :ok <- raw(guest, "fd_readdir", [fd, @data, 30_000, 0, @answer]) do
      {:ok, entries} = Memory.read(guest, @data, answer(guest))
      {:ok, names(entries)}
    end
  end

  defp names(
         <<_::binary-16, size::little-32, _::binary-4, name::binary-size(size), rest::binary>>
       ),
       do: [name | names(rest)]

  defp names(_cut_off), do: []

  @doc "Size and times of a path: `%{size: _, accessed: _, modified: _, changed: _}`, or an errno."
  def stat(guest, path, fd \\ 3) do
    put(guest, 0, path)

    with :ok <- raw(guest, "path_filestat_get", [fd, 0, 0, byte_size(path), @answer]) do
      {:ok, stat} = Memory.read(guest, @answer, 64)

      <<_::binary-32, size::little-64, accessed::little-64, modified::little-64,
        changed::little-64>> = stat

      %{size: size, accessed: accessed, modified: modified, changed: changed}
    end
  end

  @doc "What a clock shows, or an errno."
  def look(guest, clock) do
    with :ok <- raw(guest, "clock_time_get", [clock, 0, @answer]) do
      {:ok, <<time::little-64>>} = Memory.read(guest, @answer, 8)
      time
    end
  end

  @doc "Sleeps so many nanoseconds."
  def sleep(guest, nanoseconds) do
    put(guest, 0, <<0::128, 1::little-64, nanoseconds::little-64, 0::128>>)
    raw(guest, "poll_oneoff", [0, @other, 1, @answer])
  end

  @doc "Puts bytes into the guest's memory."
  def put(guest, offset, bytes), do: :ok = Memory.write(guest, offset, bytes)

  defp answer(guest) do
    {:ok, <<number::little-32>>} = Memory.read(guest, @answer, 4)
    number
  end
end
