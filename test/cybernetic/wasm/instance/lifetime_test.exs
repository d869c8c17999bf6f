defmodule Cybernetic.WASM.Instance.LifetimeTest do
  # How long a guest lives, and what the node gets back: these count what the whole node uses.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Eventually, Guests, Plenty, Turns}

  alias Cybernetic.WASM.{Executor, FreshNode, Host, Instance, Memory, Runtime}
  alias Cybernetic.WASM.{CallError, LimitError, LinkError, TrapError}

  @page 65_536

  setup :quiet_node

  defp live_instances, do: Runtime.stats().live_instances

  defp provider do
    load!(~S|(module (memory (export "memory") 1) (func (export "f") (result i32) i32.const 7))|)
  end

  defp consumer do
    load!(~S"""
    (module
      (import "lib" "f" (func $f (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (result i32) (call $f)))
    """)
  end

  describe "a guest" do
    test "is gone when nobody holds its handle any more" do
      elsewhere(fn ->
        instance = live()
        assert live_instances() == 1
        assert Runtime.stats().total_memory == @page
        instance |> Instance.call!("next") |> Kernel.==(1)
      end)

      quiet()
    end

    test "is there as long as somebody does" do
      test = self()

      holder =
        spawn_link(fn ->
          instance = live()
          send(test, :made)
          receive(do: (:stop -> Instance.poisoned?(instance)))
        end)

      assert_receive :made
      :erlang.garbage_collect(holder)
      assert live_instances() == 1
      send(holder, :stop)
      quiet()
    end

    test "that was closed gives its place and memory back at once or a moment later" do
      instances = for _ <- 1..50, do: live()
      assert live_instances() == 50
      assert Runtime.stats().total_memory == 50 * @page
      for instance <- instances, do: :ok = Instance.close(instance)
      quiet()
      assert length(instances) == 50
    end

    test "whose handle is collected while another process is in a call lives until the call has ended" do
      test = self()

      caller =
        elsewhere(fn ->
          instance = live()

          pid =
            spawn(fn ->
              imports =
                f(fn ctx, n ->
                  send(test, :inside)
                  receive(do: (:go_on -> :ok))
                  # The guest is all there.
                  :ok = Host.write(ctx, 0, "still here")
                  {:ok, "still here"} = Host.read(ctx, 0, 10)
                  {:ok, 1} = Host.call(ctx, "next")
                  n
                end)

              send(test, {:result, Instance.call(instance, "run", [5], imports: imports)})
              receive(do: (:stop -> :ok))
            end)

          assert_receive_from(test, :inside)
          pid
        end)

      :erlang.garbage_collect()
      :erlang.garbage_collect(caller)
      assert live_instances() == 1
      send(caller, :go_on)
      assert_receive {:result, {:ok, 5}}
      send(caller, :stop)
      quiet()
    end

    # The message goes to the test's process: here it is only waited for that it has come.
    defp assert_receive_from(test, message) do
      eventually(fn -> message in elem(Process.info(test, :messages), 1) end)
    end

    test "that is poisoned has given its memory back already" do
      instance = live()
      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      quiet()
      assert Instance.poisoned?(instance)
    end

    test "whose caller was killed is gone, though its handle is held" do
      instance = live()
      instance |> hold() |> kill()
      quiet()
      assert Instance.poisoned?(instance)
    end

    test "that could not be made leaves nothing behind" do
      trapping = load!(~S|(module (memory 1) (func $s unreachable) (start $s))|)
      for _ <- 1..100, do: assert({:error, %TrapError{}} = Instance.new(trapping))
      quiet()
    end
  end

  describe "reset" do
    test "takes no more than what the guest had" do
      instance = live()
      before = Runtime.stats()
      {:ok, 1} = Memory.grow(instance, 10)
      assert Runtime.stats().total_memory == 11 * @page

      for _ <- 1..100 do
        :ok = Instance.reset(instance)
        stats = Runtime.stats()
        assert stats.live_instances == before.live_instances
        assert stats.total_memory == before.total_memory
      end
    end

    test "of a poisoned one takes its place again" do
      instance = live()

      for _ <- 1..20 do
        assert {:error, %TrapError{}} = Instance.call(instance, "fail")
        assert Instance.reset(instance) == :ok
        # What was left of the one before is on its way out.
        until_live(1)
      end

      Instance.close(instance)
      quiet()
    end

    test "that fails takes none" do
      module =
        load!(~S"""
        (module (memory 1) (func $s (local i32) (local.set 0 (i32.const 10000))
          (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
          (start $s) (func (export "f")))
        """)

      instance = Instance.new!(module)
      assert {:error, %LimitError{}} = Instance.reset(instance, fuel: 100)
      quiet()
      assert Instance.reset(instance) == :ok
      assert live_instances() == 1
      Instance.close(instance)
    end

    test "of linked ones takes the places of all of them again" do
      lib = Instance.new!(provider())
      main = Instance.new!(consumer(), imports: %{"lib" => lib})
      before = Runtime.stats()
      assert before.live_instances == 2

      for _ <- 1..20 do
        assert Instance.reset(main) == :ok
        assert Instance.call(main, "run") == {:ok, 7}
        assert Runtime.stats().live_instances == before.live_instances
        assert Runtime.stats().total_memory == before.total_memory
      end

      Instance.close(lib)
      quiet()
    end
  end

  describe "linked instances" do
    test "live as long as one of them is held" do
      test = self()

      holder =
        spawn_link(fn ->
          main = Instance.new!(consumer(), imports: %{"lib" => Instance.new!(provider())})
          send(test, :made)
          receive(do: (:call -> send(test, Instance.call(main, "run"))))
          receive(do: (:stop -> :ok))
        end)

      assert_receive :made
      :erlang.garbage_collect(holder)
      assert live_instances() == 2
      send(holder, :call)
      assert_receive {:ok, 7}
      send(holder, :stop)
      quiet()
    end

    test "that could not be linked leave nothing behind, though their process lives on" do
      wrong = load!(~S|(module (import "lib" "f" (func (param f64))) (func (export "run")))|)

      trapping =
        load!(~S"""
        (module
          (import "lib" "f" (func $f (result i32)))
          (func $s unreachable)
          (start $s)
          (func (export "run")))
        """)

      {test, imports} = {self(), %{"lib" => provider()}}

      # It does nothing more after that, so that no garbage of its own is collected: what remains would remain.
      caller =
        spawn_link(fn ->
          for _ <- 1..5 do
            assert {:error, %LinkError{}} = Executor.call(wrong, "run", [], imports: imports)
            assert {:error, %LinkError{}} = Instance.new(wrong, imports: imports)

            assert {:error, %TrapError{}} = Executor.call(trapping, "run", [], imports: imports)
          end

          send(test, :tried)
          receive(do: (:stop -> :ok))
        end)

      assert_receive :tried
      quiet()
      send(caller, :stop)
    end

    test "of one call are gone after it, however it ends" do
      imports = %{"lib" => provider()}

      ending =
        load!(~S"""
        (module
          (import "lib" "f" (func $f (result i32)))
          (func (export "run") (result i32) (call $f))
          (func (export "fail") unreachable)
          (func (export "spin") (loop (br 0))))
        """)

      for _ <- 1..50 do
        assert Executor.call(ending, "run", [], imports: imports) == {:ok, 7}
        assert {:error, %TrapError{}} = Executor.call(ending, "fail", [], imports: imports)

        assert {:error, %LimitError{}} =
                 Executor.call(ending, "spin", [], imports: imports, fuel: 1_000)

        assert {:error, %CallError{}} = Executor.call(ending, "run", [1], imports: imports)
        assert {:error, %CallError{}} = Executor.call(ending, "no", [], imports: imports)
      end

      quiet()
    end

    test "of one call are gone after it, also where an instance was given that none of them imports from" do
      {test, main} = {self(), consumer()}
      imports = %{"lib" => provider()}

      caller =
        spawn_link(fn ->
          unused = live()
          imports = Map.merge(imports, %{"other" => unused, "more" => %{"f" => {unused, "next"}}})
          for _ <- 1..5, do: {:ok, 7} = Executor.call(main, "run", [], imports: imports)
          send(test, :called)
          receive(do: (:stop -> Instance.close(unused)))
        end)

      assert_receive :called
      until_live(1)
      send(caller, :stop)
      quiet()
    end

    test "of one call leave the instance that they were linked to, and its other callers, as they were" do
      lib = Instance.new!(provider())
      for _ <- 1..5, do: Executor.call(consumer(), "run", [], imports: %{"lib" => lib})
      assert Instance.call(lib, "f") == {:ok, 7}
      Instance.close(lib)
      quiet()
    end

    test "of one call whose caller is killed are gone" do
      spinning =
        load!(~S"""
        (module
          (import "lib" "f" (func $f (result i32)))
          (func (export "spin") (loop (br 0))))
        """)

      imports = %{"lib" => provider()}

      pids =
        for _ <- 1..10 do
          spawn(fn -> Executor.call(spinning, "spin", [], forever(imports: imports)) end)
        end

      until_live(20)
      for pid <- pids, do: Process.exit(pid, :kill)
      quiet()
    end
  end

  describe "forks" do
    test "are gone when nobody holds them" do
      elsewhere(fn ->
        instance = live(snapshottable: true)
        forks = for _ <- 1..20, do: Instance.fork(instance)
        assert live_instances() == 21
        assert Enum.all?(forks, &match?({:ok, _}, &1))
      end)

      quiet()
    end

    test "preinit leaves no guest behind, whether it succeeds or not" do
      module =
        load!(~S"""
        (module (memory 1)
          (func (export "init")) (func (export "fail") unreachable)
          (func (export "f") (result i32) i32.const 1))
        """)

      for _ <- 1..20 do
        assert {:ok, _} = Runtime.preinit(module, "init")
        assert {:error, %TrapError{}} = Runtime.preinit(module, "fail")
        assert {:error, %CallError{}} = Runtime.preinit(module, "no")
      end

      quiet()
    end
  end

  # Guests that refer to themselves by way of a term that they keep. Each in a VM of its own: one that is never freed would
  # be counted in every test after it.
  describe "a guest is gone when nobody holds it, though" do
    defp left_after(making) do
      FreshNode.eval([], """
      alias Cybernetic.WASM.Instance

      lib = Runtime.load_module!({:bytes, ~S|
        (module (global (export "e") (mut externref) (ref.null extern))
          (func (export "f") (result i32) i32.const 7))|})

      main = Runtime.load_module!({:bytes, ~S|
        (module
          (import "lib" "f" (func $f (result i32)))
          (import "env" "note" (func $note))
          (func (export "run") (result i32) (call $note) (call $f)))|})

      make = fn -> #{making} end
      elsewhere(fn -> make.() && :made end)

      quiet().live_instances
      """)
    end

    test "a host function of one holds the other that it is linked to" do
      assert left_after("""
             instance = Instance.new!(lib)
             note = fn _ctx -> Instance.poisoned?(instance) end
             Instance.new!(main, imports: %{"lib" => instance, "env" => %{"note" => note}})
             """) == 0
    end

    test "the data of one holds the other that it is linked to" do
      assert left_after("""
             instance = Instance.new!(lib)
             imports = %{"lib" => instance, "env" => %{"note" => fn _ctx -> :ok end}}
             Instance.new!(main, imports: imports, data: %{lib: instance})
             """) == 0
    end

    # Held by the guest itself, its handle would never be given up.
    test "somebody tries to give it its own handle as an externref" do
      assert left_after("""
             instance = Instance.new!(lib)
             {:error, %{reason: :own_handle}} = Instance.set_global(instance, "e", [instance])
             """) == 0
    end

    test "it has been given another's handle" do
      assert left_after("""
             instance = Instance.new!(lib)
             :ok = Instance.set_global(instance, "e", Instance.new!(lib))
             """) == 0
    end
  end

  test "a poisoned instance can be reset where the node has no other place" do
    outcomes =
      FreshNode.eval([max_live_instances: 1], ~S"""
      alias Cybernetic.WASM.Instance

      module = Runtime.load_module!({:bytes, ~S|
        (module (memory 1)
          (func (export "fail") unreachable) (func (export "spin") (loop (br 0))))|})

      instance = Instance.new!(module)

      for {name, opts} <- [{"fail", []}, {"spin", [fuel: 1_000]}], _ <- 1..200, uniq: true do
        {:error, _} = Instance.call(instance, name, [], opts)

        with {:error, %LimitError{limit: limit}} <- Instance.reset(instance) do
          :ok = Instance.reset(instance, wait: 600_000)
          limit
        end
      end
      """)

    assert outcomes == [:ok]
  end

  test "ten thousand live at once, each with its own state, and then they are gone" do
    module =
      load!(~S"""
      (module
        (memory (export "memory") 1)
        (func (export "put") (param i32) (i32.store (i32.const 0) (local.get 0)))
        (func (export "get") (result i32) (i32.load (i32.const 0))))
      """)

    config = Cybernetic.WASM.Config.get()
    most = config.max_live_instances || 10_000

    elsewhere(fn ->
      instances = for _ <- 1..most, do: Instance.new!(module)
      assert live_instances() == most
      assert Runtime.stats().total_memory == most * @page

      # One more is told so, and room for it is all that it needs.
      assert {:error, %LimitError{limit: :live_instances, allowed: ^most}} = Instance.new(module)

      for {instance, n} <- Enum.with_index(instances),
          do: {:ok, nil} = Instance.call(instance, "put", [n])

      for {instance, n} <- Enum.with_index(instances),
          do: assert(Instance.call(instance, "get") == {:ok, n})

      :ok = instances |> hd() |> Instance.close()
      assert {:ok, another} = Instance.new(module, wait: never())
      assert Instance.call(another, "get") == {:ok, 0}
    end)

    quiet()
  end
end
