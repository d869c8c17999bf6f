defmodule Cybernetic.WASM.Sandbox.Capabilities.Env.Variables do
  @moduledoc false
  # Checks variables that an option or a call gives. No refusal shows more than a name: a secret may be in the wrong place.

  import Cybernetic.WASM.Sandbox.Capability

  alias Cybernetic.WASM.Sandbox.Capabilities.Env.Secrets
  alias Cybernetic.WASM.Sandbox.Capability

  @typedoc "The source of a variable's value: given with the name, or the VM's own."
  @type source :: {:value, String.t()} | :vm | :secret

  @typedoc "Variables by name."
  @type t :: %{String.t() => source}

  @most 131_072

  @doc "The variables of a list of names, `{name, value}` and `{:secret, name}`."
  @spec listed(list) :: {:ok, t} | {:error, Capability.refusal()}
  def listed(list) do
    with {:ok, variables} <- each(list, &variable/1), do: once(variables)
  end

  @doc "The variables of a map or list of names and values."
  @spec given(term) :: {:ok, t} | {:error, Capability.refusal()}
  def given(map) when is_map(map) and not is_struct(map), do: map |> Map.to_list() |> given()

  def given(list) when is_list(list) and length(list) >= 0 do
    with {:ok, variables} <- each(list, &with_value/1), do: once(variables)
  end

  def given(_other), do: wrong()

  @doc "One item of such a list."
  @spec variable(term) :: {:ok, {String.t(), source}} | {:error, Capability.refusal()}
  def variable({:secret, name}) when is_binary(name) do
    with {:ok, name} <- plain(name),
         do: {:ok, {name, if(Secrets.name?(name), do: :secret, else: :vm)}}
  end

  def variable(name) when is_binary(name) do
    with {:ok, name} <- plain(name) do
      if Secrets.name?(name), do: unnamed_secret(name), else: {:ok, {name, :vm}}
    end
  end

  def variable(other), do: with_value(other)

  defp unnamed_secret(name) do
    refused(
      "option :env: #{name} looks like a secret's name; to grant it all the same, give " <>
        "{:secret, #{inspect(name)}}"
    )
  end

  defp with_value({name, value}) do
    with {:ok, name} <- name(name), {:ok, value} <- value(name, value) do
      {:ok, {name, {:value, value}}}
    end
  end

  defp with_value(_other), do: wrong()

  defp plain(name) do
    with {:ok, name} <- name(name) do
      if String.contains?(name, ["*", "?"]),
        do: refused("option :env takes no patterns; give each name by itself"),
        else: {:ok, name}
    end
  end

  defp name(name) when is_atom(name) and name not in [nil, true, false],
    do: name |> Atom.to_string() |> name()

  defp name(name) do
    cond do
      not is_binary(name) or not String.valid?(name) -> wrong()
      name == "" -> refused("option :env: a name must not be empty")
      # What stands behind the = is a value.
      name =~ ~r/[=\0]/ -> refused("option :env: a name must not hold = or NUL")
      true -> {:ok, name}
    end
  end

  defp value(name, value) do
    if is_binary(value) and String.valid?(value) and not String.contains?(value, "\0"),
      do: {:ok, value},
      else: refused("option :env: the value of #{name} must be UTF-8 text without NUL")
  end

  defp once(variables) do
    map = Map.new(variables)

    case Enum.map(variables, &elem(&1, 0)) -- Map.keys(map) do
      [] -> {:ok, map}
      [name | _] -> refused("option :env names #{name} twice")
    end
  end

  @doc "The refusal of a term that is no environment at all."
  @spec wrong() :: {:error, Capability.refusal()}
  def wrong do
    refused(
      "option :env must be false, :any, a map of names and values, or a list of names, " <>
        "{name, value} and {:secret, name} (what was given is not shown: it may be a secret)"
    )
  end

  @doc "The values by name, if they are not too large."
  @spec bounded([{String.t(), String.t()}]) ::
          {:ok, [{String.t(), String.t()}]} | {:error, Capability.refusal()}
  def bounded(values) do
    # With the = between them and the NUL behind, as a guest's memory holds them.
    size = Enum.sum(for {name, value} <- values, do: byte_size(name) + byte_size(value) + 2)

    if size > @most,
      do: refused("option :env takes #{size} bytes, at most #{@most} are allowed"),
      else: {:ok, values}
  end
end
