defmodule Cybernetic.WASM.Component.CallsTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{
    CallError,
    DeniedError,
    Executor,
    Host,
    HostError,
    Instance,
    LimitError,
    LinkError,
    Memory,
    Runtime,
    Sandbox,
    TrapError
  }

  @values "test/fixtures/components/values.wasm"
  @behaviour_ "acme:values/behaviour"

  defp component, do: Runtime.load_module!(@values)

  defp given(functions \\ %{}) do
    log =
      Map.merge(
        %{"write" => fn _ctx, _level, _text -> 0 end, "shout" => fn _ctx, t -> {:ok, t} end},
        functions
      )

    %{"acme:values/log" => log, "$root" => %{"twice" => fn _ctx, n -> 2 * n end}}
  end

  defp call(name, args, opts \\ []) do
    opts = Keyword.put_new(opts, :imports, given())
    Executor.call(component(), {@behaviour_, name}, args, opts)
  end

  defp instance(opts \\ []) do
    {:ok, instance} = Instance.new(component(), Keyword.put_new(opts, :imports, given()))
    instance
  end

  defp on(instance, name, args \\ [], opts \\ []),
    do: Instance.call(instance, {@behaviour_, name}, args, opts)

  describe "limits" do
    test "of fuel, time and memory stop a component" do
      assert {:error, %LimitError{limit: :fuel, usage: %{fuel: 1_000_000}}} =
               call("spin", [], fuel: 1_000_000)

      assert {:error, %LimitError{limit: :timeout}} =
               call("spin", [], timeout: 50, fuel: 1_000_000_000_000)

      assert {:error, %LimitError{limit: :memory, allowed: 2_000_000}} =
               call("flood", [10_000_000], max_memory: 2_000_000)
    end

    test "of what is passed are the call's, and the guest's fault" do
      assert {:ok, bytes} = call("flood", [100_000], max_transfer: 100_000)
      assert byte_size(bytes) == 100_000

      assert {:error,
              %LimitError{limit: :transfer, allowed: 99_999, blame: :guest, set_by: :call} = error} =
               call("flood", [100_000], max_transfer: 99_999)

      assert Exception.message(error) =~ "max_transfer"
      assert {:ok, texts} = call("texts", [1_000], max_transfer: 100_000)
      assert length(texts) == 1_000

      assert {:error, %LimitError{limit: :transfer}} =
               call("texts", [10_000], max_transfer: 100_000)
    end

    test "of instances count it as one" do
      assert {:ok, nil} = call("nothing", [], max_instances: 1)
      assert {:error, %LimitError{limit: :instances}} = call("nothing", [], max_instances: 0)
    end

    test "are told by a run, with what it used" do
      {:ok, run} = Executor.run(component(), {@behaviour_, "count"}, [], imports: given())
      assert run.result == 1
      assert run.usage.fuel > 0 and run.usage.peak_memory >= 65_536
    end
  end

  test "a trap brings the guest's stack" do
    assert {:error, %TrapError{code: :unreachable, frames: [_ | _] = frames}} = call("trap", [])
    assert Enum.any?(frames, &(&1.name && &1.name =~ "trap"))
  end

  test "calls go in processes of their own, as streams, and in a sandbox" do
    async = Executor.async(component(), {@behaviour_, "count"}, [], imports: given())
    assert Executor.await(async) == {:ok, 1}

    results =
      component()
      |> Executor.async_stream({@behaviour_, "flood"}, [[1], [2], [:no]], imports: given())
      |> Enum.to_list()

    assert [{:ok, <<7>>}, {:ok, <<7, 7>>}, {:error, %CallError{}}] = results
    sandbox = Sandbox.new(fuel: 1_000_000, host_functions: :all)
    assert {:error, %LimitError{set_by: :sandbox}} = call("spin", [], sandbox: sandbox)
    none = Sandbox.new(host_functions: [])
    assert {:error, %DeniedError{denied: denied}} = call("say", [1, "a"], sandbox: none)
    assert %{module: "acme:values/log@1.2.0", name: "write"} in denied
  end

  test "with epochs, and deterministically" do
    for opts <- [[metering: :epoch], [deterministic: true], [allocation: :on_demand]] do
      assert {:ok, 1} = call("count", [], opts)
    end
  end

  describe "an instance" do
    test "keeps its state, and begins anew when it is reset" do
      live = instance()
      assert for(_ <- 1..3, do: on(live, "count")) == [{:ok, 1}, {:ok, 2}, {:ok, 3}]
      assert :ok = Instance.reset(live)
      assert on(live, "count") == {:ok, 1}
      assert :ok = Instance.close(live)
      assert {:error, %CallError{reason: :closed}} = on(live, "count")
    end

    test "stays as it was where a call is refused before it runs" do
      live = instance()

      for args <- [[], [1, 2], ["a"], [-1]],
          do: assert({:error, %CallError{}} = on(live, "flood", args))

      assert {:error, %CallError{}} = Instance.call(live, "nothing-there")
      assert {:error, %CallError{}} = Memory.read(live, 0, 1)
      refute Instance.poisoned?(live)
      assert on(live, "count") == {:ok, 1}
    end

    test "is poisoned by whatever goes wrong in it" do
      raising = given(%{"write" => fn _ctx, _level, _text -> raise "no" end})
      wrong = given(%{"write" => fn _ctx, _level, _text -> -1 end})

      for {name, args, opts, kind} <- [
            {"trap", [], [], TrapError},
            {"spin", [], [fuel: 1_000_000], LimitError},
            {"spin", [], [timeout: 20], LimitError},
            {"flood", [100_000], [max_transfer: 100], LimitError},
            {"say", [1, "a"], [imports: raising], HostError},
            {"say", [1, "a"], [imports: wrong], HostError},
            {"say", [1, "a"], [max_host_calls: 0], LimitError}
          ] do
        live = instance()
        assert {:error, %^kind{}} = on(live, name, args, opts)
        assert Instance.poisoned?(live), name
        assert {:error, %CallError{reason: :poisoned}} = on(live, "count")
        assert :ok = Instance.reset(live)
        assert on(live, "count") == {:ok, 1}
      end
    end

    test "is poisoned by a caller that is killed in the middle" do
      live = instance()
      test = self()

      caller =
        spawn(fn ->
          on(live, "say", [1, "a"],
            imports:
              given(%{"write" => fn _, _, _ -> send(test, :in) && Process.sleep(:infinity) end})
          )
        end)

      assert_receive :in
      Process.exit(caller, :kill)
      Cybernetic.WASM.Eventually.eventually(fn -> Instance.poisoned?(live) end)
    end

    test "serves a server" do
      server = start_supervised!({Instance, module: component(), imports: given()})
      assert Instance.call(server, {@behaviour_, "count"}) == {:ok, 1}
    end
  end

  describe "host functions" do
    test "are found by interface, with its version or without, and of the world's own under $root" do
      assert {:ok, 12} = Executor.call(component(), "four-times", [3], imports: given())
      log = given()["acme:values/log"]

      versioned =
        given() |> Map.delete("acme:values/log") |> Map.put("acme:values/log@1.2.0", log)

      assert {:ok, 0} = call("say", [1, "a"], imports: versioned)
    end

    test "run in the calling process, and get and give values" do
      test = self()

      functions = %{
        "write" => fn ctx, level, text ->
          send(test, {self(), level, text, Host.data(ctx)})
          byte_size(text)
        end,
        "shout" => fn _ctx, text ->
          if text == "", do: {:error, "nothing"}, else: {:ok, String.upcase(text)}
        end
      }

      assert {:ok, 3} = call("say", [9, "é!"], imports: given(functions), data: :mine)
      assert_received {^test, 9, "é!", :mine}
      assert {:ok, {:ok, "ABC"}} = call("shout", ["abc"], imports: given(functions))
      assert {:ok, {:error, "nothing"}} = call("shout", [""], imports: given(functions))
    end

    test "may be waited for" do
      slow = {fn _ctx, _level, text -> Task.async(fn -> byte_size(text) end) end, async: true}
      assert {:ok, 2} = call("say", [1, "ab"], imports: given(%{"write" => slow}))
    end

    test "raise as themselves, and what they return must be of the type" do
      raising = given(%{"write" => fn _, _, _ -> raise ArgumentError, "mine" end})

      assert {:error, %HostError{reason: %ArgumentError{message: "mine"}} = error} =
               call("say", [1, ""], imports: raising)

      assert error.import == {"acme:values/log@1.2.0", "write"}

      for {wrong, words} <- [{-1, "expected u32, got -1"}, {nil, "got nil"}, {"1", "a binary"}] do
        wrong = given(%{"write" => fn _, _, _ -> wrong end})
        assert {:error, %HostError{reason: reason}} = call("say", [1, ""], imports: wrong)
        assert Exception.message(reason) =~ words
      end

      wrong = given(%{"shout" => fn _, _ -> {:error, :no} end})
      assert {:error, %HostError{reason: reason}} = call("shout", ["a"], imports: wrong)
      assert Exception.message(reason) == "result.error: expected string, got :no"
    end

    test "that are missing or of the wrong arity are all named at once" do
      imports = %{"acme:values/log" => %{"write" => fn _ctx -> 0 end}}
      assert {:error, %LinkError{problems: problems}} = call("say", [1, ""], imports: imports)
      reasons = Map.new(problems, &{{&1.module, &1.name}, &1.reason})
      assert reasons[{"acme:values/log@1.2.0", "write"}] =~ "3 arguments"
      assert reasons[{"acme:values/log@1.2.0", "shout"}] =~ "missing"
      assert reasons[{"$root", "twice"}] =~ "missing"
      assert Enum.any?(problems, &(&1.wanted == "func(level: u8, text: string) -> u32"))
    end

    test "that nothing is given for trap where that is asked for" do
      opts = [imports: %{}, unknown_imports: :trap]
      assert {:ok, 1} = call("count", [], opts)

      assert {:error, %TrapError{code: :unknown_import, import: import}} =
               call("say", [1, ""], opts)

      assert import == {"acme:values/log@1.2.0", "write"}
    end

    test "cannot call the component that waits for them, nor look into it" do
      test = self()

      again = fn ctx, _level, _text ->
        send(test, Host.call(ctx, "acme:values/behaviour#count", []))
        send(test, Host.read(ctx, 0, 4))
        5
      end

      assert {:ok, 5} = call("say", [1, ""], imports: given(%{"write" => again}))
      assert_received {:error, %CallError{reason: :reentrant} = error}
      assert error.export == "acme:values/behaviour@1.2.0#count"
      assert error.detail == "acme:values/log@1.2.0#write"
      assert Exception.message(error) =~ "while the component waits"
      assert_received {:error, %CallError{reason: :component}}
    end

    test "are not another guest's exports" do
      {:ok, module} =
        Runtime.load_module(
          {:bytes, ~S|(module (func (export "twice") (param i32) (result i32) (local.get 0)))|}
        )

      imports = Map.put(given(), "$root", module)
      assert {:error, %LinkError{problems: [problem]}} = call("say", [1, ""], imports: imports)
      assert problem.reason =~ "functions of the host"
    end
  end

  test "a component that imports a type of resources links" do
    {:ok, resource} =
      Runtime.load_module(
        {:bytes, ~S|(component (import "a:b/c" (instance (export "r" (type (sub resource))))))|}
      )

    assert {:ok, %Instance{}} = Instance.new(resource)
  end
end
