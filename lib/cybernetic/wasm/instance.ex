defmodule Cybernetic.WASM.Instance do
  @moduledoc false
  # A live instance: a guest that keeps its state between calls, on one call at a time. Internal as yet: the bench measures
  # warm calls through it.

  alias Cybernetic.WASM.{Error, Execution, Module, Native}
  alias Cybernetic.WASM.Execution.Plan

  @enforce_keys [:ref, :module]
  defstruct [:ref, :module]

  @type t :: %__MODULE__{}

  @spec new(Module.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def new(%Module{} = module, opts \\ []) do
    with {:ok, plan} <- Plan.new(module, opts),
         {:ok, ref, _usage} <-
           module.ref |> Native.instance_new(plan.native) |> Execution.drive(plan) do
      {:ok, %__MODULE__{ref: ref, module: module}}
    end
  end

  @spec call(t, String.t(), list, keyword) :: {:ok, term} | {:error, Error.t()}
  def call(%__MODULE__{ref: ref, module: module}, function, args \\ [], opts \\ []) do
    with {:ok, plan} <- Plan.new(module, opts),
         {:ok, result, _usage} <- Execution.call_instance(ref, function, args, plan) do
      {:ok, result}
    end
  end
end
