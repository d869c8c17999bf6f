defmodule Cybernetic.WASM.Plugin do
  @moduledoc """
  Give a stranger's module a term, and get a term: a module or component with a *contract*, how bytes get into a guest and out of
  it, and a *codec*, what the bytes mean.

      iex> alias Cybernetic.WASM.Plugin
      iex> {:ok, plugin} = Plugin.load({:bytes, ~S|
      ...>   (module (memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))
      ...>     (func (export "cw_alloc") (param $size i32) (result i32)
      ...>       (global.get $next) (global.set $next (i32.add (global.get $next) (local.get $size))))
      ...>     (func (export "shout") (param $at i32) (param $length i32) (result i64) (local $i i32)
      ...>       (local.set $i (local.get $at))
      ...>       (block $end (loop $next
      ...>         (br_if $end (i32.ge_u (local.get $i) (i32.add (local.get $at) (local.get $length))))
      ...>         (if (i32.lt_u (i32.sub (i32.load8_u (local.get $i)) (i32.const 97)) (i32.const 26))
      ...>           (then (i32.store8 (local.get $i) (i32.sub (i32.load8_u (local.get $i)) (i32.const 32)))))
      ...>         (local.set $i (i32.add (local.get $i) (i32.const 1)))
      ...>         (br $next)))
      ...>       (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $length)))))|})
      iex> Plugin.contract(plugin)
      {:bytes, "it exports cw_alloc and a memory"}
      iex> Plugin.call(plugin, "shout", "hello")
      {:ok, "HELLO"}
      iex> Plugin.call(plugin, "shout", %{"a" => [1, "b"]}, codec: [in: :json])
      {:ok, ~S|{"A":[1,"B"]}|}
      iex> {:error, error} = Plugin.call(plugin, "shout", "tru", codec: :boolean)
      iex> {error.reason, error.blame}
      {:input, :caller}

  What is loaded is what `Cybernetic.WASM.Runtime.load_module/2` takes, a module or component that is loaded already, or
  `{:name, text}`, which is looked up at each call: after a reload the plugin is the new module. Every call runs in a fresh
  instance.

  ## Contracts

  | contract | a module meets it that | a function takes the input | and gives its result |
  |---|---|---|---|
  | `:component` | is a component | see below | see below |
  | `:extism` | imports from `extism:host/env`, as plugins made with Extism's PDKs do | by its own means | likewise |
  | `:bytes` | exports `cw_alloc (size) -> pointer` and a memory | as pointer and length | as an `i64`: pointer in its upper half, length in the lower |
  | `:execute` | exports `alloc (size) -> pointer`, `execute (pointer, length) -> length` and a memory | several inputs and parameters in one buffer, see below | written over the input |
  | `:process` | exports `process (pointer) -> pointer`, `allocate (size) -> pointer`, `deallocate (pointer, size)` and a memory | as a C string, which has no zero byte in it | as a C string |
  | `:assemblyscript` | exports `__new` and a memory (`asc --exportRuntime`) | as a string, or with `{:assemblyscript, pass: :bytes}` as an `ArrayBuffer` | as a string, `ArrayBuffer`, typed array or array of bytes |
  | `:wasi` | is a program for WASI preview 1 | on standard input | on standard output |

  The first of these that a module meets is its contract; `contract:` says another, or one of your own:
  `Cybernetic.WASM.Plugin.Contract`. Each is of this library or of a system that plugins were written for before.

  For plugins of `:bytes` the folder `guests/kits` of the repository has a crate for Rust and a file for AssemblyScript, which may be copied.

  A plugin reports an error of its own as a `Cybernetic.WASM.PluginError` with the reason `:refused`:

  | contract | an error is |
  |---|---|
  | `:component` | the `error` of the result |
  | `:bytes` | a text that `cybernetic.error (pointer, length)` is called with, which does not return |
  | `:extism` | a text that it sets, or a result other than 0 |
  | `:assemblyscript` | a failed assertion, or whatever calls `abort`: with `file`, `line` and `column` |
  | `:wasi` | an exit code that is not 0, with what was written to standard error |

  `:execute` takes one input, or `{[input], %{"name" => "text"}}`: several, each by the codec, and parameters. They are written in the format of
  bincode 1.3, `inputs: Vec<Vec<u8>>` before `params: BTreeMap<String, String>`; with `{:execute, format: :json}` as JSON of the same,
  and with `format: :raw` one input as it is. There is room for a result of `result_capacity: 65_536` bytes, or as many as
  the input has.

  What a plugin made for Extism is given beside its input, its configuration, functions and the network, has a page of its own:
  `Cybernetic.WASM.Plugin.Extism`.

  A component's function of the type `func(input: list<u8>) -> result<list<u8>, string>`, which `run` has in the world
  `cybernetic:plugin/plugin@1.0.0`, passes bytes by the codec. Any other takes a list of its arguments, or its one argument if that is no list, and gives its result as
  `Cybernetic.WASM.Value` has it: no codec is at work. `{:error, _}` is a result like others there.

      iex> alias Cybernetic.WASM.Plugin
      iex> {:ok, greeter} = Plugin.load("priv/wasm/greeter.wasm")
      iex> Plugin.call(greeter, "greet", ["Ada"])
      {:ok, "Hello, Ada!"}

  ## Options

  `load/2` takes, beside the options of a load and of a call (`Cybernetic.WASM.Runtime.load_module/2`,
  `Cybernetic.WASM.Executor.call/4`), which are those of every call then:

    * `:contract` - see above. Default: the first that the module meets
    * `:codec` - see `Cybernetic.WASM.Plugin.Codec`. Default: `:raw`
    * `:max_input` - bytes that go in at the most. Default: 100,000,000

  A call takes `:codec`, `:max_input` and its own options, which come in the place of the plugin's. Imports come beside those of the contract
  and of the plugin. `:metering` and `:deterministic` are the load's where a source is given.

  ## Limits

  Those of any call, but `max_output` is 100,000,000 where neither options nor a sandbox nor a manifest say otherwise. What comes out counts
  against it; of a component `max_transfer` is the same. More input than `:max_input` is a `Cybernetic.WASM.LimitError` with the limit `:input`,
  and more than the guest's `max_memory` one with the limit `:memory`, before anything is copied.

  The systems that these contracts come from held their plugins to limits of their own, as far as they had any. What is not said is
  as configured: `sandbox: Sandbox.new(fuel: 10_000_000, max_memory: 64_000_000, timeout: 1_000)` is a common one.

  ## Errors

  Those of a call, and `Cybernetic.WASM.PluginError`.
  """

  alias Cybernetic.WASM.{
    Error,
    Executor,
    Instance,
    LimitError,
    Loader,
    Module,
    Options,
    PluginError,
    Run,
    Runtime,
    Shown
  }

  alias Cybernetic.WASM.Execution.{Call, Plan}
  alias Cybernetic.WASM.Loader.Request
  alias Cybernetic.WASM.Plugin.{Codecs, Contracts, Prepared}
  alias Cybernetic.WASM.Runtime.Names

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  @most_input 100_000_000
  @own [
    # What is none says so when it is looked for.
    codec: :any,
    max_input: :count
  ]
  @loading [contract: {Contracts.expected(), &Contracts.given?/1}] ++ @own

  @enforce_keys [:target, :prepared, :codec, :max_input, :contract, :options]
  # `target` is a module or a name, `contract` what was asked for, and `options` are those of every call.
  defstruct [:target, :prepared, :codec, :max_input, :contract, :options]

  @typedoc "A plugin. Its fields are private."
  @opaque t :: %__MODULE__{}

  @typedoc "What can be called: a function's name, `:start` of a program, or `:entry`, what is meant to be called."
  @type function_name :: Executor.entry() | :entry

  @typedoc "An option of a call."
  @type call_option ::
          {:codec, Codecs.given()} | {:max_input, non_neg_integer} | Executor.option()

  @typedoc "An option of `load/2`."
  @type option ::
          {:contract, atom | {atom, keyword}} | call_option | Runtime.load_option()

  @doc """
  Loads a plugin: see above for what it takes.

      iex> {:error, error} = Cybernetic.WASM.Plugin.load({:bytes, ~S|(module (func (export "run")))|}, contract: :bytes)
      iex> Exception.message(error)
      ~S|the module does not meet the contract :bytes: it lacks the function "cw_alloc" (i32) -> i32; a memory|
  """
  @spec load(Loader.source() | Module.loaded() | {:name, String.t()}, [option]) ::
          {:ok, t} | {:error, Error.t()}
  def load(source, opts \\ []) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError, "options of a plugin must be a keyword list, got: #{Shown.kind(opts)}"
    end

    {own, opts} = Keyword.split(opts, Keyword.keys(@loading))
    own = Options.check!(own, @loading, "option of a plugin")
    codec = own |> Map.get(:codec, :raw) |> Codecs.new!()

    with {:ok, target, module, opts} <- target(source, opts),
         {:ok, prepared} <- Prepared.new(module, own[:contract], opts) do
      {:ok,
       %__MODULE__{
         target: target,
         prepared: prepared,
         codec: codec,
         max_input: Map.get(own, :max_input, @most_input),
         contract: own[:contract],
         options: opts
       }}
    end
  end

  defp target(module, opts) when is_loaded(module), do: {:ok, module, module, opts}

  defp target({:name, text} = name, opts) when is_binary(text),
    do: with({:ok, module} <- Names.fetch(name, opts), do: {:ok, name, module, opts})

  defp target(%Instance{} = instance, _opts) do
    raise ArgumentError,
          "a plugin is called in instances of its own: give the module of #{Shown.term(instance)}"
  end

  defp target(source, opts) do
    {loading, calling} = Keyword.split(opts, Keyword.keys(Request.options()) -- [:timeout])
    refuse_unknown!(calling)
    with {:ok, module} <- Runtime.load_module(source, loading), do: {:ok, module, module, calling}
  end

  # What is an option of neither is told with all that are.
  defp refuse_unknown!(calling) do
    known = Plan.options() ++ @loading ++ Request.options()

    if unknown = Enum.find(Keyword.keys(calling), &(not Keyword.has_key?(known, &1))),
      do: Options.check!([{unknown, nil}], known, "option of a plugin")
  end

  @doc "As `load/2`, but raises."
  @spec load!(Loader.source() | Module.loaded() | {:name, String.t()}, [option]) :: t
  def load!(source, opts \\ []), do: source |> load(opts) |> Error.unwrap!()

  @doc "The contract's name, and why the module meets it."
  @spec contract(t) :: {atom, String.t()}
  def contract(%__MODULE__{prepared: prepared}), do: {prepared.name, prepared.why}

  @doc """
  Calls the function that is meant to be called: the `entry` of the manifest, else what the contract says, such as `execute` or a
  program; else the only function that can be.
  """
  @spec call(t, term) :: {:ok, term} | {:error, Error.t()}
  def call(plugin, input), do: call(plugin, :entry, input, [])

  @doc """
  Calls a function with an input, and gives its output. `:entry` in the place of the function is what `call/2` calls.

  Options are those of a call, `:codec` and `:max_input`: see above.
  """
  @spec call(t, function_name, input :: term, [call_option]) :: {:ok, term} | {:error, Error.t()}
  def call(plugin, function, input, opts \\ []) do
    with {:ok, output, _run} <- perform(plugin, function, input, {opts, &Function.identity/1}),
         do: {:ok, output}
  end

  @doc "As `run/4`, of what `call/2` calls."
  @spec run(t, term) :: {:ok, Run.t()} | {:error, Error.t()}
  def run(plugin, input), do: run(plugin, :entry, input, [])

  @doc """
  As `call/4`, but gives a `Cybernetic.WASM.Run`, whose `result` is the output. Its `metadata` has

    * `contract` - the contract's name
    * `module` - the name that the module is loaded under, or its file's; `nil` of bytes
    * `digest` - the module's, as in `Cybernetic.WASM.Module`
    * `function` - what was called
    * `input_length`, `output_length` - bytes that went in and came out; `nil` where values were passed, not bytes
  """
  @spec run(t, function_name, input :: term, [call_option]) ::
          {:ok, Run.t()} | {:error, Error.t()}
  def run(plugin, function, input, opts \\ []) do
    with {:ok, output, run} <- perform(plugin, function, input, {opts, &Call.reporting/1}),
         do: {:ok, %{run | result: output}}
  end

  @doc "As `call/2`, but raises."
  @spec call!(t, term) :: term
  def call!(plugin, input), do: plugin |> call(input) |> Error.unwrap!()

  @doc "As `call/4`, but raises."
  @spec call!(t, function_name, term, [call_option]) :: term
  def call!(plugin, function, input, opts \\ []),
    do: plugin |> call(function, input, opts) |> Error.unwrap!()

  @doc "As `run/2`, but raises."
  @spec run!(t, term) :: Run.t()
  def run!(plugin, input), do: plugin |> run(input) |> Error.unwrap!()

  @doc "As `run/4`, but raises."
  @spec run!(t, function_name, term, [call_option]) :: Run.t()
  def run!(plugin, function, input, opts \\ []),
    do: plugin |> run(function, input, opts) |> Error.unwrap!()

  # The story of a call: encode, request, call, response, decode.
  defp perform(%__MODULE__{} = plugin, function, input, {opts, reporting}) do
    {plugin, opts} = adjusted(plugin, opts)

    with {:ok, prepared} <- prepared(plugin, opts),
         {:ok, function} <- Prepared.function(prepared, function),
         {:ok, args, more} <- request(plugin, prepared, function, input),
         {:ok, call} <- Prepared.call(prepared, function, args, opts ++ more),
         :ok <- Prepared.fits(call),
         {:ok, run} <- call |> reporting(function, reporting) |> started(prepared) do
      run = %{run | metadata: metadata(prepared, function, {args, more}, run)}
      response(plugin, prepared, function, run)
    end
  end

  defp perform(other, _function, _input, _how) do
    raise ArgumentError,
          "a plugin is needed: load one with Cybernetic.WASM.Plugin.load/2, got: #{Shown.term(other)}"
  end

  # What a program gives is its output.
  defp reporting(call, :start, _wanted), do: Call.reporting(call)
  defp reporting(call, _function, wanted), do: wanted.(call)

  defp adjusted(plugin, []), do: {plugin, []}

  defp adjusted(plugin, opts) do
    {own, opts} =
      if Keyword.keyword?(opts), do: Keyword.split(opts, Keyword.keys(@own)), else: {opts, []}

    own = Options.check!(own, @own, "option of a plugin's call")
    codec = if given = own[:codec], do: Codecs.new!(given), else: plugin.codec
    {%{plugin | codec: codec, max_input: Map.get(own, :max_input, plugin.max_input)}, opts}
  end

  # A name may lead to another module by now.
  defp prepared(%__MODULE__{target: module, prepared: prepared}, _opts) when is_loaded(module),
    do: {:ok, prepared}

  defp prepared(%__MODULE__{prepared: %{module: %{ref: ref}} = prepared} = plugin, opts) do
    case Names.fetch(plugin.target, Keyword.merge(plugin.options, opts)) do
      {:ok, %{ref: ^ref}} -> {:ok, prepared}
      {:ok, module} -> Prepared.new(module, plugin.contract, plugin.options)
      error -> error
    end
  end

  defp request(plugin, prepared, function, input) do
    encode = fn term ->
      with {:ok, bytes} <- Codecs.encode(plugin.codec, term), do: bound(bytes, plugin)
    end

    case prepared.contract.request(function, input, encode, prepared.state) do
      {:ok, args} -> {:ok, args, []}
      other -> other
    end
  end

  defp bound(bytes, %{max_input: most}) when byte_size(bytes) <= most, do: {:ok, bytes}

  defp bound(bytes, %{max_input: most}) do
    {:error,
     %LimitError{
       limit: :input,
       allowed: most,
       used: byte_size(bytes),
       set_by: :call,
       blame: :caller
     }}
  end

  defp started(call, prepared) do
    case Call.run(call) do
      {:ok, result, nil} -> {:ok, %Run{result: result}}
      {:ok, result, tally} -> {:ok, Call.finished(call, result, tally)}
      {:error, error} -> {:error, failure(prepared, error)}
    end
  end

  defp failure(%{contract: contract, state: state} = prepared, error) do
    if function_exported?(contract, :failure, 2),
      do: error |> contract.failure(state) |> named(prepared),
      else: error
  end

  defp response(plugin, prepared, function, run) do
    decode = &Codecs.decode(plugin.codec, &1)

    case prepared.contract.response(function, run, decode, prepared.state) do
      {:ok, output} -> {:ok, output, run}
      {:error, error} -> {:error, error |> named(prepared) |> with_run(run)}
    end
  end

  defp named(%PluginError{contract: nil} = error, prepared),
    do: %{error | contract: prepared.name}

  defp named(error, _prepared), do: error

  defp with_run(%{run: nil} = error, %Run{usage: usage} = run) when usage != nil,
    do: %{error | run: %{run | result: nil}, usage: usage}

  defp with_run(error, _run), do: error

  defp metadata(prepared, function, {args, more}, run) do
    module = prepared.module

    %{
      contract: prepared.name,
      module: module.name,
      digest: module.digest,
      function: function,
      input_length: input_length(args, more),
      output_length: output_length(function, run)
    }
  end

  defp input_length(_args, stdin: bytes), do: byte_size(bytes)
  defp input_length([], _more), do: 0
  defp input_length(args, _more), do: Prepared.length_of(args)

  defp output_length(:start, run), do: byte_size(run.stdout)
  defp output_length(_function, %{result: bytes}) when is_binary(bytes), do: byte_size(bytes)

  defp output_length(_function, %{result: {:ok, bytes}}) when is_binary(bytes),
    do: byte_size(bytes)

  defp output_length(_function, _run), do: nil

  defimpl Inspect do
    def inspect(plugin, _opts) do
      target = Kernel.inspect(plugin.target)
      "#Cybernetic.WASM.Plugin<#{Kernel.inspect(plugin.prepared.name)}, #{target}>"
    end
  end
end
