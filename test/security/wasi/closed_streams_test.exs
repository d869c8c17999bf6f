defmodule Cybernetic.WASM.Security.WASI.ClosedStreamsTest do
  # A guest may write for ever to a stream that is closed: it costs its own fuel, and is over when that is.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{Executor, Instance, LimitError, RawCalls}

  test "a stream that the guest has closed answers with an error each time" do
    run = run!("tool", ["closed", "1000"])
    assert {run.exit_code, run.stdout, run.stderr} == {0, "", "errors 1000 badf\n"}
  end

  test "one that ignores the errors is ended by its limits" do
    assert {:error, %LimitError{limit: limit}} = run("tool", ["closed", "0"])
    assert limit in [:fuel, :host_calls, :timeout]

    assert {:error, %LimitError{limit: :timeout}} =
             run("tool", ["closed", "0"], sandbox: endless(), timeout: 100)

    assert {:error, %LimitError{limit: :host_calls}} =
             run("tool", ["closed", "0"], max_host_calls: 1_000)
  end

  test "so is one that writes where nothing is granted" do
    sandbox = sandbox(stdio: :none)
    assert {:error, %LimitError{limit: limit}} = run("tool", ["flood-forever"], sandbox: sandbox)
    assert limit in [:fuel, :host_calls]
    # A million refusals are one denial.
    run = run!("tool", ["flood", "100000"], sandbox: sandbox)

    assert [%{capability: :stdio, detail: "stdout", errno: :badf}, %{detail: "stderr"}] =
             run.denials
  end

  test "the end of whoever reads is the end of the guest" do
    stream = Executor.stream(program("tool"), :start, args: ["flood-forever"], sandbox: endless())
    assert stream |> Enum.take(1) |> length() == 1
  end

  test "standard input that has ended stays so" do
    assert run!("tool", ["cat"]).stdout == ""
    assert run!("tool", ["cat"], stdin: "").exit_code == 0
    assert run!("tool", ["stdin-poll", "10000"], stdin: "").stdout =~ "ready stdin"
  end

  test "a stream whose reader has gone leaves nothing behind, in the midst of a write" do
    for _ <- 1..20 do
      {pid, monitor} =
        spawn_monitor(fn ->
          program("tool")
          |> Executor.stream(:start, args: ["flood-forever"], sandbox: endless())
          |> Enum.each(fn _ -> exit(:gone) end)
        end)

      assert_receive {:DOWN, ^monitor, :process, ^pid, :gone}
    end
  end

  # Also where the guest has not read it all, and where it is cut off in the midst.
  test "what standard input is read from is closed, however the guest ends" do
    me = self()

    ends = %{
      ["upper"] => [timeout: 100],
      ["cat"] => [max_output: 100],
      ["stdin-poll", "1000"] => [],
      ["closed", "10"] => [],
      ["exit", "3"] => [],
      ["abort"] => []
    }

    for {args, opts} <- ends do
      opened = fn -> send(me, :opened) end
      stdin = Stream.resource(opened, &{["x\n"], &1}, fn _ -> send(me, :closed) end)
      run("tool", args, stdin: stdin, sandbox: sandbox(opts))
      opened = count(:opened)
      assert opened <= 1
      assert count(:closed) == opened
      # Nor is anything of it left with whoever drove the guest.
      assert for({key, _} <- Process.get(), is_reference(key), do: key) == []
    end
  end

  defp count(message) do
    receive do
      ^message -> 1 + count(message)
    after
      0 -> 0
    end
  end

  test "reading and writing nothing is no wait" do
    guest = RawCalls.guest(sandbox())
    RawCalls.put(guest, 0, <<16::little-32, 0::little-32, 16::little-32, 0::little-32>>)

    for {name, fd} <- [{"fd_read", 0}, {"fd_write", 1}, {"fd_write", 2}], count <- [0, 1, 2] do
      silent = Stream.repeatedly(fn -> Process.sleep(:infinity) end)
      opts = if name == "fd_read", do: [stdin: "x"], else: [stdin: silent]
      # Nothing, or "interrupted", which is what Wasmtime calls a read of nothing.
      assert Instance.call(guest, name, [fd, 0, count, 32], opts) in [{:ok, 0}, {:ok, 27}]
    end
  end

  test "closing all of them is the guest's own loss" do
    guest = RawCalls.guest(sandbox(), stdin: "x")
    for fd <- 0..2, do: assert(RawCalls.raw(guest, "fd_close", [fd]) == :ok)
    for fd <- 0..2, do: assert(RawCalls.raw(guest, "fd_close", [fd]) == :badf)
    assert RawCalls.read(guest, 0) == :badf
    for fd <- 1..2, do: assert(RawCalls.write(guest, fd, "x") == :badf)
    # They are back when it is made anew, and others have theirs.
    :ok = Instance.reset(guest)
    assert RawCalls.write(guest, 1, "x") == {:ok, 1}
  end

  test "descriptors cannot be moved to where others' are" do
    run = run!("wild", ["renumber"])
    answers = answers(run.stderr)
    assert answers["missing-over-stdout"] == "badf"
    assert answers["stdout-over-missing"] in ["badf", "ok"]
    assert run.exit_code == 0
  end

  defp endless,
    do:
      sandbox(
        fuel: 100_000_000_000_000,
        max_host_calls: 1_000_000_000_000,
        max_output: 1_000_000_000
      )
end
