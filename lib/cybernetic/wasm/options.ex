defmodule Cybernetic.WASM.Options do
  @moduledoc false
  # The one table of option types: what a key takes, in words and as a check. Options are checked once, at the door; an
  # unknown key or a wrong value raises an ArgumentError that names it.

  alias Cybernetic.WASM.{Features, Limits, Shown}
  alias Cybernetic.WASM.Sandbox.Manifest

  @longest_wait 4_294_967_295

  @doc "Checks `opts` against the keys `known`, and gives them back as a map under their canonical names."
  @spec check!(keyword, [atom], String.t()) :: map
  def check!(opts, known, whose) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError, "#{whose}s must be a keyword list, got: #{shown(:env, opts)}"
    end

    Enum.each(opts, fn {key, value} ->
      unless key in known do
        raise ArgumentError, unknown(key, known, whose)
      end

      check_value!(key, value)
    end)

    both!(opts, :timeout, :max_execution_time)
    Map.new(opts, fn {key, value} -> {canonical(key), value} end)
  end

  # What is given for these may be an environment's values, and what is no list of options may be anything.
  defp shown(key, list) when key in [:sandbox, :env] and is_list(list), do: "a list"
  defp shown(key, map) when key in [:sandbox, :env] and is_map(map), do: "a map"
  defp shown(_key, value), do: Shown.term(value)

  @grants [:filesystem, :network, :clocks, :random, :stdio, :host_functions, :wasi]

  defp unknown(key, known, "call option") when key in @grants do
    "unknown call option #{inspect(key)}: a grant belongs into the sandbox, " <>
      "sandbox: Sandbox.new(#{key}: …); options of a call are: #{list(known)}"
  end

  defp unknown(key, known, whose) do
    text = to_string(key)

    {alike, nearest} =
      known |> Enum.map(&{String.jaro_distance(to_string(&1), text), &1}) |> Enum.max()

    hint = if alike >= 0.8, do: " (did you mean #{inspect(nearest)}?)", else: ""
    "unknown #{whose} #{inspect(key)}#{hint}; known are: #{list(known)}"
  end

  @doc "Refuses options that stand where a function's arguments belong."
  @spec refuse_as_arguments!([atom], list, keyword) :: :ok
  def refuse_as_arguments!(known, [_ | _] = args, []) do
    if Keyword.keyword?(args) and Enum.all?(args, fn {key, _} -> key in known end) do
      raise ArgumentError,
            "options come after the list of arguments, as in call(module, \"function\", [], " <>
              "#{hd(Keyword.keys(args))}: …); in the place of arguments stand: #{list(Keyword.keys(args))}"
    end

    :ok
  end

  def refuse_as_arguments!(_known, _args, _opts), do: :ok

  defp list(keys), do: Enum.map_join(keys, ", ", &inspect/1)

  defp both!(opts, one, other) do
    if Keyword.has_key?(opts, one) and Keyword.has_key?(opts, other) do
      raise ArgumentError,
            "#{inspect(one)} and #{inspect(other)} are two names of one option: give one of them"
    end
  end

  @doc "The name that an option goes by inside."
  @spec canonical(atom) :: atom
  def canonical(:max_execution_time), do: :timeout
  def canonical(key), do: key

  @doc "What the option takes, in words."
  @spec expected(atom) :: String.t()
  def expected(key), do: key |> type() |> elem(0)

  @doc "Whether the option takes `value`."
  @spec valid?(atom, term) :: boolean
  def valid?(key, value), do: elem(type(key), 1).(value)

  defp check_value!(key, value) do
    {expected, valid?} = type(key)

    unless valid?.(value) do
      raise ArgumentError,
            "option #{inspect(key)} must be #{expected}, got: #{shown(key, value)}"
    end
  end

  @positive [
    :fuel,
    :max_memory,
    :max_live_instances,
    :max_total_memory,
    :max_code_memory,
    :max_open_files,
    :max_module_size,
    :max_concurrency,
    :credit
  ]
  @counts [:max_table_elements, :max_instances, :max_output, :max_host_calls, :cache_size]
  @booleans [
    :deterministic,
    :wasi,
    :threading,
    :cache_compiled_modules,
    :parallel_execution,
    :snapshottable,
    :run,
    :tagged,
    :ordered,
    :allow_absolute
  ]
  # With their words for the message, which no call should have to make.
  @choices for {key, choices} <- [
                 metering: [:fuel, :epoch],
                 scheduling: [:adaptive, :dirty, :inline],
                 allocation: [:pooling, :on_demand],
                 runtime: [:wasmtime],
                 on_trap: [:poison, :keep],
                 on_poison: [:reset, :stop]
               ],
               into: %{},
               do: {key, {"one of " <> Enum.map_join(choices, ", ", &inspect/1), choices}}
  @most 0xFFFF_FFFF_FFFF
  # What Linux allows a command line is two megabytes; a guest asks for all of it at once.
  @most_text 131_072

  defp type(key) when key in @positive,
    do: {"an integer from 1 to #{@most}", &(is_integer(&1) and &1 in 1..@most)}

  defp type(key) when key in @counts,
    do: {"an integer from 0 to #{@most}", &(is_integer(&1) and &1 in 0..@most)}

  defp type(key) when key in @booleans, do: {"true or false", &is_boolean/1}

  defp type(key) when key in [:timeout, :max_execution_time] do
    {"an integer of milliseconds from 1 to #{@longest_wait}",
     &(is_integer(&1) and &1 in 1..@longest_wait)}
  end

  defp type(key) when key in [:wait, :grace],
    do:
      {"an integer of milliseconds from 0 to #{@longest_wait}",
       &(is_integer(&1) and &1 in 0..@longest_wait)}

  defp type(:max_stack),
    do:
      {"an integer of bytes from 16384 to 67108864",
       &(is_integer(&1) and &1 in 16_384..67_108_864)}

  defp type(:features) do
    {"a keyword list of booleans with the keys #{list(Features.names())}", &Features.switches?/1}
  end

  defp type(:imports) do
    {~S|a map of maps with strings as keys, such as %{"env" => %{"log" => fn ctx, … end}}, | <>
       "a module with `use Cybernetic.WASM.Host`, or a list of these", &imports?/1}
  end

  defp type(:args) do
    {"a list of UTF-8 strings without NUL, of at most #{@most_text} bytes together", &args?/1}
  end

  defp type(:stdin), do: {"iodata, an Enumerable of it, or nil", &(is_nil(&1) or stdin?(&1))}

  defp type(:store),
    do: {"a %Cybernetic.WASM.Instance{}", &is_struct(&1, Cybernetic.WASM.Instance)}

  defp type(:into), do: {"a pid", &is_pid/1}
  defp type(:module), do: {"a %Cybernetic.WASM.Module{}", &is_struct(&1, Cybernetic.WASM.Module)}
  defp type(:name), do: {"a name, as GenServer.start_link/3 takes one", fn _ -> true end}

  defp type(:sandbox),
    do:
      {"a %Cybernetic.WASM.Sandbox{} or a preset's name, such as Sandbox.new(stdio: :captured) or :command",
       &(is_struct(&1, Cybernetic.WASM.Sandbox) or is_atom(&1))}

  # Each capability checks its own grant, and shows nothing of the environment's.
  defp type(key)
       when key in [:filesystem, :env, :network, :clocks, :random, :stdio, :host_functions],
       do: {"a grant", fn _ -> true end}

  defp type(:data), do: {"any term", fn _ -> true end}

  defp type(:manifest) do
    {"true, false, a path, a %Cybernetic.WASM.Sandbox.Manifest{}, or options of its load/2",
     &(is_boolean(&1) or is_binary(&1) or is_struct(&1, Manifest) or Keyword.keyword?(&1))}
  end

  defp type(key) when key in [:file, :base], do: {"a path", &is_binary/1}

  defp type(:offer) do
    {"a list of #{list(Manifest.offered())}",
     &(is_list(&1) and not List.improper?(&1) and &1 -- Manifest.offered() == [])}
  end

  defp type(:require_limits) do
    {"true, false, or a keyword list of ranges such as [max_memory: 524_288..4_194_304]",
     &(is_boolean(&1) or (Keyword.keyword?(&1) and Enum.all?(&1, fn pair -> range?(pair) end)))}
  end

  defp type(key) do
    {expected, choices} = Map.fetch!(@choices, key)
    {expected, &(&1 in choices)}
  end

  defp range?({key, %Range{first: first, last: last, step: 1}}),
    do:
      key in Limits.option_names() and valid?(key, first) and valid?(key, last) and first <= last

  defp range?(_pair), do: false

  defp args?(args) when is_list(args) do
    not List.improper?(args) and Enum.all?(args, &text?/1) and
      args |> Enum.map(&(byte_size(&1) + 1)) |> Enum.sum() <= @most_text
  end

  defp args?(_other), do: false

  defp text?(text),
    do: is_binary(text) and String.valid?(text) and not String.contains?(text, <<0>>)

  defp stdin?(bytes) when is_binary(bytes), do: true

  defp stdin?(list) when is_list(list) do
    is_binary(IO.iodata_to_binary(list))
  rescue
    ArgumentError -> false
  end

  defp stdin?(function) when is_function(function), do: is_function(function, 2)
  defp stdin?(map) when is_map(map) and not is_struct(map), do: false
  defp stdin?(other), do: Enumerable.impl_for(other) != nil

  defp imports?(imports) when is_list(imports),
    do: not List.improper?(imports) and Enum.all?(imports, &imports?/1)

  defp imports?(imports) when is_atom(imports), do: imports not in [nil, true, false]
  defp imports?(imports), do: is_map(imports) and not is_struct(imports)
end
