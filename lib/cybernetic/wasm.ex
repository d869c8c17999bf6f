defmodule Cybernetic.WASM do
  @external_resource readme = Path.expand("../../README.md", __DIR__)
  @moduledoc readme |> File.read!() |> String.split("<!-- moduledoc -->") |> List.last()

  alias Cybernetic.WASM.{Error, Executor, Instance, Interface, Loader, Module, Runtime, Value}

  @typedoc """
  An option of a function of a generated module: of `Cybernetic.WASM.Executor.call/4`, or the live instance that is called, with
  options of `Cybernetic.WASM.Instance.call/4`.
  """
  @type call_option :: Executor.option() | {:instance, Instance.target()}

  @doc """
  Makes a module with a function for each function that a module or a component of WebAssembly exports.

      defmodule MyApp.Thumb do
        use Cybernetic.WASM,
          otp_app: :my_app,
          source: {:priv, :my_app, "wasm/thumb.wasm"},
          call: [timeout: 500, max_memory: 50_000_000]
      end

      MyApp.Thumb.scale(640, 480)              # {:ok, result} or {:error, error}
      MyApp.Thumb.scale!(640, 480, fuel: 1_000_000)

  Each has the export's name in snake case, its parameters, and options of the call as its last argument, with a
  specification, documentation, and a twin that raises. What the source has is looked up, and validated, while the Elixir module
  is compiled: a file that is missing or no module is an error of the compiler, and so is an export that cannot have a function.
  When the file changes, Mix compiles the module again.

  Nothing of the WebAssembly module is in the Elixir one. It is loaded from its source where the code runs, by the first call, and
  then kept; `module/0` loads it sooner, such as in `c:Application.start/2`. In a release the file is looked for in the
  application's `priv` folder as it is there. What is loaded must have the digest of what was compiled for: another file is a
  `Cybernetic.WASM.LoadError` with the reason `:digest_mismatch`.

  ## Components

  A component's functions that are in an interface become functions of a module inside: `acme:shop/orders@1.2.0` gives
  `MyApp.Shop.Orders`. Their types, and the names of those, are in the specifications; what WIT says of them is their documentation.
  A method is called by the name of its resource, `cart_add`, and a constructor `new_cart`. What the component imports becomes
  callbacks, of the module of its interface: a module with `use Cybernetic.WASM.Host, interface: "acme:host/log"` and `@behaviour
  MyApp.Shop.Log` is told by the compiler what it lacks. `:only`, `:except` and `:as` take whole names, as in
  `"acme:shop/orders@1.2.0#place"`.

      defmodule MyApp.Shop do
        use Cybernetic.WASM, otp_app: :my_app, source: {:priv, :my_app, "wasm/shop.wasm"}
      end

      MyApp.Shop.Orders.place([%{item: "tea", count: 2}])   # {:ok, {:ok, receipt}} or {:ok, {:error, problem}}

  With `wit: "wit/"`, a file or a folder of WIT, and `world: "plugin"`, where that has several, the functions are those of the WIT,
  whose documentation a component does not keep. The source is not looked at while the code is compiled: what is loaded later may be
  any component that exports the same, and is a `Cybernetic.WASM.LoadError` with the reason `:unexpected` otherwise.

  ## Functions beside those of the exports

    * `module/0` - the `Cybernetic.WASM.Module`
    * `instance/1` - a live instance, with options of `Cybernetic.WASM.Instance.new/2`. The functions call it, or one behind a
      server, with `instance: instance`.

  and their twins, which raise.

  ## Options

    * `:source` - what is loaded, as by `Cybernetic.WASM.Runtime.load_module/2`. Needed.
    * `:wit`, `:world` - see "Components"
    * `:otp_app` - an application whose configuration may change the next two, as
      `config :my_app, MyApp.Thumb, call: [timeout: 200]`. Default: none.
    * `:load` - options of `Cybernetic.WASM.Runtime.load_module/2`, such as `[manifest: true]`. They hold while the module is
      compiled as well. Default: none.
    * `:call` - options of each call, which those of the call itself replace, and of making an instance: `:imports` for example.
      They are worked out in each call: the code may be a function's. Default: none.
    * `:only`, `:except` - lists of names of exports that become functions, or do not. Default: all.
    * `:as` - a map of names of exports to names of functions: for what has no name that Elixir can say, whose name `Kernel` has,
      or two that would be the same, as `%{"i32.add" => :add, "max" => :greatest}`

    * `:abi`, `:by_abi` - for functions that pass bytes: a `Cybernetic.WASM.ABI` or its options, and a map of their names to how
      they take their arguments: `:bytes` (a pointer and a length), `:pointer`, `:cstring`, `{:room, size}` (which is no argument
      of the function in Elixir) and `:value`. They take iodata where that is bytes, and give a binary.

  ## Examples

      iex> defmodule Division do
      ...>   use Cybernetic.WASM, source: "priv/wasm/compute.wasm", only: ["div_mod", "spin"], call: [fuel: 1_000_000]
      ...> end
      iex> Division.div_mod(7, 2)
      {:ok, [3, 1]}
      iex> {:error, error} = Division.div_mod(7, 0)
      iex> error.code
      :integer_divide_by_zero
      iex> {:error, error} = Division.spin()
      iex> {error.limit, error.allowed}
      {:fuel, 1_000_000}
      iex> {:ok, instance} = Division.instance()
      iex> Division.div_mod!(7, 2, instance: instance)
      [3, 1]

      iex> defmodule Greeter do
      ...>   use Cybernetic.WASM, source: "priv/wasm/greeter.wasm"
      ...> end
      iex> Greeter.greet!("Ada")
      "Hello, Ada!"

      iex> defmodule Text do
      ...>   use Cybernetic.WASM,
      ...>     abi: [alloc: "malloc", result: :pair],
      ...>     by_abi: %{"rest" => [:bytes]},
      ...>     source: {:bytes, ~S|
      ...>       (module (memory (export "memory") 1)
      ...>         (func (export "malloc") (param $size i32) (result i32) (i32.const 1024))
      ...>         (func (export "rest") (param $at i32) (param $size i32) (result i32 i32)
      ...>           (i32.add (local.get $at) (i32.const 1)) (i32.sub (local.get $size) (i32.const 1))))|}
      ...> end
      iex> Text.rest("hello")
      {:ok, "ello"}
  """
  defmacro __using__(opts), do: Interface.code(opts)

  @doc "See `Cybernetic.WASM.Runtime.load_module/2`."
  @spec load_module(Loader.source(), [Runtime.load_option()]) ::
          {:ok, Module.t()} | {:error, Error.t()}
  defdelegate load_module(source, opts \\ []), to: Runtime

  @doc "See `Cybernetic.WASM.Executor.call/4`."
  @spec call(Module.t(), Executor.entry(), [Value.t()] | [Executor.option()], [Executor.option()]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  defdelegate call(module, function, args \\ [], opts \\ []), to: Executor

  @doc "See `Cybernetic.WASM.Executor.run/4`."
  @spec run(Module.t(), Executor.entry(), [Value.t()] | [Executor.option()], [Executor.option()]) ::
          {:ok, Cybernetic.WASM.Run.t()} | {:error, Error.t()}
  defdelegate run(module, function, args \\ [], opts \\ []), to: Executor
end
