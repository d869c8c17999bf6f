defmodule Cybernetic.WASM.Security.WASI.DeadlinesTest do
  # Sleeping costs no fuel: the deadline alone ends a guest that does. It must strike in time however many sleep, and who
  # sleeps must hold nothing that others need.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Programs}

  alias Cybernetic.WASM.{Executor, LimitError, RawCalls, Runtime}

  @ways %{
    "one long sleep" => ["sleep", "3600000"],
    "many short ones" => ["sleeps", "1000000", "20"],
    "a poll" => ["polls", "100", "3600000"]
  }

  for {way, args} <- @ways do
    test "the deadline wins over #{way}" do
      assert {:error, %LimitError{limit: :timeout, used: used}} =
               run("tool", unquote(args), timeout: 200)

      assert used in 200..5_000
    end
  end

  test "the deadline wins over an input that never comes" do
    silent = Stream.repeatedly(fn -> Process.sleep(:infinity) end)

    for args <- [["stdin-poll", "3600000"], ["cat"], ["upper"]] do
      options = [run: true, args: args, stdin: silent, sandbox: sandbox(), timeout: 200]

      assert {:error, %LimitError{limit: :timeout}} =
               program("tool") |> Executor.async(:start, [], options) |> Executor.await()
    end
  end

  test "the deadline wins over giving way for ever" do
    guest = RawCalls.module("(func (export \"yield\") (loop (drop (call $sched_yield)) (br 0)))")
    opts = [sandbox: sandbox(timeout: 200, max_host_calls: 1_000_000_000)]

    assert {:error, %LimitError{limit: :timeout, used: used}} =
             Executor.call(guest, "yield", [], opts)

    assert used in 200..5_000

    assert {:error, %LimitError{limit: :host_calls}} =
             Executor.call(guest, "yield", [], sandbox: sandbox(max_host_calls: 100))
  end

  # A listing is made anew for each part of it: of a large directory that takes long, in one call.
  test "the deadline wins over listing a large directory again and again" do
    dir = directory()
    for n <- 1..5_000, do: File.touch!(Path.join(dir, "#{n}"))

    assert {:error, %LimitError{limit: :timeout, used: used}} =
             run("files", ["ls", "/data"], sandbox: sandbox_of(dir, :ro, timeout: 100))

    assert used in 100..5_000
  end

  test "the deadline wins over reading and writing large files" do
    dir = directory()
    File.write!(Path.join(dir, "f"), String.duplicate("x", 10_000_000))
    endless = [fuel: 1_000_000_000_000, max_host_calls: 1_000_000_000, timeout: 200]
    sandbox = sandbox_of(dir, :rw, [quota: 1_000_000_000_000] ++ endless)

    for args <- [["fill", "/data/g", "10000000", "1000000"], ["symlinks", "/data", "100000000"]] do
      assert {:error, %LimitError{limit: :timeout, used: used}} =
               run("files", args, sandbox: sandbox)

      assert used in 200..10_000
    end
  end

  test "a sleep within the deadline is as long as it was to be" do
    {time, run} = :timer.tc(fn -> run!("tool", ["sleep", "100"]) end)
    assert run.stdout == "slept 1 ok\n"
    assert time >= 100_000
  end

  test "no sleep is too short or too long to understand" do
    assert run!("tool", ["sleeps", "1000", "0"]).stdout == "slept 1000 ok\n"

    assert {:error, %LimitError{limit: :timeout}} =
             run("tool", ["sleep", "9000000000000"], timeout: 100)

    assert {:error, %LimitError{limit: :timeout}} =
             run("tool", ["polls", "1", "18446744073709"], timeout: 100)
  end

  test "1,000 guests that sleep for a second are done in little more" do
    module = program("tool")
    options = [args: ["sleep", "1000"], sandbox: sandbox(), wait: 60_000]
    {:ok, _warm} = Executor.run(module, :start, options)

    {time, results} =
      :timer.tc(fn ->
        1..1_000
        |> Enum.map(fn _ -> Task.async(fn -> Executor.run(module, :start, options) end) end)
        |> await()
      end)

    assert Enum.all?(results, &match?({:ok, %{stdout: "slept 1 ok\n"}}, &1))

    # A busy machine is given more than the one second. Each after the other would take a thousand.
    assert time in 1_000_000..5_000_000
  end

  test "guests that sleep hold no scheduler and keep no processor busy" do
    before = quiet().live_instances
    sleepers = for _ <- 1..500, do: Task.async(fn -> run("tool", ["sleep", "60000"]) end)
    eventually(fn -> Runtime.stats().live_instances >= before + 500 end)

    {time, run} = :timer.tc(fn -> run!("hello", []) end)
    assert run.stdout == "hello, world\n"
    assert time < 5_000_000
    # Milliseconds of processor time in half a second, with what else the VM does.
    assert eventually(fn -> processor_time_of(fn -> Process.sleep(500) end) < 100 end)

    Enum.each(sleepers, &Task.shutdown(&1, :brutal_kill))
    quiet()
  end

  test "guests that sleep hold no memory of the VM's processes, and no thread" do
    threads = threads()
    sleepers = for _ <- 1..200, do: Task.async(fn -> run("tool", ["sleep", "60000"]) end)
    eventually(fn -> Runtime.stats().live_instances >= 200 end)
    # Those of the timer, and of what is done in the background, come with the first.
    assert threads() <= threads + 10
    Enum.each(sleepers, &Task.shutdown(&1, :brutal_kill))
    quiet()
  end

  defp threads, do: length(File.ls!("/proc/self/task"))

  test "whoever is killed while many of its guests sleep takes all of them along" do
    quiet()

    {:ok, owner} =
      Task.start(fn ->
        for _ <- 1..50,
            do:
              Executor.async(program("tool"), :start,
                args: ["sleep", "3600000"],
                sandbox: sandbox()
              )

        Process.sleep(:infinity)
      end)

    eventually(fn -> Runtime.stats().live_instances == 50 end)
    Process.exit(owner, :kill)
    quiet()
  end

  test "a guest whose caller is killed while it sleeps is gone" do
    quiet()

    {:ok, caller} =
      Task.start(fn -> run("tool", ["sleep", "3600000"], sandbox: sandbox(timeout: 3_600_000)) end)

    eventually(fn -> Runtime.stats().live_instances == 1 end)
    Process.exit(caller, :kill)
    quiet()
  end

  defp processor_time_of(function) do
    {before, _} = :erlang.statistics(:runtime)
    function.()
    {later, _} = :erlang.statistics(:runtime)
    later - before
  end
end
