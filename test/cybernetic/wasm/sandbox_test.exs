defmodule Cybernetic.WASM.SandboxDocTest do
  # Not async: the examples show a node with the documented limits, which that of the tests has not.
  use ExUnit.Case, async: false

  alias Cybernetic.WASM.{Config, Limits}

  setup_all do
    config = Config.get()
    Config.put(%{config | limits: %Limits{}})
    on_exit(fn -> Config.put(config) end)
  end

  doctest Cybernetic.WASM.Sandbox

  test "a preset is the sandbox of its options, whatever is configured by then" do
    alias Cybernetic.WASM.Sandbox
    config = Config.get()
    on_exit(fn -> Config.put(config) end)

    for limits <- [%Limits{}, %Limits{fuel: 7}], deterministic <- [false, true] do
      Config.put(%{config | limits: limits, deterministic: deterministic})

      for preset <- Sandbox.presets() do
        assert Sandbox.resolve(%{sandbox: preset}) ==
                 preset |> Sandbox.Presets.options!() |> Sandbox.new()
      end
    end
  end
end

defmodule Cybernetic.WASM.SandboxTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Config, DeniedError, Limits, Sandbox}
  alias Cybernetic.WASM.Sandbox.Capabilities.{Env, Filesystem, Network, Stdio}
  alias Cybernetic.WASM.Sandbox.Check

  test "a new sandbox has the configured limits and grants nothing but what a call gives" do
    assert Sandbox.new() == %Sandbox{
             limits: Config.get().limits,
             deterministic: false,
             wasi: false,
             filesystem: %Filesystem{},
             env: %Env{},
             network: %Network{},
             clocks: :none,
             random: :none,
             stdio: %Stdio{},
             host_functions: :all,
             threading: false
           }
  end

  test "options set limits, under either name of the timeout" do
    assert Sandbox.new(max_memory: 7, max_execution_time: 9).limits == %Limits{
             max_memory: 7,
             timeout: 9,
             set_by: %{max_memory: :sandbox, timeout: :sandbox}
           }

    assert Sandbox.new(deterministic: true).deterministic
  end

  test "unknown options raise with the known ones" do
    for opts <- [[memory: 1], [imports: %{}], [scheduling: :dirty], [wait: 1], [files: []]] do
      error = assert_raise ArgumentError, fn -> Sandbox.new(opts) end
      assert error.message =~ "unknown sandbox option"

      for known <- [":deterministic", ":wasi", ":filesystem", ":env", ":fuel"],
          do: assert(error.message =~ known)
    end
  end

  test "no limit can be infinite" do
    for key <- Limits.keys(), value <- [:infinity, nil, :unlimited, -1] do
      assert_raise ArgumentError, ~r/option #{inspect(key)} must be/, fn ->
        Sandbox.new([{key, value}])
      end
    end
  end

  test "threads are not to be had" do
    assert Sandbox.new(threading: false) == Sandbox.new()

    assert_raise ArgumentError, ~r/threading must be false/, fn ->
      Sandbox.new(threading: true)
    end

    assert_raise ArgumentError, ~r/true or false/, fn -> Sandbox.new(threading: :no) end
  end

  test "WASI is linked if one of its capabilities is granted, or where it is asked for" do
    for opts <- [
          [filesystem: [{"/", "/"}]],
          [filesystem: [scratch: "/tmp"]],
          [env: ["LANG"]],
          [env: :any],
          [clocks: {:fixed, 0}],
          [random: {:seeded, 0}],
          [stdio: [stdin: :captured]],
          [wasi: true]
        ] do
      assert Sandbox.new(opts).wasi, inspect(opts)
    end

    for opts <- [
          [],
          [network: ["a.example:1"]],
          [host_functions: :all],
          [stdio: :none, clocks: :none, env: [], filesystem: false],
          [stdio: :none, network: ["a.example:1"], wasi: false]
        ] do
      refute Sandbox.new(opts).wasi, inspect(opts)
    end
  end

  test "to refuse WASI and to grant what is reached through it is a contradiction" do
    for {name, grant} <- [
          clocks: :real,
          filesystem: [null: "/dev/null"],
          env: :any,
          random: {:seeded, 1},
          stdio: [stdout: :captured]
        ] do
      assert_raise ArgumentError, ~r/option :wasi is false, but .* #{inspect(name)} grants/, fn ->
        Sandbox.new([{name, grant}, {:wasi, false}])
      end
    end
  end

  test "determinism and the outside world are not to be had together" do
    for outside <- [[clocks: :real], [random: :system], [filesystem: [times: :real]]] do
      assert_raise ArgumentError, ~r/is not deterministic/, fn ->
        Sandbox.new([deterministic: true] ++ outside)
      end
    end

    narrowed =
      Sandbox.narrow(
        Sandbox.new(clocks: :real, random: :system, filesystem: [times: :real]),
        Sandbox.new(deterministic: true)
      )

    assert {narrowed.clocks, narrowed.random} == {:none, :none}
    assert narrowed.filesystem.times == :fixed

    assert Sandbox.new(deterministic: true, filesystem: [{"/srv", "/"}]).filesystem.times ==
             :fixed

    assert %{clocks: {:fixed, 1}} = Sandbox.new(deterministic: true, clocks: {:fixed, 1})
  end

  describe "narrowing" do
    test "two sandboxes never widens either" do
      one = Sandbox.new(fuel: 10, timeout: 500)
      other = Sandbox.new(fuel: 20, timeout: 400, deterministic: true)

      for {left, right} <- [{one, other}, {other, one}] do
        narrowed = Sandbox.narrow(left, right)
        assert {narrowed.limits.fuel, narrowed.limits.timeout} == {10, 400}
        assert narrowed.deterministic
      end
    end

    test "with nothing gives nothing" do
      for preset <- Sandbox.presets(), preset != :none do
        narrowed = Sandbox.narrow(Sandbox.resolve(%{sandbox: preset}), Sandbox.new())
        # Not even the times of files that are not there.
        assert %{narrowed | deterministic: false, filesystem: %Filesystem{}} == Sandbox.new()
        refute Filesystem.granted?(narrowed.filesystem)
      end
    end
  end

  describe "the sandbox of a call" do
    test "has the grants of the one that was given, narrowed by the call's options" do
      sandbox = Sandbox.new(clocks: :real, stdio: :captured, fuel: 10)
      assert Sandbox.resolve(%{sandbox: sandbox}) == sandbox
      assert Sandbox.resolve(%{sandbox: sandbox, fuel: 20}) == sandbox
      assert Sandbox.resolve(%{sandbox: sandbox, fuel: 5}).limits.fuel == 5
      deterministic = Sandbox.resolve(%{sandbox: sandbox, deterministic: true})
      assert {deterministic.clocks, deterministic.stdio} == {:none, sandbox.stdio}
    end

    test "grants nothing where none was given" do
      assert %{limits: %{fuel: 5}} = resolved = Sandbox.resolve(%{fuel: 5})
      assert %{resolved | limits: Sandbox.new().limits} == Sandbox.new()
    end

    test "can be a preset" do
      assert Sandbox.resolve(%{sandbox: :command}) ==
               Sandbox.new(clocks: :real, random: :system, stdio: :captured, env: :any)

      assert_raise ArgumentError, ~r/known are: :command, :none, :pure/, fn ->
        Sandbox.resolve(%{sandbox: :shell})
      end
    end
  end

  test "presets have names" do
    assert Enum.sort(Sandbox.presets()) == [:command, :none, :pure]
  end

  test "every capability has a line, and says what it grants or that it does not" do
    granting = [
      filesystem: [
        dirs: [{"/srv", "/data", :rw}],
        scratch: "/tmp",
        null: "/dev/null",
        quota: 5,
        max_open: 3
      ],
      env: ["LANG", {"MODE", "x"}],
      network: [allow: ["a.example:1", "10.0.0.0/8:2"], dns: true],
      clocks: {:stepped, 5, 7},
      random: {:seeded, 1},
      stdio: [stdout: :inherited],
      host_functions: ["env.log", "db.*"]
    ]

    lines = granting |> Sandbox.new() |> Sandbox.explain() |> String.split("\n")
    assert length(lines) == 3 + length(granting) + 1

    for line <- [
          ~s|filesystem: granted: "/data" from "/srv" to read and write, "/tmp" for scratch, | <>
            ~s|"/dev/null" as a null device; 5 bytes written and 3 files open at the most; real times|,
          "env: granted: LANG (the VM's), MODE (a value)",
          "network: granted: 10.0.0.0/8:2, a.example:1; lookups of any name",
          "clocks: granted: from 5 ns since 1970 in steps of 7 ns",
          "random: granted: seeded",
          "stdio: granted: stdout inherited",
          "host_functions: granted: db.*, env.log"
        ],
        do: assert(line in lines)

    refused = Sandbox.explain(Sandbox.new(host_functions: false))

    for name <- ["wasi", "threading" | Enum.map(Keyword.keys(granting), &to_string/1)],
        do: assert("#{name}: refused" in String.split(refused, "\n"))

    assert Sandbox.explain(Sandbox.narrow(Sandbox.new(clocks: :real), Sandbox.new(network: []))) =~
             "clocks: refused"

    assert Sandbox.explain(%{Sandbox.new(clocks: :real) | wasi: false}) =~
             "clocks: refused, without wasi"
  end

  test "a sandbox is inspected in one line" do
    # Limits are shown where they are not the documented ones.
    documented = [timeout: %Limits{}.timeout]

    assert inspect(Sandbox.new(documented)) ==
             "#Cybernetic.WASM.Sandbox<host_functions: all that a call gives>"

    opts = [fuel: 7, deterministic: true, host_functions: []] ++ documented

    assert inspect(Sandbox.new(opts)) ==
             "#Cybernetic.WASM.Sandbox<fuel: 7, deterministic>"
  end

  describe "a check before any run" do
    @wasi "wasi_snapshot_preview1"

    defp denied(name, opts),
      do: Check.denied_of([%{module: @wasi, name: name}], Sandbox.new(opts))

    test "tells that WASI is not linked at all" do
      assert [%{module: @wasi, capability: :wasi, effect: :link} = denied] =
               denied("fd_write", [])

      assert denied.grant =~ "sandbox: :command"
    end

    test "knows the capability of each function" do
      for {name, capability, effect, grants} <- [
            {"environ_get", :env, :empty, [[env: :any], [env: ["LANG"]]]},
            {"clock_time_get", :clocks, :errno, [[clocks: :real], [clocks: {:fixed, 0}]]},
            {"poll_oneoff", :clocks, :errno, [[clocks: :real]]},
            {"random_get", :random, :errno, [[random: :system]]},
            {"fd_write", :stdio, :errno, [[stdio: :captured], [filesystem: [{"/", "/"}]]]},
            {"fd_readdir", :filesystem, :errno, [[filesystem: [{"/", "/"}]]]},
            {"path_open", :filesystem, :errno, [[filesystem: [scratch: "/tmp"]]]},
            {"sock_send", :network, :errno, []}
          ] do
        assert [%{capability: ^capability, effect: ^effect}] = denied(name, wasi: true), name
        for grant <- grants, do: assert(denied(name, grant) == [], name)
      end

      for name <- ["args_get", "proc_exit", "fd_seek", "sched_yield"],
          do: assert(denied(name, wasi: true) == [])

      assert [%{effect: :link, grant: "nothing grants it" <> _}] =
               denied("fd_teleport", wasi: true)
    end

    test "reads a module's imports, and leaves those that are no functions" do
      module =
        load!(~S"""
        (module
          (import "env" "memory" (memory 1))
          (import "env" "log" (func))
          (import "env" "print" (func))
          (import "env" "log" (func))
          (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))
        """)

      assert [
               %{module: "env", name: "log", capability: :host_functions, effect: :link},
               %{module: @wasi, name: "proc_exit", capability: :wasi, effect: :link}
             ] = denied = Sandbox.check(module, Sandbox.new(host_functions: ["env.print"]))

      assert %DeniedError{
               capability: :host_functions,
               denied: [%{module: "env", name: "log"}],
               blame: :caller
             } = error = Check.to_error(denied)

      assert Exception.message(error) ==
               "the sandbox does not grant host_functions, which 1 import(s) need; " <>
                 ~s|add "env.log" to host_functions:\n  * env log|

      assert Check.to_error([]) == nil
      assert [%{name: "proc_exit"}] = Sandbox.check(module, :none)
      assert Sandbox.check(module, :command) == []
    end
  end

  describe "what Rust takes" do
    test "is nothing without WASI, and then a call cannot give anything to it" do
      assert Sandbox.native(Sandbox.new(), %{args: [], env: nil, stdin: nil, program: "p"}) ==
               {:ok, nil}

      assert {:error, %DeniedError{capability: :wasi} = error} =
               Sandbox.native(Sandbox.new(), %{args: ["a"], env: %{"A" => "b"}})

      assert Exception.message(error) =~ "the call gives args:, env:; add sandbox: :command"
    end

    test "is the whole grant with the call's data" do
      sandbox =
        Sandbox.new(
          filesystem: [
            dirs: [{"/srv", "/data"}, {"/out", "/out", :rw}],
            scratch: "/tmp",
            quota: 9
          ],
          env: ["CYBERNETIC_UNSET_NAME", {"MODE", "x"}],
          clocks: {:fixed, 5},
          random: :system,
          stdio: [stdin: :captured, stdout: :captured]
        )

      data = %{program: "p", args: ["a"], env: %{"MODE" => "x"}, stdin: "in", answered: [3]}
      assert {:ok, {grants, "in"}} = Sandbox.native(sandbox, data)

      assert grants == %{
               args: ["p", "a"],
               env: [{"MODE", "x"}],
               dirs: [{"/srv", "/data", false}, {"/out", "/out", true}],
               scratch: "/tmp",
               null: nil,
               times: true,
               quota: 9,
               max_open: 64,
               network: nil,
               clocks: {:fixed, 5},
               random: :system,
               stdio: {true, true, false},
               terminals: {false, false, false},
               answered: [3]
             }
    end

    test "has the input that the call gives, as far as it is granted" do
      stdin = fn stdio, given ->
        sandbox = Sandbox.new(wasi: true, stdio: stdio)

        # A later call on the guest has the same.
        with {:ok, {_grants, stdin}} <- Sandbox.native(sandbox, %{stdin: given}) do
          assert Sandbox.stdin(sandbox, given) == {:ok, stdin}
          stdin
        end
      end

      assert stdin.(:none, nil) == nil
      assert stdin.(:captured, nil) == ""
      assert stdin.(:captured, :pull) == :pull
      assert stdin.(:inherited, nil) == :pull
      assert stdin.(:inherited, "in") == "in"
      assert {:error, %DeniedError{capability: :stdio}} = stdin.(:none, "")
      assert Sandbox.stdin(Sandbox.new(), nil) == {:ok, nil}
      assert {:error, %DeniedError{capability: :wasi}} = Sandbox.stdin(Sandbox.new(), "")
    end

    test "says which of the VM's own streams are a terminal's" do
      terminals = fn stdio, terminals ->
        data = %{terminals: fn -> terminals end}
        {:ok, {grants, _}} = Sandbox.native(Sandbox.new(wasi: true, stdio: stdio), data)
        grants.terminals
      end

      assert terminals.(:inherited, {true, false, true}) == {true, false, true}
      assert terminals.([stdout: :inherited], {true, true, true}) == {false, true, false}
      assert terminals.(:captured, :not_asked) == {false, false, false}
    end

    test "has no variable that the sandbox does not grant" do
      assert {:error, %DeniedError{capability: :env} = error} =
               Sandbox.native(Sandbox.new(env: ["LANG"]), %{env: %{"PATH" => "/bin"}})

      assert Exception.message(error) =~ "PATH"

      assert {:ok, {%{env: [{"PATH", "/bin"}]}, nil}} =
               Sandbox.native(Sandbox.new(env: :any), %{env: %{"PATH" => "/bin"}})
    end
  end
end
