defmodule Cybernetic.WASM.Sandbox.Capability do
  @moduledoc false
  # One capability of a sandbox. All that is known of it is in its module, behind these callbacks.
  #
  # A grant is a value, made of an option: one value for one grant. `narrow/2` is a meet:
  # commutative, associative, idempotent, and what it gives grants nothing that either of its arguments does not.
  # `test/security/narrowing_test.exs` holds all to it.

  alias Cybernetic.WASM.{DeniedError, Shown}
  alias Cybernetic.WASM.Sandbox.Manifest.Tree

  @typedoc "The grant of one capability."
  @type grant :: term

  @typedoc "The reason why an option is refused, and the option as a message shows it, if it may."
  @type refusal :: {why :: String.t(), given :: String.t() | nil}

  # The grant

  @doc "The grant that an option asks for. A refusal shows no value of the environment."
  @callback grant(option :: term) :: {:ok, grant} | {:error, refusal}

  @doc "The grant of a sandbox that is made without the option."
  @callback default() :: grant

  @doc "The grant of what both grant."
  @callback narrow(grant, grant) :: grant

  @doc """
  `:ok` for a grant that makes every run alike. For another one, the grant without what makes runs differ, and the words for
  somebody who asks for both that and determinism; `nil` where nobody has asked for it.
  """
  @callback deterministic(grant) :: :ok | {grant, why :: String.t() | nil}

  @doc "Whether it grants anything."
  @callback granted?(grant) :: boolean

  @doc "What it grants, in words for a person. Asked only where it grants something."
  @callback explain(grant) :: String.t()

  # In a manifest

  @doc "Its keys."
  @callback keys() :: [atom]

  @doc """
  The option that the nodes under its keys stand for, or `nil` where they neither grant nor withhold anything. A mistake is
  thrown, as in `Cybernetic.WASM.Sandbox.Manifest.Tree`.
  """
  @callback manifest([{key :: atom, Tree.tree(), Tree.at()}, ...]) :: option :: term

  @doc "The lines of a starter manifest for a module that imports one of its functions."
  @callback suggestion() :: String.t()

  # In WASI preview 1

  @doc "Whether WASI serves it, so that a grant of it links WASI."
  @callback served?() :: boolean

  @doc "The functions that need it. Where several capabilities have one, any of them is enough."
  @callback functions() :: [String.t()]

  @doc "What to grant for these functions, in words."
  @callback hint() :: String.t()

  @doc "The effect of such a call without the grant: see `t:Cybernetic.WASM.Sandbox.denied/0`."
  @callback effect() :: :errno | :empty

  # In WASI 0.2

  @doc """
  The interfaces that need it, or functions of one, as `interface#function`, and what becomes of a call without the grant: an
  error of the interface's, nothing, or a trap, where there is no error to give.
  """
  @callback interfaces() :: [{String.t(), :errno | :empty | :trap}]

  # In both

  @doc """
  Its part of the grants that Rust takes, together with what the call itself gives: see `Cybernetic.WASM.Sandbox.Grants`.
  Asked only where WASI is granted.
  """
  @callback native(grant, data :: map) :: {:ok, map} | {:error, DeniedError.t()}

  @doc "Makes a module a capability, which WASI serves and which makes every run alike unless the module says otherwise."
  defmacro __using__(_opts) do
    quote do
      @behaviour Cybernetic.WASM.Sandbox.Capability
      import Cybernetic.WASM.Sandbox.Capability

      @impl true
      def deterministic(_grant), do: :ok

      @impl true
      def suggestion, do: ""

      @impl true
      def served?, do: true

      @impl true
      def effect, do: :errno

      @impl true
      def interfaces, do: []

      @impl true
      def native(_grant, _data), do: {:ok, %{}}

      defoverridable deterministic: 1,
                     suggestion: 0,
                     served?: 0,
                     effect: 0,
                     interfaces: 0,
                     native: 2
    end
  end

  # Checking an option

  @doc "The grant that an option asks for. A refusal is raised as an `ArgumentError`."
  @spec grant!(module, term) :: grant
  def grant!(capability, option), do: option |> capability.grant() |> unwrap!()

  @doc "The value of a check. A refusal is raised as an `ArgumentError`."
  @spec unwrap!({:ok, value} | {:error, refusal}) :: value when value: term
  def unwrap!({:ok, value}), do: value
  def unwrap!({:error, {why, nil}}), do: raise(ArgumentError, why)
  def unwrap!({:error, {why, given}}), do: raise(ArgumentError, "#{why}, got: #{given}")

  @doc "A refusal that does not show what was given."
  @spec refused(String.t()) :: {:error, refusal}
  def refused(why), do: {:error, {why, nil}}

  @doc "A refusal of `given`."
  @spec refused(String.t(), term) :: {:error, refusal}
  def refused(why, given), do: {:error, {why, Shown.term(given)}}

  @doc "Checks the items of a list, up to the first refusal."
  @spec each(list, (term -> {:ok, value} | {:error, refusal})) ::
          {:ok, [value]} | {:error, refusal}
        when value: term
  def each([], _check), do: {:ok, []}

  def each([item | rest], check) do
    with {:ok, value} <- check.(item),
         {:ok, values} <- each(rest, check),
         do: {:ok, [value | values]}
  end
end
