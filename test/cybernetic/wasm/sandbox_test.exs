defmodule Cybernetic.WASM.SandboxTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Limits, Sandbox}

  doctest Cybernetic.WASM.Sandbox

  test "a new sandbox has the configured limits and grants nothing" do
    assert Sandbox.new() == %Sandbox{limits: %Limits{}, deterministic: false}
  end

  test "options set limits, under either name of the timeout" do
    assert Sandbox.new(max_memory: 7, max_execution_time: 9).limits == %Limits{
             max_memory: 7,
             timeout: 9
           }

    assert Sandbox.new(deterministic: true).deterministic
  end

  test "unknown options raise with the known ones" do
    for opts <- [[memory: 1], [imports: %{}], [scheduling: :dirty], [wait: 1]] do
      error = assert_raise ArgumentError, fn -> Sandbox.new(opts) end
      assert error.message =~ "unknown sandbox option"
      assert error.message =~ ":deterministic"
    end
  end

  test "no limit can be infinite" do
    for key <- Limits.keys(), value <- [:infinity, nil, :unlimited, -1] do
      assert_raise ArgumentError, ~r/option #{inspect(key)} must be/, fn ->
        Sandbox.new([{key, value}])
      end
    end
  end

  test "narrowing two sandboxes never widens either" do
    one = Sandbox.new(fuel: 10, timeout: 500)
    other = Sandbox.new(fuel: 20, timeout: 400, deterministic: true)

    for {left, right} <- [{one, other}, {other, one}] do
      narrowed = Sandbox.narrow(left, right)
      assert {narrowed.limits.fuel, narrowed.limits.timeout} == {10, 400}
      assert narrowed.deterministic
    end
  end

  test "presets have names" do
    assert Enum.sort(Sandbox.presets()) == [:none, :pure]
  end
end
