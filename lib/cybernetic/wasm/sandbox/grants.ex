defmodule Cybernetic.WASM.Sandbox.Grants do
  @moduledoc false
  # The grants of a guest as Rust takes them, of its sandbox and of the call that makes it: `GrantsMap` of the NIF crate has the
  # same keys. Standard input is apart: it belongs to the call, all else to the guest for as long as it lives.

  alias Cybernetic.WASM.{DeniedError, Sandbox}
  alias Cybernetic.WASM.Sandbox.{Capabilities, Check}
  alias Cybernetic.WASM.Sandbox.Capabilities.Stdio

  @typedoc """
  The grants of a guest. The triples are for standard input, output and error; `times` says whether those of files are real.
  """
  @type t :: %{
          args: [String.t()],
          env: [{String.t(), String.t()}],
          dirs: [{host :: String.t(), guest :: String.t(), writable :: boolean}],
          scratch: String.t() | nil,
          null: String.t() | nil,
          times: boolean,
          quota: non_neg_integer,
          max_open: non_neg_integer,
          network: {lists :: [[String.t()]], dns :: boolean} | nil,
          clocks: Capabilities.Clocks.t(),
          random: Capabilities.Random.t(),
          stdio: {boolean, boolean, boolean},
          terminals: {boolean, boolean, boolean},
          answered: [non_neg_integer]
        }

  @typedoc """
  The call's own part: its arguments, the program's name to go before them, variables and standard input; the imports of WASI
  that the host answers, by index; whether the guest is a component; and a function that says which of the VM's streams are a terminal's.
  """
  @type data :: %{
          optional(:args) => [String.t()],
          optional(:program) => String.t(),
          optional(:env) => map | keyword | nil,
          optional(:stdin) => Stdio.input(),
          optional(:answered) => [non_neg_integer],
          optional(:component) => boolean,
          optional(:terminals) => (() -> {boolean, boolean, boolean})
        }

  @given [:args, :env, :stdin]

  @doc """
  The grants and the input of a guest, or `nil` without WASI: the call cannot give it anything then. A component always has WASI,
  and then may be granted nothing of it.
  """
  @spec new(Sandbox.t(), data) :: {:ok, {t, Stdio.input()} | nil} | {:error, DeniedError.t()}
  def new(%{wasi: false} = sandbox, data) do
    case for key <- @given, data[key] not in [nil, [], %{}], do: "#{key}:" do
      [] -> if data[:component], do: all(sandbox, data), else: {:ok, nil}
      given -> denied("the call gives #{Enum.join(given, ", ")}")
    end
  end

  def new(sandbox, data), do: all(sandbox, data)

  defp all(sandbox, data) do
    own = %{
      args: List.wrap(data[:program]) ++ Map.get(data, :args, []),
      answered: Map.get(data, :answered, [])
    }

    with {:ok, all} <- add(Capabilities.grants(sandbox), own, data) do
      {stdin, grants} = Map.pop!(all, :stdin)
      {:ok, {grants, stdin}}
    end
  end

  defp add([], grants, _data), do: {:ok, grants}

  defp add([{_name, capability, grant} | rest], grants, data) do
    with {:ok, part} <- capability.native(grant, data),
         do: add(rest, Map.merge(grants, part), data)
  end

  @doc "The input of a later call on a live guest, whose grants stay."
  @spec stdin(Sandbox.t(), Stdio.input()) :: {:ok, Stdio.input()} | {:error, DeniedError.t()}
  def stdin(%{wasi: false}, nil), do: {:ok, nil}
  def stdin(%{wasi: false}, _given), do: denied("the call gives stdin:")
  def stdin(%{stdio: stdio}, given), do: Stdio.input(stdio, given)

  defp denied(denied),
    do: {:error, %DeniedError{capability: :wasi, denied: denied, grant: Check.hint()}}
end
