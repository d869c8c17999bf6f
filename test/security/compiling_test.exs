defmodule Cybernetic.WASM.Security.CompilingTest do
  # Two modules of some kilobytes once kept every compiling thread of the VM busy, with gigabytes of memory, though nobody
  # waited for them any more. Modules are compiled in processes apart since, which have limits and can be ended.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Error, Executor, FreshNode, LimitError, Runtime}

  test "the node of these tests compiles apart" do
    assert %{mode: :apart, reason: nil, executable: executable, build: build} = Runtime.compiler()
    assert File.regular?(executable)
    assert byte_size(build) == 16
  end

  test "a module that takes too much is refused, with the limit, and logs nothing" do
    source = {:bytes, plain(12_000, System.unique_integer([:positive]))}

    log =
      capture_log(fn ->
        assert {:error, %LimitError{limit: :compile_time, allowed: 50, used: used} = error} =
                 Runtime.load_module(source, max_compile_time: 50)

        assert used > 50 and error.blame == :guest

        assert Exception.message(error) =~
                 "the compile_time limit was reached: 50 milliseconds of processor time"

        assert {:error, %LimitError{limit: :compile_memory, allowed: 20_000_000, used: used}} =
                 Runtime.load_module(source, max_compile_memory: 20_000_000)

        assert used > 20_000_000
      end)

    refute log =~ "Cybernetic.WASM: compiling"
  end

  # In a node of its own, where all that is counted is the test's.
  defp fresh(code, opts \\ []) do
    names =
      "import Cybernetic.WASM.Guests; import Cybernetic.WASM.Processes, only: [compiling: 1]\n"

    FreshNode.eval(Keyword.get(opts, :config, []), names <> code, opts)
  end

  test "a load whose process was killed stops compiling" do
    assert fresh("""
           stats = fn key -> Map.fetch!(Runtime.stats(), key) end
           # More than are compiled at once.
           sources = for n <- 1..(2 * System.schedulers_online() + 2), do: plain(12_000, n)
           loads = for source <- sources, do: spawn(fn -> Runtime.load_module({:bytes, source}) end)
           eventually(fn -> stats.(:compile_jobs) > 0 and stats.(:compile_queued) > 0 end)
           Enum.each(loads, &Process.exit(&1, :kill))
           eventually(fn -> stats.(:compile_queued) == 0 and stats.(:compile_kills) > 0 end)
           stats.(:compile_jobs) < length(sources)
           """)
  end

  test "small modules are loaded while a large one is compiled" do
    assert fresh("""
           large = Task.async(fn -> Runtime.load_module({:bytes, plain(10_000, 1)}) end)
           eventually(fn -> Runtime.stats().compile_jobs == 1 end)
           small = for n <- 1..20, do: elem(Runtime.load_module({:bytes, plain(1, n)}), 0)
           {Enum.uniq(small), elem(await(large), 0)}
           """) == {[:ok], :ok}
  end

  test "a worker that is killed fails one load, and the log has the module's digest once" do
    {output, 0} =
      FreshNode.run([], """
      import Cybernetic.WASM.{Guests, Processes}
      source = plain(12_000, 1)
      load = Task.async(fn -> Runtime.load_module({:bytes, source}) end)
      end_all = fn end_all ->
        case Task.yield(load, 5) do
          nil -> Enum.each(compiling("work"), &Cybernetic.WASM.Processes.kill/1) && end_all.(end_all)
          {:ok, {:error, error}} -> error
        end
      end
      IO.inspect(Map.take(end_all.(end_all), [:reason, :blame]))
      {:ok, module} = Runtime.load_module({:bytes, source})
      IO.puts("digest " <> module.digest)
      """)

    assert output =~ "%{blame: :host, reason: :compiler_failed}"
    assert [_, digest] = Regex.run(~r/digest (?:blake3:)?([0-9a-f]{64})/, output)
    assert [_, _] = String.split(output, "compiling the module blake3:#{digest} failed: ")
  end

  describe "where the program cannot be run" do
    @tag :tmp_dir
    test "modules are compiled in the VM, and the log says so once", %{tmp_dir: folder} do
      ebin = Path.join(folder, "cybernetic_wasm/ebin")
      native = Path.join(folder, "cybernetic_wasm/priv/native")
      File.mkdir_p!(Path.dirname(ebin))
      File.mkdir_p!(native)
      File.ln_s!(Application.app_dir(:cybernetic_wasm, "ebin"), ebin)
      library = "priv/native/cybernetic_wasm.so"

      File.ln_s!(
        Application.app_dir(:cybernetic_wasm, library),
        Path.join(native, "cybernetic_wasm.so")
      )

      code = """
      for n <- 1..3, do: {:ok, _} = Runtime.load_module({:bytes, plain(1, n)})
      %{mode: mode, reason: reason} = Runtime.compiler()
      {mode, reason}
      """

      assert {:in_process, reason} = fresh(code, ebin: ebin)
      assert reason =~ "cybernetic_wasm_compiler cannot be run"

      {output, 0} = FreshNode.run([], "import Cybernetic.WASM.Guests; #{code}", ebin: ebin)
      assert [_, _] = String.split(output, "modules are compiled inside this VM")

      {output, 0} =
        FreshNode.run([compiler: :in_process], "import Cybernetic.WASM.Guests; #{code}",
          ebin: ebin
        )

      refute output =~ "modules are compiled inside this VM"
    end

    test "deep nesting is refused, since nothing could end its compilation" do
      deep =
        ~S|{:bytes, "(module (func #{String.duplicate("block ", 6_000)} #{String.duplicate("end ", 6_000)}))"}|

      assert fresh("elem(Runtime.load_module(#{deep}), 0)") == :ok

      assert fresh("{:error, error} = Runtime.load_module(#{deep}); error.reason",
               config: [compiler: :in_process]
             ) == :unsupported
    end
  end

  test "a VM that may open few files still loads" do
    assert fresh(
             """
             for n <- 1..200 do
               case Runtime.load_module({:bytes, plain(300, n)}) do
                 {:ok, _} -> :ok
                 {:error, error} -> error.__struct__
               end
             end
             |> Enum.uniq()
             """,
             ulimit: "-n 64",
             config: [cache_compiled_modules: false]
           ) == [:ok]
  end

  test "no descriptor is left behind, whatever is killed" do
    assert fresh("""
           open = fn -> length(File.ls!("/proc/\#{System.pid()}/fd")) end
           {:ok, _} = Runtime.load_module({:bytes, plain(1, 0)})
           before = open.()

           for n <- 1..40 do
             task = Task.async(fn -> match?({_, _}, Runtime.load_module({:bytes, plain(600, n)})) end)
             if rem(n, 4) == 0, do: Enum.each(compiling("work"), &Cybernetic.WASM.Processes.kill/1)
             if rem(n, 10) == 0, do: Enum.each(compiling("keep"), &Cybernetic.WASM.Processes.kill/1)
             true = await(task)
           end

           Runtime.clear_cache()
           {:ok, _} = Runtime.load_module({:bytes, plain(1, 1)})

           eventually(fn ->
             :erlang.garbage_collect()
             Runtime.clear_cache()
             Runtime.stats().code_memory == 0 and open.() <= before
           end)
           """)
  end

  test "200 loads at once" do
    assert fresh("""
           loads = for n <- 1..200, do: Task.async(fn -> elem(Runtime.load_module({:bytes, plain(rem(n, 50) + 1, n)}), 0) end)
           results = loads |> await() |> Enum.uniq()
           # One is free, and those for slow modules leave a core.
           eventually(fn -> length(compiling("work")) <= max(System.schedulers_online(), 2) end)
           {results, length(compiling("keep"))}
           """) == {[:ok], 1}
  end

  test "a call whose module is compiled for it again waits within its deadline, and that is the node's fault" do
    module = Runtime.load_module!({:bytes, plain(10_000, System.unique_integer([:positive]))})

    # A deadline may strike before the compiler is asked, where the machine is busy.
    error =
      given_time(fn milliseconds ->
        assert {:error, %LimitError{limit: :timeout} = error} =
                 Executor.call(module, "f", [], metering: :epoch, timeout: milliseconds)

        error.during && error
      end)

    assert %LimitError{during: :compile, blame: :node} = error
    assert Error.transient?(error)

    assert Exception.message(error) =~
             "timeout limit was reached while the module was being compiled"

    assert {:ok, 1} = Executor.call(module, "f", [], metering: :epoch, timeout: never())
    # Another stack is another engine for the same code.
    assert {:ok, 1} = Executor.call(module, "f", [], max_stack: 200_000)
  end

  test "the compiler's processes end with the application, also in the middle of a load, and come back with the next" do
    assert fresh("""
           load = Task.async(fn -> elem(Runtime.load_module({:bytes, plain(10_000, 1)}), 0) end)
           eventually(fn -> Runtime.stats().compile_jobs == 1 end)
           first = compiling("keep")
           Application.stop(:cybernetic_wasm)
           eventually(fn -> compiling("keep") != first end)
           Application.start(:cybernetic_wasm)
           {await(load), length(first), length(compiling("keep"))}
           """) == {:ok, 1, 1}
  end

  test "nothing is left running when the VM is killed" do
    script = """
    Application.put_env(:cybernetic_wasm, :artifacts, false)
    {:ok, _} = Application.ensure_all_started(:cybernetic_wasm)
    {:ok, _} = Cybernetic.WASM.Runtime.load_module({:bytes, "(module)"})
    IO.puts(inspect(Cybernetic.WASM.Processes.compiling("keep") ++ Cybernetic.WASM.Processes.compiling("work")))
    System.cmd("kill", ["-9", System.pid()])
    """

    ebin = Application.app_dir(:cybernetic_wasm, "ebin")
    {output, _killed} = System.cmd("elixir", ["-pa", ebin, "-e", script], stderr_to_stdout: true)
    [line] = Regex.run(~r/^\[\d.*\]$/m, output)
    {processes, _} = Code.eval_string(line)
    assert length(processes) >= 2

    eventually(fn ->
      not Enum.any?(processes, &File.exists?("/proc/#{&1}"))
    end)
  end
end
