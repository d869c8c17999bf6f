defmodule Cybernetic.WASM.Plugin.Codecs do
  @moduledoc false
  # The codecs by name, and what is made with them.

  alias Cybernetic.WASM.{PluginError, Shown}
  alias Cybernetic.WASM.Plugin.Codecs

  @named [
    raw: Codecs.Raw,
    text: Codecs.Text,
    json: Codecs.JSON,
    number: Codecs.Number,
    boolean: Codecs.Boolean,
    term: Codecs.Term,
    auto: Codecs.Auto
  ]
  @names Keyword.keys(@named)
  @expected "one of #{Enum.map_join(@names, ", ", &inspect/1)}, a module with encode/2 and decode/2, " <>
              "either with options as {:json, max_depth: 10}, or [in: codec, out: codec]"

  @enforce_keys [:in, :out]
  defstruct [:in, :out]

  @typedoc "Two codecs, of what goes in and of what comes out, each with its name and its options."
  @type t :: %__MODULE__{in: {atom, module, keyword}, out: {atom, module, keyword}}

  @typedoc "What `codec:` takes."
  @type given :: atom | {atom, keyword} | [in: given, out: given]

  @doc "The codec that was given; raises an `ArgumentError` for what is none."
  @spec new!(given) :: t
  def new!([{key, _} | _] = both) when key in [:in, :out] do
    if Keyword.keys(both) -- [:in, :out] != [], do: refuse!(both)
    {one, other} = {Keyword.get(both, :in, :raw), Keyword.get(both, :out, :raw)}
    %__MODULE__{in: one!(one), out: one!(other)}
  end

  def new!(given) do
    codec = one!(given)
    %__MODULE__{in: codec, out: codec}
  end

  defp one!({given, opts}) when is_atom(given) do
    unless Keyword.keyword?(opts), do: refuse!({given, opts})
    {name, module, _none} = one!(given)

    {name, module, if(name in @names, do: module.options!(opts), else: opts)}
  end

  defp one!(name) when name in @names do
    module = Keyword.fetch!(@named, name)
    {name, module, module.options!([])}
  end

  defp one!(module) when is_atom(module) do
    unless Code.ensure_loaded?(module) and function_exported?(module, :encode, 2) and
             function_exported?(module, :decode, 2),
           do: refuse!(module)

    {module, module, []}
  end

  defp one!(other), do: refuse!(other)

  @spec refuse!(term) :: no_return
  defp refuse!(given),
    do: raise(ArgumentError, "a codec is #{@expected}, got: #{Shown.term(given)}")

  @doc "The bytes of a term."
  @spec encode(t, term) :: {:ok, binary} | {:error, PluginError.t()}
  def encode(%__MODULE__{in: {name, module, opts}}, term) do
    case module.encode(term, opts) do
      {:ok, bytes} when is_binary(bytes) -> {:ok, bytes}
      {:ok, iodata} -> {:ok, IO.iodata_to_binary(iodata)}
      {:error, fault} -> {:error, error(:input, name, fault)}
    end
  end

  @doc "The term of a guest's bytes."
  @spec decode(t, binary) :: {:ok, term} | {:error, PluginError.t()}
  def decode(%__MODULE__{out: {name, module, opts}}, bytes) do
    with {:error, fault} <- module.decode(bytes, opts), do: {:error, error(:output, name, fault)}
  end

  defp error(reason, codec, {path, words}),
    do: %{error(reason, codec, words) | path: path}

  defp error(reason, codec, words) do
    blame = if reason == :input, do: :caller, else: :guest
    %PluginError{reason: reason, codec: codec, detail: words, blame: blame}
  end
end
