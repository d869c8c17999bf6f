defmodule Cybernetic.WASM.Sandbox.Manifest do
  @moduledoc """
  The limits and grants of a module or a component, in a [TOML](https://toml.io) file beside it, usually `module.toml` or
  `Component.toml`.

      iex> alias Cybernetic.WASM.Sandbox.Manifest
      iex> {:ok, manifest} = Manifest.parse(\"""
      ...> [module]
      ...> name = "compute"
      ...> [capabilities]
      ...> stdio = "captured"
      ...> [limits]
      ...> fuel = 1_000_000
      ...> \""")
      iex> Manifest.to_sandbox(manifest).limits.fuel
      1000000
      iex> {:error, error} = Manifest.parse("[capabilities]\\nmemory = 'yes'", file: "module.toml")
      iex> Exception.message(error)
      ~S|module.toml:2: capabilities.memory: expected true or false, got "yes"|

  `Cybernetic.WASM.Runtime.load_module/2` takes a manifest with a module. The module's calls are then held to the manifest, and
  their options only narrow it. A sandbox of such a call must itself grant whatever the call needs. For
  `Cybernetic.WASM.Sandbox.explain/1` and `check/2`, `Manifest.to_sandbox(module.manifest)` gives the manifest's sandbox.

  A manifest is a grant. Read it before you load it, or bound it by `:offer` and `:require_limits`.

  ## Keys

  Every key may be left out, and an unknown key is an error. A capability that is left out is refused, but for
  `host_functions`: without that key, the caller may give any.

  | `[module]`, or `[component]` in its place | |
  |---|---|
  | `name`, `version` | texts; the version is of the form `"1.0.0"` |
  | `entry` | the function that is meant to be called, `"_start"` of a program. The module has to export it. It is not called by itself. Of a component it may be an interface's: `"acme:shop/orders#place"`. |
  | `digest` | `"blake3:…"` or `"sha256:…"` with 64 lowercase hexadecimal digits. Any other module is refused. |

  | `[capabilities]` | |
  |---|---|
  | `memory` | `false`: the module may not have a memory |
  | `threading` | `false`; there are no threads |
  | `wasi` | `true`: WASI preview 1 links, also if nothing of it is granted. Any grant below but `network` and `host_functions` implies it, and then `false` is a mistake. |
  | `filesystem` | `false`, or a list of `{ host = "data", guest = "/data", mode = "ro" }`; `mode` is `"ro"` (default) or `"rw"` |
  | `scratch` | `false`, or the guest path of a private directory |
  | `null` | `false`, or the guest path of a null device, `"/dev/null"` |
  | `times` | of files: `"real"` or `"fixed"` |
  | `quota`, `max_open` | bytes written, and files open at once |
  | `env` | `false`, a list of names such as `"LANG"`, `{ name = "MODE", value = "fast" }` and `{ name = "API_KEY", secret = true }`, a table of values, or `"any"`: the values that a call gives |
  | `network` | `false`, a list of rules such as `"api.example.com:443"`, or `{ allow = […], dns = true }` |
  | `clocks` | `"none"`, `"real"`, `{ fixed = 0 }` or `{ start = 0, step = 1_000_000 }`, in nanoseconds |
  | `random` | `"none"`, `"system"` or `{ seed = 42 }` |
  | `stdio` | `"none"`, `"captured"`, `"streamed"`, `"inherited"`, or `{ stdin = …, stdout = …, stderr = … }` of these |
  | `host_functions` | `false`, or a list such as `"env.log"` and `"env.*"` |

  | `[limits]` | |
  |---|---|
  | `memory`, `stack`, `output`, `transfer` | bytes |
  | `fuel`, `host_calls`, `table_elements`, `instances`, `resources` | |
  | `time_ms` | milliseconds |

  `Cybernetic.WASM.Sandbox` explains the grants, `Cybernetic.WASM.Limits` the limits.

  ## Options

    * `:require_limits` - `true`: `memory`, `fuel` and `time_ms` must be stated. A keyword list of ranges, such as
      `[max_memory: 524_288..4_194_304]`: the limits in it must be stated, too, and be within their range. Default: `false`.
    * `:offer` - the capabilities that this host offers, of `:wasi`, `:filesystem`, `:env`, `:network`, `:clocks`, `:random`,
      `:stdio` and `:host_functions`; a manifest that asks for another is refused with a `Cybernetic.WASM.DeniedError`.
      Any but `:host_functions` offers `:wasi` as well. Default: all.
    * `:base` - the directory that host paths are relative to. They may not leave it, not even by a symbolic link that is there
      when the manifest is read. Default: the directory of the file; for a text, the current directory.
    * `:allow_absolute` - `true`: host paths may be absolute, or lead out of `:base`. Default: `false`.
    * `:file` - the name that errors give to a text that was not read from a file
  """

  alias Cybernetic.WASM.Runtime.Names

  alias Cybernetic.WASM.{
    CallError,
    DeniedError,
    Digest,
    Error,
    Limits,
    ManifestError,
    Module,
    Native,
    Options,
    RegularFile,
    Sandbox
  }

  alias Cybernetic.WASM.Sandbox.Manifest.{Claims, Demands, Reader}

  @options [base: :path, allow_absolute: :boolean, file: :path]
  # What the parser takes.
  @most_bytes 65_536

  # Values of the environment may be secrets.
  @derive {Inspect, only: [:name, :version, :entry, :digest, :file, :limits]}
  defstruct [
    :name,
    :version,
    :entry,
    :digest,
    :memory,
    :file,
    :text_digest,
    capabilities: [],
    limits: [],
    places: %{}
  ]

  @typedoc """
  A manifest. `capabilities` and `limits` are options of `Cybernetic.WASM.Sandbox.new/1` that say the same; `limits` has those
  that are stated. `memory` is `nil` where that key is left out.
  """
  @type t :: %__MODULE__{
          name: String.t() | nil,
          version: String.t() | nil,
          entry: String.t() | nil,
          digest: String.t() | nil,
          memory: boolean | nil,
          file: String.t() | nil,
          capabilities: keyword,
          limits: keyword
        }

  @doc "Reads a manifest from a file."
  @spec load(String.t(), keyword) :: {:ok, t} | {:error, ManifestError.t() | DeniedError.t()}
  def load(path, opts \\ []) when is_binary(path) do
    with {:ok, text} <- read(path),
         do: parse(text, Keyword.merge([base: Path.dirname(path)], opts) ++ [file: path])
  end

  @doc "As `load/2`, but raises the error."
  @spec load!(String.t(), keyword) :: t
  def load!(path, opts \\ []), do: path |> load(opts) |> Error.unwrap!()

  @doc "Reads a manifest's text."
  @spec parse(binary, keyword) :: {:ok, t} | {:error, ManifestError.t() | DeniedError.t()}
  def parse(text, opts \\ []) when is_binary(text) do
    opts = Options.check!(opts, Demands.options() ++ @options, "manifest option")

    with {:ok, tree} <- tree(text, opts[:file]),
         {:ok, fields} <- Reader.read(tree, opts) do
      # What signatures of the manifest are for.
      digest = text |> Digest.of(:blake3) |> Digest.to_text()
      __MODULE__ |> struct!(Map.put(fields, :text_digest, digest)) |> Demands.hold(opts)
    end
  end

  @doc "The sandbox that it grants. Limits that it does not state are the configured ones."
  @spec to_sandbox(t) :: Sandbox.t()
  def to_sandbox(%__MODULE__{} = manifest) do
    # This checks the options once more: whoever has a manifest may have changed them.
    sandbox = Sandbox.new(manifest.capabilities ++ manifest.limits)
    %{sandbox | limits: Limits.ascribe(sandbox.limits, :manifest)}
  end

  @doc "Checks `module` against the manifest: its digest, its entry, and whether it may have a memory."
  @spec check(t, Module.given()) :: :ok | {:error, ManifestError.t() | CallError.t()}
  def check(%__MODULE__{} = manifest, module) do
    with {:ok, module} <- Names.fetch(module), do: Claims.check(manifest, module)
  end

  defp read(path) do
    case RegularFile.read(path, @most_bytes) do
      {:ok, text} -> {:ok, text}
      {:error, {:too_large, _size}} -> too_long(path)
      {:error, refusal} -> unreadable(path, RegularFile.words(refusal))
    end
  end

  defp too_long(path) do
    got = "more than #{@most_bytes} bytes"
    {:error, %ManifestError{reason: :syntax, file: path, got: got}}
  end

  defp unreadable(path, why),
    do: {:error, %ManifestError{reason: :unreadable, file: path, got: why}}

  defp tree(text, file) do
    # More is copied nowhere: one byte too many is enough to be refused.
    text = binary_part(text, 0, min(byte_size(text), @most_bytes + 1))

    with {:invalid, line, column, message} <- Native.manifest_parse(text) do
      {:error,
       %ManifestError{reason: :syntax, file: file, line: line, column: column, got: message}}
    end
  end
end
