defmodule Cybernetic.WASM.Runtime.Reload do
  @moduledoc false
  # Another module in the place of the current one of a name: it is fetched, verified, compiled, checked against the current one
  # and tried out, all in the calling process and off the path of those who call. Then they get it, from one moment to the next.

  alias Cybernetic.WASM.{Error, Loader, Module, Options, Sealed}

  alias Cybernetic.WASM.Runtime.{
    Names,
    Naming,
    Registration,
    Registry,
    Replacement,
    Trial,
    Versions
  }

  @own [
    allow: {":widen, or a list of it", &__MODULE__.allowed?/1},
    smoke: {"a function of one argument, which is given the module", &__MODULE__.smoke?/1},
    smoke_timeout: {:milliseconds, 1},
    keep: :count,
    drain: {:milliseconds, 0}
  ]

  @smoke_timeout 10_000
  # How many of those that were replaced stay: to be rolled back to, and to be called by their version.
  @keep 2

  @options @own ++ Keyword.delete(Naming.options(), :name)
  @known @own ++ Keyword.delete(Registration.options(), :name)

  @doc false
  @spec allowed?(term) :: boolean
  def allowed?(allowed), do: allowed in [:widen, [:widen], []]

  @doc false
  @spec smoke?(term) :: boolean
  def smoke?(smoke), do: is_function(smoke, 1)

  @doc "The options of a reload, with what each takes."
  @spec options() :: Options.keys()
  def options, do: @known

  @doc "See `Cybernetic.WASM.Runtime.reload/3`."
  @spec run(String.t(), Loader.source(), keyword) ::
          {:ok, Module.loaded()} | :unchanged | {:error, Error.t()}
  def run(name, source, opts) do
    {own, load} = own(opts)

    with {:ok, entry, old} <- current(name),
         load = inherited(entry, load),
         naming = Map.put(own, :name, name),
         {:ok, module, fetched} <- Registration.prepare(source, load, naming) do
      propose(%{
        request: request(name, {module, fetched, load}, own),
        own: own,
        old: {entry.serial, old},
        tried?: false
      })
    end
  end

  defp request(name, loaded, own) do
    request = Registration.request(name, loaded, own, :reloaded)
    %{request | keep: Map.get(own, :keep, @keep), drain: own[:drain]}
  end

  defp own(opts) do
    if Keyword.keyword?(opts) and Keyword.has_key?(opts, :name),
      do: raise(ArgumentError, "option :name is of a load; a reload is given the name first")

    {own, load} =
      opts
      |> Options.known!(@known, "option of a reload")
      |> Keyword.split(Keyword.keys(@options))

    {Options.check!(own, @options, "option of a reload"), load}
  end

  defp current(name) do
    with %Versions{current: serial} <- Names.versions(Naming.name!(name)),
         {entry, module} <- Names.entry(serial) do
      {:ok, entry, module}
    else
      nil -> {:error, Names.no_such_name(name)}
    end
  end

  # A name goes on as it began, but for what is said anew: with its manifest, above all.
  defp inherited(entry, load) do
    entry.load |> Sealed.open() |> Keyword.merge(load)
  end

  # `tried?`: whether the smoke test has been passed; it is about the module alone.
  defp propose(%{request: request, own: own, old: {serial, old}} = proposal) do
    with false <- Module.same?(old, request.module),
         :ok <- Replacement.check(old, request.module, List.wrap(own[:allow])),
         :ok <- if(proposal.tried?, do: :ok, else: try_out(request.module, own)) do
      case Registry.put(%{request | instead_of: serial}) do
        {:moved, _serial} -> propose_again(%{proposal | tried?: true})
        {:unchanged, _module} -> :unchanged
        done -> done
      end
    else
      true -> unchanged(proposal)
      {:error, error} -> {:error, %{error | name: request.name}}
    end
  end

  # The module is there already, but what it was loaded with now holds for the next.
  defp unchanged(%{request: request, old: {serial, _module}}) do
    :ok = Registry.renew(serial, request.facts)
    :unchanged
  end

  # Somebody else was quicker: now that one's module is to be replaced.
  defp propose_again(proposal) do
    with {:ok, entry, old} <- current(proposal.request.name),
         do: propose(%{proposal | old: {entry.serial, old}})
  end

  defp try_out(_module, own) when not is_map_key(own, :smoke), do: :ok

  defp try_out(module, own),
    do: Trial.run(own.smoke, module, Map.get(own, :smoke_timeout, @smoke_timeout))
end
