defmodule Cybernetic.WASM.Security.WASI.DeadlinesTest do
  # Sleeping costs no fuel: the deadline alone ends a guest that does. It must strike in time however many sleep, and who
  # sleeps must hold nothing that others need.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Plenty, Programs}

  alias Cybernetic.WASM.{CancelledError, Executor, LimitError, RawCalls}

  @ways %{
    "one long sleep" => ["sleep", "3600000"],
    "many short ones" => ["sleeps", "1000000", "20"],
    "a poll" => ["polls", "100", "3600000"]
  }

  for {way, args} <- @ways do
    test "the deadline wins over #{way}, which takes no time of a scheduler" do
      assert {:error, %LimitError{limit: :timeout, used: used, usage: usage}} =
               run("tool", unquote(args), timeout: 200)

      assert used >= 200
      assert usage.slice_time < usage.wall_time / 2
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

    assert used >= 200

    assert {:error, %LimitError{limit: :host_calls}} =
             Executor.call(guest, "yield", [], sandbox: sandbox(max_host_calls: 100))
  end

  # A listing is made anew for each part of it: of a large directory that takes long, in one call.
  test "the deadline wins over listing a large directory again and again" do
    dir = directory()
    {_, 0} = System.cmd("sh", ["-c", "seq 2000 | xargs touch"], cd: dir)
    list = &run("files", ["ls", "/data"], sandbox: sandbox_of(dir, :ro, timeout: &1))
    {:ok, whole} = list.(never())

    # The longest deadline of some that the machine is too slow for.
    assert {:error, %LimitError{limit: :timeout, used: used, allowed: allowed, usage: usage}} =
             Enum.find_value([100, 30, 10, 3, 1], &with({:ok, _run} <- list.(&1), do: nil))

    assert used >= allowed
    # In the midst of it.
    assert usage.host_calls < whole.usage.host_calls
  end

  test "the deadline wins over reading and writing large files" do
    dir = directory()
    File.write!(Path.join(dir, "f"), String.duplicate("x", 10_000_000))
    endless = [fuel: 1_000_000_000_000, max_host_calls: 1_000_000_000, timeout: 200]
    sandbox = sandbox_of(dir, :rw, [quota: 1_000_000_000_000] ++ endless)

    for args <- [["fill", "/data/g", "10000000", "1000000"], ["symlinks", "/data", "100000000"]] do
      assert {:error, %LimitError{limit: :timeout, used: used}} =
               run("files", args, sandbox: sandbox)

      assert used >= 200
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

  test "1,000 guests sleep at once, and others are served meanwhile" do
    quiet_node()
    module = program("tool")
    asleep = [args: ["sleep", "3600000"], sandbox: sandbox(timeout: never()), wait: never()]
    sleepers = for _ <- 1..1_000, do: Task.async(fn -> Executor.run(module, :start, asleep) end)
    until_live(1_000)
    assert run!("tool", ["sleep", "100"]).stdout == "slept 1 ok\n"
    Enum.each(sleepers, &Task.shutdown(&1, :brutal_kill))
    quiet()
  end

  test "1,000 guests wake up, each when it is to" do
    awake = sandbox(timeout: never())
    options = [args: ["sleep", "1000"], sandbox: awake, wait: never(), run: true]
    calls = for _ <- 1..1_000, do: Executor.async(program("tool"), :start, [], options)

    for call <- calls do
      assert {:ok, %{stdout: "slept 1 ok\n", usage: usage}} = Executor.await(call)
      assert usage.wall_time >= 1_000_000
    end
  end

  test "guests that sleep hold no scheduler and keep no processor busy" do
    quiet()
    options = [args: ["sleep", "3600000"], sandbox: sandbox(timeout: never()), wait: never()]
    sleepers = for _ <- 1..500, do: Executor.async(program("tool"), :start, [], options)
    until_live(500)
    assert run!("hello", []).stdout == "hello, world\n"
    until_idle()

    for sleeper <- sleepers do
      assert {:error, %CancelledError{usage: usage}} =
               Executor.cancel(sleeper, :enough, grace: never())

      assert usage.slice_time < usage.wall_time / 2
    end

    quiet()
  end

  test "guests that sleep hold no memory of the VM's processes, and no thread" do
    quiet()
    threads = threads()
    asleep = [sandbox: sandbox(timeout: never())]

    sleepers =
      for _ <- 1..200, do: Task.async(fn -> run("tool", ["sleep", "3600000"], asleep) end)

    until_live(200)
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
                sandbox: sandbox(timeout: never())
              )

        Process.sleep(:infinity)
      end)

    until_live(50)
    Process.exit(owner, :kill)
    quiet()
  end

  test "a guest whose caller is killed while it sleeps is gone" do
    quiet()

    {:ok, caller} =
      Task.start(fn -> run("tool", ["sleep", "3600000"], sandbox: sandbox(timeout: never())) end)

    until_live(1)
    Process.exit(caller, :kill)
    quiet()
  end
end
