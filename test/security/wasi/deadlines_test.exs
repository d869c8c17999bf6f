defmodule Cybernetic.WASM.Security.WASI.DeadlinesTest do
  # Sleeping costs no fuel: the deadline alone ends a guest that does. It must strike in time however many sleep, and who
  # sleeps must hold nothing that others need.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Programs}

  alias Cybernetic.WASM.{Executor, LimitError, Runtime}

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
        |> Task.await_many(60_000)
      end)

    assert Enum.all?(results, &match?({:ok, %{stdout: "slept 1 ok\n"}}, &1))

    # A busy machine is given more than the one second. Each after the other would take a thousand.
    assert time < 10_000_000
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
