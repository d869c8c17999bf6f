defmodule Cybernetic.WASM.ValueTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.{Eventually, Guests, Shapes}

  alias Cybernetic.WASM.{CallError, Executor, HostError}

  doctest Cybernetic.WASM.Value

  # One identity for each type, through the guest alone and through a host function.
  @types ~w(i32 i64 f32 f64 v128 externref funcref)

  setup_all do
    imports =
      for type <- @types,
          do: ~s|(import "host" "#{type}" (func $host_#{type} (param #{type}) (result #{type})))|

    functions =
      for type <- @types do
        """
        (func (export "#{type}") (param #{type}) (result #{type}) (local.get 0))
        (func (export "host_#{type}") (param #{type}) (result #{type})
          (call $host_#{type} (local.get 0)))
        """
      end

    bits = ~S"""
    (func (export "f32_bits") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
    (func (export "f64_bits") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
    (func (export "f32_from") (param i32) (result f32) (f32.reinterpret_i32 (local.get 0)))
    (func (export "f64_from") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
    (func (export "all") (param i32 i64 f32 f64 v128 externref)
      (result externref v128 f64 f32 i64 i32)
      (local.get 5) (local.get 4) (local.get 3) (local.get 2) (local.get 1) (local.get 0))
    """

    module = load!("(module #{imports} #{functions} #{bits})")
    echo = fn _ctx, value -> value end
    {:ok, module: module, opts: [imports: %{"host" => Map.new(@types, &{&1, echo})}]}
  end

  # Both ways in: as an argument and result of a call, and of a host function.
  defp through(%{module: module, opts: opts}, type, value) do
    assert {:ok, direct} = Executor.call(module, type, [value], opts)
    assert {:ok, ^direct} = Executor.call(module, "host_" <> type, [value], opts)
    direct
  end

  defp refused(%{module: module, opts: opts}, type, value) do
    assert {:error, %CallError{reason: :type, index: 0, blame: :caller} = error} =
             Executor.call(module, type, [value], opts)

    error
  end

  test "text for an integer is told how text is passed", context do
    hint = "; text is passed through the guest's memory, with the option :abi: guides/text.md"

    for type <- ["i32", "i64"] do
      assert Exception.message(refused(context, type, "a text")) =~ hint
      refute Exception.message(refused(context, type, :no_text)) =~ hint
    end

    refute Exception.message(refused(context, "f64", "a text")) =~ hint
  end

  describe "integers" do
    test "come back signed, whichever way they went in", context do
      check_all(300, fn ->
        for {type, width} <- [{"i32", 32}, {"i64", 64}] do
          value = bits(width)
          assert through(context, type, value) == signed(value, width)
          assert through(context, type, signed(value, width)) == signed(value, width)
        end
      end)
    end

    test "at their edges", context do
      for {given, back} <- [
            {0, 0},
            {-1, -1},
            {0xFFFF_FFFF, -1},
            {0x7FFF_FFFF, 0x7FFF_FFFF},
            {0x8000_0000, -0x8000_0000},
            {-0x8000_0000, -0x8000_0000}
          ] do
        assert through(context, "i32", given) == back
      end

      for {given, back} <- [
            {0xFFFF_FFFF_FFFF_FFFF, -1},
            {0x7FFF_FFFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF},
            {0x8000_0000_0000_0000, -0x8000_0000_0000_0000},
            {-0x8000_0000_0000_0000, -0x8000_0000_0000_0000},
            {1 <<< 59, 1 <<< 59},
            {1 <<< 60, 1 <<< 60}
          ] do
        assert through(context, "i64", given) == back
      end
    end

    test "beyond their range are refused", context do
      for {type, values} <- [
            {"i32", [1 <<< 32, -(1 <<< 31) - 1, 1 <<< 63, 1 <<< 64, -(1 <<< 64), 1 <<< 10_000]},
            {"i64", [1 <<< 64, -(1 <<< 63) - 1, 1 <<< 100, -(1 <<< 100)]}
          ],
          value <- values do
        assert refused(context, type, value).expected =~ "an #{type} (integer from -"
      end
    end
  end

  describe "floats" do
    test "keep any 32 bits", %{module: module, opts: opts} = context do
      check_all(500, fn ->
        bits = bits(32)
        assert {:ok, value} = Executor.call(module, "f32_from", [bits], opts)

        assert Executor.call(module, "f32_bits", [{:f32_bits, bits}], opts) ==
                 {:ok, signed(bits, 32)}

        # The canonical NaN of either sign is :nan, which goes in as the positive one.
        if value == :nan do
          assert (bits &&& 0x7FFF_FFFF) == 0x7FC0_0000
          assert through(context, "f32", value) == :nan
        else
          assert Executor.call(module, "f32_bits", [value], opts) == {:ok, signed(bits, 32)}
          assert through(context, "f32", value) === value
        end
      end)
    end

    test "keep any 64 bits", %{module: module, opts: opts} = context do
      check_all(500, fn ->
        bits = bits(64)
        assert {:ok, value} = Executor.call(module, "f64_from", [bits], opts)

        assert Executor.call(module, "f64_bits", [{:f64_bits, bits}], opts) ==
                 {:ok, signed(bits, 64)}

        if value == :nan do
          assert (bits &&& 0x7FFF_FFFF_FFFF_FFFF) == 0x7FF8_0000_0000_0000
          assert through(context, "f64", value) == :nan
        else
          assert Executor.call(module, "f64_bits", [value], opts) == {:ok, signed(bits, 64)}
          assert through(context, "f64", value) === value
        end
      end)
    end

    test "of any size survive", context do
      check_all(300, fn ->
        value = (:rand.uniform() - 0.5) * :math.pow(2, :rand.uniform(1_000) - 500)
        assert through(context, "f64", value) === value
      end)
    end

    test "that do not exist in Elixir are atoms", context do
      for type <- ["f32", "f64"], value <- [:nan, :infinity, :neg_infinity] do
        assert through(context, type, value) == value
      end
    end

    test "with a NaN's payload keep it as bits", context do
      for bits <- [0x7FC0_0001, 0x7F80_0001, 0xFFC0_1234, 0x7FFF_FFFF, 0xFFFF_FFFF] do
        assert through(context, "f32", {:f32_bits, bits}) == {:f32_bits, bits}
      end

      for bits <- [0x7FF8_0000_0000_0001, 0x7FF0_0000_0000_0001, 0xFFFF_FFFF_FFFF_FFFF] do
        assert through(context, "f64", {:f64_bits, bits}) == {:f64_bits, bits}
      end
    end

    test "as bits may be any float", context do
      assert through(context, "f32", {:f32_bits, 0x3F80_0000}) === 1.0
      assert through(context, "f64", {:f64_bits, 0x3FF0_0000_0000_0000}) === 1.0
      assert through(context, "f64", {:f64_bits, 0x7FF0_0000_0000_0000}) == :infinity
      assert through(context, "f32", {:f32_bits, 0xFF80_0000}) == :neg_infinity
    end

    test "keep the sign of zero", %{module: module, opts: opts} do
      minus_zero = signed(1 <<< 63, 64)
      assert Executor.call(module, "f64_bits", [-0.0], opts) == {:ok, minus_zero}
      assert {:ok, zero} = Executor.call(module, "f64_from", [minus_zero], opts)
      assert <<1::1, 0::63>> == <<zero::float>>
    end

    test "may be given as integers that they hold exactly", context do
      assert through(context, "f64", 3) === 3.0
      assert through(context, "f64", 1 <<< 53) === 9_007_199_254_740_992.0
      assert through(context, "f64", -(1 <<< 53)) === -9_007_199_254_740_992.0
      assert through(context, "f32", -2) === -2.0
      assert refused(context, "f64", (1 <<< 53) + 1).expected =~ "2^53"
      assert refused(context, "f64", 1 <<< 80).expected =~ "2^53"
    end

    test "are rounded to the nearest f32, or refused beyond it", context do
      assert_in_delta through(context, "f32", 0.1), 0.1, 1.0e-8
      assert through(context, "f32", 3.4028234663852886e38) === 3.4028234663852886e38
      assert refused(context, "f32", 1.0e39).expected =~ "within range"
      assert refused(context, "f32", -1.0e300).expected =~ "within range"
      # Too small is zero, as rounding has it.
      assert through(context, "f32", 1.0e-60) === 0.0
    end

    test "as bits of another width or range are refused", context do
      for value <- [
            {:f64_bits, 0},
            {:f32_bits, 1 <<< 32},
            {:f32_bits, -1},
            {:f32_bits},
            {:bits, 1}
          ] do
        refused(context, "f32", value)
      end

      for value <- [{:f32_bits, 0}, {:f64_bits, 1 <<< 64}, {:f64_bits, -1}, {:f64_bits, 1.0}] do
        refused(context, "f64", value)
      end
    end
  end

  describe "vectors" do
    test "are sixteen bytes", context do
      check_all(200, fn ->
        bytes = :rand.bytes(16)
        assert through(context, "v128", bytes) == bytes
      end)
    end

    test "are little-endian" do
      module =
        load!(~S"""
        (module (func (export "lane") (param v128) (result i32) (i32x4.extract_lane 1 (local.get 0))))
        """)

      assert Executor.call(module, "lane", [<<1::32-little, 2::32-little, 3::32, 4::32>>]) ==
               {:ok, 2}
    end

    test "of another size are refused", context do
      for value <- ["", <<0::120>>, <<0::136>>, <<0::127>>, 1, nil] do
        assert refused(context, "v128", value).expected == "a v128 (binary of 16 bytes)"
      end
    end
  end

  describe "externref" do
    test "holds any term as it is", context do
      terms = [
        self(),
        make_ref(),
        fn x -> x + 1 end,
        &String.upcase/1,
        Map.new(1..10_000, &{&1, {&1, "value #{&1}"}}),
        :atom,
        true,
        1.5,
        1 <<< 200,
        "text",
        :binary.copy("x", 1_000_000),
        <<1::3>>,
        [],
        [1 | 2],
        {},
        %{},
        ~D[2020-02-02],
        {:f32_bits, 1},
        :nan
      ]

      for term <- terms, do: assert(through(context, "externref", term) === term)
    end

    test "holds nil as null" do
      module =
        load!(~S"""
        (module
          (func (export "null?") (param externref) (result i32) (ref.is_null (local.get 0)))
          (func (export "null") (result externref) (ref.null extern)))
        """)

      assert Executor.call(module, "null?", [nil]) == {:ok, 1}
      assert Executor.call(module, "null?", [false]) == {:ok, 0}
      assert Executor.call(module, "null?", [:null]) == {:ok, 0}
      assert Executor.call(module, "null") == {:ok, nil}
    end

    test "stays in tables and globals of the guest, through host calls" do
      module =
        asking(~S"""
        (table $t 4 externref)
        (global $g (mut externref) (ref.null extern))
        (func (export "swap") (param externref externref) (result externref externref)
          (table.set $t (i32.const 2) (local.get 0))
          (global.set $g (local.get 1))
          (drop (call $f (i32.const 1)))
          (global.get $g)
          (table.get $t (i32.const 2)))
        """)

      collect = fn _ctx, n -> :erlang.garbage_collect() && n end
      term = %{pid: self(), list: Enum.to_list(1..1_000)}

      assert Executor.call(module, "swap", [term, {:b}], imports: f(collect)) ==
               {:ok, [{:b}, term]}
    end

    test "in numbers that a collector must clear" do
      module =
        load!(~S"""
        (module
          (import "env" "f" (func $f (param i32) (result externref)))
          (func (export "many") (param i32) (result externref)
            (local $last externref)
            (loop $l
              (local.set $last (call $f (local.get 0)))
              (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (local.get $last)))
        """)

      imports = %{"env" => %{"f" => fn _ctx, n -> {:term, n, String.duplicate("x", 100)} end}}

      # Three thousand of them are more than the collector's heap holds.
      assert {:ok, {:term, 1, _}} = Executor.call(module, "many", [10_000], imports: imports)
    end

    test "that may not be null takes everything but nil" do
      module =
        load!(
          ~S|(module (func (export "f") (param (ref extern)) (result (ref extern)) (local.get 0)))|
        )

      assert Executor.call(module, "f", [:term]) == {:ok, :term}
    end
  end

  describe "funcref" do
    test "is nil, or comes out as something opaque", context do
      assert through(context, "funcref", nil) == nil

      module = load!(~S|(module (func $f (export "f") (result funcref) (ref.func $f)))|)

      assert {:ok, reference} = Executor.call(module, "f")
      assert is_reference(reference)
    end

    test "of another instance is refused: its guest is gone", context do
      module = load!(~S|(module (func $f (export "f") (result funcref) (ref.func $f)))|)
      {:ok, reference} = Executor.call(module, "f")
      assert refused(context, "funcref", reference).expected =~ "of the same instance"
    end

    test "is no place for other terms", context do
      for value <- [make_ref(), fn -> 1 end, 1, "f", :f] do
        assert refused(context, "funcref", value).expected =~ "(nil is null)"
      end
    end
  end

  test "values of all types go in and out together", %{module: module, opts: opts} do
    args = [-5, 1 <<< 40, 0.5, :infinity, <<7::128>>, {:any, self()}]
    assert Executor.call(module, "all", args, opts) == {:ok, Enum.reverse(args)}
  end

  describe "a wrong argument" do
    test "of any other shape is refused with what the type takes and what was given", context do
      shapes = [
        {:atom, ":atom"},
        {:"not an atom", ":\"not an atom\""},
        {true, "true"},
        {nil, "nil"},
        {"42", "a binary of 2 bytes"},
        {<<255, 254>>, "a binary of 2 bytes"},
        {<<1::3>>, "a bitstring"},
        {%{a: 1}, "a map"},
        {[1], "a list"},
        {{1, 2}, "a tuple"},
        {self(), "a pid"},
        {make_ref(), "a reference"},
        {fn -> 1 end, "a function"},
        {1 <<< 64, "an integer of more than 64 bits"}
      ]

      for type <- ~w(i32 i64 f32 f64), {value, words} <- shapes do
        error = refused(context, type, value)
        assert error.given == words
        assert error.expected =~ type

        assert Exception.message(error) =~
                 "the value at index 0 must be #{error.expected}, got: #{words}"
      end

      assert refused(context, "i32", 1.0).given =~ "1.0"
    end

    test "is told by its place" do
      assert {:error, %CallError{index: 1}} = Executor.call(compute(), "add", [1, :two])
      assert {:error, %CallError{index: 0}} = Executor.call(compute(), "add", [:one, :two])
    end

    test "may be as large as it likes: its printing does not hold a scheduler up", context do
      # A refused argument was once printed whole into the error: seconds for an integer of a million digits.
      huge = [1 <<< 4_000_000, :binary.copy("x", 50_000_000), Enum.to_list(1..1_000_000)]

      for value <- huge do
        assert byte_size(refused(context, "i32", value).given) < 100

        # On a busy machine it may take long all the same, but not each time.
        eventually(fn ->
          {microseconds, _error} = :timer.tc(fn -> refused(context, "i32", value) end)
          microseconds < 1_000_000
        end)
      end
    end

    test "from a host function is that function's failure", %{module: module} do
      for {type, value} <- [{"i32", 1 <<< 32}, {"i64", "1"}, {"f32", 1.0e39}, {"v128", ""}] do
        imports = %{"host" => Map.new(@types, &{&1, fn _ctx, _value -> value end})}
        argument = if type == "v128", do: <<0::128>>, else: 0

        assert {:error, %HostError{kind: :error, import: {"host", ^type}, reason: reason}} =
                 Executor.call(module, "host_" <> type, [argument], imports: imports)

        assert %CallError{reason: :type, index: 0} = reason
      end
    end
  end

  test "references of the GC proposal come out as their type's name" do
    module =
      load!(~S"""
      (module
        (type $s (struct (field i32)))
        (func (export "struct") (result anyref) (struct.new $s (i32.const 1)))
        (func (export "i31") (result anyref) (ref.i31 (i32.const 1)))
        (func (export "none") (result anyref) (ref.null any)))
      """)

    assert Executor.call(module, "struct") == {:ok, :structref}
    assert Executor.call(module, "i31") == {:ok, :i31ref}
    assert Executor.call(module, "none") == {:ok, nil}
  end
end
