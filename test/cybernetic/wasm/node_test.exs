defmodule Cybernetic.WASM.NodeTest do
  # What is fixed when the application starts: each test has a VM of its own.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.FreshNode

  # A guest that sleeps in a host call until it is told to go on, `count` of them.
  @sleepers ~S"""
  module = Runtime.load_module!({:bytes, ~s|(module
    (import "env" "f" (func $f)) (memory 1)
    (func (export "sleep") (call $f)) (func (export "run")))|})
  test = self()
  imports = %{"env" => %{"f" => fn _ -> send(test, :inside); receive do :go -> nil end end}}
  sleep = fn opts ->
    spawn(fn -> send(test, {:result, Executor.call(module, "sleep", [], [imports: imports] ++ opts)}) end)
  end
  inside = fn -> receive do :inside -> :ok end end
  result = fn -> receive do {:result, result} -> result end end
  """

  describe "max_live_instances" do
    test "refuses a guest too many, and has room again when one is gone" do
      assert FreshNode.eval(
               [max_live_instances: 2],
               @sleepers <>
                 ~S"""
                 one = sleep.([]); inside.()
                 _two = sleep.([]); inside.()
                 {:error, %LimitError{limit: :live_instances} = error} = Executor.call(module, "run", [], imports: imports)
                 send(one, :go)
                 {:ok, nil} = result.()
                 {error.allowed, error.used, Runtime.stats().live_instances, Executor.call(module, "run", [], imports: imports)}
                 """
             ) == {2, 3, 1, {:ok, nil}}
    end

    test "lets a call queue for its place, in order, and no longer than it is willing" do
      assert FreshNode.eval(
               [max_live_instances: 1],
               @sleepers <>
                 ~S"""
                 holder = sleep.([]); inside.()
                 {microseconds, {:error, %LimitError{limit: :live_instances}}} =
                   :timer.tc(fn -> Executor.call(module, "run", [], imports: imports, wait: 100) end)
                 waiting = in_line(fn -> Executor.call(module, "run", [], imports: imports, wait: 600_000) end)
                 nil = Task.yield(waiting, 0)
                 send(holder, :go)
                 {:ok, nil} = result.()
                 {microseconds >= 100_000, await(waiting), Process.info(self(), :message_queue_len), Runtime.stats().live_instances}
                 """
             ) == {true, {:ok, nil}, {:message_queue_len, 0}, 0}
    end

    test "leaves no place taken by a caller that died in the queue" do
      assert FreshNode.eval(
               [max_live_instances: 1],
               @sleepers <>
                 ~S"""
                 holder = sleep.([]); inside.()
                 queued = for _ <- 1..20, do: in_line(fn -> Executor.call(module, "run", [], imports: imports, wait: 600_000) end)
                 Enum.each(queued, &kill/1)
                 send(holder, :go)
                 {:ok, nil} = result.()
                 Executor.call(module, "run", [], imports: imports, wait: 600_000)
                 """
             ) == {:ok, nil}
    end

    test "counts the deadline while a call queues" do
      assert FreshNode.eval(
               [max_live_instances: 1],
               @sleepers <>
                 ~S"""
                 sleep.([]); inside.()
                 {:error, error} = Executor.call(module, "run", [], imports: imports, wait: 60_000, timeout: 50)
                 {error.limit, error.allowed}
                 """
             ) == {:timeout, 50}
    end
  end

  test "max_total_memory is over all guests of the node" do
    assert FreshNode.eval(
             [max_total_memory: 200_000],
             @sleepers <>
               ~S"""
               holder = sleep.([]); inside.()
               _ = sleep.([]); inside.()
               _ = sleep.([]); inside.()
               {:error, %LimitError{limit: :total_memory} = error} = Executor.call(module, "run", [], imports: imports)
               send(holder, :go)
               {:ok, nil} = result.()
               {error.allowed, error.used, Executor.call(module, "run", [], imports: imports)}
               """
           ) == {200_000, 262_144, {:ok, nil}}
  end

  test "max_code_memory refuses to compile more, and gives unused code up first" do
    assert FreshNode.eval([max_code_memory: 200_000], ~S"""
           source = fn n -> "(module (func (export \"run\") (result i32) i32.const #{n}))" end
           # Far more than fits, but none of it is held: the cache makes room.
           # A handle is gone some time after its process is.
           load = fn load, n ->
             case elsewhere(fn -> Runtime.load_module({:bytes, source.(n)}) |> elem(0) end) do
               :ok -> :ok
               :error -> Process.sleep(1) && load.(load, n)
             end
           end
           for n <- 1..100, do: :ok = load.(load, n)
           held = Enum.map(1_000..1_100, &Runtime.load_module({:bytes, source.(&1)}))
           refused = for {:error, %LimitError{limit: :code_memory, allowed: 200_000}} <- held, do: 1
           {:ok, module} = hd(held)
           {refused != [], Runtime.stats().code_memory <= 200_000, Executor.call(module, "run")}
           """) == {true, true, {:ok, 1_000}}
  end

  describe "parallel_execution: false" do
    test "runs one guest at a time, and a deadline counts while waiting" do
      assert FreshNode.eval([parallel_execution: false], ~S"""
             module = Runtime.load_module!("priv/wasm/compute.wasm")
             spin = &Executor.async(module, "spin", [], timeout: &1, fuel: 100_000_000_000_000)
             holder = spin.(600_000)
             # Once the holder has its turn.
             eventually(fn -> match?({:error, %LimitError{limit: :timeout}}, Executor.call(module, "process", [1], timeout: 50)) end)
             {:error, %{reason: :enough}} = Executor.cancel(holder, :enough)
             {:error, %LimitError{limit: :timeout}} = Executor.await(spin.(50))
             {Executor.call(module, "process", [1]), Process.info(self(), :message_queue_len)}
             """) == {{:ok, 2}, {:message_queue_len, 0}}
    end

    test "takes no turn from a guest that is in a host call: it may call another" do
      assert FreshNode.eval([parallel_execution: false], ~S"""
             compute = Runtime.load_module!("priv/wasm/compute.wasm")
             module = Runtime.load_module!({:bytes, ~s|(module (import "env" "f" (func $f (param i32) (result i32)))
               (func (export "run") (param i32) (result i32) (call $f (local.get 0))))|})
             imports = %{"env" => %{"f" => fn _ctx, n -> Executor.call!(compute, "process", [n]) end}}
             Executor.call(module, "run", [21], imports: imports)
             """) == {:ok, 42}
    end

    test "goes on after a guest whose caller was killed" do
      assert FreshNode.eval([parallel_execution: false], ~S"""
             module = Runtime.load_module!("priv/wasm/compute.wasm")
             opts = [timeout: 600_000, fuel: 100_000_000_000_000]
             holder = spawn(fn -> Executor.call(module, "spin", [], opts) end)
             # Once the holder has its turn.
             eventually(fn -> match?({:error, _}, Executor.call(module, "process", [1], timeout: 50)) end)
             Process.exit(holder, :kill)
             Executor.call(module, "process", [1])
             """) == {:ok, 2}
    end
  end

  describe "allocation" do
    test ":on_demand reserves no address space" do
      code = ~S"""
      module = Runtime.load_module!("priv/wasm/compute.wasm")
      {:ok, 2} = Executor.call(module, "process", [1])
      [size] = Regex.run(~r/VmSize:\s+(\d+) kB/, File.read!("/proc/self/status"), capture: :all_but_first)
      String.to_integer(size)
      """

      assert FreshNode.eval([allocation: :on_demand], code) < 100_000_000
      assert FreshNode.eval([], code) > 1_000_000_000
    end

    test "falls back to on demand where address space is limited, and says so once" do
      {output, status} =
        FreshNode.run(
          [],
          ~S"""
          module = Runtime.load_module!("priv/wasm/compute.wasm")
          for n <- 1..10, do: {:ok, _} = Executor.call(module, "process", [n])
          {:ok, _} = Executor.call(module, "process", [1], deterministic: true)
          IO.puts("result #{inspect(Executor.call(module, "process", [4]))}")
          """,
          ulimit: "-v 24000000"
        )

      assert {status, output =~ "result {:ok, 8}"} == {0, true}, output
      assert output =~ "guests are allocated on demand"
      assert length(String.split(output, "guests are allocated on demand")) == 2
    end
  end

  describe "cache_compiled_modules: false" do
    test "compiles every time" do
      assert FreshNode.eval([cache_compiled_modules: false], ~S"""
             modules = for _ <- 1..3, do: Runtime.load_module!("priv/wasm/compute.wasm")
             {:ok, 4} = Executor.call(hd(modules), "process", [2])
             Map.take(Runtime.stats(), [:cache_entries, :cache_bytes, :cache_hits])
             """) == %{cache_entries: 0, cache_bytes: 0, cache_hits: 0}
    end
  end

  test "cache_size bounds the cache, least recently used out first" do
    assert FreshNode.eval([cache_size: 200_000], ~S"""
           load = fn n -> Runtime.load_module!({:bytes, "(module (func (export \"run\") (result i32) i32.const #{n}))"}) end
           for n <- 1..200, do: load.(n) && load.(1)
           stats = Runtime.stats()
           load.(1)
           {stats.cache_bytes <= 200_000, stats.cache_evictions > 0, Runtime.stats().cache_hits - stats.cache_hits}
           """) == {true, true, 1}
  end

  describe "the configuration" do
    test "with an unknown key stops the application with the list of the known ones" do
      {output, status} = FreshNode.run([max_memry: 1], "IO.puts(\"started\")")
      assert status != 0
      refute output =~ "started"
      assert output =~ "the configuration is not valid: unknown configuration key :max_memry"

      for known <- [:max_memory, :max_execution_time, :parallel_execution, :runtime] do
        assert output =~ inspect(known)
      end
    end

    test "with a wrong value stops the application with what it takes" do
      for {config, words} <- [
            {[max_memory: "100 MB"], "option :max_memory must be an integer from 1 to"},
            {[runtime: :wasmer], "option :runtime must be one of :wasmtime"},
            {[parallel_execution: 1], "option :parallel_execution must be true or false"}
          ] do
        {output, status} = FreshNode.run(config, "IO.puts(\"started\")")
        assert status != 0
        assert output =~ words
      end
    end

    test "as the documentation has it works, and sets the defaults of calls" do
      assert FreshNode.eval(
               [
                 runtime: :wasmtime,
                 max_memory: 131_072,
                 max_execution_time: 60,
                 cache_compiled_modules: true,
                 parallel_execution: true,
                 fuel: 100_000_000_000
               ],
               ~S"""
               module = Runtime.load_module!("priv/wasm/compute.wasm")
               {:error, %LimitError{limit: :timeout, allowed: 60}} = Executor.call(module, "spin")
               {:error, %LimitError{limit: :timeout, allowed: 30}} = Executor.call(module, "spin", [], timeout: 30)
               {Executor.call(module, "grow", [1]), Executor.call(module, "grow", [2])}
               """
             ) == {{:ok, 1}, {:ok, -1}}
    end

    test "under :cybernetic goes over the one under :cybernetic_wasm" do
      assert FreshNode.eval(
               [fuel: 1_000],
               ~S"""
               module = Runtime.load_module!("priv/wasm/compute.wasm")
               {:error, error} = Executor.call(module, "spin")
               {error.limit, error.allowed, Cybernetic.WASM.Config.get().limits.max_output}
               """,
               own: [fuel: 2_000, max_output: 7]
             ) == {:fuel, 1_000, 7}
    end

    test "may change the engine of all modules" do
      assert FreshNode.eval([metering: :epoch, features: [simd: false]], ~S"""
             module = Runtime.load_module!("priv/wasm/compute.wasm")
             simd = {:bytes, "(module (func (result v128) (v128.const i64x2 1 2)))"}
             {:error, error} = Runtime.load_module(simd)
             {Executor.run!(module, "process", [1]).usage.fuel, error.reason}
             """) == {nil, :unsupported_feature}
    end

    test "of another stack takes no pool but works" do
      assert FreshNode.eval([max_stack: 100_000], ~S"""
             module = Runtime.load_module!("priv/wasm/compute.wasm")
             {:error, error} = Executor.call(module, "recurse")
             {error.limit, error.allowed}
             """) == {:stack, 100_000}
    end
  end

  describe "another configuration and a new start of the application" do
    @again ~S"""
    again = fn config ->
      :ok = Application.stop(:cybernetic_wasm)
      Application.put_env(:cybernetic, :wasm, config)
      {:ok, _} = Application.ensure_all_started(:cybernetic_wasm)
    end
    source = fn n -> {:bytes, ~s|(module (func (export "run") (result i32) i32.const #{n}))|} end
    """

    test "put every ceiling in force" do
      assert FreshNode.eval(
               [],
               @again <>
                 ~S"""
                 module = Runtime.load_module!("priv/wasm/compute.wasm")
                 {:ok, instance} = Cybernetic.WASM.Instance.new(module)
                 spare = Runtime.load_module!(source.(0))
                 limit = fn {:error, %LimitError{limit: limit, allowed: allowed}} -> {limit, allowed} end

                 again.(max_live_instances: 1)
                 live = limit.(Executor.call(module, "process", [1]))
                 again.(max_total_memory: 65_536)
                 memory = limit.(Executor.call(module, "process", [1]))
                 again.(max_code_memory: 1_000)
                 code = limit.(Runtime.load_module(source.(1)))
                 again.(timeout: 50)
                 # Of a module that is loaded from now on.
                 spin = limit.(Executor.call(Runtime.load_module!("priv/wasm/compute.wasm"), "spin", [], fuel: 100_000_000_000_000))
                 again.([])
                 {live, memory, code, spin, Cybernetic.WASM.Instance.call(instance, "process", [4]), Executor.call(spare, "run")}
                 """
             ) ==
               {{:live_instances, 1}, {:total_memory, 65_536}, {:code_memory, 1_000},
                {:timeout, 50}, {:ok, 8}, {:ok, 0}}
    end

    test "change the cache" do
      assert FreshNode.eval(
               [],
               @again <>
                 ~S"""
                 held = for n <- 1..3, do: Runtime.load_module!(source.(n))
                 again.(cache_size: 0)
                 none = Map.take(Runtime.stats(), [:cache_entries, :cache_bytes])
                 again.(cache_compiled_modules: true)
                 before = Runtime.stats()
                 Runtime.load_module!(source.(1))
                 {none, Runtime.stats().cache_hits - before.cache_hits, length(held)}
                 """
             ) == {%{cache_entries: 0, cache_bytes: 0}, 1, 3}
    end

    test "change where modules are compiled, to and fro" do
      assert FreshNode.eval(
               [],
               @again <>
                 ~S"""
                 modes = for {compiler, n} <- [apart: 1, in_process: 2, apart: 3] do
                   again.(compiler: compiler)
                   {:ok, module} = Runtime.load_module(source.(n))
                   {:ok, ^n} = Executor.call(module, "run")
                   {Runtime.compiler().mode, Runtime.stats().compile_workers > 0}
                 end
                 {modes, Runtime.stats().compile_jobs}
                 """
             ) == {[apart: true, in_process: false, apart: true], 3}
    end

    test "show in the configuration in force" do
      assert FreshNode.eval(
               [max_open_files: 20],
               @again <>
                 ~S"""
                 before = Cybernetic.WASM.Config.get().max_open_files
                 again.(max_live_instances: 7)
                 %{max_live_instances: 7, max_open_files: files} = Cybernetic.WASM.Config.get()
                 {before, is_integer(files)}
                 """
             ) == {20, true}
    end

    test "are no business of a guest that is in a host call" do
      assert FreshNode.eval(
               [],
               @sleepers <>
                 @again <>
                 ~S"""
                 holders = for _ <- 1..3 do
                   pid = sleep.([]); inside.()
                   pid
                 end
                 again.(max_live_instances: 2)
                 {:error, %LimitError{allowed: 2}} = Executor.call(module, "run", [], imports: imports)
                 Enum.each(holders, &send(&1, :go))
                 results = for _ <- holders, do: result.()
                 {results, Executor.call(module, "run", [], imports: imports, wait: 600_000)}
                 """
             ) == {[ok: nil, ok: nil, ok: nil], {:ok, nil}}
    end
  end

  describe "without the application" do
    test "the configuration holds all the same" do
      code =
        @sleepers <>
          ~S"""
          _one = sleep.([]); inside.()
          {:error, error} = Executor.call(module, "run", [], imports: imports)
          {error.limit, error.allowed, Runtime.compiler().mode, Cybernetic.WASM.Config.get().max_open_files > 0}
          """

      assert FreshNode.eval([max_live_instances: 1], code, start: false) ==
               {:live_instances, 1, :apart, true}
    end

    test "what is asked first may be what the node uses" do
      assert FreshNode.eval(
               [compiler: :in_process],
               "{Runtime.stats().live_instances, Runtime.clear_cache(), Runtime.compiler().mode}",
               start: false
             ) == {0, :ok, :in_process}
    end

    test "a call in a process of its own says what to start" do
      for {call, result} <- [
            {~S|Executor.async(module, "process", [1])|, "refused"},
            {~S|Executor.async_nolink(module, "process", [1])|, "refused"},
            {~S|Executor.async_stream(module, "process", [[1]]) \|> Enum.to_list()|, "refused"},
            {~S|Executor.stream(module, "process", [1], into: self())|, "refused"},
            {~S|Executor.stream(module, "process", [1]) \|> Enum.to_list()|, "gave []"}
          ] do
        code = """
        module = Runtime.load_module!("priv/wasm/compute.wasm")
        try do
          IO.puts("gave \#{inspect(#{call})}")
        rescue
          error in RuntimeError -> IO.puts("refused: \#{error.message}")
        end
        """

        {output, 0} = FreshNode.run([], code, start: false)
        assert output =~ result

        if result == "refused",
          do:
            assert(output =~ "start :cybernetic_wasm first, with Application.ensure_all_started")
      end
    end

    test "a configuration that is not valid is told at the first use" do
      {output, status} =
        FreshNode.run([colour: :red], ~S|Runtime.load_module("priv/wasm/compute.wasm")|,
          start: false
        )

      assert status != 0
      assert output =~ "unknown configuration key :colour"
    end
  end

  test "a module larger than the cache is told of once, and counted" do
    code = ~S"""
    for _ <- 1..3, do: Runtime.load_module!("priv/wasm/compute.wasm")
    Runtime.load_module!({:bytes, "(module)"})
    IO.puts("result #{inspect(Runtime.stats().cache_too_large > 1)}")
    """

    {output, 0} = FreshNode.run([cache_size: 10], code)
    assert output =~ "result true"
    digest = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm").digest
    assert [_, _] = String.split(output, "the module #{digest} has ")
    assert output =~ "more than all the cache (config cache_size: 10)"
  end

  test "the application may be stopped and started again" do
    assert FreshNode.eval([], ~S"""
           module = Runtime.load_module!("priv/wasm/compute.wasm")
           :ok = Application.stop(:cybernetic_wasm)
           {:ok, _} = Application.ensure_all_started(:cybernetic_wasm)
           Executor.call(module, "process", [1])
           """) == {:ok, 2}
  end

  test "the VM ends while guests run" do
    {output, status} =
      FreshNode.run([], ~S"""
      module = Runtime.load_module!("priv/wasm/compute.wasm")
      for _ <- 1..8, do: spawn(fn -> Executor.call(module, "spin", [], timeout: 600_000, fuel: 100_000_000_000_000) end)
      until_live(8)
      IO.puts("bye")
      System.halt(7)
      """)

    assert {output, status} == {"bye\n", 7}
  end
end
