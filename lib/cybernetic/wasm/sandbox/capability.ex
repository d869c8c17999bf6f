defmodule Cybernetic.WASM.Sandbox.Capability do
  @moduledoc false
  # What the capabilities of a sandbox have in common: all that is known of one is in its module. A grant is a value: what an option asks for
  # once it is checked, the same value for the same grant.
  #
  # `narrow/2` is a meet: commutative, associative, idempotent, and what it gives grants nothing
  # that either of its arguments does not. `test/security/narrowing_test.exs` holds all to it.

  alias Cybernetic.WASM.DeniedError
  alias Cybernetic.WASM.Sandbox.Manifest.Tree

  @typedoc "What is granted of one capability."
  @type grant :: term

  @typedoc "Why an option is no grant, in words, and what was given, where that may be shown."
  @type refusal :: {why :: String.t(), given :: String.t() | nil}

  @doc "The grant that an option asks for; a refusal shows no value of the environment."
  @callback grant(option :: term) :: {:ok, grant} | {:error, refusal}

  @doc "The keys of a manifest that are its own."
  @callback keys() :: [atom]

  @doc """
  The option that a manifest's nodes under these keys come to, `nil` where they grant nothing and withhold nothing. A mistake
  is thrown: see `Cybernetic.WASM.Sandbox.Manifest.Tree`.
  """
  @callback manifest([{key :: atom, Tree.tree(), Tree.at()}, ...]) :: option :: term

  @doc "The lines of a starter manifest for a module that imports one of its functions."
  @callback suggestion() :: String.t()

  @doc "What both grant."
  @callback narrow(grant, grant) :: grant

  @doc "Whether it grants anything."
  @callback granted?(grant) :: boolean

  @doc "What it grants, in words for a person; asked only where it grants something."
  @callback explain(grant) :: String.t()

  @doc "The grant of a sandbox that is made without the option."
  @callback default() :: grant

  @doc """
  `:ok`, or else the grant without what makes a run differ from the last one, and what to tell whoever asked for that and for
  determinism.
  """
  @callback deterministic(grant) :: :ok | {grant, why :: String.t()}

  @doc "The functions of WASI preview 1 that it is needed for. Where several capabilities name one, any of them is enough."
  @callback functions() :: [String.t()]

  @doc "What to grant for these functions, in words."
  @callback hint() :: String.t()

  @doc "What such a function does without the grant: see `t:Cybernetic.WASM.Sandbox.denied/0`."
  @callback effect() :: :errno | :empty

  @doc """
  Its part of what Rust takes, with what the call itself gives: see `Cybernetic.WASM.Sandbox.Grants`. Asked only where WASI is
  granted.
  """
  @callback native(grant, data :: map) :: {:ok, map} | {:error, DeniedError.t()}

  @doc "Whether its grant is one of WASI preview 1, so that WASI links where it is granted."
  @callback served?() :: boolean

  @doc "Makes a module a capability, of WASI and deterministic unless it says otherwise."
  defmacro __using__(_opts) do
    quote do
      @behaviour Cybernetic.WASM.Sandbox.Capability
      import Cybernetic.WASM.Sandbox.Capability

      @impl true
      def suggestion, do: ""

      @impl true
      def deterministic(_grant), do: :ok

      @impl true
      def native(_grant, _data), do: {:ok, %{}}

      @impl true
      def effect, do: :errno

      @impl true
      def served?, do: true

      defoverridable suggestion: 0, deterministic: 1, native: 2, effect: 0, served?: 0
    end
  end

  @doc "The grant that an option asks for; a refusal is raised as an `ArgumentError`."
  @spec grant!(module, term) :: grant
  def grant!(capability, option), do: option |> capability.grant() |> unwrap!()

  @doc "The value of a check; a refusal is raised as an `ArgumentError`."
  @spec unwrap!({:ok, value} | {:error, refusal}) :: value when value: term
  def unwrap!({:ok, value}), do: value
  def unwrap!({:error, {why, nil}}), do: raise(ArgumentError, why)
  def unwrap!({:error, {why, given}}), do: raise(ArgumentError, "#{why}, got: #{given}")

  @doc "A refusal that does not show what was given."
  @spec refused(String.t()) :: {:error, refusal}
  def refused(why), do: {:error, {why, nil}}

  @doc "A refusal of `given`."
  @spec refused(String.t(), term) :: {:error, refusal}
  def refused(why, given),
    do: {:error, {why, inspect(given, limit: 5, printable_limit: 80)}}

  @doc "Checks each of a list, up to the first refusal."
  @spec each(list, (term -> {:ok, value} | {:error, refusal})) ::
          {:ok, [value]} | {:error, refusal}
        when value: term
  def each(list, check) do
    checked =
      Enum.reduce_while(list, [], fn item, checked ->
        case check.(item) do
          {:ok, value} -> {:cont, [value | checked]}
          {:error, refusal} -> {:halt, {:error, refusal}}
        end
      end)

    if is_list(checked), do: {:ok, Enum.reverse(checked)}, else: checked
  end
end
