defmodule Cybernetic.WASM.Sandbox.Capabilities.StdioTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.Stdio

  defp stdio(option), do: Sandbox.new(stdio: option).stdio

  test "no stream is there until it is granted" do
    assert stdio(:none) == %Stdio{}
    assert stdio(false) == %Stdio{}
    assert stdio([]) == %Stdio{}
    assert Sandbox.new().stdio == %Stdio{}
  end

  test "one word is for all streams, and a keyword list for some" do
    assert stdio(:captured) == %Stdio{stdin: :captured, stdout: :captured, stderr: :captured}
    assert stdio(stdout: :inherited) == %Stdio{stdout: :inherited}
    assert stdio(stdout: :captured, stderr: false) == %Stdio{stdout: :captured}
  end

  test "streaming is the same grant as capturing" do
    assert stdio(:streamed) == stdio(:captured)
  end

  test "other words, and other streams, are refused" do
    for option <- [true, nil, :all, [stdlog: :captured], [stdout: true], ["stdout"], %{}] do
      assert_raise ArgumentError, ~r/option :stdio must be/, fn -> stdio(option) end
    end
  end

  test "narrowing gives the lesser grant of each stream" do
    one = stdio(stdin: :inherited, stdout: :captured)
    other = stdio(:inherited)
    assert Stdio.narrow(one, other) == one
    assert Stdio.narrow(other, one) == one
    assert Stdio.narrow(one, stdio(:captured)) == stdio(stdin: :captured, stdout: :captured)
  end
end
