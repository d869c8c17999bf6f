defmodule Cybernetic.WASM.Store.Place do
  @moduledoc false
  # Which store is meant: what implements it, and what that takes.

  alias Cybernetic.WASM.Config
  alias Cybernetic.WASM.Store.Disk

  @type t :: {module, term}

  @doc "What the option `:store` takes."
  @spec kind() :: {String.t(), (term -> boolean)}
  def kind,
    do: {"a folder, or {module, config} of a Cybernetic.WASM.Store.Backend", &__MODULE__.store?/1}

  @doc "What an option takes that is a number of something, or none."
  @spec limit(String.t()) :: {String.t(), (term -> boolean)}
  def limit(of_what), do: {"a number of #{of_what}, or :infinity", &__MODULE__.limit?/1}

  @doc false
  @spec limit?(term) :: boolean
  def limit?(number), do: number == :infinity or (is_integer(number) and number >= 0)

  @doc "Whether this names a store."
  @spec store?(term) :: boolean
  def store?(path) when is_binary(path), do: path != "" and not String.contains?(path, <<0>>)

  def store?({module, _config}) when is_atom(module),
    do: Code.ensure_loaded?(module) and function_exported?(module, :put_blob, 3)

  def store?(_other), do: false

  @doc "The store that an option names, else the configured one, else that of the user."
  @spec of(term) :: t
  def of(nil) do
    case Config.get() do
      %{store: nil, store_dir: nil} -> {Disk, default()}
      %{store: nil, store_dir: path} -> of(path)
      %{store: store} -> of(store)
    end
  end

  def of(path) when is_binary(path), do: {Disk, Path.expand(path)}
  def of({module, config}), do: {module, config}

  defp default, do: :user_cache |> :filename.basedir("cybernetic_wasm") |> Path.join("store")
end
