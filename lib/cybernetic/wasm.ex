defmodule Cybernetic.WASM do
  @external_resource readme = Path.expand("../../README.md", __DIR__)
  @moduledoc readme |> File.read!() |> String.split("<!-- moduledoc -->") |> List.last()

  alias Cybernetic.WASM.{Error, Executor, Loader, Module, Runtime, Value}

  @doc "See `Cybernetic.WASM.Runtime.load_module/2`."
  @spec load_module(Loader.source(), [Runtime.load_option()]) ::
          {:ok, Module.t()} | {:error, Error.t()}
  defdelegate load_module(source, opts \\ []), to: Runtime

  @doc "See `Cybernetic.WASM.Executor.call/4`."
  @spec call(Module.t(), Executor.entry(), [Value.t()] | [Executor.option()], [Executor.option()]) ::
          {:ok, Value.result()} | {:error, Error.t()}
  defdelegate call(module, function, args \\ [], opts \\ []), to: Executor

  @doc "See `Cybernetic.WASM.Executor.run/4`."
  @spec run(Module.t(), Executor.entry(), [Value.t()] | [Executor.option()], [Executor.option()]) ::
          {:ok, Cybernetic.WASM.Run.t()} | {:error, Error.t()}
  defdelegate run(module, function, args \\ [], opts \\ []), to: Executor
end
