defmodule Cybernetic.WASM.Loader.Pins do
  @moduledoc false
  # The digests that a module must have. The operator's come first, then those of whoever loads, then the author's. All hold.
  #
  # An operator's pin stands under a name, or under what a source is called. That has many spellings: a path may be relative, a
  # host in large letters. So each pin is kept by its text, and by the place that the text stands for in its one spelling; and
  # sources are looked for by both.

  alias Cybernetic.WASM.{Digest, LoadError, Shown}
  alias Cybernetic.WASM.HTTP.URL
  alias Cybernetic.WASM.Loader.Fetched
  alias Cybernetic.WASM.Loader.Sources.OCI.Reference
  alias Cybernetic.WASM.Sandbox.Manifest.Tree

  # There may be a pin for each of many modules.
  @most_compared 200

  # `texts` and `places` lead to numbers, and `digests` from these to the digests. `used` has a cell for each number, which is 1
  # once a load has gone by that pin.
  defstruct texts: %{}, places: %{}, digests: %{}, used: nil

  @typedoc "The operator's pins."
  @type t :: %__MODULE__{
          texts: %{String.t() => pos_integer},
          places: %{place => [pos_integer]},
          digests: %{pos_integer => String.t()},
          used: :atomics.atomics_ref() | nil
        }

  @typedoc "Where a source is, in one spelling."
  @type place :: {:url | :oci | :file, String.t()}

  @typedoc "Whose pin it is, and what it says."
  @type pin :: {:config | :option | :manifest, String.t()}

  @doc "The operator's pins, by what they are for. It raises for what is none."
  @spec new!(term) :: t
  def new!(pins) when is_map(pins) and not is_struct(pins) do
    Enum.each(pins, &check!/1)
    numbered = pins |> Enum.sort() |> Enum.with_index(1)
    places = for {{text, _digest}, number} <- numbered, place <- places(text), do: {place, number}

    %__MODULE__{
      texts: Map.new(numbered, fn {{text, _digest}, number} -> {text, number} end),
      places: Enum.group_by(places, &elem(&1, 0), &elem(&1, 1)),
      digests: Map.new(numbered, fn {{_text, digest}, number} -> {number, digest} end),
      used: if(numbered != [], do: :atomics.new(length(numbered), signed: false))
    }
  end

  def new!(other) do
    raise ArgumentError,
          ~s|pins: must be a map such as %{"acme/thumb" => "sha256:…"}, got: #{Shown.term(other)}|
  end

  defp check!({name, digest}) do
    unless is_binary(name) and Digest.valid?(digest) do
      raise ArgumentError,
            ~s|pins: must be a map such as %{"acme/thumb" => digest}, each digest #{Digest.expected()}, | <>
              "got: #{Shown.term(name)} => #{Shown.term(digest)}"
    end
  end

  # What a text stands for where a source is called so. One that is no URL may be a path as well as an artifact.
  defp places(text) do
    case URL.parse(text) do
      {:ok, url} -> [{:url, URL.key(url)}]
      {:error, _why} -> [{:file, absolute(text)} | artifact(text)]
    end
  end

  defp artifact(text) do
    case Reference.parse(text) do
      {:ok, reference} -> [{:oci, Reference.text(reference)}]
      {:error, _why} -> []
    end
  end

  # Links are not followed. A tilde is a file's name here, as it is to whoever opens one.
  defp absolute(path) do
    path |> Path.absname() |> Path.expand()
  rescue
    # The folder that the VM works in is gone.
    File.Error -> path
  end

  @doc "Whether there are none."
  @spec none?(t) :: boolean
  def none?(%__MODULE__{texts: texts}), do: texts == %{}

  @doc """
  The operator's pins of a load whose module goes by these names and whose source is called by these texts, in the order in which
  they are checked. They count as used.
  """
  @spec of(t, [String.t() | nil], [String.t() | :bytes | nil]) :: [pin]
  def of(%__MODULE__{texts: texts}, _names, _sources) when texts == %{}, do: []

  def of(pins, names, sources) do
    sources = Enum.filter(sources, &is_binary/1)
    by_text = for text <- names ++ sources, number = pins.texts[text], do: number

    by_place = for text <- sources, place <- places(text), do: Map.get(pins.places, place, [])

    for number <- Enum.uniq(by_text ++ Enum.concat(by_place)) do
      use_up(pins, number)
      {:config, Map.fetch!(pins.digests, number)}
    end
  end

  # Read first: what all loads write to, they would wait for.
  defp use_up(%{used: used}, number) do
    if :atomics.get(used, number) == 0, do: :atomics.put(used, number, 1), else: :ok
  end

  @doc "The versions of a name that have a pin, with it."
  @spec versions(t, String.t()) :: [{String.t(), pin}]
  def versions(pins, name) do
    for {text, number} <- pins.texts,
        [^name, version] <- [String.split(text, "@", parts: 2)],
        do: {version, {:config, Map.fetch!(pins.digests, number)}}
  end

  @doc "Has the pin of this text be used, if there is one."
  @spec seen(t, String.t()) :: :ok
  def seen(pins, text) do
    if number = pins.texts[text], do: use_up(pins, number), else: :ok
  end

  @doc "What those pins stand under that no load has gone by, without secrets."
  @spec unused(t) :: [String.t()]
  def unused(%__MODULE__{} = pins) do
    for {text, number} <- Enum.sort(pins.texts), :atomics.get(pins.used, number) == 0 do
      shown(text)
    end
  end

  # A URL's query may have a key in it.
  defp shown(text) do
    case URL.parse(text) do
      {:ok, url} -> URL.shown(url)
      {:error, _why} -> text
    end
  end

  @doc "The pin that was probably meant for a source that is called so."
  @spec nearest(t, String.t() | :bytes) :: String.t() | nil
  def nearest(pins, source) do
    case unused(pins) do
      [_ | _] = texts when is_binary(source) ->
        Shown.nearest(source, Enum.take(texts, @most_compared))

      _none ->
        nil
    end
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
