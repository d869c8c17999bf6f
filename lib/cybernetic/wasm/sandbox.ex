defmodule Cybernetic.WASM.Sandbox do
  @moduledoc """
  The limits and grants of a guest. Nothing is granted by default. Limits are always finite.

  A call takes a sandbox as `sandbox:`. Options of the same call then only narrow it. Without a
  sandbox they replace the configured defaults.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> sandbox = Cybernetic.WASM.Sandbox.new(fuel: 1_000_000, timeout: 1_000)
      iex> Cybernetic.WASM.Executor.call(module, "process", [42], sandbox: sandbox)
      {:ok, 84}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "spin", [], sandbox: sandbox, fuel: 10_000_000)
      iex> {error.limit, error.allowed}
      {:fuel, 1_000_000}

  ## Options

    * every limit of `Cybernetic.WASM.Limits`, with the configured default, which it replaces
    * `:deterministic` - `true`: the same input gives the same bits on every machine. NaNs are
      canonical, relaxed SIMD is deterministic. A deterministic sandbox has no real clock, no system
      randomness and no real times of files: asking for them as well is an `ArgumentError`, and where
      the configuration says `deterministic: true`, they are not granted. Default: the
      configuration's, `false`.
    * `:wasi` - `true`: a module that imports WASI preview 1 (`wasi_snapshot_preview1`) or 0
      (`wasi_unstable`) links. Its functions that need another grant return an errno without it.
      Default: `true` if any of `:filesystem`, `:env`, `:clocks`, `:random` and `:stdio` grants
      something; `false` beside such a grant is an `ArgumentError`. It is for modules: a component is
      always linked with WASI 0.2, and refused what is not granted when it asks for it.
    * `:threading` - only `false`

  and the capabilities. All but the last are `false` by default:

  | option | grants | for example |
  |---|---|---|
  | `:filesystem` | directories (`Cybernetic.WASM.Sandbox.Capabilities.Filesystem`) | `[{"/srv/data", "/data", :ro}]` |
  | `:env` | environment variables (`Cybernetic.WASM.Sandbox.Capabilities.Env`) | `["LANG", {"MODE", "batch"}]` |
  | `:network` | peers (`Cybernetic.WASM.Sandbox.Capabilities.Network`) | `["api.example.com:443"]` |
  | `:clocks` | the time, and sleeping (`Cybernetic.WASM.Sandbox.Capabilities.Clocks`) | `:real` |
  | `:random` | random bytes (`Cybernetic.WASM.Sandbox.Capabilities.Random`) | `{:seeded, 7}` |
  | `:stdio` | standard input, output, error (`Cybernetic.WASM.Sandbox.Capabilities.Stdio`) | `:captured` |
  | `:host_functions` | functions that a call gives as `imports:` (`Cybernetic.WASM.Sandbox.Capabilities.HostFunctions`); default `:all` | `["env.log"]` |

  ## Presets

  A preset's name stands for a sandbox wherever one is taken:

    * `:none` - the configured defaults
    * `:pure` - deterministic
    * `:command` - for a command-line program: its arguments, the variables that the call gives,
      captured stdio, real clocks, random bytes. No files, no network.

  ## Examples

      iex> alias Cybernetic.WASM.Sandbox
      iex> sandbox = Sandbox.new(clocks: :real, env: [{"API_TOKEN", "hunter2"}])
      iex> {sandbox.wasi, sandbox.random}
      {true, :none}
      iex> inspect(sandbox)
      "#Cybernetic.WASM.Sandbox<wasi, env: API_TOKEN (a value), clocks: real, host_functions: all that a call gives>"
      iex> Sandbox.new(env: ["API_TOKEN"])
      ** (ArgumentError) option :env: API_TOKEN looks like a secret's name; to grant it all the same, give {:secret, "API_TOKEN"}
  """

  alias Cybernetic.WASM.{Config, DeniedError, Error, Limits, Module, Options}
  alias Cybernetic.WASM.Runtime.Names
  alias Cybernetic.WASM.Sandbox.{Capabilities, Check, Explain, Grants, Presets}

  defstruct [limits: %Limits{}, deterministic: false, wasi: false, threading: false] ++
              Capabilities.defaults()

  @typedoc "The limits and grants of a guest."
  @type t :: %__MODULE__{
          limits: Limits.t(),
          deterministic: boolean,
          wasi: boolean,
          filesystem: Capabilities.Filesystem.t(),
          env: Capabilities.Env.t(),
          network: Capabilities.Network.t(),
          clocks: Capabilities.Clocks.t(),
          random: Capabilities.Random.t(),
          stdio: Capabilities.Stdio.t(),
          host_functions: Capabilities.HostFunctions.t(),
          threading: false
        }

  @typedoc """
  An import that a sandbox denies, and the effect: the module does not link (`:link`), the function
  returns an errno or the error of its interface (`:errno`), there are no variables in the environment (`:empty`), or the call
  traps (`:trap`), since the interface has no error to give. `grant` says what to add to the sandbox.
  """
  @type denied :: %{
          module: String.t(),
          name: String.t(),
          capability: atom,
          effect: :link | :errno | :empty | :trap,
          grant: String.t()
        }

  @typedoc "A sandbox, or a preset's name."
  @type given :: t | :none | :pure | :command

  @typedoc "An option of `new/1`. A capability's module says what it takes."
  @type option ::
          Limits.option()
          | {:deterministic, boolean}
          | {:wasi, boolean}
          | {:threading, false}
          | {:filesystem, term}
          | {:env, term}
          | {:network, term}
          | {:clocks, term}
          | {:random, term}
          | {:stdio, term}
          | {:host_functions, term}

  @doc "Makes a sandbox from options. Unknown keys and wrong values raise an `ArgumentError`."
  @spec new([option]) :: t
  def new(opts \\ []) do
    # The words of `Options` would show what was given, and there may be a secret in it.
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "sandbox options must be a keyword list")

    opts
    |> Options.check!(options(), "sandbox option")
    |> from_options()
  end

  @doc "The names of the presets."
  @spec presets() :: [atom]
  defdelegate presets(), to: Presets, as: :names

  @doc false
  # Each capability checks its own grant, and shows nothing of the environment's.
  @spec options() :: Options.keys()
  def options do
    [deterministic: :boolean, wasi: :boolean, threading: :boolean] ++
      Enum.map(Capabilities.names(), &{&1, :any}) ++ Limits.options()
  end

  @doc false
  # What the option `sandbox:` takes.
  @spec kind() :: Options.kind()
  def kind do
    {:unshown,
     {"a %Cybernetic.WASM.Sandbox{} or a preset's name, such as Sandbox.new(stdio: :captured) or :command",
      &__MODULE__.given?/1}}
  end

  @doc false
  @spec given?(term) :: boolean
  def given?(given), do: is_struct(given, __MODULE__) or is_atom(given)

  @doc """
  The sandbox that grants what both grant: the lower of each limit, the lesser of each grant. It is
  deterministic if either is.

      iex> alias Cybernetic.WASM.Sandbox
      iex> Sandbox.narrow(Sandbox.new(fuel: 100), Sandbox.new(fuel: 200, deterministic: true)).limits.fuel
      100
      iex> Sandbox.narrow(Sandbox.new(clocks: :real, random: :system), Sandbox.new(clocks: {:fixed, 0})).clocks
      {:fixed, 0}
  """
  @spec narrow(given, given) :: t
  def narrow(sandbox, other) do
    {sandbox, other} = {named(sandbox), named(other)}

    grants =
      for {name, capability, grant} <- Capabilities.grants(sandbox),
          do: {name, capability.narrow(grant, Map.fetch!(other, name))}

    settle(%__MODULE__{
      struct!(sandbox, grants)
      | limits: Limits.narrow(sandbox.limits, other.limits),
        deterministic: sandbox.deterministic or other.deterministic,
        wasi: sandbox.wasi and other.wasi
    })
  end

  # A deterministic sandbox has no real clock, no system randomness and no real times.
  defp settle(%__MODULE__{deterministic: true} = sandbox) do
    lesser =
      for {name, capability, grant} <- Capabilities.grants(sandbox),
          {lesser, _why} <- [capability.deterministic(grant)],
          do: {name, lesser}

    struct!(sandbox, lesser)
  end

  defp settle(sandbox), do: sandbox

  @doc """
  The grants and refusals of a sandbox in words: a line for the limits and one for each capability.

      iex> Cybernetic.WASM.Sandbox.explain(:command) |> String.split("\\n") |> Enum.drop(1)
      ["deterministic: no",
       "wasi: granted",
       "filesystem: refused",
       "env: granted: what the call gives",
       "network: refused",
       "clocks: granted: real",
       "random: granted: the system's",
       "stdio: granted: stdin captured, stdout captured, stderr captured",
       "host_functions: granted: all that a call gives",
       "threading: refused"]
  """
  @spec explain(given) :: String.t()
  def explain(given), do: given |> named() |> Explain.lines() |> Enum.join("\n")

  @doc """
  The imports of a module that a sandbox denies, in order; `[]` if there is none. Refusals that
  depend on arguments, such as a path, only show when the guest runs: see `Cybernetic.WASM.Denial`.

  Two things are not checked: whether the call gives the host functions that are allowed, and imports
  that another guest exports, which are no host functions.

      iex> alias Cybernetic.WASM.{Runtime, Sandbox}
      iex> {:ok, module} = Runtime.load_module({:bytes, ~S|(module (import "env" "log" (func)))|})
      iex> Sandbox.check(module, :none)
      []
      iex> Sandbox.check(module, Sandbox.new(host_functions: ["env.print"]))
      [%{module: "env", name: "log", capability: :host_functions, effect: :link, grant: ~S|add "env.log" to host_functions:|}]

  A name that no module is loaded under raises the `Cybernetic.WASM.CallError`.
  """
  @spec check(Module.given(), given) :: [denied]
  def check(module, sandbox),
    do: module |> Names.fetch() |> Error.unwrap!() |> Check.denied(named(sandbox))

  @doc false
  # The grants of WASI as Rust takes them, and the call's standard input: `{:ok, {grants, stdin}}`, or `{:ok, nil}` where WASI
  # is not granted. `data` is the call's own part.
  @spec native(t, Grants.data()) ::
          {:ok, {Grants.t(), Capabilities.Stdio.input()} | nil} | {:error, DeniedError.t()}
  defdelegate native(sandbox, data), to: Grants, as: :new

  @doc false
  # Standard input of a later call on a live guest.
  @spec stdin(t, Capabilities.Stdio.input()) ::
          {:ok, Capabilities.Stdio.input()} | {:error, DeniedError.t()}
  defdelegate stdin(sandbox, given), to: Grants

  @doc false
  # The sandbox of a call with these options, which are checked already.
  @spec resolve(map) :: t
  def resolve(%{sandbox: given} = opts) do
    sandbox = named(given)

    settle(%__MODULE__{
      sandbox
      | limits: Limits.narrow(sandbox.limits, Map.take(opts, Limits.keys()), set_by(opts)),
        deterministic: sandbox.deterministic or Map.get(opts, :deterministic, false)
    })
  end

  def resolve(opts), do: replace(opts, set_by(opts))

  # Whose options they are: a live instance keeps those that it was made with.
  defp set_by(opts), do: Map.get(opts, :set_by, :call)

  @doc false
  # The sandbox of a call, within the one of the module's manifest if there is one.
  @spec resolve(map, t | nil) :: t
  def resolve(opts, nil), do: resolve(opts)

  def resolve(opts, %__MODULE__{} = base),
    do: opts |> Map.update(:sandbox, base, &narrow(base, named(&1))) |> resolve()

  defp named(%__MODULE__{} = sandbox), do: sandbox

  # What a preset grants is always the same, and many calls name one.
  @presets (for name <- Presets.names(), into: %{} do
              opts = Presets.options!(name)
              granted = Capabilities.from_options!(opts)

              served =
                Capabilities.defaults()
                |> Keyword.merge(granted)
                |> Map.new()
                |> Capabilities.served()

              {name, {opts[:deterministic], Map.new([wasi: served != []] ++ granted)}}
            end)

  defp named(name) when is_map_key(@presets, name) do
    {deterministic, granted} = Map.fetch!(@presets, name)
    %{limits: limits, deterministic: configured} = Config.get()
    sandbox = %__MODULE__{limits: limits, deterministic: deterministic || configured}
    sandbox |> Map.merge(granted) |> settle()
  end

  defp named(name), do: name |> Presets.options!() |> new()

  defp replace(opts, by) do
    config = Config.get()

    %__MODULE__{
      limits: Limits.put(config.limits, Map.take(opts, Limits.keys()), by),
      deterministic: Map.get(opts, :deterministic, config.deterministic)
    }
  end

  defp from_options(opts) do
    if Map.get(opts, :threading, false),
      do: raise(ArgumentError, "option :threading must be false: guests have no threads")

    sandbox = opts |> replace(:sandbox) |> struct!(Capabilities.from_options!(opts))
    refuse_nondeterminism!(opts, sandbox)
    settle(%__MODULE__{sandbox | wasi: wasi(opts, Capabilities.served(sandbox))})
  end

  # Only of the options: determinism that is configured takes these grants away without an error.
  defp refuse_nondeterminism!(%{deterministic: true}, sandbox) do
    for {_name, capability, grant} <- Capabilities.grants(sandbox),
        {_lesser, why} when why != nil <- [capability.deterministic(grant)],
        do: raise(ArgumentError, why)
  end

  defp refuse_nondeterminism!(_opts, _sandbox), do: :ok

  # A guest without WASI has no way to what WASI serves.
  defp wasi(%{wasi: true}, _served), do: true
  defp wasi(opts, []), do: Map.get(opts, :wasi, false)

  defp wasi(%{wasi: false}, [name | _]) do
    raise ArgumentError,
          "option :wasi is false, but WASI is how a guest gets at what #{inspect(name)} grants: " <>
            "leave one of them out"
  end

  defp wasi(_opts, _served), do: true

  defimpl Inspect do
    def inspect(sandbox, _opts),
      do: "#Cybernetic.WASM.Sandbox<#{Cybernetic.WASM.Sandbox.Explain.summary(sandbox)}>"
  end
end
