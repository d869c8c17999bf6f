defmodule Cybernetic.WASM.Security.WASI.RandomTest do
  # Random bytes are the system's, or a seed's, or none: never those of another guest.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.LimitError

  test "without the grant there are none" do
    run = run!("tool", ["random", "8"], sandbox: sandbox(random: :none))
    assert {run.exit_code, run.stdout} == {1, "random notcapable\n"}
    assert refusals(run) == [{:random, "random_get", :notcapable}]
  end

  test "the system's are others each time" do
    drawn = for _ <- 1..50, do: run!("tool", ["random", "16"]).stdout
    assert length(Enum.uniq(drawn)) == 50
    assert Enum.all?(drawn, &(&1 =~ ~r/\A[0-9a-f]{32}\n\z/))
  end

  test "a seed's are the same each time, and other seeds' are others" do
    draw = fn seed ->
      run!("tool", ["random", "300"], sandbox: sandbox(random: {:seeded, seed})).stdout
    end

    assert draw.(1) == draw.(1)
    assert draw.(1) != draw.(2)
    # However they are asked for.
    assert String.starts_with?(
             draw.(1),
             run!("tool", ["random", "16"], sandbox: sandbox(random: {:seeded, 1})).stdout
             |> String.trim()
           )
  end

  test "a deterministic guest's hash maps are the same each time" do
    sandbox = sandbox(deterministic: true, clocks: {:fixed, 0}, random: {:seeded, 7})
    stdin = for level <- ~w(info warn error debug trace), do: ~s({"level":"#{level}"}\n)
    runs = for _ <- 1..5, do: run!("rust_report", [], sandbox: sandbox, stdin: stdin)
    assert runs |> Enum.map(&{&1.stdout, &1.usage.fuel}) |> Enum.uniq() |> length() == 1
  end

  test "many in one call are made a part at a time, and the deadline is kept" do
    sandbox = sandbox(max_memory: 300_000_000)
    whole = run!("wild", ["random", "200000000"], sandbox: sandbox)
    assert whole.stdout == "random ok\n"
    assert whole.usage.slices > 1

    for _ <- 1..3 do
      case run("wild", ["random", "200000000"], sandbox: sandbox, timeout: 50) do
        # Between two parts: the guest had nothing to say yet.
        {:error, %LimitError{limit: :timeout, usage: usage}} ->
          assert usage.host_calls < whole.usage.host_calls

        # A fast machine.
        {:ok, run} ->
          assert run.stdout == "random ok\n"
      end
    end
  end
end
