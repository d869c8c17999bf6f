defmodule Cybernetic.WASM.Execution.Streams do
  @moduledoc false
  # A call's standard streams, and what else it gives its guest of the system interface: the grants of its sandbox as Rust
  # takes them, where its standard input comes from, and which of its standard streams are the VM's own.
  #
  # Input that is pulled, and output to the VM's streams, pass through the process that drives the guest: see `Streams.Input`
  # and `Streams.Output`.

  import Cybernetic.WASM.Sandbox.Check, only: [is_wasi: 1]

  alias Cybernetic.WASM.{Component, DeniedError, HostError, Module, Options, Sandbox}
  alias Cybernetic.WASM.Execution.{Devices, Pull}
  alias Cybernetic.WASM.Execution.Streams.{Input, Output}

  # `grants` is what a fresh guest is made with, `stdin` `nil`, bytes or `:pull`, `source` what is pulled, under `key`.
  @derive {Inspect, only: [:hand_over, :inherited]}
  defstruct grants: nil,
            stdin: nil,
            source: nil,
            key: nil,
            hand_over: false,
            inherited: [],
            inherits_input: false

  @type t :: %__MODULE__{}

  # What Linux allows a command line is two megabytes; a guest asks for all of it at once.
  @most_text 131_072
  @args "a list of UTF-8 strings without NUL, of at most #{@most_text} bytes together"
  @longest_name 4_096
  @name "a UTF-8 string without NUL, of at most #{@longest_name} bytes"
  # It says nothing of the host, where the module's file may be called anything.
  @program "main.wasm"
  # The sandbox checks variables.
  @options [
    args: {:unshown, {@args, &__MODULE__.args?/1}},
    program: {@name, &__MODULE__.program?/1},
    env: :any,
    stdin: {:unshown, {"iodata, an Enumerable of it, or nil", &Pull.readable?/1}}
  ]
  @keys Keyword.keys(@options)

  @doc "The options that are a call's own data for WASI."
  @spec options() :: Options.keys()
  def options, do: @options

  @doc "Whether they can be a program's arguments."
  @spec args?(term) :: boolean
  def args?(args) when is_list(args) do
    not List.improper?(args) and Enum.all?(args, &text?/1) and
      args |> Enum.map(&(byte_size(&1) + 1)) |> Enum.sum() <= @most_text
  end

  def args?(_other), do: false

  @doc "Whether it can be a program's name, the argument before the first."
  @spec program?(term) :: boolean
  def program?(name), do: text?(name) and byte_size(name) <= @longest_name

  defp text?(text),
    do: is_binary(text) and String.valid?(text) and not String.contains?(text, <<0>>)

  @doc """
  What a call with these options gives; `nil` for a module that wants none of it. One that is linked to others may have it
  from them.
  """
  @spec new(Sandbox.t(), Module.t(), map, map) :: {:ok, t | nil} | {:error, DeniedError.t()}
  def new(sandbox, module, %{answered: answered, sources: sources}, opts) do
    data = Map.take(opts, @keys)

    if imports?(module) or sources != nil or data != %{},
      do: grant(sandbox, answered, Map.put(data, :component, is_struct(module, Component))),
      else: {:ok, nil}
  end

  defp imports?(%Component{} = component), do: Module.of_wasi(component) != :none

  defp imports?(module),
    do: module |> Module.functions() |> Enum.any?(&is_wasi(elem(&1, 0)))

  defp grant(sandbox, answered, data) do
    given = data[:stdin]

    data =
      Map.merge(data, %{
        program: Map.get(data, :program, @program),
        stdin: stdin(given),
        answered: answered,
        terminals: &Devices.terminals/0
      })

    with {:ok, {grants, stdin}} <- Sandbox.native(sandbox, data),
         do: {:ok, grants |> granted(sandbox.stdio) |> with_input(stdin, given)}
  end

  defp granted(grants, stdio) do
    inherited =
      for stream <- [:stdout, :stderr], Map.fetch!(stdio, stream) == :inherited, do: stream

    %__MODULE__{
      grants: grants,
      inherited: inherited,
      inherits_input: stdio.stdin == :inherited,
      hand_over: inherited != []
    }
  end

  defp with_input(streams, :pull, given),
    do: %{streams | stdin: :pull, source: given || Devices.stdin(), key: make_ref()}

  # Output to the VM's streams is kept under a key, too.
  defp with_input(%{inherited: inherited} = streams, bytes, _given),
    do: %{streams | stdin: bytes, source: nil, key: if(inherited != [], do: make_ref())}

  # What is there already goes as it is; what has to be asked for is pulled.
  defp stdin(nil), do: nil
  defp stdin(bytes) when is_binary(bytes), do: bytes
  defp stdin(list) when is_list(list), do: IO.iodata_to_binary(list)
  defp stdin(_enumerable), do: :pull

  @doc "The streams of one call on a live guest, whose grants are its own already."
  @spec for_call(t | nil, Sandbox.t(), map) :: {:ok, t | nil} | {:error, DeniedError.t()}
  def for_call(streams, sandbox, %{stdin: given}) do
    with {:ok, stdin} <- Sandbox.stdin(sandbox, stdin(given)),
         do: {:ok, streams && with_input(streams, stdin, given)}
  end

  def for_call(streams, _sandbox, _opts), do: {:ok, streams}

  @doc "The streams of a live guest's calls: the input that it was made with is not theirs, but the VM's own may be."
  @spec settle(t | nil) :: t | nil
  def settle(nil), do: nil

  def settle(%{inherits_input: true} = streams),
    do: with_input(%{streams | grants: nil}, :pull, nil)

  def settle(streams), do: with_input(%{streams | grants: nil}, nil, nil)

  @doc "The streams of one run: two may go on at once in one process."
  @spec begin(t | nil) :: t | nil
  def begin(%__MODULE__{key: key} = streams) when key != nil, do: %{streams | key: make_ref()}
  def begin(streams), do: streams

  @doc "The streams of a call whose output is handed over while it runs."
  @spec streaming(t | nil) :: t | nil
  def streaming(nil), do: nil
  def streaming(streams), do: %{streams | hand_over: true}

  @doc "The streams of a part of a call, which reads on in the input of the `whole`."
  @spec share(t | nil, t | nil) :: t | nil
  def share(%__MODULE__{} = part, %__MODULE__{key: key}) when key != nil, do: %{part | key: key}
  def share(part, _whole), do: part

  @doc "As Rust takes them: the grants, and `{:console, stdin, hand_over}`."
  @spec to_native(t | nil) :: {map | nil, {:console, binary | :pull | nil, boolean} | nil}
  def to_native(nil), do: {nil, nil}
  def to_native(%__MODULE__{grants: grants, stdin: nil, hand_over: false}), do: {grants, nil}
  def to_native(streams), do: {streams.grants, {:console, streams.stdin, streams.hand_over}}

  @doc "Gives up what of the input has not been pulled, and writes what output was kept back; what that raised, as an error."
  @spec close(t | nil) :: :ok | {:error, HostError.t()}
  def close(%__MODULE__{key: key} = streams) when key != nil do
    written = Output.close(streams)
    with :ok <- Input.close(key), do: written
  end

  def close(_none), do: :ok
end
