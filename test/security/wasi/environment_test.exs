defmodule Cybernetic.WASM.Security.WASI.EnvironmentTest do
  # A guest sees no variable of the VM's that was not named, and no argument that was not given.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Programs

  alias Cybernetic.WASM.{Instance, Memory, RawCalls, Sandbox}

  setup do
    System.put_env("CYBERNETIC_TEST_LANG", "C")
    System.put_env("CYBERNETIC_TEST_TOKEN", "hunter2")

    on_exit(fn ->
      Enum.each(~w(CYBERNETIC_TEST_LANG CYBERNETIC_TEST_TOKEN), &System.delete_env/1)
    end)
  end

  test "nothing of the VM's environment is there unasked" do
    for sandbox <- [sandbox(), sandbox(env: :any), :command] do
      assert run!("tool", ["env"], sandbox: sandbox).stdout == ""
    end
  end

  test "a name that is granted is there, and no other" do
    sandbox = sandbox(env: ["CYBERNETIC_TEST_LANG", "CYBERNETIC_TEST_MISSING"])
    assert run!("tool", ["env"], sandbox: sandbox).stdout == "CYBERNETIC_TEST_LANG=C\n"
  end

  test "what looks like a secret is granted by name only" do
    assert_raise ArgumentError, ~r/CYBERNETIC_TEST_TOKEN/, fn ->
      sandbox(env: ["CYBERNETIC_TEST_TOKEN"])
    end

    sandbox = sandbox(env: [{:secret, "CYBERNETIC_TEST_TOKEN"}])
    assert run!("tool", ["env"], sandbox: sandbox).stdout == "CYBERNETIC_TEST_TOKEN=hunter2\n"
    refute inspect(sandbox) =~ "hunter2"
    refute inspect(sandbox, structs: false) =~ "hunter2"
    refute IO.iodata_to_binary(Sandbox.explain(sandbox)) =~ "hunter2"
  end

  test "values of the call's own need a grant, too" do
    values = [env: %{"MODE" => "batch", "LANG" => "de"}]
    assert run!("tool", ["env"], [sandbox: :command] ++ values).stdout == "LANG=de\nMODE=batch\n"

    assert {:error, %{blame: :caller} = error} =
             run("tool", ["env"], [sandbox: sandbox(env: ["LANG"])] ++ values)

    assert Exception.message(error) =~ "MODE"
    refute Exception.message(error) =~ "batch"
  end

  test "one guest's environment is not the next one's" do
    assert run!("tool", ["env"], sandbox: :command, env: %{"A" => "1"}).stdout == "A=1\n"
    assert run!("tool", ["env"], sandbox: :command, env: %{"B" => "2"}).stdout == "B=2\n"
    assert run!("tool", ["env"], sandbox: :command).stdout == ""
  end

  test "a live guest keeps what it was made with, also when the VM's changes or it is made anew" do
    sandbox = sandbox(env: ["CYBERNETIC_TEST_LANG"])
    guest = RawCalls.guest(sandbox)
    assert environment(guest) == ["CYBERNETIC_TEST_LANG=C"]
    System.put_env("CYBERNETIC_TEST_LANG", "D")
    assert environment(guest) == ["CYBERNETIC_TEST_LANG=C"]
    :ok = Instance.reset(guest)
    assert environment(guest) == ["CYBERNETIC_TEST_LANG=C"]
    # The next guest has the value of its own time.
    assert environment(RawCalls.guest(sandbox)) == ["CYBERNETIC_TEST_LANG=D"]
  end

  defp environment(guest) do
    :ok = RawCalls.raw(guest, "environ_sizes_get", [0, 4])
    {:ok, <<_count::little-32, size::little-32>>} = Memory.read(guest, 0, 8)
    :ok = RawCalls.raw(guest, "environ_get", [1_000, 8_000])
    {:ok, bytes} = Memory.read(guest, 8_000, size)
    String.split(bytes, "\0", trim: true)
  end

  test "no value reaches an error, a denial or a crash report" do
    opts = [sandbox: :command, env: %{"API_TOKEN" => "hunter2"}]

    for args <- [["abort"], ["spin"], ["recurse"]] do
      assert {:error, error} = run("tool", args, [fuel: 1_000_000] ++ opts)
      refute inspect(error, limit: :infinity) =~ "hunter2"
    end

    refute inspect(RawCalls.guest(sandbox(env: [{"API_TOKEN", "hunter2"}]))) =~ "hunter2"
  end

  test "arguments are those of the call, each as it is" do
    args = ["", "two words", "--flag=ü", "$HOME", "*", "; exit 1", "a\tb"]
    assert run!("tool", ["args" | args]).stdout == Enum.map_join(args, &(&1 <> "\n"))
  end
end
