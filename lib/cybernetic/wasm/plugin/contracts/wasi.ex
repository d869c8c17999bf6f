defmodule Cybernetic.WASM.Plugin.Contracts.WASI do
  @moduledoc false
  # A program that reads its input on standard input and writes its result to standard output. What is said on standard error
  # counts where it exits with another code than 0.

  alias Cybernetic.WASM.{Options, Plugin}
  alias Cybernetic.WASM.Plugin.Complaint

  @behaviour Plugin.Contract

  @impl true
  def prepare(surface, opts) do
    Options.check!(opts, [], "option of the contract :wasi")

    if surface.command,
      do: {:ok, "it is a program: it exports _start", nil},
      else: {:missing, ["the function \"_start\" () of a program"]}
  end

  @impl true
  def entry(nil), do: :start

  @impl true
  def options(nil), do: [sandbox: :command]

  @impl true
  def request(:start, input, encode, nil),
    do: with({:ok, bytes} <- encode.(input), do: {:ok, [], [stdin: bytes]})

  def request(function, _input, _encode, nil) do
    raise ArgumentError,
          "a program has no function but :start, which is the one to name, or none: got #{inspect(function)}"
  end

  @impl true
  def response(:start, %{exit_code: 0} = run, decode, nil), do: decode.(run.stdout)

  def response(:start, run, _decode, nil),
    do: {:error, Complaint.new(run, %{exit_code: run.exit_code, detail: run.stderr})}
end
