defmodule Cybernetic.WASM.Loader.Pins do
  @moduledoc false
  # The digests that a module must have. The operator's come first, then those of whoever loads, then the author's. All hold.

  alias Cybernetic.WASM.{Digest, LoadError, Shown}
  alias Cybernetic.WASM.Loader.Fetched
  alias Cybernetic.WASM.Sandbox.Manifest.Tree

  @typedoc "Whose pin it is, and what it says."
  @type pin :: {:config | :option | :manifest, String.t()}

  @doc "The operator's pins, by what they are for. It raises for what is none."
  @spec new!(term) :: %{String.t() => String.t()}
  def new!(pins) when is_map(pins) and not is_struct(pins) do
    for {name, digest} <- pins do
      unless is_binary(name) and Digest.valid?(digest) do
        raise ArgumentError,
              ~s|pins: must be a map such as %{"acme/thumb" => digest}, each digest #{Digest.expected()}, | <>
                "got: #{Shown.term(name)} => #{Shown.term(digest)}"
      end
    end

    pins
  end

  def new!(other) do
    raise ArgumentError,
          ~s|pins: must be a map such as %{"acme/thumb" => "sha256:…"}, got: #{Shown.term(other)}|
  end

  @doc "The pins of a load that goes by these names, in the order in which they are checked."
  @spec of(
          [String.t() | nil | :bytes],
          %{String.t() => String.t()},
          String.t() | nil,
          String.t() | nil
        ) ::
          [pin]
  def of(names, operators, option, manifest) do
    named = for name <- Enum.uniq(names), digest = operators[name], do: {:config, digest}
    own = for {whose, digest} <- [option: option, manifest: manifest], digest, do: {whose, digest}
    named ++ own
  end

  @doc "Holds the bytes to all of them."
  @spec check(Fetched.t(), [pin]) :: {:ok, Fetched.t()} | {:error, LoadError.t()}
  def check(fetched, []), do: {:ok, fetched}

  def check(fetched, [{whose, expected} | pins]) do
    {:ok, {algorithm, _bytes}} = Digest.parse(expected)

    case Fetched.digest(fetched, algorithm) do
      {^expected, fetched} -> check(fetched, pins)
      {found, fetched} -> {:error, mismatch(whose, expected, found, fetched)}
    end
  end

  defp mismatch(whose, expected, found, fetched) do
    %LoadError{
      reason: :digest_mismatch,
      pin: whose,
      expected: expected,
      found: found,
      detail: if(whose == :manifest, do: place(fetched.manifest))
    }
  end

  defp place(%{file: file, places: %{digest: {key, line}}}), do: Tree.place(file, line, key)
  defp place(_made_otherwise), do: nil
end
