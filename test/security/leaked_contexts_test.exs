defmodule Cybernetic.WASM.Security.LeakedContextsTest do
  # A host function may give its context to whoever it likes, and keep it for later. It must never reach another call, let
  # alone another guest, and never hold up or crash anyone.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{CallError, Executor, Host, HostError, Instance, LimitError, Memory}

  defp guest do
    asking(~S"""
    (memory (export "memory") 1)
    (global (export "n") (mut i32) (i32.const 7))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "twice") (result i32)
      (i32.add (call $f (i32.const 1)) (call $f (i32.const 2))))
    (func (export "then_spin") (drop (call $f (i32.const 1))) (loop (br 0)))
    (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func (export "spin") (loop (br 0)))
    """)
  end

  # All that can be asked of a context, each of which answers with an error.
  @asks [
    read: quote(do: &Host.read(&1, 0, 1)),
    write: quote(do: &Host.write(&1, 0, "x")),
    size: quote(do: &Host.memory_size/1),
    grow: quote(do: &Memory.grow(&1, 1)),
    get: quote(do: &Host.get_global(&1, "n")),
    set: quote(do: &Host.set_global(&1, "n", 1)),
    call: quote(do: &Host.call(&1, "double", [1])),
    recurse: quote(do: &Host.call(&1, "run", [1])),
    spin: quote(do: &Host.call(&1, "spin"))
  ]

  defp assert_stale(ctx) do
    for {name, ask} <- asks() do
      assert {^name, {:error, %CallError{reason: :stale_context}}} = {name, ask.(ctx)}
    end

    assert_raise CallError, fn -> Host.emit(ctx, "late") end
    assert_raise CallError, fn -> Host.fuel_left(ctx) end
  end

  defp asks, do: unquote(@asks)

  # A context of a call that has timed out in its host function.
  defp overdue(timeout) do
    {test, tag} = {self(), make_ref()}
    late = fn ctx, n -> oversleep(ctx) && send(test, {tag, ctx}) && n end

    assert {:error, %LimitError{limit: :timeout}} =
             Executor.call(guest(), "run", [1], imports: f(late), timeout: timeout)

    receive do: ({^tag, ctx} -> ctx), after: (0 -> nil)
  end

  # A context whose call is over, however that ended.
  defp leaked(result, opts \\ []) do
    Executor.call(guest(), "run", [1], [imports: f(leak(result))] ++ opts)
    assert_received {:leaked, ctx}
    ctx
  end

  defp leak(result) do
    test = self()

    fn ctx, n ->
      send(test, {:leaked, ctx})
      result.(n)
    end
  end

  test "a context is stale after its call, however that ended" do
    assert_stale(leaked(fn n -> n end))
    assert_stale(leaked(fn _ -> :wrong end))
    assert_stale(leaked(fn _ -> raise "no" end))
    assert_stale(leaked(fn _ -> throw(:ball) end))
  end

  test "a context is stale in another process as in its own" do
    ctx = leaked(fn n -> n end)
    elsewhere(fn -> assert_stale(ctx) end)
  end

  test "a context of a call that timed out tells the limit, and throws at nobody" do
    # Outside its host function there is nobody to catch what would leave it.
    ctx = given_time(&overdue/1)

    elsewhere(fn ->
      for {name, ask} <- asks() do
        assert {^name, {:error, %error{}}} = {name, ask.(ctx)}
        assert error in [LimitError, CallError]
      end
    end)
  end

  test "a context of a call whose process was killed answers, too" do
    test = self()
    stuck = fn ctx, _n -> send(test, {:leaked, ctx}) && Process.sleep(:infinity) end
    module = guest()
    caller = spawn(fn -> Executor.call(module, "run", [1], forever(imports: f(stuck))) end)
    assert_receive {:leaked, ctx}
    Process.exit(caller, :kill)
    dead(caller)

    # The context itself keeps the guest; using it is as good or bad as before, and ends.
    for {_name, ask} <- Keyword.drop(asks(), [:spin, :recurse]) do
      assert {how, _} = with(:ok <- ask.(ctx), do: {:ok, :done})
      assert how in [:ok, :error]
    end
  end

  test "a context of one guest never reaches another guest of the same module" do
    ctx = leaked(fn n -> n end)

    look = fn own, n ->
      assert_stale(ctx)
      assert Host.read(own, 0, 1) == {:ok, <<0>>}
      assert Host.get_global(own, "n") == {:ok, 7}
      n
    end

    assert Executor.call(guest(), "run", [3], imports: f(look)) == {:ok, 3}
  end

  test "a context of one call on a live instance is stale in the next" do
    test = self()

    function = fn
      ctx, 1 -> send(test, {:leaked, ctx}) && 1
      ctx, n -> send(test, {:own, ctx}) && receive(do: (:go -> n))
    end

    instance = Instance.new!(guest(), forever(imports: f(function)))
    assert Instance.call(instance, "run", [1]) == {:ok, 1}
    assert_received {:leaked, ctx}
    assert_stale(ctx)

    # Also while another call on the very same guest is in a host call of its own.
    caller = Task.async(fn -> Instance.call(instance, "run", [2]) end)
    assert_receive {:own, _own}
    assert_stale(ctx)
    send(caller.pid, :go)
    assert await(caller) == {:ok, 2}
    assert Instance.get_global(instance, "n") == {:ok, 7}

    :ok = Instance.reset(instance)
    assert_stale(ctx)
    :ok = Instance.close(instance)
    assert_stale(ctx)
  end

  test "a context is stale in a later host call of the same call" do
    test = self()

    function = fn
      ctx, 1 ->
        send(test, {:leaked, ctx})
        1

      _ctx, 2 ->
        assert_received {:leaked, ctx}
        assert_stale(ctx)
        2
    end

    assert Executor.call(guest(), "twice", [], imports: f(function)) == {:ok, 3}
  end

  test "a process that holds a context cannot get at the guest while that runs" do
    test = self()
    function = fn ctx, n -> send(test, {:leaked, ctx}) && n end
    opts = forever(imports: f(function), timeout: 300)

    caller = Task.async(fn -> Executor.call(guest(), "then_spin", [], opts) end)
    assert_receive {:leaked, ctx}

    answers =
      for _ <- 1..50, {_name, ask} <- asks() do
        assert {:error, %error{} = answer} = ask.(ctx)
        assert error in [CallError, LimitError]
        Map.get(answer, :reason) || answer.limit
      end

    assert Enum.all?(answers, &(&1 in [:busy, :stale_context]))
    # Its deadline is its own: those who asked in vain have not moved it.
    assert {:error, %LimitError{limit: :timeout, allowed: 300}} = await(caller)
  end

  test "a process that holds a context is told of the deadline, and not killed by it" do
    # It threw what only the host function's own process catches.
    test = self()

    function = fn ctx, n ->
      holder =
        spawn_link(fn ->
          send(test, {:told, Host.call(ctx, "spin")})
          send(test, {:told, Host.read(ctx, 0, 1)})
          send(test, :alive)
        end)

      dead(holder)
      n
    end

    opts = forever(imports: f(function), timeout: 50)
    assert {:error, %LimitError{limit: :timeout}} = Executor.call(guest(), "run", [1], opts)
    assert_receive {:told, {:error, %LimitError{limit: :timeout}}}
    assert_receive {:told, {:error, %error{}}}
    assert error in [LimitError, CallError]
    assert_receive :alive
  end

  test "a process that holds a context is told of the output's limit, and not killed by it" do
    test = self()

    function = fn ctx, n ->
      task = Task.async(fn -> catch_error(Host.emit(ctx, "0123456789")) end)
      send(test, {:told, await(task)})
      n
    end

    assert {:ok, 1} = Executor.call(guest(), "run", [1], imports: f(function), max_output: 5)

    assert_received {:told, %LimitError{limit: :output, allowed: 5}}
  end

  test "many processes that use one context at once each get an answer of their own" do
    function = fn ctx, n ->
      answers =
        1..20
        |> Enum.map(fn k -> Task.async(fn -> {k, persistently(ctx, k)} end) end)
        |> await()

      assert Enum.all?(answers, fn {k, answer} -> answer == 2 * k end)
      n
    end

    assert Executor.call(guest(), "run", [1], imports: f(function)) == {:ok, 1}
  end

  defp persistently(ctx, k) do
    case Host.call(ctx, "double", [k]) do
      {:ok, answer} ->
        answer

      {:error, %CallError{reason: reason}} when reason in [:busy, :stale_context] ->
        persistently(ctx, k)
    end
  end

  test "a process that is killed while it drives the guest does not hide what the host function returns or raises" do
    # It was in the middle of a slice then, and the caller was told that its own guest was busy.
    for {function, expected} <- [
          {fn n -> n end, {:ok, 1}},
          {fn _n -> raise "mine" end, %RuntimeError{message: "mine"}},
          {fn _n -> exit(:mine) end, :mine}
        ],
        _ <- 1..10 do
      lending = fn ctx, n ->
        {pid, monitor} = spawn_monitor(fn -> Host.call(ctx, "spin") end)
        Process.sleep(5)
        Process.exit(pid, :kill)
        receive do: ({:DOWN, ^monitor, _, _, _} -> function.(n))
      end

      case Executor.call(guest(), "run", [1], forever(imports: f(lending))) do
        {:error, %HostError{reason: reason}} -> assert reason == expected
        # Nobody can return into a guest that was left in the middle of a call.
        {:error, error} -> assert %CallError{reason: :busy} = error
        ok -> assert ok == expected
      end
    end
  end

  test "a context that a stream's host function leaked harms neither the stream nor its reader" do
    function = fn ctx, n ->
      Process.put(:leaked, ctx)
      Host.emit(ctx, "x")
      n
    end

    stream = Executor.stream(guest(), "twice", [], imports: f(function), tagged: true)

    elements =
      for element <- stream do
        # Between two elements the guest is suspended in that host call still.
        case Host.call(Process.get(:leaked), "double", [4]) do
          {:ok, 8} -> :ok
          {:error, %CallError{reason: :stale_context}} -> :ok
        end

        element
      end

    assert [{:output, "x"}, {:output, "x"}, {:done, %{result: 3}}] = elements
    assert_stale(Process.get(:leaked))
  end
end
