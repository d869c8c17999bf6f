defmodule Cybernetic.WASM.Runtime.ReloadTest do
  # Another module in the place of the current one, and back.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Named}

  alias Cybernetic.WASM.{CallError, Executor, Instance, LimitError, LoadError, Runtime, Sandbox}
  alias Cybernetic.WASM.Sandbox.Manifest

  defp number(given), do: Executor.call(given, "number")
  defp listed(name), do: for(%{name: ^name} = row <- Runtime.modules(), do: row.version)

  defp manifest(text) do
    {:ok, manifest} = Manifest.parse(text)
    manifest
  end

  setup do
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    %{name: name}
  end

  describe "a reload" do
    test "makes the new module current, under the next version", %{name: name} do
      assert {:ok, module} = Runtime.reload(name, numbered(2))
      assert {module.name, module.version} == {name, "1.0.1"}
      assert number(name) == {:ok, 2}
      assert {:ok, %{version: "2.0.0"}} = Runtime.reload(name, numbered(3), version: "2.0.0")

      assert {number(name), number(name <> "@1.0.1"), number(name <> "@1.0.0")} ==
               {{:ok, 3}, {:ok, 2}, {:ok, 1}}
    end

    test "of the same bytes changes nothing", %{name: name} do
      assert Runtime.reload(name, numbered(1)) == :unchanged
      assert Runtime.reload(name, numbered(1), version: "5.0.0") == :unchanged
      assert [%{action: :loaded}] = Runtime.changes(name)
      assert listed(name) == ["1.0.0"]
    end

    test "of the same bytes with another manifest is one", %{name: name} do
      assert {:ok, module} =
               Runtime.reload(name, numbered(1), manifest: manifest("[limits]\nfuel = 1"))

      assert module.version == "1.0.1"
      assert {:error, %LimitError{limit: :fuel}} = number(name)
    end

    test "that is not to be current leaves the calls where they are", %{name: name} do
      assert {:ok, %{version: "1.0.1"}} = Runtime.reload(name, numbered(2), current: false)
      assert {number(name), number(name <> "@1.0.1")} == {{:ok, 1}, {:ok, 2}}
      assert {:ok, _module} = Runtime.promote(name, "1.0.1")
      assert number(name) == {:ok, 2}
    end

    test "with an older version is refused, unless somebody says what is to become of it",
         context do
      %{name: name} = context
      older = manifest("[module]\nversion = \"0.9.0\"")

      for opts <- [[manifest: older], [version: "0.9.0"], [version: "0.9.0", allow: :widen]] do
        assert {:error, %LoadError{reason: :older_version} = error} =
                 Runtime.reload(name, numbered(2), opts)

        assert {error.name, error.version, error.found} == {name, "0.9.0", "1.0.0"}

        assert Exception.message(error) =~
                 ~s|version 0.9.0 of "#{name}" is older than 1.0.0, which is current: current: true|
      end

      assert {number(name), listed(name)} == {{:ok, 1}, ["1.0.0"]}

      assert {:ok, %{version: "0.9.0"}} =
               Runtime.reload(name, numbered(2), manifest: older, current: false)

      assert {number(name), number(name <> "@0.9.0")} == {{:ok, 1}, {:ok, 2}}

      # One that is there is no less old.
      assert {:error, %LoadError{reason: :older_version}} =
               Runtime.reload(name, numbered(2), manifest: older)

      assert {:ok, %{version: "0.9.0"}} =
               Runtime.reload(name, numbered(2), manifest: older, current: true)

      assert number(name) == {:ok, 2}
    end

    test "goes on counting where nobody edits the manifest, whichever versions have gone",
         context do
      %{name: name} = context
      opts = [manifest: manifest("[module]\nversion = \"2.0.0\"")]
      versions = for n <- 2..7, do: elem(Runtime.reload(name, numbered(n), opts), 1).version
      assert versions == ~w(2.0.0 2.0.1 2.0.2 2.0.3 2.0.4 2.0.5)
      assert listed(name) == ~w(2.0.5 2.0.4 2.0.3 1.0.0)
      assert Runtime.reload(name, numbered(7), opts) == :unchanged
    end

    test "of what cannot be loaded keeps the module that is there", %{name: name} do
      assert {:error, %LoadError{reason: :not_wasm}} = Runtime.reload(name, {:bytes, "no"})
      assert {:error, %LoadError{reason: :not_found}} = Runtime.reload(name, "no/such.wasm")

      assert {:error, %LoadError{reason: :version_taken}} =
               Runtime.reload(name, numbered(2), version: "1.0.0")

      assert {number(name), listed(name)} == {{:ok, 1}, ["1.0.0"]}
    end

    test "needs a name that is there, without a version", %{name: name} do
      assert {:error, %CallError{reason: :no_such_name}} = Runtime.reload("no/such", numbered(2))

      assert_raise ArgumentError, ~r/a name is needed, without a version/, fn ->
        Runtime.reload(name <> "@1", numbered(2))
      end

      assert_raise ArgumentError, ~r/option :allow/, fn ->
        Runtime.reload(name, numbered(2), allow: :all)
      end

      assert_raise ArgumentError, ~r/unknown/, fn ->
        Runtime.reload(name, numbered(2), nmae: "x")
      end

      assert_raise ArgumentError, ~r/:name/, fn ->
        Runtime.reload(name, numbered(2), name: "x")
      end
    end

    test "goes by the options of the load before, but for those that are given" do
      name = name()
      load_numbered!(name, 1, metering: :epoch, manifest: manifest("[limits]\ntime_ms = 60000"))
      {:ok, module} = Runtime.reload(name, numbered(2))
      assert {elem(module.engine, 0), module.manifest.limits[:timeout]} == {:epoch, 60_000}
      {:ok, module} = Runtime.reload(name, numbered(3), metering: :fuel)
      assert {elem(module.engine, 0), module.manifest.limits[:timeout]} == {:fuel, 60_000}
      {:ok, module} = Runtime.reload(name, numbered(4))
      assert elem(module.engine, 0) == :fuel
    end

    test "lets calls and instances finish on the module that they began with" do
      name = name()

      asking =
        ~S|(import "env" "f" (func $f)) (func (export "asking") (result i32) (call $f) (call $number))|

      source = fn number ->
        {:bytes,
         ~s|(module #{asking} (func $number (export "number") (result i32) i32.const #{number}))|}
      end

      {:ok, _} = Runtime.load_module(source.(1), name: name)
      test = self()

      f = fn _ctx ->
        send(test, {:inside, self()})
        receive do: (:go_on -> nil)
      end

      imports = %{"env" => %{"f" => f}}
      call = Task.async(fn -> Executor.call(name, "asking", [], imports: imports) end)
      assert_receive {:inside, pid}
      {:ok, instance} = Instance.new(name, imports: imports)

      assert {:ok, _} = Runtime.reload(name, source.(2), keep: 0)
      assert Executor.call(name, "number", [], imports: imports) == {:ok, 2}
      assert {:ok, 1} == Instance.call(instance, "number")
      send(pid, :go_on)
      assert await(call) == {:ok, 1}
      assert {:ok, 1} == Instance.call(instance, "number")
    end
  end

  describe "what may stand in the place of a module" do
    defp replace(old, new, opts \\ [], load \\ []) do
      name = name()
      {:ok, _} = Runtime.load_module({:bytes, "(module #{old})"}, [name: name] ++ load)
      Runtime.reload(name, {:bytes, "(module #{new} (func (export \"more\")))"}, opts)
    end

    @f ~S|(func (export "f") (param i32) (result i64) (i64.const 0))|

    test "exports all that it does, with the same types" do
      assert {:ok, _} = replace(@f, @f)
      assert {:ok, _} = replace("", @f)

      for {old, new, problem} <- [
            {@f, "", ~S|"f": (i32) -> i64 is missing|},
            {@f, ~S|(func (export "f") (param i64) (result i64) (i64.const 0))|,
             ~S|"f": (i32) -> i64 is now (i64) -> i64|},
            {@f, ~S|(func (export "f") (param i32))|, ~S|"f": (i32) -> i64 is now (i32) -> ()|},
            {@f, ~S|(memory (export "f") 1)|,
             ~S|"f": (i32) -> i64 is now a memory with i32 addresses|},
            {~S|(memory (export "m") 1)|, "", ~S|"m": a memory with i32 addresses is missing|},
            {~S|(memory (export "m") 1)|, ~S|(memory (export "m") i64 1)|,
             ~S|"m": a memory with i32 addresses is now a memory with i64 addresses|},
            {~S|(global (export "g") (mut i32) (i32.const 0))|,
             ~S|(global (export "g") i32 (i32.const 0))|,
             ~S|"g": a mutable global of i32 is now a global of i32|},
            {~S|(table (export "t") 1 funcref)|, ~S|(table (export "t") 1 externref)|,
             ~S|"t": a table of funcref is now a table of externref|},
            {~S|(tag (export "e") (param i32))|, ~S|(tag (export "e"))|,
             ~S|"e": a tag of (i32) is now a tag of ()|}
          ] do
        assert {:error, %LoadError{reason: :narrowed} = error} = replace(old, new)
        assert error.problems == [problem]
        assert Exception.message(error) =~ problem
        assert {:error, %LoadError{reason: :narrowed}} = replace(old, new, allow: :widen)
      end
    end

    test "may have another size of memories and tables" do
      assert {:ok, _} = replace(~S|(memory (export "m") 2 3)|, ~S|(memory (export "m") 1)|)

      assert {:ok, _} =
               replace(~S|(table (export "t") 2 3 funcref)|, ~S|(table (export "t") 1 funcref)|)
    end

    test "imports no more than it does, unless that is allowed" do
      f = ~S|(import "env" "f" (func (param i32)))|
      g = ~S|(import "env" "g" (func))|
      assert {:ok, _} = replace(f, f)
      assert {:ok, _} = replace(f <> g, f)

      for {old, new, problem} <- [
            {f, f <> g, ~S|the import "env" "g": () -> ()|},
            {f, ~S|(import "env" "f" (func (param i64)))|, ~S|the import "env" "f": (i64) -> ()|},
            {"", ~S|(import "env" "m" (memory 1))|,
             ~S|the import "env" "m": a memory with i32 addresses|},
            {"", ~S|(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))|,
             ~S|the import "wasi_snapshot_preview1" "sched_yield"|}
          ] do
        assert {:error, %LoadError{reason: :widened} = error} = replace(old, new)
        assert error.problems == [problem]
        assert Exception.message(error) =~ "allow: :widen"
        assert {:ok, _} = replace(old, new, allow: :widen)
        assert {:ok, _} = replace(old, new, allow: [:widen])
      end
    end

    test "may import host functions that the sandbox lists by name" do
      held = [manifest: manifest(~s|[capabilities]\nhost_functions = ["env.f", "log.*"]|)]

      assert {:ok, _} =
               replace("", ~S|(import "env" "f" (func)) (import "log" "x" (func))|, [], held)

      assert {:error, %{reason: :widened}} = replace("", ~S|(import "env" "g" (func))|, [], held)
    end

    test "may call other functions of WASI for the same purposes, and those that are granted" do
      wasi = fn name, params ->
        ~s|(import "wasi_snapshot_preview1" "#{name}" (func (param #{params}) (result i32)))|
      end

      write = wasi.("fd_write", "i32 i32 i32 i32")
      read = wasi.("fd_read", "i32 i32 i32 i32")
      open = wasi.("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32")
      stat = wasi.("path_filestat_get", "i32 i32 i32 i32 i32")
      random = wasi.("random_get", "i32 i32")
      assert {:ok, _} = replace(write, write <> read)
      assert {:ok, _} = replace(open, open <> stat)
      assert {:error, %{reason: :widened}} = replace(write, write <> random)

      held = [manifest: manifest(~s|[capabilities]\nrandom = "system"|)]
      assert {:ok, _} = replace(write, write <> random, [], held)
    end

    test "brings a manifest that grants no more" do
      held = fn text -> [manifest: manifest(text)] end
      less = held.("[capabilities]\nclocks = { fixed = 0 }\n[limits]\nfuel = 1000")
      more = held.("[capabilities]\nclocks = \"real\"\n[limits]\nfuel = 2000")
      assert {:ok, _} = replace("", "", less, more)
      assert {:error, %{reason: :widened} = error} = replace("", "", more, less)
      assert Enum.sort(error.problems) == ["clocks: real", "fuel: 2,000"]
      assert {:ok, _} = replace("", "", more ++ [allow: :widen], less)
      # What had none was granted nothing, and what has none any more is held to nothing.
      assert {:error, %{reason: :widened}} = replace("", "", more, [])

      assert {:error, %{reason: :widened, problems: [problem]}} =
               replace("", "", [manifest: false], less)

      assert problem =~ "no manifest"
    end

    test "shows no value of an environment" do
      env = fn value ->
        [manifest: manifest(~s|[capabilities]\nenv = [{ name = "MODE", value = "#{value}" }]|)]
      end

      assert {:error, error} = replace("", "", env.("hunter2"), env.("other"))
      refute Exception.message(error) =~ "hunter2"
      refute inspect(error) =~ "hunter2"
    end
  end

  describe "a smoke test" do
    test "that gives :ok lets the module through, and is told of it alone", %{name: name} do
      test = self()

      smoke = fn module ->
        send(test, {:tried, number(module), number(name), self()})
        :ok
      end

      assert {:ok, _} = Runtime.reload(name, numbered(2), smoke: smoke)
      assert_received {:tried, {:ok, 2}, {:ok, 1}, pid}
      assert pid != test
    end

    test "that fails in whatever way keeps the module that is there", %{name: name} do
      for {smoke, words} <- [
            {fn _ -> :error end, "it gave :error, and not :ok"},
            {fn _ -> raise "no good" end, "** (RuntimeError) no good"},
            {fn _ -> throw(:ball) end, "** (throw) :ball"},
            {fn _ -> exit(:stage_left) end, "** (exit) :stage_left"},
            {fn _ -> Process.exit(self(), :kill) end, "it ended: :killed"},
            {fn module -> Executor.call(module, "numbre") end, "it gave {:error, "}
          ] do
        assert {:error, %LoadError{reason: :smoke_failed} = error} =
                 Runtime.reload(name, numbered(2), smoke: smoke)

        assert error.detail =~ words
        assert Exception.message(error) =~ words
        assert {number(name), listed(name)} == {{:ok, 1}, ["1.0.0"]}
      end
    end

    test "that hangs is killed at its limit, whatever it does to stay", %{name: name} do
      test = self()

      smoke = fn _module ->
        Process.flag(:trap_exit, true)
        send(test, {:smoke, self()})
        Process.sleep(:infinity)
      end

      assert {:error, %LoadError{reason: :smoke_failed} = error} =
               Runtime.reload(name, numbered(2), smoke: smoke, smoke_timeout: 50)

      assert error.detail =~ "longer than 50 ms"
      assert_received {:smoke, pid}
      dead(pid)
    end

    test "does not outlive who waits for it", %{name: name} do
      test = self()

      smoke = fn _module ->
        Process.flag(:trap_exit, true)
        send(test, {:smoke, self()})
        Process.sleep(:infinity)
      end

      {:ok, reloading} = Task.start(fn -> Runtime.reload(name, numbered(2), smoke: smoke) end)
      assert_receive {:smoke, pid}
      Process.exit(reloading, :kill)
      dead(pid)
      assert number(name) == {:ok, 1}
    end

    test "may reload the name itself: the outer one comes after", %{name: name} do
      smoke = fn _module ->
        {:ok, _} = Runtime.reload(name, numbered(2))
        :ok
      end

      assert {:ok, module} = Runtime.reload(name, numbered(3), smoke: smoke)
      assert module.version == "1.0.2"
      assert number(name) == {:ok, 3}

      assert [%{to: "1.0.2", from: "1.0.1"}, %{to: "1.0.1", from: "1.0.0"}, _loaded] =
               Runtime.changes(name)
    end

    test "during which the name goes ends in an error", %{name: name} do
      smoke = fn _module -> Runtime.unload(name) end

      assert {:error, %CallError{reason: :no_such_name}} =
               Runtime.reload(name, numbered(3), smoke: smoke)
    end

    test "during which another narrows or widens is about that one", %{name: name} do
      smoke = fn _module ->
        {:ok, _} = Runtime.load_module(numbered(2, ~S|(func (export "more"))|), name: name)
        :ok
      end

      assert {:error, %LoadError{reason: :narrowed}} =
               Runtime.reload(name, numbered(3), smoke: smoke)

      assert number(name) == {:ok, 2}
    end
  end

  describe "versions that were replaced" do
    test "stay, but for those that reloads made and that were replaced long ago", %{name: name} do
      load_numbered!(name, 2, version: "1.1.0")
      for number <- 3..8, do: {:ok, _} = Runtime.reload(name, numbered(number))
      assert listed(name) == ["1.1.6", "1.1.5", "1.1.4", "1.1.0", "1.0.0"]
      {:ok, _} = Runtime.reload(name, numbered(9), keep: 0)
      assert listed(name) == ["1.1.7", "1.1.0", "1.0.0"]

      assert %{action: :dropped, from: "1.1.4"} =
               Enum.find(Runtime.changes(name), &(&1.from == "1.1.4" and &1.to == nil))
    end

    test "do not pile up over reloads that are rolled back", %{name: name} do
      for number <- 3..20 do
        {:ok, _} = Runtime.reload(name, numbered(number))
        {:ok, _} = Runtime.rollback(name)
      end

      {:ok, _} = Runtime.reload(name, numbered(2))
      assert length(listed(name)) == 4
      assert {:ok, %{version: "1.0.0"}} = Runtime.rollback(name)
    end

    test "are not those that were made ready and have not been current yet", %{name: name} do
      {:ok, _} = Runtime.reload(name, numbered(2), current: false, keep: 0)
      for number <- 3..5, do: {:ok, _} = Runtime.reload(name, numbered(number), keep: 0)
      assert listed(name) == ["1.0.4", "1.0.1", "1.0.0"]
      {:ok, _} = Runtime.promote(name, "1.0.1")
      {:ok, _} = Runtime.reload(name, numbered(6), keep: 0)
      assert listed(name) == ["1.0.5", "1.0.0"]
    end

    test "go after `drain:`, and their code with the last that uses them", %{name: name} do
      {:ok, instance} = Instance.new(name)
      {:ok, _} = Runtime.reload(name, numbered(2), drain: 20)
      eventually(fn -> listed(name) == ["1.0.1"] end)
      assert {:error, %{reason: :no_such_version}} = number(name <> "@1.0.0")
      assert {:error, %{reason: :nothing_before}} = Runtime.rollback(name)
      assert Instance.call(instance, "number") == {:ok, 1}
      assert [%{action: :dropped, from: "1.0.0", by: "drain"} | _] = Runtime.changes(name)
    end

    test "do not go where they are current again by then", %{name: name} do
      {:ok, _} = Runtime.reload(name, numbered(2), drain: 100)
      {:ok, _} = Runtime.rollback(name)
      {:ok, _} = Runtime.reload(name, numbered(3), drain: 1_000_000)
      :ok = Runtime.split(name, %{"1.0.0" => 1, "1.0.2" => 1})
      for _ <- 1..60, do: Process.sleep(5)
      assert "1.0.0" in listed(name)
    end
  end

  describe "rollback and promote" do
    test "go back one by one, and forth", %{name: name} do
      for number <- 2..3, do: {:ok, _} = Runtime.reload(name, numbered(number))
      assert {:ok, %{version: "1.0.1"}} = Runtime.rollback(name, by: "me", why: "it is slow")
      assert {:ok, %{version: "1.0.0"}} = Runtime.rollback(name)
      assert number(name) == {:ok, 1}
      assert {:error, %CallError{reason: :nothing_before} = error} = Runtime.rollback(name)
      assert Exception.message(error) =~ "no version of \"#{name}\" was current before"
      assert {:ok, %{version: "1.0.2"}} = Runtime.promote(name, "1.0.2")
      assert {number(name), number(name <> "@1")} == {{:ok, 3}, {:ok, 3}}

      assert [
               %{action: :promoted},
               _,
               %{action: :rolled_back, by: "me", why: "it is slow", from: "1.0.2", to: "1.0.1"}
               | _
             ] = Runtime.changes(name)
    end

    test "refuse what is not there", %{name: name} do
      assert {:error, %CallError{reason: :no_such_version}} = Runtime.promote(name, "9.0.0")
      assert {:error, %CallError{reason: :no_such_name}} = Runtime.promote("no/such", "1.0.0")
      assert {:error, %CallError{reason: :no_such_name}} = Runtime.rollback("no/such")
      assert_raise ArgumentError, fn -> Runtime.promote(name, "1.0") end
      assert_raise ArgumentError, fn -> Runtime.promote(name, :x) end
      assert_raise ArgumentError, ~r/unknown/, fn -> Runtime.rollback(name, who: "me") end
    end
  end

  describe "a split" do
    setup %{name: name} do
      load_numbered!(name, 2, version: "2.0.0", current: false)
      :ok
    end

    test "sends calls by their key, always alike", %{name: name} do
      :ok = Runtime.split(name, %{"1.0.0" => 70, "2.0.0" => 30}, by: "me")

      by_key =
        for key <- 1..200, into: %{}, do: {key, Executor.call(name, "number", [], key: key)}

      assert by_key |> Map.values() |> Enum.uniq() |> Enum.sort() == [{:ok, 1}, {:ok, 2}]

      for {key, number} <- by_key do
        assert Executor.call(name, "number", [], key: key, fuel: 1_000_000) == number
        assert {:ok, instance} = Instance.new(name, key: key)
        assert Instance.call(instance, "number") == number
      end

      without = for _ <- 1..200, uniq: true, do: number(name)
      assert Enum.sort(without) == [{:ok, 1}, {:ok, 2}]

      assert [%{share: 30.0}, %{share: 70.0, current: true}] =
               for(%{name: ^name} = row <- Runtime.modules(), do: row)

      assert [%{action: :split, shares: %{"2.0.0" => 30}, by: "me"} | _] = Runtime.changes(name)
    end

    test "can go by the process", %{name: name} do
      :ok = Runtime.split(name, %{"1.0.0" => 1, "2.0.0" => 1}, key: :process)
      of_process = fn -> for _ <- 1..5, uniq: true, do: number(name) end
      numbers = for _ <- 1..100, do: elsewhere(of_process)
      assert Enum.all?(numbers, &match?([_one], &1))
      assert numbers |> Enum.uniq() |> length() == 2
    end

    test "ends with the next version that is current", %{name: name} do
      for ending <- [
            fn -> Runtime.promote(name, "1.0.0") end,
            fn -> Runtime.reload(name, numbered(3)) end,
            fn -> Runtime.rollback(name) end,
            fn -> Runtime.load_module(numbered(1), name: name, version: "1.0.0") end
          ] do
        :ok = Runtime.split(name, %{"1.0.0" => 1, "2.0.0" => 1})
        {:ok, module} = ending.()
        assert for(_ <- 1..50, uniq: true, do: number(name)) == [number(module)]
      end
    end

    test "holds its versions", %{name: name} do
      :ok = Runtime.split(name, %{"1.0.0" => 1, "2.0.0" => 1})

      assert {:error, %CallError{reason: :current_version} = error} =
               Runtime.unload(name <> "@2.0.0")

      assert Exception.message(error) =~ "promote another first"
    end

    test "refuses what is no split", %{name: name} do
      assert {:error, %CallError{reason: :no_such_version}} =
               Runtime.split(name, %{"1.0.0" => 1, "3.0.0" => 1})

      assert {:error, %CallError{reason: :no_such_name}} =
               Runtime.split("no/such", %{"1.0.0" => 1})

      for bad <- [
            %{},
            %{"1.0.0" => 0},
            %{"1.0.0" => 1.5},
            %{"1.0" => 1},
            %{1 => 1},
            [],
            [{"1.0.0", 1}],
            %{nil => 1},
            %{"1.0.0" => 10_000_000}
          ],
          do:
            assert_raise(ArgumentError, ~r/weights by version/, fn -> Runtime.split(name, bad) end)

      assert_raise ArgumentError, ~r/option :key/, fn ->
        Runtime.split(name, %{"1.0.0" => 1}, key: :tenant)
      end
    end
  end

  describe "unload" do
    test "lets go of a name, while calls run", %{name: name} do
      {:ok, instance} = Instance.new(name)
      assert Runtime.unload(name, by: "me") == :ok
      assert {:error, %CallError{reason: :no_such_name}} = number(name)
      assert {:error, %CallError{reason: :no_such_name}} = number(name <> "@1.0.0")
      assert {:error, %CallError{reason: :no_such_name}} = Runtime.unload(name)
      assert {listed(name), Instance.call(instance, "number")} == {[], {:ok, 1}}
      assert [%{action: :unloaded, from: "1.0.0", to: nil, by: "me"} | _] = Runtime.changes(name)
      # It begins anew.
      assert load_numbered!(name, 5).version == "0.1.0"
    end

    test "lets go of one version, but not of the current one among others", %{name: name} do
      load_numbered!(name, 2, version: "2.0.0")

      assert {:error, %CallError{reason: :current_version, given: "2.0.0"}} =
               Runtime.unload(name <> "@2.0.0")

      assert Runtime.unload(name <> "@1.0.0") == :ok
      assert {:error, %CallError{reason: :no_such_version}} = number(name <> "@1.0.0")
      assert {:error, %CallError{reason: :no_such_version}} = Runtime.unload(name <> "@1.0.0")
      assert Runtime.unload(name <> "@2.0.0") == :ok
      assert listed(name) == []

      for odd <- ["@", "X", "x@1", "x@~> 1.0"],
          do: assert_raise(ArgumentError, fn -> Runtime.unload(odd) end)
    end
  end

  describe "subscribers" do
    test "are told of each change, once it is in force", %{name: name} do
      :ok = Runtime.subscribe(name)
      :ok = Runtime.subscribe(name)
      {:ok, _} = Runtime.reload(name, numbered(2), by: "me", why: "because")
      assert_received {:wasm_module, %Runtime.Change{action: :reloaded} = change}

      assert {change.name, change.from, change.to, change.by, change.why} ==
               {name, "1.0.0", "1.0.1", "me", "because"}

      assert {:ok, %{digest: digest}} = Runtime.module(name)
      assert change.digest == digest
      refute_received {:wasm_module, _}

      load_numbered!(name(), 1)
      refute_received {:wasm_module, _}
      :ok = Runtime.unsubscribe(name)
      {:ok, _} = Runtime.rollback(name)
      refute_received {:wasm_module, _}
    end

    test "of all names are told of all" do
      :ok = Runtime.subscribe(:all)
      name = name()
      load_numbered!(name, 1)
      assert_received {:wasm_module, %{name: ^name, action: :loaded}}
      :ok = Runtime.unsubscribe(:all)
      assert_raise ArgumentError, fn -> Runtime.subscribe("No") end
    end

    test "that have died are forgotten", %{name: name} do
      pid = spawn(fn -> Runtime.subscribe(name) && receive(do: (:never -> :ok)) end)
      there? = fn -> Runtime.Names.row({:subscriber, pid}) != nil end
      eventually(there?)
      Process.exit(pid, :kill)
      eventually(fn -> not there?.() end)
      assert {:ok, _} = Runtime.reload(name, numbered(2))
    end
  end

  test "what is said of a change is cut", %{name: name} do
    long = String.duplicate("x", 10_000)
    {:ok, _} = Runtime.reload(name, numbered(2), by: long, why: long)
    assert [%{by: by, why: why} | _] = Runtime.changes(name)
    assert byte_size(by) < 600 and byte_size(why) < 600
    assert_raise ArgumentError, fn -> Runtime.rollback(name, by: :me) end
    assert_raise ArgumentError, fn -> Runtime.rollback(name, why: <<255>>) end
    {:ok, _} = Runtime.rollback(name)
    assert [%{by: by} | _] = Runtime.changes(name)
    assert by == inspect(self())
  end

  describe "a sandbox that a module is loaded with" do
    test "holds its calls, and those of what is reloaded in its place" do
      name = name()
      held = Sandbox.new(fuel: 1, clocks: :real)
      load_numbered!(name, 1, sandbox: held)
      assert {:error, %LimitError{limit: :fuel, allowed: 1}} = number(name)
      assert {:error, %LimitError{allowed: 1}} = Executor.call(name, "number", [], fuel: 1_000)
      {:ok, _} = Runtime.reload(name, numbered(2))

      assert {:error, %LimitError{allowed: 1}} =
               Executor.call(name, "number", [], sandbox: :command)

      # To be held to less is more.
      assert {:error, %LoadError{reason: :widened}} =
               Runtime.reload(name, numbered(3), sandbox: :command)

      assert {:ok, _} =
               Runtime.reload(name, numbered(3),
                 sandbox: Sandbox.new(fuel: 1_000_000),
                 allow: :widen
               )

      assert number(name) == {:ok, 3}
    end

    test "grants what it grants within the manifest" do
      wc = [
        manifest: manifest(~s|[capabilities]\nstdio = "captured"\nclocks = "real"|),
        sandbox: :command
      ]

      module = Runtime.load_module!("priv/wasm/wc.wasm", wc)
      assert {:ok, %{stdout: "0 2 5\n"}} = Executor.run(module, :start, stdin: "to be")
      none = Runtime.load_module!("priv/wasm/wc.wasm", sandbox: :none)
      assert {:error, %{capability: :wasi}} = Executor.run(none, :start, sandbox: :command)

      assert_raise ArgumentError, ~r/option :sandbox must be/, fn ->
        Runtime.load_module(numbered(1), sandbox: 1)
      end

      assert_raise ArgumentError, fn -> Runtime.load_module(numbered(1), sandbox: :no_such) end
    end
  end

  test "a sandbox that a module is held to by its manifest holds for its name", %{name: name} do
    {:ok, _} = Runtime.reload(name, numbered(2), manifest: manifest("[limits]\nfuel = 1"))

    assert {:error, %LimitError{set_by: :manifest}} =
             Executor.call(name, "number", [], sandbox: Sandbox.new(fuel: 1_000))
  end
end
