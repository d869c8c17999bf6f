defmodule Cybernetic.WASM.Reference do
  @moduledoc false
  # How modules are named, in a store and on a node: `"acme/thumb"`, `"acme/thumb@1.2"`, `"acme/thumb@~> 1.2"`, or a digest.
  #
  # A name is also a path to some, a part of a URL to others, and stands in logs: so it has few characters, and none of its
  # parts begins with a dot.

  alias Cybernetic.WASM.Digest

  @typedoc "What a version has to be: the current one, or one that fits."
  @type selector :: :current | Version.Requirement.t()

  @type t :: {:name, String.t(), selector} | {:digest, String.t()}

  @longest_name 200
  @longest_version 64
  @longest_requirement 200

  @doc """
  What a reference says, or `:error`.

      iex> Cybernetic.WASM.Reference.parse("acme/thumb")
      {:ok, {:name, "acme/thumb", :current}}
      iex> {:ok, {:name, "thumb", requirement}} = Cybernetic.WASM.Reference.parse("thumb@1.2")
      iex> to_string(requirement)
      "~> 1.2.0"
      iex> Cybernetic.WASM.Reference.parse("../thumb")
      :error
  """
  @spec parse(String.t()) :: {:ok, t} | :error
  def parse(text) when is_binary(text) do
    case String.split(text, "@", parts: 2) do
      [name, version] -> with {:ok, selector} <- selector(version), do: named(name, selector)
      [name] -> if name?(name), do: {:ok, {:name, name, :current}}, else: digest(name)
    end
  end

  defp named(name, selector),
    do: if(name?(name), do: {:ok, {:name, name, selector}}, else: :error)

  defp digest(text), do: if(Digest.valid?(text), do: {:ok, {:digest, text}}, else: :error)

  defp selector(text) when byte_size(text) > @longest_requirement, do: :error

  defp selector(text) do
    cond do
      # Without the zeros in front that make one number of several texts.
      text =~ ~r/\A(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))?\z/ -> requirement("~> " <> text <> ".0")
      match?({:ok, _version}, version(text)) -> requirement("== " <> text)
      true -> requirement(text)
    end
  end

  # A lone version is a requirement to `Version`, also one that is none here: with build metadata, say. Of an exclamation mark
  # it warns, on standard error.
  defp requirement(text) do
    plain? = String.trim(text) == text and not String.contains?(text, "!")
    if plain? and Version.parse(text) == :error, do: Version.parse_requirement(text), else: :error
  end

  @doc "Whether it is a name: of at most 200 bytes."
  @spec name?(term) :: boolean
  def name?(name) when is_binary(name) and byte_size(name) <= @longest_name,
    do:
      name |> String.split("/") |> Enum.all?(&(&1 =~ ~r/\A[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*\z/))

  def name?(_name), do: false

  @doc """
  A version, such as `"1.2.0"` or `"2.0.0-rc.1"`. It has no build metadata: versions that differ by it alone have no order.
  """
  @spec version(String.t()) :: {:ok, Version.t()} | :error
  def version(text) when is_binary(text) and byte_size(text) <= @longest_version do
    with {:ok, %Version{build: nil} = version} <- Version.parse(text),
         ^text <- to_string(version),
         do: {:ok, version},
         else: (_other -> :error)
  end

  def version(_text), do: :error

  @doc """
  The highest of these versions that fits. Pre-releases fit where the requirement names one. The current one is the highest
  release; where there is none, the highest of all.

      iex> {:ok, {:name, _name, selector}} = Cybernetic.WASM.Reference.parse("thumb@~> 1.2")
      iex> Cybernetic.WASM.Reference.pick(["1.2.0", "1.10.1", "1.11.0-rc.1", "2.0.0"], selector)
      "1.10.1"
  """
  @spec pick([String.t()], selector) :: String.t() | nil
  def pick(versions, selector) do
    sorted = sort(versions)
    Enum.find(sorted, &fits?(&1, selector)) || if(selector == :current, do: List.first(sorted))
  end

  defp fits?(version, :current), do: Version.parse!(version).pre == []
  defp fits?(version, requirement), do: Version.match?(version, requirement, allow_pre: false)

  @doc "Versions, the highest first."
  @spec sort([String.t()]) :: [String.t()]
  def sort(versions), do: Enum.sort(versions, {:desc, Version})

  @doc """
  The version behind the highest of these.

      iex> Cybernetic.WASM.Reference.next(["1.2.0", "1.10.1"])
      "1.10.2"
      iex> Cybernetic.WASM.Reference.next(["2.0.0-rc.1"])
      "2.0.0"
      iex> Cybernetic.WASM.Reference.next([])
      "0.1.0"
  """
  @spec next([String.t()]) :: String.t()
  def next([]), do: "0.1.0"

  def next(versions) do
    highest = versions |> sort() |> hd() |> Version.parse!()
    patch = if highest.pre == [], do: highest.patch + 1, else: highest.patch
    to_string(%Version{highest | patch: patch, pre: []})
  end
end
