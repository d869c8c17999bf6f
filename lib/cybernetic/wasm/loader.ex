defmodule Cybernetic.WASM.Loader do
  @moduledoc """
  From a source to a module: what is read, and what is checked before it is compiled.

      iex> alias Cybernetic.WASM.Loader
      iex> {:ok, fetched} = Loader.fetch("priv/wasm/compute.wasm")
      iex> digest = "sha256:" <> Base.encode16(:crypto.hash(:sha256, fetched.bytes), case: :lower)
      iex> {:ok, verified} = Loader.verify(fetched, digest: digest)
      iex> {:ok, module} = Loader.validate(verified, expect: [exports: [process: "(i32) -> i32"]])
      iex> module.name
      "compute.wasm"
      iex> {:error, error} = Loader.verify(fetched, digest: "blake3:" <> String.duplicate("0", 64))
      iex> error.reason
      :digest_mismatch

  `Cybernetic.WASM.Runtime.load_module/2` does all of it. The functions here are its parts, for those who want to look at a module
  first. `Cybernetic.WASM.Loader.Source` lists the sources.

  ## The order of the checks

  Each is made before the next, and what one refuses the next never sees.

    1. **Manifest.** The one that the load names, or that lies beside the file, is read and parsed.
    2. **Unpinned.** A source that others may change is not asked unless there is a pin for it.
    3. **Size.** The source reads at most `:max_module_size`. It is read once: the bytes that are checked from here on are the
       bytes that are compiled.
    4. **Pins.** The digests that the bytes must have.
    5. **Trust.** The signatures that they must have.
    6. **Compiling**, which validates the module, in a process outside the VM.
    7. **Manifest again:** what it says of the module's memory and entry.
    8. **Expectations:** the exports that the host needs.

  ## Pins

  A pin is the digest of the module's bytes, as `"sha256:…"` or `"blake3:…"` with 64 lowercase hexadecimal digits. `sha256sum` and
  `b3sum` print them, and so does `mix wasm.inspect`. All pins that there are for a load have to hold. They are checked in this
  order:

    1. the operator's, `config :cybernetic_wasm, pins: %{"acme/thumb" => "sha256:…"}`: under the name of the module, the name with
       its version, as in `"acme/thumb@1.2.0"`, or where the source is: its path, its URL, its OCI reference. The name is what
       the load, the store or the manifest says.
    2. that of the load, `digest: "sha256:…"`
    3. the author's, `digest` in the manifest

  Where a source is may be spelt in many ways, and a pin holds for all of them: for `"./plugins/../plugins/x.wasm"` as for
  `"plugins/x.wasm"` (both from the folder in which the VM was started; links are not followed), for `HTTPS://EXAMPLE.com:443/x.wasm`
  as for `https://example.com/x.wasm`, for `{:priv, :my_app, "wasm/x.wasm"}` by `"my_app/priv/wasm/x.wasm"` and by its path. A
  pin for a URL without a query holds for it with every query, and one with a query for that alone; a pin for a tag holds also where a
  digest stands behind it. What no load has gone by pins nothing: `Cybernetic.WASM.Runtime.unused_pins/0` lists those pins, and
  when the modules of the configuration have been loaded they are logged.

  A pin that does not hold is a `Cybernetic.WASM.LoadError` with the reason `:digest_mismatch`, which says whose pin it was, and both
  digests. A source that others may change, such as a URL, is refused without a pin; `allow_unpinned: true` takes it. A manifest
  that comes from the source itself is no pin for that.

  What came over a network, and has its pins, is put into the store (`Cybernetic.WASM.Store`) and found there by the pin the next
  time, also while nothing is to be fetched. Only a load that needs the source's own signature or manifest asks the source again.

  ## Trust

  A detached signature says who vouches for a module. It lies beside the module, in `resize.wasm.sig` for `resize.wasm`, or is
  given as option `:signature`. `mix wasm.sign` makes it, with a key of `mix wasm.keygen`.

      Runtime.load_module("plugins/resize.wasm", trust: [keys: ["ed25519:…"]])

  Keys of `:trust`, in the configuration or as an option of a load:

    * `:keys` - public keys, `"ed25519:…"`, and files with one such key a line, `{:file, "keys.pub"}`
    * `:threshold` - how many different of these keys have to sign. Default: 1.
    * `:require` - `false`: a module without any signature is taken, too. One with signatures that do not suffice is not. Default:
      `true`.
    * `:manifest` - `:signed`: where the load has a manifest, the signatures have to be for this manifest, too. `:any`: the
      manifest is not the author's, and they need not. Default: `:signed`.

  What is configured holds for every load of the node, and an option adds to it. What is signed is the BLAKE3 digest of the module,
  and that of the manifest's text or that there is none, behind words that no other use of a key has. A module that is loaded
  without a manifest may have been signed with one.

  Reasons of the `Cybernetic.WASM.LoadError`: `:unsigned`, `:bad_signature` for a file that is none, `:untrusted`.

  ## Expectations

  `expect: [exports: [execute: "(i32 i32) -> i32", memory: :memory]]` says what the module has to export: functions by their type,
  anything else by its kind, of `:function`, `:memory`, `:table`, `:global` and `:tag`. More than that it may export. The error has
  the reason `:unexpected`, and names every export that is missing or something else.

  ## Options

  Beside those of `Cybernetic.WASM.Runtime`, which say how a module is compiled:

    * `:max_module_size` - bytes. Default: as configured, 10,000,000.
    * `:manifest` - see `Cybernetic.WASM.Runtime`
    * `:name`, `:version` - what the module is called. The operator's pins under that name hold.
    * `:digest`, `:allow_unpinned` - see "Pins"
    * `:trust`, `:signature` - see "Trust". A signature is a path, or `{:bytes, binary}`.
    * `:expect` - see "Expectations"
    * `:offline` - `true`: nothing is fetched by way of a network. Also as configuration. Default: `false`.
    * `:http` - how what is not at hand is fetched: options of `Cybernetic.WASM.HTTP.Client`, see `Cybernetic.WASM.Loader.Source`
    * `:store` - the store, as `Cybernetic.WASM.Store` takes it. Default: as configured.
    * `:timeout` - milliseconds that fetching may take. Default: 60,000.
  """

  import Cybernetic.WASM.Module, only: [is_loaded: 1]

  alias Cybernetic.WASM.{Error, LoadError, Module, Options, Shown, Store}

  alias Cybernetic.WASM.Loader.{
    Compiler,
    Expect,
    Fetched,
    Fetcher,
    Misread,
    Pins,
    Request,
    Source,
    Sources,
    Trust
  }

  alias Cybernetic.WASM.Runtime.Names
  alias Cybernetic.WASM.Sandbox.Manifest

  # Milliseconds that a load waits for a store to which others write.
  @wait 1_000

  @typedoc "A source: see `Cybernetic.WASM.Loader.Source`."
  @type source :: Source.t()

  @typedoc "An option."
  @type option :: Cybernetic.WASM.Runtime.load_option()

  @doc """
  Reads a module, its manifest and its signature, as far as the options ask for them. Nothing is checked but its size, and that
  there is a pin where one is needed.
  """
  @spec fetch(source, [option]) :: {:ok, Fetched.t()} | {:error, Error.t()}
  def fetch(source, opts \\ []), do: source |> Request.new!(opts) |> traced(&Fetcher.fetch/1)

  @doc """
  Holds a module to its pins and to the trust that is asked for. Nothing is compiled.

  What `fetch/2` gave keeps the manifest and the signature that it was fetched with, and is held to its pins as well.
  """
  @spec verify(source | Fetched.t(), [option]) :: {:ok, Fetched.t()} | {:error, Error.t()}
  def verify(source, opts \\ []), do: source |> Request.new!(opts) |> traced(&verified/1)

  @doc """
  Holds a module to what is expected of it. It is fetched, verified and compiled first, unless it is loaded already, as a
  `Cybernetic.WASM.Module` or `{:name, text}`: then the options are `:expect`, and a `Cybernetic.WASM.Sandbox.Manifest` as `:manifest`.

      iex> {:ok, module} = Cybernetic.WASM.Runtime.load_module({:bytes, "(module)"})
      iex> {:error, error} = Cybernetic.WASM.Loader.validate(module, expect: [exports: [execute: "(i32) -> i32", memory: :memory]])
      iex> Exception.message(error)
      "cannot load the module: not what is expected: execute must be (i32) -> i32, and is not exported; " <>
        "memory must be a memory, and is not exported"
  """
  @spec validate(source | Fetched.t() | Module.given(), [option]) ::
          {:ok, Module.loaded()} | {:error, Error.t()}
  def validate(module, opts \\ [])

  def validate(module, opts) when is_loaded(module) do
    opts = Options.check!(opts, [expect: :any, manifest: {:struct, Manifest}], "option")
    expect = opts |> Map.get(:expect, []) |> Expect.new!()
    with :ok <- fits(module, opts[:manifest], expect), do: {:ok, module}
  end

  def validate({:name, _text} = name, opts) do
    with {:ok, module} <- Names.fetch(name), do: validate(module, opts)
  end

  def validate(source, opts), do: load(source, opts)

  @doc false
  @spec load(source | Fetched.t(), keyword) :: {:ok, Module.loaded()} | {:error, Error.t()}
  def load(source, opts) do
    with {:ok, module, _fetched} <- prepare(source, opts), do: {:ok, module}
  end

  @doc false
  # The module, and what its source said of it.
  @spec prepare(source | Fetched.t(), keyword) ::
          {:ok, Module.loaded(), Fetched.t()} | {:error, Error.t()}
  def prepare(source, opts), do: source |> Request.new!(opts) |> traced(&loaded/1)

  defp loaded(request) do
    with {:ok, fetched} <- verified(request),
         {:ok, module} <- Compiler.compile(fetched, request.compiling),
         :ok <- fits(module, fetched.manifest, request.expect),
         do: {:ok, Compiler.hold(module, fetched.manifest), fetched}
  end

  defp verified(request) do
    with {:ok, fetched} <- Fetcher.fetch(request),
         pins = pins(request, fetched),
         {:ok, fetched} <- Pins.check(fetched, pins),
         {:ok, fetched} <- trusted(fetched, request),
         do: {:ok, keep(%{fetched | pins: pins}, request)}
  end

  defp trusted(fetched, request) do
    with {:error, %LoadError{reason: :unsigned} = error} <- Trust.check(fetched, request.trusts),
         do: {:error, %{error | detail: looked_for(fetched.origin)}}
  end

  defp looked_for(source) do
    case Sources.signature_at(source) do
      nil -> "its source brings none along"
      place -> "there is no #{Shown.path(place)}"
    end
  end

  # What came over a network, and is what was asked for, is not fetched again. A store that does not take it is no reason to
  # refuse the load, however it says so: it may be somebody else's code.
  defp keep(%{keep: false} = fetched, _request), do: fetched

  defp keep(fetched, request) do
    put(fetched.bytes, if(request.store, do: [store: request.store], else: []))
    %{fetched | keep: false}
  end

  defp put(bytes, store) do
    _stored_or_not = Store.put(bytes, [timeout: @wait] ++ store)
    :ok
  rescue
    _error -> :ok
  catch
    _kind, _reason -> :ok
  end

  defp pins(request, fetched) do
    names = fetched.names ++ Request.named(fetched.name, fetched.version)
    Enum.uniq(Request.pins(request, names, fetched.manifest) ++ fetched.pins)
  end

  defp fits(module, manifest, expect) do
    with :ok <- if(manifest, do: Manifest.check(manifest, module), else: :ok),
         do: Expect.check(expect, module)
  end

  # What was asked for is known here, wherever it is refused.
  defp traced(request, function) do
    with {:error, %LoadError{} = error} <- function.(request),
         do: {:error, from(error, request.source)}
  end

  defp from(error, %Fetched{source: source}), do: %{error | source: source}

  defp from(error, {Sources.File, path}),
    do: Misread.hint(%{error | source: Sources.File.describe(path)})

  defp from(error, source), do: %{error | source: Sources.describe(source)}
end
