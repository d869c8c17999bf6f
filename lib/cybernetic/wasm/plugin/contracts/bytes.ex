defmodule Cybernetic.WASM.Plugin.Contracts.Bytes do
  @moduledoc false
  # The library's own contract for modules, the smallest that is right: `cw_alloc` makes room, and a function is told where its
  # input is and gives where its result is. What a guest calls of `cybernetic.error` ends the call with a text.

  alias Cybernetic.WASM.{ABI, Host, Options, Plugin}
  alias Cybernetic.WASM.Plugin.{Complaint, Surface}

  @behaviour Plugin.Contract

  @alloc "cw_alloc"
  @type_of_alloc {["i32"], ["i32"]}
  @type_of_function {["i32", "i32"], ["i64"]}
  @imported {"cybernetic", "error"}

  @impl true
  def prepare(surface, opts) do
    Options.check!(opts, [], "option of the contract :bytes")
    {params, results} = @type_of_alloc

    case Surface.lacks(surface, [{@alloc, params, results}, :memory]) do
      [] -> {:ok, "it exports #{@alloc} and a memory", state(surface)}
      missing -> {:missing, missing}
    end
  end

  defp state(surface) do
    {module, name} = @imported
    reports = Surface.imports?(surface, module, name)
    own = if reports, do: %{module => %{name => &error/3}}, else: %{}
    imports = Map.merge(Complaint.of_abort(surface), own)

    %{
      entry: Surface.only(surface, @type_of_function),
      options: [abi: ABI.new(alloc: @alloc, result: :packed), imports: imports]
    }
  end

  @impl true
  def entry(state), do: state.entry

  @impl true
  def options(state), do: state.options

  @impl true
  def request(_function, input, encode, _state),
    do: with({:ok, bytes} <- encode.(input), do: {:ok, [bytes]})

  @impl true
  def response(_function, run, decode, _state), do: decode.(run.result)

  @impl true
  def failure(error, _state), do: Complaint.of(error)

  @spec error(Host.ctx(), integer, integer) :: no_return
  defp error(ctx, at, length), do: Complaint.raise!(ctx, {at, length})
end
