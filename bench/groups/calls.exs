defmodule Cybernetic.WASM.Bench.Calls do
  # Short calls: warm, fresh, to the host and back, and what the same costs with a hop to another thread or process.

  alias Cybernetic.WASM.{ABI, Executor, Instance, Memory, Native, Runtime}
  alias Cybernetic.WASM.Bench.Measure
  import Measure, only: [by: 2]

  defmodule Server do
    use GenServer
    def init(state), do: {:ok, state}
    def handle_call(:ping, _from, state), do: {:reply, :ok, state}
    def handle_call(:ping_dirty, _from, state), do: {:reply, Native.runtime_ping_dirty(), state}
  end

  def rows(effort) do
    {:ok, server} = GenServer.start(Server, nil)

    rows =
      Measure.compare(
        hops(server) ++ warm() ++ fresh() ++ bytes() ++ [host()],
        by(effort, full: 50, quick: 12, tiny: 0),
        by(effort, full: 15, quick: 7, tiny: 1)
      )

    rested = rested(server, by(effort, full: 400, quick: 100, tiny: 1))
    GenServer.stop(server)
    rows ++ rested
  end

  # What a server feels that is not called in a tight loop: after a moment of rest the schedulers sleep, and a hop wakes one.
  # The host calls are told from the rest of the call that makes them by making one, and eleven.
  defp rested(server, times) do
    module = Runtime.load_module!("bench/guests/host_calls.wat")
    {:ok, instance} = Instance.new(module, imports: next())
    calls = fn count -> fn -> {:ok, ^count} = Instance.call(instance, "calls", [count]) end end
    for _ <- 1..10, do: calls.(1).()

    hop = after_rest(times, fn -> GenServer.call(server, :ping_dirty) end)
    {one, eleven} = {after_rest(times, calls.(1)), after_rest(times, calls.(11))}

    host_call = for {key, time} <- eleven, do: {key, max(time - one[key], 0) / 10}

    [
      {"after a rest: GenServer call with a no-op dirty NIF", hop},
      {"after a rest: host call", host_call}
    ]
  end

  defp after_rest(times, work) do
    samples =
      for _ <- 1..times do
        Process.sleep(2)
        began = System.monotonic_time()
        work.()
        System.convert_time_unit(System.monotonic_time() - began, :native, :nanosecond)
      end

    sorted = Enum.sort(samples)
    [median_ns: Enum.at(sorted, div(times, 2)), min_ns: hd(sorted)]
  end

  defp hops(server) do
    [
      {"no-op NIF", fn -> Native.runtime_ping() end},
      {"no-op dirty NIF", fn -> Native.runtime_ping_dirty() end},
      {"GenServer call", fn -> GenServer.call(server, :ping) end},
      {"GenServer call with a no-op dirty NIF", fn -> GenServer.call(server, :ping_dirty) end}
    ]
  end

  defp warm do
    fuel = instance(metering: :fuel)
    epoch = instance(metering: :epoch)

    [
      {"warm call, adaptive", fn -> {:ok, 5} = Instance.call(fuel, "add", [2, 3]) end},
      {"warm call, inline",
       fn -> {:ok, 5} = Instance.call(fuel, "add", [2, 3], scheduling: :inline) end},
      {"warm call, dirty",
       fn -> {:ok, 5} = Instance.call(fuel, "add", [2, 3], scheduling: :dirty) end},
      {"warm call, adaptive, epoch", fn -> {:ok, 5} = Instance.call(epoch, "add", [2, 3]) end}
    ]
  end

  defp instance(opts) do
    {:ok, instance} = "bench/guests/kernels.wasm" |> Runtime.load_module!(opts) |> Instance.new()
    instance
  end

  defp fresh do
    small = Runtime.load_module!("priv/wasm/compute.wasm")
    rust = Runtime.load_module!("bench/guests/kernels.wasm")
    epoch = Runtime.load_module!("priv/wasm/compute.wasm", metering: :epoch)
    limits = [fuel: 1_000_000, timeout: 100, max_memory: 10_000_000]

    [
      {"fresh call, small guest, adaptive",
       fn -> {:ok, 5} = Executor.call(small, "add", [2, 3]) end},
      {"fresh call, small guest, inline",
       fn -> {:ok, 5} = Executor.call(small, "add", [2, 3], scheduling: :inline) end},
      {"fresh call, small guest, dirty",
       fn -> {:ok, 5} = Executor.call(small, "add", [2, 3], scheduling: :dirty) end},
      {"fresh call, small guest, adaptive, own limits",
       fn -> {:ok, 5} = Executor.call(small, "add", [2, 3], limits) end},
      {"fresh call, small guest, adaptive, epoch",
       fn -> {:ok, 5} = Executor.call(epoch, "add", [2, 3]) end},
      {"fresh call, Rust guest, adaptive",
       fn -> {:ok, 5} = Executor.call(rust, "add", [2, 3]) end}
    ]
  end

  # Calls that pass 100 bytes: in, in and out, and in and out with both let go of, and that by hand.
  defp bytes do
    module = Runtime.load_module!("bench/guests/exchange.wat")
    text = String.duplicate("a", 100)
    free = {"free", [:pointer, :size]}

    [into, echo, all] =
      for opts <- [[], [result: :packed], [result: :packed, free: free]],
          do: ABI.new([alloc: "alloc"] ++ opts)

    [taking, echoing, freeing] = for abi <- [into, echo, all], do: Instance.new!(module, abi: abi)
    by_hand = Instance.new!(module)

    [
      {"warm call, 100 bytes in", fn -> {:ok, 100} = Instance.call(taking, "take", [text]) end},
      {"warm call, 100 bytes in and out",
       fn -> {:ok, ^text} = Instance.call(echoing, "echo", [text]) end},
      {"warm call, 100 bytes in and out, both freed",
       fn -> {:ok, ^text} = Instance.call(freeing, "echo", [text]) end},
      {"the same step by step", fn -> ^text = step_by_step(by_hand, text) end},
      {"fresh call, 100 bytes in and out",
       fn -> {:ok, ^text} = Executor.call(module, "echo", [text], abi: all) end},
      {"fresh call of the same guest, numbers",
       fn -> {:ok, 100} = Executor.call(module, "take", [16, 100]) end}
    ]
  end

  defp step_by_step(guest, text) do
    {:ok, at} = Instance.call(guest, "alloc", [byte_size(text)])
    :ok = Memory.write(guest, at, text)
    {:ok, packed} = Instance.call(guest, "echo", [at, byte_size(text)])
    <<from::32, length::32>> = <<packed::64>>
    {:ok, echo} = Memory.read(guest, from, length)
    for block <- [at, from], do: {:ok, nil} = Instance.call(guest, "free", [block, length])
    echo
  end

  # One call of the guest makes all the host calls of a round.
  defp host do
    module = Runtime.load_module!("bench/guests/host_calls.wat")

    opts = [
      imports: next(),
      max_host_calls: 1_000_000_000,
      fuel: 1_000_000_000_000,
      timeout: 60_000
    ]

    {"host call", fn times -> {:ok, ^times} = Executor.call(module, "calls", [times], opts) end}
  end

  defp next, do: %{"host" => %{"next" => fn _context, value -> value + 1 end}}
end
