defmodule Cybernetic.WASM.Component do
  @moduledoc """
  A compiled component: what `Cybernetic.WASM.Runtime.load_module/2` gives for one. It tells a component from a module by its
  bytes.

  A component's functions take and give values, not numbers: strings, lists, records. `Cybernetic.WASM.Value` has the table.
  It is called, kept as an instance, limited, sandboxed and loaded with a manifest as a module is:

      iex> {:ok, greeter} = Cybernetic.WASM.Runtime.load_module("priv/wasm/greeter.wasm")
      iex> Cybernetic.WASM.Executor.call(greeter, "greet", ["Ada"])
      {:ok, "Hello, Ada!"}
      iex> order = [%{item: "tea", count: 2}]
      iex> Cybernetic.WASM.Executor.call(greeter, "acme:shop/orders@1.2.0#place", [order])
      {:ok, {:ok, %{"number" => 1, "total" => 2, "gift" => false}}}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(greeter, "greet", [:ada])
      iex> Exception.message(error)
      ~s|argument 1 ("name"): expected string, got :ada|

  ## Names

  A function of the world's own is called by its bare name. One of an interface is called by the interface and its name,
  `"acme:shop/orders@1.2.0#place"` or `{"acme:shop/orders@1.2.0", "place"}`. The version may be left out where only one of
  them is exported. A name that is not there, or that is several functions', is a `Cybernetic.WASM.CallError` that lists what
  there is.

  ## Imports

  Each function that a component imports is a host function, which the calling process runs: `Cybernetic.WASM.Host`. They are given by
  interface, whose version may be left out, and by name; a function of the world's own is of the interface `"$root"`.

      imports: %{"acme:host/log" => %{"write" => fn ctx, level, text -> … end}}

  A host function returns what the type says, or anything at all where there is no result. A component has no memory to read:
  `Cybernetic.WASM.Memory` says so. While a component waits for a host function it cannot be called again, as the component
  model has it: the error names both calls. With `reentrant: true`, an option of calls and of `Cybernetic.WASM.Instance.new/2`,
  `Cybernetic.WASM.Host.call/3` does: for a component that is written for it. One that is not may trap, or go on with what it
  has half changed.

  ## Resources

  A type of resources that a component exports gives handles, and one that it imports takes any terms for resources:
  `Cybernetic.WASM.Resource` has both. A constructor, a method and a static function are called by the names that they have in a
  component's text: `"acme:shop/carts#[constructor]cart"`, `"acme:shop/carts#[method]cart.add"`.

  ## Failures

  A trap, a call that was cut off, a value that cannot be read, and whatever a host function raises leave an instance poisoned:
  all that is in its store is closed. `on_trap: :keep` is for modules. What is wrong with the arguments is found before the
  component runs, and leaves the instance as it was.

  ## WASI 0.2

  A component that imports interfaces of WASI 0.2 is linked with them whatever its sandbox grants, since many import what they
  never use; which release of 0.2 does not matter. What is not granted answers with the interface's own error and is in the
  `denials` of the run; where an interface has no error to give, for the time and for random bytes, the call traps. One that
  exports `wasi:cli/run` is a command, which `Cybernetic.WASM.Executor.run(component, :start)` runs; one that
  exports `wasi:http/incoming-handler` answers requests, by `Cybernetic.WASM.HTTP.handle/3`.

      iex> alias Cybernetic.WASM.{Executor, Runtime, Sandbox}
      iex> {:ok, files} = Runtime.load_module("test/fixtures/components/wasi/rust_files.wasm")
      iex> sandbox = Sandbox.new(stdio: :captured, filesystem: [{"priv/wasm", "/data"}])
      iex> {:ok, run} = Executor.run(files, :start, args: ["read", "/data/compute.wat"], sandbox: sandbox)
      iex> run.stdout =~ "(module"
      true
      iex> {:ok, run} = Executor.run(files, :start, args: ["rm", "/data/compute.wat"], sandbox: sandbox)
      iex> {run.exit_code, for(denial <- run.denials, do: {denial.operation, denial.detail, denial.errno})}
      {1, [{"wasi:filesystem/types#unlink-file-at", "compute.wat", :not_permitted}]}

  Functions that a call gives under the name of such an interface are called in the place of the library's. The
  [guide](guides/wasi.md) has the interfaces and what each needs.

  ## What is not served

  Components are neither linked to each other nor captured in snapshots. Those that are written for asynchronous functions, such
  as those of WASI 0.3, for memories of 64 bits, or for lists of a fixed length are refused when they are loaded. So are those whose types come to more than 100,000 parts, and those that are made of more than 1,000 instances
  of modules.
  """

  alias Cybernetic.WASM.{CallError, Digest, Native, Options, Shown}

  @enforce_keys [:ref, :digest, :size, :engine, :private]
  # As those of a module, which see.
  defstruct [
    :ref,
    :digest,
    :sha256,
    :name,
    :version,
    :uses,
    :size,
    :engine,
    :manifest,
    :private,
    command: false,
    pooled: true
  ]

  @typedoc "A compiled component. Its other fields are private."
  @type t :: %__MODULE__{
          digest: String.t(),
          name: String.t() | nil,
          version: String.t() | nil,
          size: non_neg_integer,
          manifest: Cybernetic.WASM.Sandbox.Manifest.t() | nil
        }

  @typedoc """
  A type of WIT. What has names in it is a list in the order of their declaration; where there is no type stands `nil`. A type of
  resources is named by its interface and its own name.
  """
  @type wit_type ::
          :bool
          | :s8
          | :u8
          | :s16
          | :u16
          | :s32
          | :u32
          | :s64
          | :u64
          | :f32
          | :f64
          | :char
          | :string
          | {:list, wit_type}
          | {:option, wit_type}
          | {:tuple, [wit_type]}
          | {:record, [{String.t(), wit_type}]}
          | {:variant, [{String.t(), wit_type | nil}]}
          | {:enum, [String.t()]}
          | {:flags, [String.t()]}
          | {:result, wit_type | nil, wit_type | nil}
          | {:own, String.t()}
          | {:borrow, String.t()}

  @typedoc """
  A type as WIT spells it: one that has a name there stands by that, with its interface: `{:named, "acme:shop/orders@1.2.0#item"}`.
  """
  @type spelt :: wit_type | {:named, String.t()}

  @typedoc "What is imported or exported, as WIT declares it."
  @type declared :: {:func, [{String.t(), spelt}], spelt | nil} | {:type, spelt} | :resource

  @typedoc "What is imported or exported: a function with its parameters and its result, a type, a type of resources, or another thing."
  @type item_type ::
          {:func, [{String.t(), wit_type}], wit_type | nil}
          | {:type, wit_type}
          | {:resource, String.t()}
          | :module
          | :component
          | :instance

  @typedoc """
  Something that is imported or exported, and the interface that it is in, if it is in one. `declared` is its type with the names
  that types have in WIT, and `docs` what is said of it there: both are `nil` where the component does not have them.
  """
  @type item :: %{
          interface: String.t() | nil,
          name: String.t(),
          type: item_type,
          declared: declared | nil,
          docs: String.t() | nil
        }

  @typedoc """
  What a component says of itself, as far as it does: texts, of at most 1,000 bytes, and what it and the modules in it were made
  with, of at most 100. A producer's role is `"language"`, `"sdk"` or `"processed-by"`.
  """
  @type metadata :: %{
          name: String.t() | nil,
          version: String.t() | nil,
          description: String.t() | nil,
          authors: String.t() | nil,
          licences: String.t() | nil,
          homepage: String.t() | nil,
          source: String.t() | nil,
          revision: String.t() | nil,
          producers: [%{role: String.t(), name: String.t(), version: String.t()}]
        }

  @typedoc "A package that interfaces are imported from."
  @type dependency :: %{
          package: String.t(),
          version: String.t() | nil,
          interfaces: [String.t()]
        }

  @doc "What the component imports, in order."
  @spec imports(t) :: [item]
  def imports(%__MODULE__{ref: ref}), do: Native.module_facts(ref).imports

  @doc "What the component exports, in order."
  @spec exports(t) :: [item]
  def exports(%__MODULE__{ref: ref}), do: Native.module_facts(ref).exports

  @doc """
  The type of what the component exports by a name, as a call names it.

      iex> {:ok, greeter} = Cybernetic.WASM.Runtime.load_module("priv/wasm/greeter.wasm")
      iex> Cybernetic.WASM.Component.type(greeter, "greet")
      {:ok, {:func, [{"name", :string}], :string}}
      iex> Cybernetic.WASM.Component.type(greeter, "acme:shop/orders#problem")
      {:ok, {:type, {:variant, [{"empty", nil}, {"sold-out", :string}]}}}
      iex> {:error, error} = Cybernetic.WASM.Component.type(greeter, "great")
      iex> error.reason
      :no_such_export
  """
  @spec type(t, String.t() | {String.t(), String.t()}) ::
          {:ok, item_type} | {:error, CallError.t()}
  def type(component, {interface, name}) when is_binary(interface) and is_binary(name),
    do: type(component, interface <> "#" <> name)

  def type(%__MODULE__{} = component, name) when is_binary(name) do
    exports = exports(component)

    case named(exports, name, &path/1) || named(exports, name, &short/1) do
      [%{type: type}] -> {:ok, type}
      nil -> {:error, unknown(:no_such_export, name, exports)}
      several -> {:error, unknown(:ambiguous_export, name, several)}
    end
  end

  def type(%__MODULE__{}, other) do
    Options.refuse!(
      ~s|the name of an export is a text, "greet" or "acme:shop/orders#place", or {interface, name}|,
      other
    )
  end

  def type(other, _name) do
    Options.refuse!(
      "type/2 takes a component that is loaded, as Cybernetic.WASM.Runtime.load_module/2 gives one (of a module, " <>
        "Cybernetic.WASM.Module.exports/1 has the types; of a name, Cybernetic.WASM.Runtime.module/1 gives what is loaded)",
      other
    )
  end

  defp named(exports, name, called) do
    case Enum.filter(exports, &(called.(&1) == name)) do
      [] -> nil
      found -> found
    end
  end

  @doc false
  # What an item is called by.
  @spec path(item) :: String.t()
  def path(%{interface: nil, name: name}), do: name
  def path(%{interface: interface, name: name}), do: interface <> "#" <> name

  defp short(%{interface: nil, name: name}), do: name

  defp short(%{interface: interface, name: name}),
    do: hd(String.split(interface, "@")) <> "#" <> name

  # As many as Rust names.
  @most_known 21

  defp unknown(reason, name, items) do
    known = items |> Enum.take(@most_known) |> Enum.map(&Shown.cut(path(&1)))
    %CallError{reason: reason, export: Shown.cut(name), expected: "item", known: known}
  end

  @doc """
  The component's world and its interfaces, as the text of WIT; `nil` where that would be more than a megabyte, or the component has
  what WIT has no words for. The package and the world have no names in a component: they are `root:component` and `root`.

      iex> {:ok, greeter} = Cybernetic.WASM.Runtime.load_module("priv/wasm/greeter.wasm")
      iex> Cybernetic.WASM.Component.wit(greeter) =~ "export greet: func(name: string) -> string;"
      true
  """
  @spec wit(t) :: String.t() | nil
  def wit(%__MODULE__{ref: ref}), do: Native.component_wit(ref)

  @doc """
  What the component says of itself in its custom sections, which nobody has looked whether it is true.

      iex> {:ok, greeter} = Cybernetic.WASM.Runtime.load_module("priv/wasm/greeter.wasm")
      iex> hd(Cybernetic.WASM.Component.metadata(greeter).producers)
      %{role: "processed-by", name: "wit-component", version: "0.247.0"}
  """
  @spec metadata(t) :: metadata
  def metadata(%__MODULE__{ref: ref}), do: Native.component_metadata(ref)

  @doc """
  The packages whose interfaces the component imports, in order.

      iex> wat = ~S|(component
      ...>   (import "acme:host/log@1.2.0" (instance (export "write" (func (param "text" string))))))|
      iex> {:ok, component} = Cybernetic.WASM.Runtime.load_module({:bytes, wat})
      iex> Cybernetic.WASM.Component.dependencies(component)
      [%{package: "acme:host", version: "1.2.0", interfaces: ["log"]}]
  """
  @spec dependencies(t) :: [dependency]
  def dependencies(component) do
    parts =
      for interface <- component |> imports() |> Enum.map(& &1.interface) |> Enum.uniq(),
          {package, name, version} <- List.wrap(interface && parts(interface)),
          do: {{package, version}, name}

    for {package, version} = key <- parts |> Enum.map(&elem(&1, 0)) |> Enum.uniq() do
      %{package: package, version: version, interfaces: for({^key, name} <- parts, do: name)}
    end
  end

  @doc false
  # The package, the name and the version of an interface; `nil` for one that is of no package.
  @spec parts(String.t()) :: {String.t(), String.t(), String.t() | nil} | nil
  def parts(interface) do
    {path, version} =
      case String.split(interface, "@", parts: 2) do
        [path, version] -> {path, version}
        [path] -> {path, nil}
      end

    case String.split(path, "/", parts: 2) do
      [package, name] -> {package, name, version}
      [_name] -> nil
    end
  end

  @doc false
  # The types of resources that it imports: their interfaces, their names there, and what resources of them say that they are.
  @spec resources(t) :: [{String.t() | nil, String.t(), String.t()}]
  def resources(%__MODULE__{ref: ref}), do: Native.component_resources(ref)

  @doc false
  # What a file or a folder of WIT says of one of its worlds: items without types.
  @spec declared_in(Path.t(), String.t() | nil) ::
          {:ok, %{imports: [map], exports: [map]}} | {:error, String.t()}
  def declared_in(files, world), do: Native.wit_parse(files, world)

  @doc "The names and sizes in bytes of the component's own custom sections, in order."
  @spec custom_sections(t) :: [%{name: String.t(), size: non_neg_integer}]
  def custom_sections(%__MODULE__{ref: ref}), do: Native.module_facts(ref).custom_sections

  @doc "Bytes of machine code and metadata."
  @spec code_size(t) :: non_neg_integer
  def code_size(%__MODULE__{ref: ref}), do: Native.module_facts(ref).code_size

  @doc "The digest of the bytes that were loaded: see `Cybernetic.WASM.Module.digest/2`."
  @spec digest(t, :blake3 | :sha256) :: String.t()
  def digest(%__MODULE__{digest: digest}, :blake3), do: digest

  def digest(%__MODULE__{sha256: nil, ref: ref}, :sha256),
    do: ref |> Native.module_source() |> Digest.of(:sha256) |> Digest.to_text()

  def digest(%__MODULE__{sha256: digest}, :sha256), do: digest

  defimpl Inspect do
    def inspect(component, _opts) do
      "#Cybernetic.WASM.Component<#{component.name || "bytes"}, #{component.size} bytes, #{String.slice(component.digest, 0, 15)}>"
    end
  end
end
