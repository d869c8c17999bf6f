defmodule Cybernetic.WASM.Runtime.Registration do
  @moduledoc false
  # Loads, and puts what was loaded under its name.

  alias Cybernetic.WASM.{
    Config,
    Error,
    Limits,
    Loader,
    Module,
    Options,
    Reference,
    Sandbox,
    Sealed
  }

  alias Cybernetic.WASM.Loader.{Compiler, Fetched, Pins, Request, Source, Sources}
  alias Cybernetic.WASM.Runtime.{Naming, Registry}

  @held [sandbox: Sandbox.kind()]
  @limits Limits.keys() -- [:timeout]
  @known Naming.options() ++ @held ++ Request.options()

  # What is of one source and its bytes, and not of those that come after under the name: others must not be taken without a
  # pin, nor be sent what this one was.
  @of_one_source [:digest, :signature, :allow_unpinned, :http]

  # Also said to the loader: pins hold under them.
  @of_both [:name, :version]

  @doc "The options of a load under a name, with what each takes."
  @spec options() :: Options.keys()
  def options, do: @known

  @doc "See `Cybernetic.WASM.Runtime.load_module/2`."
  @spec load(Source.t() | Fetched.t(), keyword) :: {:ok, Module.loaded()} | {:error, Error.t()}
  def load(source, opts) do
    {naming, load} =
      opts |> Options.known!(@known, "load option", &misplaced/1) |> split(Naming.options())

    unless naming[:name] || from_store?(source), do: refuse_without_name!(naming)

    with {:ok, module, fetched} <- prepare(source, load, naming) do
      case name(naming, fetched) do
        nil -> {:ok, module}
        name -> put(request(name, {module, fetched, load}, naming, :loaded))
      end
    end
  end

  # Of a door nearby.
  defp misplaced(:pins), do: "it is a key of the configuration; a load's own pin is :digest"

  defp misplaced(key) when key in [:allow, :smoke, :smoke_timeout, :keep, :drain],
    do: "it is an option of Cybernetic.WASM.Runtime.reload/3"

  defp misplaced(key) when key in @limits,
    do: "a limit is an option of a call, or of the sandbox that a load takes as option :sandbox"

  defp misplaced(_key), do: nil

  @doc "Loads by these options, of which the sandbox is no loader's, for a module of that name."
  @spec prepare(Source.t() | Fetched.t(), keyword, map) ::
          {:ok, Module.loaded(), Fetched.t()} | {:error, Error.t()}
  def prepare(source, load, naming) do
    {held, load} = split(load, @held)

    with {:ok, module, fetched} <- Loader.prepare(source, said(naming) ++ load),
         do: {:ok, Compiler.within(module, held[:sandbox]), fetched}
  end

  defp split(opts, known) do
    {own, load} = Keyword.split(opts, Keyword.keys(known))
    {Options.check!(own, known, "load option"), load}
  end

  defp said(naming),
    do: for({key, text} when text != nil <- Map.take(naming, @of_both), do: {key, text})

  defp refuse_without_name!(naming) do
    with [key | _] <- naming |> Map.delete(:name) |> Map.keys() do
      raise ArgumentError,
            "option #{inspect(key)} is of a load under a name: give its option :name as well"
    end
  end

  # Only a store brings a name along: what other sources say, and what a manifest says, may come from anywhere, and must not take
  # the place of what the node's owner has put there.
  defp name(%{name: name}, _fetched), do: name

  defp name(_naming, %Fetched{own_name: name} = fetched),
    do: if(from_store?(fetched) and Reference.name?(name), do: name)

  defp from_store?({:store, _reference}), do: true
  defp from_store?(%Fetched{origin: {Sources.Store, _reference}}), do: true
  defp from_store?(_source), do: false

  defp put(request) do
    case Registry.put(request) do
      {:error, error} -> {:error, %{error | source: request.facts.source}}
      {_put_or_unchanged, module} -> {:ok, module}
    end
  end

  @doc "The request to put under a name what the loader gave by these options."
  @spec request(
          String.t(),
          {Module.loaded(), Fetched.t(), keyword},
          map,
          :loaded | :reloaded
        ) :: Registry.request()
  def request(name, {module, fetched, load}, naming, action) do
    %{
      serial: Registry.serial(),
      name: name,
      module: module,
      wanted: wanted(naming[:version], fetched),
      current: Map.get(naming, :current, :unless_older),
      action: action,
      instead_of: :any,
      keep: :all,
      drain: nil,
      refused: refused(name, fetched),
      facts: %{
        source: fetched.source,
        load: Sealed.seal(Keyword.drop(load, @of_one_source)),
        wanted: wanted(naming[:version], fetched)
      },
      said: Naming.said(naming)
    }
  end

  # The registry alone knows which version it becomes, and works out no digest. The operator's pins are for the name with that.
  defp refused(name, fetched) do
    for {version, pin} <- Pins.versions(Config.get().pins, name),
        {:error, error} <- [Pins.check(fetched, [pin])],
        into: %{},
        do: {version, %{error | source: fetched.source}}
  end

  # A manifest that nobody has edited says the same of other bytes. A store does not.
  defp wanted(nil, fetched) do
    case Reference.version(fetched.version) do
      {:ok, _version} when fetched.version != nil ->
        {if(from_store?(fetched) and fetched.own_version, do: :exactly, else: :rather),
         fetched.version}

      _none ->
        :next
    end
  end

  defp wanted(version, _fetched), do: {:exactly, version}
end
