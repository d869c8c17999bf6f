defmodule Cybernetic.WASM.Runtime.RegistryTest do
  # Names under pressure: calls while they change, changes at once, and the process that makes them killed.
  use ExUnit.Case

  import Cybernetic.WASM.{Eventually, Guests, Named}

  alias Cybernetic.WASM.{Executor, FreshNode, Instance, Runtime}
  alias Cybernetic.WASM.Runtime.{Names, Registry}

  # Its `pair` gives its number, as does what its host function `check` asks of it meanwhile.
  defp source(number) do
    {:bytes,
     ~s"""
     (module (import "env" "check" (func $check (param i32)))
       (func (export "number") (result i32) i32.const #{number})
       (func (export "pair") (result i32) (call $check (i32.const #{number})) (i32.const #{number})))
     """}
  end

  # Calls until it is told to stop; how many calls there were, and those that went wrong.
  defp caller(call) do
    Task.async(fn ->
      receive do: (:begin -> :ok)
      call_on(call, 0, [])
    end)
  end

  defp call_on(call, count, wrong) do
    got = call.()
    wrong = if got == :right, do: wrong, else: [got | wrong]

    # All processors busy with calls would leave none to the reloads.
    receive do
      :stop -> {count + 1, wrong}
    after
      2 -> call_on(call, count + 1, wrong)
    end
  end

  defp while_calling(calls, work) do
    callers = Enum.map(calls, &caller/1)
    for caller <- callers, do: send(caller.pid, :begin)
    work.()
    for caller <- callers, do: send(caller.pid, :stop)

    callers
    |> await()
    |> Enum.reduce({0, []}, fn {count, wrong}, {sum, all} -> {sum + count, wrong ++ all} end)
  end

  defp kill_registry do
    pid = Process.whereis(Registry)
    Process.exit(pid, :kill)
    dead(pid)
    eventually(fn -> Process.whereis(Registry) end)
  end

  defp kept, do: for({{Names, serial}, _module} <- :persistent_term.get(), do: serial)

  test "50 processes call while 1,000 reloads and rollbacks happen: no call is lost, and none sees two versions" do
    name = name()
    {:ok, _} = Runtime.load_module(source(0), name: name)
    lib = name("lib")
    load_numbered!(lib, 0, version: "1.0.0")

    # Twice from one library: both are of one version.
    linking =
      load!(~S"""
      (module
        (import "a" "number" (func $a (result i32)))
        (import "b" "number" (func $b (result i32)))
        (func (export "same") (result i32) (i32.eq (call $a) (call $b))))
      """)

    check = fn ctx, number -> {:ok, ^number} = Cybernetic.WASM.Host.call(ctx, "number") end
    check = fn ctx, number -> check.(ctx, number) && nil end
    imports = %{"env" => %{"check" => check}}

    pair = fn ->
      case Executor.call(name, "pair", [], imports: imports) do
        {:ok, number} when number in 0..500 -> :right
        other -> other
      end
    end

    of_instance = fn ->
      with {:ok, instance} <- Instance.new(name, imports: imports),
           {:ok, one} <- Instance.call(instance, "pair"),
           {:ok, ^one} <- Instance.call(instance, "number"),
           do: :right
    end

    linked = fn ->
      links = %{"a" => lib, "b" => {:name, lib}}
      with {:ok, 1} <- Executor.call(linking, "same", [], imports: links), do: :right
    end

    calls = for n <- 1..50, do: Enum.at([pair, pair, pair, of_instance, linked], rem(n, 5))

    {count, wrong} =
      while_calling(calls, fn ->
        for n <- 1..500 do
          {:ok, _} = Runtime.reload(name, source(n), keep: rem(n, 3), version: "2.0.#{n}")

          load_numbered!(lib, rem(n, 7), version: "1.#{n}.0")
          Runtime.unload("#{lib}@1.#{n - 1}.0")

          if rem(n, 3) == 0,
            do: Runtime.rollback(name, why: "test"),
            else: Runtime.promote(name, "2.0.#{n}")
        end
      end)

    assert wrong == []
    assert count >= 50
  end

  test "two reloads at once come one after the other" do
    name = name()
    load_numbered!(name, 0, version: "1.0.0")

    tasks = for n <- 1..20, do: Task.async(fn -> Runtime.reload(name, numbered(n), keep: 100) end)
    modules = for {:ok, module} <- await(tasks), do: module
    assert length(modules) == 20

    assert modules |> Enum.map(& &1.version) |> Enum.sort(Version) ==
             for(n <- 1..20, do: "1.0.#{n}")

    # Each is in the place of the one before it.
    changes = Enum.filter(Runtime.changes(name), &(&1.action == :reloaded))

    assert Enum.map(changes, &{&1.from, &1.to}) ==
             for(n <- 20..1, do: {"1.0.#{n - 1}", "1.0.#{n}"})

    assert Executor.call(name, "number") == Executor.call(name <> "@1.0.20", "number")
  end

  test "loads of one version at once are of one module" do
    name = name()
    load = fn -> Runtime.load_module!(numbered(1), name: name, version: "1.0.0") end
    modules = await(for _ <- 1..20, do: Task.async(load))
    assert modules |> Enum.uniq_by(& &1.uses) |> length() == 1
    assert [%{loads: 20}] = for(%{name: ^name} = row <- Runtime.modules(), do: row)
  end

  test "calls that run while their name goes end well" do
    name = name()
    {:ok, _} = Runtime.load_module(source(7), name: name)
    test = self()

    check = fn _ctx, _number ->
      send(test, {:inside, self()})
      receive do: (:go_on -> nil)
    end

    call =
      Task.async(fn ->
        Executor.call(name, "pair", [], imports: %{"env" => %{"check" => check}})
      end)

    assert_receive {:inside, pid}
    :ok = Runtime.unload(name)
    Runtime.clear_cache()
    send(pid, :go_on)
    assert await(call) == {:ok, 7}
  end

  test "the process may be killed: calls go on, and what was in force stays" do
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    load_numbered!(name, 2, version: "2.0.0")
    :ok = Runtime.split(name, %{"1.0.0" => 1, "2.0.0" => 1})
    :ok = Runtime.subscribe(name)

    call = fn -> if match?({:ok, n} when n in 1..2, Executor.call(name, "number")), do: :right end
    {_count, wrong} = while_calling([call, call], fn -> kill_registry() end)
    assert wrong == []

    assert [%{share: 50.0}, %{share: 50.0}] =
             for(%{name: ^name} = row <- Runtime.modules(), do: row)

    assert [%{action: :split}, _, _] = Runtime.changes(name)
    {:ok, _} = Runtime.rollback(name)
    assert_receive {:wasm_module, %{action: :rolled_back, to: "1.0.0"}}
  end

  test "a version that was to go goes all the same when the process was killed meanwhile" do
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    {:ok, _} = Runtime.reload(name, numbered(2), drain: 200)
    kill_registry()
    eventually(fn -> match?([_one], for(%{name: ^name} = row <- Runtime.modules(), do: row)) end)
  end

  test "what a killed process left halfway is cleared away" do
    module = load!("(module)")
    serial = Registry.serial()
    # Kept, and not yet written.
    Names.keep(serial, module)
    # Written, and its name forgotten.
    forgotten = Registry.serial()
    Names.keep(forgotten, module)

    Names.write([
      {forgotten, %{serial: forgotten, name: "gone", version: "1.0.0", drop_at: nil}},
      {"gone@1.0.0", forgotten}
    ])

    kill_registry()
    eventually(fn -> serial not in kept() and forgotten not in kept() end)
    assert {:error, %{reason: :no_such_name}} = Executor.call("gone@1.0.0", "f")
    assert Names.entry(forgotten) == nil
  end

  test "who waits for the process when it is killed is answered by the next" do
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    :ok = :sys.suspend(Registry)

    waiting =
      for n <- 2..6, do: Task.async(fn -> Runtime.reload(name, numbered(n), keep: 100) end)

    pid = Process.whereis(Registry)
    eventually(fn -> Process.info(pid, :message_queue_len) == {:message_queue_len, 5} end)
    kill_registry()
    versions = for {:ok, module} <- await(waiting), do: module.version
    assert Enum.sort(versions) == for(n <- 1..5, do: "1.0.#{n}")
  end

  test "nothing is left of versions that went" do
    before = kept()
    name = name()
    load_numbered!(name, 0)
    for n <- 1..50, do: {:ok, _} = Runtime.reload(name, numbered(n), keep: 0)
    :ok = Runtime.unload(name)
    assert kept() -- before == []
    rows = for row <- :ets.tab2list(Names), inspect(elem(row, 0)) =~ name, do: row
    assert rows == []
  end

  test "no more than the latest thousand changes are kept" do
    name = name()
    load_numbered!(name, 1, version: "1.0.0")
    load_numbered!(name, 2, version: "2.0.0")

    for _ <- 1..510 do
      {:ok, _} = Runtime.promote(name, "1.0.0")
      {:ok, _} = Runtime.promote(name, "2.0.0")
    end

    assert length(Runtime.changes(:all)) == 1_000
    assert [%{to: "2.0.0"}, %{to: "1.0.0"} | _] = Runtime.changes(name)
  end

  test "where all names are let go of, nothing leads to a module that is gone" do
    code = ~S"""
    alias Cybernetic.WASM.Runtime.Names
    {:ok, _} = Runtime.load_module({:bytes, "(module (func (export \"f\")))"}, name: "acme/f", version: "1.0.0")
    :ok = Names.clear()
    # With a row left a call would look for its module without end.
    [] = :ets.tab2list(Names)
    for name <- ["acme/f", "acme/f@1.0.0"], do: elem(Executor.call(name, "f"), 1).reason
    """

    assert FreshNode.eval([], code) == [:no_such_name, :no_such_name]
  end
end
