defmodule Cybernetic.WASM.Interface.Types do
  @moduledoc false
  # WIT's types as types of Elixir, in code: what a component gives, and what it takes, where more is accepted. Types that have names
  # in WIT get names in Elixir, too: `t:` a `Known` says which.

  alias Cybernetic.WASM.Component
  alias Cybernetic.WASM.Component.Words
  alias Cybernetic.WASM.Interface.Names

  # A type can be of any depth, and nobody reads it then.
  @deepest 8

  @numbers [:s8, :s16, :s32, :s64]
  @naturals [:u8, :u16, :u32, :u64]

  @typedoc "What types that have names are, by their paths; which resources are the host's; and the names that they have in Elixir."
  @type known :: %{
          declared: %{String.t() => Component.declared()},
          hosts: MapSet.t(String.t()),
          names: %{String.t() => atom}
        }

  @doc "What is known of the types of a component, none of which has a name in Elixir yet."
  @spec known([map], [map]) :: known
  def known(imports, exports) do
    hosts = for %{declared: :resource} = item <- imports, do: Component.path(item)

    declared =
      for %{declared: declared, docs: docs} = item <- imports ++ exports,
          declared == :resource or match?({:type, _}, declared),
          into: %{},
          do: {Component.path(item), {declared, docs}}

    %{declared: declared, hosts: MapSet.new(hosts), names: %{}}
  end

  @doc "The same, with names for the types that stand in these and for those in them."
  @spec named(known, [Component.spelt() | nil]) :: known
  def named(known, types) do
    paths = types |> Enum.reduce([], &reached(&1, &2, known)) |> Enum.reverse()
    by_name = Enum.group_by(paths, &short/1)

    names =
      for path <- paths,
          name = name(path, by_name),
          into: %{},
          do: {path, String.to_atom(name)}

    %{known | names: names}
  end

  # The paths of named types, those that are not resources, each once.
  defp reached({:named, path}, found, known) do
    case known.declared[path] do
      {{:type, type}, _docs} ->
        if path in found, do: found, else: [path | reached(type, found, known)]

      _resource_or_unknown ->
        found
    end
  end

  defp reached({_kind, path}, found, _known) when is_binary(path), do: found

  defp reached(type, found, known),
    do: type |> parts() |> Enum.reduce(found, &reached(&1, &2, known))

  defp parts({kind, type}) when kind in [:list, :option], do: [type]
  defp parts({:tuple, types}), do: types
  defp parts({kind, parts}) when kind in [:record, :variant], do: Enum.map(parts, &elem(&1, 1))
  defp parts({:result, ok, error}), do: [ok, error]
  defp parts(_plain), do: []

  # By its own name, or with its interface's where there are several, or where Elixir has a type of that name. What has no name then
  # is written out.
  defp name(path, by_name) do
    short = short(path)
    long = path |> interface() |> Kernel.<>("-" <> bare(path)) |> Names.snake_case()

    cond do
      match?([_], by_name[short]) and free?(short) -> short
      not is_map_key(by_name, long) and alone?(path, long, by_name[short]) and free?(long) -> long
      true -> nil
    end
  end

  defp alone?(path, long, alike) do
    Enum.all?(alike, fn other ->
      other == path or Names.snake_case(interface(other) <> "-" <> bare(other)) != long
    end)
  end

  defp free?(name), do: Names.speakable?(name) and not built_in?(String.to_atom(name))

  defp built_in?(name) do
    :erl_internal.is_type(name, 0) or
      name in [:as_boolean, :charlist, :nonempty_charlist, :keyword, :struct, :t]
  end

  defp short(path), do: path |> bare() |> Names.snake_case()
  defp bare(path), do: path |> String.split("#") |> List.last()

  defp interface(path) do
    [interface | _] = String.split(path, "#")
    [unversioned | _] = String.split(interface, "@")
    unversioned |> String.split("/") |> List.last()
  end

  @doc "The definitions of the types that have names, as code."
  @spec definitions(known) :: [Macro.t()]
  def definitions(known) do
    for {path, name} <- Enum.sort(known.names) do
      {{:type, type}, docs} = known.declared[path]

      quote do
        @typedoc unquote(docs || "`#{bare(path)}`: `#{Words.type(type)}`.")
        @type unquote(Macro.var(name, nil)) :: unquote(out(type, known))
      end
    end
  end

  @doc "What a component gives for a type."
  @spec out(Component.spelt() | nil, known) :: Macro.t()
  def out(type, known), do: out(type, known, 0)

  @doc "What it takes."
  @spec into(Component.spelt() | nil, known) :: Macro.t()
  def into(type, known), do: into(type, known, 0)

  defp out(_type, _known, @deepest), do: quote(do: term)
  defp out(nil, _known, _depth), do: nil
  defp out({:named, path}, known, depth), do: by_name(path, known, depth, &out/3)
  defp out(:char, _known, _depth), do: quote(do: char)
  defp out(:string, _known, _depth), do: quote(do: String.t())
  defp out({:list, :u8}, _known, _depth), do: quote(do: binary)
  defp out({:list, type}, known, depth), do: [out(type, known, depth + 1)]
  defp out({:tuple, types}, known, depth), do: tuple(types, &out(&1, known, depth + 1))

  defp out({:record, fields}, known, depth) do
    values = for {_name, type} <- fields, do: out(type, known, depth + 1)
    quote(do: %{String.t() => unquote(union(values))})
  end

  defp out({:variant, cases}, known, depth) do
    values = for {_name, type} when type != nil <- cases, do: out(type, known, depth + 1)
    with_value = if values == [], do: [], else: [quote(do: {String.t(), unquote(union(values))})]
    plain = if Enum.any?(cases, &match?({_, nil}, &1)), do: [quote(do: String.t())], else: []
    union(plain ++ with_value)
  end

  defp out({:enum, _names}, _known, _depth), do: quote(do: String.t())
  defp out({:flags, _names}, _known, _depth), do: quote(do: [String.t()])

  defp out({:option, type}, known, depth),
    do: quote(do: :none | {:some, unquote(out(type, known, depth + 1))})

  defp out({:result, ok, error}, known, depth),
    do: result(ok, error, &out(&1, known, depth + 1))

  defp out({kind, path}, known, _depth) when kind in [:own, :borrow], do: resource(path, known)
  defp out(plain, _known, _depth), do: plain(plain)

  defp into(_type, _known, @deepest), do: quote(do: term)
  defp into(nil, _known, _depth), do: quote(do: term)

  defp into({:named, path}, known, depth) do
    case known.names do
      %{^path => name} ->
        {{:type, type}, _docs} = known.declared[path]
        union([Macro.var(name, nil), into(type, known, depth + 1)])

      _ ->
        by_name(path, known, depth, &into/3)
    end
  end

  defp into(:char, _known, _depth), do: quote(do: char | String.t())
  defp into(:string, _known, _depth), do: quote(do: iodata)
  defp into({:list, :u8}, _known, _depth), do: quote(do: iodata)
  defp into({:list, _type}, _known, _depth), do: quote(do: Enumerable.t())
  defp into({:tuple, types}, known, depth), do: tuple(types, &into(&1, known, depth + 1))
  defp into({:record, _fields}, _known, _depth), do: quote(do: map)

  defp into({:variant, _cases}, _known, _depth),
    do: quote(do: String.t() | atom | {String.t() | atom, term})

  defp into({:enum, _names}, _known, _depth), do: quote(do: String.t() | atom)
  defp into({:flags, _names}, _known, _depth), do: quote(do: Enumerable.t())

  defp into({:option, type}, known, depth),
    do: quote(do: nil | :none | {:some, unquote(into(type, known, depth + 1))})

  defp into({:result, ok, error}, known, depth),
    do: result(ok, error, &into(&1, known, depth + 1))

  defp into({kind, path}, known, _depth) when kind in [:own, :borrow], do: resource(path, known)
  defp into(plain, _known, _depth), do: plain(plain)

  # A resource has no type of its own, and what is nowhere declared is anything.
  defp by_name(path, known, depth, code) do
    case {known.names, known.declared[path]} do
      {%{^path => name}, _declared} -> Macro.var(name, nil)
      {_names, {{:type, type}, _docs}} -> code.(type, known, depth + 1)
      {_names, _resource_or_unknown} -> resource(path, known)
    end
  end

  defp resource(path, known) do
    case known.declared[path] do
      {{:type, {:named, other}}, _docs} when other != path -> resource(other, known)
      {:resource, _docs} -> if path in known.hosts, do: quote(do: term), else: handle()
      _unknown -> quote(do: term)
    end
  end

  defp handle, do: quote(do: Cybernetic.WASM.Resource.t())

  defp result(ok, error, code) do
    union([tagged(:ok, ok, code), tagged(:error, error, code)])
  end

  defp tagged(tag, nil, _code), do: tag
  defp tagged(tag, type, code), do: {tag, code.(type)}

  defp tuple(types, code), do: {:{}, [], Enum.map(types, code)}

  defp union([]), do: quote(do: term)

  defp union(types) do
    [last | others] = types |> Enum.uniq() |> Enum.reverse()
    Enum.reduce(others, last, &quote(do: unquote(&1) | unquote(&2)))
  end

  defp plain(:bool), do: quote(do: boolean)
  defp plain(type) when type in @numbers, do: quote(do: integer)
  defp plain(type) when type in @naturals, do: quote(do: non_neg_integer)
  defp plain(:f32), do: quote(do: Cybernetic.WASM.Value.f32())
  defp plain(:f64), do: quote(do: Cybernetic.WASM.Value.f64())
end
