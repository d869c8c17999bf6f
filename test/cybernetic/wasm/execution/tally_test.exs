defmodule Cybernetic.WASM.Execution.TallyTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{LimitError, Limits, Run, TrapError, Usage}
  alias Cybernetic.WASM.Execution.{Parts, Tally}

  @earlier %Tally{
    fuel: 10,
    peak_memory: 65_536,
    wall_time: 2_500.0,
    slice_time: 2.0,
    slices: 1,
    host_calls: 3,
    output: "a",
    stderr: "e"
  }
  @later %Tally{
    fuel: 5,
    peak_memory: 131_072,
    wall_time: 1_500.0,
    slice_time: 1.0,
    slices: 2,
    host_calls: 1,
    output: "b",
    stdout: "o"
  }

  test "two parts add up, with the memory of the larger and the output in order" do
    both = Tally.add(@earlier, @later)

    assert Tally.usage(both) == %Usage{
             fuel: 15,
             peak_memory: 131_072,
             wall_time: 4_000.0,
             slice_time: 3.0,
             slices: 3,
             host_calls: 4
           }

    assert {both.output, both.stdout, both.stderr} == {"ab", "o", "e"}
    assert Tally.output_size(both) == 4
    assert Tally.pieces(both) == ["ab", {:stdout, "o"}, {:stderr, "e"}]
    assert Tally.pieces(Tally.without_output(both)) == []
  end

  test "without fuel in one part there is none in both" do
    assert Tally.add(@earlier, %{@later | fuel: nil}).fuel == nil
  end

  test "a run and its tally are the same" do
    assert nil |> Run.new(@earlier) |> Run.tally() == @earlier
  end

  test "the last part has what the others left of the limits" do
    left =
      Parts.left(%Limits{fuel: 100, timeout: 50, max_host_calls: 3, max_output: 10}, [@later])

    assert {left.fuel, left.timeout, left.max_host_calls, left.max_output} == {95, 49, 2, 8}
    assert left.max_memory == %Limits{}.max_memory

    none = Parts.left(%Limits{fuel: 1, timeout: 1, max_host_calls: 0, max_output: 0}, [@earlier])
    assert {none.fuel, none.timeout, none.max_host_calls, none.max_output} == {1, 1, 0, 0}
  end

  test "a result has what all parts used" do
    assert Parts.whole({:ok, 1, @later}, [@earlier], %Limits{}) ==
             {:ok, 1, Tally.add(@earlier, @later)}

    assert Parts.whole({:ok, 1, nil}, [@earlier], %Limits{}) == {:ok, 1, nil}
  end

  test "an error has what all parts used and put out, and the limit that the caller set" do
    error = Run.attach(%LimitError{limit: :fuel, allowed: 90, used: 90}, @later)
    limits = %Limits{fuel: 100, set_by: %{fuel: :sandbox}}
    assert {:error, whole} = Parts.whole({:error, error}, [@earlier], limits)
    assert {whole.allowed, whole.used, whole.usage.fuel} == {100, 100, 15}
    assert whole.set_by == :sandbox
    assert {whole.run.output, whole.run.usage} == {"ab", whole.usage}

    error = %LimitError{limit: :memory, allowed: 9, used: 10}
    assert Parts.whole({:error, error}, [@earlier], %Limits{}) == {:error, error}

    error = %TrapError{code: :unreachable, detail: "it trapped"}
    assert Parts.whole({:error, error}, [@earlier], %Limits{}) == {:error, error}
  end
end
