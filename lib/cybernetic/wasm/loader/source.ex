defmodule Cybernetic.WASM.Loader.Source do
  @moduledoc """
  Where a module comes from.

  | source | what it is |
  |---|---|
  | `"priv/wasm/resize.wasm"` | a path |
  | `{:bytes, binary}` | the module itself |
  | `{:priv, :my_app, "wasm/resize.wasm"}` | a file in the `priv` folder of an application. The path stays in that folder. |
  | `{:store, "acme/thumb@1.2"}` | what a store has, by a reference: see `Cybernetic.WASM.Store` |
  | `{:url, "https://example.com/resize.wasm"}` | what a server has there. It may change, so that a load wants a pin. |
  | `{:oci, "example.com/acme/resize:1.2"}` | an artifact in an OCI registry. A tag may be moved, so that a load wants a pin; `…@sha256:…` is one. |
  | `{MyModule, term}` | whatever `MyModule`, which implements this behaviour, makes of the term |

  ## From a server

  `{:url, …}` and `{:oci, …}` are fetched by `Cybernetic.WASM.HTTP.Client`, with the options that a load has as `:http`: TLS is
  verified, no address is asked but public ones, and redirections are judged like the first hop. An internal server needs a
  rule:

      Runtime.load_module({:url, "https://wasm.internal.example/resize.wasm"},
        digest: "sha256:…",
        http: [network: ["wasm.internal.example:443", "10.0.0.0/8:443"]]
      )

  One on your own machine, while you try things out, has neither a certificate nor a public address. Both have to be said:

      # $ python3 -m http.server 8000 --directory priv/wasm
      Runtime.load_module({:url, "http://localhost:8000/compute.wasm"},
        allow_unpinned: true,
        http: [allow_http: true, network: ["localhost:8000", "127.0.0.1:8000"]]
      )

  Both take options of their own. Of `{:url, url, options}`:

    * `:headers` - names and values, which go to the origin of the URL, and nowhere that it sends on to
    * `:http` - over the load's

  The signature of `x.wasm` is `x.wasm.sig`, its manifest `module.toml`, in the same place; on a disk it may be
  `Component.toml` as well.
  A server that does not say where its answer ends (it sends neither length nor chunks) is only taken at its word for a module that
  is pinned: whoever can end the connection cuts the answer, also where it is encrypted.

  Of `{:oci, reference, options}`, where the reference is `host[:port]/repository[:tag][@sha256:…]`:

    * `:username`, `:password` - for the registry itself, and for a token service of the same origin
    * `:realm` - the URL of another token service that may be given them, since a registry names what it likes
    * `:plain` - `true` for a registry without TLS; default `false`
    * `:http` - over the load's

  An artifact is taken as wasm-pkg-tools, Spin and wasmCloud push it: a config of the kind `application/vnd.wasm.config.v0+json`,
  and one layer of the kind `application/wasm`. The manifest has to have the reference's digest, the layer that of the manifest.

  ## A source of one's own

      defmodule MyApp.Uploads do
        @behaviour Cybernetic.WASM.Loader.Source

        @impl true
        def fetch(id, opts) do
          case MyApp.Repo.upload(id) do
            nil -> {:error, %Cybernetic.WASM.LoadError{reason: :not_found}}
            upload when upload.size > opts.max_size -> {:error, Cybernetic.WASM.Loader.Source.too_large(upload.size, opts)}
            upload -> {:ok, upload.bytes, %{name: upload.name}}
          end
        end

        @impl true
        def describe(id), do: "upload \#{id}"
      end

      Cybernetic.WASM.Runtime.load_module({MyApp.Uploads, 42})

  The bytes that `c:fetch/2` gives are what is hashed, checked and compiled: nothing is fetched twice. A source that raises,
  exits or gives something else is a `Cybernetic.WASM.LoadError` with the reason `:source_failed`.
  """

  alias Cybernetic.WASM.{Error, LoadError}

  @typedoc "A source, as the functions that load are given it."
  @type t ::
          String.t()
          | {:bytes, binary}
          | {:priv, atom, String.t()}
          | {:store, String.t()}
          | {:url, String.t()}
          | {:url, String.t(), keyword}
          | {:oci, String.t()}
          | {:oci, String.t(), keyword}
          | {module, term}

  @typedoc """
  What a load asks of a source.

    * `max_size` - bytes; more are refused, by the source itself, while it reads
    * `deadline` - of `System.monotonic_time(:millisecond)`, or `:infinity`
    * `digest` - what the bytes must have, as `"sha256:…"` or `"blake3:…"`, or `nil`. The load checks it.
    * `signature`, `manifest` - whether the load wants what lies beside the module: the source gives it as a fact
    * `http` - the option of the load
    * `store` - the store, where the load names one
  """
  @type opts :: %{
          required(:max_size) => pos_integer,
          required(:deadline) => integer | :infinity,
          required(:digest) => String.t() | nil,
          required(:signature) => boolean,
          required(:manifest) => boolean,
          required(:http) => keyword,
          required(:store) => term
        }

  @typedoc """
  What a source knows of its module; all may be left out.

    * `name`, `version` - texts, such as a store has them
    * `signature` - the text of the detached signature beside the module: see `Cybernetic.WASM.Loader`
    * `manifest` - the text of the manifest beside it
    * `digests` - of the library's own sources only: the digests that it has worked out itself
  """
  @type facts :: %{
          optional(:name) => String.t(),
          optional(:version) => String.t(),
          optional(:signature) => binary,
          optional(:manifest) => binary,
          optional(:digests) => %{atom => String.t()}
        }

  @doc "The module, and what is known of it. It reads no more than `max_size` bytes."
  @callback fetch(argument :: term, opts) :: {:ok, binary, facts} | {:error, Error.t()}

  @doc "What errors and logs call it, without secrets. An operator's pin stands under it, too."
  @callback describe(argument :: term) :: String.t() | :bytes

  @doc "The name of the module where nothing else gives one. Default: `nil`."
  @callback name(argument :: term) :: String.t() | nil

  @doc """
  Whether others choose what it names, or may change that: then it needs a pin. Default: `false`.
  """
  @callback mutable?(argument :: term) :: boolean

  @doc """
  Whether it comes by way of a network: such a source is not asked where the load is offline, nor where the store has what is
  pinned. Default: `false`.
  """
  @callback remote?(argument :: term) :: boolean

  @doc """
  What an operator's pin for it may stand under, beside its path and what errors and logs call it. URLs, artifacts and paths are
  compared however they are spelt. Default: none.
  """
  @callback pinned_as(argument :: term) :: [String.t()]

  @doc "Its path, where it is a file: manifest and signature lie beside it. Default: `nil`."
  @callback path(argument :: term) :: Path.t() | nil

  @optional_callbacks name: 1, mutable?: 1, remote?: 1, pinned_as: 1, path: 1

  @doc "The error of a source that has more bytes than are wanted."
  @spec too_large(non_neg_integer, opts) :: LoadError.t()
  def too_large(size, %{max_size: most}),
    do: %LoadError{reason: :too_large, size: size, allowed: most}
end
