defmodule Cybernetic.WASM.SoakTest do
  # Minutes of everything that a guest can do to a node, and nothing of it stays: `mix test --only soak`.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Executor, Host, Instance, Memory, Runtime}
  alias Cybernetic.WASM.{CancelledError, HostError, LimitError, TrapError}

  @moduletag :soak
  @moduletag timeout: 1_800_000

  @round 100_000
  @rounds 12

  # Rounds until what allocators and pools keep has reached its most.
  @warm_up 5
  @callers 32

  # What allocators and code that is loaded late may take on top.
  @slack_kb 30_000
  @slack_maps 300

  defp work(module, compute, number) do
    case rem(number, 20) do
      0 -> trap(compute)
      1 -> host_error(module)
      2 -> out_of_fuel(compute)
      3 -> out_of_stack(compute)
      4 -> refused(module)
      5 -> large(compute)
      6 -> loaded(number)
      7 -> slow_host(module)
      8 when rem(number, 100) == 8 -> timeout(compute)
      9 -> killed(compute, number)
      10 -> killed_in_host(module)
      11 -> reentered(module)
      12 -> terms(module, number)
      13 -> lived(module)
      14 -> poisoned(module, number)
      15 when rem(number, 200) == 15 -> forked(number)
      16 -> linked(module)
      17 -> streamed(module)
      18 when rem(number, 100) == 18 -> cancelled(module, compute, number)
      _ -> called(compute, number)
    end
  end

  defp called(compute, n), do: {:ok, _} = Executor.call(compute, "process", [rem(n, 1_000)])
  defp trap(compute), do: {:error, %TrapError{}} = Executor.call(compute, "fail")

  defp out_of_fuel(compute) do
    {:error, %LimitError{limit: :fuel}} = Executor.call(compute, "spin", [], fuel: 50_000)
  end

  defp out_of_stack(compute) do
    {:error, %LimitError{limit: :stack}} = Executor.call(compute, "recurse")
  end

  defp timeout(compute) do
    {:error, %LimitError{limit: :timeout}} =
      Executor.call(compute, "spin", [], timeout: 2, fuel: 100_000_000_000)
  end

  defp large(compute), do: {:ok, 1} = Executor.call(compute, "grow", [100])

  defp host_error(module) do
    {:error, %HostError{}} =
      Executor.call(module, "run", [1], imports: f(fn _, _ -> raise "no" end))
  end

  defp refused(module) do
    {:error, _} = Executor.call(module, "run", [:no], imports: f(fn _, n -> n end))
    {:error, _} = Executor.call(module, "run", [1])
    {:error, _} = Executor.call(module, "nothing #{System.unique_integer()}")
    {:error, _} = Runtime.load_module({:bytes, "(module #{System.unique_integer()}"})
  end

  # Some of 50 modules, so that the cache is used, and now and then a new one.
  defp loaded(number) do
    constant = if rem(number, 1_000) == 6, do: number, else: rem(number, 50)
    source = "(module (func (export \"number\") (result i32) i32.const #{constant}))"
    {:ok, ^constant} = source |> load!() |> Executor.call("number")
  end

  defp slow_host(module) do
    imports =
      f(fn ctx, n ->
        Host.write(ctx, 0, "bytes") && Host.emit(ctx, "out") && Process.sleep(1) && n
      end)

    {:ok, 1} = Executor.call(module, "run", [1], imports: imports)
  end

  defp reentered(module) do
    imports = f(fn ctx, n -> ctx |> Host.call("double", [n]) |> elem(1) end)
    {:ok, 10} = Executor.call(module, "run", [5], imports: imports)
  end

  defp terms(module, number) do
    imports = f(fn ctx, n -> Host.read(ctx, 0, 1_000) && Host.data(ctx) && n end)
    {:ok, 1} = Executor.call(module, "run", [1], imports: imports, data: {number, self()})
  end

  defp killed(compute, number) do
    pid = spawn(fn -> Executor.call(compute, "spin", [], forever()) end)
    if rem(number, 3) == 0, do: Process.sleep(1)
    Process.exit(pid, :kill)
  end

  defp killed_in_host(module) do
    test = self()
    imports = f(fn _, _ -> send(test, :inside) && Process.sleep(:infinity) end)
    pid = spawn(fn -> Executor.call(module, "run", [1], forever(imports: imports)) end)
    receive do: (:inside -> Process.exit(pid, :kill))
  end

  # An instance that is used and given up in one of two ways.
  defp lived(module) do
    instance = Instance.new!(module, imports: f(fn _, n -> n end))
    :ok = Memory.write(instance, 100, "bytes")
    {:ok, "bytes"} = Memory.read(instance, 100, 5)
    {:ok, 4} = Instance.call(instance, "double", [2])
    {:ok, 3} = Instance.call(instance, "run", [3])
    if :rand.uniform(2) == 1, do: Instance.close(instance)
  end

  defp poisoned(module, number) do
    instance = Instance.new!(module, imports: f(fn _, _ -> raise "no" end))
    {name, args} = if rem(number, 3) == 0, do: {"fail", []}, else: {"run", [1]}
    {:error, _} = Instance.call(instance, name, args)
    :ok = Instance.reset(instance, wait: 60_000)
    {:ok, 4} = Instance.call(instance, "double", [2])
  end

  defp forked(number) do
    module =
      load!(
        ~S|(module (memory (export "memory") 1) (func (export "f") (result i32) (i32.load (i32.const 8))))|
      )

    instance = Instance.new!(module, snapshottable: true)
    :ok = Memory.write_value(instance, 8, :i32, rem(number, 5_000))
    {:ok, fork} = Instance.fork(instance)
    {:ok, other} = Instance.fork(instance)
    true = Instance.call(fork, "f") == Instance.call(other, "f")
  end

  defp linked(module) do
    user = load!(~S|(module (import "lib" "double" (func $d (param i32) (result i32)))
      (import "lib" "memory" (memory 1))
      (func (export "four") (param i32) (result i32) (call $d (call $d (local.get 0)))))|)

    imports = Map.put(f(fn _, n -> n end), "lib", module)
    {:ok, 12} = Executor.call(user, "four", [3], imports: imports)
    lib = Instance.new!(module, imports: f(fn _, n -> n end))
    instance = Instance.new!(user, imports: %{"lib" => lib})
    {:ok, 20} = Instance.call(instance, "four", [5])
  end

  defp streamed(module) do
    imports = f(fn ctx, n -> Host.emit(ctx, "output") && n end)
    ["output"] = module |> Executor.stream("run", [1], imports: imports) |> Enum.to_list()
    ["output"] = module |> Executor.stream("run", [1], imports: imports) |> Enum.take(1)
  end

  defp cancelled(module, compute, number) do
    imports = f(fn _, n -> Process.sleep(:infinity) && n end)

    call =
      if rem(number, 200) == 18,
        do: Executor.async_nolink(compute, "spin", [], forever()),
        else: Executor.async_nolink(module, "run", [1], forever(imports: imports))

    Executor.yield(call, 1)
    {:error, %CancelledError{}} = Executor.cancel(call, :enough, grace: 20)
  end

  # A pool keeps what its slots once held: a little memory, and the whole of the stack. All of them are used once, as
  # deeply as can be, so that what grows from then on is a leak.
  defp fill_the_pool do
    module =
      asking(~S"""
      (memory 2) (table 1000 externref)
      (func $deeper (call $deeper) (nop))
      (func (export "run")
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072))
        (drop (call $f (i32.const 1)))
        (call $deeper))
      """)

    test = self()
    imports = f(fn _ctx, n -> send(test, :inside) && receive(do: (:go -> n)) end)

    guests =
      for _ <- 1..1_000 do
        spawn(fn ->
          result = Executor.call(module, "run", [], forever(imports: imports))
          send(test, {:result, result})
        end)
      end

    for _ <- guests, do: assert_receive(:inside)
    Enum.each(guests, &send(&1, :go))
    for _ <- guests, do: assert_receive({:result, {:error, %LimitError{limit: :stack}}})
  end

  defp soak(numbers) do
    module = calling()
    compute = compute()

    numbers
    |> Task.async_stream(
      fn number ->
        work(module, compute, number)
        :ok
      end,
      max_concurrency: @callers,
      ordered: false,
      timeout: 120_000
    )
    |> Enum.each(fn {:ok, :ok} -> :ok end)

    quiet()
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    Runtime.clear_cache()
    Process.sleep(500)
    used()
  end

  defp used do
    status = File.read!("/proc/self/status")

    %{
      rss_kb: field(status, "VmRSS"),
      mapped_kb: field(status, "VmSize"),
      threads: field(status, "Threads"),
      files: length(File.ls!("/proc/self/fd")),
      maps: "/proc/self/maps" |> File.stream!() |> Enum.count(),
      atoms: :erlang.system_info(:atom_count),
      processes: :erlang.system_info(:process_count),
      binaries: :erlang.memory(:binary),
      code_memory: Runtime.stats().code_memory,
      engines: Runtime.stats().engines
    }
  end

  # The VM's own files: the helper that starts programs has another process.
  defp field(status, name) do
    [number] = Regex.run(~r/^#{name}:\s+(\d+)/m, status, capture: :all_but_first)
    String.to_integer(number)
  end

  test "100,000 calls and more, traps, host errors, time-outs and kills leave nothing behind" do
    # The first look loads the code that looks.
    used()
    fill_the_pool()
    rounds = for round <- 1..@rounds, do: soak(((round - 1) * @round + 1)..(round * @round))

    report =
      for key <- Map.keys(hd(rounds)), do: "\n  #{key}: #{Enum.map_join(rounds, " ", & &1[key])}"

    IO.puts("\nafter each #{@round} calls:#{report}")

    warm = Enum.at(rounds, @warm_up - 1)
    done = List.last(rounds)
    assert done.rss_kb < warm.rss_kb + @slack_kb
    assert done.maps < warm.maps + @slack_maps
    assert done.threads <= warm.threads
    assert done.files <= warm.files
    assert done.atoms <= warm.atoms
    assert done.processes <= warm.processes + 1
    assert done.engines == warm.engines
    assert done.code_memory <= warm.code_memory
    assert Runtime.stats().live_instances == 0
    assert Runtime.stats().total_memory == 0
    assert mailbox() == []
  end
end
