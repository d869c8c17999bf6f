defmodule Cybernetic.WASM.Host do
  @moduledoc """
  What a host function can do with the guest that called it.

  A host function takes a context and the guest's arguments, and runs in the process that made the call. It returns what
  its type in the module says: the bare value for one result, a list for several, anything for none.

      imports = %{
        "env" => %{
          "log" => fn ctx, ptr, len ->
            {:ok, text} = Cybernetic.WASM.Host.read(ctx, ptr, len)
            IO.puts(text)
          end
        }
      }

      Cybernetic.WASM.Executor.call(module, "run", [], imports: imports)

  An exception, exit or throw unwinds the guest and reaches the caller as a `Cybernetic.WASM.HostError`. A host function
  may block, receive, or call another guest; its time counts against the call's deadline, and a call past its deadline fails
  as soon as the function returns (under `Cybernetic.WASM.Executor.async/4` it is ended from outside). The context is good
  inside its host function only.

  ## One name, several types

  A module may import one name more than once, with different types: loggers do. Then a list is given, and each import gets the
  first in it that fits: by the number of its arguments, or by its type where that is said.

      "log" => [
        {fn ctx, n -> log(ctx, n) end, type: {[:i32], []}},
        {fn ctx, x -> log(ctx, x) end, type: {[:f64], []}},
        fn ctx, ptr, len -> log(ctx, Cybernetic.WASM.Host.read(ctx, ptr, len)) end
      ]

  A variadic function, `{function, args: :list}`, takes the context and the list of all arguments, and so fits every type: it
  serves an import of any number of parameters, of which a function of Elixir's own can take 254, and whatever is imported
  under its name. `imported_as/1` says which import was called. A function without results ignores what it returns.

      "trace" => {fn ctx, args -> IO.inspect({Cybernetic.WASM.Host.imported_as(ctx), args}) end, args: :list}

  ## Globals

  `{:global, type, value}` is a global of the host's, a constant one; `{:global, {:mut, type}, value}` is one that the guest may
  change, of which each instance has its own. The types are those of declarations, below, and `:anyref`. Modules that were made
  for JavaScript import their texts so, under the names of the texts themselves:

      texts =
        for %{module: "strings", name: text} <- Cybernetic.WASM.Module.imports(module),
            into: %{},
            do: {text, {:global, :externref, text}}

      Cybernetic.WASM.Executor.call(module, "run", [], imports: %{"strings" => texts})

  ## Imports that nothing is given for

  They are refused before anything runs. With `unknown_imports: :trap`, an option of calls and of instances, the guest runs, and
  traps when it calls one of these functions: the `Cybernetic.WASM.TrapError` has the code `:unknown_import`, and its `import`
  says which. Memories, tables, globals and tags have to be given all the same, as has a function of the right type where one is
  given under its name.

  ## Typed declarations

  `use Cybernetic.WASM.Host` makes host functions of a module, each with its WebAssembly type:

      defmodule MyApp.Env do
        use Cybernetic.WASM.Host, module: "env"

        defimport add(_ctx, a :: i32, b :: i32) :: i32 do
          a + b
        end

        defimport split(_ctx, n :: i64) :: {i32, i32}, as: "split-64" do
          [div(n, 4_294_967_296), rem(n, 4_294_967_296)]
        end

        defimport log(ctx, ptr :: i32, len :: i32) do
          {:ok, text} = Cybernetic.WASM.Host.read(ctx, ptr, len)
          Logger.info(text)
        end
      end

      Cybernetic.WASM.Executor.call(module, "run", [], imports: MyApp.Env)

  Linking compares the declarations with what the module imports: what is missing, of another type, or declared and not
  imported is named in one `Cybernetic.WASM.LinkError`. A name may be declared several times with different types. `imports:`
  also takes a list of such modules and maps, of which the later ones win.

  Options of `use`: `:module` - the import's module name, default `"env"`, or `:interface`, below; `:extra` - `:refuse` (default), or `:ignore`: a
  module need not import all that is declared. Options of `defimport`: `:as` - the import's name, default the function's;
  `:module`; `:async`.

  ## Interfaces of components

  `use Cybernetic.WASM.Host, interface: "acme:host/db"` makes host functions of an interface that components import. Their types are
  the component's, and what it passes may be taken apart at once. A function is imported by its own name with hyphens, unless `:as`
  says another; a version may be left out. `ends: "conn"` declares what ends resources of that type (`Cybernetic.WASM.Resource`).

      defmodule MyApp.Database do
        use Cybernetic.WASM.Host, interface: "acme:host/db"

        defimport open(_ctx, url), as: "[constructor]conn" do
          MyApp.DB.open(url)
        end

        defimport query(_ctx, conn, %{"text" => text}), as: "[method]conn.query" do
          MyApp.DB.query(conn, text)
        end

        defimport close(conn), ends: "conn" do
          MyApp.DB.close(conn)
        end
      end

  ## Asynchronous host functions

  A function that is given as `{function, async: true}`, or declared with `async: true`, returns a `Task`, or
  `{:await, reference}` for a message `{reference, value}` to come. The guest sleeps meanwhile; the calling process waits for
  the reply, for as long as the call has time, and is cancelled without delay.

      "fetch" => {fn ctx, id -> Task.async(fn -> MyApp.fetch(id) end) end, async: true}

      "ask" => {fn ctx, id ->
        reference = Cybernetic.WASM.Host.await_ref(ctx)
        MyApp.Queue.push(id, fn answer -> send(reference, {reference, answer}) end)
        {:await, reference}
      end, async: true}

  The reference of `await_ref/1` is an alias of the calling process that dies with the host call. To any other, such as one of
  `make_ref/0`, a reply may come when nobody waits any more, and stays in the mailbox.

  ## Example

      iex> wat = ~S|(module (import "env" "add" (func $add (param i32 i32) (result i32)))
      ...>   (func (export "run") (result i32) (call $add (i32.const 2) (i32.const 3))))|
      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, wat})
      iex> Cybernetic.WASM.Executor.call(module, "run", [], imports: %{"env" => %{"add" => fn _ctx, a, b -> a + b end}})
      {:ok, 5}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "run", [], imports: %{"env" => %{"add" => fn _ctx, _a, _b -> raise "no" end}})
      iex> error.reason
      %RuntimeError{message: "no"}
  """

  alias Cybernetic.WASM.{CallError, Error, Execution, Memory, Options, Shown, Value}
  alias Cybernetic.WASM.Execution.HostCall
  alias Cybernetic.WASM.Host.{Context, Declarations}

  @trap [blame: {:one_of, [:guest, :host, :caller]}]

  @typedoc "The context of one host call."
  @type ctx :: Context.t()

  @typedoc """
  One host function of a map, by its field name. `async:` - it is waited for; `args: :list` - it is variadic; `type:` - its
  parameters and results, for an import of that type only.
  """
  @type host_function ::
          function
          | {function, [async: boolean, args: :each | :list, type: {[type], [type]}]}

  @typedoc "A type of WebAssembly."
  @type type :: :i32 | :i64 | :f32 | :f64 | :v128 | :funcref | :externref | :anyref

  @typedoc "A global of the host's."
  @type global :: {:global, type | {:mut, type}, Value.t()}

  @typedoc "Host functions by module name and field name, as `imports:` takes them."
  @type imports :: %{
          String.t() => %{String.t() => host_function | global | [host_function | global]}
        }

  @typedoc "What `imports:` takes: host functions and guests by module name, a module with `use Cybernetic.WASM.Host`, or a list."
  @type given :: map | module | [map | module]

  # Declarations

  @doc false
  defmacro __using__(opts) do
    quote do
      import Cybernetic.WASM.Host, only: [defimport: 2, defimport: 3]
      Module.register_attribute(__MODULE__, :wasm_imports, accumulate: true)
      @wasm_host unquote(Declarations).defaults!(unquote(opts))
      @before_compile Cybernetic.WASM.Host
    end
  end

  @doc false
  defmacro __before_compile__(env) do
    declared = env.module |> Module.get_attribute(:wasm_imports) |> Enum.reverse()
    host = Module.get_attribute(env.module, :wasm_host)

    quote do
      @doc false
      def __wasm_imports__,
        do: unquote(env.module |> Declarations.imports(declared, host) |> Macro.escape())
    end
  end

  @doc """
  Declares a host function: its context, its parameters with their types, and the types of its results (none, one, or a tuple
  of several). The types are `i32`, `i64`, `f32`, `f64`, `v128`, `funcref` and `externref`.
  """
  defmacro defimport(declaration, opts \\ [], body) do
    # On one line the body is the last of the options.
    {body, more} = Keyword.split(body, [:do, :rescue, :catch, :else, :after])
    opts = Declarations.options!(if more == [], do: opts, else: more)
    {name, arguments, params, results} = Declarations.parse(declaration)

    quote do
      @wasm_imports {unquote(name), unquote(opts[:as]), unquote(params), unquote(results),
                     unquote(Keyword.take(opts, [:module, :async, :ends]))}
      @doc false
      def unquote(name)(unquote_splicing(arguments)), unquote(body)
    end
  end

  # In a host call

  @doc "Reads bytes of the guest's memory: see `Cybernetic.WASM.Memory.read/4`, as all of that module takes a context."
  @spec read(ctx, integer, integer, keyword) :: {:ok, binary} | {:error, CallError.t()}
  defdelegate read(ctx, offset, length, opts \\ []), to: Memory

  @doc "Writes bytes to the guest's memory: see `Cybernetic.WASM.Memory.write/4`."
  @spec write(ctx, integer, iodata, keyword) :: :ok | {:error, CallError.t()}
  defdelegate write(ctx, offset, bytes, opts \\ []), to: Memory

  @doc "The size of the guest's memory in bytes: see `Cybernetic.WASM.Memory.size/2`."
  @spec memory_size(ctx, keyword) :: {:ok, non_neg_integer} | {:error, CallError.t()}
  defdelegate memory_size(ctx, opts \\ []), to: Memory, as: :size

  @doc "The value of a global that the guest exports."
  @spec get_global(ctx, String.t()) :: {:ok, Value.t()} | {:error, CallError.t()}
  def get_global(ctx, name) when is_binary(name), do: Execution.command(ctx, {:get_global, name})

  @doc "Gives a mutable global that the guest exports another value."
  @spec set_global(ctx, String.t(), Value.t()) :: :ok | {:error, CallError.t()}
  def set_global(ctx, name, value) when is_binary(name) do
    with {:ok, :ok} <- Execution.command(ctx, {:set_global, name, value}), do: :ok
  end

  @doc """
  Calls an export of the guest while it is suspended in this host call, within what the call has left of its limits, at most
  200 host calls deep. A component has to be called with `reentrant: true` for that.
  """
  @spec call(ctx, String.t(), [Value.t()]) :: {:ok, Value.result()} | {:error, Error.t()}
  def call(ctx, function, args \\ [])

  # `length` fails, and so does the guard, where the list is improper.
  def call(ctx, function, args) when is_binary(function) and length(args) >= 0 do
    Execution.command(ctx, {:call, function, args})
  end

  def call(_ctx, function, args) do
    raise ArgumentError,
          "a function's name and a proper list of arguments are needed, " <>
            "got: #{Shown.kind(function)} and #{Shown.kind(args)}"
  end

  @doc """
  Calls the function in an exported table of the guest's at `index`, as `call/3` calls an export: what the guest gave this host
  function as a pointer to a function, for example. See `Cybernetic.WASM.Instance.call_table/5`.

      # What Emscripten's modules import for C++ and for setjmp.
      "invoke_vi" => fn ctx, index, a ->
        Cybernetic.WASM.Host.call_table(ctx, "__indirect_function_table", index, [a])
      end
  """
  @spec call_table(ctx, String.t(), integer, [Value.t()]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call_table(ctx, table, index, args \\ []) when is_binary(table) do
    index = index |> pointer() |> Value.index!()

    with {:ok, found} <- Execution.command(ctx, {:table_get, table, index}),
         {:ok, ref} <- Value.function(found, {table, index}),
         do: call_ref(ctx, ref, args)
  end

  # A guest's pointers come as signed integers.
  defp pointer(index) when index in -0x8000_0000..-1, do: index + 0x1_0000_0000
  defp pointer(index), do: index

  @doc "Calls a function reference, such as an argument of this host function, as `call/3` calls an export."
  @spec call_ref(ctx, Value.t(), [Value.t()]) :: {:ok, Value.result()} | {:error, Error.t()}
  def call_ref(ctx, ref, args \\ [])

  def call_ref(ctx, ref, args) when is_reference(ref) and length(args) >= 0,
    do: Execution.command(ctx, {:call_ref, ref, args})

  def call_ref(_ctx, ref, args) do
    raise ArgumentError,
          "a function reference and a proper list of arguments are needed, got: #{Shown.kind(ref)} and #{Shown.kind(args)}"
  end

  @doc """
  Adds bytes to the call's output: an element of `Cybernetic.WASM.Executor.stream/4`, or a part of the `output` of the finished
  `Cybernetic.WASM.Run`. Past `max_output` the guest is stopped.
  """
  @spec emit(ctx, iodata) :: :ok
  def emit(ctx, bytes), do: HostCall.emit(ctx, IO.iodata_to_binary(bytes))

  @doc """
  Stops the guest: the call fails with a `Cybernetic.WASM.HostError` of kind `:trap`.

  This is for what the guest has done: it asked to be stopped, as AssemblyScript's `env.abort` does, or gave what no guest
  should. The error's `blame` is therefore `:guest`. `blame: :host` or `blame: :caller` says otherwise; what the host function
  itself cannot do, it may also raise, which is always the host's.

      "abort" => fn ctx, message, _file, line, _column ->
        Cybernetic.WASM.Host.trap(ctx, {:abort, text(ctx, message), line})
      end
  """
  @spec trap(ctx, term) :: no_return
  @spec trap(ctx, term, blame: :guest | :host | :caller) :: no_return
  def trap(%Context{} = ctx, reason, opts \\ []) do
    opts = Options.check!(opts, @trap, "option of trap/3")
    HostCall.trap(ctx, reason, Map.get(opts, :blame, :guest))
  end

  @doc """
  What an asynchronous host function may return as `{:await, reference}`: whoever has the answer sends it there, as
  `send(reference, {reference, value})`. Sent when the guest no longer waits, since the time is over or the call was cancelled,
  it goes nowhere. It is good for one message. Another context than that of an `async: true` function raises `ArgumentError`.
  """
  @spec await_ref(ctx) :: reference
  def await_ref(%Context{alias: reference}) when is_reference(reference), do: reference

  def await_ref(%Context{}) do
    raise ArgumentError,
          "await_ref/1 is for a host function that is declared asynchronous: {function, async: true}"
  end

  @doc "Fuel that the call has left; `nil` where metering is by epochs."
  @spec fuel_left(ctx) :: non_neg_integer | nil
  def fuel_left(ctx) do
    case Execution.command(ctx, :fuel) do
      {:ok, fuel} -> fuel
      {:error, error} -> raise error
    end
  end

  @doc "Milliseconds that the call has left."
  @spec time_left(ctx) :: non_neg_integer
  def time_left(%Context{} = ctx), do: HostCall.time_left(ctx)

  @doc """
  The sandbox that the call has, after all narrowing: for a host function that does something in the guest's name. See
  `Cybernetic.WASM.Sandbox.Capabilities.Network` for one that connects.
  """
  @spec sandbox(ctx) :: Cybernetic.WASM.Sandbox.t()
  def sandbox(%Context{} = ctx), do: Context.plan(ctx).sandbox

  @doc "The import that the guest called, by its module and its name: a function may be given for several."
  @spec imported_as(ctx) :: {String.t(), String.t()}
  def imported_as(%Context{call: {_member, import, _serial}} = ctx),
    do: elem(Context.host(ctx).names, import)

  @doc "What the caller gave as `data:`."
  @spec data(ctx) :: term
  def data(%Context{} = ctx), do: Context.data(ctx)
end
