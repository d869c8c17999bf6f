defmodule Cybernetic.WASM.Instance.SnapshotTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Guests, Plenty, Shapes, Turns}

  alias Cybernetic.WASM.{Executor, FreshNode, Host, Instance, Memory, Module, Run, Runtime}
  alias Cybernetic.WASM.{CallError, HostError, LimitError, LoadError, TrapError}

  @page 65_536

  # Globals of every type, exported and hidden, with functions that show and set the hidden ones; two memories, of which
  # one is hidden, and a table.
  defp rich do
    load!(~S"""
    (module
      (memory $m (export "memory") 1 20)
      (data $m (i32.const 16) "from the module")
      (memory $hidden 1)
      (global (export "i32") (mut i32) (i32.const 1))
      (global (export "i64") (mut i64) (i64.const 2))
      (global (export "f32") (mut f32) (f32.const 3))
      (global (export "f64") (mut f64) (f64.const 4))
      (global (export "v128") (mut v128) (v128.const i64x2 5 6))
      (global (export "constant") i32 (i32.const 7))
      (global $secret (mut i64) (i64.const 8))
      (table $t (export "table") 4 funcref)
      (elem (table $t) (i32.const 1) func $seven $eight)
      (type $i (func (result i32)))
      (func $seven (result i32) (i32.const 7))
      (func $eight (result i32) (i32.const 8))
      (global (export "function") funcref (ref.func $eight))
      (func (export "secret") (result i64) (global.get $secret))
      (func (export "keep") (param i64) (global.set $secret (local.get 0)))
      (func (export "hide") (param i32 i32) (i32.store8 $hidden (local.get 0) (local.get 1)))
      (func (export "hidden") (param i32) (result i32) (i32.load8_u $hidden (local.get 0)))
      (func (export "hidden_grow") (result i32) (memory.grow $hidden (i32.const 1)))
      (func (export "hidden_pages") (result i32) (memory.size $hidden))
      (func (export "invoke") (param i32) (result i32)
        (call_indirect $t (type $i) (local.get 0))))
    """)
  end

  defp snapshottable(module, opts \\ []),
    do: Instance.new!(module, [snapshottable: true] ++ opts)

  # The snapshot, loaded: a fresh instance of it.
  defp reload(instance, opts \\ []) do
    {:ok, wasm} = Instance.snapshot(instance)
    Instance.new!(load!(wasm), opts)
  end

  defp refused({:error, %CallError{reason: :no_snapshot, blame: :caller} = error}), do: error

  describe "a snapshot" do
    test "is a module whose initial state is what the instance's was, and the instance goes on" do
      instance = live(snapshottable: true)
      for _ <- 1..5, do: Instance.call!(instance, "next")
      assert {:ok, <<0, "asm", 1, 0, 0, 0, _::binary>> = wasm} = Instance.snapshot(instance)
      assert Instance.call(instance, "next") == {:ok, 6}

      module = load!(wasm)
      for _ <- 1..2, do: assert(Executor.call(module, "next", [], imports: echo()) == {:ok, 6})
      assert Instance.call(instance, "next") == {:ok, 7}
    end

    test "of one that has done nothing is as good as the module" do
      copy = reload(snapshottable(rich()))
      assert Instance.get_global(copy, "i32") == {:ok, 1}
      assert Memory.read(copy, 16, 15) == {:ok, "from the module"}
      assert Instance.call(copy, "secret") == {:ok, 8}
      assert Instance.call(copy, "invoke", [1]) == {:ok, 7}
    end

    test "of the same state is the same bytes" do
      instances = for _ <- 1..2, do: snapshottable(rich())

      for instance <- instances do
        :ok = Memory.write(instance, 1_000, "the same")
        :ok = Instance.set_global(instance, "f64", 0.1)
      end

      [{:ok, one}, {:ok, other}] = Enum.map(instances, &Instance.snapshot/1)
      assert one == other
      assert Instance.snapshot(hd(instances)) == {:ok, one}
      assert reload(hd(instances)).module.digest == load!(other).digest
    end

    test "has the module's exports and imports, and nothing else" do
      for module <- [rich(), counter()] do
        instance = snapshottable(module, imports: echo())
        {:ok, wasm} = Instance.snapshot(instance)
        assert Module.exports(load!(wasm)) == Module.exports(module)
        assert Module.imports(load!(wasm)) == Module.imports(module)
        assert Module.exports(instance.module) == Module.exports(module)
      end
    end

    test "has all memory: what was written, what was grown, what was zeroed" do
      instance = snapshottable(rich())
      # The module's own data must not come back.
      :ok = Memory.write(instance, 16, <<0::120>>)
      {:ok, 1} = Memory.grow(instance, 9)
      :ok = Memory.write(instance, 10 * @page - 1, "z")
      :ok = Memory.write(instance, 5 * @page - 2, "over")
      Instance.call!(instance, "hide", [77, 88])
      Instance.call!(instance, "hidden_grow")
      Instance.call!(instance, "hide", [2 * @page - 1, 99])

      copy = reload(instance)
      assert Memory.size(copy) == {:ok, 10 * @page}
      assert Memory.read(copy, 0, 10 * @page) == Memory.read(instance, 0, 10 * @page)
      assert Memory.read(copy, 16, 15) == {:ok, <<0::120>>}
      assert Instance.call(copy, "hidden_pages") == {:ok, 2}
      assert Instance.call(copy, "hidden", [77]) == {:ok, 88}
      assert Instance.call(copy, "hidden", [2 * @page - 1]) == {:ok, 99}
      # The maximum is what it was.
      assert Memory.grow(copy, 10) == {:ok, 10}
      assert reason(Memory.grow(copy, 1)) == :cannot_grow
    end

    test "has every global, with all its bits, exported or not" do
      instance = snapshottable(rich())

      for {type, values} <- [
            {"i32", [-1, -0x8000_0000, 0x7FFF_FFFF, 0]},
            {"i64", [-1, -0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 1 <<< 60]},
            {"f32", [-0.0, :nan, :infinity, {:f32_bits, 0x7FA0_0001}, {:f32_bits, 0xFFFF_FFFF}]},
            {"f64", [-0.0, :nan, :neg_infinity, {:f64_bits, 0x7FF0_0000_0000_0001}, 5.0e-324]},
            {"v128", [<<-1::128>>, <<0::128>>, <<1::128>>, "0123456789abcdef"]}
          ],
          value <- values do
        :ok = Instance.set_global(instance, type, value)
        {:ok, read} = Instance.get_global(reload(instance), type)
        assert :erlang.term_to_binary(read) == :erlang.term_to_binary(value)
      end

      Instance.call!(instance, "keep", [-(1 <<< 63)])
      copy = reload(instance)
      assert Instance.call(copy, "secret") == {:ok, -(1 <<< 63)}
      assert Instance.get_global(copy, "constant") == {:ok, 7}
      assert {:ok, function} = Instance.get_global(copy, "function")
      assert function != nil
    end

    test "has tables as the module made them, and functions called through them" do
      copy = reload(snapshottable(rich()))
      assert Instance.call(copy, "invoke", [2]) == {:ok, 8}
      assert Instance.table_size(copy, "table") == {:ok, 4}

      assert {:error, %TrapError{code: :indirect_call_to_null}} =
               Instance.call(copy, "invoke", [0])
    end

    test "has 64-bit memories, and several" do
      module =
        load!(~S"""
        (module
          (memory (export "wide") i64 1 8)
          (memory (export "other") 2)
          (memory (export "empty") 0 1))
        """)

      instance = snapshottable(module)
      {:ok, 1} = Memory.grow(instance, 4, memory: "wide")
      :ok = Memory.write(instance, 5 * @page - 4, "wide", memory: "wide")
      :ok = Memory.write(instance, 5, "other", memory: "other")
      copy = reload(instance)
      assert Memory.read(copy, 5 * @page - 4, 4, memory: "wide") == {:ok, "wide"}
      assert Memory.read(copy, 5, 5, memory: "other") == {:ok, "other"}
      assert Memory.size(copy, memory: "wide") == {:ok, 5 * @page}
      assert Memory.size(copy, memory: "empty") == {:ok, 0}
      assert Memory.grow(copy, 3, memory: "wide") == {:ok, 5}
    end

    test "keeps the segments that the module may still copy from" do
      module =
        load!(~S"""
        (module
          (memory (export "memory") 1)
          (data $passive "copied later")
          (func (export "copy") (param i32)
            (memory.init $passive (local.get 0) (i32.const 0) (i32.const 12))))
        """)

      instance = snapshottable(module)
      :ok = Memory.write(instance, 0, "now")
      copy = reload(instance)
      assert Instance.call(copy, "copy", [100]) == {:ok, nil}
      assert Memory.read(copy, 100, 12) == {:ok, "copied later"}
      assert Memory.read(copy, 0, 3) == {:ok, "now"}
    end

    test "of memory with more islands than a module may have segments is right" do
      for passive <- [
            "",
            ~S|(data $p "x") (func (memory.init $p (i32.const 0) (i32.const 0) (i32.const 0)))|
          ] do
        module = load!("(module (memory (export \"memory\") 32) #{passive})")
        instance = snapshottable(module)
        # 131,072 of them: a module may have 100,000.
        bytes = :binary.copy(<<1, 0::unit(8)-15>>, div(32 * @page, 16))
        :ok = Memory.write(instance, 0, bytes)
        assert Memory.read(reload(instance), 0, 32 * @page) == {:ok, bytes}
      end
    end

    test "of an empty module is one" do
      instance = snapshottable(load!("(module)"))
      assert {:ok, wasm} = Instance.snapshot(instance)
      assert {:ok, _} = Instance.new(load!(wasm))
      assert {:ok, _} = Instance.fork(instance)
    end

    test "of a large state is loaded like any module, within max_module_size" do
      module = load!(~S|(module (memory (export "memory") 200))|)
      instance = snapshottable(module)
      bytes = :rand.bytes(11_000_000)
      :ok = Memory.write(instance, 0, bytes)
      assert {:ok, wasm} = Instance.snapshot(instance)

      assert {:error, %LoadError{reason: :too_large}} = Runtime.load_module({:bytes, wasm})
      module = load!(wasm, max_module_size: 20_000_000)
      assert Memory.read(Instance.new!(module), 0, 11_000_000) == {:ok, bytes}

      # A fork's size is nobody's mistake.
      assert {:ok, fork} = Instance.fork(instance)
      assert Memory.read(fork, 0, 11_000_000) == {:ok, bytes}
    end

    test "of any state has that state" do
      instance = snapshottable(rich())

      check_all(25, fn ->
        for _ <- 1..:rand.uniform(20) do
          {:ok, size} = Memory.size(instance)

          case :rand.uniform(6) do
            1 ->
              bytes = :rand.bytes(:rand.uniform(3_000))
              :ok = Memory.write(instance, :rand.uniform(size - 3_000) - 1, bytes)

            2 ->
              :ok = Memory.write(instance, :rand.uniform(size) - 1, <<bits(8)>>)

            3 ->
              zeros = :binary.copy(<<0>>, :rand.uniform(3_000))
              :ok = Memory.write(instance, :rand.uniform(size - 3_000) - 1, zeros)

            4 ->
              :ok = Instance.set_global(instance, "i32", bits(32))
              :ok = Instance.set_global(instance, "f32", {:f32_bits, bits(32)})
              :ok = Instance.set_global(instance, "v128", <<bits(64)::64, bits(64)::64>>)

            5 ->
              :ok = Instance.set_global(instance, "i64", bits(64))
              :ok = Instance.set_global(instance, "f64", {:f64_bits, bits(64)})
              Instance.call!(instance, "keep", [bits(64)])

            6 ->
              Memory.grow(instance, :rand.uniform(2))
              Instance.call!(instance, "hide", [:rand.uniform(@page) - 1, bits(8)])
          end
        end

        {:ok, fork} = Instance.fork(instance)

        for copy <- [reload(instance), fork, reload(fork)] do
          {:ok, size} = Memory.size(instance)
          assert Memory.size(copy) == {:ok, size}
          assert Memory.read(copy, 0, size) == Memory.read(instance, 0, size)

          for global <- ~w(i32 i64 f32 f64 v128),
              do:
                assert(Instance.get_global(copy, global) == Instance.get_global(instance, global))

          assert Instance.call(copy, "secret") == Instance.call(instance, "secret")

          for _ <- 1..20 do
            at = [:rand.uniform(@page) - 1]
            assert Instance.call(copy, "hidden", at) == Instance.call(instance, "hidden", at)
          end
        end
      end)
    end

    @tag :tmp_dir
    test "is good on another node", %{tmp_dir: tmp_dir} do
      instance = snapshottable(rich())
      :ok = Memory.write(instance, 40_000, "across")
      {:ok, 1} = Memory.grow(instance, 1)
      :ok = Instance.set_global(instance, "f64", {:f64_bits, 0x7FF0_0000_0000_0001})
      Instance.call!(instance, "keep", [1 <<< 60])
      {:ok, wasm} = Instance.snapshot(instance)
      path = Path.join(tmp_dir, "snapshot.wasm")
      File.write!(path, wasm)

      there =
        FreshNode.eval([], """
        alias Cybernetic.WASM.{Instance, Memory}
        instance = #{inspect(path)} |> Runtime.load_module!() |> Instance.new!()

        {Memory.read(instance, 40_000, 6), Memory.size(instance),
         Instance.get_global(instance, "f64"), Instance.call(instance, "secret"),
         Instance.call(instance, "invoke", [1])}
        """)

      assert there ==
               {{:ok, "across"}, {:ok, 2 * @page}, {:ok, {:f64_bits, 0x7FF0_0000_0000_0001}},
                {:ok, 1 <<< 60}, {:ok, 7}}
    end
  end

  describe "a snapshottable instance" do
    test "does what any other does" do
      for opts <- [[], [snapshottable: true]] do
        instance = Instance.new!(rich(), opts)
        assert Instance.call(instance, "invoke", [1]) == {:ok, 7}
        assert Memory.size(instance) == {:ok, @page}

        assert {:error, %CallError{reason: :no_such_export, known: known}} =
                 Instance.get_global(instance, "none")

        assert known == ~w(i32 i64 f32 f64 v128 constant function)

        assert {:error, %CallError{reason: :no_such_export, known: known}} =
                 Instance.call(instance, "none")

        assert "keep" in known
        assert length(known) == 7
      end
    end

    test "shows nothing that the module does not export" do
      # How a module is made fit for snapshots is nobody's business; that a memory is hidden is the module's.
      module = load!(~S|(module (memory 1) (global (mut i32) (i32.const 0)) (func (export "f")))|)

      for opts <- [[], [snapshottable: true]] do
        instance = Instance.new!(module, opts)
        assert reason(Memory.size(instance)) == :no_memory
        assert reason(Memory.write(instance, 0, "x")) == :no_memory

        for name <- ["__wizer_memory_0", "__wizer_global_0"] do
          assert reason(Memory.size(instance, memory: name)) == :no_memory
          assert reason(Instance.get_global(instance, name)) == :no_such_export
          assert reason(Instance.set_global(instance, name, 1)) == :no_such_export
        end
      end
    end

    test "is reset to the module's state, and snapshots see that" do
      instance = live(snapshottable: true)
      for _ <- 1..3, do: Instance.call!(instance, "next")
      {:ok, fork} = Instance.fork(instance)
      :ok = Instance.reset(instance)
      assert Instance.call(reload(instance, imports: echo()), "next") == {:ok, 1}
      assert {:ok, other} = Instance.fork(instance)
      assert Instance.call(other, "next") == {:ok, 1}
      assert Instance.call(fork, "next") == {:ok, 4}
    end
  end

  describe "start functions" do
    defp starting(extra) do
      load!("""
      (module
        (import "env" "f" (func $f (param i32) (result i32)))
        (global $n (export "n") (mut i32) (i32.const 10))
        (func $s (global.set $n (call $f (global.get $n))))
        #{extra}
        (func (export "get") (result i32) (global.get $n)))
      """)
    end

    defp counting do
      test = self()
      f(fn _ctx, n -> send(test, :ran) && n + 1 end)
    end

    defp runs, do: Enum.count(mailbox(), &(&1 == :ran))

    test "run when the instance is made, and not again" do
      instance = snapshottable(starting("(start $s)"), imports: counting())
      assert runs() == 1
      assert Instance.call(instance, "get") == {:ok, 11}
      copy = reload(instance, imports: counting())
      {:ok, fork} = Instance.fork(instance)
      {:ok, another} = Instance.fork(fork)
      for one <- [copy, fork, another], do: assert(Instance.call(one, "get") == {:ok, 11})
      # A fork's initial state is the one that it was made in.
      assert Instance.reset(fork) == :ok
      assert Instance.call(fork, "get") == {:ok, 11}
      assert runs() == 1
    end

    test "of a reactor run when the instance is made and when it is reset, and are then gone" do
      module = starting(~S|(export "_initialize" (func $s))|)
      instance = snapshottable(module, imports: counting())
      assert runs() == 1
      assert Instance.call(instance, "get") == {:ok, 11}

      {:ok, fork} = Instance.fork(instance)
      copy = reload(instance, imports: counting())

      for one <- [fork, copy] do
        assert Instance.call(one, "get") == {:ok, 11}
        assert reason(Instance.call(one, "_initialize")) == :no_such_export
        assert Instance.reset(one) == :ok
        assert Instance.call(one, "get") == {:ok, 11}
      end

      assert runs() == 1
      assert Instance.reset(instance) == :ok
      assert runs() == 2
      assert Instance.call(instance, "get") == {:ok, 11}
    end

    test "of a reactor that has one besides both run" do
      module =
        starting(~S"""
        (func $again (global.set $n (i32.mul (global.get $n) (i32.const 100))))
        (export "_initialize" (func $again))
        (start $s)
        """)

      instance = snapshottable(module, imports: counting())
      assert Instance.call(instance, "get") == {:ok, 1_100}
      assert Instance.call(reload(instance, imports: counting()), "get") == {:ok, 1_100}
      assert runs() == 1
    end

    test "of a reactor that fail have the instance fail" do
      module = starting(~S|(export "_initialize" (func $s))|)

      assert {:error, %HostError{reason: %RuntimeError{message: "no"}}} =
               Instance.new(module, imports: f(fn _, _ -> raise "no" end), snapshottable: true)

      spinning = load!(~S|(module (func (export "_initialize") (loop (br 0))))|)

      assert {:error, %LimitError{limit: :fuel}} =
               Instance.new(spinning, snapshottable: true, fuel: 1_000)
    end

    test "are not what else is named so" do
      module = load!(~S|(module (global $n (mut i32) (i32.const 5))
        (func (export "_initialize") (param i32) (global.set $n (local.get 0)))
        (func (export "get") (result i32) (global.get $n)))|)

      instance = snapshottable(module)
      assert Instance.call(instance, "get") == {:ok, 5}
      assert Instance.call(instance, "_initialize", [6]) == {:ok, nil}
      assert Instance.call(reload(instance), "get") == {:ok, 6}

      for export <- ["memory 0", "global $g"] do
        module =
          load!("""
          (module (memory 1) (global $g (mut i32) (i32.const 1))
            (export "_initialize" (#{export})))
          """)

        assert {:ok, instance} = Instance.new(module, snapshottable: true)
        assert {:ok, _} = Instance.snapshot(instance)
      end
    end
  end

  describe "a hook" do
    @reseeding ~S"""
    (module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 1)
      (global $hooked (mut i32) (i32.const 0))
      (func $seed (drop (call $random (i32.const 0) (i32.const 8))))
      (func (export "seed") (call $seed))
      (func (export "reseed")
        (call $seed)
        (global.set $hooked (call $f (i32.add (global.get $hooked) (i32.const 1)))))
      (func (export "fail") unreachable)
      (func (export "spin") (loop (br 0)))
      (func (export "typed") (param i32))
      (func (export "hooked") (result i32) (global.get $hooked))
      (func (export "number") (result i64) (i64.load (i32.const 0))))
    """

    defp many_exports(opts) do
      long = String.duplicate("n", 1_000)
      exports = for n <- 1..100, do: ~s|(export "#{n}#{long}" (func $f))|
      module = load!("(module (func $f) #{exports})")
      Instance.new(module, [snapshottable: true] ++ opts)
    end

    defp reseeding(opts) do
      # It sees the new instance's memory.
      seen =
        f(fn ctx, n -> if(match?({:ok, <<_::64>>}, Host.read(ctx, 0, 8)), do: n, else: -1) end)

      sandbox = Cybernetic.WASM.Sandbox.new(random: :system)

      Instance.new(
        load!(@reseeding),
        [snapshottable: true, imports: seen, sandbox: sandbox] ++ opts
      )
    end

    defp numbers(instances), do: Enum.map(instances, &Instance.call!(&1, "number"))
    defp fork!(instance), do: instance |> Instance.fork() |> elem(1)

    test "lets forks differ, which repeat what was captured without one" do
      {:ok, alike} = reseeding([])
      Instance.call!(alike, "seed")
      assert [_one] = [alike, fork!(alike), fork!(fork!(alike))] |> numbers() |> Enum.uniq()

      {:ok, instance} = reseeding(on_fork: "reseed")
      Instance.call!(instance, "seed")
      fork = fork!(instance)
      others = [instance, fork, fork!(instance), fork!(fork)]
      assert others |> numbers() |> Enum.uniq() |> length() == 4
      assert Enum.map(others, &Instance.call!(&1, "hooked")) == [0, 1, 1, 2]

      # A reset begins again in the state that was captured, and with the hook.
      before = numbers([fork])
      assert Instance.reset(fork) == :ok
      assert numbers([fork]) != before
      assert Instance.call!(fork, "hooked") == 1
    end

    test "is called in every instance of a snapshot and of a preinitialized module" do
      {:ok, instance} = reseeding(on_fork: "reseed")
      Instance.call!(instance, "seed")
      {:ok, wasm} = Instance.snapshot(instance)
      opts = [imports: echo(), sandbox: Cybernetic.WASM.Sandbox.new(random: :system)]
      {:ok, ready} = Runtime.preinit(load!(@reseeding), "seed", [], [on_fork: "reseed"] ++ opts)

      for module <- [load!(wasm), ready] do
        one = Instance.new!(module, opts)
        assert Instance.call(one, "hooked") == {:ok, 1}
        assert Executor.call(module, "hooked", [], opts) == {:ok, 1}
        draw = fn -> Executor.call!(module, "number", [], opts) end
        assert [draw.(), draw.() | numbers([one, instance])] |> Enum.uniq() |> length() == 4
      end
    end

    test "that fails fails the fork, and the instance goes on" do
      for {hook, opts, kind} <- [
            {"fail", [], TrapError},
            {"spin", [fuel: 1_000_000], LimitError},
            {"reseed", [imports: f(fn _, _ -> raise "no" end)], HostError}
          ] do
        {:ok, instance} = reseeding([on_fork: hook] ++ opts)
        assert {:error, %^kind{}} = Instance.fork(instance)
        assert Instance.call(instance, "hooked") == {:ok, 0}
      end
    end

    test "is a function without parameters and results, of an instance that has forks" do
      assert {:error, %CallError{reason: :no_such_export, export: "none"} = error} =
               reseeding(on_fork: "none")

      assert "reseed" in error.known
      assert {:error, error} = many_exports(on_fork: "none")
      assert length(error.known) == 21
      assert Enum.all?(error.known, &(String.length(&1) <= 201))
      assert {:error, %CallError{reason: :no_such_export}} = reseeding(on_fork: "memory")
      assert {:error, %CallError{reason: :no_hook} = error} = reseeding(on_fork: "typed")

      assert Exception.message(error) ==
               ~s|"typed" cannot be called in each fork: it is (i32) -> (), and a hook is () -> ()|

      assert_raise ArgumentError, ~r/on_fork needs snapshottable: true/, fn ->
        reseeding(snapshottable: false, on_fork: "reseed")
      end

      assert_raise ArgumentError, ~r/option :on_fork must be the name/, fn ->
        reseeding(on_fork: :reseed)
      end
    end
  end

  describe "forks" do
    test "begin in the state of the one that they come from, and are apart from it and each other" do
      instance = live(snapshottable: true)
      for _ <- 1..4, do: Instance.call!(instance, "next")
      :ok = Memory.write(instance, 0, "shared")
      forks = for _ <- 1..5, do: elem(Instance.fork(instance), 1)

      for {fork, index} <- Enum.with_index(forks) do
        assert Memory.read(fork, 0, 6) == {:ok, "shared"}
        for _ <- 0..index, do: Instance.call!(fork, "next")
        :ok = Memory.write(fork, 0, "fork #{index}")
      end

      for {fork, index} <- Enum.with_index(forks) do
        assert Instance.get_global(fork, "n") == {:ok, 5 + index}
        assert Memory.read(fork, 0, 6) == {:ok, "fork #{index}"}
      end

      assert Memory.read(instance, 0, 6) == {:ok, "shared"}
      assert Instance.call(instance, "next") == {:ok, 5}
    end

    test "see every change that came before them, however it came" do
      instance = live(snapshottable: true)
      fork = fn -> elem(Instance.fork(instance), 1) end
      assert Instance.call(fork.(), "next") == {:ok, 1}

      Instance.call!(instance, "next")
      assert Instance.call(fork.(), "next") == {:ok, 2}

      :ok = Instance.set_global(instance, "n", 40)
      assert Instance.call(fork.(), "next") == {:ok, 41}

      :ok = Memory.write(instance, 9, "small")
      assert Memory.read(fork.(), 9, 5) == {:ok, "small"}

      {:ok, 1} = Memory.grow(instance, 9)
      assert Memory.size(fork.()) == {:ok, 10 * @page}

      large = :rand.bytes(300_000)
      :ok = Memory.write(instance, 0, large)
      assert Memory.read(fork.(), 0, 300_000) == {:ok, large}

      writing = f(fn ctx, n -> Host.write(ctx, 0, "by a host function") && n end)
      Instance.call!(instance, "run", [1], imports: writing)
      assert Memory.read(fork.(), 0, 18) == {:ok, "by a host function"}

      :ok = Instance.reset(instance)
      assert Instance.call(fork.(), "next") == {:ok, 1}
      assert Memory.size(fork.()) == {:ok, @page}
    end

    test "have forks and snapshots of their own" do
      first = live(snapshottable: true)

      last =
        Enum.reduce(1..10, first, fn n, instance ->
          assert Instance.call(instance, "next") == {:ok, n}
          {:ok, fork} = Instance.fork(instance)
          fork
        end)

      assert Instance.get_global(last, "n") == {:ok, 10}
      assert Instance.call(reload(last, imports: echo()), "next") == {:ok, 11}
      # The first has long been something else.
      assert Instance.get_global(first, "n") == {:ok, 1}
    end

    test "have the host functions, data and limits of the one that they come from" do
      imports = f(fn ctx, n -> n + Host.data(ctx) end)

      instance =
        live(snapshottable: true, imports: imports, data: 30, fuel: 5_000, timeout: 50_000)

      {:ok, fork} = Instance.fork(instance)
      {:ok, again} = Instance.fork(fork)

      for one <- [fork, again] do
        assert Instance.call(one, "run", [1]) == {:ok, 31}

        assert {:error, %LimitError{limit: :fuel, allowed: 5_000}} =
                 Instance.call(one, "spin", [], fuel: 1_000_000)

        assert :ok = Instance.reset(one)
        assert Instance.call(one, "run", [1]) == {:ok, 31}
      end
    end

    test "survive traps if the one that they come from does" do
      for {opts, poisoned?} <- [{[], true}, {[on_trap: :keep], false}] do
        instance = live([snapshottable: true] ++ opts)
        # Made anew, and from what the first has left to be shared.
        {:ok, one} = Instance.fork(instance)
        {:ok, two} = Instance.fork(instance)
        {:ok, three} = Instance.fork(two)

        for fork <- [one, two, three] do
          assert {:error, %TrapError{}} = Instance.call(fork, "fail")
          assert Instance.poisoned?(fork) == poisoned?
        end
      end
    end

    test "are metered and deterministic as the one that they come from" do
      module = load!(~S|(module (func (export "f") (param f32) (result i32)
          (i32.reinterpret_f32 (f32.add (local.get 0) (f32.const 1)))))|)

      deterministic = snapshottable(module, deterministic: true)
      epoch = snapshottable(module, metering: :epoch)
      payload = {:f32_bits, 0x7FA0_0001}

      for {instance, check} <- [
            {deterministic, &(Instance.call(&1, "f", [payload]) == {:ok, 0x7FC0_0000})},
            {epoch, &match?(%Run{usage: %{fuel: nil}}, Instance.run!(&1, "f", [1.0]))}
          ] do
        {:ok, one} = Instance.fork(instance)
        {:ok, two} = Instance.fork(instance)
        {:ok, three} = Instance.fork(one)
        for fork <- [instance, one, two, three], do: assert(check.(fork))
      end
    end

    test "live on when the one that they come from is closed, reset or poisoned" do
      instance = live(snapshottable: true)
      Instance.call!(instance, "next")
      forks = for _ <- 1..3, do: elem(Instance.fork(instance), 1)
      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      assert Enum.map(forks, &Instance.call(&1, "next")) == [{:ok, 2}, {:ok, 2}, {:ok, 2}]
      :ok = Instance.reset(instance)
      :ok = Instance.close(instance)
      assert Enum.map(forks, &Instance.call(&1, "next")) == [{:ok, 3}, {:ok, 3}, {:ok, 3}]
    end

    test "and snapshots that many processes take at once are each of one moment" do
      # Both halves are always equal between calls.
      module =
        load!(~S"""
        (module
          (memory (export "memory") 1)
          (global $n (export "n") (mut i32) (i32.const 0))
          (func (export "step") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (i32.store (i32.const 40000) (global.get $n))
            (global.get $n)))
        """)

      instance = snapshottable(module)

      stepping =
        Task.async(fn ->
          for _ <- 1..200, do: Instance.call!(instance, "step", [], wait: never())
        end)

      forking =
        for _ <- 1..8 do
          Task.async(fn ->
            for _ <- 1..10, {:ok, fork} <- [Instance.fork(instance)] do
              {:ok, n} = Instance.get_global(fork, "n")
              assert Memory.read_value(fork, 40_000, :i32) == {:ok, n}
              n
            end
          end)
        end

      await([stepping | forking])
      {:ok, fork} = Instance.fork(instance)
      assert Instance.get_global(fork, "n") == {:ok, 200}
    end
  end

  describe "what cannot be captured is refused when the instance is made, by name:" do
    for {what, body, name} <- [
          {"table.set", "(func (table.set $t (i32.const 0) (ref.null func)))", "table.set"},
          {"table.grow", "(func (drop (table.grow $t (ref.null func) (i32.const 1))))",
           "table.grow"},
          {"table.fill", "(func (table.fill $t (i32.const 0) (ref.null func) (i32.const 1)))",
           "table.fill"},
          {"table.copy", "(func (table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 1)))",
           "table.copy"},
          {"table.init",
           "(elem $e func) (func (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 0)))",
           "table.init"},
          {"elem.drop", "(elem $e func) (func (elem.drop $e))", "elem.drop"},
          {"data.drop", ~S|(memory 1) (data $d "x") (func (data.drop $d))|, "data.drop"},
          {"a mutable externref", "(global (mut externref) (ref.null extern))",
           "mutable global containing a reference"},
          {"a mutable funcref", "(global (mut funcref) (ref.null func))",
           "mutable global containing a reference"},
          {"struct.set",
           "(type $s (struct (field (mut i32)))) (func (struct.set $s 0 (struct.new $s (i32.const 1)) (i32.const 2)))",
           "struct.set"},
          {"array.set",
           "(type $a (array (mut i32))) (func (array.set $a (array.new $a (i32.const 1) (i32.const 2)) (i32.const 0) (i32.const 2)))",
           "array.set"}
        ] do
      test what do
        module = load!("(module (table $t 1 funcref) #{unquote(body)} (func (export \"f\")))")
        error = refused(Instance.new(module, snapshottable: true))
        assert error.detail =~ unquote(name)
        assert Exception.message(error) =~ "no snapshot can be made: "
        assert refused(Runtime.preinit(module, "f")) == error

        # Without snapshots it is a module like any other.
        instance = Instance.new!(module)
        assert Instance.call(instance, "f") == {:ok, nil}
        assert refused(Instance.snapshot(instance)).detail =~ "not made with `snapshottable`"
      end
    end

    for {what, imported, exported} <- [
          {"memory", "(memory 1)", ~S|(memory (export "x") 1)|},
          {"table", "(table 1 funcref)", ~S|(table (export "x") 1 funcref)|},
          {"global", "(global i32)", ~S|(global (export "x") i32 (i32.const 1))|},
          {"tag", "(tag)", ~S|(tag (export "x"))|}
        ] do
      test "an imported #{what}, whether it is given or not" do
        module = load!(~s|(module (import "env" "x" #{unquote(imported)}) (func (export "f")))|)

        for imports <- [%{}, %{"env" => load!("(module #{unquote(exported)})")}] do
          error = refused(Instance.new(module, snapshottable: true, imports: imports))
          assert error.detail =~ ~s|the #{unquote(what)} "env" "x"|
        end
      end
    end

    test "an export with a name that snapshots need for themselves" do
      for body <- [
            ~S|(memory 1) (export "__wizer_memory_0" (memory 0))|,
            ~S|(memory 1) (func (export "__wizer_memory_0"))|,
            ~S|(global (mut i32) (i32.const 0)) (func (export "__wizer_global_0"))|,
            ~S|(memory 1) (memory (export "__wizer_memory_0") 1)|,
            ~S|(global $a (mut i32) (i32.const 1)) (global (export "__wizer_global_0") (mut i32) (i32.const 2))|
          ] do
        module = load!("(module #{body} (func (export \"f\")))")

        case Instance.new(module, snapshottable: true) do
          {:ok, instance} ->
            # Then it has to be right.
            {:ok, wasm} = Instance.snapshot(instance)
            assert Module.exports(load!(wasm)) == Module.exports(module)

          error ->
            assert refused(error).detail =~ "__wizer_"
        end
      end
    end
  end

  describe "no snapshot" do
    test "is there of an instance that was not made for it" do
      instance = live()

      for result <- [Instance.snapshot(instance), Instance.fork(instance)] do
        assert refused(result).detail =~ "not made with `snapshottable`"
      end

      assert Instance.call(instance, "next") == {:ok, 1}
    end

    test "is there of a poisoned, busy or closed one" do
      instance = live(snapshottable: true)
      both = fn -> [Instance.snapshot(instance), Instance.fork(instance)] end
      assert {:ok, _} = Instance.fork(instance)

      holder = hold(instance)
      assert Enum.map(both.(), &reason/1) == [:busy, :busy]
      release(holder)
      assert {:ok, _} = Instance.fork(instance)

      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      assert Enum.map(both.(), &reason/1) == [:poisoned, :poisoned]
      :ok = Instance.reset(instance)
      assert {:ok, _} = Instance.fork(instance)

      :ok = Instance.close(instance)
      assert Enum.map(both.(), &reason/1) == [:closed, :closed]
    end

    test "is refused to one who waits for it: it comes when it is its turn" do
      for take <- [&Instance.snapshot/2, &Instance.fork/2] do
        instance = live(snapshottable: true)

        in_line =
          while_held(instance, fn ->
            [in_line(fn -> take.(instance, wait: never()) end), next_in_line(instance)]
          end)

        assert [{:ok, _taken}, {:ok, 1}] = await(in_line)
      end
    end

    test "takes options that there are none of" do
      for take <- [&Instance.snapshot/2, &Instance.fork/2] do
        error =
          assert_raise ArgumentError, fn -> take.(live(snapshottable: true), compress: true) end

        assert error.message =~ "unknown option of a call on an instance :compress"
      end
    end

    test "harms the instance when its taker is killed" do
      instance = live(snapshottable: true)
      {:ok, 1} = Memory.grow(instance, 500)
      :ok = Memory.write(instance, 0, :rand.bytes(500 * @page))

      for _ <- 1..5 do
        pid = spawn(fn -> Instance.snapshot(instance) end)
        Process.exit(pid, :kill)
      end

      assert Instance.call(instance, "next", [], wait: never()) == {:ok, 1}
    end
  end

  describe "preinit" do
    defp slow do
      asking(~S"""
      (memory (export "memory") 1)
      (global $ready (mut i32) (i32.const 0))
      (global $started (mut i32) (i32.const 0))
      (func $s (global.set $started (i32.add (global.get $started) (i32.const 1))))
      (start $s)
      (func (export "init") (param i32 i32)
        (global.set $ready (call $f (i32.add (local.get 0) (local.get 1))))
        (drop (memory.grow (i32.const 2)))
        (i32.store (i32.const 150000) (global.get $ready)))
      (func (export "state") (result i32 i32 i32 i32)
        (global.get $ready) (global.get $started) (memory.size) (i32.load (i32.const 150000)))
      (func (export "fail") unreachable)
      (func (export "spin") (loop (br 0)))
      """)
    end

    test "gives a module whose instances begin where the call ended" do
      imports = f(fn ctx, n -> n * Host.data(ctx) end)
      assert {:ok, ready} = Runtime.preinit(slow(), "init", [3, 4], imports: imports, data: 10)
      state = {:ok, [70, 1, 3, 70]}

      for _ <- 1..3, do: assert(Executor.call(ready, "state", [], imports: echo()) == state)
      assert {:ok, instance} = Instance.new(ready, imports: echo())
      assert Instance.call(instance, "state") == state
      assert Instance.reset(instance) == :ok
      assert Instance.call(instance, "state") == state

      # Every export stays, and so does what has to be given.
      assert Enum.map(Module.exports(ready), & &1.name) ==
               Enum.map(Module.exports(slow()), & &1.name)

      assert Module.imports(ready) == Module.imports(slow())
      assert {:error, %Cybernetic.WASM.LinkError{}} = Executor.call(ready, "state")
    end

    test "may be done again, on top" do
      {:ok, once} = Runtime.preinit(slow(), "init", [1, 1], imports: echo())
      {:ok, twice} = Runtime.preinit(once, "init", [2, 2], imports: echo())
      assert Executor.call(twice, "state", [], imports: echo()) == {:ok, [4, 1, 5, 4]}
      assert {:ok, instance} = Instance.new(twice, imports: echo(), snapshottable: true)
      assert {:ok, _} = Instance.fork(instance)
    end

    test "leaves the module as it was" do
      module = slow()
      {:ok, _} = Runtime.preinit(module, "init", [1, 1], imports: echo())
      # Its memory has one page: there is nothing yet to be read where the call wrote.
      assert {:error, %TrapError{code: :memory_out_of_bounds}} =
               Executor.call(module, "state", [], imports: echo())
    end

    test "fails as the call does, or as the instance" do
      opts = [imports: echo()]
      assert {:error, %TrapError{}} = Runtime.preinit(slow(), "fail", [], opts)

      assert {:error, %LimitError{limit: :fuel}} =
               Runtime.preinit(slow(), "spin", [], [fuel: 1_000] ++ opts)

      assert reason(Runtime.preinit(slow(), "nothing", [], opts)) == :no_such_export
      assert reason(Runtime.preinit(slow(), "init", [1], opts)) == :arity
      assert {:error, %Cybernetic.WASM.LinkError{}} = Runtime.preinit(slow(), "init", [1, 1])
    end

    test "takes the options of an instance, and no others" do
      error =
        assert_raise ArgumentError, fn ->
          Runtime.preinit(slow(), "init", [1, 1], imports: echo(), keep: true)
        end

      assert error.message =~ "unknown instance option :keep"
    end

    test "keeps what the module was loaded with, and its name" do
      {:ok, ready} = Runtime.preinit(compute(metering: :epoch), "add", [1, 2])
      assert ready.name == "compute.wasm"
      assert inspect(ready) =~ "compute.wasm"
      assert %Run{result: 5, usage: %{fuel: nil}} = Executor.run!(ready, "add", [2, 3])
      assert ready.digest != compute().digest
    end

    test "takes a module of any size" do
      module =
        load!(~S"""
        (module (memory (export "memory") 200)
          (func (export "fill") (memory.fill (i32.const 0) (i32.const 7) (i32.const 12000000))))
        """)

      assert {:ok, ready} = Runtime.preinit(module, "fill")
      assert ready.size > 12_000_000
      assert Memory.read(Instance.new!(ready), 11_999_998, 3) == {:ok, <<7, 7, 0>>}
    end
  end
end
