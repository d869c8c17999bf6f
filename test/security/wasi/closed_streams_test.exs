defmodule Cybernetic.WASM.Security.WASI.ClosedStreamsTest do
  # A guest may write for ever to a stream that is closed: it costs its own fuel, and is over when that is.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{Executor, LimitError}

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
