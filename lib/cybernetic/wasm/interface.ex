defmodule Cybernetic.WASM.Interface do
  @moduledoc false
  # What `use Cybernetic.WASM` puts into a module: a function for each export of a module of WebAssembly, which is loaded to see
  # what there is while the Elixir one is compiled. `Interface.Names` says which functions there are, `Interface.Function` has
  # their code, `Interface.Calls` is what they do. A source that has its functions in groups would have a list of `Function` for
  # each of them.

  alias Cybernetic.WASM.{ABI, Component, Digest, Module, Options, Shown}
  alias Cybernetic.WASM.Interface.{Calls, Function, Names}
  alias Cybernetic.WASM.Loader.Sources

  @names {"a list of names of exports", &__MODULE__.names?/1}
  @options [
    source: :any,
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
  @defaults %{otp_app: nil, load: [], only: nil, except: [], as: %{}, abi: nil, by_abi: %{}}

  # Of what is wrong: a module may have a hundred thousand exports.
  @most_told 20

  @enforce_keys [:functions, :digest, :file]
  defstruct [:functions, :digest, :file]

  @type t :: %__MODULE__{
          functions: [Function.t()],
          digest: String.t(),
          file: Path.t() | nil
        }

  @doc false
  @spec names?(term) :: boolean
  def names?(names), do: is_list(names) and Enum.all?(names, &is_binary/1)

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
      if @wasm_file, do: @external_resource(@wasm_file)
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
    quote unquote: false do
      for function <- @wasm_interface.functions do
        arguments = Cybernetic.WASM.Interface.Function.arguments(function)
        bang = Cybernetic.WASM.Interface.Function.bang(function)

        @doc Cybernetic.WASM.Interface.Function.doc(function)
        for spec <- Cybernetic.WASM.Interface.Function.specs(function), do: @spec(unquote(spec))

        def unquote(function.name)(unquote_splicing(arguments), opts \\ []) do
          Cybernetic.WASM.Interface.Calls.call(
            {__MODULE__, unquote(function.passes != nil)},
            unquote(function.export),
            unquote(Cybernetic.WASM.Interface.Function.passed(function)),
            opts
          )
        end

        @doc Cybernetic.WASM.Interface.Function.bang_doc(function)
        for spec <- Cybernetic.WASM.Interface.Function.bang_specs(function),
            do: @spec(unquote(spec))

        def unquote(bang)(unquote_splicing(arguments), opts \\ []) do
          Cybernetic.WASM.Error.unwrap!(unquote(function.name)(unquote_splicing(arguments), opts))
        end
      end
    end
  end

  # While the module is compiled

  @doc "What the source exports, by the names that its functions have. A mistake is one of the code that is compiled."
  @spec new!(keyword, Macro.Env.t()) :: t
  def new!(given, env) do
    given = Map.merge(@defaults, Options.check!(given, @options, "option of use Cybernetic.WASM"))
    module = load!(given, env)

    {functions, misfits} = module |> functions() |> by_abi(given)

    case Names.assign(functions, given) do
      {:ok, functions} when misfits == [] ->
        %__MODULE__{functions: functions, digest: module.digest, file: file(given.source)}

      named ->
        problems = with {:ok, _functions} <- named, do: {:error, []}
        fail!(env, in_words(env.module, misfits ++ elem(problems, 1)))
    end
  end

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
      {:ok, %Component{}} ->
        fail!(
          env,
          "#{inspect(env.module)}: it is a component, for which no functions are defined yet: call it with Executor"
        )

      {:ok, module} ->
        module

      {:error, error} ->
        fail!(env, "#{inspect(env.module)}: " <> Exception.message(error))
    end
  end

  defp functions(module) do
    for %{name: name, type: {:function, params, results}} <- Module.exports(module),
        do: %Function{export: name, params: params, results: results}
  end

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
