defmodule Cybernetic.WASM.MemoryTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Guests, Memories, Shapes, Turns}

  alias Cybernetic.WASM.{CallError, HostError, Instance, LimitError, Memory, Shown, TrapError}

  doctest Cybernetic.WASM.Memory

  @page 65_536
  @last (1 <<< 64) - 1

  defp error({:error, %CallError{} = error}), do: error

  describe "read and write" do
    test "take and give bytes" do
      with_each(fn target ->
        assert Memory.read(target, 16, 15) == {:ok, "from the module"}
        assert Memory.write(target, 100, ["hel", ?l, ["o"]]) == :ok
        assert Memory.read(target, 100, 5) == {:ok, "hello"}
        assert Memory.read(target, 99, 7) == {:ok, <<0, "hello", 0>>}
      end)
    end

    test "are what the guest sees" do
      instance = guest()
      assert Memory.write(instance, 200, <<7, 8>>) == :ok
      assert Instance.call(instance, "peek", [201]) == {:ok, 8}
      assert Instance.call(instance, "poke", [200, 255]) == {:ok, nil}
      assert Memory.read(instance, 200, 2) == {:ok, <<255, 8>>}
    end

    test "of nothing succeed up to the end, and not beyond it" do
      with_each(fn target ->
        for offset <- [0, 1, @page - 1, @page] do
          assert Memory.read(target, offset, 0) == {:ok, ""}
          assert Memory.write(target, offset, []) == :ok
        end

        for offset <- [@page + 1, 1 <<< 32, @last, -1] do
          assert reason(Memory.read(target, offset, 0)) == :out_of_bounds
          assert reason(Memory.write(target, offset, "")) == :out_of_bounds
        end
      end)
    end

    test "reach the last byte" do
      with_each(fn target ->
        assert Memory.write(target, @page - 1, "z") == :ok
        assert Memory.read(target, @page - 1, 1) == {:ok, "z"}
        assert {:ok, all} = Memory.read(target, 0, @page)
        assert byte_size(all) == @page
        assert :binary.last(all) == ?z
      end)
    end

    test "beyond the end are refused, whatever the numbers" do
      with_each(fn target ->
        for {offset, length} <- [
              {@page, 1},
              {@page - 1, 2},
              {0, @page + 1},
              {1 <<< 31, 1},
              {1 <<< 32, 1},
              {(1 <<< 32) + 1, 1},
              {@last, 1},
              {1, @last},
              {@last, @last},
              {(1 <<< 63) + 8, 1 <<< 63}
            ] do
          error = error(Memory.read(target, offset, length))
          assert error.reason == :out_of_bounds
          assert {error.offset, error.length, error.size} == {offset, length, @page}

          [length, offset] = Enum.map([length, offset], &Shown.number/1)

          assert Exception.message(error) ==
                   "#{length} bytes at offset #{offset} are outside a memory of 65,536 bytes"
        end

        error = error(Memory.write(target, @page - 3, "four"))
        assert {error.reason, error.offset, error.length} == {:out_of_bounds, @page - 3, 4}
        # Not a byte of it was written.
        assert Memory.read(target, @page - 3, 3) == {:ok, <<0, 0, 0>>}
      end)
    end

    test "take a guest's negative pointer for the unsigned one that it is" do
      with_each(fn target ->
        assert error(Memory.read(target, -1, 1)).offset == 0xFFFF_FFFF
        assert error(Memory.write(target, -0x8000_0000, "x")).offset == 0x8000_0000
        assert error(Memory.read(target, 0, -1)).length == 0xFFFF_FFFF
      end)

      module = load!(~S|(module (memory (export "memory") 32769))|)
      instance = Instance.new!(module, max_memory: 3_000_000_000)
      assert Memory.write(instance, -0x8000_0000, "far") == :ok
      assert Memory.read(instance, 0x8000_0000, 3) == {:ok, "far"}
      assert Memory.read_cstring(instance, -0x8000_0000) == {:ok, "far"}
      assert Memory.read_value(instance, -0x8000_0000, :u8) == {:ok, ?f}
    end

    test "take a negative number for an unsigned one of the memory's width" do
      imports = f(fn _ctx, n -> n end)

      check_all(200, fn ->
        {index, bits} = Enum.random([{"", 32}, {"i64", 64}])
        size = Enum.random([1, 2]) * @page
        from = ~s|(module (import "env" "f" (func (param i32) (result i32)))
          (memory (export "memory") #{index} #{div(size, @page)}))|
        instance = from |> load!() |> Instance.new!(imports: imports)
        back = Enum.random([1, 8, @page, 1 <<< 31, :rand.uniform(1 <<< 31)])
        unsigned = (1 <<< bits) - back

        for {call, offset, length} <- [
              {&Memory.read(instance, &1, 1), unsigned, 1},
              {&Memory.read(instance, 0, &1), 0, unsigned},
              {&Memory.write(instance, &1, "12345678"), unsigned, 8},
              {&Memory.read_value(instance, &1, :i64), unsigned, 8},
              {&Memory.write_value(instance, &1, {:i32, 2}, [1, 2]), unsigned, 8},
              {&Memory.write_cstring(instance, &1, "hi"), unsigned, 3}
            ] do
          error = error(call.(-back))
          assert {error.reason, error.size} == {:out_of_bounds, size}
          assert {error.offset, error.length} == {offset, length}
        end

        assert error(Memory.read_cstring(instance, -back)).offset == unsigned
        assert {:error, refused} = Memory.grow(instance, -back)
        if bits == 32, do: assert({refused.reason, refused.pages} == {:cannot_grow, unsigned})
        sliced = assert_raise CallError, fn -> Enum.to_list(Memory.slice(instance, -back, 4)) end
        assert {sliced.offset, sliced.length} == {unsigned, 4}
        # What no pointer of 32 bits can be is beyond the end of either.
        assert error(Memory.read(instance, -(1 <<< 31) - back, 1)).reason == :out_of_bounds
      end)
    end

    test "never take a negative pointer of 64 bits for one of 32" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i64) (result i64)))
          (memory (export "memory") i64 32769)
          (func (export "run") (param i64) (result i64) (call $f (local.get 0))))
        """)

      test = self()

      imports =
        f(fn ctx, pointer ->
          read = Cybernetic.WASM.Host.read(ctx, pointer, 4)
          written = Cybernetic.WASM.Host.write(ctx, pointer, "oops")
          send(test, {:got, read, written})
          0
        end)

      instance = Instance.new!(module, imports: imports, max_memory: 3_000_000_000)
      # Where 2^31 is there, -2^31 is not.
      assert Memory.write(instance, 1 <<< 31, "wrong data") == :ok
      assert Instance.call(instance, "run", [-(1 <<< 31)]) == {:ok, 0}
      assert_received {:got, read, written}
      assert error(read).offset == (1 <<< 64) - (1 <<< 31)
      assert error(written).offset == (1 <<< 64) - (1 <<< 31)
      assert Memory.read(instance, 1 <<< 31, 10) == {:ok, "wrong data"}
    end

    test "raise for what is no number" do
      with_each(fn target ->
        for wrong <- [nil, 1.0, "1", :all, -(1 <<< 63) - 1, 1 <<< 64, 1 <<< 1_000] do
          for call <- [
                fn -> Memory.read(target, wrong, 1) end,
                fn -> Memory.read(target, 0, wrong) end,
                fn -> Memory.write(target, wrong, "x") end,
                fn -> Memory.grow(target, wrong) end,
                fn -> Memory.slice(target, wrong, 1) end,
                fn -> Memory.slice(target, 0, wrong) end,
                fn -> Memory.read_cstring(target, wrong) end,
                fn -> Memory.read_value(target, wrong, :i32) end
              ] do
            error = assert_raise ArgumentError, call
            assert error.message =~ "offset and length must be integers"
            assert byte_size(error.message) < 500
          end
        end

        for wrong <- [:atom, 1, [256], ["a" | :b], %{}] do
          assert_raise ArgumentError, fn -> Memory.write(target, 0, wrong) end
        end
      end)
    end

    test "carry more than a quarter of a megabyte" do
      with_each(fn target ->
        assert {:ok, 1} = Memory.grow(target, 20)

        for size <- [262_143, 262_144, 262_145, 1_000_000] do
          bytes = :rand.bytes(size)
          assert Memory.write(target, 5, bytes) == :ok
          assert Memory.read(target, 5, size) == {:ok, bytes}
          assert error(Memory.write(target, 21 * @page - size + 1, bytes)).length == size
          assert error(Memory.read(target, 21 * @page - size + 1, size)).length == size
        end
      end)
    end

    test "of any pieces come to the same as one binary that they change" do
      instance = guest()
      Process.put(:model, elem(Memory.read(instance, 0, @page), 1))

      check_all(300, fn ->
        model = Process.get(:model)
        offset = :rand.uniform(@page) - 1
        bytes = :rand.bytes(:rand.uniform(2_000))

        if offset + byte_size(bytes) <= @page do
          assert Memory.write(instance, offset, bytes) == :ok
          <<before::binary-size(offset), _::binary-size(byte_size(bytes)), rest::binary>> = model
          Process.put(:model, before <> bytes <> rest)
        else
          assert reason(Memory.write(instance, offset, bytes)) == :out_of_bounds
        end

        {from, length} = {:rand.uniform(@page) - 1, :rand.uniform(3_000)}
        length = min(length, @page - from)

        assert Memory.read(instance, from, length) ==
                 {:ok, binary_part(Process.get(:model), from, length)}
      end)
    end
  end

  describe "size and grow" do
    test "tell what there is, and what there was" do
      with_each(fn target ->
        assert Memory.size(target) == {:ok, @page}
        assert Memory.grow(target, 0) == {:ok, 1}
        assert Memory.grow(target, 2) == {:ok, 1}
        assert Memory.grow(target, 1) == {:ok, 3}
        assert Memory.size(target) == {:ok, 4 * @page}
        # What is new is empty, and what was there is there.
        assert Memory.read(target, 4 * @page - 8, 8) == {:ok, <<0::64>>}
        assert Memory.read(target, 16, 4) == {:ok, "from"}
      end)
    end

    test "are what the guest sees" do
      instance = guest()
      assert Memory.grow(instance, 3) == {:ok, 1}
      assert Instance.call(instance, "pages") == {:ok, 4}
      assert Instance.call(instance, "poke", [4 * @page - 1, 7]) == {:ok, nil}
    end

    test "beyond the memory's own maximum is refused, and changes nothing" do
      with_each(fn target ->
        for pages <- [100, 65_536, 1 <<< 32, 1 <<< 48, @last, -1] do
          error = error(Memory.grow(target, pages))
          assert {error.reason, error.maximum} == {:cannot_grow, 100}
          assert Exception.message(error) =~ ~r/cannot grow by \d+ pages: it may have 100\z/
        end

        assert Memory.size(target) == {:ok, @page}
        assert Memory.grow(target, 99) == {:ok, 1}
        assert reason(Memory.grow(target, 1)) == :cannot_grow
        assert Memory.grow(target, 0) == {:ok, 100}
      end)
    end

    test "of a memory without a maximum end at what an address can name" do
      instance = Instance.new!(load!(~S|(module (memory (export "memory") 1))|))

      for pages <- [65_536, 1 <<< 48, @last] do
        assert {:error, %kind{}} = Memory.grow(instance, pages)
        assert kind in [CallError, LimitError]
      end
    end

    test "beyond the limit is refused by its name, and the guest goes on" do
      instance = guest(max_memory: 3 * @page)

      for _ <- 1..3 do
        assert {:error, %LimitError{limit: :memory, allowed: 196_608, used: 262_144}} =
                 Memory.grow(instance, 3)
      end

      refute Instance.poisoned?(instance)
      assert Memory.size(instance) == {:ok, @page}
      assert Instance.call(instance, "pages") == {:ok, 1}
      assert Memory.grow(instance, 2) == {:ok, 1}
    end

    test "beyond the limit is refused to a host function too, and the guest goes on" do
      imports =
        f(fn ctx, n ->
          assert {:error, %LimitError{limit: :memory}} = Memory.grow(ctx, 3)
          assert Memory.grow(ctx, 1) == {:ok, 1}
          n
        end)

      instance = guest(max_memory: 3 * @page)
      assert Instance.call!(instance, "run", [4], imports: imports) == 4
      refute Instance.poisoned?(instance)
      assert Memory.size(instance) == {:ok, 2 * @page}
      # What the host was refused does not excuse a trap of the guest's later.
      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
    end
  end

  describe "memory:" do
    defp several do
      Instance.new!(
        load!(~S"""
        (module
          (memory $hidden 1)
          (memory $a (export "first") 1)
          (memory $b (export "second") (export "zweite") 2 3)
          (memory $c (export "größe") i64 1)
          (func (export "memory"))
          (global (export "g") i32 (i32.const 0)))
        """)
      )
    end

    test "chooses by the export's name; the first exported one is the default" do
      instance = several()
      assert Memory.size(instance) == {:ok, @page}
      assert Memory.size(instance, memory: "first") == {:ok, @page}
      assert Memory.size(instance, memory: "second") == {:ok, 2 * @page}
      :ok = Memory.write(instance, 0, "one")
      :ok = Memory.write(instance, 0, "two", memory: "second")
      :ok = Memory.write_value(instance, 0, :u32, 333, memory: "größe")
      assert Memory.read(instance, 0, 3, memory: "first") == {:ok, "one"}
      assert Memory.read(instance, 0, 3, memory: "zweite") == {:ok, "two"}
      assert Memory.read_value(instance, 0, :u32, memory: "größe") == {:ok, 333}
      assert Memory.read_cstring(instance, 0, memory: "second") == {:ok, "two"}
      assert Memory.read_cstring(instance, 0, memory: "second", max: 9) == {:ok, "two"}
      assert :ok = Memory.write_cstring(instance, 5, "c", memory: "second")

      assert instance |> Memory.slice(0, 6, memory: "second", chunk: 3) |> Enum.to_list() ==
               ["two", <<0, 0, "c">>]

      assert Memory.grow(instance, 1, memory: "second") == {:ok, 2}

      assert %CallError{reason: :cannot_grow, pages: 1, maximum: 3} =
               error(Memory.grow(instance, 1, memory: "zweite"))

      assert Memory.size(instance, memory: "first") == {:ok, @page}
    end

    test "that there is none of is told" do
      instance = several()

      for name <- ["third", "memory", "g", "", <<255>>, "first\0", "hidden"],
          access <- [
            &Memory.size(instance, &1),
            &Memory.grow(instance, 1, &1),
            &Memory.read(instance, 0, 1, &1),
            &Memory.read(instance, 0, 300_000, &1),
            &Memory.write(instance, 0, "x", &1),
            &Memory.read_value(instance, 0, :u8, &1),
            &Memory.read_cstring(instance, 0, &1)
          ] do
        error = error(access.(memory: name))
        assert error.reason == :no_memory
        assert Exception.message(error) =~ "no memory is exported as"
      end

      refute Instance.poisoned?(instance)
    end

    test "is a string, and the one option" do
      with_each(fn target ->
        for opts <- [
              [memory: :memory],
              [memory: nil],
              [memroy: "memory"],
              [memory: "memory", wait: 1],
              %{memory: "memory"},
              :memory
            ],
            access <- [
              &Memory.size(target, &1),
              &Memory.grow(target, 1, &1),
              &Memory.read(target, 0, 1, &1),
              &Memory.write(target, 0, "x", &1),
              &Memory.read_value(target, 0, :u8, &1),
              &Memory.write_value(target, 0, :u8, 1, &1),
              &Memory.read_cstring(target, 0, &1),
              &Memory.write_cstring(target, 0, "x", &1),
              &Memory.slice(target, 0, 1, &1)
            ] do
          error = assert_raise ArgumentError, fn -> access.(opts) end
          assert error.message =~ "the one option is :memory"
        end
      end)
    end

    test "need not be named memory" do
      instance = Instance.new!(load!(~S|(module (memory (export "heap") 1))|))
      assert Memory.write(instance, 0, "x") == :ok
      assert Memory.read(instance, 0, 1, memory: "heap") == {:ok, "x"}
      assert reason(Memory.read(instance, 0, 1, memory: "memory")) == :no_memory
    end
  end

  describe "modules" do
    test "without a memory, or with a hidden one, have none" do
      for wat <- [~S|(module (func (export "f")))|, ~S|(module (memory 1))|] do
        instance = Instance.new!(load!(wat))

        for result <- [
              Memory.size(instance),
              Memory.grow(instance, 1),
              Memory.read(instance, 0, 0),
              Memory.write(instance, 0, ""),
              Memory.read_cstring(instance, 0),
              Memory.read_value(instance, 0, :u8)
            ] do
          assert reason(result) == :no_memory
        end

        assert_raise CallError, ~r/no memory/, fn ->
          instance |> Memory.slice(0, 1) |> Enum.to_list()
        end
      end
    end

    test "with 64-bit addresses are the same" do
      instance = Instance.new!(load!(~S|(module (memory (export "memory") i64 1 5))|))
      assert Memory.write(instance, @page - 4, "wide") == :ok
      assert Memory.read(instance, @page - 4, 4) == {:ok, "wide"}
      assert error(Memory.read(instance, @page, 1)).size == @page
      assert error(Memory.read(instance, @last, 1)).offset == @last
      assert Memory.grow(instance, 3) == {:ok, 1}
      assert Memory.size(instance) == {:ok, 4 * @page}

      for pages <- [2, 1 <<< 47, 1 <<< 48, @last],
          do: assert(reason(Memory.grow(instance, pages)) == :cannot_grow)
    end

    test "with a memory of no pages have an empty one" do
      instance = Instance.new!(load!(~S|(module (memory (export "memory") 0 2))|))
      assert Memory.size(instance) == {:ok, 0}
      assert Memory.read(instance, 0, 0) == {:ok, ""}
      assert error(Memory.read(instance, 0, 1)).size == 0
      assert reason(Memory.read_cstring(instance, 0)) == :unterminated
      assert Memory.grow(instance, 1) == {:ok, 0}
      assert Memory.write(instance, 0, "x") == :ok
    end
  end

  describe "a busy, poisoned or closed instance" do
    # All but the last, which are said by the exception of a stream.
    defp accesses(target) do
      [
        Memory.size(target),
        Memory.grow(target, 1),
        Memory.read(target, 0, 1),
        Memory.read(target, 0, 300_000),
        Memory.write(target, 0, "x"),
        Memory.write(target, 0, :binary.copy("x", 300_000)),
        Memory.read_value(target, 0, :i32),
        Memory.write_value(target, 0, :i32, 1),
        Memory.read_cstring(target, 0),
        Memory.write_cstring(target, 0, "x")
      ]
    end

    test "says so, and nothing is read or written" do
      instance = guest()
      holder = hold(instance)
      for result <- accesses(instance), do: assert(reason(result) == :busy)
      assert release(holder) == {:ok, 7}
      assert Memory.read(instance, 0, 2) == {:ok, <<0, 0>>}
      assert Memory.size(instance) == {:ok, @page}

      assert {:error, %TrapError{}} = Instance.call(instance, "fail")
      for result <- accesses(instance), do: assert(reason(result) == :poisoned)

      :ok = Instance.close(instance)
      for result <- accesses(instance), do: assert(reason(result) == :closed)
    end

    test "is all the same for an instance that waits for its turn, when it is told to" do
      # Of all accesses the same is true, whatever they have to do for it.
      instance = guest(wait: 1)
      holder = hold(instance)
      for result <- accesses(instance), do: assert(reason(result) == :busy)
      release(holder)
    end
  end

  describe "the context of a host function" do
    test "sees what the guest wrote before, and the guest what the host function wrote" do
      module =
        asking(~S"""
        (memory (export "memory") 1)
        (func (export "run") (result i32)
          (i32.store (i32.const 8) (i32.const 1234))
          (drop (call $f (i32.const 8)))
          (i32.add (i32.load (i32.const 16)) (memory.size)))
        """)

      imports =
        f(fn ctx, pointer ->
          assert Memory.read_value(ctx, pointer, :i32) == {:ok, 1_234}
          assert Memory.write_value(ctx, pointer + 8, :i32, 5_000) == :ok
          assert Memory.grow(ctx, 2) == {:ok, 1}
          0
        end)

      assert Instance.call!(Instance.new!(module, imports: imports), "run") == 5_003
    end

    test "is good as long as the host function has not returned" do
      test = self()
      instance = guest()
      imports = f(fn ctx, n -> send(test, {:context, ctx}) && n end)
      assert Instance.call(instance, "run", [1], imports: imports) == {:ok, 1}
      assert_received {:context, ctx}
      for result <- accesses(ctx), do: assert(reason(result) == :stale_context)
    end

    test "has a mistake of the host function's be its own failure" do
      imports = f(fn ctx, _n -> Memory.read(ctx, "0", 1) end)

      assert {:error, %HostError{kind: :error, reason: %ArgumentError{}}} =
               Instance.call(guest(), "run", [1], imports: imports)
    end
  end

  test "a target that is none raises with what is needed, a module above all" do
    for target <- [guest().module, nil, %{}, "memory", 1] do
      for access <- [&Memory.size/1, &Memory.read(&1, 0, 1), &Memory.read_cstring(&1, 0)] do
        error = assert_raise ArgumentError, fn -> access.(target) end
        assert error.message =~ "a live instance is needed, from Cybernetic.WASM.Instance.new/2"
      end
    end
  end
end
