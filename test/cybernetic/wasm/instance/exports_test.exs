defmodule Cybernetic.WASM.Instance.ExportsTest do
  # Globals and tables.
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Guests, Shapes}

  alias Cybernetic.WASM.{CallError, Instance}

  @all ~w(i32 i64 f32 f64 v128 externref funcref)

  # A global of each type, and functions by which the guest reads and writes them.
  defp globals do
    parts =
      for type <- @all do
        init =
          case type do
            "v128" -> "(v128.const i64x2 0 0)"
            "externref" -> "(ref.null extern)"
            "funcref" -> "(ref.null func)"
            number -> "(#{number}.const 0)"
          end

        """
        (global $#{type} (export "#{type}") (mut #{type}) #{init})
        (func (export "get_#{type}") (result #{type}) (global.get $#{type}))
        (func (export "set_#{type}") (param #{type}) (global.set $#{type} (local.get 0)))
        """
      end

    load!("""
    (module #{parts}
      (global (export "constant") i64 (i64.const -5))
      (global (export "") (mut i32) (i32.const 3))
      (global (export "größe 長さ") (mut i32) (i32.const 4))
      (func $id (export "id") (param i32) (result i32) (local.get 0))
      (table (export "table") 3 funcref)
      (elem (i32.const 1) $id)
      (memory (export "memory") 1))
    """)
  end

  describe "globals" do
    @values [
      {"i32", [0, 1, -1, 0x7FFF_FFFF, -0x8000_0000]},
      {"i64", [0, -1, 0x7FFF_FFFF_FFFF_FFFF, -0x8000_0000_0000_0000, 1 <<< 59, 1 <<< 60]},
      {"f32", [0.0, -0.0, 1.5, :nan, :infinity, :neg_infinity, 3.4028234663852886e38]},
      {"f32", [{:f32_bits, 0x7FA0_0001}, {:f32_bits, 0xFFFF_FFFF}, {:f32_bits, 0x7F80_0001}]},
      {"f64", [0.0, -0.0, 0.1, :nan, :infinity, :neg_infinity, 5.0e-324]},
      {"f64", [{:f64_bits, 0x7FF0_0000_0000_0001}, {:f64_bits, 0xFFFF_FFFF_FFFF_FFFF}]},
      {"v128",
       [<<0::128>>, <<-1::128>>, <<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16>>]},
      {"externref", [nil, false, :atom, %{a: [1]}, {:ok, "term"}, 1 <<< 200]}
    ]

    test "of every type are set and read, by host and guest alike" do
      instance = Instance.new!(globals())

      for {type, values} <- @values, value <- values do
        assert Instance.set_global(instance, type, value) == :ok
        # `===` and the bits of zero: -0.0 is not 0.0.
        assert {:ok, read} = Instance.get_global(instance, type)
        assert :erlang.term_to_binary(read) == :erlang.term_to_binary(value)
        assert Instance.call(instance, "get_" <> type) == {:ok, read}

        assert Instance.call(instance, "set_" <> type, [value]) == {:ok, nil}
        assert Instance.get_global(instance, type) == {:ok, read}
      end
    end

    test "take what arguments take: unsigned integers, whole numbers for floats" do
      instance = Instance.new!(globals())

      for {type, given, read} <- [
            {"i32", 0xFFFF_FFFF, -1},
            {"i64", 0xFFFF_FFFF_FFFF_FFFF, -1},
            {"i64", 1 <<< 63, -(1 <<< 63)},
            {"f32", 7, 7.0},
            {"f64", -(1 <<< 53), -9_007_199_254_740_992.0},
            {"f32", 0.1, 0.10000000149011612},
            {"f64", {:f64_bits, 0}, 0.0}
          ] do
        assert Instance.set_global(instance, type, given) == :ok
        assert Instance.get_global(instance, type) == {:ok, read}
      end
    end

    test "keep any bits" do
      instance = Instance.new!(globals())

      check_all(500, fn ->
        {i32, i64} = {bits(32), bits(64)}
        v128 = <<bits(64)::64, bits(64)::64>>
        :ok = Instance.set_global(instance, "i32", i32)
        :ok = Instance.set_global(instance, "i64", i64)
        :ok = Instance.set_global(instance, "v128", v128)
        assert Instance.get_global(instance, "i32") == {:ok, signed(i32, 32)}
        assert Instance.get_global(instance, "i64") == {:ok, signed(i64, 64)}
        assert Instance.get_global(instance, "v128") == {:ok, v128}

        for {type, tag, bits} <- [{"f32", :f32_bits, i32}, {"f64", :f64_bits, i64}] do
          :ok = Instance.set_global(instance, type, {tag, bits})
          {:ok, read} = Instance.get_global(instance, type)
          :ok = Instance.set_global(instance, type, read)
          assert Instance.get_global(instance, type) == {:ok, read}
        end
      end)
    end

    test "refuse what their type does not hold, and stay as they were" do
      instance = Instance.new!(globals())
      :ok = Instance.set_global(instance, "i32", 7)

      for {type, wrong} <- [
            {"i32", [1 <<< 32, -(1 <<< 31) - 1, 1.0, "1", nil, :nan, [1]]},
            {"i64", [1 <<< 64, 1.0, nil]},
            {"f32", [1.0e39, {:f64_bits, 0}, {:f32_bits, 1 <<< 32}, {:f32_bits, -1}, nil]},
            {"f64", [(1 <<< 53) + 1, {:f32_bits, 0}, "1.0", :inf]},
            {"v128", [<<0::120>>, <<0::136>>, 0, <<0::127>>]},
            {"funcref", [&Kernel.+/2, make_ref(), 0, "id"]}
          ],
          value <- wrong do
        assert {:error, %CallError{reason: :type, index: 0, blame: :caller} = error} =
                 Instance.set_global(instance, type, value)

        assert Exception.message(error) =~ type
      end

      assert Instance.get_global(instance, "i32") == {:ok, 7}
      refute Instance.poisoned?(instance)
    end

    test "that are constant are read, and not set" do
      instance = Instance.new!(globals())
      assert Instance.get_global(instance, "constant") == {:ok, -5}

      assert {:error, %CallError{reason: :wrong_export_kind} = error} =
               Instance.set_global(instance, "constant", 1)

      assert Exception.message(error) ==
               ~s|the export "constant" is a constant global, not a mutable global|

      assert Instance.get_global(instance, "constant") == {:ok, -5}
    end

    test "of any name are found" do
      instance = Instance.new!(globals())

      for {name, value} <- [{"", 3}, {"größe 長さ", 4}] do
        assert Instance.get_global(instance, name) == {:ok, value}
        assert Instance.set_global(instance, name, 10) == :ok
        assert Instance.get_global(instance, name) == {:ok, 10}
      end
    end

    test "that are not there, or are something else, are told apart" do
      instance = Instance.new!(globals())

      for access <- [&Instance.get_global(&1, &2), &Instance.set_global(&1, &2, 1)] do
        for missing <- ["no", <<255>>, "i32\0", String.duplicate("x", 100_000)] do
          assert {:error, %CallError{reason: :no_such_export} = error} =
                   access.(instance, missing)

          assert "constant" in error.known
          refute "id" in error.known
          assert Exception.message(error) =~ "no global is exported as"
          assert byte_size(Exception.message(error)) < 2_000
        end

        for {name, kind} <- [{"id", "function"}, {"table", "table"}, {"memory", "memory"}] do
          assert {:error, %CallError{reason: :wrong_export_kind, given: ^kind}} =
                   access.(instance, name)
        end
      end
    end

    test "hold function references of their own instance only" do
      {one, other} = {Instance.new!(globals()), Instance.new!(globals())}
      {:ok, id} = Instance.table_get(one, "table", 1)
      assert Instance.set_global(one, "funcref", id) == :ok
      assert {:ok, reference} = Instance.get_global(one, "funcref")
      assert reference != nil
      assert Instance.set_global(one, "funcref", nil) == :ok
      assert Instance.get_global(one, "funcref") == {:ok, nil}

      assert {:error, %CallError{reason: :type}} = Instance.set_global(other, "funcref", id)
    end
  end

  describe "tables" do
    defp tables do
      load!(~S"""
      (module
        (table $f (export "f") 3 10 funcref)
        (table $e (export "e") 0 externref)
        (table $wide (export "wide") i64 5 funcref)
        (func $seven (export "seven") (result i32) (i32.const 7))
        (elem (table $f) (i32.const 1) func $seven)
        (global (export "g") i32 (i32.const 0))
        (type $t (func (result i32)))
        (func (export "invoke") (param funcref) (result i32)
          (table.set $f (i32.const 0) (local.get 0))
          (call_indirect $f (type $t) (i32.const 0)))
        (func (export "push") (param externref) (result i32)
          (table.grow $e (local.get 0) (i32.const 1))))
      """)
    end

    test "tell their size and elements" do
      instance = Instance.new!(tables())
      assert Instance.table_size(instance, "f") == {:ok, 3}
      assert Instance.table_get(instance, "f", 0) == {:ok, nil}
      assert {:ok, seven} = Instance.table_get(instance, "f", 1)
      assert Instance.call(instance, "invoke", [seven]) == {:ok, 7}
      assert Instance.table_size(instance, "e") == {:ok, 0}
      assert Instance.table_size(instance, "wide") == {:ok, 5}
      assert Instance.table_get(instance, "wide", 4) == {:ok, nil}
    end

    test "show what the guest put there" do
      instance = Instance.new!(tables())

      for {term, index} <- Enum.with_index([self(), {:a, 1}, nil, "b", %{}]) do
        assert Instance.call(instance, "push", [term]) == {:ok, index}
        assert Instance.table_size(instance, "e") == {:ok, index + 1}
        assert Instance.table_get(instance, "e", index) == {:ok, term}
      end
    end

    test "have no elements beyond their end, whatever the number" do
      instance = Instance.new!(tables())

      for {table, size} <- [{"f", 3}, {"e", 0}, {"wide", 5}],
          index <- [size, 1 <<< 31, 1 <<< 32, (1 <<< 32) + 1, (1 <<< 64) - 1] do
        assert {:error, %CallError{reason: :no_such_element} = error} =
                 Instance.table_get(instance, table, index)

        assert {error.export, error.index, error.size} == {table, index, size}
        assert Exception.message(error) =~ "has #{size} elements, and none at #{index}"
      end
    end

    test "that are not there, or are something else, are told apart" do
      instance = Instance.new!(tables())

      for access <- [&Instance.table_size(&1, &2), &Instance.table_get(&1, &2, 0)] do
        assert {:error, %CallError{reason: :no_such_export, known: ["f", "e", "wide"]}} =
                 access.(instance, "no")

        assert {:error, %CallError{reason: :wrong_export_kind, given: "global"}} =
                 access.(instance, "g")

        assert {:error, %CallError{reason: :wrong_export_kind, given: "function"}} =
                 access.(instance, "seven")
      end
    end
  end

  test "names are strings, and indices integers from 0" do
    instance = Instance.new!(globals())

    for name <- [:i32, nil, ~c"i32", 1],
        access <- [
          &Instance.get_global(instance, &1),
          &Instance.set_global(instance, &1, 1),
          &Instance.table_size(instance, &1),
          &Instance.table_get(instance, &1, 0)
        ] do
      error = assert_raise ArgumentError, fn -> access.(name) end
      assert error.message =~ "an export's name is a string, got: "
    end

    for index <- [-1, 1 <<< 64, 1.0, nil, "0"] do
      error = assert_raise ArgumentError, fn -> Instance.table_get(instance, "table", index) end
      assert error.message =~ "an index is an integer from 0"
    end
  end
end
