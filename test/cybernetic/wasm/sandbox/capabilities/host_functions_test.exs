defmodule Cybernetic.WASM.Sandbox.Capabilities.HostFunctionsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.HostFunctions

  defp allows?(option, module, name),
    do: HostFunctions.allows?(Sandbox.new(host_functions: option).host_functions, module, name)

  test "what a call gives is allowed unless a list says otherwise" do
    assert allows?(:all, "env", "log")
    refute allows?(false, "env", "log")
    refute allows?([], "env", "log")
  end

  test "a name allows itself, a wildcard all of one module" do
    assert allows?(["env.log"], "env", "log")
    refute allows?(["env.log"], "env", "log2")
    refute allows?(["env.log"], "env2", "log")
    assert allows?(["env.*"], "env", "anything")
    refute allows?(["env.*"], "env.sub", "anything")
    refute allows?(["env.*"], "en", "v")
  end

  test "which dot parts module and name is said, not guessed" do
    assert_raise ArgumentError, ~r/more than one dot; give {module, name}/, fn ->
      allows?(["a.b.c"], "a", "b.c")
    end

    assert allows?([{"a.b", "c"}], "a.b", "c")
    refute allows?([{"a.b", "c"}], "a", "b.c")
    assert allows?(["wasi:io/poll@0.2.0.*"], "wasi:io/poll@0.2.0", "poll")
  end

  test "what is no name is refused" do
    for option <- [true, nil, "env.log", ["log"], [:log], [{"env", :log}], [env: "log"], %{}] do
      assert_raise ArgumentError, ~r/option :host_functions must be/, fn ->
        Sandbox.new(host_functions: option)
      end
    end
  end

  test "one grant has one value, however it is put" do
    grant = &Sandbox.new(host_functions: &1).host_functions
    assert grant.(["env.b", "env.a", "env.b"]) == grant.([{"env", "a"}, "env.b"])
    assert grant.(["env.a", "env.*"]) == grant.(["env.*"])
  end

  test "narrowing gives what both list, wildcards included" do
    narrow = fn one, other ->
      HostFunctions.narrow(
        Sandbox.new(host_functions: one).host_functions,
        Sandbox.new(host_functions: other).host_functions
      )
    end

    assert narrow.(:all, ["env.a"]) == [{"env", "a"}]

    assert narrow.(["env.*", "db.get"], ["env.a", "env.b", "db.*"]) ==
             [{"db", "get"}, {"env", "a"}, {"env", "b"}]

    assert narrow.(["env.a"], ["env.b"]) == []
    assert narrow.(["env.*"], ["env.*"]) == [{"env", "*"}]
  end
end
