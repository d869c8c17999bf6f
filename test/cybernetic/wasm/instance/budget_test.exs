defmodule Cybernetic.WASM.Instance.BudgetTest do
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{
    CallError,
    Error,
    Executor,
    Host,
    Instance,
    LimitError,
    Memory,
    Usage
  }

  # `work n` counts down from n; `ask` calls the host.
  defp guest do
    asking(~S"""
    (memory (export "memory") 1)
    (func $work (export "work") (param i32)
      (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "ask") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "spin") (loop (br 0)))
    """)
  end

  @imports %{"env" => %{"f" => &__MODULE__.same/2}}

  def same(_ctx, n), do: n

  defp made(opts), do: Instance.new!(guest(), [imports: @imports, budget: true] ++ opts)

  defp until_over(instance, name, args) do
    Enum.find_value(1..10_000, fn _ ->
      case Instance.call(instance, name, args) do
        {:ok, _} -> nil
        {:error, error} -> error
      end
    end)
  end

  describe "a budget" do
    test "of fuel is for all calls together" do
      instance = made(fuel: 100_000)
      assert %LimitError{limit: :fuel, allowed: 100_000} = until_over(instance, "work", [500])
      assert %Usage{fuel: 100_000} = Instance.usage(instance)

      without = Instance.new!(guest(), imports: @imports, fuel: 100_000)
      for _ <- 1..100, do: assert({:ok, nil} = Instance.call(without, "work", [500]))
      assert Instance.usage(without).fuel > 100_000
    end

    test "of host calls and output is for all calls together" do
      emit = fn ctx, n -> Host.emit(ctx, String.duplicate("x", n)) && n end
      instance = made(max_host_calls: 10)
      assert %LimitError{limit: :host_calls, allowed: 10} = until_over(instance, "ask", [1])
      assert Instance.usage(instance).host_calls == 10

      instance = made(max_output: 100, imports: f(emit))
      assert %LimitError{limit: :output, allowed: 100} = until_over(instance, "ask", [30])
    end

    test "of time runs from the making, for accesses too" do
      instance = made(timeout: 1)
      Process.sleep(2)
      over = {:error, :timeout, 1}
      told = fn {:error, %LimitError{limit: limit, allowed: ms}} -> {:error, limit, ms} end

      assert told.(Instance.call(instance, "work", [1])) == over
      assert told.(Memory.read(instance, 0, 1)) == over
      assert told.(Memory.write(instance, 0, "x")) == over
      assert told.(Memory.size(instance)) == over
      assert told.(Memory.grow(instance, 1)) == over
      assert told.(Instance.reset(instance)) == over
    end

    test "is drawn on by whoever calls" do
      instance = made(fuel: 1_000_000)

      1..20
      |> Task.async_stream(fn _ -> Instance.call(instance, "work", [1_000], wait: 60_000) end)
      |> Enum.each(&assert {:ok, {:ok, nil}} = &1)

      used = Instance.usage(instance).fuel
      assert used in 80_000..1_000_000
      assert {:ok, nil} = instance |> Executor.async("work", [1_000]) |> Executor.await()
      assert [] = instance |> Executor.stream("work", [1_000]) |> Enum.to_list()
      assert Instance.usage(instance).fuel > used
    end

    test "is drawn on by resets, which begin no new one" do
      counting =
        load!(~S"""
        (module
          (func $begin (local i32) (local.set 0 (i32.const 1000))
            (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
          (start $begin)
          (func (export "nothing")))
        """)

      instance = Instance.new!(counting, budget: true, fuel: 50_000)

      error =
        Enum.find_value(1..100, fn _ ->
          with :ok <- Instance.reset(instance), do: nil, else: ({:error, error} -> error)
        end)

      assert %LimitError{limit: :fuel, allowed: 50_000} = error
    end

    test "is narrowed by a call for itself" do
      instance = made(fuel: 100_000)
      spun = Instance.call(instance, "spin", [], fuel: 1_000)
      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} = spun
      assert Instance.usage(instance).fuel in 1_000..2_000
    end

    test "is one for linked instances" do
      lib = load!(~S|(module (func (export "f") (param i32) (result i32) (local.get 0)))|)

      {:ok, instance} =
        Instance.new(guest(), imports: %{"env" => lib}, budget: true, fuel: 30_000)

      assert %LimitError{limit: :fuel, allowed: 30_000} = until_over(instance, "work", [500])

      live = Instance.new!(lib)

      assert_raise ArgumentError, ~r/draws on that one's budget/, fn ->
        Instance.new(guest(), imports: %{"env" => live}, budget: true)
      end
    end

    test "of a fork is its own" do
      plain = load!(~S|(module (func (export "spin") (loop (br 0))))|)
      instance = Instance.new!(plain, snapshottable: true, budget: true, fuel: 10_000)
      {:ok, fork} = Instance.fork(instance)
      for one <- [instance, fork], do: assert({:error, _} = Instance.call(one, "spin"))
      assert Instance.usage(fork).fuel == 10_000
    end

    @tag :capture_log
    test "of a server's instance ends the server, whose supervisor begins a new one" do
      opts = [module: guest(), imports: @imports, budget: true, fuel: 50_000, id: :ignored]
      name = :"budget #{System.unique_integer([:positive])}"
      opts = opts |> Keyword.delete(:id) |> Keyword.put(:name, name)
      server = start_supervised!({Instance, opts})
      ref = Process.monitor(server)
      assert %LimitError{limit: :fuel} = until_over(name, "work", [1_000])
      assert_receive {:DOWN, ^ref, _, _, %LimitError{limit: :fuel}}, 60_000
      eventually(fn -> is_pid(Process.whereis(name)) and Process.whereis(name) != server end)
      assert {:ok, nil} = Instance.call(name, "work", [1_000])
      assert Instance.usage(name).fuel in 1_000..50_000
    end
  end

  describe "with_instance/3" do
    test "needs a function of one argument" do
      for other <- [fn -> :ok end, fn _, _ -> :ok end, [], nil] do
        assert_raise ArgumentError, ~r/a function of one argument is needed/, fn ->
          Executor.with_instance(guest(), [imports: @imports], other)
        end
      end
    end

    test "gives what the function returned, and closes the instance" do
      test = self()

      work = fn instance ->
        send(test, instance)
        {Instance.call!(instance, "ask", [1]), Instance.call!(instance, "ask", [2])}
      end

      assert Executor.with_instance(guest(), [imports: @imports], work) == {:ok, {1, 2}}
      assert_receive instance
      assert {:error, %CallError{reason: :closed}} = Instance.call(instance, "ask", [1])
      assert %Usage{host_calls: 2, wall_time: wall} = Instance.usage(instance)
      assert Instance.usage(instance).wall_time == wall
    end

    test "gives the error of making it" do
      start = load!(~S|(module (func $s (loop (br 0))) (start $s))|)
      never = fn _instance -> flunk("there is none") end
      made = Executor.with_instance(start, [fuel: 1_000], never)
      assert {:error, %LimitError{limit: :fuel, allowed: 1_000}} = made
      assert {:error, %Cybernetic.WASM.LinkError{}} = Executor.with_instance(guest(), never)
    end

    test "has one budget" do
      Executor.with_instance(guest(), [imports: @imports, fuel: 50_000], fn instance ->
        assert %LimitError{limit: :fuel, allowed: 50_000} = until_over(instance, "work", [500])
      end)
    end

    test "closes the instance however the function is left" do
      test = self()

      for leave <- [fn -> raise "left" end, fn -> throw(:left) end, fn -> exit(:left) end] do
        try do
          Executor.with_instance(guest(), [imports: @imports], fn instance ->
            send(test, {:made, instance})
            leave.()
          end)

          flunk("it was left")
        rescue
          error in RuntimeError -> assert error.message == "left"
        catch
          kind, :left -> assert kind in [:throw, :exit]
        end

        assert_receive {:made, instance}
        assert {:error, %CallError{reason: :closed}} = Instance.call(instance, "ask", [1])
      end
    end

    test "closes the instance when its process is killed, though others have the handle" do
      test = self()

      worker =
        spawn(fn ->
          Executor.with_instance(guest(), [imports: @imports], fn instance ->
            send(test, {:made, instance})
            Process.sleep(:infinity)
          end)
        end)

      assert_receive {:made, instance}, 60_000
      assert {:ok, 5} = Instance.call(instance, "ask", [5])
      Process.exit(worker, :kill)

      eventually(fn ->
        match?({:error, %CallError{reason: :closed}}, Instance.call(instance, "ask", [1]))
      end)
    end

    test "ends another process's call that is under way" do
      test = self()

      call =
        Executor.with_instance(guest(), [imports: f(&waiting(test, &1, &2))], fn instance ->
          call = Task.async(fn -> Instance.call(instance, "ask", [1]) end)
          assert_receive {:asked, pid}, 60_000
          {call, pid}
        end)

      assert {:ok, {call, pid}} = call
      send(pid, :go_on)
      assert {:error, %CallError{reason: :closed}} = Task.await(call, 60_000)
    end

    test "may be nested, each with a budget of its own" do
      sum =
        Executor.with_instance(guest(), [imports: @imports], fn outer ->
          {:ok, inner} =
            Executor.with_instance(guest(), [imports: @imports], &Instance.call!(&1, "ask", [2]))

          inner + Instance.call!(outer, "ask", [1])
        end)

      assert sum == {:ok, 3}
    end

    test "refuses what is no option" do
      assert_raise ArgumentError, ~r/unknown instance option :fule.*did you mean :fuel/, fn ->
        Executor.with_instance(guest(), [fule: 1], & &1)
      end

      assert_raise ArgumentError, fn -> Executor.with_instance(guest(), :no_list, & &1) end
      assert Error.transient?(%LimitError{limit: :fuel, blame: :guest}) == false
    end
  end

  defp waiting(test, _ctx, n) do
    send(test, {:asked, self()})
    receive do: (:go_on -> n)
  end
end
