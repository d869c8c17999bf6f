defmodule Cybernetic.WASM.Execution.TermsTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cybernetic.WASM.Guests

  alias Cybernetic.WASM.{Executor, Host, Instance}
  alias Cybernetic.WASM.Execution.Terms

  @most 1_000_000_000

  defp size(term) do
    {:ok, [weighed]} = Terms.weigh([term], nil, @most)

    case weighed do
      {:"$kept", size, ^term} -> size
      ^term -> :plain
    end
  end

  test "what nearly all calls pass is given as it is" do
    values = [0, -1, (1 <<< 64) - 1, 1.5, nil, :nan, "short", <<0::128>>, {:f32_bits, 1}]
    assert Terms.weigh(values, nil, 1) == {:ok, values}
    assert Terms.weigh([], nil, 1) == {:ok, []}
  end

  test "the others are told to Rust with what they take" do
    for term <- [[1], %{}, {}, {1, 2, 3}, 1 <<< 64, String.duplicate("x", 65), <<1::1>>, &size/1],
        do: assert(is_integer(size(term)))

    assert {:ok, [1, {:"$kept", _, [2]}, :three]} = Terms.weigh([1, [2], :three], nil, @most)
  end

  test "a size is about what the BEAM says" do
    for term <- [
          Enum.to_list(1..1_000),
          Enum.to_list(1..1_000) ++ :improper,
          List.to_tuple(Enum.to_list(1..1_000)),
          Map.new(1..10, &{&1, &1 * 1.0}),
          Map.new(1..1_000, &{&1, {&1, [&1]}}),
          1 <<< 100_000,
          for(n <- 1..100, do: n / 3),
          {self(), make_ref(), %{a: [%{b: {:c, 1.0}}]}}
        ] do
      beam = 8 * :erts_debug.flat_size(term)
      assert size(term) in div(beam, 2)..(2 * beam + 100)
    end
  end

  test "what is shared counts for each time that it is copied, and all of a binary for its part" do
    shared = Enum.reduce(1..12, [1, 2, 3], fn _, list -> {list, list} end)
    assert size(shared) > 4_096 * 48
    whole = :binary.copy(<<1>>, 100_000)
    assert size(binary_part(whole, 0, 100)) >= 100_000
    big = Enum.to_list(1..10_000)
    assert size(fn -> big end) >= 160_000
    assert size({:f32_bits, "no bits"}) >= 16
    assert size({:f64_bits, 1 <<< 100_000}) >= 12_500
  end

  test "it ends with what is too large" do
    endless = Enum.reduce(1..200, [], fn _, list -> [list | list] end)

    assert {:refused, {:limit, %{limit: :memory, allowed: 1_000, used: used}}} =
             Terms.weigh([1, endless], nil, 1_000)

    assert used in 1_001..2_000
  end

  describe "a guest's own handle" do
    setup do
      keeper =
        load!(~S"""
        (module
          (import "env" "f" (func $f (param externref) (result externref)))
          (global (export "g") (mut externref) (ref.null extern))
          (func (export "keep") (param i32 externref))
          (func (export "ask") (param externref) (result externref) (call $f (local.get 0))))
        """)

      %{module: keeper, instance: Instance.new!(keeper, imports: f(fn _ctx, term -> term end))}
    end

    defp hiding_places(handle) do
      [
        handle,
        [handle],
        [1 | handle],
        {:a, {:b, handle}},
        %{handle => 1},
        %{deep: [%{er: {handle}}]},
        fn -> handle end,
        fn -> fn -> [handle] end end |> then(& &1.()),
        [fn x -> {x, handle} end, 2]
      ]
    end

    test "is refused wherever it is", %{instance: instance} do
      for term <- hiding_places(instance) ++ hiding_places(instance.ref) do
        assert {:error, %{reason: :own_handle, index: 1} = error} =
                 Instance.call(instance, "keep", [7, term])

        assert Exception.message(error) =~ "value at index 1 holds the handle"

        assert {:error, %{reason: :own_handle, index: 0}} =
                 Instance.set_global(instance, "g", term)
      end

      assert {:ok, nil} = Instance.call(instance, "keep", [7, :sound])
    end

    test "is not another's", %{instance: instance, module: module} do
      other = Instance.new!(module, imports: f(fn _ctx, term -> term end))

      for term <- hiding_places(other) ++ [make_ref(), module],
          do: assert({:ok, nil} = Instance.call(instance, "keep", [7, term]))
    end

    test "is no result of a host function, and nor is a context", %{module: module} do
      for give <- [
            fn _ctx, own -> own.() end,
            fn ctx, _own -> ctx end,
            fn ctx, _own -> fn -> ctx end end
          ] do
        {:ok, box} = Agent.start_link(fn -> nil end)
        imports = f(fn ctx, _term -> give.(ctx, fn -> Agent.get(box, & &1) end) end)
        instance = Instance.new!(module, imports: imports)
        Agent.update(box, fn _ -> instance end)

        assert {:error, %Cybernetic.WASM.HostError{reason: %{reason: :own_handle}}} =
                 Instance.call(instance, "ask", [nil])
      end

      # Nor where the guest is there for one call.
      imports = f(fn ctx, _term -> ctx end)

      assert {:error, %Cybernetic.WASM.HostError{reason: %{reason: :own_handle}}} =
               Executor.call(module, "ask", [nil], imports: imports)
    end

    test "is no argument of a re-entrant call", %{module: module} do
      test = self()

      imports =
        f(fn ctx, _term ->
          send(test, {Host.call(ctx, "keep", [1, ctx]), Host.set_global(ctx, "g", [ctx])})
          nil
        end)

      assert {:ok, nil} = Executor.call(module, "ask", [nil], imports: imports)

      assert_receive {{:error, %{reason: :own_handle, index: 1}},
                      {:error, %{reason: :own_handle, index: 0}}}
    end
  end
end
