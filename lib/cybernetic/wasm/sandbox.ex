defmodule Cybernetic.WASM.Sandbox do
  @moduledoc """
  What a guest may use. Nothing is granted by default; limits are always finite.

  A sandbox goes into a call as `sandbox:`. Options of the same call then only narrow it, whereas without a sandbox they
  replace the configured defaults:

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> sandbox = Cybernetic.WASM.Sandbox.new(fuel: 1_000_000, timeout: 1_000)
      iex> Cybernetic.WASM.Executor.call(module, "process", [42], sandbox: sandbox)
      {:ok, 84}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "spin", [], sandbox: sandbox, fuel: 10_000_000)
      iex> {error.limit, error.allowed}
      {:fuel, 1_000_000}

  ## Options

    * every limit of `Cybernetic.WASM.Limits`, with the configured default
    * `:deterministic` - `true`: the same input gives the same bits on every machine. NaNs are canonical, relaxed SIMD is
      deterministic, and no clock or random source is offered. Default: the configuration's, `false`.

  ## Presets

  By name wherever a sandbox is taken: `:none` (the configured defaults) and `:pure` (deterministic).
  """

  alias Cybernetic.WASM.{Config, Limits, Options}

  @presets %{none: [], pure: [deterministic: true]}

  defstruct limits: %Limits{}, deterministic: false

  @typedoc "What a guest may use."
  @type t :: %__MODULE__{limits: Limits.t(), deterministic: boolean}

  @doc "A sandbox from options; unknown keys raise `ArgumentError`."
  @spec new(keyword) :: t
  def new(opts \\ []) do
    opts
    |> Options.check!([:deterministic | Limits.option_names()], "sandbox option")
    |> replace()
  end

  @doc "The names of the presets."
  @spec presets() :: [atom]
  def presets, do: Map.keys(@presets)

  @doc """
  What both allow: the smaller of each limit, deterministic if either is.

      iex> alias Cybernetic.WASM.Sandbox
      iex> Sandbox.narrow(Sandbox.new(fuel: 100), Sandbox.new(fuel: 200, deterministic: true)).limits.fuel
      100
  """
  @spec narrow(t, t) :: t
  def narrow(%__MODULE__{} = sandbox, %__MODULE__{} = other) do
    narrow_by(sandbox, %{deterministic: other.deterministic, limits: other.limits})
  end

  defp narrow_by(sandbox, %{limits: limits} = other) do
    %__MODULE__{
      limits: Limits.narrow(sandbox.limits, limits),
      deterministic: sandbox.deterministic or Map.get(other, :deterministic, false)
    }
  end

  @doc false
  # The sandbox of a call: `opts` are checked already.
  @spec resolve(map) :: t
  def resolve(%{sandbox: given} = opts) do
    narrow_by(named(given), %{
      limits: Map.take(opts, Limits.keys()),
      deterministic: Map.get(opts, :deterministic, false)
    })
  end

  def resolve(opts), do: replace(opts)

  defp named(%__MODULE__{} = sandbox), do: sandbox

  defp named(name) do
    case @presets do
      %{^name => opts} ->
        new(opts)

      _ ->
        raise ArgumentError,
              "unknown sandbox preset #{inspect(name)}; known are: #{Enum.map_join(presets(), ", ", &inspect/1)}"
    end
  end

  defp replace(opts) do
    config = Config.get()

    %__MODULE__{
      limits: struct!(config.limits, Map.take(opts, Limits.keys())),
      deterministic: Map.get(opts, :deterministic, config.deterministic)
    }
  end
end
