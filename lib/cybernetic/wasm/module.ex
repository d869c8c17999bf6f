defmodule Cybernetic.WASM.Module do
  @moduledoc """
  A compiled module: an opaque handle, cheap to copy between processes of one node, and what is known of it.

    * `digest` - BLAKE3 of the bytes that were loaded, as `"blake3:…"` with 64 lowercase hexadecimal digits; `digest/2` gives
      SHA-256 as well
    * `name` - the name that it is loaded under, else the file's; or `nil`
    * `version` - of a module that is loaded under a name: see `Cybernetic.WASM.Runtime`, "Names"
    * `size` - how many bytes were loaded
    * `manifest` - the `Cybernetic.WASM.Sandbox.Manifest` that it was loaded with, or `nil`

  The machine code lives as long as somebody holds the handle, a call runs, or the compiled-module cache keeps it. On another
  node, or read back from where it was stored, a handle is good for nothing: whatever it is given to raises an `ArgumentError`
  that says where it is from.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, ~S|(module (func (export "answer") (result i32) i32.const 42))|})
      iex> Cybernetic.WASM.Module.exports(module)
      [%{name: "answer", type: {:function, [], ["i32"]}}]
  """

  alias Cybernetic.WASM.{CallError, Component, Digest, Native, Options, Sealed, Shown}
  alias Cybernetic.WASM.Runtime.Uses
  alias Cybernetic.WASM.Sandbox.Interfaces

  @entry "_start"
  @run "wasi:cli/run#run"
  @most_known 20

  @enforce_keys [:ref, :digest, :size, :engine, :private]
  # Private are the plan of a call without options, where the module can be called without any, the sandbox that the manifest
  # grants, the imported functions, the imports that cannot be linked, of which there may be a hundred thousand, and how many of a
  # component's functions are WASI's.
  # `pooled` is whether a slot of the pooling allocator can hold an instance. `uses` counts the calls of one that has a name.
  defstruct [
    :ref,
    :digest,
    :name,
    :version,
    :uses,
    :size,
    :engine,
    :manifest,
    :private,
    :sha256,
    command: false,
    pooled: true
  ]

  @typedoc "A compiled module. Its other fields are private."
  @type t :: %__MODULE__{
          digest: String.t(),
          name: String.t() | nil,
          version: String.t() | nil,
          size: non_neg_integer,
          manifest: Cybernetic.WASM.Sandbox.Manifest.t() | nil
        }

  @typedoc """
  A module, or a name that one is loaded under: see `Cybernetic.WASM.Runtime`, "Names". `{:name, text}` is a name wherever a
  module is taken, also where a text alone would be a path.
  """
  @type given :: loaded | String.t() | {:name, String.t()}

  @typedoc "A value type in the text format's words, such as `\"i32\"`."
  @type value_type :: String.t()

  @typedoc "The type of an import or export. Sizes of memories are in pages of `page_size` bytes."
  @type extern_type ::
          {:function, params :: [value_type], results :: [value_type]}
          | {:memory,
             %{minimum: integer, maximum: integer | nil, page_size: integer, index: value_type}}
          | {:table, %{element: value_type, minimum: integer, maximum: integer | nil}}
          | {:global, %{type: value_type, mutable: boolean}}
          | {:tag, params :: [value_type]}

  # What is loaded is a module or a component. What is here for the library itself is of either.

  @doc false
  # Whether it is what a load gives.
  defguard is_loaded(given) when is_struct(given, __MODULE__) or is_struct(given, Component)

  @typedoc "A module or a component."
  @type loaded :: t | Component.t()

  @doc false
  @spec new(reference, keyword) :: loaded
  def new(ref, facts) do
    {digest, imports, unlinkable, command, pooled, kind} = handle(ref)

    struct!(
      if(kind == :component, do: Component, else: __MODULE__),
      [
        ref: ref,
        digest: Digest.to_text({:blake3, digest}),
        private: Sealed.seal({nil, nil, imports, unlinkable, of_wasi(kind, imports)}),
        command: command,
        pooled: pooled
      ] ++ facts
    )
  end

  @doc false
  # The module with these two.
  @spec with_private(loaded, struct | nil, struct | nil) :: loaded
  def with_private(module, plan, sandbox) when is_loaded(module) do
    facts = module.private |> Sealed.open() |> put_elem(0, plan) |> put_elem(1, sandbox)
    %{module | private: Sealed.seal(facts)}
  end

  @doc false
  @spec plan(loaded) :: struct | nil
  def plan(%{private: private}), do: elem(Sealed.open(private), 0)

  @doc false
  @spec sandbox(loaded) :: struct | nil
  def sandbox(%{private: private}), do: elem(Sealed.open(private), 1)

  @doc false
  # The imported functions, in order.
  @spec functions(loaded) :: [tuple]
  def functions(%{private: private}), do: elem(Sealed.open(private), 2)

  @doc false
  # The imports that no host function can satisfy.
  @spec unlinkable(loaded) :: [map]
  def unlinkable(%{private: private}), do: elem(Sealed.open(private), 3)

  @doc false
  # How many of the functions that a component imports are WASI's. There may be a hundred, and each call asks.
  @spec of_wasi(loaded) :: :none | :some | :all
  def of_wasi(%{private: private}), do: elem(Sealed.open(private), 4)

  defp of_wasi(:component, [_ | _] = imports) do
    case Enum.split_with(imports, &Interfaces.served?(elem(&1, 0))) do
      {[], _others} -> :none
      {_wasi, []} -> :all
      _both -> :some
    end
  end

  defp of_wasi(_kind, _imports), do: :none

  @doc false
  # The module under a name, whose calls are counted there.
  @spec named(loaded, String.t(), String.t(), Uses.t()) :: loaded
  def named(module, name, version, uses) when is_loaded(module),
    do: %{module | name: name, version: version, uses: uses}

  @doc false
  # Whether calls of one go as those of the other do: the same bytes, compiled alike and held to the same.
  @spec same?(loaded, loaded) :: boolean
  def same?(module, other) when is_loaded(module) and is_loaded(other) do
    {module.digest, module.engine, sandbox(module)} ==
      {other.digest, other.engine, sandbox(other)}
  end

  @doc false
  # Counts a call.
  @spec used(loaded) :: :ok
  def used(%{uses: nil}), do: :ok
  def used(%{uses: uses}), do: Uses.count(uses)

  @doc false
  # Guests that live now and run it, or the same code under another name.
  @spec guests(loaded) :: non_neg_integer
  def guests(%{ref: ref}), do: Native.module_guests(ref)

  @doc false
  # Raises for what stands in the place of a module: the first mistake of many is to call a path.
  @spec needed!(term) :: no_return
  @spec needed!(term, String.t()) :: no_return
  def needed!(given, what \\ "a %Cybernetic.WASM.Module{} is needed") do
    raise ArgumentError,
          "#{what}: load it first with Cybernetic.WASM.Runtime.load_module/2, got: #{Shown.term(given)}"
  end

  @doc false
  # Raises for a module of another VM.
  @spec here!(loaded) :: :ok
  def here!(%{ref: ref}), do: Native.module_check(ref)

  defp handle(ref) do
    with :dirty <- Native.module_handle(ref), do: Native.module_handle_dirty(ref)
  end

  @doc """
  The digest of the bytes that were loaded, as pins and manifests have it.

      iex> module = Cybernetic.WASM.Runtime.load_module!({:bytes, "(module)"})
      iex> Cybernetic.WASM.Module.digest(module, :sha256)
      "sha256:1885772b94ca41b360d9bd07535547f4c8ef16cbe7e49d2c8e9780247e26c4de"
      iex> Cybernetic.WASM.Module.digest(module, :blake3) == module.digest
      true
  """
  @spec digest(loaded, Digest.algorithm()) :: String.t()
  def digest(module, :blake3) when is_loaded(module), do: module.digest

  def digest(%{sha256: nil, ref: ref} = module, :sha256) when is_loaded(module),
    do: ref |> Native.module_source() |> Digest.of(:sha256) |> Digest.to_text()

  def digest(module, :sha256) when is_loaded(module), do: module.sha256

  def digest(module, algorithm) do
    unless algorithm in [:blake3, :sha256],
      do: Options.refuse!("a digest is of :blake3 or :sha256", algorithm)

    needed!(module)
  end

  @doc "What the module imports, in order."
  @spec imports(t) :: [%{module: String.t(), name: String.t(), type: extern_type}]
  @spec imports(Component.t()) :: [Component.item()]
  def imports(module), do: facts(module).imports

  @doc "What the module exports, in order."
  @spec exports(t) :: [%{name: String.t(), type: extern_type}]
  @spec exports(Component.t()) :: [Component.item()]
  def exports(module), do: facts(module).exports

  defp facts(module) when is_loaded(module), do: Native.module_facts(module.ref)
  defp facts(other), do: needed!(other)

  @doc "The exported memories by name."
  @spec memories(t) :: %{String.t() => map}
  def memories(module) do
    for %{name: name, type: {:memory, type}} <- exports(module), into: %{}, do: {name, type}
  end

  @doc false
  # What a program exports to be run.
  @spec entry(loaded) :: {:ok, String.t()} | {:error, CallError.t()}
  def entry(%__MODULE__{command: true}), do: {:ok, @entry}
  def entry(%Component{command: true}), do: {:ok, @run}

  def entry(%Component{}) do
    detail = "it is no command: it exports no wasi:cli/run of WASI 0.2"
    {:error, %CallError{reason: :component, detail: detail}}
  end

  def entry(module) do
    {functions, entry} =
      Enum.flat_map_reduce(exports(module), false, fn
        %{name: name, type: {:function, _, _}}, entry -> {[name], entry or name == @entry}
        _other, entry -> {[], entry}
      end)

    if entry,
      do: {:error, %CallError{reason: :no_command, export: @entry}},
      else: {:error, %CallError{reason: :no_such_export, export: @entry, known: known(functions)}}
  end

  # As many as Rust names, and one more that says that there are more.
  defp known(functions), do: functions |> Enum.take(@most_known + 1) |> Enum.map(&Shown.cut/1)

  @doc false
  # Whether a guest of it has a memory: imported, or its own, which need not be exported.
  @spec memory?(loaded) :: boolean
  def memory?(%{ref: ref}) do
    facts = Native.module_facts(ref)
    facts.own_memories > 0 or Enum.any?(facts.imports, &match?(%{type: {:memory, _}}, &1))
  end

  @doc "The names and sizes in bytes of the custom sections, in order."
  @spec custom_sections(loaded) :: [%{name: String.t(), size: non_neg_integer}]
  def custom_sections(module), do: facts(module).custom_sections

  @doc "Bytes of machine code and metadata."
  @spec code_size(loaded) :: non_neg_integer
  def code_size(module), do: facts(module).code_size

  defimpl Inspect do
    def inspect(module, _opts) do
      version = if module.version, do: "@#{module.version}", else: ""

      "#Cybernetic.WASM.Module<#{module.name || "bytes"}#{version}, #{module.size} bytes, #{String.slice(module.digest, 0, 15)}>"
    end
  end
end
