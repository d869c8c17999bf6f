defmodule Cybernetic.WASM.Security.WASI.FuzzTest do
  # Every function of WASI with arguments that nobody would think of: thousands of calls, from the guest's own code and by
  # the embedder on what the module exports again. Each ends with an errno, a trap or a limit; none is an error of ours, and
  # what is beside the granted directory stays as it is.
  #
  # Arguments are drawn so that many are nearly right: descriptors that are open, pointers to what looks like paths and
  # vectors. Another seed: `FUZZ_SEED=7 mix test test/security/wasi/fuzz_test.exs`.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Plenty
  import Cybernetic.WASM.Programs, except: [run: 2, run: 3]

  alias Cybernetic.WASM.{Executor, Instance, LimitError, RawCalls, TrapError}

  # Thousands of calls take long where the machine has other things to do.
  @moduletag timeout: :infinity

  @calls 8_000
  @never_served ~w(fd_allocate fd_fdstat_set_rights proc_exit proc_raise sock_accept sock_recv sock_send sock_shutdown)

  setup context do
    seed = String.to_integer(System.get_env("FUZZ_SEED", "2025"))
    :rand.seed(:exsss, {seed, seed, if(context[:metering] == :epoch, do: 1, else: 0)})
    root = directory()
    dir = Path.join(root, "granted")
    File.mkdir_p!(dir)
    File.mkdir_p!(Path.join(root, "outside"))
    File.write!(Path.join(root, "outside/secret"), "secret")
    furnish(dir)
    {:ok, root: root, dir: dir}
  end

  # As many engines as there are: one metered by fuel, one by epochs.
  for metering <- [:fuel, :epoch] do
    @tag metering: metering
    test "no sequence of calls does harm, metered by #{metering}", %{root: root, dir: dir} do
      outside = tree(Path.join(root, "outside"))
      sandboxes = sandboxes(dir)
      module = RawCalls.module()

      make = fn ->
        furnish(dir)
        guest(module, sandboxes, unquote(metering))
      end

      {_guest, served} =
        Enum.reduce(1..@calls, {make.(), MapSet.new()}, fn _, {guest, served} ->
          if :rand.uniform(4) == 1, do: soil(guest)
          {name, args} = call()
          # What sleeps is cut short; a guest is made and furnished in whatever time that takes.
          result = Instance.call(guest, Enum.random([name, "via " <> name]), args, timeout: 200)
          assert harmless?(result), "#{name}(#{inspect(args)}) gave #{inspect(result)}"
          served = if result == {:ok, 0}, do: MapSet.put(served, name), else: served
          {if(Instance.poisoned?(guest), do: replace(guest, make), else: guest), served}
        end)

      # Where all arguments are refused, nothing is found.
      unserved = Map.keys(RawCalls.functions()) -- MapSet.to_list(served)
      assert length(unserved -- @never_served) <= 3, "hardly tried: #{inspect(unserved)}"

      assert tree(Path.join(root, "outside")) == outside
      assert File.ls!(root) |> Enum.sort() == ["granted", "outside"]
    end
  end

  test "nor do calls in fresh guests, where nothing is granted and where all is", %{dir: dir} do
    module = RawCalls.module()

    for sandbox <- [
          sandbox(wasi: true, clocks: :none, random: :none, stdio: :none) | sandboxes(dir)
        ],
        _ <- 1..500 do
      {name, args} = call()
      result = Executor.call(module, "via " <> name, args, sandbox: sandbox, timeout: 200)
      assert harmless?(result), "#{name}(#{inspect(args)}) gave #{inspect(result)}"
    end
  end

  for {what, memory} <- [
        {"an empty memory", ~S|(memory (export "memory") 0 0)|},
        {"no memory", ""},
        {"a memory by another name", ~S|(memory (export "Memory") 1)|},
        {"a function as its memory", ~S|(func (export "memory"))|},
        {"a table as its memory", ~S|(table (export "memory") 1 funcref)|},
        {"two memories", ~S|(memory 1) (memory (export "memory") 1)|}
      ] do
    test "nor do those of a module with #{what}", %{dir: dir} do
      module = RawCalls.module("", unquote(memory))
      sandbox = sandbox_of(dir, :rw)

      for {name, _} <- RawCalls.functions(), export <- [name, "via " <> name], _ <- 1..3 do
        {_, args} = call(name)
        result = Executor.call(module, export, args, sandbox: sandbox, timeout: 200)
        assert harmless?(result), "#{name}(#{inspect(args)}) gave #{inspect(result)}"
      end
    end
  end

  test "a pointer at each byte around the end of the memory", %{dir: dir} do
    module = RawCalls.module()
    sandbox = sandbox_of(dir, :rw)

    for {name, kinds} <- RawCalls.functions(), from_end <- [1, 3, 4, 7, 8, 15, 16, 24, 64] do
      args =
        for kind <- String.graphemes(kinds) do
          case kind do
            "p" -> [65_536 - from_end]
            pair when pair in ["s", "v"] -> [65_536 - from_end, 1]
            "n" -> [1]
            "f" -> [3]
            _ -> [0]
          end
        end

      args = Enum.concat(args)
      result = Executor.call(module, "via " <> name, args, sandbox: sandbox, timeout: 200)
      assert harmless?(result), "#{name}(#{inspect(args)}) gave #{inspect(result)}"
    end
  end

  defp harmless?({:ok, errno}), do: errno in 0..76
  defp harmless?({:error, %TrapError{code: code}}), do: code in [:wasi, :exit]
  defp harmless?({:error, %LimitError{limit: limit}}), do: limit in [:timeout, :output]
  defp harmless?(_other), do: false

  # As it is before a guest that may have changed it.
  defp furnish(dir) do
    for name <- File.ls!(dir), do: File.rm_rf!(Path.join(dir, name))
    File.mkdir_p!(Path.join(dir, "d/e"))
    File.write!(Path.join(dir, "a"), String.duplicate("hello ", 1_000))
    File.ln_s!("a", Path.join(dir, "l"))
    File.ln_s!("../outside/secret", Path.join(dir, "out"))
    {:ok, socket} = :gen_tcp.listen(0, ifaddr: {:local, Path.join(dir, "s")})
    :gen_tcp.close(socket)
  end

  defp sandboxes(dir) do
    files = [
      dirs: [{dir, "/d", :rw}],
      scratch: "/s",
      null: "/dev/null",
      quota: 1_000_000,
      max_open: 8
    ]

    for clocks <- [:real, {:stepped, 5, 3}, {:fixed, 0}] do
      sandbox(clocks: clocks, filesystem: files, env: [{"A", "B"}], max_output: 100_000)
    end
  end

  defp guest(module, sandboxes, metering) do
    guest =
      Instance.new!(module,
        sandbox: Enum.random(sandboxes),
        args: ["x"],
        metering: metering,
        wait: never()
      )

    {:ok, 6} = RawCalls.open(guest, "a", [:write])
    {:ok, 7} = RawCalls.open(guest, "d", [:directory])
    soil(guest)
    guest
  end

  defp replace(guest, make) do
    :ok = Instance.close(guest)
    make.()
  end

  @paths ["a", "d/../a", "b", "l", "s", "out", "d/e", "n/n", "../outside/secret", "/etc/passwd"] ++
           ["b\0", <<255, 254>>]
  @slot 64
  @vectors 1_024
  @subscriptions 4_096

  # Paths, vectors, and numbers that may be anything.
  defp soil(guest) do
    for {path, slot} <- Enum.with_index(@paths), do: RawCalls.put(guest, slot * @slot, path)

    numbers = [0, 1, 2, 3, 8, 16, 64, 256, 1_000, 0x10000, 0xFFFF_FFFF]
    words = for _ <- 1..256, into: "", do: <<Enum.random(numbers)::little-32>>
    vectors = for length <- [0, 5, 1_000], into: "", do: <<2_048::little-32, length::little-32>>
    RawCalls.put(guest, @vectors, vectors <> words)
    RawCalls.put(guest, @subscriptions, subscription(0) <> subscription(:rand.uniform(100)))
  end

  # To a clock, so many milliseconds from now.
  defp subscription(milliseconds) do
    time = milliseconds * 1_000_000
    <<7::little-64, 0::little-64, 0::little-64, time::little-64, 0::little-64, 0::little-64>>
  end

  defp call, do: RawCalls.functions() |> Map.keys() |> Enum.random() |> call()

  defp call("poll_oneoff"),
    do: {"poll_oneoff", one_of([@subscriptions, 8_192, :rand.uniform(2), 8_000], ~w(p p n p))}

  defp call(name),
    do: {name, RawCalls.functions()[name] |> String.graphemes() |> Enum.flat_map(&arguments/1)}

  defp arguments("s") do
    slot = :rand.uniform(length(@paths)) - 1
    one_of([slot * @slot, byte_size(Enum.at(@paths, slot))], ["p", "n"])
  end

  defp arguments("v"), do: one_of([@vectors, :rand.uniform(3)], ["p", "n"])
  defp arguments(kind), do: one_of([likely(kind)], [kind])

  # One in ten is anything at all.
  defp one_of(likely, kinds),
    do: if(:rand.uniform(10) == 1, do: Enum.map(kinds, &wild/1), else: likely)

  defp wild(kind) when kind in ~w(o t r) do
    Enum.random([
      -1,
      0x7FFF_FFFF_FFFF_FFFF,
      -0x8000_0000_0000_0000,
      0xFFFF_FFFF,
      :rand.uniform(0x1_0000_0000_0000_0000) - 0x8000_0000_0000_0001
    ])
  end

  defp wild(_kind) do
    Enum.random([
      -1,
      -8,
      0x7FFF_FFFF,
      -0x8000_0000,
      0xFFFF,
      0x10000,
      :rand.uniform(0x1_0000_0000) - 0x8000_0001
    ])
  end

  defp likely("f"), do: Enum.random([0, 1, 2, 3, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8])
  defp likely("p"), do: 8 * (128 + :rand.uniform(128))
  defp likely("n"), do: Enum.random([0, 1, 1, 2, 3, 4, 6, 17, 64, 1_000])
  defp likely("b"), do: Enum.random([0, 0, 0, 1, 1, 2, 3, 4, 5])
  defp likely("o"), do: Enum.random([0, 1, 5, 100, 5_000, 1_000_000, 10_000_000_000])
  defp likely("t"), do: Enum.random([0, 1, 1_000_000_000, 4_000_000_000_000_000_000])
  defp likely("r"), do: Enum.random([0, 2, 0x42, 0x4202, 0x1FFF_FFFF])
end
