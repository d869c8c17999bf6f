defmodule Cybernetic.WASM.Executor do
  @moduledoc """
  Calls exported functions, each in a fresh instance of its module.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> Cybernetic.WASM.Executor.call(module, "process", [42])
      {:ok, 84}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "spin", [], fuel: 1_000_000)
      iex> {error.limit, error.allowed}
      {:fuel, 1_000_000}
      iex> {:error, error} = Cybernetic.WASM.Executor.call(module, "proces", [42])
      iex> error.reason
      :no_such_export

  The calling process drives the guest itself, a slice at a time: kill it and the guest is gone, and no other process
  waits meanwhile. A fresh instance sees its module's initial state and nothing that another call left behind.

  ## Options

    * every limit of `Cybernetic.WASM.Limits`: `:fuel`, `:max_memory`, `:timeout`, …. They replace the configured defaults;
      with `:sandbox` they only narrow it.
    * `:sandbox` - a `Cybernetic.WASM.Sandbox` or a preset's name
    * `:imports` - host functions: see `Cybernetic.WASM.Host`. Default: none. A module whose imports are not all there
      fails with a `Cybernetic.WASM.LinkError` that names every missing one; what the module does not import is ignored.
    * `:data` - any term, for the host functions: `Cybernetic.WASM.Host.data/1`
    * `:scheduling` - `:adaptive` (default): a function starts on a dirty CPU scheduler, and once it has proven short on
      the normal one, which it leaves at the first slice that it does not finish. `:dirty` and `:inline` force either.
    * `:wait` - milliseconds that the call may queue while the node has as many live guests as it may have. Default: 0,
      which fails at once with a `Cybernetic.WASM.LimitError`.
    * `:metering`, `:deterministic` - as when loading. A module that was loaded otherwise is compiled once more, the first
      time.

  An unknown option or a wrong value raises `ArgumentError`. See `Cybernetic.WASM.Value` for arguments and results.

  ## Errors

  `Cybernetic.WASM.CallError` (the caller's mistake), `Cybernetic.WASM.LinkError`, `Cybernetic.WASM.TrapError`,
  `Cybernetic.WASM.LimitError`, `Cybernetic.WASM.HostError`; `Cybernetic.WASM.InternalError` should not happen.
  """

  alias Cybernetic.WASM.{Error, Execution, HostError, Module, Run, Value}
  alias Cybernetic.WASM.Execution.Plan

  @doc "Calls `function` and gives what it returns."
  @spec call(Module.t(), String.t(), [Value.t()], keyword) ::
          {:ok, Value.result()} | {:error, Error.t()}
  def call(module, function, args \\ [], opts \\ []) do
    with {:ok, plan} <- plan(module, function, args, opts),
         {:ok, result, _usage} <- Execution.call(module.ref, function, args, plan),
         do: {:ok, result}
  end

  @doc """
  As `call/4`, but gives a `Cybernetic.WASM.Run` with the result, the output and what the call used.

      iex> module = Cybernetic.WASM.Runtime.load_module!("priv/wasm/compute.wasm")
      iex> {:ok, run} = Cybernetic.WASM.Executor.run(module, "process", [42])
      iex> {run.result, run.usage.fuel > 0, run.usage.peak_memory}
      {84, true, 65_536}
  """
  @spec run(Module.t(), String.t(), [Value.t()], keyword) :: {:ok, Run.t()} | {:error, Error.t()}
  def run(module, function, args \\ [], opts \\ []) do
    with {:ok, plan} <- plan(module, function, args, opts),
         plan = Plan.reporting(plan),
         {:ok, result, usage} <- Execution.call(module.ref, function, args, plan) do
      {:ok,
       %Run{
         result: result,
         output: elem(usage, tuple_size(usage) - 1),
         usage: Execution.usage(usage)
       }}
    end
  end

  @doc "As `call/4`, but raises. What a host function raised is raised again, with its own stack."
  @spec call!(Module.t(), String.t(), [Value.t()], keyword) :: Value.result()
  def call!(module, function, args \\ [], opts \\ []),
    do: module |> call(function, args, opts) |> unwrap!()

  @doc "As `run/4`, but raises as `call!/4` does."
  @spec run!(Module.t(), String.t(), [Value.t()], keyword) :: Run.t()
  def run!(module, function, args \\ [], opts \\ []),
    do: module |> run(function, args, opts) |> unwrap!()

  defp plan(%Module{} = module, function, args, opts)
       when is_binary(function) and length(args) >= 0 do
    Plan.new(module, opts)
  end

  defp plan(%Module{}, function, _args, _opts) when not is_binary(function) do
    raise ArgumentError,
          "the function's name must be a string, got: #{inspect(function, limit: 5)}"
  end

  defp plan(%Module{}, _function, args, _opts) do
    raise ArgumentError, "arguments must be a proper list, got: #{inspect(args, limit: 5)}"
  end

  defp plan(other, _function, _args, _opts) do
    raise ArgumentError,
          "a %Cybernetic.WASM.Module{} is needed: load it first with Cybernetic.WASM.Runtime.load_module/2, got: " <>
            inspect(other, limit: 5, printable_limit: 80)
  end

  defp unwrap!({:ok, value}), do: value
  defp unwrap!({:error, %HostError{kind: :trap} = error}), do: raise(error)

  defp unwrap!({:error, %HostError{} = error}),
    do: :erlang.raise(error.kind, error.reason, error.stacktrace)

  defp unwrap!({:error, error}), do: raise(error)
end
