defmodule Cybernetic.WASM.ConfigTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Config, Limits}

  test "without keys all is at its documented default" do
    assert Config.new!([]) == %Config{limits: %Limits{}}
  end

  test "limits and the node's own keys stand side by side" do
    config = Config.new!(fuel: 5, max_execution_time: 7, max_live_instances: 9)
    assert {config.limits.fuel, config.limits.timeout, config.max_live_instances} == {5, 7, 9}
  end

  test "the documented place goes over the other" do
    config = Config.new!([fuel: 1, max_output: 2, timeout: 3], fuel: 4, max_execution_time: 5)
    assert {config.limits.fuel, config.limits.max_output, config.limits.timeout} == {4, 2, 5}
  end

  test "of two names of one key the one in the table of limits wins, wherever it stands" do
    for keys <- [
          [timeout: 1, max_execution_time: 2],
          [max_execution_time: 2, timeout: 1]
        ] do
      assert Config.new!(keys).limits.timeout == 1
      assert Config.new!([max_execution_time: 3], keys).limits.timeout == 1
    end

    assert Config.new!([timeout: 1], max_execution_time: 2).limits.timeout == 2
  end

  test "the configuration in force has the numbers that are worked out" do
    assert %Config{max_live_instances: live, max_open_files: files} = Config.get()
    assert live in 16..10_000 and files in 16..100_000
  end

  test "unknown keys are refused with the known ones, wherever they stand" do
    for {own, documented} <- [{[colour: :red], []}, {[], [colour: :red]}] do
      error = assert_raise ArgumentError, fn -> Config.new!(own, documented) end
      assert error.message =~ "unknown configuration key :colour"
      assert error.message =~ ":max_total_memory"
    end
  end

  test "every key of the documentation is taken" do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Config)
    table = Regex.scan(~r/^\| `:(\w+)` \|/m, doc, capture: :all_but_first) |> List.flatten()
    own = %Config{} |> Map.from_struct() |> Map.delete(:limits) |> Map.keys()
    assert Enum.sort(table) == own |> Enum.map(&to_string/1) |> Enum.sort()
  end

  test "the features of the documentation are those that can be switched off" do
    for feature <- Config.features() do
      assert Config.new!(features: [{feature, false}]).features == [{feature, false}]
    end

    assert_raise ArgumentError, fn -> Config.new!(features: [threads: false]) end
  end
end
