defmodule Cybernetic.WASM.ElsewhereTest do
  # Handles that were taken to where they are good for nothing: each function answered `badarg`, without a word.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Guests, Turns}

  alias Cybernetic.WASM.{Executor, FreshNode, Host, Instance, Memory, Module, Runtime, Sandbox}

  # A term of this node as one of another has it: references and pids begin with their node's name, in one of two forms.
  defp abroad(term) do
    own = Atom.to_string(node())
    other = "far@away.example"
    size = byte_size(own)
    short = <<119, size>> <> own
    long = <<100, size::16>> <> own

    term
    |> :erlang.term_to_binary()
    |> :binary.replace([short, long], <<119, byte_size(other)>> <> other)
    |> :erlang.binary_to_term()
  end

  defp with_ref(handle, ref), do: %{handle | ref: ref}

  defp refusal(function) do
    ExUnit.CaptureLog.with_log(fn ->
      assert_raise(ArgumentError, function)
    end)
    |> elem(0)
    |> Exception.message()
  end

  defp of_module(module) do
    [
      fn -> Executor.call(module, "process", [1]) end,
      fn -> Executor.call(module, "process", [1], scheduling: :dirty) end,
      fn -> Executor.run(module, "process", [1], timeout: 1_000) end,
      fn -> Executor.async(module, "process", [1]) end,
      fn -> Executor.async_nolink(module, "process", [1]) end,
      fn -> Executor.async_stream(module, "process", [[1]]) end,
      fn -> Executor.stream(module, "process", [1]) end,
      fn -> Executor.stream(module, "process", [1], into: self()) end,
      fn -> Instance.new(module) end,
      fn -> Instance.new(module, snapshottable: true) end,
      fn -> Instance.new(module, store: live()) end,
      fn -> Runtime.preinit(module, "process", [1]) end,
      fn -> Sandbox.check(module, :command) end,
      fn -> Module.exports(module) end,
      fn -> Module.imports(module) end,
      fn -> Module.custom_sections(module) end,
      fn -> Module.code_size(module) end
    ]
  end

  defp of_instance(instance) do
    [
      fn -> Instance.call(instance, "next") end,
      fn -> Instance.run(instance, "next") end,
      fn -> Executor.async(instance, "next") end,
      fn -> Executor.stream(instance, "next") end,
      fn -> Instance.reset(instance) end,
      fn -> Instance.poisoned?(instance) end,
      fn -> Instance.close(instance) end,
      fn -> Instance.get_global(instance, "n") end,
      fn -> Instance.set_global(instance, "n", 1) end,
      fn -> Instance.snapshot(instance) end,
      fn -> Instance.fork(instance) end,
      fn -> Memory.size(instance) end,
      fn -> Memory.read(instance, 0, 1) end,
      fn -> Memory.read(instance, 0, 300_000) end,
      fn -> Memory.write(instance, 0, "x") end,
      fn -> Memory.grow(instance, 1) end,
      fn -> Instance.new(compute(), store: instance) end
    ]
  end

  test "a module of another node says which, and what to do" do
    module = compute()

    for call <- of_module(with_ref(module, abroad(module.ref))) do
      message = refusal(call)
      assert message =~ "a module is only good in the VM that loaded it"
      assert message =~ "of the node far@away.example"
      assert message =~ "load it here as well"
    end
  end

  test "an instance of another node, too" do
    instance = live()

    for call <- of_instance(with_ref(instance, abroad(instance.ref))) do
      message = refusal(call)
      assert message =~ "an instance is only good in the VM that made it"
      assert message =~ "of the node far@away.example"
      assert message =~ "call it there, with :erpc.call/4"
    end
  end

  test "what a module is to be linked with is told from where it is, too" do
    linked = load!(~S|(module (import "lib" "memory" (memory 1)) (func (export "run")))|)
    [module, instance] = [counter(), live()]

    for foreign <- [
          with_ref(module, abroad(module.ref)),
          with_ref(instance, abroad(instance.ref))
        ],
        imports = %{"lib" => foreign, "env" => echo()["env"]},
        call <- [
          fn -> Executor.call(linked, "run", [], imports: imports) end,
          fn -> Executor.async(linked, "run", [], imports: imports) end,
          fn -> Executor.async_stream(linked, "run", [[]], imports: imports) end,
          fn -> Instance.new(linked, imports: imports) end
        ] do
      assert refusal(call) =~ "of the node far@away.example"
    end
  end

  test "a handle that was stored says so in another run of the VM" do
    store = """
    module = Runtime.load_module!("priv/wasm/compute.wasm")
    {:ok, instance} = Cybernetic.WASM.Instance.new(module)
    :erlang.term_to_binary({module, instance})
    """

    {module, instance} = [] |> FreshNode.eval(store) |> :erlang.binary_to_term()
    assert %Module{name: "compute.wasm"} = module

    for call <- of_module(module) ++ of_instance(instance) do
      message = refusal(call)
      assert message =~ "of another run of it, or was stored"
      refute message =~ "of the node"
    end
  end

  test "what is no handle at all says the same" do
    for ref <- [nil, make_ref(), self(), 1, "ref"] do
      assert refusal(fn -> Executor.call(with_ref(compute(), ref), "process", [1]) end) =~
               "a module is only good in the VM that loaded it"
    end
  end

  test "a context of another node" do
    imports =
      f(fn ctx, n ->
        foreign = %{ctx | execution: abroad(ctx.execution)}

        for call <- [
              fn -> Host.read(foreign, 0, 1) end,
              fn -> Host.call(foreign, "double", [1]) end,
              fn -> Host.emit(foreign, "x") end,
              fn -> Host.time_left(foreign) end
            ] do
          assert refusal(call) =~ "a context is only good in the VM where its host function runs"
        end

        n
      end)

    assert Executor.call(calling(), "run", [1], imports: imports) == {:ok, 1}
  end

  test "a server of another node" do
    for server <- [abroad(self()), {MyApp.Counter, :far@away}],
        call <- [
          fn -> Instance.call(server, "next") end,
          fn -> Memory.read(server, 0, 1) end,
          fn -> Instance.reset(server) end,
          fn -> Instance.poisoned?(server) end,
          fn -> Instance.borrow(server, & &1) end
        ] do
      message = refusal(call)

      assert message =~ "the instance's server is on the node :\"far@away" or
               message =~ "the instance's server is on the node :far@away"

      assert message =~ "call it there, with :erpc.call("
    end
  end

  test "what only looks like a server's name is told from one" do
    for wrong <- [{:ok, live()}, {1, 2}, {:global}, "counter"] do
      assert refusal(fn -> Instance.call(wrong, "next") end) =~ "a live instance is needed"
    end
  end

  test "what needs no guest works with any handle" do
    module = compute()
    foreign = with_ref(module, abroad(module.ref))
    assert inspect(foreign) == inspect(module)
    assert foreign.digest == module.digest
  end
end
