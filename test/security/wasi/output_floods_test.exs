defmodule Cybernetic.WASM.Security.WASI.OutputFloodsTest do
  # A guest that writes without end fills nobody's memory.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{Executor, Instance, LimitError, RawCalls}

  test "the limit ends a flood" do
    for args <- [["flood-forever"], ["flood-forever", "2"], ["flood", "100000000"]] do
      assert {:error, %LimitError{limit: :output, allowed: 1_000_000, used: used}} =
               run("tool", args, max_output: 1_000_000)

      assert used > 1_000_000 and used < 2_000_000
    end
  end

  test "there is a limit where none is named" do
    assert {:error, %LimitError{limit: :output, allowed: 10_000_000}} =
             run("tool", ["flood-forever"])
  end

  test "standard output and error count together" do
    assert run!("tool", ["flood", "1000", "1"], max_output: 1_000).stdout ==
             String.duplicate("x", 1_000)

    assert run!("tool", ["flood", "1000", "2"], max_output: 1_000).stderr ==
             String.duplicate("x", 1_000)

    assert {:error, %LimitError{limit: :output}} =
             run("tool", ["flood", "1001", "2"], max_output: 1_000)
  end

  test "one call with a thousand pieces is no way around it, and with more it is refused" do
    assert {:error, %LimitError{limit: :output}} =
             run("wild", ["vectors", "1000"], max_output: 50_000)

    assert answers(run!("wild", ["vectors", "10000"]).stderr)["vectors"] == "inval"
    run = run!("wild", ["vectors", "1000"])
    assert %{"vectors" => "ok", "written" => written} = answers(run.stderr)
    assert byte_size(run.stdout) == String.to_integer(written)
  end

  test "whoever reads slowly is not flooded: the guest waits" do
    stream = Executor.stream(program("tool"), :start, args: ["flood-forever"], sandbox: sandbox())
    chunks = stream |> Stream.each(fn _ -> Process.sleep(1) end) |> Enum.take(100)
    assert length(chunks) == 100
    # The binaries of whoever reads, which drives the guest: what was read, and little more.
    {:binary, binaries} = Process.info(self(), :binary)
    assert binaries |> Enum.map(&elem(&1, 1)) |> Enum.sum() < 50_000_000
  end

  test "a stream is cut by the limit, after what came before" do
    stream =
      Executor.stream(program("tool"), :start,
        args: ["flood-forever"],
        sandbox: sandbox(),
        max_output: 300_000
      )

    {:ok, seen} = Agent.start_link(fn -> 0 end)

    assert_raise LimitError, fn ->
      Enum.each(stream, fn chunk -> Agent.update(seen, &(&1 + chunk_size(chunk))) end)
    end

    assert Agent.get(seen, & &1) in 200_000..300_000
  end

  test "a live guest has the limit anew in each call, and keeps nothing of the last" do
    guest = RawCalls.guest(sandbox(max_output: 1_000))

    for _ <- 1..100 do
      RawCalls.put(guest, 0, <<16::little-32, 1_000::little-32>>)
      assert {:ok, run} = Instance.run(guest, "fd_write", [1, 0, 1, 8])
      assert byte_size(run.stdout) == 1_000
    end

    assert {:ok, %{stdout: ""}} = Instance.run(guest, "sched_yield")
    RawCalls.put(guest, 0, <<16::little-32, 1_001::little-32>>)

    assert {:error, %LimitError{limit: :output, run: run}} =
             Instance.run(guest, "fd_write", [1, 0, 1, 8])

    assert byte_size(run.stdout) <= 1_000
  end

  test "a flood of refusals fills no memory: the first hundred are told, and how many there were" do
    module =
      RawCalls.module("""
      (func (export "ask") (param $times i32)
        (memory.fill (i32.const 0) (i32.const 97) (i32.const 4_000))
        (loop $again
        (i32.store8 (i32.const 0) (i32.add (i32.const 97) (i32.and (local.get $times) (i32.const 15))))
        (i32.store8 (i32.const 1) (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $times) (i32.const 4)) (i32.const 15))))
        (i32.store8 (i32.const 2) (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $times) (i32.const 8)) (i32.const 15))))
        (drop (call $path_create_directory (i32.const 3) (i32.const 0) (i32.const 4_000)))
        (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
      """)

    sandbox = sandbox_of(directory(), :ro)
    assert {:ok, run} = Executor.run(module, "ask", [50_000], sandbox: sandbox)
    assert length(run.denials) in 100..101
    assert run.denials |> Enum.map(& &1.count) |> Enum.sum() == 50_000
    assert Enum.all?(run.denials, &(byte_size(&1.detail || "") <= 1_000))
  end

  test "without the grant nothing is written, and the guest is told" do
    run = run!("tool", ["flood", "10"], sandbox: sandbox(stdio: [stderr: :captured]))
    assert {run.exit_code, run.stdout, run.stderr} == {1, "", "flood badf\n"}
    assert refusals(run) == [{:stdio, "fd_write", :badf}]
  end

  defp chunk_size({_stream, bytes}), do: byte_size(bytes)
  defp chunk_size(bytes), do: byte_size(bytes)
end
