defmodule Cybernetic.WASM.Plugin.Contracts.Extism.Functions do
  @moduledoc false
  # The embedder's functions as a plugin made for Extism calls them: with offsets of blocks, which stand for the bytes in them.

  alias Cybernetic.WASM.{Error, Host, Shown}
  alias Cybernetic.WASM.Plugin.Extism

  @doc "Host functions of these."
  @spec imports(%{String.t() => function}) :: map
  def imports(functions) do
    for {name, function} <- functions,
        into: %{},
        do: {name, {called(function, name), args: :list}}
  end

  defp called(function, name) do
    {:arity, arity} = Function.info(function, :arity)

    fn ctx, args ->
      case length(args) do
        ^arity -> by_bytes(ctx, function, args)
        given when given + 1 == arity -> apply(function, [ctx | args])
        given -> wrong!(ctx, {name, given, arity})
      end
    end
  end

  # A number of 32 bits is what it is: only offsets have 64.
  defp by_bytes(ctx, function, args) do
    given = Enum.map(args, &(ctx |> Extism.read(&1) |> Error.unwrap!()))

    case apply(function, given) do
      nothing when nothing in [nil, :ok, ""] ->
        0

      bytes when is_binary(bytes) or is_list(bytes) ->
        ctx |> Extism.write(bytes) |> Error.unwrap!()

      other ->
        raise ArgumentError, "a plugin's function returns bytes or nil, got: #{Shown.kind(other)}"
    end
  end

  @spec wrong!(Host.ctx(), tuple) :: no_return
  defp wrong!(_ctx, {name, given, arity}) do
    raise ArgumentError,
          "the plugin calls #{Shown.quoted(name)} with #{given} argument(s): give a function of so many, or of one more with " <>
            "the context, and not of #{arity}"
  end
end
