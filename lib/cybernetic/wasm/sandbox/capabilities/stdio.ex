defmodule Cybernetic.WASM.Sandbox.Capabilities.Stdio do
  @moduledoc """
  Standard input, output and error: option `stdio:` of `Cybernetic.WASM.Sandbox.new/1`.

    * `:none`, or `false` - none of them. The guest gets the errno `badf`, a component streams that are closed. The default.
    * `:captured` - the guest reads the call's `stdin:` (nothing, if the call gives none), and its
      output goes to the caller
    * `:streamed` - the same grant as `:captured`. The caller decides whether to have the output
      while the guest runs: see `Cybernetic.WASM.Executor.stream/4`.
    * `:inherited` - the VM's own streams

  A keyword list grants each stream by itself, such as `[stdout: :captured, stderr: :captured]`. A
  stream that it leaves out is not granted. Narrowing gives the lesser grant of each stream.
  """

  use Cybernetic.WASM.Sandbox.Capability
  import Cybernetic.WASM.Sandbox.Manifest.Tree

  alias Cybernetic.WASM.DeniedError

  @streams [:stdin, :stdout, :stderr]
  @none {false, false, false}
  # From the least to the greatest.
  @grants [:none, :captured, :inherited]

  @keys for stream <- @streams, do: {Atom.to_string(stream), stream}
  @words for word <- [:none, :captured, :streamed, :inherited], do: {Atom.to_string(word), word}

  defstruct stdin: :none, stdout: :none, stderr: :none

  @typedoc "The grant of one stream."
  @type grant :: :none | :captured | :inherited

  @typedoc "Standard input: all of it, `:pull` to ask for it piece by piece, or `nil` for none."
  @type input :: binary | :pull | nil

  @typedoc "The grant of each stream."
  @type t :: %__MODULE__{stdin: grant, stdout: grant, stderr: grant}

  @impl true
  def default, do: %__MODULE__{}

  @impl true
  def grant(streams) when is_list(streams) do
    if Keyword.keyword?(streams) and Enum.all?(Keyword.keys(streams), &(&1 in @streams)),
      do: some(streams),
      else: wrong(streams)
  end

  def grant(all), do: some(for stream <- @streams, do: {stream, all})

  defp some(streams) do
    with {:ok, streams} <- each(streams, &stream/1), do: {:ok, struct!(__MODULE__, streams)}
  end

  defp stream({name, false}), do: {:ok, {name, :none}}
  defp stream({name, :streamed}), do: {:ok, {name, :captured}}
  defp stream({name, grant}) when grant in @grants, do: {:ok, {name, grant}}
  defp stream({_name, other}), do: wrong(other)

  defp wrong(given) do
    refused(
      "option :stdio must be :none, :captured, :streamed or :inherited, or a keyword list " <>
        "of these with the keys :stdin, :stdout and :stderr",
      given
    )
  end

  @impl true
  def keys, do: [:stdio]

  @impl true
  def manifest([{:stdio, {:table, _line, _entries} = node, at}]) do
    streams = for {stream, node, at} <- table(node, at, @keys), do: {stream, word(node, at)}
    if streams == [], do: :none, else: streams
  end

  def manifest([{:stdio, node, at}]), do: word(node, at)

  defp word(node, at),
    do: choice(node, at, @words, ~S|"none", "captured", "streamed" or "inherited"|)

  @impl true
  def suggestion do
    """
    # Standard input is what a call gives; output goes to the caller. "inherited" would be the VM's own.
    stdio = "captured"
    """
  end

  @impl true
  def narrow(%__MODULE__{} = stdio, %__MODULE__{} = other) do
    Enum.reduce(@streams, stdio, fn stream, narrowed ->
      Map.update!(narrowed, stream, &lesser(&1, Map.fetch!(other, stream)))
    end)
  end

  defp lesser(one, other), do: Enum.find(@grants, &(&1 in [one, other]))

  @impl true
  def granted?(stdio), do: stdio != %__MODULE__{}

  @impl true
  def explain(stdio) do
    for(stream <- @streams, do: {stream, Map.fetch!(stdio, stream)})
    |> Enum.reject(&match?({_stream, :none}, &1))
    |> Enum.map_join(", ", fn {stream, grant} -> "#{stream} #{grant}" end)
  end

  @impl true
  def native(stdio, data) do
    with {:ok, stdin} <- input(stdio, data[:stdin]) do
      {:ok,
       %{
         stdin: stdin,
         stdio: each_stream(stdio, &(&1 != :none)),
         terminals: terminals(stdio, data)
       }}
    end
  end

  # A stream that goes to the caller is no terminal. Nobody has to look where all of them do.
  defp terminals(stdio, data) do
    inherited = each_stream(stdio, &(&1 == :inherited))
    look = data[:terminals]

    if look != nil and inherited != @none, do: both(inherited, look.()), else: @none
  end

  defp both({stdin, stdout, stderr}, {input, output, errors}),
    do: {stdin and input, stdout and output, stderr and errors}

  defp each_stream(stdio, ask),
    do: {ask.(stdio.stdin), ask.(stdio.stdout), ask.(stdio.stderr)}

  @doc false
  # Standard input of a call that gives `given`.
  @spec input(t, input) :: {:ok, input} | {:error, DeniedError.t()}
  def input(%__MODULE__{stdin: :none}, nil), do: {:ok, nil}

  def input(%__MODULE__{stdin: :none}, _given),
    do: {:error, %DeniedError{capability: :stdio, denied: "the call gives stdin:", grant: hint()}}

  def input(%__MODULE__{stdin: :captured}, nil), do: {:ok, ""}
  def input(%__MODULE__{stdin: :inherited}, nil), do: {:ok, :pull}
  def input(_granted, given), do: {:ok, given}

  @impl true
  def functions, do: ~w(fd_read fd_write)

  @impl true
  def interfaces,
    do: for(stream <- ~w(stderr stdin stdout), do: {"wasi:cli/#{stream}", :errno})

  @impl true
  def hint, do: "add stdio: :captured"
end
