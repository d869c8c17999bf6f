defmodule Cybernetic.WASM.Sandbox.FunctionsTest do
  # Which function of WASI needs which capability is said twice: by the core, which refuses the call, and by the capabilities,
  # which tell before any run what will be refused. The two have to agree.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.RawCalls
  alias Cybernetic.WASM.Sandbox.{Capabilities, Check}

  # What the core answers. TO REPLACE by `Cybernetic.WASM.Native.wasi_functions()`, as soon as there is one.
  @wasi ~w(args_get args_sizes_get fd_close fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get fd_renumber
           fd_seek fd_tell proc_exit proc_raise sched_yield)
  @files ~w(fd_advise fd_allocate fd_datasync fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_get
            fd_prestat_dir_name fd_pwrite fd_readdir fd_sync path_create_directory path_filestat_get path_filestat_set_times
            path_link path_open path_readlink path_remove_directory path_rename path_symlink path_unlink_file)
  @core for {names, capabilities} <- [
              {@wasi, [:wasi]},
              {~w(environ_get environ_sizes_get), [:env]},
              {~w(clock_res_get clock_time_get poll_oneoff), [:clocks]},
              {~w(random_get), [:random]},
              {~w(fd_read fd_write), [:stdio, :filesystem]},
              {@files, [:filesystem]},
              {~w(sock_accept sock_recv sock_send sock_shutdown), [:network]}
            ],
            name <- names,
            do: {name, capabilities}

  test "the capabilities cover the functions that the core asks them for" do
    assert Check.functions() == Map.new(@core)
  end

  test "the tests call every function" do
    assert RawCalls.functions() |> Map.keys() |> Enum.sort() ==
             @core |> Enum.map(&elem(&1, 0)) |> Enum.sort()
  end

  test "a capability with functions says what to grant for them" do
    for {name, capability} <- Capabilities.all(), capability.functions() != [] do
      assert capability.hint() =~ ~r/^(add|nothing grants it)/, inspect(name)
      assert capability.functions() == Enum.uniq(capability.functions())
    end
  end
end
