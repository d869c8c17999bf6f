defmodule Cybernetic.WASM.Security.WASI.ForkBombsTest do
  # Guests that beget guests: by host functions that start more of them, by crowds of callers, by modules linked to modules.
  # Each is held by a bound, and when they are gone nothing is left. Not asynchronous: they fill the node.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Plenty, Programs}
  import Cybernetic.WASM.Guests, only: [load!: 1]

  alias Cybernetic.WASM.{Executor, FreshNode, Instance, LimitError, RawCalls, Runtime}

  setup do
    quiet_node()
    on_exit(&quiet/0)
  end

  # A command that asks the host for two more like itself, and then says so.
  defp bomb do
    """
    (module
      #{RawCalls.imports(["fd_write"])}
      (import "host" "spawn" (func $spawn (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00")
      (func (export "_start")
        (drop (call $spawn)) (drop (call $spawn))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
    """
  end

  test "a guest whose host function starts guests, each of which does the same" do
    # In a VM of its own, for the ceiling is the node's. As careless as a host can be: that alone bounds it.
    code = """
    module = Runtime.load_module!({:bytes, #{inspect(bomb())}})
    sandbox = Cybernetic.WASM.Sandbox.new(clocks: :real, stdio: :captured, timeout: 600_000)
    born = :counters.new(1, [])

    spawn = fn spawn ->
      fn _ctx ->
        :counters.add(born, 1, 1)
        opts = [sandbox: sandbox, imports: %{"host" => %{"spawn" => spawn.(spawn)}}]

        case Executor.run(module, :start, opts) do
          {:ok, _run} -> 1
          {:error, error} -> raise error
        end
      end
    end

    innermost = fn
      innermost, %{reason: reason} when is_exception(reason) -> innermost.(innermost, reason)
      _innermost, error -> error
    end

    opts = [sandbox: sandbox, imports: %{"host" => %{"spawn" => spawn.(spawn)}}]
    {:error, error} = Executor.run(module, :start, opts)
    %LimitError{} = error = innermost.(innermost, error)
    quiet()
    hello = Runtime.load_module!("test/fixtures/wasi/hello.wasm")
    {:ok, run} = Executor.run(hello, :start, sandbox: :command)
    {error.limit, error.allowed, :counters.get(born, 1), run.stdout}
    """

    # The last one born has no room.
    assert FreshNode.eval([max_live_instances: 300], code) ==
             {:live_instances, 300, 300, "hello, world\n"}
  end

  test "a crowd beyond what the node takes is refused, and the rest of the crowd is served" do
    # In a VM of its own, for the ceiling is the node's.
    code = ~S"""
    module = Runtime.load_module!("test/fixtures/wasi/tool.wasm")
    sandbox = Cybernetic.WASM.Sandbox.new(clocks: :real, stdio: :captured, filesystem: [scratch: "/tmp"], timeout: 600_000)
    sleep = fn milliseconds -> Executor.run(module, :start, args: ["sleep", milliseconds], sandbox: sandbox) end
    sleepers = for _ <- 1..50, do: spawn(fn -> sleep.("3600000") end)
    full = eventually(fn -> Runtime.stats().live_instances == 50 end)
    refused = for _ <- 1..500, do: (case sleep.("0") do {:error, %LimitError{limit: limit}} -> limit; other -> other end)
    for pid <- sleepers, do: Process.exit(pid, :kill)
    empty = eventually(fn -> Runtime.stats().live_instances == 0 end)
    {:ok, run} = sleep.("0")
    {full, Enum.uniq(refused), empty, run.stdout, Runtime.stats().open_files}
    """

    assert FreshNode.eval([max_live_instances: 50], code) ==
             {true, [:live_instances], true, "slept 1 ok\n", 0}
  end

  test "live instances without end are refused at the node's bound, and none is lost" do
    code = ~S"""
    module = Runtime.load_module!("test/fixtures/wasi/reactor.wasm")
    sandbox = Cybernetic.WASM.Sandbox.new(stdio: :captured)
    make = fn -> Cybernetic.WASM.Instance.new(module, sandbox: sandbox) end
    made = Enum.map(1..1_000, fn _ -> make.() end)
    {ok, refused} = Enum.split_with(made, &match?({:ok, _}, &1))
    kinds = Enum.uniq_by(refused, fn {:error, error} -> error.limit end) |> Enum.map(fn {:error, error} -> error.limit end)
    for {:ok, instance} <- ok, do: Cybernetic.WASM.Instance.close(instance)
    empty = eventually(fn -> Runtime.stats().live_instances == 0 end)
    {length(ok), kinds, empty, match?({:ok, _}, make.())}
    """

    assert FreshNode.eval([max_live_instances: 100], code) == {100, [:live_instances], true, true}
  end

  test "a guest that is joined again and again has as many members as it may" do
    module = RawCalls.module()
    guest = Instance.new!(module, sandbox: sandbox(max_instances: 8))

    joining = fn ->
      "(module #{RawCalls.imports(["fd_write"])} (import \"other\" \"via fd_sync\" (func (param i32) (result i32)))
         (memory (export \"memory\") 1))"
      |> load!()
      |> Instance.new(sandbox: sandbox(max_instances: 8), imports: %{"other" => guest})
    end

    results = for _ <- 1..20, do: joining.()
    assert Enum.count(results, &match?({:ok, _}, &1)) == 7

    assert Enum.all?(Enum.drop(results, 7), &match?({:error, %LimitError{limit: :instances}}, &1))
    assert Instance.call(guest, "sched_yield") == {:ok, 0}
    :ok = Instance.close(guest)
    assert quiet().live_instances == 0
  end

  test "a storm of short programs leaves the node as it was" do
    before = Runtime.stats()
    module = program("tool")
    opts = [args: ["args", "x"], sandbox: sandbox(filesystem: [scratch: "/tmp"]), wait: never()]

    1..2_000
    |> Task.async_stream(fn _ -> Executor.run!(module, :start, opts).stdout end,
      max_concurrency: 100,
      timeout: :infinity
    )
    |> Enum.each(&assert(&1 == {:ok, "x\n"}))

    quiet()
    assert Runtime.stats().open_files == before.open_files
  end
end
