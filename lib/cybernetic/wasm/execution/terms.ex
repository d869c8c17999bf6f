defmodule Cybernetic.WASM.Execution.Terms do
  @moduledoc false
  # Looks into terms before a guest is given them: how much room they take, and that they do not hold on to the guest itself.
  # What may be large goes to Rust as `{:"$kept", bytes, term}`. The BEAM knows closures from the inside and Rust does not,
  # so this is done here, in the caller's own time.
  #
  # Numbers, atoms and short binaries are what nearly all calls pass: they are given as they are.

  alias Cybernetic.WASM.Native

  # Small numbers first: to compare with one of 64 bits takes longer than all the rest.
  defguard is_plain(value)
           when value in -0x8000_0000..0xFFFF_FFFF or is_float(value) or is_atom(value) or
                  value in -0x8000_0000_0000_0000..0xFFFF_FFFF_FFFF_FFFF

  @typedoc "As Rust refuses: see `Cybernetic.WASM.Error`."
  @type refused :: {:refused, {:call | :limit, map}}

  @typedoc "What the terms are for: a live guest, an execution, or `nil` for a guest that is not there yet."
  @type owner :: reference | nil

  # Larger binaries are not copied, but shared by those who have them.
  @heap_binary 64

  @doc """
  The values as Rust takes them. `most` is how many bytes any of them may take. What is refused is the first that is too large
  or holds on to the owner.
  """
  @spec weigh(list, owner, pos_integer) :: {:ok, list} | refused
  def weigh(values, owner, most),
    do: if(plain?(values), do: {:ok, values}, else: weigh(values, 0, owner, most, []))

  defp weigh([], _index, _owner, _most, weighed), do: {:ok, Enum.reverse(weighed)}

  defp weigh([value | values], index, owner, most, weighed) do
    case plain?([value]) || size([[value]], 0, owner, most) do
      true ->
        weigh(values, index + 1, owner, most, [value | weighed])

      :own ->
        {:refused, {:call, %{reason: :own_handle, index: index}}}

      size when size > most ->
        {:refused, {:limit, %{limit: :memory, allowed: most, used: size}}}

      size ->
        weigh(values, index + 1, owner, most, [{:"$kept", size, value} | weighed])
    end
  end

  @doc "A command or an access as Rust takes it, with the terms in it weighed."
  @spec weigh_in(term, owner, pos_integer) :: {:ok, term} | refused
  def weigh_in({:call, name, args}, owner, most),
    do: with({:ok, args} <- weigh(args, owner, most), do: {:ok, {:call, name, args}})

  def weigh_in({:call_ref, ref, args}, owner, most),
    do: with({:ok, args} <- weigh(args, owner, most), do: {:ok, {:call_ref, ref, args}})

  def weigh_in({:set_global, name, value}, owner, most),
    do: with({:ok, [value]} <- weigh([value], owner, most), do: {:ok, {:set_global, name, value}})

  def weigh_in(other, _owner, _most), do: {:ok, other}

  @doc "The sources of a module's imports as Rust takes them: the values of globals may be terms."
  @spec weigh_sources([term] | nil, owner, pos_integer) :: {:ok, [term] | nil} | refused
  def weigh_sources(nil, _owner, _most), do: {:ok, nil}

  def weigh_sources(sources, owner, most) do
    with {:ok, values} <- weigh(for({:global, _, _, value} <- sources, do: value), owner, most),
         do: {:ok, put_back(sources, values)}
  end

  defp put_back([{:global, type, mutable, _value} | sources], [value | values]),
    do: [{:global, type, mutable, value} | put_back(sources, values)]

  defp put_back([source | sources], values), do: [source | put_back(sources, values)]
  defp put_back([], []), do: []

  defp plain?([value | values]) when is_plain(value), do: plain?(values)

  defp plain?([value | values]) when is_binary(value) and byte_size(value) <= @heap_binary,
    do: plain?(values)

  defp plain?([{tag, bits} | values])
       when tag in [:f32_bits, :f64_bits] and bits in 0..0xFFFF_FFFF_FFFF_FFFF,
       do: plain?(values)

  defp plain?([]), do: true
  defp plain?(_values), do: false

  # The bytes of all terms in these lists, as they are where each is copied: what they share counts for each. It ends soon after
  # it has become too much. `:own` where the owner is found.
  defp size(_pending, size, _owner, most) when size > most, do: size
  defp size([], size, _owner, _most), do: size
  defp size([[] | pending], size, owner, most), do: size(pending, size, owner, most)

  defp size([[term | terms] | pending], size, owner, most) do
    case parts(term, owner) do
      :own -> :own
      {own, []} -> size([terms | pending], size + own, owner, most)
      {own, parts} -> size(parts ++ [terms | pending], size + own, owner, most)
    end
  end

  # What a term takes itself, and lists of those in it.
  defp parts([head | tail], _owner), do: {16, [[head, tail]]}

  defp parts(tuple, _owner) when is_tuple(tuple),
    do: {8 * (tuple_size(tuple) + 1), [Tuple.to_list(tuple)]}

  defp parts(map, _owner) when is_map(map),
    do: {16 * map_size(map) + 40, [:maps.keys(map), :maps.values(map)]}

  defp parts(function, _owner) when is_function(function) do
    {:env, env} = :erlang.fun_info(function, :env)
    {64, [env]}
  end

  defp parts(reference, owner) when is_reference(reference) do
    if owner && Native.instance_held_by(owner, reference),
      do: :own,
      else: {:erts_debug.flat_size(reference) * 8, []}
  end

  # One that is a part of a larger one keeps all of it.
  defp parts(bytes, _owner) when is_binary(bytes) and byte_size(bytes) > @heap_binary,
    do: {:binary.referenced_byte_size(bytes) + 64, []}

  defp parts(bits, _owner) when is_bitstring(bits), do: {byte_size(bits) + 64, []}
  defp parts(leaf, _owner), do: {:erts_debug.flat_size(leaf) * 8, []}
end
