# Measures wasmex beside this library, in one run: README.md beside says how.
for file <- ~w(measure report), do: Code.require_file("../#{file}.exs", __DIR__)

defmodule Cybernetic.WASM.Bench.Peers.Wasmex do
  # Each piece of work as a user of either library would do it: wasmex keeps an instance in a server, and a fresh call there
  # starts and stops one. Both have the module compiled.

  alias Cybernetic.WASM.{Executor, Instance, Memory, Runtime}
  alias Cybernetic.WASM.Bench.{Measure, Report}
  import Measure, only: [by: 2]

  # Not there while this is compiled.
  @compile {:no_warn_undefined,
            [
              Wasmex,
              Wasmex.Engine,
              Wasmex.EngineConfig,
              Wasmex.Memory,
              Wasmex.Module,
              Wasmex.Store
            ]}

  @small "priv/wasm/compute.wasm"
  @host_calls "bench/guests/host_calls.wat"
  @memory ~S|(module (memory (export "memory") 1) (data (i32.const 64) "0123456789abcdef"))|

  def main(args) do
    load(
      System.get_env("WASMEX") ||
        Mix.raise("WASMEX is to say where wasmex is: see bench/peers/README.md")
    )

    effort = Enum.find([:tiny, :quick], :full, &("--#{&1}" in args))
    {round, rounds} = by(effort, full: {60, 15}, quick: {15, 7}, tiny: {0, 1})

    pairs = [warm(), fresh(), host_call(), read(), new_instance()]
    subjects = for {name, ours, theirs} <- pairs, do: [{name, ours}, {"wasmex: #{name}", theirs}]
    rows = subjects |> Enum.concat() |> Measure.compare(round, rounds)
    report(rows, for({name, _, _} <- pairs, do: name))
  end

  # Behind our own paths: what both have, such as Elixir, is ours.
  defp load(folder) do
    for path <- Path.wildcard(Path.join(folder, "_build/*/lib/*/ebin")),
        do: Code.append_path(path)

    with {:error, _reason} <- Application.ensure_all_started(:wasmex),
         do: Mix.raise("#{folder} has no compiled wasmex: see bench/peers/README.md")
  end

  defp warm do
    instance = @small |> Runtime.load_module!() |> Instance.new!()
    {:ok, server} = Wasmex.start_link(%{bytes: File.read!(@small)})

    {"warm call", fn -> {:ok, 5} = Instance.call(instance, "add", [2, 3]) end,
     fn -> {:ok, [5]} = Wasmex.call_function(server, "add", [2, 3]) end}
  end

  defp fresh do
    module = Runtime.load_module!(@small)
    start = starter(File.read!(@small))

    {"fresh call", fn -> {:ok, 5} = Executor.call(module, "add", [2, 3]) end,
     fn ->
       server = start.()
       {:ok, [5]} = Wasmex.call_function(server, "add", [2, 3])
       GenServer.stop(server)
     end}
  end

  defp new_instance do
    module = Runtime.load_module!(@small)
    start = starter(File.read!(@small))

    {"new instance and close", fn -> :ok = module |> Instance.new!() |> Instance.close() end,
     fn -> :ok = GenServer.stop(start.()) end}
  end

  # Starts a server with a new instance of a module that is compiled once.
  defp starter(bytes) do
    {:ok, engine} = Wasmex.Engine.new(struct!(Wasmex.EngineConfig))
    {:ok, store} = Wasmex.Store.new(nil, engine)
    {:ok, module} = Wasmex.Module.compile(store, bytes)

    fn ->
      {:ok, store} = Wasmex.Store.new(nil, engine)
      {:ok, server} = Wasmex.start_link(%{store: store, module: module})
      server
    end
  end

  # One call of the guest makes all the host calls of a round.
  defp host_call do
    module = Runtime.load_module!(@host_calls)
    imports = %{"host" => %{"next" => fn _context, value -> value + 1 end}}
    limits = [max_host_calls: 1_000_000_000, fuel: 1_000_000_000_000, timeout: 600_000]
    theirs = %{host: %{next: {:fn, [:i32], [:i32], fn _context, value -> value + 1 end}}}
    {:ok, server} = Wasmex.start_link(%{bytes: File.read!(@host_calls), imports: theirs})

    {"host call",
     fn times ->
       {:ok, ^times} = Executor.call(module, "calls", [times], [imports: imports] ++ limits)
     end,
     fn times -> {:ok, [^times]} = Wasmex.call_function(server, "calls", [times], 600_000) end}
  end

  defp read do
    instance = {:bytes, @memory} |> Runtime.load_module!() |> Instance.new!()
    {:ok, server} = Wasmex.start_link(%{bytes: @memory})
    {:ok, store} = Wasmex.store(server)
    {:ok, memory} = Wasmex.memory(server)

    {"read 16 bytes", fn -> {:ok, "0123456789abcdef"} = Memory.read(instance, 64, 16) end,
     fn -> "0123456789abcdef" = Wasmex.Memory.read_binary(store, memory, 64, 16) end}
  end

  defp report(rows, names) do
    least = for {name, figures} <- rows, into: %{}, do: {name, figures[:min_ns]}

    lines =
      for name <- names do
        {ours, theirs} = {least[name], least["wasmex: #{name}"]}

        [
          name,
          Report.show(:min_ns, ours),
          Report.show(:min_ns, theirs),
          Report.decimals(theirs / ours, 1)
        ]
      end

    Report.table([["LEAST TIMES", "ours", "wasmex", "times ours"] | lines])
  end
end

Cybernetic.WASM.Bench.Peers.Wasmex.main(System.argv())
