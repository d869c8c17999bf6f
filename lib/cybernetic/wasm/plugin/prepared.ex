defmodule Cybernetic.WASM.Plugin.Prepared do
  @moduledoc false
  # What a plugin comes to for one module: the contract that it meets, and a call of it that only lacks a function and its
  # arguments. A plugin of a name has another one after a reload.

  alias Cybernetic.WASM.{Error, LimitError, Limits, Module, PluginError, Sandbox, Shown}
  alias Cybernetic.WASM.Execution.Call
  alias Cybernetic.WASM.Plugin.{Contracts, Surface}
  alias Cybernetic.WASM.Sandbox.Presets

  @enforce_keys [:module, :name, :contract, :why, :state, :entry, :options, :call]
  # `options` are the plugin's.
  defstruct [:module, :name, :contract, :why, :state, :entry, :options, :call]

  @type t :: %__MODULE__{}

  @most_output 100_000_000
  @most_named 21

  @doc "That of a module, with the contract that was asked for, or `nil`, and the plugin's options of every call."
  @spec new(Module.loaded(), Contracts.given(), keyword) :: {:ok, t} | {:error, Error.t()}
  def new(module, given, options) do
    surface = Surface.of(module)

    with {:ok, {name, contract, why, state}} <- Contracts.meet(surface, given),
         every = every(contract.options(state), options, module),
         {:ok, call} <- Call.new(module, "", [], every) do
      {:ok,
       %__MODULE__{
         module: module,
         name: name,
         contract: contract,
         why: why,
         state: state,
         entry: entry(module, contract.entry(state)),
         options: options,
         call: call
       }}
    end
  end

  # What the manifest says comes first.
  defp entry(%{manifest: %{entry: "_start"}}, _own), do: :start
  defp entry(%{manifest: %{entry: entry}}, _own) when entry != nil, do: entry
  defp entry(_module, own), do: own

  # The options of every call: the contract's, in whose place those of the plugin come.
  defp every(own, options, module) do
    own
    |> join(options)
    |> Keyword.put_new(:max_output, @most_output)
    |> with_transfer(module)
    |> with_sandbox(own[:sandbox])
  end

  # Imports stand beside each other.
  defp join(options, more) do
    case {options[:imports], more[:imports]} do
      {one, other} when one == nil or other == nil -> Keyword.merge(options, more)
      {one, other} -> options |> Keyword.merge(more) |> Keyword.put(:imports, [one, other])
    end
  end

  # What a component gives is held in values.
  defp with_transfer(options, %Module{}), do: options

  defp with_transfer(options, _component),
    do: Keyword.put_new(options, :max_transfer, options[:max_output])

  # The limits of a preset are those that are configured, which a call could only lower.
  defp with_sandbox(options, nil), do: options

  defp with_sandbox(options, preset) do
    if options[:sandbox] == preset,
      do: Keyword.put(options, :sandbox, Sandbox.new(granted(preset) ++ limits(options))),
      else: options
  end

  defp granted(grants) when is_list(grants), do: grants
  defp granted(preset), do: Presets.options!(preset)

  defp limits(options), do: Keyword.take(options, [:max_execution_time | Limits.keys()])

  @doc "The function that is to be called."
  @spec function(t, term) :: {:ok, term} | {:error, PluginError.t()}
  def function(%__MODULE__{entry: nil} = prepared, :entry) do
    known = prepared.module |> Surface.of() |> Map.fetch!(:functions) |> Map.keys()
    known = known |> Enum.take(@most_named) |> Enum.map(&Shown.cut/1)
    {:error, %PluginError{reason: :no_entry, contract: prepared.name, known: known}}
  end

  def function(%__MODULE__{entry: entry}, :entry), do: {:ok, entry}
  def function(_prepared, function), do: {:ok, function}

  @doc "The call of a function with these arguments. `more` are the options of this one call."
  @spec call(t, term, list, keyword) :: {:ok, Call.t()} | {:error, Error.t()}
  def call(%__MODULE__{call: call}, function, args, []) when is_binary(function),
    do: {:ok, %{call | name: function, args: args}}

  def call(%__MODULE__{} = prepared, function, args, more) do
    own = prepared.contract.options(prepared.state)
    options = every(own, join(prepared.options, more), prepared.module)
    Call.new(prepared.module, function, args, options)
  end

  @doc "Refuses what a guest of the call could not hold, before it is copied."
  @spec fits(Call.t()) :: :ok | {:error, LimitError.t()}
  def fits(%Call{args: args, plan: %{limits: limits}}) do
    case length_of(args) do
      size when size > limits.max_memory ->
        error = %LimitError{
          limit: :memory,
          allowed: limits.max_memory,
          used: size,
          blame: :caller
        }

        {:error, Limits.attribute(error, limits)}

      _fits ->
        :ok
    end
  end

  @doc "How many bytes of arguments are bytes."
  @spec length_of(list) :: non_neg_integer
  def length_of(args), do: args |> Enum.map(&size/1) |> Enum.sum()

  defp size(bytes) when is_binary(bytes), do: byte_size(bytes)
  defp size({_how, bytes}) when is_binary(bytes), do: byte_size(bytes)
  defp size({:buffer, bytes, _room}), do: byte_size(bytes)
  defp size(_other), do: 0
end
