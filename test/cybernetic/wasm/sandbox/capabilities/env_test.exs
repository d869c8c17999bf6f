defmodule Cybernetic.WASM.Sandbox.Capabilities.EnvTest do
  # One test sets a variable of the VM, under a name of its own.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.Env

  @name "CYBERNETIC_WASM_ENV_TEST"

  defp env(option), do: Sandbox.new(env: option).env
  defp values(option, given \\ nil), do: Env.values(env(option), given)

  test "there are no variables until they are granted" do
    for option <- [false, [], %{}], do: assert(values(option) == {:ok, []})
  end

  test "values are the caller's own, whatever their names" do
    assert values(%{"LANG" => "C", "API_TOKEN" => "x"}) ==
             {:ok, [{"API_TOKEN", "x"}, {"LANG", "C"}]}

    assert values(LANG: "C") == {:ok, [{"LANG", "C"}]}
    assert values([{"LANG", ""}]) == {:ok, [{"LANG", ""}]}
  end

  test "a name's value is the VM's when the call is made" do
    granted = env([@name, {"MODE", "x"}])
    assert Env.values(granted, nil) == {:ok, [{"MODE", "x"}]}
    System.put_env(@name, "now")
    on_exit(fn -> System.delete_env(@name) end)
    assert Env.values(granted, nil) == {:ok, [{@name, "now"}, {"MODE", "x"}]}
  end

  describe "what a call gives" do
    test "has to be granted, by any or by its name" do
      assert values(:any, %{"A" => "1"}) == {:ok, [{"A", "1"}]}
      assert values([:any, {"B", "2"}], %{"A" => "1"}) == {:ok, [{"A", "1"}, {"B", "2"}]}
      assert values([@name], %{@name => "1"}) == {:ok, [{@name, "1"}]}
      assert values([@name], %{"B" => "1", "A" => "1", @name => "1"}) == {:refused, ["A", "B"]}
      assert values(false, %{"A" => "1"}) == {:refused, ["A"]}
    end

    test "does not replace a value that was granted" do
      assert values(%{"MODE" => "safe"}, %{"MODE" => "safe"}) == {:ok, [{"MODE", "safe"}]}
      assert values(%{"MODE" => "safe"}, %{"MODE" => "fast"}) == {:refused, ["MODE"]}
    end

    test "is nothing of the VM's" do
      assert values(:any) == {:ok, []}
    end
  end

  test "names and values that no environment holds are refused" do
    for option <- [
          [""],
          ["A=B"],
          ["A\0"],
          [<<255>>],
          [{"", "x"}],
          [{"A=B", "x"}],
          [{"A", "x\0"}],
          [{"A", <<255>>}],
          [{"A", nil}],
          [{"A", 1}],
          [nil],
          [{nil, "x"}],
          [1],
          ["A" | "B"],
          true,
          nil,
          "LANG",
          :all,
          {"A", "B"}
        ] do
      assert_raise ArgumentError, ~r/option :env/, fn -> env(option) end
    end
  end

  test "a name is granted once" do
    for option <- [["A", "A"], ["A", {"A", "x"}], [{"A", "x"}, {:secret, "A"}]] do
      assert_raise ArgumentError, ~r/names A twice/, fn -> env(option) end
    end
  end

  test "there are no patterns" do
    for name <- ["AWS_*", "*", "A?"], option <- [[name], [{:secret, name}]] do
      assert_raise ArgumentError, ~r/no patterns/, fn -> env(option) end
    end
  end

  test "an environment has a size" do
    most = 131_072 - byte_size("A") - 2
    assert {:ok, [_]} = values(%{"A" => String.duplicate("x", most)})

    assert_raise ArgumentError, ~r/takes 131073 bytes, at most 131072/, fn ->
      env(%{"A" => String.duplicate("x", most + 1)})
    end

    assert_raise ArgumentError, ~r/at most 131072/, fn ->
      values(:any, %{"A" => String.duplicate("x", most + 1)})
    end
  end

  test "narrowing keeps what is the same in both" do
    one = env([:any, "LANG", "TZ", {"A", "1"}, {"B", "1"}, {:secret, "API_KEY"}])
    other = env(["LANG", {"TZ", "UTC"}, {"A", "1"}, {"B", "2"}, {:secret, "API_KEY"}])
    both = env(["LANG", {"A", "1"}, {:secret, "API_KEY"}])
    assert Env.narrow(one, other) == both
    assert Env.narrow(other, one) == both
    # What is no secret needs no such word, and is the same grant with it.
    assert env([{:secret, "LANG"}]) == env(["LANG"])
  end
end
