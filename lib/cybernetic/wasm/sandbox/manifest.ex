defmodule Cybernetic.WASM.Sandbox.Manifest do
  @moduledoc """
  What a module may use, written beside it: a file in [TOML](https://toml.io), usually `module.toml`.

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

  `Cybernetic.WASM.Runtime.load_module/2` takes a manifest with a module: its calls are then held to what the manifest grants,
  and their options only narrow it: a sandbox beside it must grant whatever is to remain. What it comes to is
  `Manifest.to_sandbox(module.manifest)`, for `Cybernetic.WASM.Sandbox.explain/1` and `check/2`. A manifest is a grant: read it before you load it, or insist on what it may say by
  `:offer` and `:require_limits`.

  ## Keys

  Every key may be left out, and any other is an error. What is not granted is refused, but for `host_functions`, which are
  always the caller's own to give.

  | `[module]` | |
  |---|---|
  | `name`, `version` | texts; the version is of the form `"1.0.0"` |
  | `entry` | the function that is meant to be called, `"_start"` of a program. The module has to export it; nothing calls it by itself |
  | `digest` | `"blake3:…"` with 64 lowercase hexadecimal digits: no other module is taken |

  | `[capabilities]` | |
  |---|---|
  | `memory` | `false`: the module may not have a memory |
  | `threading` | `false`; threads are never offered |
  | `wasi` | `true`: WASI preview 1 is there, also if nothing of it is granted. Any grant below but `host_functions` implies it. |
  | `filesystem` | `false`, or a list of `{ host = "data", guest = "/data", mode = "ro" }`; `mode` is `"ro"` (default) or `"rw"` |
  | `scratch` | `false`, or the guest path of a private directory |
  | `quota`, `max_open` | bytes written, and files open at once |
  | `network` | `false`, a list of rules such as `"api.example.com:443"`, or `{ allow = […], dns = true }` |
  | `env` | `false`, a list of names such as `"LANG"`, `{ name = "MODE", value = "fast" }` and `{ name = "API_KEY", secret = true }`, a table of values, or `"any"`: the values that a call gives |
  | `clocks` | `"none"`, `"real"`, `{ fixed = 0 }` or `{ start = 0, step = 1_000_000 }`, in nanoseconds |
  | `random` | `"none"`, `"system"` or `{ seed = 42 }` |
  | `stdio` | `"none"`, `"captured"`, `"streamed"`, `"inherited"`, or `{ stdin = …, stdout = …, stderr = … }` of these |
  | `host_functions` | `false`, or a list such as `"env.log"` and `"env.*"` |

  | `[limits]` | |
  |---|---|
  | `memory`, `stack`, `output` | bytes |
  | `fuel`, `host_calls`, `table_elements`, `instances` | |
  | `time_ms` | milliseconds |

  What the grants and limits mean is said in `Cybernetic.WASM.Sandbox` and `Cybernetic.WASM.Limits`.

  ## Options

    * `:require_limits` - `true`: `memory`, `fuel` and `time_ms` must be stated. A keyword list of ranges, such as
      `[max_memory: 524_288..4_194_304]`: so must each limit that has one, and within it. Default: `false`.
    * `:offer` - the capabilities that this host offers, of `:wasi`, `:filesystem`, `:env`, `:network`, `:clocks`, `:random`,
      `:stdio` and `:host_functions`; a manifest that asks for another is refused with a `Cybernetic.WASM.DeniedError`.
      Any but `:host_functions` offers `:wasi` as well. Default: all.
    * `:base` - the directory that host paths are relative to, and that they may not leave, also not by a symbolic link that is
      there when the manifest is read. Default: that of the file; of a text, the current directory.
    * `:allow_absolute` - `true`: host paths may be absolute, or lead out of it. Default: `false`.
    * `:file` - what errors call a text that was not read from a file
  """

  alias Cybernetic.WASM.{
    DeniedError,
    Error,
    Limits,
    ManifestError,
    Module,
    Native,
    Options,
    Sandbox
  }

  alias Cybernetic.WASM.Sandbox.Capabilities
  alias Cybernetic.WASM.Sandbox.Manifest.Reader

  @offered [:wasi | Capabilities.names()]
  @required [:max_memory, :fuel, :timeout]

  # As much as the parser takes, and one byte, so that it says when there is more.
  @most_bytes 65_536 + 1

  # Values of the environment may be secrets.
  @derive {Inspect, only: [:name, :version, :entry, :digest, :file, :limits]}
  defstruct [
    :name,
    :version,
    :entry,
    :digest,
    :memory,
    :file,
    capabilities: [],
    limits: [],
    places: %{}
  ]

  @typedoc """
  A manifest. `capabilities` and `limits` are the options of `Cybernetic.WASM.Sandbox.new/1` that it comes to; the limits are
  those that were stated. `memory` is `nil` where it says nothing of it.
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
    opts = Options.check!(opts, options(), "manifest option")

    with {:ok, tree} <- tree(text, opts[:file]),
         {:ok, fields} <- Reader.read(tree, opts),
         manifest = struct!(__MODULE__, fields),
         :ok <- require_limits(manifest, Map.get(opts, :require_limits, false)),
         do: offer(manifest, Map.get(opts, :offer, @offered))
  end

  defp options do
    [
      require_limits:
        {"true, false, or a keyword list of ranges such as [max_memory: 524_288..4_194_304]",
         &(is_boolean(&1) or (Keyword.keyword?(&1) and Enum.all?(&1, fn pair -> range?(pair) end)))},
      offer: {"a list of #{Options.list(@offered)}", &offer?/1},
      base: :path,
      allow_absolute: :boolean,
      file: :path
    ]
  end

  defp offer?(offer),
    do: is_list(offer) and not List.improper?(offer) and offer -- @offered == []

  defp range?({key, %Range{first: first, last: last, step: 1}}),
    do: first <= last and Limits.valid?(key, first) and Limits.valid?(key, last)

  defp range?(_pair), do: false

  @doc "The sandbox that it grants. The configuration has the limits that it does not state."
  @spec to_sandbox(t) :: Sandbox.t()
  def to_sandbox(%__MODULE__{} = manifest),
    do: Sandbox.new(manifest.capabilities ++ manifest.limits)

  @doc "Whether `module` is what the manifest says of it: its digest, its entry, and whether it may have a memory."
  @spec check(t, Module.t()) :: :ok | {:error, ManifestError.t()}
  def check(%__MODULE__{} = manifest, %Module{} = module) do
    with :ok <- digest(manifest, module),
         :ok <- memory(manifest, module),
         do: entry(manifest, module)
  end

  # Files

  defp read(path) do
    # `:file.open/2` raises for a path with a zero byte.
    with :ok <- if(String.contains?(path, <<0>>), do: {:error, :enoent}, else: :ok),
         {:ok, %File.Stat{type: :regular}} <- File.stat(path),
         {:ok, file} <- :file.open(path, [:read, :binary, :raw]),
         result = :file.read(file, @most_bytes),
         :ok = :file.close(file),
         {:ok, text} <- result do
      {:ok, text}
    else
      :eof -> {:ok, ""}
      {:ok, %File.Stat{type: type}} -> unreadable(path, "not a file but a #{type}")
      {:error, reason} -> unreadable(path, to_string(:file.format_error(reason)))
    end
  end

  defp unreadable(path, why),
    do: {:error, %ManifestError{reason: :unreadable, file: path, got: why}}

  defp tree(text, file) do
    # More is copied nowhere: one byte too many is enough to be refused.
    text = binary_part(text, 0, min(byte_size(text), @most_bytes))

    with {:invalid, line, column, message} <- Native.manifest_parse(text) do
      {:error,
       %ManifestError{reason: :syntax, file: file, line: line, column: column, got: message}}
    end
  end

  # What a host insists on

  defp require_limits(_manifest, false), do: :ok
  defp require_limits(manifest, true), do: require_limits(manifest, [])

  defp require_limits(manifest, ranges) do
    ranges = for {key, range} <- ranges, do: {Limits.canonical(key), range}

    (@required ++ Keyword.keys(ranges))
    |> Enum.uniq()
    |> Enum.find_value(:ok, &refused_limit(manifest, &1, manifest.limits[&1], ranges[&1]))
  end

  defp refused_limit(manifest, key, nil, range) do
    {:error,
     %ManifestError{
       reason: :missing,
       file: manifest.file,
       line: line(manifest, :limits),
       key: "limits." <> Reader.limit_key(key),
       expected: within(key, range)
     }}
  end

  defp refused_limit(_manifest, _key, _value, nil), do: nil

  defp refused_limit(manifest, key, value, range) do
    unless value in range,
      do: {:error, mistake(manifest, key, :value, within(key, range), to_string(value))}
  end

  defp within(key, nil), do: Limits.expected(key)
  defp within(_key, range), do: "an integer from #{range.first} to #{range.last}"

  defp offer(manifest, offered) do
    offered = if offered -- [:host_functions] == [], do: offered, else: [:wasi | offered]

    case Enum.find(asked(manifest), &(&1 not in offered)) do
      nil -> {:ok, withhold(manifest, offered)}
      capability -> {:error, denied(manifest, capability)}
    end
  end

  defp asked(manifest) do
    for {key, value} <- manifest.capabilities, value not in [false, :none, []], do: key
  end

  # A manifest that says nothing of host functions leaves them to the caller.
  defp withhold(manifest, offered) do
    if :host_functions in offered,
      do: manifest,
      else: put_in(manifest.capabilities[:host_functions], false)
  end

  defp denied(manifest, capability) do
    %DeniedError{
      capability: capability,
      denied: place(manifest, capability),
      grant: "this host does not offer it (option offer:, #{inspect(capability)})"
    }
  end

  # The module

  defp digest(%{digest: pinned} = manifest, %{digest: digest}) when pinned not in [nil, digest],
    do: {:error, mistake(manifest, :digest, :module, "a module with this digest", digest)}

  defp digest(_manifest, _module), do: :ok

  defp memory(%{memory: false} = manifest, module) do
    if Module.memory?(module),
      do:
        {:error, mistake(manifest, :memory, :module, "a module without a memory", "one with it")},
      else: :ok
  end

  defp memory(_manifest, _module), do: :ok

  defp entry(%{entry: nil}, _module), do: :ok

  defp entry(%{entry: entry} = manifest, module) do
    if Enum.any?(Module.exports(module), &match?(%{name: ^entry, type: {:function, _, _}}, &1)),
      do: :ok,
      else:
        {:error,
         mistake(
           manifest,
           :entry,
           :module,
           "a function that the module exports",
           inspect(entry, printable_limit: 80)
         )}
  end

  # Places

  defp mistake(manifest, field, reason, expected, got) do
    {key, line} = Map.fetch!(manifest.places, field)

    %ManifestError{
      reason: reason,
      file: manifest.file,
      line: line,
      key: key,
      expected: expected,
      got: got
    }
  end

  defp line(manifest, field) do
    with {_key, line} <- manifest.places[field], do: line
  end

  # A grant may stand under another key than its capability's own name: the first that is there.
  defp place(manifest, capability) do
    keys = for {key, {^capability, _module}} <- Capabilities.keys(), do: key
    {key, line} = Enum.find_value(keys ++ [capability], &manifest.places[&1])
    "#{manifest.file || "manifest"}:#{line}: #{key}"
  end
end
