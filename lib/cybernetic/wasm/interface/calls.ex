defmodule Cybernetic.WASM.Interface.Calls do
  @moduledoc false
  # What the functions of a generated module do when they are called. The module of WebAssembly is loaded by the first who needs
  # it, and kept in a persistent term: reading it copies nothing.

  alias Cybernetic.WASM.{
    ABI,
    Component,
    Error,
    Executor,
    Instance,
    Loader,
    LoadError,
    Module,
    Options
  }

  alias Cybernetic.WASM.Component.Words
  alias Cybernetic.WASM.Runtime.Registration

  # An environment's values may be in them, and what a source is fetched with.
  @kinds for key <- [:load, :call], do: {key, {:unshown, {"a keyword list", &Keyword.keyword?/1}}}

  @doc "The module that `owner` was generated for. What is loaded has the digest that it was compiled for."
  @spec module(module) :: {:ok, Module.t()} | {:error, Error.t()}
  def module(owner) do
    with {:ok, {_stamp, module, _abi}} <- kept(owner), do: {:ok, module}
  end

  # The module, and the ABI by which some of its functions are called.
  defp kept(owner) do
    stamp = owner.__wasm__(:stamp)

    case :persistent_term.get({__MODULE__, owner}, nil) do
      {^stamp, _module, _abi} = kept -> {:ok, kept}
      _other -> load(owner, stamp)
    end
  end

  defp load(owner, stamp) do
    opts = options(owner, :load)
    digest = owner.__wasm__(:digest)
    opts = if digest, do: Keyword.put(opts, :digest, digest), else: opts

    with {:ok, module} <- fetch(owner.__wasm__(:source), opts),
         :ok <- expected(owner.__wasm__(:expected), module),
         do: {:ok, keep(owner, {stamp, module, ABI.of(owner.__wasm__(:abi))})}
  end

  # What was made of WIT alone takes any component that exports what that says.
  defp expected([], _module), do: :ok

  defp expected(expected, module) do
    exports = exports(module)

    wrong =
      for {name, type} <- expected,
          exports[name] not in [type, :unsaid],
          do: %{name: name, expected: type, found: exports[name]}

    if wrong == [], do: :ok, else: {:error, %LoadError{reason: :unexpected, exports: wrong}}
  end

  defp exports(%Component{} = component) do
    for %{type: {:func, _, _}} = item <- Component.exports(component),
        into: %{},
        do: {Component.path(item), if(item.declared, do: Words.item(item), else: :unsaid)}
  end

  defp exports(_module), do: %{}

  @doc "Loads a module, which gets no name of the node's: a name may be given another module."
  @spec fetch(Loader.source(), keyword) :: {:ok, Module.loaded()} | {:error, Error.t()}
  def fetch(source, opts) do
    with {:ok, module, _fetched} <- Registration.prepare(source, opts, %{}), do: {:ok, module}
  end

  # Several may have loaded it at once, which is one compilation. To replace a persistent term costs all processes something: the
  # first one stays.
  defp keep(owner, {stamp, _module, _abi} = loaded) do
    case :persistent_term.get({__MODULE__, owner}, nil) do
      {^stamp, _first, _abi} = first ->
        first

      _other ->
        :persistent_term.put({__MODULE__, owner}, loaded)
        loaded
    end
  end

  @doc "A live instance of the module."
  @spec instance(module, keyword) :: {:ok, Instance.t()} | {:error, Error.t()}
  def instance(owner, opts) do
    with {:ok, module} <- module(owner),
         do: Instance.new(module, over(options(owner, :call), opts))
  end

  @doc "Calls an export, by the module's ABI or not, in a fresh instance or in the one that the options name."
  @spec call({module, by_abi :: boolean}, String.t(), list, keyword) ::
          {:ok, term} | {:error, Error.t()}
  def call({owner, by_abi?}, export, args, opts) do
    with {:ok, {_stamp, module, abi}} <- kept(owner) do
      opts = if by_abi?, do: over([abi: abi], opts), else: opts

      if instance = live(opts),
        do: Instance.call(instance, export, args, Keyword.delete(opts, :instance)),
        else: Executor.call(module, export, args, over(options(owner, :call), opts))
    end
  end

  # What is no list of options the call itself refuses.
  defp live([]), do: nil
  defp live(opts), do: if(Keyword.keyword?(opts), do: opts[:instance])

  defp over([], opts), do: opts

  defp over(defaults, opts),
    do: if(Keyword.keyword?(opts), do: Keyword.merge(defaults, opts), else: opts)

  @doc "The options that a module was generated with, and over them those of its application's configuration."
  @spec options(module, :load | :call) :: keyword
  def options(owner, kind),
    do: configured(owner.__wasm__(kind), owner.__wasm__(:otp_app), owner, kind)

  @doc "The same, for a module that is being compiled."
  @spec configured(keyword, atom, module, :load | :call) :: keyword
  def configured(given, nil, _owner, _kind), do: given

  def configured(given, otp_app, owner, kind) do
    case Application.get_env(otp_app, owner, []) do
      [] -> given
      config -> Keyword.merge(given, of_kind(config, owner, kind))
    end
  end

  defp of_kind(config, owner, kind) do
    config
    |> Options.check!(@kinds, "configuration key of #{inspect(owner)}")
    |> Map.get(kind, [])
  end
end
