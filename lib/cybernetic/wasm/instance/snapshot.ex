defmodule Cybernetic.WASM.Instance.Snapshot do
  @moduledoc false
  # A live instance's state as a module, and instances that begin in it.

  alias Cybernetic.WASM.{Error, Execution, Instance, Module, Native}
  alias Cybernetic.WASM.Execution.Plan
  alias Cybernetic.WASM.Instance.{Link, Live}

  @doc "See `Cybernetic.WASM.Instance.snapshot/2`."
  @spec take(Instance.t(), keyword) :: {:ok, binary} | {:error, Error.t()}
  def take(%Instance{ref: ref, module: module, on_fork: hook} = instance, opts) do
    with {:ok, plan} <- Plan.narrow(Plan.of(instance), module, opts),
         {:ok, wasm, _tally} <-
           ref |> Native.instance_snapshot(hook, Plan.to_native(plan)) |> Execution.drive(plan),
         do: {:ok, wasm}
  end

  @doc "See `Cybernetic.WASM.Instance.fork/2`."
  @spec fork(Instance.t(), keyword) :: {:ok, Instance.t()} | {:error, Error.t()}
  def fork(%Instance{snapshottable: true} = instance, opts) do
    with {:ok, module} <- module(instance, opts),
         {:ok, fork, _tally} <- Link.first(module, Plan.of_fork(instance), true),
         do: {:ok, %{Live.on_trap(fork, instance.on_trap) | on_fork: instance.on_fork}}
  end

  # Rust has the words for what cannot be captured.
  def fork(%Instance{} = instance, opts), do: take(instance, opts)

  # The one of the last fork, where the state is still the same.
  defp module(%Instance{ref: ref} = instance, opts) do
    fork = Native.instance_fork(ref)

    if fork && Live.state(instance) != :closed,
      do: {:ok, handle(fork, instance)},
      else: anew(instance, opts)
  end

  defp anew(%Instance{ref: ref, module: module, engine: engine, on_fork: hook} = instance, opts) do
    with {:ok, plan} <- Plan.narrow(Plan.of(instance), module, opts),
         {:ok, fork, _tally} <-
           ref
           |> Native.instance_fork_anew(hook, engine, Plan.to_native(plan))
           |> Execution.drive(plan),
         do: {:ok, handle(fork, instance)}
  end

  defp handle(ref, %Instance{module: module, engine: engine}),
    do: Module.new(ref, name: module.name, size: module.size, engine: engine)
end
