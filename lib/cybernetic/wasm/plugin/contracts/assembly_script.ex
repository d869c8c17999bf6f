defmodule Cybernetic.WASM.Plugin.Contracts.AssemblyScript do
  @moduledoc false
  # Functions of AssemblyScript, compiled with `--exportRuntime`, that take one string or one `ArrayBuffer` and give a string, an
  # `ArrayBuffer`, a typed array or an array of bytes. A collection of garbage could only begin in `__new`, and is over when the one
  # argument is there: nothing has to be pinned.

  alias Cybernetic.WASM.{ABI, Options, Plugin, PluginError}
  alias Cybernetic.WASM.Plugin.{Complaint, Surface}

  @behaviour Plugin.Contract

  @new "__new"
  @wanted [{@new, ["i32", "i32"], ["i32"]}, :memory]
  @runtime [
    "__pin",
    "__collect",
    "__unpin",
    "__new",
    "__setArgumentsLength",
    "_initialize",
    "_start"
  ]
  @options [pass: {:one_of, [:string, :bytes]}]
  # The numbers of the classes: https://www.assemblyscript.org/runtime.html.
  @classes %{string: 2, bytes: 1}

  @impl true
  def prepare(surface, opts) do
    opts = Options.check!(opts, @options, "option of the contract :assemblyscript")

    case Surface.lacks(surface, @wanted) do
      [] ->
        {:ok, "it exports #{@new} and a memory", state(surface, Map.get(opts, :pass, :string))}

      missing ->
        {:missing, missing}
    end
  end

  defp state(surface, pass) do
    abi = ABI.new(alloc: {@new, [:size, Map.fetch!(@classes, pass)]}, result: :managed)

    %{
      pass: pass,
      surface: surface,
      entry: Surface.only(surface, {["i32"], ["i32"]}, @runtime),
      options: [abi: abi, imports: Complaint.of_abort(surface)]
    }
  end

  @impl true
  def entry(state), do: state.entry

  @impl true
  def options(state), do: state.options

  @impl true
  def request(function, input, encode, state) do
    if Surface.calls_for_nothing?(state.surface, function, input),
      do: {:ok, []},
      else: with({:ok, bytes} <- encode.(input), do: object(bytes, state.pass))
  end

  defp object(bytes, :bytes), do: {:ok, [{:pointer, bytes}]}

  defp object(bytes, :string) do
    case :unicode.characters_to_binary(bytes, :utf8, {:utf16, :little}) do
      text when is_binary(text) ->
        {:ok, [{:pointer, text}]}

      {_how, good, _rest} ->
        at = good |> :unicode.characters_to_binary({:utf16, :little}) |> byte_size()

        words =
          "a string is UTF-8, which this is not at byte #{at}: pass: :bytes passes an ArrayBuffer"

        {:error, %PluginError{reason: :input, contract: :assemblyscript, detail: words}}
    end
  end

  @impl true
  def response(function, %{result: nil} = run, _decode, _state),
    do: {:error, PluginError.no_result(function, run)}

  def response(_function, run, decode, _state), do: decode.(run.result)

  @impl true
  def failure(error, _state), do: Complaint.of(error)
end
