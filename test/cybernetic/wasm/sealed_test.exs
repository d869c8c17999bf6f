defmodule Cybernetic.WASM.SealedTest do
  # Crash reports, and whatever else prints with Erlang's `~p`, know nothing of `Inspect`: they wrote a handle's whole plan on
  # eighty lines, with what the host had put there.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Cybernetic.WASM.{Eventually, Guests}

  alias Cybernetic.WASM.{Executor, Instance, Runtime, Sandbox, Sealed}

  @secret "hunter2"
  @most_lines 30

  defp printed(term),
    do: for(format <- ["~p", "~tp", "~w"], do: format |> :io_lib.format([term]) |> to_string())

  defp assert_closed(term) do
    for text <- printed(term) do
      refute text =~ @secret
      # As a list of bytes, which is how `~w` writes a binary.
      refute text =~ @secret |> String.to_charlist() |> Enum.join(",")
      refute text =~ "max_host_calls"
      assert text |> String.split("\n") |> length() <= @most_lines, text
    end
  end

  defp sandbox, do: Sandbox.new(clocks: :real, env: [{"TOKEN", @secret}])

  defp reporting, do: asking(~S|(func (export "run") (result i32) (call $f (i32.const 1)))|)

  test "what is sealed is given back, and nothing that prints looks into it" do
    assert {:a, @secret} |> Sealed.seal() |> Sealed.open() == {:a, @secret}
    assert_closed(Sealed.seal(@secret))
  end

  test "a module shows nothing of its plan, nor its imports", %{test: test} do
    assert_closed(compute())
    imports = for n <- 1..200, do: ~s|(import "env" "f#{n}" (func (param i32)))|
    assert_closed(load!("(module #{imports})"))
    folder = Path.join(System.tmp_dir!(), "#{:erlang.phash2(test)}_#{System.pid()}")
    on_exit(fn -> File.rm_rf!(folder) end)
    File.mkdir_p!(folder)
    File.cp!("priv/wasm/compute.wasm", Path.join(folder, "m.wasm"))
    File.write!(Path.join(folder, "module.toml"), "[limits]\nfuel = 1000\n")
    held = Runtime.load_module!(Path.join(folder, "m.wasm"), manifest: true)
    assert_closed(%{held | manifest: nil})
  end

  test "an instance shows neither its data nor its environment" do
    imports = f(fn _ctx, n -> n end)
    data = %{token: @secret}

    instance = Instance.new!(reporting(), imports: imports, data: data, sandbox: Sandbox.new([]))
    assert_closed(instance)

    tool = Runtime.load_module!("test/fixtures/wasi/reactor.wasm")
    snapshottable = Instance.new!(tool, sandbox: sandbox(), env: %{"TOKEN" => @secret})
    assert_closed(snapshottable)
    assert_closed({:ok, [snapshottable]})
  end

  test "a context shows neither plan nor data, and gives them" do
    test = self()

    imports =
      f(fn ctx, n ->
        send(test, {:context, ctx, Cybernetic.WASM.Host.data(ctx)})
        n
      end)

    assert Executor.call(reporting(), "run", [], imports: imports, data: @secret) == {:ok, 1}
    assert_receive {:context, context, @secret}
    assert_closed(context)
  end

  test "a call under way shows nothing" do
    call = Executor.async(compute(), "process", [1], data: @secret, sandbox: sandbox())
    assert_closed(call)
    assert Executor.await(call) == {:ok, 2}
  end

  test "the crash of a process that holds all of them tells none of it" do
    instance = Instance.new!(reporting(), imports: f(fn _, n -> n end), data: @secret)

    log =
      capture_log(fn ->
        {:ok, agent} = Agent.start(fn -> {instance, compute()} end)
        catch_exit(Agent.get(agent, fn _held -> exit(:crash) end))
        dead(agent)
      end)

    assert log =~ "crash"
    refute log =~ @secret
    refute log =~ "max_host_calls"
  end
end
