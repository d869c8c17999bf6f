defmodule Cybernetic.WASM.Interface.Names do
  @moduledoc false
  # Which exports become functions of a generated module, and what these are called. Whatever is wrong is found at once, so that
  # the one who compiles it is told all of it.

  alias Cybernetic.WASM.Interface.Function
  alias Cybernetic.WASM.Shown

  # A call's options are one more, and a function takes 255.
  @most_params 254
  # Each is code that has to be compiled. SQLite exports 300.
  @most_functions 2_000
  # An atom has 255 characters, of which the twin that raises needs one.
  @longest 254

  # What stands between the words of a name in other languages: `Point#x`, `fmt::write`, `get-size`.
  @between ~r/[-. :\/#$@]+/
  @speakable ~r/\A(?!_\z)[a-z_][a-z0-9_]*\z/

  # Words of the language; what every module has, and what a generated one has beside its exports.
  @reserved ~w(do end fn true false nil and or not in when after else catch rescue) ++
              ~w(module instance module_info behaviour_info __info__ __struct__ __wasm__) ++
              Enum.map(Keyword.keys(Kernel.SpecialForms.__info__(:macros)), &Atom.to_string/1)

  @kernel for {name, arity} <- Kernel.__info__(:functions) ++ Kernel.__info__(:macros),
              into: MapSet.new(),
              do: {Atom.to_string(name), arity}

  @typedoc "Which exports become functions, and the names of those that are not to have their own."
  @type choice :: %{
          optional(atom) => term,
          required(:only) => [String.t()] | nil,
          required(:except) => [String.t()],
          required(:as) => %{String.t() => atom},
          required(:by_abi) => %{String.t() => [Function.kind()]}
        }

  @doc "Those of the functions that are chosen, with their names, or all that is wrong."
  @spec assign([Function.t()], choice) :: {:ok, [Function.t()]} | {:error, [String.t(), ...]}
  def assign(functions, choice) do
    named =
      for function <- functions,
          chosen?(function, choice),
          do: {name(function, choice.as), function}

    case unknown(functions, choice) ++ too_many(named) ++ wrong(named) ++ colliding(named) do
      [] -> {:ok, for({name, function} <- named, do: %{function | name: String.to_atom(name)})}
      problems -> {:error, problems}
    end
  end

  defp chosen?(%Function{export: export}, choice) do
    (choice.only == nil or export in choice.only) and export not in choice.except
  end

  defp name(%Function{export: export} = function, as) do
    case as do
      %{^export => name} -> Atom.to_string(name)
      _ -> function |> word() |> snake_case()
    end
  end

  defp word(%Function{wit: %{word: word}}), do: word
  defp word(%Function{export: export}), do: export

  @doc "The name of an export as Elixir would have it, if it can be spoken at all."
  @spec snake_case(String.t()) :: String.t()
  def snake_case(export) do
    export
    |> String.replace(@between, "_")
    |> String.replace(~r/([a-z0-9])([A-Z])/, "\\1_\\2")
    |> String.replace(~r/([A-Z])([A-Z][a-z])/, "\\1_\\2")
    |> String.downcase(:ascii)
  end

  # What is wrong

  defp unknown(functions, choice) do
    known = Enum.map(functions, & &1.export)

    asked =
      List.wrap(choice.only) ++ choice.except ++ Map.keys(choice.as) ++ Map.keys(choice.by_abi)

    for name <- Enum.uniq(asked), name not in known, do: unknown_name(name, known)
  end

  defp unknown_name(name, []),
    do: "no function is exported as #{Shown.quoted(name)}, nor any other"

  defp unknown_name(name, known) do
    nearest = Shown.nearest(name, known)
    hint = if nearest, do: " (did you mean #{Shown.quoted(nearest)}?)", else: ""
    "no function is exported as #{Shown.quoted(name)}#{hint}"
  end

  defp too_many(named) do
    case length(named) do
      count when count > @most_functions ->
        [
          "#{count} functions are too many for a module, which may have #{@most_functions}: choose with only: […]"
        ]

      _ ->
        []
    end
  end

  defp wrong(named) do
    for {name, function} <- named, what = mistake(name, Function.arity(function)) do
      export = Shown.quoted(function.export)

      "the export #{export} #{what}: give it a name with as: %{#{export} => :name}, or leave it out with except: [#{export}]"
    end
  end

  defp mistake(name, arity) do
    cond do
      arity > @most_params -> "takes #{arity} parameters, and a function of Elixir at most 255"
      not speakable?(name) -> "has no name that a function of Elixir can have"
      name in @reserved -> "would be #{name}, which means something else in Elixir"
      in_kernel?(name, arity) -> "would be #{name}/#{arity}, which Kernel has"
      true -> nil
    end
  end

  @doc "Whether Elixir can say it."
  @spec speakable?(String.t()) :: boolean
  def speakable?(name), do: byte_size(name) <= @longest and name =~ @speakable

  # It has one arity more, with options, and a twin that raises.
  defp in_kernel?(name, arity) do
    Enum.any?(
      for(n <- [name, name <> "!"], a <- [arity, arity + 1], do: {n, a}),
      &(&1 in @kernel)
    )
  end

  defp colliding(named) do
    by_name =
      Enum.group_by(named, fn {name, function} -> {interface(function), name} end, fn {_name,
                                                                                       function} ->
        function.export
      end)

    for {{_interface, name}, [_, _ | _] = exports} <- Enum.sort(by_name) do
      "the exports #{Enum.map_join(exports, " and ", &Shown.quoted/1)} would both be #{name}: name one of them with as:, " <>
        "or leave it out with except:"
    end
  end

  # Each interface has a module of its own.
  defp interface(%Function{wit: %{interface: interface}}), do: interface
  defp interface(_function), do: nil

  @doc """
  The modules of interfaces, inside of the generated one: by the interface's own name, or by more of it where that is several's.

      iex> Cybernetic.WASM.Interface.Names.modules(["acme:shop/orders@1.2.0", "wasi:io/log", "acme:host/log"])
      %{"acme:shop/orders@1.2.0" => "Orders", "wasi:io/log" => "IoLog", "acme:host/log" => "HostLog"}
  """
  @spec modules([String.t()]) :: %{String.t() => String.t()}
  def modules(interfaces) do
    written = Map.new(interfaces, &{&1, &1 |> ways() |> Enum.map(fn way -> camel_case(way) end)})

    Map.new(interfaces, fn interface ->
      others = written |> Map.delete(interface) |> Map.values() |> Enum.concat()

      {interface,
       Enum.find(written[interface], &(&1 not in others)) || List.last(written[interface])}
    end)
  end

  # From the shortest to the whole.
  defp ways(interface) do
    [path | version] = String.split(interface, "@", parts: 2)
    words = String.split(path, ~r/[:\/]/)
    shorter = for count <- 1..length(words), do: words |> Enum.take(-count) |> Enum.join("-")
    shorter ++ for(version <- version, do: Enum.join(words ++ [version], "-"))
  end

  defp camel_case(words),
    do: words |> String.split(~r/[^A-Za-z0-9]+/, trim: true) |> Enum.map_join(&capitalized/1)

  defp capitalized(word),
    do: String.capitalize(String.first(word)) <> String.slice(word, 1..-1//1)
end
