defmodule Cybernetic.WASM.Plugin.Codecs.Term do
  @moduledoc false
  # Terms in Erlang's external format. What a guest gives is a stranger's: no atom is made, nothing is uncompressed, which may be
  # a thousand times as large, and there is nothing in it that can be called, that a message can be sent to, or that is a handle.

  alias Cybernetic.WASM.Options

  @behaviour Cybernetic.WASM.Plugin.Codec

  @options [max_size: :positive]
  @defaults %{max_size: 16_777_216}
  # See https://www.erlang.org/doc/apps/erts/erl_ext_dist.
  @compressed <<131, 80>>

  @doc false
  def options!(opts) do
    @defaults
    |> Map.merge(Options.check!(opts, @options, "option of the codec :term"))
    |> Map.to_list()
  end

  @impl true
  def encode(term, _opts) do
    with :ok <- data(term), do: {:ok, :erlang.term_to_binary(term)}
  end

  @impl true
  def decode(@compressed <> _rest, _opts), do: {:error, "it is compressed"}

  def decode(bytes, opts) do
    most = opts[:max_size]

    if byte_size(bytes) > most,
      do: {:error, "#{byte_size(bytes)} bytes, at most #{most} are read"},
      else: read(bytes)
  end

  defp read(bytes) do
    {term, used} = :erlang.binary_to_term(bytes, [:safe, :used])

    with :ok <- whole(bytes, used), :ok <- data(term), do: {:ok, term}
  rescue
    ArgumentError ->
      {:error, "it is no term in the external format, or has an atom that is not there"}
  end

  defp whole(bytes, used) when byte_size(bytes) == used, do: :ok
  defp whole(_bytes, used), do: {:error, "something follows the term at byte #{used}"}

  # Lists of what is still to be looked at.
  defp data(term), do: data([term], [])

  defp data([], []), do: :ok
  defp data([], [next | pending]), do: data(next, pending)
  defp data([term | rest], pending), do: term |> parts() |> within(rest, pending)
  # The tail of an improper list.
  defp data(tail, pending), do: tail |> parts() |> within([], pending)

  defp within({:error, _words} = error, _rest, _pending), do: error
  defp within([], rest, pending), do: data(rest, pending)
  defp within(parts, rest, pending), do: data(parts, [rest | pending])

  defp parts(list) when is_list(list), do: list
  defp parts(tuple) when is_tuple(tuple), do: Tuple.to_list(tuple)
  defp parts(map) when is_map(map), do: :maps.to_list(map)
  defp parts(function) when is_function(function), do: {:error, "there is a function in it"}
  defp parts(pid) when is_pid(pid), do: {:error, "there is a pid in it"}
  defp parts(port) when is_port(port), do: {:error, "there is a port in it"}
  defp parts(reference) when is_reference(reference), do: {:error, "there is a reference in it"}
  defp parts(_leaf), do: []
end
