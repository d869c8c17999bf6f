defmodule Cybernetic.WASM.Security.ClumsyCallersTest do
  # Host code gives what guests cannot: terms of any size, and contexts to whoever it likes. Names, arguments and tuples
  # of hundreds of megabytes held a normal scheduler for up to a second, until they were looked at no longer than needed.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, LimitError}

  setup_all do
    module =
      load!(~S"""
      (module
        (import "host" "f" (func $f (result i32)))
        (memory (export "memory") 1)
        (func (export "run") (result i32) (call $f))
        (func (export "work") (param $rounds i32) (result i32)
          (loop $again
            (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
            (br_if $again (local.get $rounds)))
          (i32.const 5)))
      """)

    {:ok, module: module}
  end

  defp run(module, function, opts \\ []) do
    Executor.call(module, "run", [], [imports: %{"host" => %{"f" => function}}] ++ opts)
  end

  test "a context of a call that timed out does not end another call", %{module: module} do
    # The throw that leaves a host function whose call is over did not say which call that was.
    keep = fn context ->
      oversleep(context)
      Process.put(:kept, context)
      1
    end

    given_time(fn timeout ->
      assert {:error, %LimitError{limit: :timeout}} = run(module, keep, timeout: timeout)
      Process.get(:kept)
    end)

    use_it = fn _context ->
      Host.read(Process.get(:kept), 0, 1)
      1
    end

    assert {:error, %HostError{kind: :error, reason: %LimitError{limit: :timeout}}} =
             run(module, use_it)

    assert {:ok, 1} = run(module, fn _context -> 1 end)
  end

  test "a context that two processes use answers each with its own", %{module: module} do
    # A command that came while a re-entrant call was under way was answered in its place: the call gave four bytes.
    function = fn context ->
      test = self()

      other =
        spawn_link(fn ->
          send(test, :ready)
          Enum.each(Stream.cycle([1]), fn _ -> send(test, {:read, read(context)}) end)
        end)

      assert_receive :ready
      for _ <- 1..20, do: call(context)
      stop(other)
      1
    end

    assert {:ok, 1} = run(module, function)
    assert Enum.all?(reads(), &(&1 in [{:ok, <<0, 0, 0, 0>>}, :busy]))
  end

  defp stop(process) do
    monitor = Process.monitor(process)
    Process.unlink(process)
    Process.exit(process, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^process, :killed}
  end

  defp read(context) do
    with {:error, %CallError{reason: :busy}} <- Host.read(context, 0, 4), do: :busy
  end

  # Either may find the other in the middle of a step.
  defp call(context) do
    case Host.call(context, "work", [300_000]) do
      {:ok, 5} -> :ok
      {:error, %CallError{reason: :busy}} -> call(context)
    end
  end

  defp reads do
    receive do
      {:read, answer} -> [answer | reads()]
    after
      0 -> []
    end
  end

  test "names longer than any are refused unread", %{module: module} do
    long = String.duplicate("a", 1_000_000)

    for name <- [long, <<255, long::binary>>] do
      assert {:error, %CallError{reason: :no_such_export, export: shown}} =
               Executor.call(module, name, [], imports: %{"host" => %{"f" => & &1}})

      assert String.length(shown) <= 201

      use_it = fn context ->
        assert {:error, %CallError{reason: :no_memory} = error} =
                 Host.read(context, 0, 1, memory: name)

        assert byte_size(error.export) < 10_000
        assert {:error, %CallError{reason: :no_such_export}} = Host.call(context, name)
        1
      end

      assert {:ok, 1} = run(module, use_it)
    end
  end

  test "a list of arguments longer than any is counted and no more", %{module: module} do
    imports = %{"host" => %{"f" => fn _context -> 1 end}}

    assert {:error, %CallError{reason: :arity, given: 1_000_000}} =
             Executor.call(module, "work", Enum.to_list(1..1_000_000), imports: imports)
  end
end
