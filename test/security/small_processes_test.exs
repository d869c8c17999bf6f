defmodule Cybernetic.WASM.Security.SmallProcessesTest do
  # A process with a heap of a kilobyte that is collected in full each time moves its terms at every opportunity: what the
  # native side keeps of a caller's terms beyond a call shows here.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Eventually, Guests, Plenty}

  alias Cybernetic.WASM.{Executor, Host, HostError, Instance, LimitError, Memory, Run}

  defp small(function) do
    test = self()

    {pid, monitor} =
      :erlang.spawn_opt(
        fn -> send(test, {:result, self(), function.()}) end,
        [:monitor, min_heap_size: 128, min_bin_vheap_size: 1, fullsweep_after: 0]
      )

    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    assert_received {:result, ^pid, result}
    result
  end

  defp guest do
    asking(~S"""
    (import "env" "term" (func $term (param externref) (result externref)))
    (memory (export "memory") 32)
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "term") (param externref) (result externref)
      (call $term (call $term (local.get 0))))
    (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func (export "many") (param i64 i64 i64 i64 i64 i64 i64 i64) (result i64 i64 i64 i64 i64 i64 i64 i64)
      (local.get 7) (local.get 6) (local.get 5) (local.get 4)
      (local.get 3) (local.get 2) (local.get 1) (local.get 0))
    (func (export "loop") (param i32) (result i32) (local i32)
      (loop $l
        (local.set 1 (i32.add (local.get 1) (call $f (local.get 0))))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (local.get 1))
    """)
  end

  defp imports(function),
    do: %{"env" => %{"f" => function, "term" => fn _ctx, term -> collect() && term end}}

  defp collect, do: :erlang.garbage_collect()

  # Fills the heap and lets go of it again.
  defp churn(n), do: 1..n |> Enum.map(&{&1, make_ref()}) |> length()

  test "calls" do
    module = guest()
    big = for n <- 1..8, do: 0x7000_0000_0000_0000 + n

    assert small(fn ->
             for _ <- 1..200 do
               opts = [imports: imports(fn _ctx, n -> n end)]
               {:ok, reversed} = Executor.call(module, "many", big, opts)
               collect()
               reversed == Enum.reverse(big)
             end
             |> Enum.all?()
           end)
  end

  test "terms that a guest holds over host calls" do
    module = guest()

    assert small(fn ->
             term = %{
               text: String.duplicate("x", 100),
               list: Enum.to_list(1..100),
               fun: &collect/0
             }

             opts = [imports: imports(fn _ctx, n -> n end)]
             {:ok, same} = Executor.call(module, "term", [term], opts)
             same == term
           end)
  end

  test "host calls that fill the heap, re-enter and copy memory" do
    module = guest()

    function = fn ctx, n ->
      churn(500)
      bytes = :rand.bytes(100_000)
      :ok = Host.write(ctx, 0, bytes)
      collect()
      {:ok, ^bytes} = Host.read(ctx, 0, 100_000)
      {:ok, double} = Host.call(ctx, "double", [n])
      Host.emit(ctx, "#{double},")
      churn(500)
      double
    end

    assert {:ok, %Run{result: 420, output: output}} =
             small(fn -> Executor.run(module, "loop", [20], imports: imports(function)) end)

    assert output |> String.split(",", trim: true) |> length() == 20
  end

  test "re-entrance to some depth" do
    module = guest()

    function = fn
      _ctx, 0 ->
        collect()
        0

      ctx, n ->
        churn(50)
        {:ok, deeper} = Host.call(ctx, "run", [n - 1])
        collect()
        deeper + 1
    end

    assert small(fn -> Executor.call(module, "run", [150], imports: imports(function)) end) ==
             {:ok, 150}
  end

  test "host functions that raise, with a stack that is kept" do
    module = guest()
    function = fn _ctx, n -> churn(500) && raise("no #{n}") end

    assert {:error, %HostError{reason: %RuntimeError{message: "no 1"}, stacktrace: [_ | _]}} =
             small(fn ->
               result = Executor.call(module, "run", [1], imports: imports(function))
               collect()
               result
             end)
  end

  test "streams" do
    module = guest()
    function = fn ctx, n -> churn(100) && Host.emit(ctx, String.duplicate("x", n)) && n end

    sizes =
      small(fn ->
        module
        |> Executor.stream("loop", [100], imports: imports(function))
        |> Enum.map(fn piece -> collect() && byte_size(piece) end)
      end)

    assert sizes == Enum.to_list(100..1)

    assert small(fn ->
             module
             |> Executor.stream("loop", [100], imports: imports(function))
             |> Enum.take(3)
             |> Enum.map(&byte_size/1)
           end) == [100, 99, 98]
  end

  test "asynchronous calls and host functions" do
    module = guest()
    function = {fn _ctx, n -> Task.async(fn -> churn(500) && n + 1 end) end, async: true}

    assert small(fn ->
             asyncs =
               for n <- 1..20 do
                 Executor.async(module, "run", [n], imports: imports(function))
               end

             collect()
             Enum.map(asyncs, &Executor.await/1)
           end) == for(n <- 1..20, do: {:ok, n + 1})
  end

  test "live instances, whose handle is all that is left of them" do
    module = guest()

    assert small(fn ->
             instance = Instance.new!(module, imports: imports(fn _ctx, n -> churn(100) && n end))

             for n <- 1..50 do
               :ok = Memory.write(instance, n, :rand.bytes(70_000))
               {:ok, <<_::binary-70_000>>} = Memory.read(instance, n, 70_000)
               collect()
               {:ok, ^n} = Instance.call(instance, "run", [n])
             end
             |> length()
           end) == 50
  end

  test "one that outgrows its own heap's limit is killed, and its guest with it" do
    module = guest()
    test = self()

    function = fn _ctx, n ->
      send(test, :inside)
      Enum.to_list(1..1_000_000)
      n
    end

    {pid, monitor} =
      :erlang.spawn_opt(
        fn -> Executor.call(module, "run", [1], imports: imports(function)) end,
        [:monitor, max_heap_size: %{size: 50_000, kill: true, error_logger: false}]
      )

    assert_receive :inside
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}

    # Of a live instance it is seen.
    instance = Instance.new!(module, imports: imports(function))

    {pid, monitor} =
      :erlang.spawn_opt(
        fn -> Instance.call(instance, "run", [1]) end,
        [:monitor, max_heap_size: %{size: 50_000, kill: true, error_logger: false}]
      )

    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
    eventually(fn -> Instance.poisoned?(instance) end)
  end

  test "limits strike there as elsewhere" do
    module = compute()

    assert [
             {:error, %LimitError{limit: :fuel}},
             {:error, %LimitError{limit: :timeout}},
             {:error, %LimitError{limit: :stack}}
           ] =
             small(fn ->
               [
                 Executor.call(module, "spin", [], fuel: 10_000_000),
                 Executor.call(module, "spin", [], forever(timeout: 30)),
                 Executor.call(module, "recurse")
               ]
             end)
  end
end
