defmodule Cybernetic.WASM.Interface do
  @moduledoc false
  # What `use Cybernetic.WASM` puts into a module: a function for each export of a module of WebAssembly, which is loaded to see
  # what there is while the Elixir one is compiled. `Interface.Names` says which functions there are, `Interface.Function` has
  # their code, `Interface.Calls` is what they do. A component has its functions in interfaces: `Interface.World` says which, and
  # `Interface.Types` what they take and give.

  alias Cybernetic.WASM.{ABI, Component, Digest, Module, Options, Shown}
  alias Cybernetic.WASM.Interface.{Calls, Function, Names, World}
  alias Cybernetic.WASM.Loader.Sources

  @names {"a list of names of exports", &__MODULE__.names?/1}
  @options [
    source: :any,
    wit: {"a path of WIT, or nil", &__MODULE__.text?/1},
    world: {"the name of a world, or nil", &__MODULE__.text?/1},
    otp_app: {"an application's name", &is_atom/1},
    # What a source is fetched with may be in it.
    load: {:unshown, {"a keyword list", &Keyword.keyword?/1}},
    call: :any,
    only: @names,
    except: @names,
    as: {"a map of names of exports to atoms", &__MODULE__.renaming?/1},
    abi: {"a %Cybernetic.WASM.ABI{}, its options, or nil", &ABI.given?/1},
    by_abi:
      {"a map of names of exports to lists of :bytes, :pointer, :cstring, {:room, size} and :value",
       &__MODULE__.by_abi?/1}
  ]
  @defaults %{
    otp_app: nil,
    wit: nil,
    world: nil,
    load: [],
    only: nil,
    except: [],
    as: %{},
    abi: nil,
    by_abi: %{}
  }

  # Of what is wrong: a module may have a hundred thousand exports.
  @most_told 20

  # The functions are the generated module's own. Those of a component's interfaces are in `groups`.
  @enforce_keys [:functions, :digest, :file]
  # Those that were made of WIT alone have no digest, but the files of that.
  defstruct [:functions, :digest, :file, groups: [], wit: []]

  @type t :: %__MODULE__{
          functions: [Function.t()],
          digest: String.t() | nil,
          file: Path.t() | nil,
          groups: [World.t()],
          wit: [Path.t()]
        }

  @doc false
  @spec names?(term) :: boolean
  def names?(names), do: is_list(names) and Enum.all?(names, &is_binary/1)

  @doc false
  @spec text?(term) :: boolean
  def text?(text), do: is_binary(text) or text == nil

  @doc false
  @spec renaming?(term) :: boolean
  def renaming?(as) do
    is_map(as) and Enum.all?(as, fn {export, name} -> is_binary(export) and is_atom(name) end)
  end

  @doc false
  @spec by_abi?(term) :: boolean
  def by_abi?(by_abi) do
    is_map(by_abi) and
      Enum.all?(by_abi, fn {export, kinds} ->
        is_binary(export) and is_list(kinds) and Enum.all?(kinds, &Function.kind?/1)
      end)
  end

  @doc "The code that `use` stands for. Sources and options of calls are code of the module: they are worked out where it runs."
  @spec code(Macro.t()) :: Macro.t()
  def code(opts) do
    opts = options!(opts)
    [compiled(opts), kept(opts), loaded(), functions()]
  end

  defp options!(code) do
    known = for {key, _kind} <- @options, do: {key, :any}
    opts = Options.check!(code, known, "option of use Cybernetic.WASM")

    unless is_map_key(opts, :source) do
      raise ArgumentError,
            "use Cybernetic.WASM needs a :source, such as source: {:priv, :my_app, \"wasm/thumb.wasm\"}"
    end

    opts
  end

  defp compiled(opts) do
    # What a call is given need not be there while the code is compiled.
    given = opts |> Map.delete(:call) |> Map.to_list()

    quote do
      @wasm_interface unquote(__MODULE__).new!(unquote(given), __ENV__)
      @wasm_digest @wasm_interface.digest
      @wasm_file @wasm_interface.file
      for file <- List.wrap(@wasm_file) ++ @wasm_interface.wit, do: @external_resource(file)
    end
  end

  defp kept(opts) do
    # What was loaded by other code, of another source or with other options, is not taken for this one's.
    code = [opts.source, opts[:load], opts[:abi]] |> Macro.to_string() |> :erlang.md5()

    quote do
      @doc false
      def __wasm__(:source), do: unquote(opts.source)
      def __wasm__(:otp_app), do: unquote(opts[:otp_app])
      def __wasm__(:load), do: unquote(opts[:load] || [])
      def __wasm__(:call), do: unquote(opts[:call] || [])
      def __wasm__(:abi), do: unquote(opts[:abi])
      def __wasm__(:digest), do: @wasm_digest
      def __wasm__(:expected), do: unquote(__MODULE__).expected(@wasm_interface)
      def __wasm__(:stamp), do: {unquote(code), @wasm_digest}

      @doc false
      def __mix_recompile__?, do: unquote(__MODULE__).changed?(@wasm_file, @wasm_digest)
    end
  end

  defp loaded do
    quote do
      @doc "The `Cybernetic.WASM.Module` whose exports these functions call. The first who needs it loads it."
      @spec module() ::
              {:ok, Cybernetic.WASM.Module.t()} | {:error, Cybernetic.WASM.Error.t()}
      def module, do: unquote(Calls).module(__MODULE__)

      @doc "As `module/0`, but raises the error."
      @spec module!() :: Cybernetic.WASM.Module.t()
      def module!, do: Cybernetic.WASM.Error.unwrap!(module())

      @doc """
      A live instance, for the option `:instance` of these functions. The options are those of `Cybernetic.WASM.Instance.new/2`.
      """
      @spec instance([Cybernetic.WASM.Instance.option()]) ::
              {:ok, Cybernetic.WASM.Instance.t()} | {:error, Cybernetic.WASM.Error.t()}
      def instance(opts \\ []), do: unquote(Calls).instance(__MODULE__, opts)

      @doc "As `instance/1`, but raises the error."
      @spec instance!([Cybernetic.WASM.Instance.option()]) :: Cybernetic.WASM.Instance.t()
      def instance!(opts \\ []), do: Cybernetic.WASM.Error.unwrap!(instance(opts))
    end
  end

  # Names and types are known when the body of the module runs.
  defp functions do
    quote do
      unquote(__MODULE__).define(@wasm_interface, __ENV__)
    end
  end

  @doc "Defines the functions in the module that is being compiled, and for each interface of a component a module in that."
  @spec define(t, Macro.Env.t()) :: :ok
  def define(interface, env) do
    own = Enum.find(interface.groups, &(&1.interface == nil))
    definitions = if own, do: own.types ++ own.callbacks, else: []
    functions = for function <- interface.functions, do: Function.definition(function, env.module)
    Enum.each(definitions ++ functions, &Code.eval_quoted(&1, [], env))

    for group <- interface.groups, group.interface != nil, do: define_group(group, env)
    :ok
  end

  defp define_group(group, env) do
    functions = for function <- group.functions, do: Function.definition(function, env.module)

    code =
      quote do
        @moduledoc unquote("The interface `#{group.interface}`: see `#{inspect(env.module)}`.")
        (unquote_splicing(group.types ++ group.callbacks ++ functions))
      end

    Elixir.Module.create(
      Elixir.Module.concat(env.module, group.module),
      code,
      Macro.Env.location(env)
    )
  end

  # While the module is compiled

  @doc "What the source exports, by the names that its functions have. A mistake is one of the code that is compiled."
  @spec new!(keyword, Macro.Env.t()) :: t
  def new!(given, env) do
    given = Map.merge(@defaults, Options.check!(given, @options, "option of use Cybernetic.WASM"))
    made_of = made_of!(given, env)
    {functions, misfits} = made_of |> functions() |> by_abi(given)

    case Names.assign(functions, given) do
      {:ok, functions} when misfits == [] ->
        {own, groups} = grouped(functions, made_of)

        struct!(
          %__MODULE__{functions: own, digest: nil, file: nil, groups: groups},
          from(made_of, given)
        )

      named ->
        problems = with {:ok, _functions} <- named, do: {:error, []}
        fail!(env, in_words(env.module, misfits ++ elem(problems, 1)))
    end
  end

  # What is loaded, or what WIT says of it.
  defp made_of!(%{wit: nil, world: nil} = given, env), do: load!(given, env)

  defp made_of!(%{wit: nil}, _env),
    do: raise(ArgumentError, "option :world of use Cybernetic.WASM needs the option :wit")

  defp made_of!(%{abi: abi} = given, env) when abi != nil, do: no_abi!(given, env)

  defp made_of!(given, env) do
    case Component.declared_in(given.wit, given.world) do
      {:ok, world} -> {:world, world}
      {:error, why} -> fail!(env, "#{inspect(env.module)}: #{Shown.path(given.wit)}: #{why}")
    end
  end

  defp from({:world, _world}, given), do: [wit: files(given.wit)]
  defp from(module, given), do: [digest: module.digest, file: file(given.source)]

  defp files(wit) do
    if File.dir?(wit), do: wit |> Path.join("**/*.wit") |> Path.wildcard(), else: [wit]
  end

  @doc "What a component has to export that is loaded for it, with its type in words; nothing, where its digest says all."
  @spec expected(t) :: [{String.t(), String.t()}]
  def expected(%__MODULE__{digest: nil} = interface) do
    for group <- interface.groups,
        function <- group.functions,
        do: {function.export, Function.signature(function)}
  end

  def expected(_interface), do: []

  defp in_words(module, problems) do
    {told, others} = Enum.split(problems, @most_told)
    more = if others == [], do: [], else: ["and #{length(others)} more"]
    Enum.join(["#{inspect(module)} cannot be made of the exports" | told ++ more], "\n  * ")
  end

  # The functions, of which some are called by an ABI, and those that it does not fit.
  defp by_abi(functions, given) do
    if given.by_abi != %{} and given.abi == nil,
      do: raise(ArgumentError, "option :by_abi of use Cybernetic.WASM needs the option :abi")

    gives = if given.abi && ABI.of(given.abi).result != :values, do: :bytes, else: :values

    {functions, misfits} =
      functions |> Enum.map(&by_abi(&1, given.by_abi[&1.export], gives)) |> Enum.unzip()

    {functions, Enum.concat(misfits)}
  end

  defp by_abi(function, nil, _gives), do: {function, []}

  defp by_abi(function, kinds, gives) do
    case Function.by_abi(function, kinds, gives) do
      {:ok, function} ->
        {function, []}

      :error ->
        type = Function.signature(function)
        export = Shown.quoted(function.export)

        {function,
         [
           "the export #{export} has the type #{type}, which by_abi: #{inspect(kinds)} does not fit"
         ]}
    end
  end

  defp load!(given, env) do
    opts = Calls.configured(given.load, given.otp_app, env.module, :load)

    case Calls.fetch(given.source, opts) do
      {:ok, %Component{}} when given.abi != nil ->
        no_abi!(given, env)

      {:ok, module} ->
        module

      {:error, error} ->
        fail!(env, "#{inspect(env.module)}: " <> Exception.message(error))
    end
  end

  @spec no_abi!(map, Macro.Env.t()) :: no_return
  defp no_abi!(_given, env),
    do: fail!(env, "#{inspect(env.module)}: a component passes bytes by itself: leave out abi:")

  defp functions({:world, world}), do: World.functions(world.imports, world.exports)

  defp functions(%Component{} = component),
    do: World.functions(Component.imports(component), Component.exports(component))

  defp functions(module) do
    for %{name: name, type: {:function, params, results}} <- Module.exports(module),
        do: %Function{export: name, params: params, results: results}
  end

  defp grouped(functions, {:world, %{imports: imports, exports: exports}}),
    do: {own(functions), World.groups(functions, imports, exports)}

  defp grouped(functions, %Component{} = component) do
    world = %{imports: Component.imports(component), exports: Component.exports(component)}
    grouped(functions, {:world, world})
  end

  defp grouped(functions, _module), do: {functions, []}

  defp own(functions), do: Enum.filter(functions, &(&1.wit.interface == nil))

  @spec fail!(Macro.Env.t(), String.t()) :: no_return
  defp fail!(env, description) do
    raise CompileError,
      file: Path.relative_to_cwd(env.file),
      line: env.line,
      description: description
  end

  defp file(source), do: source |> Sources.of!() |> Sources.path()

  @doc "Whether the file is another now, or gone. Mix asks each time that it compiles."
  @spec changed?(Path.t() | nil, String.t()) :: boolean
  def changed?(nil, _digest), do: false

  def changed?(file, digest) do
    case File.read(file) do
      {:ok, bytes} -> bytes |> Digest.of(:blake3) |> Digest.to_text() != digest
      {:error, _reason} -> true
    end
  end
end
