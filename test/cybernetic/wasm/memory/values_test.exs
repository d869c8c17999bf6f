defmodule Cybernetic.WASM.Memory.ValuesTest do
  # What is in a memory: typed values, C strings and slices. `memory_test.exs` has bytes, sizes and targets.

  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Guests, Memories, Shapes, Turns}

  alias Cybernetic.WASM.{CallError, Instance, Memory}

  @page 65_536
  @last (1 <<< 64) - 1

  defp error({:error, %CallError{} = error}), do: error

  describe "values" do
    test "of every type come back as they were given, alone and in a row" do
      instance = guest()

      check_all(200, fn ->
        for {type, size} <- sizes() do
          value = value(type)
          offset = :rand.uniform(@page - size) - 1
          assert Memory.write_value(instance, offset, type, value) == :ok
          assert same(Memory.read_value(instance, offset, type), value)

          values = for _ <- 1..:rand.uniform(20), do: value(type)
          count = length(values)
          offset = :rand.uniform(@page - size * count) - 1
          assert Memory.write_value(instance, offset, {type, count}, values) == :ok
          assert same(Memory.read_value(instance, offset, {type, count}), values)
          # The row has no gaps.
          index = :rand.uniform(count) - 1
          there = Memory.read_value(instance, offset + index * size, type)
          assert same(there, Enum.at(values, index))
        end
      end)
    end

    # By their bits: -0.0 is not 0.0.
    defp same({:ok, read}, value),
      do: :erlang.term_to_binary(read) == :erlang.term_to_binary(value)

    test "are the same by way of a server and of a context" do
      with_each(fn target ->
        for type <- Map.keys(sizes()) do
          value = value(type)
          assert Memory.write_value(target, 64, type, value) == :ok
          assert same(Memory.read_value(target, 64, type), value)
          assert Memory.write_value(target, 64, {type, 2}, [value, value]) == :ok
          assert same(Memory.read_value(target, 64, {type, 2}), [value, value])
        end
      end)
    end

    test "are little-endian" do
      instance = guest()

      for {type, value, bytes} <- [
            {:u8, 255, <<255>>},
            {:i8, -1, <<255>>},
            {:u16, 0x0102, <<2, 1>>},
            {:i32, -2, <<0xFE, 0xFF, 0xFF, 0xFF>>},
            {:u64, 1, <<1, 0, 0, 0, 0, 0, 0, 0>>},
            {:f32, 1.0, <<0, 0, 0x80, 0x3F>>},
            {:f64, -2.0, <<0, 0, 0, 0, 0, 0, 0, 0xC0>>},
            {:f32, :nan, <<0, 0, 0xC0, 0x7F>>},
            {:f64, :neg_infinity, <<0, 0, 0, 0, 0, 0, 0xF0, 0xFF>>},
            {{:u16, 3}, [1, 2, 3], <<1, 0, 2, 0, 3, 0>>},
            {:v128, "0123456789abcdef", "0123456789abcdef"}
          ] do
        assert Memory.write_value(instance, 32, type, value) == :ok
        assert Memory.read(instance, 32, byte_size(bytes)) == {:ok, bytes}
        assert Memory.read_value(instance, 32, type) == {:ok, value}
      end
    end

    test "at the edges of their types" do
      instance = guest()

      for {type, bits} <- [i8: 8, i16: 16, i32: 32, i64: 64] do
        {least, most} = {-(1 <<< (bits - 1)), (1 <<< (bits - 1)) - 1}
        values = [least, -1, 0, most]
        assert Memory.write_value(instance, 0, {type, 4}, values) == :ok
        assert Memory.read_value(instance, 0, {type, 4}) == {:ok, values}

        for wrong <- [least - 1, most + 1] do
          error =
            assert_raise ArgumentError, fn -> Memory.write_value(instance, 0, type, wrong) end

          assert error.message =~ "#{inspect(type)} does not hold #{wrong}"
        end
      end

      for {type, bits} <- [u8: 8, u16: 16, u32: 32, u64: 64] do
        assert Memory.write_value(instance, 0, type, (1 <<< bits) - 1) == :ok
        assert Memory.read_value(instance, 0, type) == {:ok, (1 <<< bits) - 1}

        for wrong <- [-1, 1 <<< bits] do
          assert_raise ArgumentError, fn -> Memory.write_value(instance, 0, type, wrong) end
        end
      end
    end

    test "of floats are rounded and refused as arguments are" do
      echo =
        load!(~S"""
        (module (memory (export "memory") 1)
          (func (export "f32") (param f32) (i32.store (i32.const 0) (i32.reinterpret_f32 (local.get 0))))
          (func (export "f64") (param f64) (i64.store (i32.const 0) (i64.reinterpret_f64 (local.get 0)))))
        """)

      instance = Instance.new!(echo)

      for value <- [
            0.1,
            1.0e-46,
            -1.0e-46,
            3.4028234663852886e38,
            3.4028235677973362e38,
            3.4028235677973366e38,
            1.0e39,
            1.7976931348623157e308,
            5.0e-324,
            16_777_217,
            (1 <<< 53) - 1,
            1 <<< 53,
            (1 <<< 53) + 1,
            -(1 <<< 60),
            :nan,
            :infinity,
            :neg_infinity,
            :inf,
            nil,
            {:f32_bits, 0x7FA0_0001},
            {:f64_bits, 0x7FF4_0000_0000_0001},
            {:f32_bits, -1}
          ],
          type <- [:f32, :f64] do
        bytes = div(if(type == :f32, do: 32, else: 64), 8)
        :ok = Memory.write(instance, 0, <<0::64>>)

        by_argument =
          case Instance.call(instance, "#{type}", [value]) do
            {:ok, nil} -> elem(Memory.read(instance, 0, bytes), 1)
            {:error, %CallError{reason: :type}} -> :refused
          end

        by_memory =
          try do
            :ok = Memory.write_value(instance, 8, type, value)
            elem(Memory.read(instance, 8, bytes), 1)
          rescue
            ArgumentError -> :refused
          end

        assert {type, value, by_memory} == {type, value, by_argument}
      end
    end

    test "that their type does not hold raise, and nothing is written" do
      with_each(fn target ->
        for {type, wrong} <- [
              {:i32, "1"},
              {:i32, 1.0},
              {:u8, nil},
              {:f64, "1.0"},
              {:f32, {:f64_bits, 0}},
              {:f64, {:f32_bits, 0}},
              {:f32, {:f32_bits, 1 <<< 32}},
              {:v128, <<0::120>>},
              {:v128, 0},
              {:i32, [1]},
              {{:i32, 2}, [1, 2.0]},
              {{:i32, 2}, [1]},
              {{:i32, 2}, [1, 2, 3]},
              {{:i32, 2}, 1},
              {{:i32, 2}, [1 | 2]},
              {{:i32, 1}, nil}
            ] do
          assert_raise ArgumentError, fn -> Memory.write_value(target, 100, type, wrong) end
        end

        assert Memory.read(target, 100, 16) == {:ok, <<0::128>>}
      end)
    end

    test "of types that there are none of raise with those that there are" do
      instance = guest()

      for type <- [:int, nil, "i32", {:int, 0}, {:int, 2}, {:i32, -1}, {:i32, nil}, {:i32}] do
        error = assert_raise ArgumentError, fn -> Memory.read_value(instance, 0, type) end

        assert error.message =~ "unknown type"
        assert error.message =~ ":u16"
      end

      for {type, values} <- [{:int, 1}, {{:int, 0}, []}, {{:int, 1}, [1]}] do
        error =
          assert_raise ArgumentError, fn -> Memory.write_value(instance, 0, type, values) end

        assert error.message =~ "unknown type :int; known are: "
      end
    end

    test "beyond the end are refused" do
      with_each(fn target ->
        assert reason(Memory.read_value(target, @page - 3, :i32)) == :out_of_bounds
        assert reason(Memory.write_value(target, @page - 7, :f64, 1.0)) == :out_of_bounds
        assert reason(Memory.read_value(target, 0, {:v128, 4_097})) == :out_of_bounds
        assert reason(Memory.read_value(target, 0, {:u8, 1 <<< 60})) == :out_of_bounds
        assert {:ok, values} = Memory.read_value(target, 0, {:u8, @page})
        assert length(values) == @page
      end)
    end

    test "of which there are none are an empty list" do
      with_each(fn target ->
        assert Memory.read_value(target, @page, {:f64, 0}) == {:ok, []}
        assert Memory.write_value(target, @page, {:f64, 0}, []) == :ok
        assert reason(Memory.read_value(target, @page + 1, {:f64, 0})) == :out_of_bounds
      end)
    end
  end

  # Every value of `type` that comes back as it was given.
  defp value(type) when type in [:i8, :i16, :i32, :i64] do
    bits = 8 * size(type)
    signed(bits(bits), bits)
  end

  defp value(type) when type in [:u8, :u16, :u32, :u64], do: bits(8 * size(type))
  defp value(:v128), do: <<bits(64)::64, bits(64)::64>>

  defp value(type) when type in [:f32, :f64] do
    bits = bits(8 * size(type))

    case {type, <<bits::size(size(type))-unit(8)>>} do
      {:f32, <<value::float-32>>} -> value
      {:f64, <<value::float-64>>} -> value
      _not_finite -> Enum.random([:nan, :infinity, :neg_infinity, odd_nan(type)])
    end
  end

  defp odd_nan(:f32), do: {:f32_bits, 0x7F80_0001 + :rand.uniform(0x3F_FFFE) - 1}
  defp odd_nan(:f64), do: {:f64_bits, 0xFFF8_0000_0000_0001 + :rand.uniform(1_000)}

  defp size(type), do: Map.fetch!(sizes(), type)

  defp sizes do
    %{i8: 1, u8: 1, i16: 2, u16: 2, i32: 4, u32: 4, i64: 8, u64: 8, f32: 4, f64: 8, v128: 16}
  end

  describe "C strings" do
    test "are written with their zero byte, and read without" do
      with_each(fn target ->
        :ok = Memory.write(target, 300, :binary.copy("x", 20))
        assert Memory.write_cstring(target, 300, ["grü", ?ß, "e"]) == :ok
        assert Memory.read_cstring(target, 300) == {:ok, IO.iodata_to_binary(["grü", ?ß, "e"])}
        assert Memory.read_cstring(target, 16) == {:ok, "from the module"}
        assert Memory.read_cstring(target, 21) == {:ok, "the module"}
      end)
    end

    test "may be empty" do
      with_each(fn target ->
        assert Memory.read_cstring(target, 0) == {:ok, ""}
        assert Memory.write_cstring(target, 400, "") == :ok
        assert Memory.read_cstring(target, 400) == {:ok, ""}
        assert Memory.read_cstring(target, @page - 1) == {:ok, ""}
      end)
    end

    test "may stand at the very end" do
      with_each(fn target ->
        for length <- [0, 1, 5, 254, 255, 256, 257, 511, 512, 513, 1_000] do
          text = :binary.copy("e", length)
          assert Memory.write_cstring(target, @page - length - 1, text) == :ok
          assert Memory.read_cstring(target, @page - length - 1) == {:ok, text}
          error = error(Memory.write_cstring(target, @page - length, text))
          assert error.reason == :out_of_bounds
        end
      end)
    end

    test "that nothing ends are told, within the memory" do
      with_each(fn target ->
        :ok = Memory.write(target, @page - 600, :binary.copy("e", 600))

        for length <- [1, 255, 256, 257, 600] do
          error = error(Memory.read_cstring(target, @page - length))

          assert {error.reason, error.offset, error.length} ==
                   {:unterminated, @page - length, length}

          assert Exception.message(error) =~ "no zero byte ends the string at offset"
        end

        # There is no byte at all.
        assert reason(Memory.read_cstring(target, @page)) == :unterminated

        for offset <- [@page + 1, @last, -1],
            do:
              assert(
                reason(Memory.read_cstring(target, offset)) in [:unterminated, :out_of_bounds]
              )
      end)
    end

    test "are looked at no further than max:" do
      with_each(fn target ->
        :ok = Memory.write_cstring(target, 1_000, :binary.copy("m", 1_000))
        assert {:ok, text} = Memory.read_cstring(target, 1_000, max: 1_001)
        assert byte_size(text) == 1_000

        for max <- [0, 1, 256, 999, 1_000] do
          error = error(Memory.read_cstring(target, 1_000, max: max))
          assert {error.reason, error.length} == {:unterminated, max}
        end
      end)

      big = guest()
      {:ok, 1} = Memory.grow(big, 3)
      :ok = Memory.write_cstring(big, 0, :binary.copy("b", 100_000))
      # The default.
      assert error(Memory.read_cstring(big, 0)).length == 65_536
      assert {:ok, text} = Memory.read_cstring(big, 0, max: 1_000_000)
      assert byte_size(text) == 100_000
    end

    test "take no other max: than a number of bytes" do
      instance = guest()

      for max <- [nil, -1, 1.5, "10", :infinity] do
        error = assert_raise ArgumentError, fn -> Memory.read_cstring(instance, 0, max: max) end
        assert error.message =~ "option :max must be a number of bytes"
      end
    end

    test "have no zero byte inside" do
      instance = guest()
      :ok = Memory.write(instance, 0, "before")

      for bytes <- [<<0>>, "a\0b", ["a", 0], "a\0"] do
        assert_raise ArgumentError, ~r/no zero byte inside/, fn ->
          Memory.write_cstring(instance, 0, bytes)
        end
      end

      assert Memory.read(instance, 0, 6) == {:ok, "before"}
    end

    test "of any length come back, wherever they stand" do
      instance = guest()

      check_all(200, fn ->
        text = for _ <- 1..:rand.uniform(700), into: "", do: <<:rand.uniform(255)>>
        offset = :rand.uniform(@page - byte_size(text)) - 1
        assert Memory.write_cstring(instance, offset, text) == :ok
        assert Memory.read_cstring(instance, offset) == {:ok, text}
      end)
    end
  end

  describe "a slice" do
    test "is all the bytes, in binaries of the size that is asked for" do
      with_each(fn target ->
        bytes = :rand.bytes(1_000)
        :ok = Memory.write(target, 64, bytes)

        for {chunk, sizes} <- [
              {1_000, [1_000]},
              {1_001, [1_000]},
              {999, [999, 1]},
              {300, [300, 300, 300, 100]},
              {500, [500, 500]}
            ] do
          pieces = target |> Memory.slice(64, 1_000, chunk: chunk) |> Enum.to_list()
          assert Enum.map(pieces, &byte_size/1) == sizes
          assert IO.iodata_to_binary(pieces) == bytes
        end

        assert target |> Memory.slice(64, 1_000, chunk: 1) |> Enum.count() == 1_000
        assert target |> Memory.slice(64, 1_000) |> Enum.to_list() == [bytes]
      end)
    end

    test "has chunks of 65,536 bytes if nothing else is said" do
      instance = guest()
      {:ok, 1} = Memory.grow(instance, 2)

      assert instance |> Memory.slice(10, 3 * @page - 10) |> Enum.map(&byte_size/1) ==
               [@page, @page, @page - 10]
    end

    test "of nothing is empty" do
      with_each(fn target ->
        assert target |> Memory.slice(0, 0) |> Enum.to_list() == []
        # Nothing is read, so nothing is out of bounds.
        assert target |> Memory.slice(@page + 1, 0) |> Enum.to_list() == []
      end)
    end

    test "is lazy: each piece is what is there when it is asked for" do
      instance = guest()

      pieces =
        instance
        |> Memory.slice(0, 40, chunk: 10)
        |> Stream.with_index()
        |> Enum.map(fn {piece, index} ->
          :ok = Memory.write(instance, 10 * (index + 1), :binary.copy("#{index + 1}", 10))
          piece
        end)

      assert pieces == [<<0::80>>, "1111111111", "2222222222", "3333333333"]

      # What nobody asks for is not read, though it is far beyond the end.
      assert instance |> Memory.slice(0, @last, chunk: 20) |> Enum.take(1) ==
               [<<0::80, "1111111111">>]
    end

    test "may be read again, and is then what is there now" do
      instance = guest()
      slice = Memory.slice(instance, 0, 3)
      assert Enum.to_list(slice) == [<<0, 0, 0>>]
      :ok = Memory.write(instance, 0, "now")
      assert Enum.to_list(slice) == ["now"]
    end

    test "raises where it leaves the memory, after what was before" do
      with_each(fn target ->
        assert target |> Memory.slice(@page - 10, 20, chunk: 5) |> Enum.take(2) |> length() == 2

        error =
          assert_raise CallError, fn ->
            target |> Memory.slice(@page - 10, 20, chunk: 5) |> Enum.to_list()
          end

        assert {error.reason, error.offset, error.length} == {:out_of_bounds, @page, 5}
      end)
    end

    test "raises what it meets on its way" do
      instance = guest()

      stream =
        instance
        |> Memory.slice(0, 100, chunk: 10)
        |> Stream.each(fn _ -> Instance.call(instance, "fail") end)

      assert_raise CallError, ~r/poisoned/, fn -> Stream.run(stream) end
    end

    test "raises at once for options that there are none of" do
      instance = guest()

      for opts <- [[chnuk: 5], [chunk: 0], [chunk: -1], [chunk: 1.0], [memory: :memory], %{}] do
        assert_raise ArgumentError, fn -> Memory.slice(instance, 0, 10, opts) end
      end
    end
  end
end
